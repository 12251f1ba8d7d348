//! What a run does with the messages that its session moves: the transcript, the captures, and the machine.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use suf_gate::{Node, Program, secret::SecretMemory};
use suf_link::{Counts, LinkError, Meter, Owner, PayloadMemory, Session};
use suf_party::{Event, Measured, NodeMeasured, RunFailure};
use suf_wire::{DataFrame, DataHead, NodeId, PeerMessage};

use crate::{active::ActiveRun, arrivals::Arrivals, captured, hashing::Hashing};

/// What is noted of a run's messages.
#[derive(Debug)]
pub(crate) struct Noted {
    program: Arc<Program>,
    transcript: Hashing,
    meter: Meter,
    /// How the peer's halves of the inputs came.
    opening: Mutex<Arrivals>,
}

/// The run that a session's messages are for.
pub(crate) struct Messages {
    run: Arc<ActiveRun>,
    noted: Arc<Noted>,
}

impl Noted {
    /// Nothing yet, of `session`.
    pub(crate) fn start(run: &ActiveRun, session: &Session) -> Arc<Self> {
        let transcript = Hashing::start(run.host().runtime(), run.plan());
        let program = Arc::clone(&run.plan().program);
        Arc::new(Self { program, transcript, meter: session.meter(), opening: Mutex::default() })
    }

    /// The final counts and the hash; none when the process ends.
    pub(crate) async fn measured(&self) -> Option<Measured> {
        let transcript = self.transcript.digest().await?;
        let nodes = self.meter.nodes().into_iter().map(|(node, counts)| NodeMeasured {
            node,
            depth: counts.rounds,
            bits_sent: counts.bits_sent,
            bits_received: counts.bits_received,
        });
        // Inputs are opened before what is measured begins.
        let Counts { rounds, bits_sent, bits_received, .. } =
            self.meter.total(|node| !is_input(&self.program, node));
        Some(Measured { rounds, bits_sent, bits_received, transcript, nodes: nodes.collect() })
    }
}

impl Messages {
    pub(crate) fn new(run: &Arc<ActiveRun>, noted: &Arc<Noted>) -> Arc<Self> {
        Arc::new(Self { run: Arc::clone(run), noted: Arc::clone(noted) })
    }

    fn note(&self, frame: &DataFrame) {
        if is_input(&self.noted.program, frame.part.node) {
            // A burst's figures are whole whatever happened to their last user.
            let mut opening = self.noted.opening.lock().unwrap_or_else(PoisonError::into_inner);
            opening.add(frame.payload.len(), Instant::now());
            self.run.host().peer().measure(&opening);
        }
        self.noted.transcript.absorb(self.run.plan().me.other(), frame);
    }
}

impl Owner for Messages {
    fn expected(&self, head: &DataHead) -> Option<usize> {
        self.run.expected_frame(head)
    }

    /// Memory from which the backend takes an exchange's message without copying it.
    fn payload_memory(&self, head: &DataHead, bytes: usize) -> Option<Box<dyn PayloadMemory>> {
        if is_input(&self.noted.program, head.part.node) {
            return None;
        }
        Some(Box::new(BackendRoom(self.run.host().backend().message_room(bytes)?)))
    }

    fn sends(&self, frame: &DataFrame) {
        let plan = self.run.plan();
        self.noted.transcript.absorb(plan.me, frame);
        captured::sent(plan, frame);
    }

    fn receives(&self, message: PeerMessage) {
        if let PeerMessage::Frame(frame) = &message {
            self.note(frame);
        }
        self.run.feed(Event::Peer(message));
    }

    fn unreadable(&self, error: LinkError) {
        if self.run.awaits_peer() {
            self.run.feed(failed(&error));
        }
    }

    fn unwritable(&self, error: LinkError) {
        self.run.feed(failed(&error));
    }
}

fn is_input(program: &Program, node: NodeId) -> bool {
    program.get(node).is_some_and(Node::is_input)
}

fn failed(error: &LinkError) -> Event {
    Event::Failed(RunFailure::new(error.fault(), error.to_string()))
}

struct BackendRoom(Box<dyn SecretMemory>);

impl AsRef<[u8]> for BackendRoom {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl AsMut<[u8]> for BackendRoom {
    fn as_mut(&mut self) -> &mut [u8] {
        (*self.0).as_mut()
    }
}
