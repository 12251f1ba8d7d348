//! Sessions: a run's messages over all lanes, of which whoever owns the session knows nothing.

use std::sync::{Arc, Mutex};

use suf_link::{LinkError, Outbox, Owner, PayloadMemory, Session};
use suf_wire::{
    Causal, DataFrame, DataHead, Fault, NodeId, Part, PeerMessage, Reason, Role, RunId, WireError,
};
use tokio::sync::mpsc;

use crate::channels::loopback;
use crate::common::{Pair, pair};
use crate::lanes::{frame, several};

/// Takes whatever comes, in order, and frames of any length but one of a byte.
struct Inbox {
    news: mpsc::UnboundedSender<News>,
    sent: Mutex<Vec<(Part, u16)>>,
}

#[derive(Debug)]
enum News {
    Received(PeerMessage),
    Unreadable(LinkError),
    Unwritable(LinkError),
}

impl Inbox {
    fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<News>) {
        let (news, coming) = mpsc::unbounded_channel();
        (Arc::new(Self { news, sent: Mutex::default() }), coming)
    }

    fn tell(&self, news: News) {
        // A test that has seen enough does not look.
        let _ = self.news.send(news);
    }
}

impl Owner for Inbox {
    fn expected(&self, head: &DataHead) -> Option<usize> {
        (head.bits > 8).then_some(head.bits as usize / 8)
    }

    fn payload_memory(&self, head: &DataHead, bytes: usize) -> Option<Box<dyn PayloadMemory>> {
        assert_eq!(head.bits as usize / 8, bytes);
        Some(Box::new(vec![0; bytes]))
    }

    fn sends(&self, frame: &DataFrame) {
        self.sent.lock().expect("no test panics").push((frame.part, frame.depth.depth()));
    }

    fn receives(&self, message: PeerMessage) {
        self.tell(News::Received(message));
    }

    fn unreadable(&self, error: LinkError) {
        self.tell(News::Unreadable(error));
    }

    fn unwritable(&self, error: LinkError) {
        self.tell(News::Unwritable(error));
    }
}

/// A session of both sides, greeted.
async fn sessions(pair: &Pair) -> [Session; 2] {
    let mut calling = pair.calling.open_session().await.expect("opens");
    let accepted = async {
        let mut called = pair.called.accept_session().await.expect("accepts");
        called.greet(Role::Party1, "listener").await.expect("greets");
        called
    };
    let (greeted, called) = tokio::join!(calling.greet(Role::Party0, "caller"), accepted);
    assert_eq!(greeted.expect("greets"), "listener");
    [calling, called]
}

fn abort() -> PeerMessage {
    PeerMessage::Abort { run: RunId([1; 16]), fault: Fault::Caller, reason: Reason::new("enough") }
}

#[tokio::test]
async fn frames_of_all_lanes_arrive_and_are_counted_before_the_mark() {
    for profile in [loopback(), several()] {
        let pair = pair(&profile, false).await;
        let [near, far] = sessions(&pair).await;
        let meters = [near.meter(), far.meter()];
        let ([near_box, far_box], [(near_owner, _), (far_owner, mut coming)]) =
            ([(); 2].map(|()| Outbox::default()), [(); 2].map(|()| Inbox::new()));
        // What is sent before there are lanes waits for them.
        near_box.send(abort(), Causal::START);
        let (mark, passed) = tokio::sync::oneshot::channel();
        let work = async {
            for tile in 0..20 {
                near_box.send(PeerMessage::Frame(frame(tile, 50_000)), Causal::START);
            }
            near_box.when_sent(|| mark.send(()).expect("the test waits"));
            passed.await.expect("all lanes come to it");
            let sent = meters[0].total(|_| true);
            assert_eq!((sent.bits_sent, sent.frames_sent, sent.rounds), (20 * 400_000, 20, 1));
            let (mut frames, mut others) = (vec![], vec![]);
            while frames.len() < 20 {
                match coming.recv().await.expect("more to come") {
                    News::Received(PeerMessage::Frame(got)) => {
                        assert_eq!(got.payload, frame(got.part.tile, 50_000).payload);
                        frames.push(got.part.tile);
                    }
                    News::Received(other) => others.push(other),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(others, [abort()]);
            let lanes = pair.calling.lanes() as usize;
            for lane in 0..lanes {
                let own: Vec<_> = frames.iter().filter(|tile| **tile as usize % lanes == lane).collect();
                assert!(own.is_sorted(), "what shares a lane keeps its order: {own:?}");
            }
            frames.sort_unstable();
            assert!(frames.into_iter().eq(0..20));
            assert_eq!(meters[1].total(|_| true).bits_received, 20 * 400_000);
            near_box.close();
            far_box.close();
        };
        tokio::join!(near.serve(&near_box, &near_owner), far.serve(&far_box, &far_owner), work);
        let mut told = near_owner.sent.lock().expect("no test panics").clone();
        told.sort_unstable();
        assert!(told.into_iter().eq((0..20).map(|tile| (Part::new(NodeId(1), tile), 1))));
    }
}

/// Whoever owns a session has work done where the messages are moved, if that is not the only thread that moves any.
#[tokio::test]
async fn work_is_done_beside_the_messages_or_given_back() {
    for (profile, done) in [(loopback(), false), (several(), true)] {
        let pair = pair(&profile, false).await;
        let [near, far] = sessions(&pair).await;
        let (outbox, other) = (Outbox::default(), Outbox::default());
        let (owner, _) = Inbox::new();
        let part = Part::new(NodeId(1), 5);
        let nothing: suf_link::Task = Box::new(|| ());
        assert!(outbox.work_beside(part, nothing).is_err(), "there are no lanes yet");
        let work = async {
            // The session is served from here on.
            tokio::task::yield_now().await;
            let (tell, thread) = tokio::sync::oneshot::channel();
            let name = || std::thread::current().name().map(str::to_owned);
            let task: suf_link::Task = Box::new(move || tell.send(name()).expect("the test waits"));
            match outbox.work_beside(part, task) {
                Ok(()) => assert_eq!(thread.await.expect("done").as_deref(), Some("lane-2")),
                Err(back) => drop(back),
            }
            let task: suf_link::Task = Box::new(|| ());
            assert_eq!(outbox.work_beside(part, task).is_ok(), done);
            outbox.expect([part]);
            outbox.close();
            other.close();
        };
        tokio::join!(near.serve(&outbox, &owner), far.serve(&other, &owner), work);
    }
}

#[tokio::test]
async fn a_frame_that_is_not_due_is_refused_and_both_sides_are_told() {
    let pair = pair(&several(), false).await;
    let [near, far] = sessions(&pair).await;
    let ([near_box, far_box], [(near_owner, mut near_news), (far_owner, mut far_news)]) =
        ([(); 2].map(|()| Outbox::default()), [(); 2].map(|()| Inbox::new()));
    let work = async {
        near_box.send(PeerMessage::Frame(frame(4, 1)), Causal::START);
        let Some(News::Unreadable(LinkError::Message { source, .. })) = far_news.recv().await else {
            panic!("the frame is refused")
        };
        let Part { node, tile } = frame(4, 1).part;
        let field = "data frame";
        assert_eq!(source, WireError::Unexpected { field, node: node.0, tile, step: 0 });
        let told = near_news.recv().await.expect("the other side is told");
        assert!(
            matches!(&told, News::Unreadable(error) | News::Unwritable(error)
                if error.to_string().contains("not expected now")),
            "{told:?}"
        );
        near_box.close();
        far_box.close();
    };
    tokio::join!(near.serve(&near_box, &near_owner), far.serve(&far_box, &far_owner), work);
}

/// A run that ended before its session began to be served.
#[tokio::test]
async fn a_session_that_was_closed_before_sends_what_it_has_and_ends() {
    let pair = pair(&several(), false).await;
    let [near, mut far] = sessions(&pair).await;
    let (outbox, (owner, _)) = (Outbox::default(), Inbox::new());
    outbox.send(abort(), Causal::START);
    outbox.close();
    let answered = async {
        assert_eq!(far.recv().await.expect("its last words"), abort());
        let ended = far.recv().await.expect_err("nothing follows");
        assert!(matches!(ended, LinkError::Ended { .. }), "{ended:?}");
        far.end().await;
    };
    tokio::join!(near.serve(&outbox, &owner), answered);
}
