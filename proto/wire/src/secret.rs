//! Holders of secrets: they print only their length and are wiped when dropped.

use std::fmt;

use bytes::Bytes;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec::{Cursor, Decode, Encode, WireError};

/// A party's seed for one batch: 256 bits of the dealer's OS entropy.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Takes the bytes; the caller's copy is the caller's to wipe.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret itself.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(32 bytes)")
    }
}

/// In constant time.
impl PartialEq for Seed {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Seed {}

impl Encode for Seed {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
}

impl Decode for Seed {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self(cursor.array("seed")?))
    }
}

/// Shared bytes that are overwritten with zeros when the last reference goes.
pub fn wiped(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Wiped(bytes))
}

struct Wiped(Vec<u8>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        // `zeroize` writes a byte at a time, which for keys of 40 MB costs more than making them. A plain fill
        // runs at memory speed; the barriers keep the compiler from dropping it as a dead store.
        self.0.fill(0);
        std::hint::black_box(self.0.as_ptr());
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    }
}
