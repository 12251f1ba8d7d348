//! Where a party's request waits for the other's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use suf_deal::{Order, Pairing, Refusal, Standing};
use suf_gate::Program;
use suf_wire::{BatchId, Fault, Party};
use tokio::sync::oneshot;

use crate::requester::{BatchFailure, Requester};

/// Requests that wait for the other party's, and how to answer them.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    pairing: Pairing,
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
    Refused(BatchFailure),
}

/// The other party, and what both want.
#[derive(Debug)]
pub(crate) struct Partner {
    pub(crate) requester: Requester,
    pub(crate) program: Arc<Program>,
    /// The batch of the load whose matrices the program takes.
    pub(crate) load_batch: Option<BatchId>,
    /// When the second request was here.
    pub(crate) paired: Instant,
}

/// Where a request stands.
#[derive(Debug)]
pub(crate) enum Entered {
    /// It is the first; the answer comes here.
    First(Requester, oneshot::Receiver<Answer>),
    /// It is the second, and the first one's task takes the requester over.
    Second,
    /// It is not served.
    Refused(Requester, BatchFailure),
}

impl Requests {
    /// Takes the order for `batch` of `requester`, or the refusal of its request.
    pub(crate) fn enter(
        &self,
        batch: BatchId,
        order: Result<Order, Refusal>,
        requester: Requester,
    ) -> Entered {
        let arrived = Instant::now();
        let mut inner = self.lock();
        match order.and_then(|order| inner.pairing.request(order)) {
            Ok(Standing::Waiting) => {
                let (answer, answered) = oneshot::channel();
                inner.waiting.insert(batch, Waiting { party: requester.party, answer });
                Entered::First(requester, answered)
            }
            Ok(Standing::Agreed { program, load_batch }) => {
                let Some(first) = inner.waiting.remove(&batch) else {
                    return Entered::Refused(requester, lost("did not wait any more"));
                };
                let partner = Partner { requester, program, load_batch, paired: arrived };
                let sent = first.answer.send(Answer::Partner(Box::new(partner)));
                let Err(Answer::Partner(partner)) = sent else { return Entered::Second };
                Entered::Refused(partner.requester, lost("left without a word"))
            }
            Err(refusal) => {
                inner.pairing.withdraw(batch);
                if let Some(first) = inner.waiting.remove(&batch) {
                    let other = blame(&refusal, first.party);
                    // An error says that the first is leaving just now, and needs no answer.
                    let _ = first.answer.send(Answer::Refused(other));
                }
                let failure = blame(&refusal, requester.party);
                Entered::Refused(requester, failure)
            }
        }
    }

    /// Withdraws the first request. False: its answer is being sent.
    pub(crate) fn withdraw(&self, batch: BatchId) -> bool {
        let mut inner = self.lock();
        inner.pairing.withdraw(batch);
        inner.waiting.remove(&batch).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that a request brings is worked on under the lock, and the lists are whole after each step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first request is registered, but no task waits for its answer.
fn lost(how: &str) -> BatchFailure {
    BatchFailure::new(Fault::Dealer, format!("bug: who asked first for this batch {how}; start a fresh run"))
}

/// The refusal, as `party` is told of it.
fn blame(refusal: &Refusal, party: Party) -> BatchFailure {
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
        Refusal::Disagreement { .. } | Refusal::OtherLoad { .. } => Fault::Peer,
        Refusal::Full => Fault::Dealer,
    };
    BatchFailure::new(fault, refusal.to_string())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::SocketAddr};

    use suf_gate::{GateError, Protocol, catalog};
    use suf_link::{Connection, Endpoint, Identity, LinkProfile, Pki};
    use suf_wire::{DealerMessage, Digest, KeyRequest, Role};

    use super::*;

    /// A dealer, and both parties that call it.
    struct TestWorld {
        listener: Endpoint,
        parties: Vec<(Endpoint, Connection, Connection)>,
    }

    impl TestWorld {
        async fn open() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            Pki::create(folder.path(), &BTreeMap::new()).expect("certificates");
            let bind = |role: Role| {
                let identity = Identity::load_from(folder.path(), role.name()).expect("a certificate");
                let profile = LinkProfile::built_in("loopback").expect("a built-in profile");
                Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &identity, &profile, false)
                    .expect("a socket")
            };
            let listener = bind(Role::Dealer);
            let address = listener.local_addr().expect("bound");
            let mut parties = Vec::new();
            for role in Party::BOTH.map(Party::role) {
                let caller = bind(role);
                let called = caller.connect(address, Role::Dealer.name(), Role::Dealer);
                let admitted = [role];
                let (theirs, ours) = tokio::join!(called, listener.accept(&admitted));
                parties.push((caller, theirs.expect("admitted"), ours.expect("admitted")));
            }
            Self { listener, parties }
        }

        /// The requester of `party` for a batch, once its request is there.
        async fn requester(&self, party: Party, request: &KeyRequest) -> Requester {
            let (_, theirs, ours) = &self.parties[party.index()];
            let mut channel = theirs.open::<DealerMessage>().await.expect("a stream");
            channel.sender.send(&DealerMessage::Request(request.clone())).await.expect("sent");
            let mut requester = Requester::new(party, ours.accept().await.expect("a stream"));
            requester.receiver.recv(|_| None).await.expect("the request");
            requester
        }
    }

    #[tokio::test]
    async fn waiting_requests_survive_a_panic_in_decoding_and_one_of_its_own() {
        let (world, requests) = (TestWorld::open().await, Requests::default());
        let onehot = catalog::builtin().find(|gate| gate.protocol() == Protocol::Onehot);
        let program = Program::of_gate(Arc::new(onehot.expect("built in")), 9).expect("of a size");
        let program = Arc::new(program);
        let request = |batch, party| {
            let digest = Digest(*program.digest());
            let program = program.encoded().to_vec().into();
            KeyRequest { batch, digest, party, load_batch: None, program }
        };
        let enter = async |batch, party, decoded| {
            let request = request(batch, party);
            requests.enter(batch, Order::new(&request, decoded), world.requester(party, &request).await)
        };
        // What the decoder makes of a panic: the one whose description it was is refused, and so is who waits for it.
        let batch = BatchId([1; 16]);
        let first = enter(batch, Party::P0, Ok(Arc::clone(&program))).await;
        let Entered::First(_, answer) = first else { panic!("{first:?}") };
        let panicked = Err(GateError::Shape("bug: decoding: it panicked".into()).into());
        let second = enter(batch, Party::P1, panicked).await;
        let Entered::Refused(_, failure) = second else { panic!("{second:?}") };
        assert_eq!(failure.fault, Fault::Caller, "{failure}");
        let answer = answer.await.expect("it is told");
        let Answer::Refused(failure) = answer else { panic!("{answer:?}") };
        assert_eq!(failure.fault, Fault::Peer, "{failure}");
        assert!(failure.reason.contains("bug: decoding"), "{failure}");

        let held = std::thread::scope(|scope| {
            let holder = || {
                let _held = requests.lock();
                panic!("as the test wants it");
            };
            scope.spawn(holder).join()
        });
        held.expect_err("it panics");
        for batch in [batch, BatchId([2; 16])] {
            let first = enter(batch, Party::P0, Ok(Arc::clone(&program))).await;
            let Entered::First(_, answer) = first else { panic!("{first:?}") };
            let second = enter(batch, Party::P1, Ok(Arc::clone(&program))).await;
            assert!(matches!(second, Entered::Second), "{second:?}");
            let answer = answer.await.expect("it is told");
            assert!(matches!(answer, Answer::Partner(_)), "{answer:?}");
        }
        world.listener.close("the test is over").await;
    }
}
