//! What two processes must agree on: the messages between the parties and from the dealer, byte by byte.
//!
//! `proto/WIRE.md` holds the byte tables; this crate encodes and decodes them and does nothing else: no socket, no
//! clock, no randomness. Everything is little endian, canonical (one encoding per message) and bounded. A length is
//! compared with a limit of [`limits`] before a byte is allocated for it. A payload's length is also compared with
//! the one that follows from agreed parameters.
//!
//! A message travels as a length (u32), a kind (u8) and a body. Two kinds carry a large payload after a fixed head, a
//! data frame ([`DataFrame`]) and a key ([`KeyPart`]). They are encoded and decoded in two pieces, so that the
//! payload is never copied into a second buffer.

#![forbid(unsafe_code)]

mod causal;
mod codec;
mod common;
mod data;
mod dealer;
mod frame;
mod id;
pub mod limits;
mod part;
mod peer;
mod secret;
mod segment;
mod tag;
mod transcript;

pub use causal::Causal;
pub use codec::{Cursor, Decode, Encode, WireError};
pub use common::CommonParts;
pub use data::{DataFrame, DataHead};
pub use dealer::{DealerMessage, Header, KeyPart, KeyPartHead, KeyRequest};
pub use frame::{Encoded, Message, PREFIX_BYTES, Payload, Prefix, decode_frame};
pub use id::{BatchId, Digest, Fault, LoadName, Party, Reason, Role, RunHash, RunId};
pub use part::{NodeId, Part};
pub use peer::{Accept, Finished, Hello, PeerMessage, Propose};
pub use secret::{Seed, wiped};
pub use segment::Segments;
pub use tag::Tag;
pub use transcript::Transcript;

/// Version of everything in this crate; both sides must speak the same one. History: `proto/WIRE.md`.
pub const VERSION: u16 = 7;
