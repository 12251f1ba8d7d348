//! Where a party's request waits for the other's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use suf_deal::{Desk, Order, Refusal, Standing};
use suf_gate::Program;
use suf_wire::{BatchId, Fault, Party};
use tokio::sync::oneshot;

use crate::seat::{Failure, Seat};

/// The desk, and how to reach those who wait at it.
#[derive(Debug, Default)]
pub(crate) struct Lobby {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    desk: Desk,
    waiting: HashMap<BatchId, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    party: Party,
    answer: oneshot::Sender<Answer>,
}

/// What became of the first request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The other party asked for the same.
    Partner(Box<Partner>),
    /// The other party asked for something else, or for nothing sensible.
    Refused(Failure),
}

/// The other party, and what both want.
#[derive(Debug)]
pub(crate) struct Partner {
    pub(crate) seat: Seat,
    pub(crate) program: Arc<Program>,
    /// When the second request was here.
    pub(crate) paired: Instant,
}

/// Where a request stands.
#[derive(Debug)]
pub(crate) enum Entered {
    /// It is the first; the answer comes here.
    First(Seat, oneshot::Receiver<Answer>),
    /// It is the second, and the first one's task has taken the seat over.
    Second,
    /// It is not served.
    Refused(Seat, Failure),
}

impl Lobby {
    /// Takes the order for `batch` of the party on `seat`, or the refusal of its request.
    pub(crate) fn enter(&self, batch: BatchId, order: Result<Order, Refusal>, seat: Seat) -> Entered {
        let arrived = Instant::now();
        let mut inner = self.lock();
        match order.and_then(|order| inner.desk.request(order)) {
            Ok(Standing::Waiting) => {
                let (answer, answered) = oneshot::channel();
                inner.waiting.insert(batch, Waiting { party: seat.party, answer });
                Entered::First(seat, answered)
            }
            Ok(Standing::Agreed(program)) => {
                let Some(first) = inner.waiting.remove(&batch) else {
                    return Entered::Refused(seat, lost("was not in the lobby"));
                };
                let partner = Partner { seat, program, paired: arrived };
                let sent = first.answer.send(Answer::Partner(Box::new(partner)));
                let Err(Answer::Partner(partner)) = sent else { return Entered::Second };
                Entered::Refused(partner.seat, lost("left without a word"))
            }
            Err(refusal) => {
                inner.desk.withdraw(batch);
                if let Some(first) = inner.waiting.remove(&batch) {
                    let other = blame(&refusal, first.party);
                    // An error says that the first is leaving just now, and needs no answer.
                    let _ = first.answer.send(Answer::Refused(other));
                }
                let failure = blame(&refusal, seat.party);
                Entered::Refused(seat, failure)
            }
        }
    }

    /// Takes the first request back. False: its answer is on its way.
    pub(crate) fn withdraw(&self, batch: BatchId) -> bool {
        let mut inner = self.lock();
        inner.desk.withdraw(batch);
        inner.waiting.remove(&batch).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that a request brings is worked on under the lock, and the lists are whole after each step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first request is at the desk, but nobody waits for its answer.
fn lost(how: &str) -> Failure {
    Failure::new(Fault::Dealer, format!("bug: who asked first for this batch {how}; start a fresh run"))
}

/// The refusal, as `party` is told of it.
fn blame(refusal: &Refusal, party: Party) -> Failure {
    let fault = match refusal {
        Refusal::Program { party: at_fault, .. }
        | Refusal::Digest { party: at_fault, .. }
        | Refusal::Twice { party: at_fault, .. } => {
            if *at_fault == party {
                Fault::Caller
            } else {
                Fault::Peer
            }
        }
        // Neither can be told from the other.
        Refusal::Disagreement { .. } => Fault::Peer,
        Refusal::Full => Fault::Dealer,
    };
    Failure::new(fault, refusal.to_string())
}
