//! What the host computes of AES-128: the kernels' table, and the round keys of public keys. Secret keys are expanded on
//! the GPU.

use std::sync::LazyLock;

/// Words of an expanded key.
pub(crate) const ROUND_KEYS: usize = 44;

static SBOX: LazyLock<[u8; 256]> = LazyLock::new(sbox);

/// The S-box, from its definition (FIPS 197, section 5.1.1): inversion in GF(2^8), then an affine map.
fn sbox() -> [u8; 256] {
    let multiply = |a: u8, b: u8| {
        (0..8)
            .fold((0u8, a), |(sum, a), i| {
                let sum = if b >> i & 1 == 1 { sum ^ a } else { sum };
                (sum, a << 1 ^ if a >> 7 == 1 { 0x1B } else { 0 })
            })
            .0
    };
    std::array::from_fn(|x| {
        let x = x as u8;
        // x^254 = 1/x, and 0 for 0.
        let inverse = (0..253).fold(x, |power, _| multiply(power, x));
        (0..5).fold(0x63, |sum, i| sum ^ inverse.rotate_left(i))
    })
}

/// SubBytes and MixColumns of a byte of row 0, as a little-endian column; the other rows' are its rotations.
pub(crate) fn t0() -> Vec<u32> {
    let doubled = |s: u8| s << 1 ^ if s >> 7 == 1 { 0x1B } else { 0 };
    SBOX.map(|s| u32::from_le_bytes([doubled(s), s, s, doubled(s) ^ s])).to_vec()
}

/// A public key expanded, as little-endian columns. A kernel gets it as it stands.
#[repr(transparent)]
#[derive(Clone, Debug)]
pub(crate) struct RoundKeys([u32; ROUND_KEYS]);

/// The round keys of a public key: the table is indexed by its bytes.
pub(crate) fn expand(key: [u8; 16]) -> RoundKeys {
    let mut words = [0; ROUND_KEYS];
    for (word, bytes) in words.iter_mut().zip(key.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let mut constant = 1u8;
    for i in 4..ROUND_KEYS {
        let mut word = words[i - 1];
        if i % 4 == 0 {
            let rotated = word.rotate_right(8).to_le_bytes().map(|byte| SBOX[usize::from(byte)]);
            word = u32::from_le_bytes(rotated) ^ u32::from(constant);
            constant = constant << 1 ^ if constant >> 7 == 1 { 0x1B } else { 0 };
        }
        words[i] = words[i - 4] ^ word;
    }
    RoundKeys(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197, figure 7 and appendix A.1.
    #[test]
    fn tables_are_the_standards() {
        let sbox = sbox();
        assert_eq!(sbox[..4], [0x63, 0x7C, 0x77, 0x7B]);
        assert_eq!((sbox[0x53], sbox[0xFF]), (0xED, 0x16));
        let key =
            [0x2B, 0x7E, 0x15, 0x16, 0x28, 0xAE, 0xD2, 0xA6, 0xAB, 0xF7, 0x15, 0x88, 0x09, 0xCF, 0x4F, 0x3C];
        let RoundKeys(words) = expand(key);
        assert_eq!(words[4].to_le_bytes(), [0xA0, 0xFA, 0xFE, 0x17]);
        assert_eq!(words[43].to_le_bytes(), [0xB6, 0x63, 0x0C, 0xA6]);
    }
}
