//! A message on a stream: `length: u32`, `kind: u8`, body. The length counts the kind and the body.

use bytes::Bytes;

use crate::codec::{Cursor, WireError};
use crate::data::DataFrame;
use crate::part::Part;

/// Bytes before a message's body: the length and the kind.
pub const PREFIX_BYTES: usize = 5;

/// What stands before a body, already checked against the kind's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Which message; the numbers are in `proto/WIRE.md`.
    pub kind: u8,
    /// Bytes of the body.
    pub body_bytes: usize,
}

impl Prefix {
    /// Reads the five bytes before a body. Kinds that `M` does not have and lengths that the kind cannot have end here.
    pub fn decode<M: Message>(bytes: [u8; PREFIX_BYTES]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(&bytes);
        let length = cursor.u32("length")? as usize;
        let kind = cursor.u8("kind")?;
        let (least, most) = M::body_bytes(kind)?;
        match length.checked_sub(1) {
            Some(body_bytes) if (least..=most).contains(&body_bytes) => Ok(Self { kind, body_bytes }),
            _ => Err(WireError::OutOfRange { field: "length", value: length as u64, limit: most as u64 + 1 }),
        }
    }
}

/// An encoded message, ready for a stream: first `head`, then `payload`, which is the message's own and not a copy.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// Prefix and body, or prefix and head of the body where a payload follows.
    pub head: Bytes,
    /// Empty for messages without a payload.
    pub payload: Bytes,
}

/// A payload as it was received.
#[derive(Debug)]
pub enum Payload {
    /// In memory of its own.
    Own(Vec<u8>),
    /// In memory of somebody who knows when it is wiped.
    Lent(Bytes),
}

/// A family of messages that may travel on one stream.
pub trait Message: Sized + Send + 'static {
    /// The fixed part before a payload.
    type Head: Send + std::fmt::Debug;

    /// Encodes the message. An error is the caller's bug.
    fn encode(&self) -> Result<Encoded, WireError>;

    /// The fewest and the most bytes a body of this kind may have.
    fn body_bytes(kind: u8) -> Result<(usize, usize), WireError>;

    /// Bytes of the fixed part, for kinds with a payload.
    fn head_bytes(kind: u8) -> Option<usize>;

    /// Decodes a whole body of a kind without a payload.
    fn decode_body(kind: u8, body: &[u8]) -> Result<Self, WireError>;

    /// Decodes the fixed part of a kind with a payload.
    fn decode_head(kind: u8, head: &[u8]) -> Result<Self::Head, WireError>;

    /// Compares the announced length of a payload with the one `expected` from agreed parameters; `None` is a payload
    /// that is not due. To be called before memory is set aside for it.
    fn admit(head: &Self::Head, announced: usize, expected: Option<usize>) -> Result<(), WireError>;

    /// Joins a fixed part and its payload.
    fn join(head: Self::Head, payload: Payload) -> Result<Self, WireError>;

    /// The data frame that this message is, if it is one: what the meter counts.
    fn data(&self) -> Option<&DataFrame> {
        None
    }
}

/// Decodes one whole message from memory, as the link does piece by piece from a stream. `expected` gives the payload
/// bytes that agreed parameters demand, `None` if no such payload is due.
pub fn decode_frame<M: Message>(
    bytes: &[u8],
    expected: impl FnOnce(&M::Head) -> Option<usize>,
) -> Result<M, WireError> {
    let mut cursor = Cursor::new(bytes);
    let prefix = Prefix::decode::<M>(cursor.array("prefix")?)?;
    let body = cursor.take("body", prefix.body_bytes)?;
    cursor.finish("message")?;
    let Some(head_bytes) = M::head_bytes(prefix.kind) else {
        return M::decode_body(prefix.kind, body);
    };
    let mut cursor = Cursor::new(body);
    let head = M::decode_head(prefix.kind, cursor.take("head", head_bytes)?)?;
    let announced = prefix.body_bytes - head_bytes;
    M::admit(&head, announced, expected(&head))?;
    M::join(head, Payload::Own(cursor.take("payload", announced)?.to_vec()))
}

/// Encodes prefix and body; `payload_bytes` more are to follow.
pub(crate) fn encode_head(
    kind: u8,
    payload_bytes: usize,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<Bytes, WireError> {
    let mut out = vec![0; PREFIX_BYTES];
    body(&mut out)?;
    let length = out.len() - (PREFIX_BYTES - 1) + payload_bytes;
    // Every kind's limit is far below 2^32; a payload over its own was refused by `body`.
    out[..4].copy_from_slice(&(length as u32).to_le_bytes());
    out[4] = kind;
    Ok(out.into())
}

/// The common part of every [`Message::admit`].
pub(crate) fn admit_length(
    field: &'static str,
    part: Part,
    step: u8,
    announced: usize,
    expected: Option<usize>,
) -> Result<(), WireError> {
    match expected {
        None => Err(WireError::Unexpected { field, node: part.node.0, tile: part.tile, step }),
        Some(expected) if expected != announced => {
            Err(WireError::Length { field, expected: expected as u64, got: announced as u64 })
        }
        Some(_) => Ok(()),
    }
}
