//! AES-128 at four instruction levels, and the 128-bit lane arithmetic that the trees are written in.
//!
//! A [`Vectorised`] is written once, over any [`Simd`]. [`Level::dispatch`] compiles it for each level and picks one at run
//! time. All methods of a `Simd` are `#[inline(always)]`, so a kernel ends as one function with the level's
//! instructions enabled and its blocks in registers. The token types (`Vaes`, `Vaes256`, `AesNi`, `Portable`) exist
//! only on machines that have the instructions. So their methods are safe to call.
//!
//! Nothing here branches or indexes on the contents of a block.

// Before the levels that use it.
/// `[f(0), .., f(7)]`, unrolled: a closure would not inherit the instruction set of the kernel.
#[cfg(target_arch = "x86_64")]
macro_rules! eight {
    ($i:ident => $e:expr) => {[
        { const $i: usize = 0; $e }, { const $i: usize = 1; $e }, { const $i: usize = 2; $e }, { const $i: usize = 3; $e },
        { const $i: usize = 4; $e }, { const $i: usize = 5; $e }, { const $i: usize = 6; $e }, { const $i: usize = 7; $e },
    ]};
}

#[cfg(target_arch = "x86_64")]
mod aesni;
pub(crate) mod model;
mod portable;
#[cfg(target_arch = "x86_64")]
mod vaes;
#[cfg(target_arch = "x86_64")]
mod vaes256;
pub(crate) mod wide;

use std::{fmt, sync::OnceLock};

use zeroize::{Zeroize, Zeroizing};

use portable::Portable;

/// Bytes of an AES block, of a tree node and of a block of 128 leaves.
pub const BLOCK_BYTES: usize = 16;

/// Twice the most lanes any level has; buffers of whole groups are this long.
pub(crate) const MAX_LANES: usize = 32;

const LACKS: &str = "a forced level must be one that the machine has";

/// Which instructions do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The `aes` crate and 128-bit integers: every machine.
    Portable,
    /// AES-NI, eight blocks in flight.
    AesNi,
    /// VAES on 256-bit registers, 16 blocks in flight.
    Vaes256,
    /// VAES on 512-bit registers, 16 blocks in flight.
    Vaes,
}

impl Level {
    /// All levels, slowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::AesNi, Self::Vaes256, Self::Vaes];

    /// The fastest level of this machine, found out once.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            Self::ALL.into_iter().rev().find(|level| level.supported()).unwrap_or(Self::Portable)
        })
    }

    /// Whether this machine has the level's instructions.
    #[must_use]
    pub fn supported(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::AesNi => aesni::AesNi::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Vaes256 => vaes256::Vaes256::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Vaes => vaes::Vaes::detect().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::AesNi | Self::Vaes256 | Self::Vaes => false,
        }
    }

    /// Runs `kernel` with this level's instructions.
    ///
    /// # Panics
    /// If the machine lacks them: only a test or a benchmark forces a level, and it asks [`Level::supported`] first.
    pub(crate) fn dispatch<K: Vectorised>(self, kernel: K) -> K::Output {
        match self {
            Self::Portable => kernel.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Self::AesNi => aesni::AesNi::detect().expect(LACKS).run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Vaes256 => vaes256::Vaes256::detect().expect(LACKS).run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Vaes => vaes::Vaes::detect().expect(LACKS).run(kernel),
            #[cfg(not(target_arch = "x86_64"))]
            Self::AesNi | Self::Vaes256 | Self::Vaes => panic!("{LACKS}"),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::AesNi => "aes-ni",
            Self::Vaes256 => "vaes-256",
            Self::Vaes => "vaes",
        })
    }
}

/// A computation written once for every level. `run` must be `#[inline(always)]`.
pub(crate) trait Vectorised {
    /// What it returns.
    type Output;

    /// The computation.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Arithmetic on groups of [`Simd::LANES`] blocks of 128 bits, each the little-endian integer of its 16 bytes.
///
/// "Words" are groups made by [`Simd::words`]: one 64-bit number per lane. "Bits" are integers whose bit i belongs to
/// lane i: what is one bit of an element is cheapest there.
pub(crate) trait Simd: Copy {
    /// Blocks in a group: as many as keep the AES units busy.
    const LANES: usize;
    /// `LANES` blocks, in registers if there are enough.
    type Group: Copy;
    /// A bit for each lane, in the form that the level selects by.
    type Mask: Copy;
    /// An expanded key in the level's form.
    type Key<'k>;

    /// The key, as made at this level.
    fn key(self, key: &Aes128) -> Self::Key<'_>;
    /// AES-128 of every block.
    fn encrypt(self, key: &Self::Key<'_>, a: Self::Group) -> Self::Group;
    /// AES(x) xor x xor `onto` for every block x of `a`: the hash of Matyas, Meyer and Oseas under a fixed key.
    fn hash(self, key: &Self::Key<'_>, a: Self::Group, onto: Self::Group) -> Self::Group;
    /// The same for the blocks of `a` with bit 0 replaced by `odd`.
    fn hash_odd(self, key: &Self::Key<'_>, a: Self::Group, odd: Self::Mask, onto: Self::Group)
    -> Self::Group;

    /// `block` in every lane.
    fn splat(self, block: u128) -> Self::Group;
    /// Lane i holds `first + i`.
    fn counters(self, first: u64) -> Self::Group;
    /// Lane i holds `values[i]` in both halves; `values` has `LANES` entries or more.
    fn words(self, values: &[u64]) -> Self::Group;

    /// The mask whose bit for lane i is bit i of `bits`; higher bits do not matter.
    fn mask(self, bits: u64) -> Self::Mask;
    /// The inverse of [`Simd::mask`].
    fn bits(self, mask: Self::Mask) -> u64;
    /// Bit i is bit `bit` of `values[i]`; `values` has `LANES` entries or more.
    fn bits_of(self, values: &[u64], bit: u32) -> u64;
    /// Bit 0 of each lane.
    fn odd(self, a: Self::Group) -> Self::Mask;
    /// The same as bits.
    #[inline(always)]
    fn odd_bits(self, a: Self::Group) -> u64 {
        self.bits(self.odd(a))
    }
    /// The parity of each lane's 128 bits.
    fn parity(self, a: Self::Group) -> Self::Mask;

    /// Lane i from byte `first + i * stride` on.
    fn load(self, bytes: &[u8], first: usize, stride: usize) -> Self::Group;
    /// Asks for the cache line of byte `at` of `bytes`, or of whatever lies there beyond their end.
    fn prefetch(self, bytes: &[u8], at: usize);
    /// Lane i to byte `first + i * stride` on.
    fn store(self, a: Self::Group, bytes: &mut [u8], first: usize, stride: usize);

    /// a xor b.
    fn xor(self, a: Self::Group, b: Self::Group) -> Self::Group;
    /// a and b.
    fn and(self, a: Self::Group, b: Self::Group) -> Self::Group;
    /// a xor (b where the mask is 1, else 0).
    fn xor_where(self, mask: Self::Mask, a: Self::Group, b: Self::Group) -> Self::Group;
    /// `on` where the mask is 1, else `off`.
    fn select(self, mask: Self::Mask, on: Self::Group, off: Self::Group) -> Self::Group;
    /// b where the mask is 1, else 0.
    fn only_where(self, mask: Self::Mask, b: Self::Group) -> Self::Group;
    /// a with bit 0 replaced by `odd`.
    fn with_odd(self, a: Self::Group, odd: Self::Mask) -> Self::Group;
    /// a with bit 0 cleared where `clear` is 1, and then set where `set` is 1.
    fn with_odd_where(self, a: Self::Group, clear: Self::Mask, set: Self::Mask) -> Self::Group;

    /// (high, low) -> (high xor low, high): the linear orthomorphism of the half-tree's hash.
    fn orthomorphism(self, a: Self::Group) -> Self::Group;
    /// 2^(w mod 128) for the lane's word w.
    fn one_hot(self, words: Self::Group) -> Self::Group;
    /// 2^(w mod 128) - 1 for the lane's word w.
    fn below(self, words: Self::Group) -> Self::Group;

    /// [`Simd::load`] of the first `count` lanes only.
    #[inline(always)]
    fn load_some(self, bytes: &[u8], first: usize, stride: usize, count: usize) -> Self::Group {
        if count == Self::LANES {
            self.load(bytes, first, stride)
        } else {
            load_tail(self, bytes, first, stride, count)
        }
    }

    /// [`Simd::store`] of the first `count` lanes only.
    #[inline(always)]
    fn store_some(self, a: Self::Group, bytes: &mut [u8], first: usize, stride: usize, count: usize) {
        if count == Self::LANES {
            self.store(a, bytes, first, stride);
        } else {
            let mut lanes = Zeroizing::new([0; MAX_LANES * BLOCK_BYTES]);
            self.store(a, &mut *lanes, 0, BLOCK_BYTES);
            for (i, lane) in lanes.chunks_exact(BLOCK_BYTES).take(count).enumerate() {
                bytes[first + i * stride..][..BLOCK_BYTES].copy_from_slice(lane);
            }
        }
    }
}

#[inline(always)]
fn load_tail<S: Simd>(s: S, bytes: &[u8], first: usize, stride: usize, count: usize) -> S::Group {
    let mut lanes = Zeroizing::new([0; MAX_LANES * BLOCK_BYTES]);
    for (i, lane) in lanes.chunks_exact_mut(BLOCK_BYTES).take(count).enumerate() {
        lane.copy_from_slice(&bytes[first + i * stride..][..BLOCK_BYTES]);
    }
    s.load(&*lanes, 0, BLOCK_BYTES)
}

/// An expanded AES-128 key, bound to the level that uses it. Wiped when dropped.
pub struct Aes128 {
    level: Level,
    schedule: Schedule,
}

enum Schedule {
    /// With a nonce, if there is one: what counters are combined with.
    Library(Box<aes::Aes128>, Option<Zeroizing<u128>>),
    /// A nonce is part of the first of them.
    Rounds(RoundKeys),
}

/// The eleven round keys.
#[derive(Zeroize)]
#[zeroize(drop)]
struct RoundKeys([u128; 11]);

impl Aes128 {
    /// Expands `key` for the fastest level.
    #[must_use]
    pub fn new(key: [u8; BLOCK_BYTES]) -> Self {
        Self::at(Level::best(), key)
    }

    /// Expands `key` for `level`, for tests and benchmarks.
    ///
    /// # Panics
    /// If the machine does not have that level.
    #[must_use]
    pub fn at(level: Level, mut key: [u8; BLOCK_BYTES]) -> Self {
        assert!(level.supported(), "{LACKS}");
        let schedule = match level {
            Level::Portable => Schedule::Library(Box::new(portable::expand(&key)), None),
            Level::AesNi | Level::Vaes256 | Level::Vaes => Schedule::Rounds(expand(&key)),
        };
        key.zeroize();
        Self { level, schedule }
    }

    /// Expands `key` for counter mode whose block i encrypts i xor `nonce`.
    ///
    /// # Panics
    /// If the machine does not have that level.
    #[must_use]
    pub fn with_nonce(level: Level, key: [u8; BLOCK_BYTES], nonce: [u8; BLOCK_BYTES]) -> Self {
        let (mut made, nonce) = (Self::at(level, key), u128::from_le_bytes(nonce));
        match &mut made.schedule {
            // The cipher begins by combining its input with the first round key.
            Schedule::Rounds(RoundKeys(keys)) => keys[0] ^= nonce,
            Schedule::Library(_, place) => *place = Some(Zeroizing::new(nonce)),
        }
        made
    }

    /// The level that the key was expanded for.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Overwrites `out` with the key stream of counter mode from block `first` on. Block i encrypts i, or i xor the
    /// nonce, as a 128-bit little-endian integer.
    pub fn ctr_fill(&self, first: u64, out: &mut [u8]) {
        self.level.dispatch(Ctr::<false> { key: self, first, out });
    }

    /// XORs the same key stream into `data`.
    pub fn ctr_xor(&self, first: u64, data: &mut [u8]) {
        self.level.dispatch(Ctr::<true> { key: self, first, out: data });
    }

    fn library(&self) -> &aes::Aes128 {
        match &self.schedule {
            Schedule::Library(key, _) => key,
            Schedule::Rounds(_) => unreachable!("a key is used at the level it was made for"),
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn rounds(&self) -> &[u128; 11] {
        match &self.schedule {
            Schedule::Rounds(keys) => &keys.0,
            Schedule::Library(..) => unreachable!("a key is used at the level it was made for"),
        }
    }
}

impl fmt::Debug for Aes128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aes128({BLOCK_BYTES} bytes, {})", self.level)
    }
}

#[cfg(target_arch = "x86_64")]
fn expand(key: &[u8; BLOCK_BYTES]) -> RoundKeys {
    // Every processor with VAES has AES-NI; `detect` asks for both.
    RoundKeys(aesni::AesNi::detect().expect(LACKS).expand(key))
}

#[cfg(not(target_arch = "x86_64"))]
fn expand(_key: &[u8; BLOCK_BYTES]) -> RoundKeys {
    unreachable!("{LACKS}")
}

struct Ctr<'a, const XOR: bool> {
    key: &'a Aes128,
    first: u64,
    out: &'a mut [u8],
}

impl<const XOR: bool> Vectorised for Ctr<'_, XOR> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let key = s.key(self.key);
        // Not a closure, which would not inherit the instruction set of the kernel.
        let nonce = match &self.key.schedule {
            Schedule::Library(_, Some(nonce)) => s.splat(**nonce),
            _ => s.splat(0),
        };
        let group_bytes = S::LANES * BLOCK_BYTES;
        let mut counter = self.first;
        let mut groups = self.out.chunks_exact_mut(group_bytes);
        for group in &mut groups {
            let stream = s.encrypt(&key, s.xor(s.counters(counter), nonce));
            let data = if XOR { s.xor(stream, s.load(group, 0, BLOCK_BYTES)) } else { stream };
            s.store(data, group, 0, BLOCK_BYTES);
            counter += S::LANES as u64;
        }
        let tail = groups.into_remainder();
        if !tail.is_empty() {
            let mut stream = Zeroizing::new([0; MAX_LANES * BLOCK_BYTES]);
            s.store(s.encrypt(&key, s.xor(s.counters(counter), nonce)), &mut *stream, 0, BLOCK_BYTES);
            if XOR {
                tail.iter_mut().zip(stream.iter()).for_each(|(data, stream)| *data ^= stream);
            } else {
                tail.copy_from_slice(&stream[..tail.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> impl Iterator<Item = Level> {
        Level::ALL.into_iter().filter(|level| level.supported())
    }

    /// FIPS 197, appendix B: one block under the example key, read as a counter.
    #[test]
    fn matches_the_standard_at_every_level() {
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let sealed = 0x7df7_6b0c_1ab8_99b3_3e42_f047_b91b_546f_u128.to_be_bytes();
        for level in levels() {
            let mut block = [0; BLOCK_BYTES];
            Aes128::at(level, key).ctr_fill(0, &mut block);
            assert_eq!(block, sealed, "{level}");
        }
    }

    #[test]
    fn levels_agree_at_awkward_lengths() {
        for len in [0, 1, 9, 16, 511, 512, 513, 1001, 65537] {
            for first in [0, 5, u64::from(u32::MAX)] {
                let mut expected = vec![0; len];
                Aes128::at(Level::Portable, [7; 16]).ctr_fill(first, &mut expected);
                for level in levels() {
                    let key = Aes128::at(level, [7; 16]);
                    let mut out = vec![0xA5; len];
                    key.ctr_fill(first, &mut out);
                    assert!(out == expected, "fill {len} from {first}, {level}");
                    key.ctr_xor(first, &mut out);
                    assert!(out.iter().all(|byte| *byte == 0), "xor {len} from {first}, {level}");
                }
            }
        }
    }

    /// With a nonce, block i is the block of i xor nonce without one.
    #[test]
    fn a_nonce_moves_the_counters_at_every_level() {
        let nonce = 0xFFFF_FFFF_FFFF_FFF4_u64;
        for level in levels() {
            let bytes = u128::from(nonce).to_le_bytes();
            let mut out = [0; 9 * BLOCK_BYTES + 5];
            Aes128::with_nonce(level, [7; 16], bytes).ctr_fill(3, &mut out);
            for (i, block) in out.chunks(BLOCK_BYTES).enumerate() {
                let mut expected = [0; BLOCK_BYTES];
                Aes128::at(level, [7; 16]).ctr_fill((3 + i as u64) ^ nonce, &mut expected);
                assert_eq!(block, &expected[..block.len()], "block {i}, {level}");
            }
        }
    }

    #[test]
    fn a_group_starts_where_the_one_before_ended() {
        let key = Aes128::new([3; 16]);
        let mut whole = [0; 4096];
        key.ctr_fill(0, &mut whole);
        let mut part = [0; 1000];
        key.ctr_fill(77, &mut part);
        assert_eq!(part, whole[77 * 16..][..1000]);
    }

    #[test]
    fn keys_do_not_print() {
        assert!(format!("{:?}", Aes128::new([0xAB; 16])).starts_with("Aes128(16 bytes, "));
    }
}
