//! One run at work: the pure machine, and the hands that do what it asks for.
//!
//! The peer's stream, workers, the key fetch and the control API call [`ActiveRun::feed`] with their events. It locks
//! the machine, hands the event in, and carries out the actions. None of them waits: sending and measuring go through
//! the session's outbox, which keeps their order.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

use suf_admin::Collector;
use suf_control::v1;
use suf_gate::{Backend, KeyBytes, load::Kept};
use suf_link::{Connection, Outbox, Session, Task, Traffic};
use suf_party::{Action, Done, Event, Phase, Plan, Run, RunFailure, Summary, WINDOW, Work};
use suf_process::hardening::scrub_stack;
use suf_wire::{DataHead, Fault, NodeId, Part, PeerMessage};
use tokio_util::sync::CancellationToken;

use crate::{
    captured,
    checker::Notes,
    entry::{Entry, Outputs, step_name},
    figures::Sources,
    host::Host,
    keys::{self, Received},
    messages::{Messages, Noted},
    ownership::Access,
    queue::Place,
    service::to_control,
    spans,
    store::BatchStore,
    timing::{Clocks, Timing, ms},
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
    noted: OnceLock<Arc<Noted>>,
    outbox: Outbox,
    over: CancellationToken,
}

struct Inner {
    run: Run,
    timing: Timing,
    keys: Option<Arc<BatchStore>>,
    container: Received,
    outputs: Outputs,
    /// The matrices of the model that it has loaded.
    kept: Option<Kept>,
    /// Moved over the connection before the first exchange.
    traffic_before: Traffic,
    cancelled: bool,
    /// Its place among the runs of models, until it is over.
    place: Option<Place>,
    /// Work was handed on by value, and with it the seed: copies are left on the stack. The exchanges hold theirs elsewhere.
    seeds_passed: bool,
    /// Bytes of the keys that were loaded, by node.
    key_bytes: BTreeMap<NodeId, u64>,
    /// For a checker, where there is one.
    notes: Option<Notes>,
}

impl ActiveRun {
    /// Puts `run` to work, unless `entry` has ended or is at work already. Its messages wait in the outbox until
    /// [`ActiveRun::serve`] has a session for them. Its deadline counts from now on.
    pub(crate) fn start(
        host: &Arc<Host>,
        entry: &Arc<Entry>,
        run: Run,
        place: Option<Place>,
    ) -> Option<Arc<Self>> {
        let plan = run.plan().clone();
        let load = entry.take_load();
        load.iter().for_each(|load| captured::kept(&plan, load));
        let run = load.into_iter().fold(run, Run::taking);
        let outputs = plan.program.outputs().map(|id| {
            let tiles = plan.program.node(id).tiles() as usize;
            (id, vec![Vec::new(); tiles])
        });
        let outputs = outputs.collect();
        let active = Arc::new(Self {
            host: Arc::clone(host),
            entry: Arc::clone(entry),
            plan,
            inner: Mutex::new(Inner {
                run,
                timing: Timing::start(),
                keys: None,
                container: Received::default(),
                outputs,
                kept: None,
                traffic_before: Traffic::default(),
                cancelled: false,
                place,
                seeds_passed: false,
                key_bytes: BTreeMap::new(),
                notes: host.checker().map(|_| Notes::default()),
            }),
            connection: OnceLock::new(),
            noted: OnceLock::new(),
            outbox: Outbox::default(),
            over: CancellationToken::new(),
        });
        // Held until its first actions are carried out, so that a run found in the entry has begun.
        let mut inner = active.lock();
        if !entry.activate(&active, &active.plan) {
            return None;
        }
        active.watch_deadline();
        active.carry_out(&mut inner, VecDeque::new());
        drop(inner);
        Some(active)
    }

    /// Tells the run what happened.
    pub fn feed(self: &Arc<Self>, event: Event) {
        // The exchanges' own messages and computing come often, and bring no seed.
        let exchange = matches!(event, Event::Peer(_) | Event::Done(_));
        let mut inner = self.lock();
        inner.notes.iter_mut().for_each(|notes| notes.event(&event));
        self.carry_out(&mut inner, VecDeque::from([event]));
        let seeds = std::mem::take(&mut inner.seeds_passed);
        drop(inner);
        if seeds || !exchange {
            scrub_stack();
        }
    }

    /// Ends the run for a reason without fault.
    pub fn cancel(self: &Arc<Self>, reason: String) {
        let mut inner = self.lock();
        inner.cancelled = true;
        let failure = RunFailure::new(Fault::Caller, reason);
        self.carry_out(&mut inner, VecDeque::from([Event::Failed(failure)]));
    }

    /// Moves the run's messages in `session`, which is of `connection`, until it is over.
    pub(crate) async fn serve(self: &Arc<Self>, connection: Connection, session: Session) {
        let noted = self.noted.get_or_init(|| Noted::start(self, &session));
        let messages = Messages::new(self, noted);
        self.connection.get_or_init(|| connection);
        session.serve(&self.outbox, &messages).await;
    }

    /// Every exchange is over: the counts and the hash are final.
    fn measure(self: &Arc<Self>) {
        let Some(noted) = self.noted.get().cloned() else { return };
        let this = Arc::clone(self);
        self.outbox.when_sent(move || {
            this.host.clone().runtime().spawn(async move {
                if let Some(measured) = noted.measured().await {
                    this.feed(Event::Measured(measured));
                }
            });
        });
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
                if let (PeerMessage::Ready { segment: 0, .. }, Some(connection)) =
                    (&message, self.connection.get())
                {
                    // The peer sends no exchange before it hears of this.
                    inner.traffic_before = connection.udp_stats();
                }
                self.outbox.send(message, after);
            }
            Action::Measure => self.measure(),
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
            Action::LoadKey(part) => return self.load_key(inner, part),
            Action::Align => self.align(),
            Action::Compute(work) => {
                inner.seeds_passed |= work.exchange_of(&self.plan.program).is_none();
                self.compute(work);
            }
            Action::Output { part, shares } => {
                let tiles = inner.outputs.get_mut(&part.node);
                let tile = tiles.and_then(|tiles| tiles.get_mut(part.tile as usize));
                *tile.expect("the program has it") = shares;
            }
            Action::Keep(kept) => {
                captured::kept(&self.plan, &kept);
                inner.kept = Some(kept);
            }
            Action::Enter(phase) => self.enter(inner, phase),
            Action::End(result) => self.end(inner, result),
        }
        None
    }

    fn burn(&self) -> Event {
        match self.host.ledger().burn(self.plan.batch, self.plan.purpose()) {
            Ok(burnt) => {
                tracing::info!(run = %self.entry.hash(), batch = %burnt.id(), "batch burnt");
                Event::Burnt(burnt)
            }
            Err(error) => Event::Failed(RunFailure::new(Fault::Device, error.to_string())),
        }
    }

    fn load_key(self: &Arc<Self>, inner: &mut Inner, part: Part) -> Option<Event> {
        let store = inner.keys.clone().expect("keys are loaded after they are stored");
        let load = move |store: &BatchStore| match store.take(part) {
            Ok(bytes) => Event::Key { part, key: KeyBytes::new(bytes) },
            Err(error) => Event::Failed(RunFailure::new(Fault::Device, error.to_string())),
        };
        if !store.is_spooled() {
            let loaded = load(&store);
            inner.count_key(&loaded);
            return Some(loaded);
        }
        let this = Arc::clone(self);
        self.host.runtime().spawn_blocking(move || {
            let loaded = load(&store);
            this.lock().count_key(&loaded);
            this.feed(loaded);
        });
        None
    }

    /// Gives `work` to a thread that computes. Work of microseconds goes to the thread that moves the part's messages.
    fn compute(self: &Arc<Self>, work: Work) {
        let program = &self.plan.program;
        let (more, prompt) = (work.exchange_of(program).is_some(), work.prompt_exchange_of(program));
        let this = Arc::clone(self);
        let task: Task = Box::new(move || this.carry_work_out(work, this.host.backend()));
        let left = match prompt {
            Some(part) => self.outbox.work_beside(part, task).err(),
            None => Some(task),
        };
        if let Some(task) = left {
            self.host.workers().submit(move |_| {
                task();
                more
            });
        }
    }

    /// Does `work` on the calling thread, and tells the run.
    fn carry_work_out(self: &Arc<Self>, work: Work, backend: &dyn Backend) {
        let (counted, part) = (work.exchange_of(&self.plan.program).is_some(), work.evaluates());
        let started = Instant::now();
        let mut inner = self.lock();
        if counted {
            inner.timing.compute(started);
        }
        inner.notes.iter_mut().for_each(|notes| notes.before(&work));
        drop(inner);
        let mut done = workers::carry_out(work, backend);
        let spans = done.as_mut().map_or_else(|_| Vec::new(), Done::take_spans);
        let mut inner = self.lock();
        let ended = Instant::now();
        if counted {
            inner.timing.computed(ended);
            inner.timing.device(&spans);
        }
        inner.timing.worked(part, (started, ended));
        if let (Some(notes), Ok(done)) = (&mut inner.notes, &done) {
            notes.after(done);
        }
        drop(inner);
        self.feed(done.map_or_else(Event::Failed, Event::Done));
    }

    /// Waits half a round trip: the peer begins when it receives the message that this party is ready.
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
        if phase == Phase::AwaitingPeer {
            let program = &self.plan.program;
            let exchanging = program.parts().filter(|part| {
                let node = program.node(part.node);
                !node.is_input() && node.exchanges() > 0
            });
            self.outbox.expect(exchanging.take(WINDOW as usize));
        }
        let aligns = inner.run.aligns();
        if let (Phase::Evaluating, Some(connection), true) = (phase, self.connection.get(), aligns) {
            // The peer is ready, hence has the opening of x_hat, and no exchange has been sent.
            let Traffic { bytes_sent, datagrams_sent, .. } = connection.udp_stats();
            inner.traffic_before = Traffic { bytes_sent, datagrams_sent, ..inner.traffic_before };
        }
        self.entry.set_state(state);
    }

    fn end(&self, inner: &mut Inner, result: Result<Summary, RunFailure>) {
        inner.keys = None;
        inner.place = None;
        let view = self.entry.shown(Access::Other);
        let last = match result {
            Ok(summary) => {
                let outputs = std::mem::take(&mut inner.outputs);
                self.host.registry().keep_outputs(&self.entry, outputs);
                if let Some(kept) = inner.kept.take() {
                    self.host.keep_load(&self.entry, kept, &summary);
                }
                tracing::info!(run = %self.entry.hash(), gate = view.gate, protocol = view.protocol,
                    elems = view.elements, eval_ms = inner.timing.eval_ms(), "run done");
                let figures = Some(self.figures(inner, &summary));
                self.tell_checker(inner);
                v1::Run { state: v1::RunState::Done.into(), figures, ..view }
            }
            Err(failure) => {
                tracing::warn!(run = %self.entry.hash(), step = ?view.state(), %failure, "run ended");
                if self.plan.program.loads() {
                    self.host.forget_load(self.plan.batch);
                }
                let state = if inner.cancelled { v1::RunState::Cancelled } else { v1::RunState::Failed };
                let failure = Some(to_control(failure).at_step(step_name(view.state())));
                v1::Run { state: state.into(), failure, ..view }
            }
        };
        let told = self.host.collector().map(|collector| (collector.clone(), last.clone()));
        self.entry.finish(last);
        self.outbox.close();
        self.over.cancel();
        if let Some((collector, last)) = told {
            self.tell_collector(collector, inner.timing.take_clocks(), last);
        }
    }

    /// Hands the run's trace to the collector of spans. The run is over, and nobody waits for this.
    fn tell_collector(&self, collector: Collector, clocks: Clocks, last: v1::Run) {
        let Some(connection) = self.connection.get().cloned() else { return };
        let plan = self.plan.clone();
        self.host.runtime().spawn_blocking(move || {
            if let Some(trace) = spans::trace(&plan, &connection, &clocks, &last) {
                collector.tell(trace);
            }
        });
    }

    /// Hands on what was noted, where a checker waits for it.
    fn tell_checker(&self, inner: &mut Inner) {
        let Some(notes) = inner.notes.take() else { return };
        let (report, host) = (notes.report(&self.plan, &inner.timing), Arc::clone(&self.host));
        self.host.runtime().spawn_blocking(move || {
            let Some(checker) = host.checker() else { return };
            if let Err(error) = checker.tell(&report) {
                tracing::warn!(error, "the checker was not told of a run");
            }
        });
    }

    fn figures(&self, inner: &Inner, summary: &Summary) -> v1::Figures {
        // The peer has finished: it has every frame of this party, and this party every one of the peer.
        let (traffic, rtt_ms, lanes) = self.connection.get().map_or_else(Default::default, |connection| {
            let traffic = connection.udp_stats().since(inner.traffic_before);
            (traffic, ms(connection.rtt()), connection.lanes())
        });
        let sources = Sources {
            plan: &self.plan,
            summary,
            timing: &inner.timing,
            node_key_bytes: &inner.key_bytes,
            container: inner.container,
            traffic,
            link: v1::Link { rtt_ms, lanes, ..self.host.link_description() },
            backend: self.host.backend_info(),
        };
        sources.figures()
    }

    /// Where the key fetch puts a batch.
    pub(crate) fn keep_keys(&self, store: &Arc<BatchStore>) {
        self.lock().keys = Some(Arc::clone(store));
    }

    /// The whole batch is here.
    pub(crate) fn received_keys(&self, container: Received) {
        self.lock().container = container;
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
    pub(crate) fn expected_frame(&self, head: &DataHead) -> Option<usize> {
        self.lock().run.expected_frame(head.part, head.step).ok()
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
        let begun = tokio::time::Instant::now();
        self.host.runtime().spawn(async move {
            let limit_ms = this.plan.deadline_ms;
            tokio::select! {
                () = this.over.cancelled() => {}
                () = tokio::time::sleep_until(begun + Duration::from_millis(limit_ms.into())) => {
                    let phase = this.lock().run.phase();
                    let reason = format!("the deadline of {limit_ms} ms passed while {phase:?}");
                    this.feed(Event::Failed(RunFailure::new(waited_for(phase), reason)));
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every other lock is taken after a panic, since its holders leave whole what others use. A run's own state may be half
        // changed then: the run ends with its calls, and its keys are burnt already.
        self.inner.lock().expect("no call panicked in the middle of this run")
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

impl Inner {
    /// Counts what an event loads.
    fn count_key(&mut self, loaded: &Event) {
        if let Event::Key { part, key } = loaded {
            *self.key_bytes.entry(part.node).or_default() += key.len() as u64;
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("phase", &self.run.phase()).finish_non_exhaustive()
    }
}
