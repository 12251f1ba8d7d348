//! The messages of one run between the parties, over all lanes of their connection. Nothing above this knows of lanes.
//!
//! Each lane has a stream of its own, which one thread reads and writes, so that no thread waits for another's. Messages
//! that share a lane keep their order. One rule gives a message's lane ([`PeerMessage::lane`]), and a frame that comes
//! over another is refused.

use std::sync::Arc;

use suf_wire::{Causal, DataFrame, DataHead, PeerMessage, Role, WireError};
use tokio::sync::mpsc;

use crate::channel::{Channel, PayloadMemory, Receiver, Sender};
use crate::error::LinkError;
use crate::meter::Meter;
use crate::outbox::{Item, Outbox};
use crate::threads::LaneThread;

/// The messages of one run. The first ones are exchanged one by one; [`Session::serve`] moves all others.
#[derive(Debug)]
pub struct Session {
    /// One on each lane.
    channels: Vec<Channel<PeerMessage>>,
    threads: Vec<LaneThread>,
}

/// The receiver of a session's messages. Each method is called on the thread that moves the message.
pub trait Owner: Send + Sync + 'static {
    /// Bytes of the frame with this head, if it may come now.
    fn expected(&self, head: &DataHead) -> Option<usize>;

    /// Memory of `bytes` bytes to receive that frame's payload in; none if any will do.
    fn payload_memory(&self, head: &DataHead, bytes: usize) -> Option<Box<dyn PayloadMemory>>;

    /// A frame is about to be sent, with its depth.
    fn sends(&self, frame: &DataFrame);

    /// A message was received, and counted if it is a frame.
    fn receives(&self, message: PeerMessage);

    /// Nothing more can be received.
    fn unreadable(&self, error: LinkError);

    /// Something could not be sent.
    fn unwritable(&self, error: LinkError);
}

impl Session {
    pub(crate) fn new(channels: Vec<Channel<PeerMessage>>, threads: &[LaneThread]) -> Self {
        Self { channels, threads: threads.to_vec() }
    }

    /// As [`Channel::greet`].
    ///
    /// # Errors
    /// As there.
    pub async fn greet(&mut self, own: Role, software: &str) -> Result<String, LinkError> {
        self.channels[0].greet(own, software).await
    }

    /// The next message, where no frame is due.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<PeerMessage, LinkError> {
        self.channels[0].receiver.recv(|_| None).await
    }

    /// Sends a message that is no frame.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn send(&mut self, message: &PeerMessage) -> Result<(), LinkError> {
        self.channels[0].sender.send(message).await
    }

    /// Says that nothing follows, and waits until the other side has everything or has gone.
    pub async fn end(mut self) {
        let sender = &mut self.channels[0].sender;
        sender.finish();
        sender.flushed().await;
    }

    /// What counts this session's frames, both ways.
    pub fn meter(&self) -> Meter {
        self.channels[0].meter()
    }

    /// Sends what is put into `outbox` and gives `owner` what comes, until the outbox is closed.
    pub async fn serve(self, outbox: &Outbox, owner: &Arc<impl Owner>) {
        let lanes = self.channels.len();
        let queues = outbox.connect(self.threads.clone());
        let work = self.channels.into_iter().zip(queues).zip(self.threads).enumerate();
        let work = work.map(|(number, ((channel, queue), thread))| {
            let lane = Lane { owner: Arc::clone(owner), number, lanes, thread: thread.clone() };
            thread.spawn(lane.serve(channel, queue, outbox.clone()))
        });
        for lane in work.collect::<Vec<_>>() {
            if lane.await.is_err() {
                let bug = "the task that moves a lane's messages panicked";
                owner.unwritable(LinkError::Bug(bug.into()));
            }
        }
    }
}

/// One lane of a session.
struct Lane<O> {
    owner: Arc<O>,
    number: usize,
    /// How many there are.
    lanes: usize,
    thread: LaneThread,
}

impl<O: Owner> Lane<O> {
    async fn serve(
        self,
        channel: Channel<PeerMessage>,
        queue: mpsc::UnboundedReceiver<Item>,
        outbox: Outbox,
    ) {
        let (sender, receiver) = channel.split();
        tokio::join!(self.write(sender, queue), async {
            tokio::select! {
                () = self.read(receiver) => {}
                () = outbox.closed() => {}
            }
        });
    }

    async fn write(&self, mut sender: Sender<PeerMessage>, mut queue: mpsc::UnboundedReceiver<Item>) {
        while let Some(item) = queue.recv().await {
            let sent = match item {
                Item::Send(PeerMessage::Frame(frame), after) => self.send(&mut sender, frame, after).await,
                Item::Send(message, _) => sender.send(&message).await,
                Item::Work(_, work) => {
                    work();
                    self.thread.stay_awake();
                    Ok(())
                }
                Item::Passed(mark) => {
                    mark.pass();
                    Ok(())
                }
                Item::Close => break,
            };
            match sent {
                // The run is over at the other side, and what it says over the first lane tells why.
                Ok(()) | Err(LinkError::Ended { .. }) => {}
                Err(error) => self.owner.unwritable(error),
            }
        }
        sender.finish();
        sender.flushed().await;
    }

    async fn send(
        &self,
        sender: &mut Sender<PeerMessage>,
        mut frame: DataFrame,
        after: Causal,
    ) -> Result<(), LinkError> {
        self.thread.stay_awake();
        frame.depth = after.next().unwrap_or(after);
        self.owner.sends(&frame);
        sender.send_frame(frame, after).await
    }

    async fn read(&self, mut receiver: Receiver<PeerMessage>) {
        loop {
            let expected = |head: &DataHead| {
                let mine = head.part.lane(self.lanes) == self.number;
                mine.then(|| self.owner.expected(head)).flatten()
            };
            let received =
                receiver.recv_into(expected, |head, bytes| self.owner.payload_memory(head, bytes)).await;
            match received {
                Ok(message) if message.lane(self.lanes) == self.number => {
                    if matches!(message, PeerMessage::Frame(_)) {
                        self.thread.stay_awake();
                    }
                    self.owner.receives(message);
                }
                Ok(_) => {
                    let value = self.number as u64;
                    let error =
                        receiver.refuse(WireError::Unknown { field: "kind on a further lane", value });
                    return self.owner.unreadable(error);
                }
                // The end of a lane may overtake the other side's last words, which come over the first.
                Err(LinkError::Ended { .. }) if self.number > 0 => return,
                Err(error) => return self.owner.unreadable(error),
            }
        }
    }
}
