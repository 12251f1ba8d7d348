//! One run at work: the pure machine, and the hands that do what it asks for.
//!
//! Whoever has news (the peer's stream, a worker, the key fetch, the control API) calls [`ActiveRun::feed`], which takes
//! the machine's lock, hands the event in, and carries out the actions. None of them waits: sending and measuring go
//! through a queue to one task, which keeps their order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use suf_control::v1;
use suf_gate::{Backend, KeyBytes};
use suf_link::{Channel, Connection, LaneThread, Traffic};
use suf_party::{Action, Done, Event, Failure, Measured, Phase, Plan, Run, Summary, Work};
use suf_process::hardening::scrub_stack;
use suf_wire::{Causal, DataFrame, Fault, PeerMessage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    entry::{Entry, step_name},
    hashing::Hashing,
    host::Host,
    keys::{self, Received},
    lane::{Lane, Served},
    ownership::Access,
    service::to_control,
    store::BatchStore,
    timing::Timing,
    workers,
};

/// What the runtime's timer may be late by.
const TIMER_TICK: Duration = Duration::from_millis(2);

/// A run at work.
#[derive(Debug)]
pub struct ActiveRun {
    host: Arc<Host>,
    entry: Arc<Entry>,
    plan: Plan,
    inner: Mutex<Inner>,
    connection: OnceLock<Connection>,
    /// What goes over the first lane, and over each further one, once there are some.
    outbox: mpsc::UnboundedSender<Outgoing>,
    further: OnceLock<Box<[mpsc::UnboundedSender<Outgoing>]>>,
    over: CancellationToken,
}

struct Inner {
    run: Run,
    timing: Timing,
    keys: Option<Arc<BatchStore>>,
    container: Received,
    output: Vec<Vec<u64>>,
    /// Moved over the connection before the first exchange.
    traffic_before: Traffic,
    cancelled: bool,
    /// Work was handed on by value, and with it the seed: copies are left on the stack. The exchanges hold theirs elsewhere.
    seeds_passed: bool,
}

/// What the writer of a lane does, in order.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Send(PeerMessage, Causal),
    Compute(Work),
    Measure,
    Close,
}

/// The two ends of a run's queue and its place in the registry.
pub(crate) struct Started {
    pub(crate) active: Arc<ActiveRun>,
    pub(crate) outgoing: mpsc::UnboundedReceiver<Outgoing>,
}

impl ActiveRun {
    /// Puts `run` to work, unless `entry` has ended or is at work already. Its messages wait in the queue until
    /// [`ActiveRun::serve`] has a stream for them.
    pub(crate) fn start(host: &Arc<Host>, entry: &Arc<Entry>, run: Run) -> Option<Started> {
        let (outbox, outgoing) = mpsc::unbounded_channel();
        let plan = run.plan().clone();
        let chunks = suf_gate::layout::chunk_count(plan.elems) as usize;
        let active = Arc::new(Self {
            host: Arc::clone(host),
            entry: Arc::clone(entry),
            plan,
            inner: Mutex::new(Inner {
                run,
                timing: Timing::start(),
                keys: None,
                container: Received::default(),
                output: vec![Vec::new(); chunks],
                traffic_before: Traffic::default(),
                cancelled: false,
                seeds_passed: false,
            }),
            connection: OnceLock::new(),
            outbox,
            further: OnceLock::new(),
            over: CancellationToken::new(),
        });
        // Held until its first actions are carried out: whoever finds it in the entry finds it begun.
        let mut inner = active.lock();
        if !entry.activate(&active, &active.plan) {
            return None;
        }
        active.watch_deadline();
        active.carry_out(&mut inner, VecDeque::new());
        drop(inner);
        Some(Started { active, outgoing })
    }

    /// Tells the run what happened.
    pub fn feed(self: &Arc<Self>, event: Event) {
        // The exchanges' own messages and computing come often, and bring no seed.
        let exchange = matches!(event, Event::Peer(_) | Event::Done(_));
        let mut inner = self.lock();
        self.carry_out(&mut inner, VecDeque::from([event]));
        let seeds = std::mem::take(&mut inner.seeds_passed);
        drop(inner);
        if seeds || !exchange {
            scrub_stack();
        }
    }

    /// Ends the run for a reason that is nobody's fault.
    pub fn cancel(self: &Arc<Self>, reason: String) {
        let mut inner = self.lock();
        inner.cancelled = true;
        let failure = Failure::new(Fault::Caller, reason);
        self.carry_out(&mut inner, VecDeque::from([Event::Failed(failure)]));
    }

    /// Moves the run's messages over `channels`, one on each lane of `connection`, until it is over.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        connection: Connection,
        channels: Vec<Channel<PeerMessage>>,
        outgoing: mpsc::UnboundedReceiver<Outgoing>,
    ) {
        let meter = channels[0].meter();
        let shared = Arc::new(Served {
            transcript: Hashing::start(self.host.runtime(), &self.plan),
            meter,
            opening: Mutex::default(),
            to_measure: AtomicUsize::new(channels.len()),
        });
        let (further, queues): (Vec<_>, Vec<_>) =
            channels.iter().skip(1).map(|_| mpsc::unbounded_channel()).unzip();
        self.further.get_or_init(|| further.into());
        let threads = connection.threads().to_vec();
        self.connection.get_or_init(|| connection);
        let lanes = channels.len();
        let queues = [outgoing].into_iter().chain(queues);
        let work = channels.into_iter().zip(queues).zip(threads).enumerate();
        let work = work.map(|(number, ((channel, outgoing), thread))| {
            let lane = Lane { run: Arc::clone(self), shared: Arc::clone(&shared), number, lanes, thread };
            lane.thread.clone().spawn(lane.serve(channel, outgoing))
        });
        for lane in work.collect::<Vec<_>>() {
            if lane.await.is_err() {
                let bug = Failure::new(Fault::Bug, "the task that moves a lane's messages panicked");
                self.feed(Event::Failed(bug));
            }
        }
    }

    /// Every exchange is over: the counts and the hash are final.
    pub(crate) async fn measured(self: &Arc<Self>, served: &Served) {
        let counts = served.meter.gate();
        let Some(transcript) = served.transcript.digest().await else { return };
        self.feed(Event::Measured(Measured {
            rounds: counts.rounds,
            bits_sent: counts.bits_sent,
            bits_received: counts.bits_received,
            transcript,
        }));
    }

    fn carry_out(self: &Arc<Self>, inner: &mut Inner, mut events: VecDeque<Event>) {
        loop {
            while let Some(action) = inner.run.next_action() {
                if let Some(event) = self.act(inner, action) {
                    events.push_back(event);
                }
            }
            let Some(event) = events.pop_front() else { return };
            inner.run.handle(event);
        }
    }

    /// Carries out one action; an event where its outcome is there at once.
    fn act(self: &Arc<Self>, inner: &mut Inner, action: Action) -> Option<Event> {
        match action {
            Action::Send(message, after) => {
                if let (PeerMessage::Ready { .. }, Some(connection)) = (&message, self.connection.get()) {
                    // The peer sends no exchange before it hears of this.
                    inner.traffic_before = connection.udp_stats();
                }
                self.send(message, after);
            }
            // The last lane to hear of it measures: then all have counted what they sent.
            Action::Measure => self.queue_everywhere(|| Outgoing::Measure),
            Action::RequestKeys(request) => {
                let this = Arc::clone(self);
                self.host.runtime().spawn(async move {
                    keys::scrubbed(keys::fetch(&this.host.clone(), &this, request)).await
                });
            }
            Action::Burn => {
                let this = Arc::clone(self);
                self.host.runtime().spawn_blocking(move || this.feed(this.burn()));
            }
            Action::LoadKey(chunk) => return self.load_key(inner, chunk),
            Action::Align => self.align(),
            Action::Compute(work) => {
                inner.seeds_passed |= work.exchange_of().is_none();
                self.compute(work);
            }
            Action::Output { chunk, shares } => inner.output[chunk as usize] = shares,
            Action::Enter(phase) => self.enter(inner, phase),
            Action::End(result) => self.end(inner, result),
        }
        None
    }

    fn send(&self, message: PeerMessage, after: Causal) {
        let lane = message.lane(1 + self.further.get().map_or(0, |further| further.len()));
        // The receiver is gone when the stream is; the run hears of that as an event of its own.
        let _ = self.outbox(lane).send(Outgoing::Send(message, after));
    }

    /// The queue of lane `lane`; the first is there from the start.
    fn outbox(&self, lane: usize) -> &mpsc::UnboundedSender<Outgoing> {
        let further = self.further.get().map_or(&[][..], |further| further);
        lane.checked_sub(1).map_or(&self.outbox, |lane| &further[lane])
    }

    fn queue_everywhere(&self, outgoing: impl Fn() -> Outgoing) {
        for outbox in [&self.outbox].into_iter().chain(self.further.get().into_iter().flatten()) {
            // As in `send`.
            let _ = outbox.send(outgoing());
        }
    }

    fn burn(&self) -> Event {
        match self.host.ledger().burn(self.plan.batch) {
            Ok(burnt) => {
                tracing::info!(run = %self.entry.hash(), batch = %burnt.id(), "batch burnt");
                Event::Burnt(burnt)
            }
            Err(error) => Event::Failed(Failure::new(Fault::Device, error.to_string())),
        }
    }

    fn load_key(self: &Arc<Self>, inner: &Inner, chunk: u32) -> Option<Event> {
        let store = inner.keys.clone().expect("keys are loaded after they are stored");
        let load = move |store: &BatchStore| match store.take(chunk) {
            Ok(bytes) => Event::Key { chunk, key: KeyBytes::new(bytes) },
            Err(error) => Event::Failed(Failure::new(Fault::Device, error.to_string())),
        };
        if !store.is_spooled() {
            return Some(load(&store));
        }
        let this = Arc::clone(self);
        self.host.runtime().spawn_blocking(move || this.feed(load(&store)));
        None
    }

    /// Has `work` done by a thread that computes, or, where that is a matter of microseconds, by the one that moves the chunk's
    /// messages.
    fn compute(self: &Arc<Self>, work: Work) {
        let further = self.further.get().map_or(&[][..], |further| further);
        // Where there is but one lane, its thread has every chunk's messages to move, and computes nothing.
        if let Some(chunk) = work.prompt_exchange_of().filter(|_| !further.is_empty()) {
            // The receiver is gone when the stream is; the run hears of that as an event of its own.
            let _ = self.outbox(DataFrame::lane(chunk, further.len() + 1)).send(Outgoing::Compute(work));
            return;
        }
        let this = Arc::clone(self);
        let more = work.exchange_of().is_some();
        self.host.workers().submit(move |backend| {
            this.carry_work_out(work, backend);
            more
        });
    }

    /// Does `work` on the calling thread, and tells the run.
    pub(crate) fn carry_work_out(self: &Arc<Self>, work: Work, backend: &dyn Backend) {
        let counted = work.exchange_of().is_some();
        if counted {
            self.lock().timing.compute(true);
        }
        let mut done = workers::carry_out(work, backend);
        if counted {
            let spans = done.as_mut().map_or_else(|_| Vec::new(), Done::take_spans);
            let mut inner = self.lock();
            inner.timing.compute(false);
            inner.timing.device(&spans);
        }
        self.feed(done.map_or_else(Event::Failed, Event::Done));
    }

    /// Lets half a round trip pass: the peer begins when it hears that this party is ready, which is on its way now.
    fn align(self: &Arc<Self>) {
        let Some(connection) = self.connection.get() else { return };
        let begin = Instant::now() + connection.path().min_rtt / 2;
        let this = Arc::clone(self);
        self.host.evaluation().spawn(async move {
            // The runtime's timer ticks in milliseconds; the rest of the way is watched.
            if let Some(nearly) = begin.checked_sub(TIMER_TICK).filter(|nearly| *nearly > Instant::now()) {
                tokio::time::sleep_until(nearly.into()).await;
            }
            while Instant::now() < begin {
                tokio::task::yield_now().await;
            }
            this.feed(Event::Aligned);
        });
    }

    fn enter(&self, inner: &mut Inner, phase: Phase) {
        inner.timing.enter(phase);
        let state = match phase {
            Phase::Proposing => v1::RunState::Proposed,
            Phase::Dealing => v1::RunState::Dealing,
            Phase::AwaitingInput => v1::RunState::ReadyForInput,
            Phase::Opening | Phase::AwaitingPeer => v1::RunState::Opening,
            Phase::Evaluating | Phase::Closing => v1::RunState::Evaluating,
            // The state of a run that is over comes with its result.
            Phase::Ended => return,
        };
        if let (Phase::AwaitingPeer, Some(connection)) = (phase, self.connection.get()) {
            // With few chunks the last lanes have nothing to do.
            let chunks = inner.output.len();
            connection.threads().iter().take(chunks).for_each(LaneThread::expect_exchanges);
        }
        if let (Phase::Evaluating, Some(connection)) = (phase, self.connection.get()) {
            // The peer is ready, hence has the opening of x_hat, and no exchange has been sent.
            let Traffic { bytes_sent, datagrams_sent, .. } = connection.udp_stats();
            inner.traffic_before = Traffic { bytes_sent, datagrams_sent, ..inner.traffic_before };
        }
        self.entry.set_state(state);
    }

    fn end(&self, inner: &mut Inner, result: Result<Summary, Failure>) {
        let plan = &self.plan;
        inner.keys = None;
        let view = self.entry.shown(Access::Other);
        let last = match result {
            Ok(summary) => {
                let output = std::mem::take(&mut inner.output);
                self.host.registry().keep_output(&self.entry, output);
                tracing::info!(run = %self.entry.hash(), gate = plan.gate.name(), protocol = %plan.gate.protocol(),
                    elems = plan.elems, eval_ms = inner.timing.eval_ms(), "run done");
                let figures = Some(self.figures(inner, &summary));
                v1::Run { state: v1::RunState::Done.into(), figures, ..view }
            }
            Err(failure) => {
                tracing::warn!(run = %self.entry.hash(), step = ?view.state(), %failure, "run ended");
                let state = if inner.cancelled { v1::RunState::Cancelled } else { v1::RunState::Failed };
                let failure = Some(to_control(failure).at_step(step_name(view.state())));
                v1::Run { state: state.into(), failure, ..view }
            }
        };
        self.entry.finish(last);
        self.queue_everywhere(|| Outgoing::Close);
        self.over.cancel();
    }

    fn figures(&self, inner: &Inner, summary: &Summary) -> v1::Figures {
        let plan = &self.plan;
        let backend = self.host.backend_info();
        let eval_ms = inner.timing.eval_ms();
        let split = inner.timing.split();
        let clocks = backend.clocks;
        // The peer has finished: it has every frame of this party, and this party every one of the peer.
        let (traffic, rtt_ms, lanes) = self.connection.get().map_or_else(Default::default, |connection| {
            let traffic = connection.udp_stats().since(inner.traffic_before);
            (traffic, crate::timing::ms(connection.rtt()), connection.lanes())
        });
        let declared = plan.gate.declared();
        v1::Figures {
            key_bytes: summary.key_bytes,
            // Masks of the wire are expanded from the seed, which is counted as key.
            mask_bytes: 0,
            container_bytes: inner.container.bytes,
            key_ms: 0.0,
            ship_ms: inner.container.ship_ms,
            open_ms: inner.timing.open_ms(),
            eval_ms,
            comp_ms: split.comp_ms(),
            comm_ms: split.link_ms,
            kernel_ms: split.kernel_ms,
            copy_ms: split.copy_ms,
            wait_ms: split.wait_ms,
            bits_sent: summary.measured.bits_sent,
            bits_received: summary.measured.bits_received,
            wire_bytes_sent: traffic.bytes_sent,
            wire_bytes_received: traffic.bytes_received,
            rounds: summary.measured.rounds.into(),
            declared_rounds: declared.rounds.into(),
            declared_bits: plan.gate.batch_message_bits(plan.elems),
            link: Some(v1::Link { rtt_ms, lanes, ..self.host.link_description() }),
            backend: backend.name.into(),
            hardware: backend.device,
            processor_mhz: clocks.map_or(0, |clocks| clocks.processor_mhz),
            memory_mhz: clocks.map_or(0, |clocks| clocks.memory_mhz),
            version: env!("CARGO_PKG_VERSION").into(),
            transcript: summary.measured.transcript.to_vec().into(),
        }
    }

    /// Where the key fetch puts a batch.
    pub(crate) fn keep_keys(&self, store: Arc<BatchStore>, container: Received) {
        let mut inner = self.lock();
        inner.keys = Some(store);
        inner.container = container;
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of the frame that the peer may send now; none if none may come.
    pub(crate) fn expected_frame(&self, step: u8, chunk: u32) -> Option<usize> {
        self.lock().run.expected_frame(step, chunk).ok()
    }

    /// Whether anything is still due from the peer.
    pub(crate) fn awaits_peer(&self) -> bool {
        self.lock().run.awaits_peer()
    }

    /// Ends when the run does.
    pub(crate) fn over(&self) -> &CancellationToken {
        &self.over
    }

    fn watch_deadline(self: &Arc<Self>) {
        let this = Arc::clone(self);
        self.host.runtime().spawn(async move {
            let limit_ms = this.plan.deadline_ms;
            tokio::select! {
                () = this.over.cancelled() => {}
                () = tokio::time::sleep_until(this.entry.deadline(limit_ms).into()) => {
                    let phase = this.lock().run.phase();
                    let reason = format!("the deadline of {limit_ms} ms passed while {phase:?}");
                    this.feed(Event::Failed(Failure::new(waited_for(phase), reason)));
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }
}

/// Whose turn it is in a phase that did not end in time.
fn waited_for(phase: Phase) -> Fault {
    match phase {
        Phase::Dealing => Fault::Dealer,
        Phase::AwaitingInput => Fault::Caller,
        Phase::Proposing | Phase::Opening | Phase::AwaitingPeer | Phase::Evaluating => Fault::Peer,
        Phase::Closing | Phase::Ended => Fault::Bug,
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("phase", &self.run.phase()).finish_non_exhaustive()
    }
}
