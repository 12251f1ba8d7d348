//! Messages between the two parties.

use std::fmt;

use bytes::Bytes;

use crate::codec::{Cursor, Decode, Encode, WireError, counted, put_blob, put_text};
use crate::frame::{Encoded, Message, Payload, admit_length, encode_head};
use crate::id::{BatchId, Causal, Digest, Fault, Reason, Role, RunId};
use crate::limits::{
    MAX_CHUNKS, MAX_DATA_BYTES, MAX_DEADLINE_MS, MAX_ELEMS, MAX_GATE_BYTES, MAX_REASON_BYTES, MAX_SEGMENTS,
    MAX_SOFTWARE_BYTES,
};

/// First on every peer stream, both ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`crate::VERSION`] of the sender. Another version is not an error of decoding: the receiver compares.
    pub version: u16,
    /// What the sender's certificate says, once more.
    pub role: Role,
    /// Name and version of the program, at most [`MAX_SOFTWARE_BYTES`] bytes.
    pub software: String,
}

/// Asks the other party for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Propose {
    /// Drawn by the proposer.
    pub run: RunId,
    /// The keys to be consumed.
    pub batch: BatchId,
    /// BLAKE3 of `gate`.
    pub digest: Digest,
    /// Canonical description of the gate, at most [`MAX_GATE_BYTES`] bytes.
    pub gate: Bytes,
    /// Elements of the tensor, 1 to [`MAX_ELEMS`].
    pub elems: u64,
    /// Milliseconds from acceptance to the end, at most [`MAX_DEADLINE_MS`].
    pub deadline_ms: u32,
}

/// Agrees to a run, repeating what is agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// As proposed.
    pub run: RunId,
    /// As the accepter computes it from the gate description.
    pub digest: Digest,
    /// As proposed.
    pub batch: BatchId,
    /// As proposed.
    pub elems: u64,
}

/// One party's part of one exchange, for one chunk.
#[derive(Clone, PartialEq, Eq)]
pub struct DataFrame {
    /// Which exchange of the gate, counted from 0; 255 is the opening of x_hat.
    pub step: u8,
    /// Causal depth, at least 1; the link sets it.
    pub depth: Causal,
    /// Which chunk of the batch.
    pub chunk: u32,
    /// Payload bits without padding: what is counted.
    pub bits: u64,
    /// The segments, see [`crate::Segments`].
    pub payload: Bytes,
}

impl DataFrame {
    /// The step of the opening of x_hat, which precedes the gate and is not counted as its exchange.
    pub const OPEN: u8 = u8::MAX;

    /// A frame that waits for its causal depth.
    pub fn new(step: u8, chunk: u32, bits: u64, payload: Bytes) -> Self {
        Self { step, depth: Causal::START, chunk, bits, payload }
    }

    /// The lane, of so many, that frames of `chunk` go over.
    pub fn lane(chunk: u32, lanes: usize) -> usize {
        chunk as usize % lanes
    }
}

/// Values of masked wires are public to both parties, yet nothing is gained by printing them.
impl fmt::Debug for DataFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataFrame")
            .field("step", &self.step)
            .field("depth", &self.depth.depth())
            .field("chunk", &self.chunk)
            .field("bits", &self.bits)
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

/// The fixed part of a [`DataFrame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHead {
    /// See [`DataFrame::step`].
    pub step: u8,
    /// See [`DataFrame::depth`].
    pub depth: Causal,
    /// See [`DataFrame::chunk`].
    pub chunk: u32,
    /// See [`DataFrame::bits`].
    pub bits: u64,
}

impl DataHead {
    const BYTES: usize = 14;

    /// Padding is below one byte for each segment; more is a payload whose bits were not all counted.
    fn check_bits(&self, payload_bytes: usize) -> Result<(), WireError> {
        let least = self.bits.div_ceil(8);
        let most = (self.bits / 8).saturating_add(MAX_SEGMENTS as u64);
        if self.bits > 0 && (least..=most).contains(&(payload_bytes as u64)) {
            Ok(())
        } else {
            Err(WireError::OutOfRange { field: "bits", value: self.bits, limit: payload_bytes as u64 * 8 })
        }
    }
}

impl Encode for DataHead {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.push(self.step);
        self.depth.encode(out)?;
        out.extend_from_slice(&chunk_index(self.chunk)?.to_le_bytes());
        out.extend_from_slice(&self.bits.to_le_bytes());
        Ok(())
    }
}

impl Decode for DataHead {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            step: cursor.u8("step")?,
            depth: Causal::decode(cursor)?,
            chunk: chunk_index(cursor.u32("chunk")?)?,
            bits: cursor.u64("bits")?,
        })
    }
}

/// What one party measured; the two must agree, and agree with the gate's declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The run that ended.
    pub run: RunId,
    /// Causal depth.
    pub rounds: u8,
    /// Payload bits sent.
    pub bits_sent: u64,
    /// Payload bits received.
    pub bits_received: u64,
    /// See [`crate::Transcript`].
    pub transcript: [u8; 32],
}

/// All that travels on a stream between the parties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// First, both ways.
    Hello(Hello),
    /// Asks for a run.
    Propose(Propose),
    /// Agrees to it.
    Accept(Accept),
    /// Declines it; nothing was consumed.
    Refuse {
        /// As proposed.
        run: RunId,
        /// Whose fault, seen from the sender.
        fault: Fault,
        /// Why.
        reason: Reason,
    },
    /// Keys are loaded; the first exchange may begin.
    Ready {
        /// The run.
        run: RunId,
        /// See [`crate::CommonParts`].
        common: [u8; 32],
    },
    /// One party's part of one exchange.
    Frame(DataFrame),
    /// The last exchange is over.
    Finished(Finished),
    /// The run ends badly; its batch is burnt.
    Abort {
        /// The run.
        run: RunId,
        /// Whose fault, seen from the sender.
        fault: Fault,
        /// Why.
        reason: Reason,
    },
}

mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const PROPOSE: u8 = 0x02;
    pub(super) const ACCEPT: u8 = 0x03;
    pub(super) const REFUSE: u8 = 0x04;
    pub(super) const READY: u8 = 0x05;
    pub(super) const FRAME: u8 = 0x06;
    pub(super) const FINISHED: u8 = 0x07;
    pub(super) const ABORT: u8 = 0x08;
}

impl Message for PeerMessage {
    type Head = DataHead;

    fn encode(&self) -> Result<Encoded, WireError> {
        if let Self::Frame(frame) = self {
            let DataFrame { step, depth, chunk, bits, ref payload } = *frame;
            if payload.len() > MAX_DATA_BYTES {
                let (value, limit) = (payload.len() as u64, MAX_DATA_BYTES as u64);
                return Err(WireError::OutOfRange { field: "payload", value, limit });
            }
            let head = DataHead { step, depth, chunk, bits };
            head.check_bits(payload.len())?;
            let head = encode_head(kind::FRAME, payload.len(), |out| head.encode(out))?;
            return Ok(Encoded { head, payload: payload.clone() });
        }
        let head = encode_head(self.kind(), 0, |out| self.encode_body(out))?;
        Ok(Encoded { head, payload: Bytes::new() })
    }

    fn body_bytes(kind: u8) -> Result<(usize, usize), WireError> {
        Ok(match kind {
            kind::HELLO => (5, 5 + MAX_SOFTWARE_BYTES),
            kind::PROPOSE => (80, 80 + MAX_GATE_BYTES),
            kind::ACCEPT => (72, 72),
            kind::REFUSE | kind::ABORT => (19, 19 + MAX_REASON_BYTES),
            kind::READY => (48, 48),
            kind::FRAME => (DataHead::BYTES + 1, DataHead::BYTES + MAX_DATA_BYTES),
            kind::FINISHED => (65, 65),
            value => return Err(WireError::Unknown { field: "kind", value: value.into() }),
        })
    }

    fn head_bytes(kind: u8) -> Option<usize> {
        (kind == kind::FRAME).then_some(DataHead::BYTES)
    }

    fn decode_body(kind: u8, body: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(body);
        let cursor_ref = &mut cursor;
        let message = match kind {
            kind::HELLO => Self::Hello(Hello::decode(cursor_ref)?),
            kind::PROPOSE => Self::Propose(Propose::decode(cursor_ref)?),
            kind::ACCEPT => Self::Accept(Accept::decode(cursor_ref)?),
            kind::REFUSE => {
                let (run, fault, reason) = ending(cursor_ref)?;
                Self::Refuse { run, fault, reason }
            }
            kind::READY => {
                Self::Ready { run: RunId::decode(cursor_ref)?, common: cursor_ref.array("common")? }
            }
            kind::FINISHED => Self::Finished(Finished::decode(cursor_ref)?),
            kind::ABORT => {
                let (run, fault, reason) = ending(cursor_ref)?;
                Self::Abort { run, fault, reason }
            }
            value => return Err(WireError::Unknown { field: "kind", value: value.into() }),
        };
        cursor.finish("body")?;
        Ok(message)
    }

    fn decode_head(_kind: u8, head: &[u8]) -> Result<DataHead, WireError> {
        let mut cursor = Cursor::new(head);
        let head = DataHead::decode(&mut cursor)?;
        cursor.finish("head")?;
        Ok(head)
    }

    fn admit(head: &DataHead, announced: usize, expected: Option<usize>) -> Result<(), WireError> {
        admit_length("data frame", head.step, head.chunk, announced, expected)?;
        head.check_bits(announced)
    }

    fn join(head: DataHead, payload: Payload) -> Result<Self, WireError> {
        let DataHead { step, depth, chunk, bits } = head;
        let payload = match payload {
            Payload::Own(bytes) => bytes.into(),
            Payload::Lent(bytes) => bytes,
        };
        Ok(Self::Frame(DataFrame { step, depth, chunk, bits, payload }))
    }

    fn data(&self) -> Option<&DataFrame> {
        if let Self::Frame(frame) = self { Some(frame) } else { None }
    }
}

impl PeerMessage {
    /// The lane, of so many, that the message goes over: a chunk's frames share one, on which they keep their order; all else
    /// goes over the first.
    pub fn lane(&self, lanes: usize) -> usize {
        self.data().map_or(0, |frame| DataFrame::lane(frame.chunk, lanes))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Propose(_) => kind::PROPOSE,
            Self::Accept(_) => kind::ACCEPT,
            Self::Refuse { .. } => kind::REFUSE,
            Self::Ready { .. } => kind::READY,
            Self::Frame(_) => kind::FRAME,
            Self::Finished(_) => kind::FINISHED,
            Self::Abort { .. } => kind::ABORT,
        }
    }

    /// The message's name, for errors and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Propose(_) => "Propose",
            Self::Accept(_) => "Accept",
            Self::Refuse { .. } => "Refuse",
            Self::Ready { .. } => "Ready",
            Self::Frame(_) => "Frame",
            Self::Finished(_) => "Finished",
            Self::Abort { .. } => "Abort",
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Self::Hello(hello) => hello.encode(out),
            Self::Propose(propose) => propose.encode(out),
            Self::Accept(accept) => accept.encode(out),
            Self::Refuse { run, fault, reason } | Self::Abort { run, fault, reason } => {
                run.encode(out)?;
                fault.encode(out)?;
                reason.encode(out)
            }
            Self::Ready { run, common } => {
                run.encode(out)?;
                out.extend_from_slice(common);
                Ok(())
            }
            Self::Finished(finished) => finished.encode(out),
            Self::Frame(_) => unreachable!("`Message::encode` handles frames itself"),
        }
    }
}

impl Encode for Hello {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.extend_from_slice(&self.version.to_le_bytes());
        self.role.encode(out)?;
        put_text(out, "software", &self.software, MAX_SOFTWARE_BYTES)
    }
}

impl Decode for Hello {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            version: cursor.u16("version")?,
            role: Role::decode(cursor)?,
            software: cursor.text("software", MAX_SOFTWARE_BYTES)?,
        })
    }
}

impl Encode for Propose {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.run.encode(out)?;
        self.batch.encode(out)?;
        self.digest.encode(out)?;
        out.extend_from_slice(&counted("elems", self.elems, MAX_ELEMS)?.to_le_bytes());
        let deadline_ms = counted("deadline_ms", self.deadline_ms, MAX_DEADLINE_MS.into())?;
        out.extend_from_slice(&deadline_ms.to_le_bytes());
        put_blob(out, "gate", &self.gate, MAX_GATE_BYTES)
    }
}

impl Decode for Propose {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            run: RunId::decode(cursor)?,
            batch: BatchId::decode(cursor)?,
            digest: Digest::decode(cursor)?,
            elems: counted("elems", cursor.u64("elems")?, MAX_ELEMS)?,
            deadline_ms: counted("deadline_ms", cursor.u32("deadline_ms")?, MAX_DEADLINE_MS.into())?,
            gate: Bytes::copy_from_slice(cursor.blob("gate", MAX_GATE_BYTES)?),
        })
    }
}

impl Encode for Accept {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.run.encode(out)?;
        self.digest.encode(out)?;
        self.batch.encode(out)?;
        out.extend_from_slice(&counted("elems", self.elems, MAX_ELEMS)?.to_le_bytes());
        Ok(())
    }
}

impl Decode for Accept {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            run: RunId::decode(cursor)?,
            digest: Digest::decode(cursor)?,
            batch: BatchId::decode(cursor)?,
            elems: counted("elems", cursor.u64("elems")?, MAX_ELEMS)?,
        })
    }
}

impl Encode for Finished {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.run.encode(out)?;
        out.push(self.rounds);
        out.extend_from_slice(&self.bits_sent.to_le_bytes());
        out.extend_from_slice(&self.bits_received.to_le_bytes());
        out.extend_from_slice(&self.transcript);
        Ok(())
    }
}

impl Decode for Finished {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            run: RunId::decode(cursor)?,
            rounds: cursor.u8("rounds")?,
            bits_sent: cursor.u64("bits_sent")?,
            bits_received: cursor.u64("bits_received")?,
            transcript: cursor.array("transcript")?,
        })
    }
}

fn ending(cursor: &mut Cursor<'_>) -> Result<(RunId, Fault, Reason), WireError> {
    Ok((RunId::decode(cursor)?, Fault::decode(cursor)?, Reason::decode(cursor)?))
}

/// A chunk index is below the number of chunks of the largest batch.
pub(crate) fn chunk_index(index: u32) -> Result<u32, WireError> {
    if index < MAX_CHUNKS {
        Ok(index)
    } else {
        Err(WireError::OutOfRange { field: "chunk", value: index.into(), limit: u64::from(MAX_CHUNKS) - 1 })
    }
}
