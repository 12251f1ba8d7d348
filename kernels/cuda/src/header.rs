//! The header that every kernel is compiled with: the cipher's tables, and the numbers of a gate's layout. It is written
//! here from the same definitions that the CPU uses, so that the two cannot drift.

use std::fmt::{Display, Write};

use suf_gate::{
    layout::FieldId,
    prg::{LEAF_KEY, TREE_KEY},
    ring::WIRE,
};

use crate::layout::{FIELDS, Job, MAX_STREAMS, SEGMENTS, STATES};

/// Threads of a block of every kernel that has one thread per element: eight warps, so that a block's tail wastes little.
pub(crate) const THREADS: u32 = 256;

/// Threads of a block that expands streams.
pub(crate) const STREAM_THREADS: u32 = 512;

const PRELUDE: &str = include_str!("../cu/prelude.cuh");
const MESSAGE: &str = include_str!("../cu/message.cuh");
const AES: &str = include_str!("../cu/aes.cuh");

/// A CUDA source in the making: definitions first, then the kernels.
pub(crate) struct Source {
    text: String,
}

impl Source {
    /// What all kernels share.
    pub(crate) fn new() -> Self {
        let mut source = Self { text: String::new() };
        source.define("THREADS", THREADS);
        source.define("STREAM_THREADS", STREAM_THREADS);
        source.define("FIELDS", FIELDS);
        source.define("STATES", STATES);
        source.define("SEGMENTS", SEGMENTS);
        source.define("MAX_STREAMS", MAX_STREAMS);
        source.define("WIRE_BITS", WIRE.bits());
        source.define("JOB_BYTES", size_of::<Job>());
        source.text.push_str(PRELUDE);
        source.text.push_str(MESSAGE);
        source.words("AES_T0", "u32", t0());
        source.words("AES_TREE_KEYS", "u32", expand(TREE_KEY));
        source.words("AES_LEAF_KEYS", "u32", expand(LEAF_KEY));
        source.text.push_str(AES);
        source
    }

    /// `#define name value`.
    pub(crate) fn define(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.text, "#define {name} {value}");
    }

    /// A field's number.
    pub(crate) fn field(&mut self, name: &str, id: FieldId) {
        self.define(name, id.0);
    }

    /// A 64-bit number, as two's complement.
    pub(crate) fn number(&mut self, name: &str, value: i64) {
        self.define(name, format_args!("{:#x}ULL", value.cast_unsigned()));
    }

    /// An array in constant memory. An empty one gets one element, which nothing reads.
    pub(crate) fn words(&mut self, name: &str, element: &str, words: impl IntoIterator<Item = impl Display>) {
        let mut list: Vec<_> = words.into_iter().map(|word| word.to_string()).collect();
        if list.is_empty() {
            list.push("0".into());
        }
        let _ =
            writeln!(self.text, "__constant__ {element} {name}[{}] = {{{}}};", list.len(), list.join(","));
    }

    /// The table of a look-up by one-hot vectors, `name`_PLANES planes of `name`_WORDS words: by how much each entry
    /// exceeds `name`_LEAST. The entry of place k of a vector seen from the public place.
    pub(crate) fn lookup(&mut self, name: &str, entries: &[i32]) {
        let least = entries.iter().copied().min().unwrap_or(0);
        let excess = |place: usize| entries[place].abs_diff(least);
        let width =
            (0..entries.len()).map(|place| u32::BITS - excess(place).leading_zeros()).max().unwrap_or(0);
        let words = entries.len() / 32;
        let word = |plane: u32, word: usize| {
            (0..32).fold(0, |bits, i| bits | (excess(32 * word + i) >> plane & 1) << i)
        };
        self.number(&format!("{name}_LEAST"), least.into());
        self.define(&format!("{name}_PLANES"), width);
        self.define(&format!("{name}_WORDS"), words);
        let planes = (0..width).flat_map(|plane| (0..words).map(move |at| word(plane, at)));
        self.words(name, "u32", planes);
    }

    /// Kernels, or functions they share.
    pub(crate) fn code(&mut self, code: &str) {
        self.text.push_str(code);
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

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
fn t0() -> Vec<u32> {
    let doubled = |s: u8| s << 1 ^ if s >> 7 == 1 { 0x1B } else { 0 };
    sbox().map(|s| u32::from_le_bytes([doubled(s), s, s, doubled(s) ^ s])).to_vec()
}

/// The round keys of a public key.
fn expand(key: [u8; 16]) -> Vec<u32> {
    let sbox = sbox();
    let mut words: Vec<u32> = key.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let mut constant = 1u8;
    for i in 4..44 {
        let mut word = words[i - 1];
        if i % 4 == 0 {
            let rotated = word.rotate_right(8).to_le_bytes().map(|byte| sbox[usize::from(byte)]);
            word = u32::from_le_bytes(rotated) ^ u32::from(constant);
            constant = constant << 1 ^ if constant >> 7 == 1 { 0x1B } else { 0 };
        }
        words.push(words[i - 4] ^ word);
    }
    words
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
        let words = expand(key);
        assert_eq!(words[4].to_le_bytes(), [0xA0, 0xFA, 0xFE, 0x17]);
        assert_eq!(words[43].to_le_bytes(), [0xB6, 0x63, 0x0C, 0xA6]);
    }
}
