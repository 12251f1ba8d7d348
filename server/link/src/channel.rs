//! A channel: a bidirectional stream of one family of messages, over all lanes of a connection in turns.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use suf_wire::{
    Causal, DataFrame, Encoded, Hello, Message, PREFIX_BYTES, Payload, PeerMessage, Prefix, Role, VERSION,
    WireError,
};

use crate::error::{LinkError, code};
use crate::lanes::{Lanes, STRIPE_BYTES, Streams, StripePosition, mark};
use crate::meter::Meter;

/// Both halves. Messages arrive in the order they were sent; many may be under way.
#[derive(Debug)]
pub struct Channel<M: Message> {
    /// The sending half.
    pub sender: Sender<M>,
    /// The receiving half.
    pub receiver: Receiver<M>,
}

impl<M: Message> Channel<M> {
    /// One channel over all lanes in turns.
    pub(crate) fn opened(lanes: &Arc<Lanes>, streams: Vec<Streams>) -> Self {
        Self::new(lanes, streams.into_iter().map(|streams| (streams, None)), Meter::default())
    }

    pub(crate) fn accepted(lanes: &Arc<Lanes>, streams: Vec<Streams>) -> Self {
        let streams = (0..).zip(streams);
        Self::new(lanes, streams.map(|(lane, streams)| (streams, due_mark(lane))), Meter::default())
    }

    /// A channel on each lane.
    pub(crate) fn opened_each(lanes: &Arc<Lanes>, streams: Vec<Streams>) -> Vec<Self> {
        let meter = Meter::default();
        let alone = |streams| Self::new(lanes, [(streams, None)], meter.clone());
        streams.into_iter().map(alone).collect()
    }

    pub(crate) fn accepted_each(lanes: &Arc<Lanes>, streams: Vec<Streams>) -> Vec<Self> {
        let meter = Meter::default();
        let alone = |(lane, streams)| Self::new(lanes, [(streams, due_mark(lane))], meter.clone());
        (0..).zip(streams).map(alone).collect()
    }

    /// A channel over `streams`, each with the opener's first byte that is due on it.
    fn new(
        lanes: &Arc<Lanes>,
        streams: impl IntoIterator<Item = (Streams, Option<u8>)>,
        meter: Meter,
    ) -> Self {
        let (sending, receiving): (Vec<_>, Vec<_>) = streams
            .into_iter()
            .map(|((send, stream), mark)| (send, Incoming { stream, unread: Bytes::new(), mark }))
            .unzip();
        let sender = Sender {
            place: StripePosition::start(sending.len()),
            streams: sending.into(),
            lanes: Arc::clone(lanes),
            meter: meter.clone(),
            family: PhantomData,
        };
        let receiver = Receiver {
            place: StripePosition::start(receiving.len()),
            streams: receiving.into(),
            lanes: Arc::clone(lanes),
            meter,
            stage: Stage::Prefix,
            piece: Piece::Own(Vec::with_capacity(PREFIX_BYTES)),
        };
        Self { sender, receiver }
    }

    /// What counts this channel's frames, both ways.
    pub fn meter(&self) -> Meter {
        self.sender.meter.clone()
    }

    /// The two halves, for two tasks.
    pub fn split(self) -> (Sender<M>, Receiver<M>) {
        (self.sender, self.receiver)
    }
}

impl Channel<PeerMessage> {
    /// First on a channel between parties, on both sides. Says which party we are, and checks the other side's
    /// version and that its certificate agrees. Gives the other side's software.
    ///
    /// # Errors
    /// [`LinkError::Version`] for another version; [`LinkError::Role`] for another role.
    pub async fn greet(&mut self, own: Role, software: &str) -> Result<String, LinkError> {
        self.greet_as(VERSION, own, software).await
    }

    pub(crate) async fn greet_as(
        &mut self,
        version: u16,
        own: Role,
        software: &str,
    ) -> Result<String, LinkError> {
        let hello = Hello { version, role: own, software: software.to_owned() };
        self.sender.send(&PeerMessage::Hello(hello)).await?;
        let lanes = Arc::clone(&self.receiver.lanes);
        let remote = lanes.remote();
        let (wanted, name) = (remote.role, remote.to_string());
        match self.receiver.recv(|_| None).await? {
            PeerMessage::Hello(hello) if hello.version != version => Err(LinkError::Version { remote: name }),
            PeerMessage::Hello(hello) if Some(hello.role) != wanted => Err(LinkError::Role {
                remote: name,
                wanted: wanted.map_or_else(String::new, |role| role.to_string()),
                found: hello.role.to_string(),
            }),
            PeerMessage::Hello(hello) => Ok(hello.software),
            _ => Err(remote.bad_message(WireError::Unknown { field: "greeting", value: 0 })),
        }
    }
}

/// The opener's first byte on a lane, which tells that both sides mean the same one.
fn due_mark(lane: usize) -> Option<u8> {
    (lane > 0).then(|| mark(lane))
}

/// The sending half of a channel. Waits while the other side does not read.
#[derive(Debug)]
pub struct Sender<M> {
    streams: Box<[quinn::SendStream]>,
    place: StripePosition,
    lanes: Arc<Lanes>,
    meter: Meter,
    family: PhantomData<fn(M)>,
}

impl<M: Message> Sender<M> {
    /// Sends a message that is no data frame; its payload is not copied. Returns when the QUIC stack has taken it, which
    /// may be before it left. Dropped half way, the stream is broken: do not race it against something else.
    ///
    /// # Errors
    /// [`LinkError::Bug`] for a data frame or a message over its limits; else how the connection ended.
    pub async fn send(&mut self, message: &M) -> Result<(), LinkError> {
        if message.data().is_some() {
            return Err(LinkError::Bug("a data frame needs `send_frame`, which counts it".into()));
        }
        self.write(message).await
    }

    /// Says that nothing follows. The other side's next receive is [`LinkError::Ended`].
    pub fn finish(&mut self) {
        for stream in &mut self.streams {
            // An error says that the stream is closed already, which is what is wanted.
            let _ = stream.finish();
        }
    }

    /// Waits until the other side has acknowledged everything, `finish` included, or has gone.
    pub async fn flushed(&mut self) {
        for stream in &mut self.streams {
            // Either way nothing of ours is under way any more.
            let _ = stream.stopped().await;
        }
    }

    async fn write(&mut self, message: &M) -> Result<(), LinkError> {
        let Encoded { head, payload } =
            message.encode().map_err(|error| LinkError::Bug(error.to_string()))?;
        let mut pieces = Vec::with_capacity(2 + payload.len() / STRIPE_BYTES);
        for mut part in [head, payload] {
            while !part.is_empty() {
                let lane = self.place.lane();
                let piece = part.split_to(part.len().min(self.place.left()));
                self.place.advance(piece.len());
                pieces.push(piece);
                if self.place.lane() != lane {
                    self.write_pieces(lane, &mut pieces).await?;
                }
            }
        }
        self.write_pieces(self.place.lane(), &mut pieces).await
    }

    /// Hands `pieces` to QUIC, not copied, and leaves none.
    async fn write_pieces(&mut self, lane: usize, pieces: &mut Vec<Bytes>) -> Result<(), LinkError> {
        let written = self.streams[lane].write_all_chunks(pieces).await;
        pieces.clear();
        written.map_err(|error| self.lanes.remote().unwritable(error))
    }
}

impl Sender<PeerMessage> {
    /// Sends a data frame that depends on what was received up to `after`, and counts it. The frame's own `depth` is not
    /// looked at: it is one more than `after`.
    ///
    /// # Errors
    /// As [`Sender::send`]; [`LinkError::Bug`] past the last depth.
    pub async fn send_frame(&mut self, mut frame: DataFrame, after: Causal) -> Result<(), LinkError> {
        frame.depth = after.next().map_err(|error| LinkError::Bug(error.to_string()))?;
        self.meter.sent(&frame);
        self.write(&PeerMessage::Frame(frame)).await
    }
}

/// The receiving half of a channel.
#[derive(Debug)]
pub struct Receiver<M: Message> {
    streams: Box<[Incoming]>,
    place: StripePosition,
    lanes: Arc<Lanes>,
    meter: Meter,
    stage: Stage<M::Head>,
    /// The piece of the current message that is being filled.
    piece: Piece,
}

/// Memory that a payload can be received in.
pub trait PayloadMemory: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + 'static {}

impl<T: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + 'static> PayloadMemory for T {}

/// Bytes of a message, as far as they are here.
enum Piece {
    Own(Vec<u8>),
    Lent { memory: Box<dyn PayloadMemory>, filled: usize },
}

/// What comes over one lane.
#[derive(Debug)]
struct Incoming {
    stream: quinn::RecvStream,
    /// The opener's first byte, while it is due.
    mark: Option<u8>,
    /// Bytes that QUIC handed out and no message has taken yet.
    unread: Bytes,
}

/// Which piece of a message comes next.
#[derive(Debug)]
enum Stage<H> {
    Prefix,
    Body(Prefix),
    Head(Prefix),
    Payload { head: Option<H>, bytes: usize },
}

impl<M: Message> Receiver<M> {
    /// The next message. `expected` gives the bytes that a payload with this head must have by the agreed
    /// parameters, or `None` if no such payload is due. It is asked before memory is allocated. Use `|_| None` where
    /// only messages without a payload are due.
    ///
    /// May be dropped and called again without losing a byte.
    ///
    /// # Errors
    /// [`LinkError::Ended`] when the other side finished. [`LinkError::Message`] for bytes that are no message
    /// or not the one that is due; this also closes the connection. Else how the connection ended.
    pub async fn recv(&mut self, expected: impl FnMut(&M::Head) -> Option<usize>) -> Result<M, LinkError> {
        self.recv_into(expected, |_, _| None).await
    }

    /// As [`Receiver::recv`], a payload with this head and of so many bytes into memory that `lend` gives, if it gives some of that
    /// length.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub async fn recv_into(
        &mut self,
        mut expected: impl FnMut(&M::Head) -> Option<usize>,
        mut lend: impl FnMut(&M::Head, usize) -> Option<Box<dyn PayloadMemory>>,
    ) -> Result<M, LinkError> {
        loop {
            self.fill().await?;
            match self.advance(&mut expected, &mut lend) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    if let Some(frame) = message.data() {
                        self.meter.received(frame);
                    }
                    return Ok(message);
                }
                Err(error) => return Err(self.refuse(error)),
            }
        }
    }

    pub(crate) fn refuse(&self, error: WireError) -> LinkError {
        // Before the connection is closed, so that the reason is there when it is found closed.
        self.lanes.remote().refused.get_or_init(|| error.clone());
        self.lanes.close(code::MESSAGE, error.to_string().as_bytes());
        self.lanes.remote().bad_message(error)
    }

    /// Fills the current piece to its length.
    async fn fill(&mut self) -> Result<(), LinkError> {
        let length = self.stage.length::<M>();
        while self.piece.len() < length {
            let lane = self.place.lane();
            let incoming = &mut self.streams[lane];
            if incoming.unread.is_empty() {
                let chunk = incoming.stream.read_chunk(usize::MAX, true).await;
                match chunk.map_err(|error| self.lanes.remote().unreadable(error))? {
                    Some(chunk) => incoming.unread = chunk.bytes,
                    None if self.piece.len() == 0 && matches!(self.stage, Stage::Prefix) => {
                        return Err(self.lanes.remote().ended());
                    }
                    None => {
                        let left = self.piece.len();
                        let cut = WireError::Truncated { field: "stream", needed: length, left };
                        return Err(self.lanes.remote().bad_message(cut));
                    }
                }
            }
            if let Some(wanted) = incoming.mark.take() {
                let mark = incoming.unread.get_u8();
                if mark != wanted {
                    return Err(self.refuse(WireError::Unknown { field: "lane", value: mark.into() }));
                }
            }
            let take = incoming.unread.len().min(length - self.piece.len()).min(self.place.left());
            self.piece.extend(&incoming.unread.split_to(take));
            self.place.advance(take);
        }
        Ok(())
    }

    /// Decodes the piece that is full and goes to the next; gives the message after its last.
    fn advance(
        &mut self,
        expected: &mut impl FnMut(&M::Head) -> Option<usize>,
        lend: &mut impl FnMut(&M::Head, usize) -> Option<Box<dyn PayloadMemory>>,
    ) -> Result<Option<M>, WireError> {
        let piece = std::mem::replace(&mut self.piece, Piece::Own(Vec::new()));
        let (next, message) = match &mut self.stage {
            Stage::Prefix => {
                // `fill` filled the piece to this length.
                let bytes: [u8; PREFIX_BYTES] =
                    piece.bytes()[..PREFIX_BYTES].try_into().expect("a whole prefix");
                let prefix = Prefix::decode::<M>(bytes)?;
                match M::head_bytes(prefix.kind) {
                    Some(_) => (Stage::Head(prefix), None),
                    None => (Stage::Body(prefix), None),
                }
            }
            Stage::Body(prefix) => (Stage::Prefix, Some(M::decode_body(prefix.kind, piece.bytes())?)),
            Stage::Head(prefix) => {
                let head = M::decode_head(prefix.kind, piece.bytes())?;
                let bytes = prefix.body_bytes - piece.len();
                M::admit(&head, bytes, expected(&head))?;
                (Stage::Payload { head: Some(head), bytes }, None)
            }
            Stage::Payload { head, .. } => {
                let head = head.take().expect("a payload is joined once, then the stage changes");
                (Stage::Prefix, Some(M::join(head, piece.into())?))
            }
        };
        self.stage = next;
        let length = self.stage.length::<M>();
        let lent = match &self.stage {
            Stage::Payload { head: Some(head), .. } => {
                lend(head, length).filter(|memory| (**memory).as_ref().len() == length)
            }
            _ => None,
        };
        self.piece = match lent {
            Some(memory) => Piece::Lent { memory, filled: 0 },
            None => Piece::Own(Vec::with_capacity(length)),
        };
        Ok(message)
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Lent { filled, .. } => *filled,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Lent { memory, filled } => &(**memory).as_ref()[..*filled],
        }
    }

    /// Adds `more`, of which lent memory has room for all: a piece is not filled beyond its length.
    fn extend(&mut self, more: &[u8]) {
        match self {
            Self::Own(bytes) => bytes.extend_from_slice(more),
            Self::Lent { memory, filled } => {
                (**memory).as_mut()[*filled..*filled + more.len()].copy_from_slice(more);
                *filled += more.len();
            }
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl From<Piece> for Payload {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Own(bytes) => Self::Own(bytes),
            Piece::Lent { memory, .. } => Self::Lent(Bytes::from_owner(LentMemory(memory))),
        }
    }
}

struct LentMemory(Box<dyn PayloadMemory>);

impl AsRef<[u8]> for LentMemory {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl<H> Stage<H> {
    /// Bytes of the piece: each was compared with its limit when the stage was entered.
    fn length<M: Message>(&self) -> usize {
        match self {
            Self::Prefix => PREFIX_BYTES,
            Self::Body(prefix) => prefix.body_bytes,
            Self::Head(prefix) => M::head_bytes(prefix.kind).unwrap_or(0),
            Self::Payload { bytes, .. } => *bytes,
        }
    }
}
