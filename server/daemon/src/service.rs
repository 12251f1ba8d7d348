//! The control API of a party.

use std::{pin::Pin, sync::Arc, time::Instant};

use suf_control::{authority::caller, failure::Failure, limits::ELEMENTS_PER_MESSAGE, shares, v1};
use suf_gate::{Gate, Party as GateParty, layout};
use suf_party::{Event, Plan};
use suf_wire::{BatchId, Fault, RunId};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream, wrappers::WatchStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    host::Host,
    registry::{Asker, Entry, is_end},
};

/// Messages of a stream that wait for a slow client.
const STREAM_DEPTH: usize = 4;

/// The service over a party.
#[derive(Clone, Debug)]
pub struct PartyService {
    host: Arc<Host>,
    started: Instant,
}

impl PartyService {
    /// A service for `host`.
    #[must_use]
    pub fn new(host: Arc<Host>) -> Self {
        Self { host, started: Instant::now() }
    }

    fn entry(&self, run_id: &[u8]) -> Result<Arc<Entry>, Failure> {
        self.host.registry().get(run_id_of(run_id)?)
    }

    /// The gate that a request describes.
    async fn gate(&self, gate: Option<v1::Gate>) -> Result<Arc<Gate>, Failure> {
        let gate = gate.ok_or_else(|| Failure::caller("the request names no gate"))?;
        let decoded = self.host.gates().decode(&gate.description).await;
        decoded.map_err(|error| Failure::caller(error.to_string()))
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::party_server::Party for PartyService {
    async fn start_run(&self, request: Request<v1::StartRunRequest>) -> Result<Response<v1::Run>, Status> {
        let asker = Asker::client(&caller(&request)?.peer.certificate);
        let request = request.into_inner();
        let gate = self.gate(request.gate).await?;
        let run = if request.run_id.is_empty() { RunId(entropy()) } else { run_id_of(&request.run_id)? };
        let limit_ms = self.host.config().max_run_s * 1000;
        let deadline_ms = match request.deadline_ms {
            0 => limit_ms,
            asked => asked.min(limit_ms),
        };
        let plan = Plan {
            run,
            batch: BatchId(entropy()),
            gate,
            elems: request.elements,
            deadline_ms,
            me: self.host.config().party(),
        };
        self.host.policy().check(&plan).map_err(to_control)?;
        let entry = self.host.propose(plan, asker)?;
        Ok(Response::new(entry.view.borrow().clone()))
    }

    async fn get_run(&self, request: Request<v1::RunRef>) -> Result<Response<v1::Run>, Status> {
        let entry = self.entry(&request.get_ref().run_id)?;
        Ok(Response::new(entry.view.borrow().clone()))
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsReply>, Status> {
        let v1::ListRunsRequest { limit, active_only } = *request.get_ref();
        let limit = match limit {
            0 => 100,
            limit => limit.min(1000),
        };
        let runs = self.host.registry().list().into_iter();
        let runs = runs.filter(|entry| !active_only || !entry.has_ended()).take(limit as usize);
        let runs = runs.map(|entry| entry.view.borrow().clone()).collect();
        Ok(Response::new(v1::ListRunsReply { runs }))
    }

    type WatchRunStream = Boxed<v1::Run>;

    async fn watch_run(
        &self,
        request: Request<v1::RunRef>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let entry = self.entry(&request.get_ref().run_id)?;
        let states = UntilEnd { states: WatchStream::new(entry.view.subscribe()), ended: false };
        Ok(Response::new(Box::pin(states)))
    }

    async fn cancel_run(&self, request: Request<v1::RunRef>) -> Result<Response<v1::Run>, Status> {
        let entry = self.entry(&request.get_ref().run_id)?;
        if let Some(active) = entry.active() {
            active.cancel("it was cancelled over the control API");
        }
        Ok(Response::new(entry.view.borrow().clone()))
    }

    async fn submit_input(
        &self,
        request: Request<Streaming<v1::InputPart>>,
    ) -> Result<Response<v1::SubmitInputReply>, Status> {
        use v1::input_part::Part;
        let mut parts = request.into_inner();
        let Some(v1::InputPart { part: Some(Part::Header(header)) }) = parts.message().await? else {
            return Err(Failure::caller("the first message of an input is its header").into());
        };
        let entry = self.entry(&header.run_id)?;
        if header.elements != entry.plan.elems {
            let reason = format!("{} elements announced, the run has {}", header.elements, entry.plan.elems);
            return Err(Failure::caller(reason).into());
        }
        if !entry.claim_input() {
            return Err(Failure::caller("the run has its input already").into());
        }
        let taken = take_input(&entry, &mut parts).await;
        if let (Err(failure), Some(active)) = (&taken, entry.active()) {
            // Half an input is of no use to the run, and its shares cannot be sent again.
            active.feed(Event::Failed(suf_party::Failure::new(
                Fault::Caller,
                format!("the input of {} stopped: {}", entry.me(), failure.reason),
            )));
        }
        Ok(Response::new(v1::SubmitInputReply { elements: taken? }))
    }

    type FetchOutputStream = Boxed<v1::OutputPart>;

    async fn fetch_output(
        &self,
        request: Request<v1::RunRef>,
    ) -> Result<Response<Self::FetchOutputStream>, Status> {
        let entry = self.entry(&request.get_ref().run_id)?;
        let mut view = entry.view.subscribe();
        let last = view.wait_for(|view| is_end(view.state())).await;
        let last = last.map_err(|_| Failure::new(v1::Fault::Bug, "the run was forgotten"))?.clone();
        if let Some(failure) = last.failure {
            return Err(Failure::new(failure.fault(), failure.reason).into());
        }
        if entry.output().is_empty() {
            return Err(Failure::caller("the output share was dropped: newer runs took its place").into());
        }
        let (sender, receiver) = mpsc::channel(STREAM_DEPTH);
        tokio::spawn(async move {
            use v1::output_part::Part;
            let header =
                v1::TensorHeader { run_id: entry.plan.run.0.to_vec().into(), elements: entry.plan.elems };
            let mut next = Some(Part::Header(header));
            let mut chunk = 0;
            while let Some(part) = next {
                if sender.send(Ok(v1::OutputPart { part: Some(part) })).await.is_err() {
                    return;
                }
                next = entry.output().get(chunk).map(|shares| Part::Shares(shares::pack(shares)));
                chunk += 1;
            }
            entry.set_fetched();
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeReply>, Status> {
        let v1::DescribeRequest { gate, elements } = request.into_inner();
        let gate = self.gate(gate).await?;
        let mut reply = v1::DescribeReply {
            gate_digest: gate.digest().to_vec().into(),
            declared_rounds: gate.declared().rounds.into(),
            ..v1::DescribeReply::default()
        };
        let plan = Plan {
            run: RunId([0; 16]),
            batch: BatchId([0; 16]),
            gate,
            elems: elements,
            deadline_ms: 1,
            me: self.host.config().party(),
        };
        match self.host.policy().check(&plan) {
            Ok(()) => {
                let key_bytes = |party| plan.gate.batch_key_bytes(party, elements);
                reply.accepted = true;
                reply.key_bytes_p0 = key_bytes(GateParty::P0);
                reply.key_bytes_p1 = key_bytes(GateParty::P1);
                reply.declared_bits = plan.gate.batch_message_bits(elements);
            }
            Err(failure) => reply.reason = failure.reason,
        }
        Ok(Response::new(reply))
    }

    async fn info(&self, _: Request<v1::InfoRequest>) -> Result<Response<v1::PartyInfo>, Status> {
        let config = self.host.config();
        let backend = self.host.backend_info();
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
            gates: suf_gate::gatefile::GateFile::builtin_names().map(Into::into).collect(),
            certificate_expires_unix_s: self.host.certificate_expires_unix_s(),
        }))
    }
}

/// The states of a run up to and including the last; the sender stays alive in the registry, so the end is in the data.
struct UntilEnd {
    states: WatchStream<v1::Run>,
    ended: bool,
}

impl Stream for UntilEnd {
    type Item = Result<v1::Run, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if self.ended {
            return std::task::Poll::Ready(None);
        }
        let next = Pin::new(&mut self.states).poll_next(context);
        if let std::task::Poll::Ready(Some(view)) = &next {
            self.ended = is_end(view.state());
        }
        next.map(|view| view.map(Ok))
    }
}

/// Feeds the run chunk by chunk, however the client cut its messages.
async fn take_input(entry: &Entry, parts: &mut Streaming<v1::InputPart>) -> Result<u64, Failure> {
    use v1::input_part::Part;
    let elems = entry.plan.elems;
    let mut taken = 0;
    let mut chunk = 0;
    let mut gathered = Vec::with_capacity(ELEMENTS_PER_MESSAGE);
    while let Some(part) = parts.message().await? {
        let Some(Part::Shares(message)) = part.part else {
            return Err(Failure::caller("a header stands first and once"));
        };
        let before = gathered.len() as u64;
        shares::unpack_into(&message, elems - taken + before, &mut gathered)?;
        taken += gathered.len() as u64 - before;
        while chunk < layout::chunk_count(elems) && gathered.len() >= layout::chunk_elems(elems, chunk) {
            let rest = gathered.split_off(layout::chunk_elems(elems, chunk));
            let shares = std::mem::replace(&mut gathered, rest);
            let active = entry.active().ok_or_else(|| Failure::caller("the run is over"))?;
            active.feed(Event::Input { chunk, shares });
            chunk += 1;
        }
    }
    if taken < elems {
        return Err(Failure::caller(format!("the input ended after {taken} of {elems} elements")));
    }
    Ok(taken)
}

fn run_id_of(bytes: &[u8]) -> Result<RunId, Failure> {
    let id = bytes
        .try_into()
        .map_err(|_| Failure::caller(format!("a run id has 16 bytes, not {}", bytes.len())))?;
    Ok(RunId(id))
}

/// 16 bytes from the operating system.
fn entropy() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives entropy");
    bytes
}

/// A run's failure, as the control API says it.
pub(crate) fn to_control(failure: suf_party::Failure) -> Failure {
    Failure::new(suf_process::at_fault(failure.fault), failure.reason)
}
