//! The control API of a party.

use std::{pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use suf_control::{authority::caller, failure::CallFailure, v1};
use suf_gate::{Program, ProgramError, limits::MAX_ELEMS};
use suf_party::Registration;
use suf_process::{Description, LoadedModel, listed};
use suf_wire::{Party, RunId};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream, wrappers::WatchStream};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{
    budget::Budget,
    entry::{Call, Entry, is_end},
    host::Host,
    input::{Feeding, take_input},
    loads::Asked,
    need::deadline_s,
    ownership::{Access, Owner, Viewer, run_id},
    tensor::Tensor,
};

/// Messages of a stream that wait for a slow client.
const STREAM_DEPTH: usize = 4;

/// The service over a party.
#[derive(Clone, Debug)]
pub struct PartyService {
    host: Arc<Host>,
    started: Instant,
}

/// A run that a caller may see, for the length of a call.
struct Found {
    entry: Arc<Entry>,
    access: Access,
    /// Its client is there.
    call: Option<Call>,
}

impl PartyService {
    /// A service for `host`.
    #[must_use]
    pub fn new(host: Arc<Host>) -> Self {
        Self { host, started: Instant::now() }
    }

    /// The run that `viewer` calls so.
    fn find(&self, viewer: Viewer, reference: &v1::RunRef) -> Result<Found, CallFailure> {
        let (entry, access) = self.host.registry().find(viewer, reference)?;
        let call = (access == Access::Owner).then(|| entry.call());
        Ok(Found { entry, access, call })
    }

    /// The run that the caller names.
    fn named(&self, request: &Request<v1::RunRef>) -> Result<Found, CallFailure> {
        self.find(Viewer::of(caller(request)?), request.get_ref())
    }

    /// Why no tensor has so many elements; none if one has.
    fn beyond(&self, elements: u64) -> Option<CallFailure> {
        let config = self.host.config();
        match elements {
            0 => Some(CallFailure::caller("the tensor is empty")),
            1..=MAX_ELEMS => None,
            more => {
                let reason =
                    format!("{more} elements, but {} takes at most {}", config.party(), config.max_elems);
                Some(CallFailure::new(v1::Fault::Config, reason))
            }
        }
    }

    /// The program that a request describes: of `elements` elements of a gate, or whole.
    async fn program(
        &self,
        gate: Option<v1::Gate>,
        elements: u64,
        program: Bytes,
    ) -> Result<Arc<Program>, CallFailure> {
        let description = match (gate, program.is_empty()) {
            (Some(gate), true) => Description::Gate { gate: gate.description, elems: elements },
            (None, false) => Description::Program(program),
            (None, true) => return Err(CallFailure::caller("the request names neither gate nor program")),
            (Some(_), false) => {
                return Err(CallFailure::caller("the request names both a gate and a program"));
            }
        };
        let decoded = self.host.programs().decode(&description).await;
        decoded.map_err(|error| match error {
            ProgramError::Weights(_) => CallFailure::caller(format!(
                "{error}; {} has {}. Name the same folder and plan in [[models]] of its configuration",
                self.host.config().party(),
                listed(self.host.models())
            )),
            error => CallFailure::caller(error.to_string()),
        })
    }

    /// The deadline of a run whose client asks for `asked`: without that, what its program costs at the slowest.
    fn deadline_ms(&self, program: &Program, asked: u32) -> u32 {
        let config = self.host.config();
        let limit_ms = config.max_run_s * 1000;
        if asked > 0 {
            return asked.min(limit_ms);
        }
        let wait_s = u64::from(config.register_wait_s) + u64::from(config.input_wait_s);
        u32::try_from(deadline_s(program, wait_s).saturating_mul(1000))
            .map_or(limit_ms, |cost| cost.min(limit_ms))
    }
}

impl Found {
    /// The run's present state, for the caller.
    fn shown(&self) -> v1::Run {
        self.entry.shown(self.access)
    }

    /// The same, if the caller is the run's client. The authority table admits only clients to the methods that ask for it.
    fn owned(self) -> Result<Self, CallFailure> {
        match self.access {
            Access::Owner => Ok(self),
            Access::Other => Err(CallFailure::caller("only the run's client may do this")),
        }
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::party_server::Party for PartyService {
    async fn start_run(&self, request: Request<v1::StartRunRequest>) -> Result<Response<v1::Run>, Status> {
        let calling = caller(&request)?;
        let (viewer, owner) = (Viewer::of(calling), Owner::of(&calling.peer.certificate));
        let request = request.into_inner();
        let run = run_id(&request.run_id)?;
        if let (Some(_), Some(failure)) = (&request.gate, self.beyond(request.elements)) {
            return Err(failure.into());
        }
        let asked = Asked::of(viewer, request.terms, &request.load)?;
        let program = self.program(request.gate, request.elements, request.program).await?;
        let weights = self.host.loads().admit(asked, owner, &program)?;
        let deadline_ms = self.deadline_ms(&program, request.deadline_ms);
        let me = self.host.config().party();
        let registration = Registration { run, program, deadline_ms, me, load: weights.name() };
        self.host.policy().check(&registration).map_err(to_control)?;
        let entry = self.host.register(registration, owner, weights)?;
        Ok(Response::new(entry.shown(Access::Owner)))
    }

    async fn get_run(&self, request: Request<v1::RunRef>) -> Result<Response<v1::Run>, Status> {
        Ok(Response::new(self.named(&request)?.shown()))
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsReply>, Status> {
        let viewer = Viewer::of(caller(&request)?);
        let v1::ListRunsRequest { limit, active_only } = *request.get_ref();
        let limit = match limit {
            0 => 100,
            limit => limit.min(1000),
        };
        let runs = self.host.registry().list().into_iter();
        let runs = runs.filter(|entry| !active_only || !entry.has_ended());
        let shown = runs.filter_map(|entry| viewer.access(entry.owner()).map(|access| entry.shown(access)));
        let shown = shown.map(without_nodes);
        Ok(Response::new(v1::ListRunsReply { runs: shown.take(limit as usize).collect() }))
    }

    type WatchRunStream = Boxed<v1::Run>;

    async fn watch_run(
        &self,
        request: Request<v1::RunRef>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let found = self.named(&request)?;
        let states = WatchStream::new(found.entry.states());
        Ok(Response::new(Box::pin(UntilEnd { states, found, ended: false })))
    }

    async fn cancel_run(&self, request: Request<v1::RunRef>) -> Result<Response<v1::Run>, Status> {
        let found = self.named(&request)?;
        found.entry.cancel("it was cancelled over the control API");
        if found.access == Access::Owner {
            found.entry.drop_outputs();
        }
        Ok(Response::new(found.shown()))
    }

    async fn submit_input(
        &self,
        request: Request<Streaming<v1::InputPart>>,
    ) -> Result<Response<v1::SubmitInputReply>, Status> {
        use v1::input_part::Part;
        let viewer = Viewer::of(caller(&request)?);
        let mut parts = request.into_inner();
        let Some(v1::InputPart { part: Some(Part::Header(header)) }) = parts.message().await? else {
            return Err(CallFailure::caller("the first message of an input is its header").into());
        };
        let reference = v1::RunRef { run_id: header.run_id, ..v1::RunRef::default() };
        let found = self.find(viewer, &reference)?.owned()?;
        let input = Tensor::input(&found.entry.registration().program, header.node)?;
        if header.elements != input.elems() {
            let reason = format!("{} elements announced, the run has {}", header.elements, input.elems());
            return Err(CallFailure::caller(reason).into());
        }
        if found.entry.is_registered() {
            let reason =
                "the parties have not agreed on the run yet; WatchRun tells when it is ready for input";
            return Err(CallFailure::caller(reason).with_code(Code::FailedPrecondition).into());
        }
        if !found.entry.claim_input(input.node) {
            return Err(CallFailure::caller("the run has its input already").into());
        }
        // Half an input is of no use to the run, and its shares cannot be sent again.
        let feeding = Feeding::begin(&found.entry);
        let taken = take_input(&found.entry, &input, &mut parts).await;
        feeding.end(&taken);
        Ok(Response::new(v1::SubmitInputReply { elements: taken? }))
    }

    type FetchOutputStream = Boxed<v1::OutputPart>;

    async fn fetch_output(
        &self,
        request: Request<v1::OutputRef>,
    ) -> Result<Response<Self::FetchOutputStream>, Status> {
        let viewer = Viewer::of(caller(&request)?);
        let v1::OutputRef { run, node } = request.into_inner();
        let found = self.find(viewer, &run.unwrap_or_default())?.owned()?;
        let output = Tensor::output(&found.entry.registration().program, node)?;
        if let Some(failure) = found.entry.ended().await.failure {
            return Err(CallFailure::new(failure.fault(), failure.reason).into());
        }
        if !found.entry.has_output() {
            return Err(output_gone().into());
        }
        let (sender, receiver) = mpsc::channel(STREAM_DEPTH);
        tokio::spawn(async move {
            use v1::output_part::Part;
            let header = v1::TensorHeader {
                run_id: found.entry.registration().run.0.to_vec().into(),
                elements: output.elems(),
                node: output.node.0.into(),
            };
            let mut part = Ok(Part::Header(header));
            for tile in 0..=output.tiles.count() {
                let last = part.is_err();
                let part_or_end = part.map(|part| v1::OutputPart { part: Some(part) });
                if sender.send(part_or_end.map_err(Status::from)).await.is_err() || last {
                    return;
                }
                part = found.entry.output_tile(&output, tile).map(Part::Shares).ok_or_else(output_gone);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn acknowledge_output(&self, request: Request<v1::RunRef>) -> Result<Response<v1::Run>, Status> {
        let found = self.named(&request)?.owned()?;
        if !found.entry.has_ended() {
            let reason = "the run has not ended, so there is no output to acknowledge";
            return Err(CallFailure::caller(reason).with_code(Code::FailedPrecondition).into());
        }
        found.entry.drop_outputs();
        Ok(Response::new(found.shown()))
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeReply>, Status> {
        let v1::DescribeRequest { gate, elements, program } = request.into_inner();
        // A question about a gate on any number of elements has an answer, though there is no such program.
        let beyond = gate.as_ref().and_then(|_| self.beyond(elements));
        let elements = if beyond.is_some() { 1 } else { elements };
        let program = self.program(gate, elements, program).await?;
        let gate_digest = program.only_gate().map(|gate| gate.digest().to_vec().into());
        let mut reply = v1::DescribeReply {
            gate_digest: gate_digest.unwrap_or_default(),
            declared_rounds: program.rounds().into(),
            ..v1::DescribeReply::default()
        };
        if let Some(failure) = beyond {
            reply.reason = failure.reason;
            return Ok(Response::new(reply));
        }
        reply.program_digest = program.digest().to_vec().into();
        let me = self.host.config().party();
        let run = RunId([0; 16]);
        let registration =
            Registration { run, program: Arc::clone(&program), deadline_ms: 1, me, load: None };
        match self.host.policy().check(&registration) {
            Ok(()) => {
                reply.accepted = true;
                reply.key_bytes_p0 = program.key_bytes(Party::P0);
                reply.key_bytes_p1 = program.key_bytes(Party::P1);
                reply.declared_bits = program.message_bits();
            }
            Err(failure) => reply.reason = failure.reason,
        }
        Ok(Response::new(reply))
    }

    async fn info(&self, _: Request<v1::InfoRequest>) -> Result<Response<v1::PartyInfo>, Status> {
        let config = self.host.config();
        let backend = self.host.backend_info();
        let [shares, keys, spool] = self.host.budgets().kinds().map(budget_of);
        let active = self.host.registry().list().iter().filter(|entry| !entry.has_ended()).count();
        Ok(Response::new(v1::PartyInfo {
            party: config.party().index() as u32,
            version: env!("CARGO_PKG_VERSION").into(),
            wire_version: suf_wire::VERSION.into(),
            backend: backend.name.into(),
            hardware: backend.device,
            uptime_s: self.started.elapsed().as_secs_f64(),
            peer: self.host.peer_link(),
            dealer: self.host.dealer().measured(),
            active_runs: active as u32,
            max_elements: config.max_elems,
            share_memory: Some(shares),
            key_memory: Some(keys),
            spool: Some(spool),
            gates: suf_gate::gatefile::GateFile::builtin_names().map(Into::into).collect(),
            certificate_expires_unix_s: self.host.certificate_expires_unix_s(),
            models: self.host.models().map(LoadedModel::message).collect(),
        }))
    }

    async fn list_loads(
        &self,
        request: Request<v1::ListLoadsRequest>,
    ) -> Result<Response<v1::ListLoadsReply>, Status> {
        let viewer = Viewer::of(caller(&request)?);
        Ok(Response::new(v1::ListLoadsReply { loads: self.host.list_loads(viewer) }))
    }

    async fn drop_load(&self, request: Request<v1::LoadRef>) -> Result<Response<v1::Load>, Status> {
        let viewer = Viewer::of(caller(&request)?);
        Ok(Response::new(self.host.drop_load(viewer, &request.get_ref().digest)?))
    }
}

/// What is in use of one kind of bytes.
fn budget_of(budget: &Budget) -> v1::Budget {
    v1::Budget { in_use_bytes: budget.in_use(), bound_bytes: budget.bound() }
}

/// The states of a run up to and including the last; the sender stays alive in the entry, so the end is in the data.
struct UntilEnd {
    states: WatchStream<v1::Run>,
    found: Found,
    ended: bool,
}

impl Stream for UntilEnd {
    type Item = Result<v1::Run, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if self.ended {
            // The client has heard of the end, and need not stay.
            self.found.call = None;
            return std::task::Poll::Ready(None);
        }
        let next = Pin::new(&mut self.states).poll_next(context);
        next.map(|state| {
            let state = state?;
            self.ended = is_end(state.state());
            Some(Ok(self.found.entry.show(state, self.found.access)))
        })
    }
}

fn output_gone() -> CallFailure {
    let reason = "the output share is gone: it was acknowledged, or its time was over, or newer outputs of this client took \
                  its place";
    CallFailure::caller(reason).with_code(Code::NotFound)
}

/// A run in a list: a thousand of them with all nodes would be more than a message holds.
fn without_nodes(mut run: v1::Run) -> v1::Run {
    if let Some(figures) = &mut run.figures {
        figures.nodes = Vec::new();
    }
    run
}

/// A run's failure, as the control API says it.
pub(crate) fn to_control(failure: suf_party::RunFailure) -> CallFailure {
    CallFailure::new(suf_process::at_fault(failure.fault), failure.reason)
}
