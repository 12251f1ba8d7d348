//! Messages between the dealer and one party.

use std::fmt;

use bytes::Bytes;

use crate::codec::{Cursor, Decode, Encode, WireError, at_most, below, put_blob};
use crate::frame::{Encoded, Message, Payload, admit_length, encode_head};
use crate::id::{BatchId, Digest, Fault, Party, Reason};
use crate::limits::{MAX_KEY_PART_BYTES, MAX_PARTS, MAX_PROGRAM_BYTES, MAX_REASON_BYTES};
use crate::part::{NodeId, Part, check_tile};
use crate::secret::{Seed, wiped};
use crate::tag::Tag;

/// A party asks for a batch. The dealer makes it only when both parties ask for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// The batch that both parties agreed on.
    pub batch: BatchId,
    /// BLAKE3 of `program`.
    pub digest: Digest,
    /// Which party asks; the dealer compares it with the certificate.
    pub party: Party,
    /// The batch of the load whose matrices the program takes.
    pub load_batch: Option<BatchId>,
    /// The canonical program, at most [`MAX_PROGRAM_BYTES`] bytes.
    pub program: Bytes,
}

/// Before the first key: what follows, and the party's seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// As asked.
    pub batch: BatchId,
    /// As the dealer computes it from the program.
    pub digest: Digest,
    /// Keys to follow: one for each part that has one, at most [`MAX_PARTS`].
    pub parts: u32,
    /// From which this party expands its shares.
    pub seed: Seed,
}

/// The explicit key bytes of one part for one party; none where the party's seed gives all.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPart {
    /// Which part of the program.
    pub part: Part,
    /// [`Tag::of`] the bytes.
    pub tag: Tag,
    /// The key: its length follows from the program and the part.
    pub bytes: Bytes,
}

impl KeyPart {
    /// A key with its tag.
    pub fn new(batch: BatchId, party: Party, part: Part, bytes: Bytes) -> Self {
        Self { part, tag: Tag::of(batch, party, part, &bytes), bytes }
    }

    /// Whether the bytes are those that were tagged for this batch, party and place.
    pub fn is_intact(&self, batch: BatchId, party: Party) -> bool {
        self.tag == Tag::of(batch, party, self.part, &self.bytes)
    }
}

/// Never the key.
impl fmt::Debug for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Part { node, tile } = self.part;
        f.debug_struct("KeyPart")
            .field("node", &node.0)
            .field("tile", &tile)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// The fixed part of a [`KeyPart`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPartHead {
    /// See [`KeyPart::part`].
    pub part: Part,
    /// See [`KeyPart::tag`].
    pub tag: Tag,
}

impl KeyPartHead {
    /// Bytes between the prefix and the key.
    pub const BYTES: usize = 22;
}

/// All that travels on a stream between the dealer and a party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DealerMessage {
    /// Party to dealer.
    Request(KeyRequest),
    /// Dealer to party: no keys were made.
    Refuse {
        /// As asked.
        batch: BatchId,
        /// Whose fault, seen from the sender.
        fault: Fault,
        /// Why.
        reason: Reason,
    },
    /// Dealer to party, before the keys.
    Header(Header),
    /// Dealer to party.
    Key(KeyPart),
    /// Dealer to party, after the last key; also the answer to [`DealerMessage::Forget`].
    End {
        /// The batch.
        batch: BatchId,
    },
    /// Party to dealer: all keys arrived intact.
    Stored {
        /// The batch.
        batch: BatchId,
    },
    /// Party to dealer, on a channel of its own: a load was dropped.
    Forget {
        /// Its batch. None: the party has started, and has no load that the dealer knows of.
        batch: Option<BatchId>,
    },
    /// Either way: the batch is burnt.
    Abort {
        /// The batch.
        batch: BatchId,
        /// Whose fault, seen from the sender.
        fault: Fault,
        /// Why.
        reason: Reason,
    },
}

mod kind {
    pub(super) const REQUEST: u8 = 0x41;
    pub(super) const REFUSE: u8 = 0x42;
    pub(super) const HEADER: u8 = 0x43;
    pub(super) const KEY: u8 = 0x44;
    pub(super) const END: u8 = 0x45;
    pub(super) const STORED: u8 = 0x46;
    pub(super) const ABORT: u8 = 0x47;
    pub(super) const FORGET: u8 = 0x48;
}

impl Message for DealerMessage {
    type Head = KeyPartHead;

    fn encode(&self) -> Result<Encoded, WireError> {
        if let Self::Key(KeyPart { part, tag, bytes }) = self {
            at_most("key", bytes.len(), MAX_KEY_PART_BYTES)?;
            let head = KeyPartHead { part: *part, tag: *tag };
            let head = encode_head(kind::KEY, bytes.len(), |out| head.encode(out))?;
            return Ok(Encoded { head, payload: bytes.clone() });
        }
        let head = encode_head(self.kind(), 0, |out| self.encode_body(out))?;
        Ok(Encoded { head, payload: Bytes::new() })
    }

    fn body_bytes(kind: u8) -> Result<(usize, usize), WireError> {
        Ok(match kind {
            kind::REQUEST => (69, 69 + MAX_PROGRAM_BYTES),
            kind::REFUSE | kind::ABORT => (19, 19 + MAX_REASON_BYTES),
            kind::HEADER => (Header::BYTES, Header::BYTES),
            kind::KEY => (KeyPartHead::BYTES, KeyPartHead::BYTES + MAX_KEY_PART_BYTES),
            kind::END | kind::STORED | kind::FORGET => (16, 16),
            value => return Err(WireError::Unknown { field: "kind", value: value.into() }),
        })
    }

    fn head_bytes(kind: u8) -> Option<usize> {
        (kind == kind::KEY).then_some(KeyPartHead::BYTES)
    }

    fn decode_body(kind: u8, body: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(body);
        let cursor_ref = &mut cursor;
        let message = match kind {
            kind::REQUEST => Self::Request(KeyRequest::decode(cursor_ref)?),
            kind::REFUSE => {
                let (batch, fault, reason) = ending(cursor_ref)?;
                Self::Refuse { batch, fault, reason }
            }
            kind::HEADER => Self::Header(Header::decode(cursor_ref)?),
            kind::END => Self::End { batch: BatchId::decode(cursor_ref)? },
            kind::STORED => Self::Stored { batch: BatchId::decode(cursor_ref)? },
            kind::FORGET => Self::Forget { batch: BatchId::decode_or_zeros(cursor_ref)? },
            kind::ABORT => {
                let (batch, fault, reason) = ending(cursor_ref)?;
                Self::Abort { batch, fault, reason }
            }
            value => return Err(WireError::Unknown { field: "kind", value: value.into() }),
        };
        cursor.finish("body")?;
        Ok(message)
    }

    fn decode_head(_kind: u8, head: &[u8]) -> Result<KeyPartHead, WireError> {
        let mut cursor = Cursor::new(head);
        let head = KeyPartHead::decode(&mut cursor)?;
        cursor.finish("head")?;
        Ok(head)
    }

    fn admit(head: &KeyPartHead, announced: usize, expected: Option<usize>) -> Result<(), WireError> {
        admit_length("key", head.part, 0, announced, expected)
    }

    fn join(head: KeyPartHead, payload: Payload) -> Result<Self, WireError> {
        let KeyPartHead { part, tag } = head;
        let bytes = match payload {
            Payload::Own(bytes) => wiped(bytes),
            Payload::Lent(bytes) => bytes,
        };
        Ok(Self::Key(KeyPart { part, tag, bytes }))
    }
}

impl DealerMessage {
    fn kind(&self) -> u8 {
        match self {
            Self::Request(_) => kind::REQUEST,
            Self::Refuse { .. } => kind::REFUSE,
            Self::Header(_) => kind::HEADER,
            Self::Key(_) => kind::KEY,
            Self::End { .. } => kind::END,
            Self::Stored { .. } => kind::STORED,
            Self::Abort { .. } => kind::ABORT,
            Self::Forget { .. } => kind::FORGET,
        }
    }

    /// The message's name, for errors and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => "Request",
            Self::Refuse { .. } => "Refuse",
            Self::Header(_) => "Header",
            Self::Key(_) => "Key",
            Self::End { .. } => "End",
            Self::Stored { .. } => "Stored",
            Self::Abort { .. } => "Abort",
            Self::Forget { .. } => "Forget",
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Self::Request(request) => request.encode(out),
            Self::Refuse { batch, fault, reason } | Self::Abort { batch, fault, reason } => {
                batch.encode(out)?;
                fault.encode(out)?;
                reason.encode(out)
            }
            Self::Header(header) => header.encode(out),
            Self::End { batch } | Self::Stored { batch } => batch.encode(out),
            Self::Forget { batch } => BatchId::encode_or_zeros(*batch, out),
            Self::Key(_) => unreachable!("`Message::encode` handles keys itself"),
        }
    }
}

impl Encode for KeyRequest {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.batch.encode(out)?;
        self.digest.encode(out)?;
        self.party.encode(out)?;
        BatchId::encode_or_zeros(self.load_batch, out)?;
        put_blob(out, "program", &self.program, MAX_PROGRAM_BYTES)
    }
}

impl Decode for KeyRequest {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            batch: BatchId::decode(cursor)?,
            digest: Digest::decode(cursor)?,
            party: Party::decode(cursor)?,
            load_batch: BatchId::decode_or_zeros(cursor)?,
            program: Bytes::copy_from_slice(cursor.blob("program", MAX_PROGRAM_BYTES)?),
        })
    }
}

impl Header {
    /// Bytes of the body.
    pub const BYTES: usize = 84;
}

impl Encode for Header {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.batch.encode(out)?;
        self.digest.encode(out)?;
        out.extend_from_slice(&below("parts", self.parts, PARTS)?.to_le_bytes());
        self.seed.encode(out)
    }
}

impl Decode for Header {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            batch: BatchId::decode(cursor)?,
            digest: Digest::decode(cursor)?,
            parts: below("parts", cursor.u32("parts")?, PARTS)?,
            seed: Seed::decode(cursor)?,
        })
    }
}

/// 0 to [`MAX_PARTS`]: a program may have no keys.
const PARTS: u64 = MAX_PARTS as u64 + 1;

impl Encode for KeyPartHead {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.part.node.encode(out)?;
        out.extend_from_slice(&check_tile(self.part.tile)?.to_le_bytes());
        self.tag.encode(out)
    }
}

impl Decode for KeyPartHead {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let node = NodeId::decode(cursor)?;
        let tile = check_tile(cursor.u32("tile")?)?;
        Ok(Self { part: Part { node, tile }, tag: Tag::decode(cursor)? })
    }
}

fn ending(cursor: &mut Cursor<'_>) -> Result<(BatchId, Fault, Reason), WireError> {
    Ok((BatchId::decode(cursor)?, Fault::decode(cursor)?, Reason::decode(cursor)?))
}
