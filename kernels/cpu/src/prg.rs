//! The pseudo-random streams of the fields: AES-128 in counter mode.

use suf_gate::prg::StreamKey;

use crate::simd::{Aes128, BLOCK_BYTES, Level};

/// The stream of one field under a derived key and nonce. Byte j of the stream belongs to byte j of the field's layout.
#[derive(Debug)]
pub struct Stream {
    key: Aes128,
}

impl Stream {
    /// The stream of `key` with the instructions of `level`.
    ///
    /// # Panics
    /// If the machine does not have that level.
    #[must_use]
    pub fn new(level: Level, key: &StreamKey) -> Self {
        Self { key: Aes128::with_nonce(level, key.key, key.nonce) }
    }

    /// Overwrites `out` with the stream from byte `offset` on.
    ///
    /// # Panics
    /// If `offset` is not a multiple of 16: all strips are, and then no block is computed twice.
    pub fn fill(&self, offset: usize, out: &mut [u8]) {
        self.key.ctr_fill(Self::block(offset), out);
    }

    /// XORs the stream from byte `offset` on into `data`.
    ///
    /// # Panics
    /// As [`Stream::fill`].
    pub fn xor(&self, offset: usize, data: &mut [u8]) {
        self.key.ctr_xor(Self::block(offset), data);
    }

    fn block(offset: usize) -> u64 {
        assert!(offset.is_multiple_of(BLOCK_BYTES), "a stream is entered at a block boundary");
        (offset / BLOCK_BYTES) as u64
    }
}
