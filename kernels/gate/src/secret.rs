//! Owned secret bytes: wiped when dropped, silent when printed.

use std::fmt;

use bytes::Bytes;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Memory of another kind than the heap's that holds secrets, such as memory that a device copies to. Its owner wipes it
/// when it is dropped.
pub trait SecretMemory: AsRef<[u8]> + AsMut<[u8]> + Send + Sync {}

/// Key material or shares of any length.
#[derive(Clone)]
pub struct SecretBytes(Memory);

enum Memory {
    Heap(Vec<u8>),
    Foreign(Box<dyn SecretMemory>),
}

impl SecretBytes {
    /// Takes ownership of `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Memory::Heap(bytes))
    }

    /// Takes ownership of memory of another kind.
    #[must_use]
    pub fn from_memory(memory: Box<dyn SecretMemory>) -> Self {
        Self(Memory::Foreign(memory))
    }

    /// `len` zero bytes, to be filled through [`SecretBytes::expose_mut`].
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self::new(vec![0; len])
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expose().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }

    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        match &self.0 {
            Memory::Heap(bytes) => bytes,
            Memory::Foreign(memory) => (**memory).as_ref(),
        }
    }

    /// The bytes themselves, writable.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Heap(bytes) => bytes,
            Memory::Foreign(memory) => (**memory).as_mut(),
        }
    }
}

impl Default for SecretBytes {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        match self {
            Self::Heap(bytes) => Self::Heap(bytes.clone()),
            Self::Foreign(memory) => Self::Heap((**memory).as_ref().to_vec()),
        }
    }
}

impl Zeroize for SecretBytes {
    fn zeroize(&mut self) {
        match &mut self.0 {
            Memory::Heap(bytes) => bytes.zeroize(),
            Memory::Foreign(memory) => (**memory).as_mut().zeroize(),
        }
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        if let Memory::Heap(bytes) = &mut self.0 {
            // `zeroize` writes a byte at a time, which for key chunks of 40 MB takes longer than making them. A plain
            // fill runs at memory speed; the barriers keep the compiler from dropping it as a dead store.
            bytes.fill(0);
            std::hint::black_box(bytes.as_ptr());
            std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        }
    }
}

impl ZeroizeOnDrop for SecretBytes {}

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        self.expose()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}

/// A chunk's key as it was received: shared, never copied. Whoever made the [`Bytes`] wipes them with the last reference.
#[derive(Clone)]
pub struct KeyBytes(Bytes);

impl KeyBytes {
    /// Takes bytes whose owner wipes them.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<SecretBytes> for KeyBytes {
    fn from(bytes: SecretBytes) -> Self {
        Self(Bytes::from_owner(bytes))
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_only_the_length() {
        assert_eq!(format!("{:?}", SecretBytes::new(vec![7; 9])), "SecretBytes(9 bytes)");
    }
}
