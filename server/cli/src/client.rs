//! A run as a client: the tensor is split into two random shares, each party is sent its own, and the output shares
//! are added. Everything streams in tiles of 2^16 elements.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    pin::pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use suf_control::{
    client,
    failure::CallFailure,
    shares,
    v1::{
        self, Fault, Figures, InputPart, OutputRef, RunRef, RunState, StartRunRequest, TensorHeader,
        input_part, output_part, party_client::PartyClient,
    },
};
use suf_gate::{Gate, NodeId, Ring, TILE_ELEMS, ring::WIRE};
use suf_link::Identity;
use suf_wire::{BatchId, Party, Role, RunId};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Streaming, transport::Channel};
use zeroize::Zeroizing;

use crate::{error::Error, runtime::Interrupt, tensor::Tensor};

/// How long a party may take to answer when a run is ended. That is several round trips of the longest links, and less than
/// a user waits after an interruption.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(900);

/// Bits of one share: those of the wires that gates take and make.
const SHARE_BITS: u8 = WIRE.bits();

/// Bytes of one share on the control API.
const SHARE_BYTES: usize = shares::bytes_per_share(SHARE_BITS);

/// The files that say who we are.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key; none: beside the certificate, with the ending `.key`.
    pub key: Option<PathBuf>,
    /// The authority; none: `ca.pem` beside the certificate.
    pub ca: Option<PathBuf>,
}

impl Credentials {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// When one is missing, damaged, out of date, revoked or readable by others; the message says which.
    pub fn load(&self) -> Result<Identity, Error> {
        let key = self.key.clone().unwrap_or_else(|| self.cert.with_extension("key"));
        let ca = self.ca.clone().unwrap_or_else(|| self.cert.with_file_name("ca.pem"));
        Identity::load(&ca, &self.cert, &key).map_err(Error::usage)
    }
}

/// A channel to the daemon of `role` at `url`.
///
/// # Errors
/// When it cannot be reached, or one side does not accept the other's certificate.
pub async fn connect(url: &str, identity: &Identity, role: Role) -> Result<Channel, Error> {
    let tls = identity.grpc_client().map_err(|error| Error::here(Fault::Config, error.to_string()))?;
    client::connect(url, tls, role.name()).await.map_err(|error| Error::connect(role.name(), &error))
}

/// Both parties, as a client sees them.
#[derive(Debug, Clone)]
pub struct Parties {
    clients: [PartyClient<Channel>; 2],
    interrupt: Interrupt,
}

/// What a run that ended well left behind.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The run.
    pub run: RunId,
    /// Its key batch.
    pub batch: BatchId,
    /// What each party measured.
    pub figures: [Figures; 2],
}

impl Outcome {
    /// The figures of the party whose evaluation took longer.
    #[must_use]
    pub fn slower(&self) -> &Figures {
        &self.figures[slower_party(&self.figures)]
    }
}

/// Which party's evaluation took longer.
pub(crate) fn slower_party([first, second]: &[Figures; 2]) -> usize {
    usize::from(first.eval_ms < second.eval_ms)
}

/// Takes the outputs in order: the tile's index and its values.
pub trait Sink {
    /// Takes the next tile.
    fn take(&mut self, tile: u32, values: &[i64]);
    /// The run's state at party 0 has changed.
    fn state(&mut self, state: RunState);
}

impl Parties {
    /// Connects to both parties.
    ///
    /// # Errors
    /// When one cannot be reached, or refuses our certificate.
    pub async fn connect(urls: [&str; 2], identity: &Identity) -> Result<Self, Error> {
        let [first, second] = urls;
        let (first, second) = tokio::try_join!(
            connect(first, identity, Role::Party0),
            connect(second, identity, Role::Party1)
        )?;
        Ok(Self { clients: [client::party(first), client::party(second)], interrupt: Interrupt::default() })
    }

    /// The same, with runs that end at both parties when `interrupt` comes.
    #[must_use]
    pub fn until(mut self, interrupt: Interrupt) -> Self {
        self.interrupt = interrupt;
        self
    }

    /// Calls to one party.
    #[must_use]
    pub fn party(&self, party: Party) -> PartyClient<Channel> {
        self.clients[party.index()].clone()
    }

    /// Starts a run of `gate` on `tensor`, feeds it, and hands the outputs to `sink`, tile by tile. `deadline` ends the run
    /// at the parties; none leaves that to their own limit. The parties keep their output shares until
    /// [`Self::acknowledge`].
    ///
    /// # Errors
    /// When the run fails; the message names who is at fault. A run that fails here, or is interrupted, is ended at both parties.
    pub async fn evaluate(
        &self,
        gate: &Gate,
        tensor: &Tensor<'_>,
        deadline: Option<Duration>,
        sink: &mut impl Sink,
    ) -> Result<Outcome, Error> {
        let run = RunId(os_random()?);
        let request = start_request(gate, tensor.elements(), run, deadline);
        self.ending_at_both(run, async {
            self.start(request).await?;
            self.feed_and_fetch(gate, run, tensor, sink).await
        })
        .await
    }

    /// Registers a run at both parties, as `request` says; its state at party 0.
    ///
    /// # Errors
    /// When a party refuses it.
    pub async fn start(&self, request: StartRunRequest) -> Result<v1::Run, Error> {
        let start = async |party| {
            let started = self.party(party).start_run(request.clone()).await;
            started.map(tonic::Response::into_inner).map_err(|status| Error::call(place(party), status))
        };
        let (first, _) = tokio::try_join!(start(Party::P0), start(Party::P1))?;
        Ok(first)
    }

    /// Feeds a run that this client has started before, and hands the outputs to `sink`. A run that has its output already is
    /// not fed again.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; before anything is sent, when the run is of another gate or size.
    pub async fn evaluate_started(
        &self,
        run: RunId,
        gate: &Gate,
        tensor: &Tensor<'_>,
        sink: &mut impl Sink,
    ) -> Result<Outcome, Error> {
        let found = self.party(Party::P0).get_run(reference(run)).await;
        let found = found.map_err(|status| Error::call("party 0", status))?.into_inner();
        if found.gate_digest[..] != gate.digest()[..] || found.elements != tensor.elements() {
            return Err(Error::usage(format!(
                "run {} is of {} {} on {} elements, not of {} {} on {}, or in another shape",
                run.reveal(),
                found.protocol,
                found.gate,
                found.elements,
                gate.protocol(),
                gate.name(),
                tensor.elements()
            )));
        }
        self.ending_at_both(run, self.feed_and_fetch(gate, run, tensor, sink)).await
    }

    /// Tells both parties that the whole output of `run` is safe, so that they drop their shares.
    pub async fn acknowledge(&self, run: RunId) {
        let acknowledge = async |party| {
            let told = self.party(party).acknowledge_output(reference(run)).await;
            // A party that did not hear of it drops the share after its `output_keep_s`.
            drop(told);
        };
        tokio::join!(acknowledge(Party::P0), acknowledge(Party::P1));
    }

    /// Carries out `work` on `run`. If it fails, panics or is interrupted, the run is ended at both parties.
    ///
    /// # Errors
    /// The errors of `work`, or the run's own reason for failing where a party has a better one. After an interrupt the
    /// error says what was done about the run.
    pub async fn ending_at_both<T>(
        &self,
        run: RunId,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let _open = self.interrupt.open();
        let mut work = pin!(work);
        let unwinding = poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
            polled.map_or_else(|panic| Poll::Ready(Err(panic)), |poll| poll.map(Ok))
        });
        tokio::select! {
            worked = unwinding => match worked {
                Ok(Ok(outcome)) => Ok(outcome),
                Ok(Err(error)) => Err(self.explain(run, error).await),
                Err(panic) => {
                    let _best_effort = self.cancel(run).await;
                    resume_unwind(panic)
                }
            },
            () = self.interrupt.came() => Err(interrupted(self.cancel(run).await)),
        }
    }

    async fn feed_and_fetch(
        &self,
        gate: &Gate,
        run: RunId,
        tensor: &Tensor<'_>,
        sink: &mut impl Sink,
    ) -> Result<Outcome, Error> {
        // Held until the end: a party gives up a run whose client has no call open.
        let (first, second) = tokio::try_join!(
            self.wait_for_keys(Party::P0, run, |now| sink.state(now.state())),
            self.wait_for_keys(Party::P1, run, |_| ())
        )?;
        if !(first.done && second.done) {
            let seed = Zeroizing::new(os_random::<32>()?);
            tokio::try_join!(
                self.submit(Party::P0, run, tensor, &seed),
                self.submit(Party::P1, run, tensor, &seed)
            )?;
        }
        self.fetch(gate, run, tensor, sink).await?;
        self.outcome(run).await
    }

    /// What a run that ended well left behind.
    pub(crate) async fn outcome(&self, run: RunId) -> Result<Outcome, Error> {
        let (first, second) = tokio::try_join!(self.done(Party::P0, run), self.done(Party::P1, run))?;
        let batch = BatchId(first.batch_id[..].try_into().map_err(|_| malformed("its batch id"))?);
        let figures = |run: v1::Run| run.figures.ok_or_else(|| malformed("a finished run without figures"));
        Ok(Outcome { run, batch, figures: [figures(first)?, figures(second)?] })
    }

    /// Follows the run at `party` until it awaits input, or has its output already. `told` hears of each state.
    pub(crate) async fn wait_for_keys(
        &self,
        party: Party,
        run: RunId,
        mut told: impl FnMut(&v1::Run),
    ) -> Result<Watched, Error> {
        let states = self.party(party).watch_run(reference(run)).await;
        let states = states.map_err(|status| Error::call(place(party), status))?.into_inner();
        let mut watched = Watched { party, done: false, batch_id: Bytes::new(), states };
        watched
            .follow(|now| {
                told(now);
                now.state() == RunState::ReadyForInput
            })
            .await?;
        Ok(watched)
    }

    /// Sends `party` its share of the tensor. A tile's share is made when the one before it has left.
    async fn submit(
        &self,
        party: Party,
        run: RunId,
        tensor: &Tensor<'_>,
        seed: &Zeroizing<[u8; 32]>,
    ) -> Result<(), Error> {
        let elements = tensor.elements();
        let header = InputPart {
            part: Some(input_part::Part::Header(TensorHeader {
                run_id: Bytes::copy_from_slice(&run.0),
                elements,
                node: 0,
            })),
        };
        let (sender, parts) = mpsc::channel(1);
        let stream = tokio_stream::once(header).chain(ReceiverStream::new(parts));
        // The stream outlives no call, but the library asks for one that could: the tensor stays on this side of the channel.
        let feed = async move {
            let tiles = tensor.tiles();
            for tile in 0..tiles.count() {
                let shares = match party {
                    Party::P0 => random_share(seed, tile, tiles.elems(tile)).into(),
                    Party::P1 => remaining_share(seed, tile, &tensor.tile(tile)),
                };
                let part = InputPart { part: Some(input_part::Part::Shares(shares)) };
                // A party that takes no more says why in its reply.
                if sender.send(part).await.is_err() {
                    return;
                }
            }
        };
        let mut client = self.party(party);
        let (reply, ()) = tokio::join!(client.submit_input(stream), feed);
        let taken = reply.map_err(|status| Error::call(place(party), status))?.into_inner().elements;
        if taken == elements {
            Ok(())
        } else {
            Err(malformed(&format!("{taken} elements taken where {elements} were sent")))
        }
    }

    /// Adds the output shares of both parties as they arrive.
    async fn fetch(
        &self,
        gate: &Gate,
        run: RunId,
        tensor: &Tensor<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        let (elements, tiles) = (tensor.elements(), tensor.tiles());
        let (mut first, mut second) = tokio::try_join!(
            OutputShares::open(self.party(Party::P0), Party::P0, run, (NodeId(0), WIRE), elements),
            OutputShares::open(self.party(Party::P1), Party::P1, run, (NodeId(0), WIRE), elements)
        )?;
        for tile in 0..tiles.count() {
            let elems = tiles.elems(tile);
            let (mine, theirs) = tokio::try_join!(first.next(elems), second.next(elems))?;
            let values: Vec<_> = mine.iter().zip(&theirs).map(|(a, b)| gate.output(*a, *b)).collect();
            sink.take(tile, &values);
        }
        tokio::try_join!(first.end(), second.end())?;
        Ok(())
    }

    /// The run at `party`, which must have ended well.
    async fn done(&self, party: Party, run: RunId) -> Result<v1::Run, Error> {
        let failed = |status| Error::call(place(party), status);
        let run = self.party(party).get_run(reference(run)).await.map_err(failed)?.into_inner();
        match run.state() {
            RunState::Done => Ok(run),
            _ => Err(ended_badly(place(party), &run)),
        }
    }

    /// The run's own reason for failing, where a party has one that is better than `error`. The run is ended at both parties, unless it
    /// ended well at all that can be reached: then its output can be fetched again.
    async fn explain(&self, run: RunId, error: Error) -> Error {
        let look = async |party| {
            let found = timeout(ANSWER_TIMEOUT, self.party(party).get_run(reference(run))).await;
            found.ok().and_then(Result::ok).map(tonic::Response::into_inner)
        };
        let (first, second) = tokio::join!(look(Party::P0), look(Party::P1));
        let found = [first, second];
        let mut reached = found.iter().flatten().peekable();
        let done = reached.peek().is_some() && reached.all(|run| run.state() == RunState::Done);
        if !done {
            // A party that does not hear of it ends the run after its lease.
            let _best_effort = self.cancel(run).await;
        }
        let failed = Party::BOTH.into_iter().zip(&found).find_map(|(party, run)| {
            let run = run.as_ref().filter(|run| run.state() == RunState::Failed)?;
            Some(ended_badly(place(party), run))
        });
        failed.unwrap_or(error)
    }

    /// Cancels `run` at both parties, and drops its output there if it has ended; what came of it at each.
    pub async fn cancel(&self, run: RunId) -> [Result<RunState, CallFailure>; 2] {
        let cancel = async |party| {
            let answer = timeout(ANSWER_TIMEOUT, self.party(party).cancel_run(reference(run))).await;
            let late = |_| CallFailure::new(Fault::Peer, format!("no answer within {ANSWER_TIMEOUT:?}"));
            let run = answer.map_err(late)?.map_err(CallFailure::from)?.into_inner();
            Ok(run.state())
        };
        tokio::join!(cancel(Party::P0), cancel(Party::P1)).into()
    }
}

/// What was done about a run whose work was interrupted.
fn interrupted(ended: [Result<RunState, CallFailure>; 2]) -> Error {
    let each = Party::BOTH.into_iter().zip(&ended).map(|(party, ended)| {
        let done = match ended {
            Ok(RunState::Cancelled) => "cancelled".to_owned(),
            Ok(RunState::Done) => "it had ended, and its output is dropped".to_owned(),
            Ok(_) => "it had ended".to_owned(),
            Err(failure) if failure.code == Code::NotFound => "it was not started there".to_owned(),
            Err(failure) => format!(
                "{}; the party ends the run itself after its `lease_s` (60 s by default)",
                failure.reason
            ),
        };
        format!("{}: {done}", place(party))
    });
    let done = if ended.iter().all(|ended| matches!(ended, Ok(RunState::Cancelled | RunState::Failed))) {
        "cancelled at both parties".to_owned()
    } else {
        each.collect::<Vec<_>>().join("; ")
    };
    Error::here(Fault::Caller, format!("interrupted; the run: {done}"))
}

/// A run that is watched; the party knows by that that its client is there.
pub(crate) struct Watched {
    party: Party,
    /// It has its output.
    done: bool,
    /// Its keys.
    pub(crate) batch_id: Bytes,
    states: Streaming<v1::Run>,
}

impl Watched {
    /// Follows the run until it has its output, or until `enough` says so of a state.
    async fn follow(&mut self, mut enough: impl FnMut(&v1::Run) -> bool) -> Result<(), Error> {
        let place = place(self.party);
        while let Some(now) = self.states.message().await.map_err(|status| Error::call(place, status))? {
            let is_enough = enough(&now);
            match now.state() {
                RunState::Done => self.done = true,
                RunState::Failed | RunState::Cancelled => return Err(ended_badly(place, &now)),
                _ => {}
            }
            if self.done || is_enough {
                self.batch_id = now.batch_id;
                return Ok(());
            }
        }
        let reason = "it stopped reporting on the run; see its log";
        Err(Error::at(place, CallFailure::new(Fault::Peer, reason)))
    }

    /// Follows the run to its end, which has to be a good one.
    ///
    /// # Errors
    /// The run's failure.
    pub(crate) async fn done(&mut self) -> Result<(), Error> {
        if self.done { Ok(()) } else { self.follow(|_| false).await }
    }
}

/// The request that starts `gate` on `elements` elements as `run`.
#[must_use]
pub fn start_request(gate: &Gate, elements: u64, run: RunId, deadline: Option<Duration>) -> StartRunRequest {
    StartRunRequest {
        gate: Some(describe(gate)),
        elements,
        run_id: Bytes::copy_from_slice(&run.0),
        deadline_ms: deadline.map_or(0, |limit| u32::try_from(limit.as_millis()).unwrap_or(u32::MAX)),
        ..StartRunRequest::default()
    }
}

/// The gate as the control API describes it.
#[must_use]
pub fn describe(gate: &Gate) -> v1::Gate {
    v1::Gate {
        description: gate.encode().into(),
        protocol: gate.protocol().name().to_owned(),
        name: gate.name().to_owned(),
    }
}

/// A run by its id, as the control API takes it.
#[must_use]
pub fn reference(run: RunId) -> RunRef {
    RunRef { run_id: Bytes::copy_from_slice(&run.0), ..RunRef::default() }
}

/// Bytes from the operating system's entropy.
///
/// # Errors
/// When there is none to be had.
pub fn os_random<const BYTES: usize>() -> Result<[u8; BYTES], Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::here(Fault::Device, format!("no entropy from the system: {error}")))?;
    Ok(bytes)
}

/// The error of a run that ended in FAILED or CANCELLED at `place`.
#[must_use]
pub fn ended_badly(place: &str, run: &v1::Run) -> Error {
    let Some(failure) = &run.failure else {
        let state = run.state().as_str_name();
        return Error::at(place, CallFailure::new(Fault::Unspecified, format!("the run ended as {state}")));
    };
    let step = if failure.step.is_empty() { String::new() } else { format!(" (step: {})", failure.step) };
    Error::at(place, CallFailure::new(failure.fault(), format!("{}{step}", failure.reason)))
}

/// The name of a party at the start of a message.
#[must_use]
pub fn place(party: Party) -> &'static str {
    match party {
        Party::P0 => "party 0",
        Party::P1 => "party 1",
    }
}

/// Output shares of one party, as they arrive.
pub(crate) struct OutputShares {
    party: Party,
    /// Bits of a share.
    bits: u8,
    parts: Streaming<v1::OutputPart>,
    elements: u64,
    /// Shares that have arrived and were not taken yet.
    ready: Vec<u64>,
    taken: u64,
}

impl OutputShares {
    /// The shares of the output `node`, whose wire has this ring. 0 stands for the only output.
    pub(crate) async fn open(
        mut client: PartyClient<Channel>,
        party: Party,
        run: RunId,
        (node, ring): (NodeId, Ring),
        elements: u64,
    ) -> Result<Self, Error> {
        let output = OutputRef { run: Some(reference(run)), node: node.0.into() };
        let parts = client.fetch_output(output).await;
        let mut parts = parts.map_err(|status| Error::call(place(party), status))?.into_inner();
        let first = parts.message().await.map_err(|status| Error::call(place(party), status))?;
        match first.and_then(|part| part.part) {
            Some(output_part::Part::Header(header))
                if header.run_id[..] == run.0 && header.elements == elements =>
            {
                Ok(Self { party, bits: ring.bits(), parts, elements, ready: Vec::new(), taken: 0 })
            }
            _ => Err(malformed("an output without its header")),
        }
    }

    /// The next `elems` shares.
    pub(crate) async fn next(&mut self, elems: usize) -> Result<Vec<u64>, Error> {
        while self.ready.len() < elems {
            let Some(part) = self.message().await? else {
                return Err(malformed("an output that ends early"));
            };
            let Some(output_part::Part::Shares(bytes)) = part.part else {
                return Err(malformed("an output with two headers"));
            };
            let left = self.elements - self.taken;
            shares::unpack_into(self.bits, &bytes, left, &mut self.ready)
                .map_err(|failure| malformed(&failure.reason))?;
        }
        self.taken += elems as u64;
        let rest = self.ready.split_off(elems);
        Ok(std::mem::replace(&mut self.ready, rest))
    }

    /// Checks that no shares follow.
    pub(crate) async fn end(&mut self) -> Result<(), Error> {
        match self.message().await? {
            None => Ok(()),
            Some(_) => Err(malformed("more output than the run has elements")),
        }
    }

    async fn message(&mut self) -> Result<Option<v1::OutputPart>, Error> {
        self.parts.message().await.map_err(|status| Error::call(place(self.party), status))
    }
}

/// An answer that no party of this version gives.
pub(crate) fn malformed(what: &str) -> Error {
    Error::here(Fault::Bug, format!("a party answered with {what}; are both of the same version as `suf`?"))
}

/// Party 0's share of tile `tile`: bytes of a stream under a fresh seed (BLAKE3 in its extendable-output mode).
fn random_share(seed: &[u8; 32], tile: u32, elems: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_keyed(seed);
    hasher.update(&tile.to_le_bytes());
    let mut bytes = vec![0; elems * SHARE_BYTES];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Party 1's share: what party 0's lacks to the values.
fn remaining_share(seed: &[u8; 32], tile: u32, values: &[i64]) -> Bytes {
    debug_assert!(values.len() <= TILE_ELEMS);
    let random = Zeroizing::new(random_share(seed, tile, values.len()));
    let rest: Vec<u64> = random
        .as_chunks::<SHARE_BYTES>()
        .0
        .iter()
        .zip(values)
        .map(|(share, value)| {
            let mut wide = [0; 8];
            wide[..SHARE_BYTES].copy_from_slice(share);
            (*value as u64).wrapping_sub(u64::from_le_bytes(wide))
        })
        .collect();
    shares::pack(SHARE_BITS, &rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(bytes: &[u8]) -> Vec<u64> {
        let mut out = Vec::new();
        shares::unpack_into(SHARE_BITS, bytes, u64::MAX, &mut out).unwrap();
        out
    }

    #[test]
    fn two_shares_add_up_to_the_value_and_differ_by_tile_and_seed() {
        let values: Vec<i64> = vec![0, -1, 1, (1 << 47) - 1, -(1 << 47), 12345, -67890];
        let seed = [7; 32];
        let first = unpacked(&random_share(&seed, 3, values.len()));
        let second = unpacked(&remaining_share(&seed, 3, &values));
        for ((a, b), value) in first.iter().zip(&second).zip(&values) {
            assert_eq!(WIRE.decode(a.wrapping_add(*b)), *value);
        }
        assert_ne!(first, unpacked(&random_share(&seed, 4, values.len())), "each tile has its own stream");
        assert_ne!(first, unpacked(&random_share(&[8; 32], 3, values.len())));
    }

    #[test]
    fn half_of_the_bits_of_shares_are_set() {
        let ones: u32 = random_share(&[1; 32], 0, TILE_ELEMS).iter().map(|byte| byte.count_ones()).sum();
        let bits = (TILE_ELEMS * SHARE_BYTES * 8) as f64;
        // Six standard deviations of a fair coin.
        assert!((f64::from(ones) - bits / 2.0).abs() < 3.0 * bits.sqrt());
    }
}
