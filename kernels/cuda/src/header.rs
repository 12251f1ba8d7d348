//! The header that every kernel is compiled with: the cipher's tables, and the numbers of a gate's layout. It is written
//! here from the same definitions that the CPU uses, so that the two cannot drift.

use std::fmt::{Display, Write};

use suf_gate::{layout::FieldId, ring::WIRE};

use crate::{
    cipher::{self, ROUND_KEYS},
    layout::{FEW_STREAMS, FIELDS, Job, MAX_STREAMS, SEGMENTS, STATES},
};

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
        source.define("FEW_STREAMS", FEW_STREAMS);
        source.define("ROUND_KEYS", ROUND_KEYS);
        source.define("WIRE_BITS", WIRE.bits());
        source.define("JOB_BYTES", size_of::<Job>());
        source.text.push_str(PRELUDE);
        source.text.push_str(MESSAGE);
        source.words("AES_T0", "u32", cipher::t0());
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
