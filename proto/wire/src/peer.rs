//! Messages between the two parties.

use bytes::Bytes;

use crate::codec::{Cursor, Decode, Encode, WireError, at_most, below, counted, put_blob, put_text};
use crate::data::{DataFrame, DataHead};
use crate::frame::{Encoded, Message, Payload, admit_length, encode_head};
use crate::id::{BatchId, Digest, Fault, LoadName, Reason, Role, RunId};
use crate::limits::{
    MAX_DATA_BYTES, MAX_DEADLINE_MS, MAX_NODES, MAX_PROGRAM_BYTES, MAX_REASON_BYTES, MAX_SOFTWARE_BYTES,
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
    /// BLAKE3 of `program`.
    pub digest: Digest,
    /// The load that the run makes, or whose matrices it takes.
    pub load: Option<LoadName>,
    /// The canonical program, at most [`MAX_PROGRAM_BYTES`] bytes.
    pub program: Bytes,
    /// Milliseconds from acceptance to the end, at most [`MAX_DEADLINE_MS`].
    pub deadline_ms: u32,
}

/// Agrees to a run, repeating what is agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// As proposed.
    pub run: RunId,
    /// As the accepter computes it from the program.
    pub digest: Digest,
    /// As proposed.
    pub batch: BatchId,
}

/// What one party measured; the two must agree, and agree with the program's declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The run that ended.
    pub run: RunId,
    /// Causal depth.
    pub rounds: u16,
    /// Payload bits sent after the inputs were open.
    pub bits_sent: u64,
    /// Payload bits received likewise.
    pub bits_received: u64,
    /// See [`crate::Transcript`].
    pub transcript: [u8; 32],
}

/// All that travels on a stream between the parties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// First, both ways.
    Hello(Hello),
    /// The run waits for its turn at party 0; it is proposed later.
    Queued {
        /// The run.
        run: RunId,
        /// Runs that are before it.
        ahead: u16,
    },
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
    /// The keys of a segment are in place; its exchanges may begin.
    Ready {
        /// The run.
        run: RunId,
        /// Which segment; they are said in order.
        segment: u16,
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
    pub(super) const QUEUED: u8 = 0x09;
}

impl Message for PeerMessage {
    type Head = DataHead;

    fn encode(&self) -> Result<Encoded, WireError> {
        if let Self::Frame(frame) = self {
            let DataFrame { part, step, depth, bits, ref payload } = *frame;
            at_most("payload", payload.len(), MAX_DATA_BYTES)?;
            let head = DataHead { part, step, depth, bits };
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
            kind::PROPOSE => (120, 120 + MAX_PROGRAM_BYTES),
            kind::ACCEPT => (64, 64),
            kind::REFUSE | kind::ABORT => (19, 19 + MAX_REASON_BYTES),
            kind::READY => (50, 50),
            kind::FRAME => (DataHead::BYTES + 1, DataHead::BYTES + MAX_DATA_BYTES),
            kind::FINISHED => (66, 66),
            kind::QUEUED => (18, 18),
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
            kind::READY => Self::Ready {
                run: RunId::decode(cursor_ref)?,
                segment: below("segment", cursor_ref.u16("segment")?, MAX_NODES as u64)?,
                common: cursor_ref.array("common")?,
            },
            kind::FINISHED => Self::Finished(Finished::decode(cursor_ref)?),
            kind::ABORT => {
                let (run, fault, reason) = ending(cursor_ref)?;
                Self::Abort { run, fault, reason }
            }
            kind::QUEUED => Self::Queued { run: RunId::decode(cursor_ref)?, ahead: cursor_ref.u16("ahead")? },
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
        admit_length("data frame", head.part, head.step, announced, expected)?;
        head.check_bits(announced)
    }

    fn join(head: DataHead, payload: Payload) -> Result<Self, WireError> {
        let DataHead { part, step, depth, bits } = head;
        let payload = match payload {
            Payload::Own(bytes) => bytes.into(),
            Payload::Lent(bytes) => bytes,
        };
        Ok(Self::Frame(DataFrame { part, step, depth, bits, payload }))
    }

    fn data(&self) -> Option<&DataFrame> {
        if let Self::Frame(frame) = self { Some(frame) } else { None }
    }
}

impl PeerMessage {
    /// The lane, of so many, that the message goes over: a frame's is its part's, all else goes over the first.
    pub fn lane(&self, lanes: usize) -> usize {
        self.data().map_or(0, |frame| frame.part.lane(lanes))
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
            Self::Queued { .. } => kind::QUEUED,
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
            Self::Queued { .. } => "Queued",
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
            Self::Ready { run, segment, common } => {
                run.encode(out)?;
                out.extend_from_slice(&below("segment", *segment, MAX_NODES as u64)?.to_le_bytes());
                out.extend_from_slice(common);
                Ok(())
            }
            Self::Finished(finished) => finished.encode(out),
            Self::Queued { run, ahead } => {
                run.encode(out)?;
                out.extend_from_slice(&ahead.to_le_bytes());
                Ok(())
            }
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
        LoadName::encode_or_zeros(self.load, out)?;
        let deadline_ms = counted("deadline_ms", self.deadline_ms, MAX_DEADLINE_MS.into())?;
        out.extend_from_slice(&deadline_ms.to_le_bytes());
        put_blob(out, "program", &self.program, MAX_PROGRAM_BYTES)
    }
}

impl Decode for Propose {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            run: RunId::decode(cursor)?,
            batch: BatchId::decode(cursor)?,
            digest: Digest::decode(cursor)?,
            load: LoadName::decode_or_zeros(cursor)?,
            deadline_ms: counted("deadline_ms", cursor.u32("deadline_ms")?, MAX_DEADLINE_MS.into())?,
            program: Bytes::copy_from_slice(cursor.blob("program", MAX_PROGRAM_BYTES)?),
        })
    }
}

impl Encode for Accept {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.run.encode(out)?;
        self.digest.encode(out)?;
        self.batch.encode(out)
    }
}

impl Decode for Accept {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            run: RunId::decode(cursor)?,
            digest: Digest::decode(cursor)?,
            batch: BatchId::decode(cursor)?,
        })
    }
}

impl Encode for Finished {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.run.encode(out)?;
        out.extend_from_slice(&self.rounds.to_le_bytes());
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
            rounds: cursor.u16("rounds")?,
            bits_sent: cursor.u64("bits_sent")?,
            bits_received: cursor.u64("bits_received")?,
            transcript: cursor.array("transcript")?,
        })
    }
}

fn ending(cursor: &mut Cursor<'_>) -> Result<(RunId, Fault, Reason), WireError> {
    Ok((RunId::decode(cursor)?, Fault::decode(cursor)?, Reason::decode(cursor)?))
}
