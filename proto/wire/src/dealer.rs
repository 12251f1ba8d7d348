//! Messages between the dealer and one party.

use std::fmt;

use bytes::Bytes;

use crate::codec::{Cursor, Decode, Encode, WireError, counted, put_blob};
use crate::frame::{Encoded, Message, Payload, admit_length, encode_head};
use crate::id::{BatchId, Digest, Fault, Party, Reason};
use crate::limits::{CHUNK_ELEMS, MAX_ELEMS, MAX_GATE_BYTES, MAX_KEY_CHUNK_BYTES};
use crate::peer::chunk_index;
use crate::secret::{Seed, wiped};
use crate::tag::Tag;

/// A party asks for a batch. The dealer makes it only when both parties ask for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// The batch that both parties agreed on.
    pub batch: BatchId,
    /// BLAKE3 of `gate`.
    pub digest: Digest,
    /// Which party asks; the dealer compares it with the certificate.
    pub party: Party,
    /// Elements, 1 to [`MAX_ELEMS`].
    pub elems: u64,
    /// Canonical description of the gate, at most [`MAX_GATE_BYTES`] bytes.
    pub gate: Bytes,
}

/// Before the first chunk: what follows, and the party's seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// As asked.
    pub batch: BatchId,
    /// As the dealer computes it from the gate description.
    pub digest: Digest,
    /// As asked.
    pub elems: u64,
    /// Chunks to follow: one for each 2^16 elements begun.
    pub chunks: u32,
    /// From which this party expands its shares.
    pub seed: Seed,
}

/// The explicit key bytes of one chunk for one party; none where the party's seed gives all.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyChunk {
    /// Which chunk of the batch.
    pub index: u32,
    /// [`Tag::of`] the bytes.
    pub tag: Tag,
    /// The key: its length follows from the gate and the chunk.
    pub bytes: Bytes,
}

impl KeyChunk {
    /// A chunk with its tag.
    pub fn new(batch: BatchId, party: Party, index: u32, bytes: Bytes) -> Self {
        Self { index, tag: Tag::of(batch, party, index, &bytes), bytes }
    }

    /// Whether the bytes are those that were tagged for this batch, party and place.
    pub fn is_intact(&self, batch: BatchId, party: Party) -> bool {
        self.tag == Tag::of(batch, party, self.index, &self.bytes)
    }
}

/// Never the key.
impl fmt::Debug for KeyChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyChunk").field("index", &self.index).field("bytes", &self.bytes.len()).finish()
    }
}

/// The fixed part of a [`KeyChunk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyChunkHead {
    /// See [`KeyChunk::index`].
    pub index: u32,
    /// See [`KeyChunk::tag`].
    pub tag: Tag,
}

impl KeyChunkHead {
    const BYTES: usize = 20;
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
    /// Dealer to party, before the chunks.
    Header(Header),
    /// Dealer to party.
    Chunk(KeyChunk),
    /// Dealer to party, after the last chunk.
    End {
        /// The batch.
        batch: BatchId,
    },
    /// Party to dealer: all chunks arrived intact.
    Stored {
        /// The batch.
        batch: BatchId,
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
    pub(super) const CHUNK: u8 = 0x44;
    pub(super) const END: u8 = 0x45;
    pub(super) const STORED: u8 = 0x46;
    pub(super) const ABORT: u8 = 0x47;
}

impl Message for DealerMessage {
    type Head = KeyChunkHead;

    fn encode(&self) -> Result<Encoded, WireError> {
        if let Self::Chunk(KeyChunk { index, tag, bytes }) = self {
            if bytes.len() > MAX_KEY_CHUNK_BYTES {
                let (value, limit) = (bytes.len() as u64, MAX_KEY_CHUNK_BYTES as u64);
                return Err(WireError::OutOfRange { field: "key chunk", value, limit });
            }
            let head = KeyChunkHead { index: *index, tag: *tag };
            let head = encode_head(kind::CHUNK, bytes.len(), |out| head.encode(out))?;
            return Ok(Encoded { head, payload: bytes.clone() });
        }
        let head = encode_head(self.kind(), 0, |out| self.encode_body(out))?;
        Ok(Encoded { head, payload: Bytes::new() })
    }

    fn body_bytes(kind: u8) -> Result<(usize, usize), WireError> {
        Ok(match kind {
            kind::REQUEST => (61, 61 + MAX_GATE_BYTES),
            kind::REFUSE | kind::ABORT => (19, 19 + crate::limits::MAX_REASON_BYTES),
            kind::HEADER => (92, 92),
            kind::CHUNK => (KeyChunkHead::BYTES, KeyChunkHead::BYTES + MAX_KEY_CHUNK_BYTES),
            kind::END | kind::STORED => (16, 16),
            value => return Err(WireError::Unknown { field: "kind", value: value.into() }),
        })
    }

    fn head_bytes(kind: u8) -> Option<usize> {
        (kind == kind::CHUNK).then_some(KeyChunkHead::BYTES)
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
            kind::ABORT => {
                let (batch, fault, reason) = ending(cursor_ref)?;
                Self::Abort { batch, fault, reason }
            }
            value => return Err(WireError::Unknown { field: "kind", value: value.into() }),
        };
        cursor.finish("body")?;
        Ok(message)
    }

    fn decode_head(_kind: u8, head: &[u8]) -> Result<KeyChunkHead, WireError> {
        let mut cursor = Cursor::new(head);
        let head = KeyChunkHead::decode(&mut cursor)?;
        cursor.finish("head")?;
        Ok(head)
    }

    fn admit(head: &KeyChunkHead, announced: usize, expected: Option<usize>) -> Result<(), WireError> {
        admit_length("key chunk", 0, head.index, announced, expected)
    }

    fn join(head: KeyChunkHead, payload: Payload) -> Result<Self, WireError> {
        let KeyChunkHead { index, tag } = head;
        let bytes = match payload {
            Payload::Own(bytes) => wiped(bytes),
            Payload::Lent(bytes) => bytes,
        };
        Ok(Self::Chunk(KeyChunk { index, tag, bytes }))
    }
}

impl DealerMessage {
    fn kind(&self) -> u8 {
        match self {
            Self::Request(_) => kind::REQUEST,
            Self::Refuse { .. } => kind::REFUSE,
            Self::Header(_) => kind::HEADER,
            Self::Chunk(_) => kind::CHUNK,
            Self::End { .. } => kind::END,
            Self::Stored { .. } => kind::STORED,
            Self::Abort { .. } => kind::ABORT,
        }
    }

    /// The message's name, for errors and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => "Request",
            Self::Refuse { .. } => "Refuse",
            Self::Header(_) => "Header",
            Self::Chunk(_) => "Chunk",
            Self::End { .. } => "End",
            Self::Stored { .. } => "Stored",
            Self::Abort { .. } => "Abort",
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
            Self::Chunk(_) => unreachable!("`Message::encode` handles chunks itself"),
        }
    }
}

impl Encode for KeyRequest {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.batch.encode(out)?;
        self.digest.encode(out)?;
        self.party.encode(out)?;
        out.extend_from_slice(&counted("elems", self.elems, MAX_ELEMS)?.to_le_bytes());
        put_blob(out, "gate", &self.gate, MAX_GATE_BYTES)
    }
}

impl Decode for KeyRequest {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            batch: BatchId::decode(cursor)?,
            digest: Digest::decode(cursor)?,
            party: Party::decode(cursor)?,
            elems: counted("elems", cursor.u64("elems")?, MAX_ELEMS)?,
            gate: Bytes::copy_from_slice(cursor.blob("gate", MAX_GATE_BYTES)?),
        })
    }
}

impl Header {
    /// The chunks that `elems` elements take.
    pub fn chunks_of(elems: u64) -> u32 {
        // At most MAX_CHUNKS for every number of elements that a message can carry.
        elems.div_ceil(CHUNK_ELEMS.into()) as u32
    }

    fn check(&self) -> Result<(), WireError> {
        counted("elems", self.elems, MAX_ELEMS)?;
        if self.chunks == Self::chunks_of(self.elems) {
            Ok(())
        } else {
            Err(WireError::Unknown { field: "chunks", value: self.chunks.into() })
        }
    }
}

impl Encode for Header {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.check()?;
        self.batch.encode(out)?;
        self.digest.encode(out)?;
        out.extend_from_slice(&self.elems.to_le_bytes());
        out.extend_from_slice(&self.chunks.to_le_bytes());
        self.seed.encode(out)
    }
}

impl Decode for Header {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let header = Self {
            batch: BatchId::decode(cursor)?,
            digest: Digest::decode(cursor)?,
            elems: cursor.u64("elems")?,
            chunks: cursor.u32("chunks")?,
            seed: Seed::decode(cursor)?,
        };
        header.check()?;
        Ok(header)
    }
}

impl Encode for KeyChunkHead {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.extend_from_slice(&chunk_index(self.index)?.to_le_bytes());
        self.tag.encode(out)
    }
}

impl Decode for KeyChunkHead {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self { index: chunk_index(cursor.u32("chunk")?)?, tag: Tag::decode(cursor)? })
    }
}

fn ending(cursor: &mut Cursor<'_>) -> Result<(BatchId, Fault, Reason), WireError> {
    Ok((BatchId::decode(cursor)?, Fault::decode(cursor)?, Reason::decode(cursor)?))
}
