//! Where the messages of a session wait for their lane.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use suf_wire::{Causal, Part, PeerMessage};
use tokio::sync::{mpsc, watch};

use crate::threads::LaneThread;

/// Takes a session's messages. Nothing here waits: a message of before [`crate::Session::serve`] is kept until then. Clones
/// are the same.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Once there are lanes.
    lanes: OnceLock<Box<[Queue]>>,
    /// What was put in before that.
    waiting: Mutex<Vec<Item>>,
    closed: watch::Sender<bool>,
}

/// Work for a lane's thread.
pub type Task = Box<dyn FnOnce() + Send>;

/// The queue of one lane.
#[derive(Debug)]
struct Queue {
    items: mpsc::UnboundedSender<Item>,
    thread: LaneThread,
}

/// What the writer of a lane does, in order.
pub(crate) enum Item {
    Send(PeerMessage, Causal),
    Work(Part, Task),
    /// Of all lanes.
    Passed(Arc<Mark>),
    Close,
}

/// Says when all lanes have come to a point.
pub(crate) struct Mark {
    to_pass: AtomicUsize,
    then: Mutex<Option<Task>>,
}

impl Outbox {
    /// Sends `message`, which depends on what was received up to `after`.
    pub fn send(&self, message: PeerMessage, after: Causal) {
        self.put(Item::Send(message, after));
    }

    /// Has `work` done on the thread that moves the messages of `part`, which costs less than waking another. Gives it back
    /// where one thread moves all messages: it has no time for more.
    ///
    /// # Errors
    /// The work, not done.
    pub fn work_beside(&self, part: Part, work: Task) -> Result<(), Task> {
        match self.0.lanes.get() {
            Some(lanes) if lanes.len() > 1 => {
                self.put(Item::Work(part, work));
                Ok(())
            }
            _ => Err(work),
        }
    }

    /// Does `then` when all that was put in before was sent and counted.
    pub fn when_sent(&self, then: impl FnOnce() + Send + 'static) {
        let mark = Mark { to_pass: AtomicUsize::new(0), then: Mutex::new(Some(Box::new(then))) };
        self.put(Item::Passed(Arc::new(mark)));
    }

    /// The first messages of `parts` are near: the threads that move them do not sleep for a while.
    pub fn expect(&self, parts: impl IntoIterator<Item = Part>) {
        let Some(lanes) = self.0.lanes.get() else { return };
        let mut expecting = vec![false; lanes.len()];
        for part in parts {
            if !std::mem::replace(&mut expecting[part.lane(lanes.len())], true) {
                lanes[part.lane(lanes.len())].thread.expect_exchanges();
            }
        }
    }

    /// Ends the session when all that was put in before was sent; what still comes in is not looked at.
    pub fn close(&self) {
        self.0.closed.send_replace(true);
        self.put(Item::Close);
    }

    /// Returns when the outbox is closed.
    pub(crate) async fn closed(&self) {
        let closed = self.0.closed.subscribe().wait_for(|closed| *closed).await.is_ok();
        debug_assert!(closed, "the sender is held by this");
    }

    /// Gives each lane, whose thread is one of `threads`, its queue.
    pub(crate) fn connect(&self, threads: Vec<LaneThread>) -> Vec<mpsc::UnboundedReceiver<Item>> {
        let (lanes, queues): (Vec<_>, Vec<_>) = threads
            .into_iter()
            .map(|thread| {
                let (items, queue) = mpsc::unbounded_channel();
                (Queue { items, thread }, queue)
            })
            .unzip();
        // A sender that finds no lanes waits here, and looks again.
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for item in waiting.drain(..) {
            put_into(&lanes, item);
        }
        self.0.lanes.get_or_init(|| lanes.into());
        queues
    }

    fn put(&self, item: Item) {
        if let Some(lanes) = self.0.lanes.get() {
            return put_into(lanes, item);
        }
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match self.0.lanes.get() {
            Some(lanes) => put_into(lanes, item),
            None => waiting.push(item),
        }
    }
}

/// A lane whose receiver is gone has ended with its stream, of which the session's owner is told by itself.
fn put_into(lanes: &[Queue], item: Item) {
    let everywhere = |item: &dyn Fn() -> Item| {
        for lane in lanes {
            let _ = lane.items.send(item());
        }
    };
    match item {
        Item::Send(message, after) => {
            let lane = message.lane(lanes.len());
            let _ = lanes[lane].items.send(Item::Send(message, after));
        }
        Item::Work(part, work) => {
            let _ = lanes[part.lane(lanes.len())].items.send(Item::Work(part, work));
        }
        Item::Passed(mark) => {
            mark.to_pass.store(lanes.len(), Ordering::Release);
            everywhere(&|| Item::Passed(Arc::clone(&mark)));
        }
        Item::Close => everywhere(&|| Item::Close),
    }
}

impl Mark {
    /// A lane has come to it; the last one does what is due then.
    pub(crate) fn pass(&self) {
        if self.to_pass.fetch_sub(1, Ordering::AcqRel) == 1 {
            let then = self.then.lock().unwrap_or_else(PoisonError::into_inner).take();
            then.into_iter().for_each(|then| then());
        }
    }
}

/// Never a message: the first ones name the run.
impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(message, _) => message.name(),
            Self::Work(..) => "Work",
            Self::Passed(_) => "Passed",
            Self::Close => "Close",
        })
    }
}
