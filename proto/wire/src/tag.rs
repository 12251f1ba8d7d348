//! Integrity tags of keys.

use std::fmt;

use crate::codec::{Cursor, Decode, Encode, WireError};
use crate::id::{BatchId, Party};
use crate::part::Part;

/// The first 16 bytes of BLAKE3 over (domain, batch, party, node, tile, bytes). They show a key damaged or misplaced on
/// its way or in the spool. It is no proof against its maker: a process that can write a key can write its tag.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub [u8; 16]);

impl Tag {
    const DOMAIN: &'static [u8] = b"suf/v2/key-part";

    /// The tag of the key of one part.
    pub fn of(batch: BatchId, party: Party, part: Part, bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(Self::DOMAIN);
        hasher.update(&batch.0);
        hasher.update(&[party as u8]);
        hasher.update(&part.node.0.to_le_bytes());
        hasher.update(&part.tile.to_le_bytes());
        hasher.update(bytes);
        let mut tag = [0; 16];
        hasher.finalize_xof().fill(&mut tag);
        Self(tag)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(16 bytes)")
    }
}

impl Encode for Tag {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
}

impl Decode for Tag {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self(cursor.array("tag")?))
    }
}
