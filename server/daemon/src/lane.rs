//! A lane of a run: what is sent and what is received over it, on the lane's own thread.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Instant,
};

use suf_gate::secret::SecretMemory;
use suf_link::{Channel, LaneThread, LinkError, Meter, Receiver, Room, Sender};
use suf_party::{Event, Failure};
use suf_wire::{DataFrame, DataHead, Fault, PeerMessage};
use tokio::sync::mpsc;

use crate::{
    active::{ActiveRun, Outgoing},
    arrivals::Arrivals,
    captured,
    hashing::Hashing,
};

/// What the lanes of a run share.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) transcript: Hashing,
    pub(crate) meter: Meter,
    /// How the peer's halves of the input came.
    pub(crate) opening: Mutex<Arrivals>,
    /// Lanes that have not heard yet that it is time to measure.
    pub(crate) to_measure: AtomicUsize,
}

/// One lane of a run.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) run: Arc<ActiveRun>,
    pub(crate) shared: Arc<Served>,
    pub(crate) number: usize,
    /// How many there are.
    pub(crate) lanes: usize,
    pub(crate) thread: LaneThread,
}

impl Lane {
    /// Moves the lane's messages until the run is over.
    pub(crate) async fn serve(
        self,
        channel: Channel<PeerMessage>,
        outgoing: mpsc::UnboundedReceiver<Outgoing>,
    ) {
        let (sender, receiver) = channel.split();
        tokio::join!(self.write(sender, outgoing), async {
            tokio::select! {
                () = self.read(receiver) => {}
                () = self.run.over().cancelled() => {}
            }
        });
    }

    async fn write(&self, mut sender: Sender<PeerMessage>, mut outgoing: mpsc::UnboundedReceiver<Outgoing>) {
        let plan = self.run.plan();
        while let Some(next) = outgoing.recv().await {
            let sent = match next {
                Outgoing::Send(PeerMessage::Frame(mut frame), after) => {
                    self.thread.stay_awake();
                    frame.depth = after.next().unwrap_or(after);
                    self.shared.transcript.absorb(plan.me, &frame);
                    captured::sent(plan, &frame);
                    sender.send_frame(frame, after).await
                }
                Outgoing::Send(message, _) => sender.send(&message).await,
                Outgoing::Compute(work) => {
                    self.run.carry_work_out(work, self.run.host().backend());
                    self.thread.stay_awake();
                    Ok(())
                }
                Outgoing::Measure => {
                    if self.shared.to_measure.fetch_sub(1, Ordering::AcqRel) == 1 {
                        self.run.measured(&self.shared).await;
                    }
                    Ok(())
                }
                Outgoing::Close => break,
            };
            match sent {
                // Its run is over, and the end of what it says over the first lane tells why.
                Ok(()) | Err(LinkError::Ended { .. }) => {}
                Err(error) => self.run.feed(failed(&error)),
            }
        }
        sender.finish();
        sender.flushed().await;
    }

    async fn read(&self, mut receiver: Receiver<PeerMessage>) {
        // Of the frame that is being received.
        let step = AtomicU8::new(DataFrame::OPEN);
        loop {
            let expected = |head: &DataHead| {
                step.store(head.step, Ordering::Relaxed);
                let mine = DataFrame::lane(head.chunk, self.lanes) == self.number;
                mine.then(|| self.run.expected_frame(head.step, head.chunk)).flatten()
            };
            let lend = |bytes| {
                let exchange = step.load(Ordering::Relaxed) != DataFrame::OPEN;
                exchange.then(|| self.room(bytes)).flatten()
            };
            let received = receiver.recv_into(expected, lend).await;
            match received {
                Ok(PeerMessage::Frame(frame)) => {
                    self.thread.stay_awake();
                    self.take_in(&frame);
                    self.run.feed(Event::Peer(PeerMessage::Frame(frame)));
                }
                Ok(message) if self.number == 0 => self.run.feed(Event::Peer(message)),
                Ok(message) => {
                    let reason =
                        format!("{} over lane {}, which carries frames", message.name(), self.number);
                    self.run.feed(Event::Failed(Failure::new(Fault::Peer, reason)));
                }
                // The end of a lane may overtake the peer's last words, which come over the first.
                Err(LinkError::Ended { .. }) if self.number > 0 => return,
                Err(error) => {
                    if self.run.awaits_peer() {
                        self.run.feed(failed(&error));
                    }
                    return;
                }
            }
        }
    }

    fn take_in(&self, frame: &DataFrame) {
        if frame.step == DataFrame::OPEN {
            let mut opening = self.shared.opening.lock().expect("no holder panics");
            opening.add(frame.payload.len(), Instant::now());
            self.run.host().peer().measure(&opening);
        }
        self.shared.transcript.absorb(self.run.plan().me.other(), frame);
    }

    /// Memory from which the backend takes an exchange's message without copying it.
    fn room(&self, bytes: usize) -> Option<Box<dyn Room>> {
        Some(Box::new(BackendRoom(self.run.host().backend().message_room(bytes)?)))
    }
}

fn failed(error: &LinkError) -> Event {
    Event::Failed(Failure::new(error.fault(), error.to_string()))
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
