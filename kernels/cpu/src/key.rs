//! A chunk's key, field by field: read by a party, written by the dealer.

use std::{array, ops::Range};

use suf_gate::{
    BackendError, DealJob, EvalJob, KeyBytes, KeyShape, Party, Role, SecretBytes, Seed, Source, Width,
    layout::FieldId, lookup::ELEMENT_BYTES, prg::StreamDomain, ring::WIRE,
};
use zeroize::Zeroizing;

use crate::{
    memory::KeyMemory,
    pack, planes,
    prg::Stream,
    simd::{
        BLOCK_BYTES, Level,
        wide::{
            self,
            copy::{self, copy_past_cache},
        },
    },
    tree::{DealtTrees, RightBits, Tree},
};

/// Elements that are worked on together: their share of every field stays in the first-level cache, and their planes
/// and packed messages end at whole bytes.
pub(crate) const TILE: usize = 256;

/// Bytes of a ring element in a message and in the fields that pack it.
pub(crate) const PACKED: usize = WIRE.bits() as usize / 8;

/// Bytes of a piece of a field in which there are too few cache lines to wait for.
const SHORT_PIECE: usize = 4096;

/// The element ranges of a chunk, tile by tile.
pub(crate) fn tiles(elems: usize) -> impl Iterator<Item = Range<usize>> {
    (0..elems).step_by(TILE).map(move |start| start..elems.min(start + TILE))
}

/// One party's key of one chunk.
pub(crate) struct ChunkKey {
    job: EvalJob,
    level: Level,
    bytes: KeyBytes,
}

impl ChunkKey {
    /// Takes the key that the dealer sent for `job`.
    pub(crate) fn new(job: EvalJob, level: Level, bytes: KeyBytes) -> Result<Self, BackendError> {
        let role = job.party.role(job.chunk);
        if bytes.len() != job.gate.key_shape().chunk_bytes(role, job.elems) {
            return Err(BackendError::Misuse("a key of another length than the layout's"));
        }
        Ok(Self { job, level, bytes })
    }

    /// What is evaluated.
    pub(crate) fn job(&self) -> &EvalJob {
        &self.job
    }

    /// The instructions in use.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Field `id`, delivered or expanded from this party's seed.
    pub(crate) fn field(&self, id: FieldId) -> FieldBytes<'_> {
        let EvalJob { gate, chunk, elems, party, .. } = &self.job;
        let shape = gate.key_shape();
        match shape.range(id, party.role(*chunk), *elems) {
            Some(range) => FieldBytes::Delivered(&self.bytes.expose()[range]),
            None => FieldBytes::Expanded {
                stream: eval_stream(&self.job, self.level, id),
                len: shape.field(id).width.bytes(*elems),
            },
        }
    }
}

impl ChunkKey {
    /// A segment of a message, `bits` bits for each element: the low bits of what `value` makes of the element's bytes in
    /// `fields` and its index.
    pub(crate) fn segment<const N: usize>(
        &self,
        bits: u8,
        fields: [FieldId; N],
        value: impl Fn([&[u8]; N], usize) -> u64,
    ) -> Vec<u8> {
        let widths = fields.map(|id| self.job.gate.key_shape().field(id).width.bytes(1));
        let sources = fields.map(|id| self.field(id));
        let mut scratch: [_; N] = array::from_fn(|_| Zeroizing::new(Vec::new()));
        let mut values = Zeroizing::new([0; TILE]);
        let mut message = vec![0; pack::packed_bytes(bits.into(), self.job.elems)];
        for range in tiles(self.job.elems) {
            let mut scratch = scratch.iter_mut();
            let bytes: [&[u8]; N] = array::from_fn(|field| {
                let scratch = scratch.next().expect("a buffer for each field");
                sources[field].read(range.start * widths[field]..range.end * widths[field], scratch)
            });
            let n = range.len();
            let place =
                pack::packed_bytes(bits.into(), range.start)..pack::packed_bytes(bits.into(), range.end);
            for (e, (out, i)) in values.iter_mut().zip(range).enumerate() {
                *out = value(array::from_fn(|field| &bytes[field][e * widths[field]..][..widths[field]]), i);
            }
            pack::pack(bits.into(), &values[..n], &mut message[place]);
        }
        message
    }

    /// XORs this party's mask `id` into planes of a message, and zeroes what lies beyond the last element.
    pub(crate) fn mask_planes(&self, id: FieldId, message: &mut [u8]) {
        self.field(id).xor_into(message);
        planes::clear_padding(message, self.job.elems.div_ceil(8), self.job.elems);
    }
}

/// The bytes of one field of one party.
pub(crate) enum FieldBytes<'k> {
    /// They came from the dealer.
    Delivered(&'k [u8]),
    /// They are this party's own stream.
    Expanded {
        /// The stream.
        stream: Stream,
        /// The field's length in bytes.
        len: usize,
    },
}

impl FieldBytes<'_> {
    /// The bytes `range`, which starts at a multiple of 16; `scratch` holds them if they have to be made.
    pub(crate) fn read<'a>(&'a self, range: Range<usize>, scratch: &'a mut Zeroizing<Vec<u8>>) -> &'a [u8] {
        match self {
            Self::Delivered(bytes) => {
                let piece = &bytes[range];
                if piece.len() <= SHORT_PIECE {
                    // Read to its end before the processor has seen the stream: the next piece is asked for here.
                    wide::prefetch(piece, piece.len());
                }
                piece
            }
            Self::Expanded { stream, .. } => {
                let len = range.len();
                // Kept at its longest: fields of different widths take turns in it.
                if scratch.len() < len {
                    scratch.resize(len, 0);
                }
                stream.fill(range.start, &mut scratch[..len]);
                &scratch[..len]
            }
        }
    }

    /// XORs all bytes into `data`.
    pub(crate) fn xor_into(&self, data: &mut [u8]) {
        match self {
            Self::Delivered(bytes) => pack::xor_into(data, bytes),
            Self::Expanded { stream, .. } => stream.xor(0, data),
        }
    }

    /// All bytes.
    pub(crate) fn whole(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Delivered(bytes) => Zeroizing::new(bytes.to_vec()),
            Self::Expanded { stream, len } => {
                let mut bytes = Zeroizing::new(vec![0; *len]);
                stream.fill(0, &mut bytes);
                bytes
            }
        }
    }
}

/// A party's share of a wire mask.
pub(crate) fn wire_mask(job: &EvalJob, level: Level, id: FieldId) -> Vec<u64> {
    let mut bytes = Zeroizing::new(vec![0; job.elems * PACKED]);
    eval_stream(job, level, id).fill(0, &mut bytes);
    unpack_elements(&bytes)
}

/// Packed ring elements, unpacked.
pub(crate) fn unpack_elements(packed: &[u8]) -> Vec<u64> {
    let mut elements = vec![0; packed.len() / PACKED];
    pack::unpack(WIRE.bits().into(), packed, &mut elements);
    elements
}

fn eval_stream(job: &EvalJob, level: Level, id: FieldId) -> Stream {
    let domain = StreamDomain { batch: &job.batch, gate: job.gate.digest(), chunk: job.chunk };
    Stream::at(level, domain.key(&job.seed, id))
}

/// An uncorrelated field at the dealer: both parties' streams.
pub(crate) struct OwnSums {
    streams: [Stream; 2],
    width: usize,
    /// Room for a tile of each.
    tiles: Zeroizing<Vec<u8>>,
}

impl OwnSums {
    /// The sums of packed ring elements.
    pub(crate) fn elements(&mut self, range: Range<usize>, sums: &mut [u64]) {
        let [mine, theirs] = self.expand(range);
        pack::unpack_sum(WIRE.bits().into(), mine, theirs, sums);
    }

    /// The sums of numbers of two bytes, modulo 2^`bits`.
    pub(crate) fn words(&mut self, bits: u8, range: Range<usize>, sums: &mut [u16]) {
        let [mine, theirs] = self.expand(range).map(|bytes| bytes.as_chunks::<2>().0);
        let mask = u16::MAX >> (16 - bits);
        for ((sum, mine), theirs) in sums.iter_mut().zip(mine).zip(theirs) {
            *sum = u16::from_le_bytes(*mine).wrapping_add(u16::from_le_bytes(*theirs)) & mask;
        }
    }

    fn expand(&mut self, range: Range<usize>) -> [&[u8]; 2] {
        let (offset, len) = (range.start * self.width, range.len() * self.width);
        let (mine, theirs) = self.tiles.split_at_mut(TILE * self.width);
        let mut expanded = [&mut mine[..len], &mut theirs[..len]];
        for (stream, bytes) in self.streams.iter().zip(&mut expanded) {
            stream.fill(offset, bytes);
        }
        expanded.map(|bytes| &*bytes)
    }
}

/// A shared field in the making.
pub(crate) struct SharedField {
    /// The seeded side's.
    stream: Stream,
    /// Bytes of an element.
    width: usize,
    /// Where the field starts in the seeded side's key, if that is delivered.
    seeded_at: Option<usize>,
    /// Where it starts in the explicit side's.
    explicit_at: usize,
}

/// Where a tree's common fields stand: one after another.
#[derive(Clone, Copy)]
pub(crate) struct TreeIds {
    /// The correction words.
    pub(crate) words: FieldId,
    /// The right children's control bits, last; none in a half-tree.
    pub(crate) right: Option<FieldId>,
}

/// Makes both parties' keys of a chunk, field after field in the order of the layout.
pub(crate) struct KeyWriter<'j> {
    job: &'j DealJob<'j>,
    level: Level,
    keys: [KeyMemory; 2],
    /// How much of each key has been written.
    written: [usize; 2],
}

impl<'j> KeyWriter<'j> {
    /// Two keys of their final length.
    pub(crate) fn new(job: &'j DealJob<'j>, level: Level) -> Result<Self, BackendError> {
        let memory = |party: Party| {
            let bytes = job.gate.key_shape().chunk_bytes(party.role(job.chunk), job.elems);
            let failed = |error| BackendError::OutOfMemory(format!("{bytes} bytes for a key: {error}"));
            KeyMemory::zeroed(bytes).map_err(failed)
        };
        Ok(Self { job, level, keys: [memory(Party::P0)?, memory(Party::P1)?], written: [0; 2] })
    }

    /// The finished keys.
    pub(crate) fn finish(self) -> [SecretBytes; 2] {
        let lens = self.keys.each_ref().map(|key| key.as_ref().len());
        assert_eq!(self.written, lens, "every field is written once");
        copy::settle();
        self.keys.map(|key| SecretBytes::from_memory(Box::new(key)))
    }

    /// Elements of the chunk.
    pub(crate) fn elems(&self) -> usize {
        self.job.elems
    }

    /// The instructions in use.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// The party that expands its side of the shared fields.
    pub(crate) fn seeded(&self) -> Party {
        match Party::P0.role(self.job.chunk) {
            Role::Seeded => Party::P0,
            Role::Explicit => Party::P1,
        }
    }

    /// Both parties' streams of the uncorrelated field `id`, delivered where the layout says so.
    pub(crate) fn own(&mut self, id: FieldId) -> [Zeroizing<Vec<u8>>; 2] {
        let len = self.shape().field(id).width.bytes(self.job.elems);
        [Party::P0, Party::P1].map(|party| {
            let mut bytes = Zeroizing::new(vec![0; len]);
            self.stream(&self.job.party_seeds[party.index()], id).fill(0, &mut bytes);
            if self.shape().delivered(id, party.role(self.job.chunk)) {
                self.append(party, id, &bytes);
            }
            bytes
        })
    }

    /// XOR of both parties' streams of the uncorrelated planes `id`.
    pub(crate) fn own_planes(&mut self, id: FieldId) -> Zeroizing<Vec<u8>> {
        let [mut sum, other] = self.own(id);
        pack::xor_into(&mut sum, &other);
        sum
    }

    /// Sum of both parties' streams of the uncorrelated packed ring elements `id`, which nobody receives.
    pub(crate) fn own_elements(&self, id: FieldId) -> Zeroizing<Vec<u64>> {
        let mut sums = Zeroizing::new(vec![0; self.job.elems]);
        let mut own = self.own_sums(id);
        for range in tiles(self.job.elems) {
            own.elements(range.clone(), &mut sums[range]);
        }
        sums
    }

    /// Sums of both parties' streams of the uncorrelated field `id`, which nobody receives, tile by tile.
    pub(crate) fn own_sums(&self, id: FieldId) -> OwnSums {
        let (shape, width) = (self.shape(), self.shape().field(id).width.bytes(1));
        debug_assert!([Role::Seeded, Role::Explicit].iter().all(|role| !shape.delivered(id, *role)));
        OwnSums {
            streams: self.job.party_seeds.each_ref().map(|seed| self.stream(seed, id)),
            width,
            tiles: Zeroizing::new(vec![0; 2 * TILE * width]),
        }
    }

    /// The first `len` bytes of the dealer's stream of field `id`.
    pub(crate) fn dealers(&self, id: FieldId, len: usize) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![0; len]);
        self.stream(self.job.dealer_seed, id).fill(0, &mut bytes);
        bytes
    }

    /// Shares the field `id`. For each tile, `subtract` gets the element range and the seeded side's share and turns it
    /// into the explicit side's.
    pub(crate) fn shared(&mut self, id: FieldId, mut subtract: impl FnMut(Range<usize>, &mut [u8])) {
        let field = self.shared_field(id);
        let seeded = self.seeded();
        let mut tile = Zeroizing::new(vec![0; TILE * field.width]);
        for range in tiles(self.job.elems) {
            let (offset, len) = (range.start * field.width, range.len() * field.width);
            let tile = &mut tile[..len];
            field.stream.fill(offset, tile);
            if let Some(at) = field.seeded_at {
                copy_past_cache(tile, &mut self.keys[seeded.index()].as_mut()[at + offset..][..len]);
            }
            subtract(range, tile);
            let explicit_key = self.keys[seeded.other().index()].as_mut();
            copy_past_cache(tile, &mut explicit_key[field.explicit_at + offset..][..len]);
        }
    }

    /// The next field of the layout, shared, to be written tile by tile.
    pub(crate) fn shared_field(&mut self, id: FieldId) -> SharedField {
        debug_assert_eq!(self.shape().field(id).source, Source::Shared);
        let (seeded, width) = (self.seeded(), self.shape().field(id).width);
        let len = width.bytes(self.job.elems);
        SharedField {
            stream: self.stream(&self.job.party_seeds[seeded.index()], id),
            width: width.bytes(1),
            seeded_at: self.shape().delivered(id, Role::Seeded).then(|| self.reserve(seeded, id, len).start),
            explicit_at: self.reserve(seeded.other(), id, len).start,
        }
    }

    /// A tile of the explicit side's share, which so far is the seeded side's.
    pub(crate) fn seeded_tile(&mut self, field: &SharedField, range: Range<usize>) -> &mut [u8] {
        let seeded = self.seeded();
        let (offset, len) = (range.start * field.width, range.len() * field.width);
        let [key_0, key_1] = &mut self.keys;
        let (seeded_key, explicit_key) = match seeded {
            Party::P0 => (key_0, key_1),
            Party::P1 => (key_1, key_0),
        };
        let tile = &mut explicit_key.as_mut()[field.explicit_at + offset..][..len];
        field.stream.fill(offset, tile);
        if let Some(at) = field.seeded_at {
            seeded_key.as_mut()[at + offset..][..len].copy_from_slice(tile);
        }
        tile
    }

    /// Shares the field `id` of ring elements in whole words: for each element, those of `values`.
    pub(crate) fn shared_elements<const N: usize>(
        &mut self,
        id: FieldId,
        values: impl Fn(usize) -> [u64; N],
    ) {
        self.shared(id, |range, shares| {
            for (i, shares) in range.zip(shares.chunks_exact_mut(ELEMENT_BYTES * N)) {
                for (share, value) in shares.as_chunks_mut::<ELEMENT_BYTES>().0.iter_mut().zip(values(i)) {
                    *share = WIRE.sub(value, u64::from_le_bytes(*share)).to_le_bytes();
                }
            }
        });
    }

    /// Deals trees that are hot at `alphas` into three neighbouring fields of both keys: correction words, corrections of
    /// the leaf block, and, under [`crate::tree::Rule::Bgi`], the right children's control bits. Returns the plane of
    /// party 0's shares of the hot leaf.
    pub(crate) fn trees(
        &mut self,
        tree: &Tree,
        roots: &[Zeroizing<Vec<u8>>; 2],
        alphas: &[u64],
        ids: TreeIds,
    ) -> Zeroizing<Vec<u8>> {
        let (elems, shape) = (self.elems(), self.shape());
        let widths = [tree.word_bytes(), BLOCK_BYTES];
        let right_width = ids.right.map(|id| shape.field(id).width);
        let right_len = right_width.map_or(0, |width| width.bytes(elems));
        let len = elems * (widths[0] + widths[1]) + right_len;
        let places = [Party::P0, Party::P1].map(|party| self.reserve(party, ids.words, len));

        // In a buffer that stays in the cache: correction words are made level by level, in long strides.
        let mut words = vec![0; TILE * widths[0]];
        let mut leaves = vec![0; TILE * widths[1]];
        let mut right = vec![0; right_width.map_or(0, |width| width.bytes(TILE))];
        let mut hot = Zeroizing::new(vec![0; elems.div_ceil(8)]);
        for range in tiles(elems) {
            let n = range.len();
            let (words, leaves) = (&mut words[..n * widths[0]], &mut leaves[..n * widths[1]]);
            let right = &mut right[..right_width.map_or(0, |width| width.bytes(n))];
            let out = DealtTrees {
                words: &mut *words,
                right: match right_width {
                    None => RightBits::None,
                    Some(Width::Planes(_)) => RightBits::Planes(&mut *right),
                    Some(Width::Bytes(_)) => RightBits::Words(&mut *right),
                },
                leaves: &mut *leaves,
                hot: &mut hot[range.start / 8..][..n.div_ceil(8)],
            };
            let blocks = range.start * BLOCK_BYTES..range.end * BLOCK_BYTES;
            let roots = [&roots[0][blocks.clone()], &roots[1][blocks]];
            tree.deal(roots, &alphas[range.clone()], out);

            for (key, place) in self.keys.iter_mut().zip(&places) {
                let bytes = &mut key.as_mut()[place.clone()];
                let (all_words, rest) = bytes.split_at_mut(elems * widths[0]);
                let (all_leaves, all_right) = rest.split_at_mut(elems * widths[1]);
                copy_past_cache(words, &mut all_words[range.start * widths[0]..][..words.len()]);
                copy_past_cache(leaves, &mut all_leaves[range.start * widths[1]..][..leaves.len()]);
                match right_width {
                    None => {}
                    Some(Width::Planes(_)) => {
                        let planes = all_right.chunks_exact_mut(elems.div_ceil(8));
                        for (plane, tile) in planes.zip(right.chunks_exact(n.div_ceil(8))) {
                            plane[range.start / 8..][..tile.len()].copy_from_slice(tile);
                        }
                    }
                    Some(Width::Bytes(width)) => {
                        all_right[range.start * usize::from(width)..][..right.len()].copy_from_slice(right);
                    }
                }
            }
        }
        hot
    }

    /// Shares the bits `planes` of the field `id`, planes of bits.
    pub(crate) fn shared_planes(&mut self, id: FieldId, mut planes: Zeroizing<Vec<u8>>) {
        debug_assert_eq!(self.shape().field(id).source, Source::Shared);
        let seeded = self.seeded();
        let stream = self.stream(&self.job.party_seeds[seeded.index()], id);
        if self.shape().delivered(id, Role::Seeded) {
            let mut share = Zeroizing::new(vec![0; planes.len()]);
            stream.fill(0, &mut share);
            self.append(seeded, id, &share);
        }
        stream.xor(0, &mut planes);
        planes::clear_padding(&mut planes, self.job.elems.div_ceil(8), self.job.elems);
        self.append(seeded.other(), id, &planes);
    }

    fn append(&mut self, party: Party, id: FieldId, bytes: &[u8]) {
        let place = self.reserve(party, id, bytes.len());
        self.keys[party.index()].as_mut()[place].copy_from_slice(bytes);
    }

    /// The next `len` bytes of a party's key, which belong to the field `id` and those after it.
    fn reserve(&mut self, party: Party, id: FieldId, len: usize) -> Range<usize> {
        let written = &mut self.written[party.index()];
        debug_assert!(
            self.job
                .gate
                .key_shape()
                .range(id, party.role(self.job.chunk), self.job.elems)
                // A field may be empty.
                .is_some_and(|range| (range.start..range.end.max(range.start + 1)).contains(written)),
            "fields are written in the order of the layout"
        );
        *written += len;
        *written - len..*written
    }

    fn shape(&self) -> &'j KeyShape {
        self.job.gate.key_shape()
    }

    fn stream(&self, seed: &Seed, id: FieldId) -> Stream {
        let domain =
            StreamDomain { batch: &self.job.batch, gate: self.job.gate.digest(), chunk: self.job.chunk };
        Stream::at(self.level, domain.key(seed, id))
    }
}
