//! A part's key, field by field: read by a party, written by the dealer.

use std::{array, ops::Range};

use suf_gate::{
    BackendError, DealJob, EvalJob, KeyBytes, KeyShape, Mask, NodeId, Party, SecretBytes, Side, Source,
    Width,
    layout::FieldId,
    lookup::ELEMENT_BYTES,
    ops::{Entry, GateOp},
    prg::{Domain, MASK},
    ring::WIRE,
};
use zeroize::Zeroizing;

use crate::{
    masks,
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
    tree::{DealtTrees, RightBits, Tree, TreeShape},
    wrap::Wraps,
};

/// Elements that are worked on together. Their share of every field stays in the first-level cache. Their planes and
/// packed messages end at whole bytes.
pub(crate) const STRIP: usize = 256;

/// Bytes of a ring element in a message and in the fields that pack it.
pub(crate) const PACKED: usize = WIRE.bits() as usize / 8;

/// Bytes of a piece of a field in which there are too few cache lines to wait for.
const SHORT_PIECE: usize = 4096;

/// The element ranges of a tile, strip by strip.
pub(crate) fn strips(elems: usize) -> impl Iterator<Item = Range<usize>> {
    (0..elems).step_by(STRIP).map(move |start| start..elems.min(start + STRIP))
}

/// One party's key of one part.
pub(crate) struct PartKey {
    job: EvalJob,
    level: Level,
    bytes: KeyBytes,
    wraps: Vec<bool>,
}

impl PartKey {
    /// Takes the key that the dealer sent for `job`.
    pub(crate) fn new(job: EvalJob, level: Level, bytes: KeyBytes) -> Result<Self, BackendError> {
        job.check_key(bytes.len())?;
        Ok(Self { job, level, bytes, wraps: Vec::new() })
    }

    /// What is evaluated.
    pub(crate) fn job(&self) -> &EvalJob {
        &self.job
    }

    /// Elements of the part.
    pub(crate) fn elems(&self) -> usize {
        self.job.elems()
    }

    /// The instructions in use.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Field `id`, delivered or expanded from this party's seed.
    pub(crate) fn field(&self, id: FieldId) -> FieldBytes<'_> {
        let (shape, elems) = (self.job.key_shape(), self.elems());
        match shape.range(id, self.job.side(), elems) {
            Some(range) => FieldBytes::Delivered(&self.bytes.expose()[range]),
            None => FieldBytes::Expanded {
                stream: Stream::new(self.level, &self.job.domain().stream(&self.job.seed, id)),
                len: shape.field(id).width.bytes(elems),
            },
        }
    }

    /// The trees of `shape`.
    pub(crate) fn tree(&self, shape: TreeShape) -> Tree {
        Tree::new(self.level, shape, &self.job.domain().fixed_keys())
    }

    /// This party's share of the mask of the wire that the node takes, in that wire's ring.
    pub(crate) fn input_mask(&self) -> Vec<u64> {
        self.mask(self.job.node().inputs()[0])
    }

    /// This party's share of the mask of the wire that the node makes.
    pub(crate) fn output_mask(&self) -> Vec<u64> {
        self.mask(self.job.part.node)
    }

    fn mask(&self, wire: NodeId) -> Vec<u64> {
        let domain = self.job.mask_domain(wire);
        std::mem::take(&mut masks::of_wire(&self.job.program, domain, self.level, &[&self.job.seed], None))
    }

    /// Keeps for each element whether a wrap of its extended wire may have to be added.
    pub(crate) fn set_wraps(&mut self, wraps: Vec<bool>) {
        self.wraps = wraps;
    }

    /// The field of the wrap's shares, and for each element whether they count; none if the wire is not extended.
    pub(crate) fn wraps(&self) -> Option<Wraps<'_>> {
        let op = self.job.node().op().as_gate()?;
        Some(Wraps { field: self.field(op.wrap()?), kept: op.entry().kept(), counts: &self.wraps })
    }
}

impl PartKey {
    /// A segment of a message, `bits` bits for each element. They are the low bits of what `value` makes of the
    /// element's bytes in `fields` and its index.
    pub(crate) fn segment<const N: usize>(
        &self,
        bits: u8,
        fields: [FieldId; N],
        value: impl Fn([&[u8]; N], usize) -> u64,
    ) -> Vec<u8> {
        let widths = fields.map(|id| self.job.key_shape().field(id).width.bytes(1));
        let sources = fields.map(|id| self.field(id));
        let mut scratch: [_; N] = array::from_fn(|_| Zeroizing::new(Vec::new()));
        let mut values = Zeroizing::new([0; STRIP]);
        let mut message = vec![0; pack::packed_bytes(bits.into(), self.elems())];
        for range in strips(self.elems()) {
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
        planes::clear_padding(message, self.elems().div_ceil(8), self.elems());
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

/// The mask of a gate's wire at the dealer, in the gate's ring: strip by strip, or whole.
pub(crate) enum Masks {
    /// Fresh, and of the gate's ring.
    Streams(Box<OwnSums>),
    /// Derived, or of another ring.
    Whole(Zeroizing<Vec<u64>>),
}

impl Masks {
    /// Those of the elements `range`.
    pub(crate) fn elements(&mut self, range: Range<usize>, sums: &mut [u64]) {
        match self {
            Self::Streams(streams) => streams.elements(range, sums),
            Self::Whole(masks) => sums.copy_from_slice(&masks[range]),
        }
    }
}

/// An uncorrelated field at the dealer: both parties' streams.
pub(crate) struct OwnSums {
    streams: [Stream; 2],
    width: usize,
    /// Room for a strip of each.
    strips: Zeroizing<Vec<u8>>,
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
        let (mine, theirs) = self.strips.split_at_mut(STRIP * self.width);
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

/// Makes both parties' keys of a tile, field after field in the order of the layout.
pub(crate) struct KeyWriter<'j> {
    job: &'j DealJob<'j>,
    elems: usize,
    level: Level,
    keys: [KeyMemory; 2],
    /// The highest bits of the mask of an extended wire.
    tops: Zeroizing<Vec<u16>>,
    /// How much of each key has been written.
    written: [usize; 2],
}

impl<'j> KeyWriter<'j> {
    /// Two keys of their final length.
    pub(crate) fn new(job: &'j DealJob<'j>, level: Level) -> Result<Self, BackendError> {
        let memory = |party: Party| {
            let bytes = job.program.key_bytes_of(party, job.part);
            let failed = |error| BackendError::OutOfMemory(format!("{bytes} bytes for a key: {error}"));
            KeyMemory::zeroed(bytes).map_err(failed)
        };
        let (keys, elems) = ([memory(Party::P0)?, memory(Party::P1)?], job.elems());
        Ok(Self { job, elems, level, keys, tops: Zeroizing::default(), written: [0; 2] })
    }

    /// The finished keys.
    pub(crate) fn finish(self) -> [SecretBytes; 2] {
        let lens = self.keys.each_ref().map(|key| key.as_ref().len());
        assert_eq!(self.written, lens, "every field is written once");
        copy::settle();
        self.keys.map(|key| SecretBytes::from_memory(Box::new(key)))
    }

    /// Elements of the part.
    pub(crate) fn elems(&self) -> usize {
        self.elems
    }

    /// The instructions in use.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// The party that expands its side of the shared fields.
    pub(crate) fn seeded(&self) -> Party {
        match self.job.side(Party::P0) {
            Side::Seeded => Party::P0,
            Side::Explicit => Party::P1,
        }
    }

    /// Both parties' streams of the uncorrelated field `id`, delivered where the layout says so.
    pub(crate) fn own(&mut self, id: FieldId) -> [Zeroizing<Vec<u8>>; 2] {
        let len = self.shape().field(id).width.bytes(self.elems);
        [Party::P0, Party::P1].map(|party| {
            let mut bytes = Zeroizing::new(vec![0; len]);
            self.stream(party, id).fill(0, &mut bytes);
            if self.shape().delivered(id, self.job.side(party)) {
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

    /// The field of the wraps, if the gate's wire is extended.
    pub(crate) fn wrap(&self) -> Option<FieldId> {
        self.job.node().op().as_gate()?.wrap()
    }

    /// The highest bits of the mask of the extended wire, once the mask was asked for.
    pub(crate) fn take_tops(&mut self) -> Zeroizing<Vec<u16>> {
        std::mem::take(&mut self.tops)
    }

    /// The mask of the gate's input, in the gate's ring.
    pub(crate) fn input_masks(&mut self) -> Zeroizing<Vec<u64>> {
        let masks = self.input_sums();
        self.all(masks)
    }

    /// The mask of the wire that the gate makes.
    pub(crate) fn output_masks(&self) -> Zeroizing<Vec<u64>> {
        self.all(self.output_sums())
    }

    fn all(&self, masks: Masks) -> Zeroizing<Vec<u64>> {
        match masks {
            Masks::Whole(masks) => masks,
            Masks::Streams(mut streams) => {
                let mut sums = Zeroizing::new(vec![0; self.elems]);
                for range in strips(self.elems) {
                    streams.elements(range.clone(), &mut sums[range]);
                }
                sums
            }
        }
    }

    /// The mask of the gate's input, in the gate's ring, strip by strip.
    pub(crate) fn input_sums(&mut self) -> Masks {
        let wire = self.job.node().inputs()[0];
        let entry = self.job.node().op().as_gate().map_or(Entry::WHOLE, GateOp::entry);
        let is_fresh = self.job.program.node(wire).wire().is_some_and(|wire| wire.mask == Mask::Fresh);
        if is_fresh && entry == Entry::WHOLE {
            return self.mask_sums(wire);
        }
        let mut masks = masks::of_dealer(self.job, self.job.mask_domain(wire), self.level);
        if entry.is_extended() {
            self.tops = Zeroizing::new(masks.iter().map(|r| entry.top(*r) as u16).collect());
        }
        masks.iter_mut().for_each(|r| *r = entry.mask(*r));
        Masks::Whole(masks)
    }

    /// The mask of the wire that the gate makes, strip by strip.
    pub(crate) fn output_sums(&self) -> Masks {
        self.mask_sums(self.job.part.node)
    }

    fn mask_sums(&self, wire: NodeId) -> Masks {
        Masks::Streams(Box::new(self.sums(&self.job.mask_domain(wire), MASK, PACKED)))
    }

    /// The trees of `shape`.
    pub(crate) fn tree(&self, shape: TreeShape) -> Tree {
        Tree::new(self.level, shape, &self.job.domain().fixed_keys())
    }

    /// Sums of both parties' streams of the uncorrelated field `id`, which nobody receives, strip by strip.
    pub(crate) fn own_sums(&self, id: FieldId) -> OwnSums {
        let (shape, width) = (self.shape(), self.shape().field(id).width.bytes(1));
        debug_assert!([Side::Seeded, Side::Explicit].iter().all(|side| !shape.delivered(id, *side)));
        self.sums(&self.job.domain(), id, width)
    }

    fn sums(&self, domain: &Domain<'_>, id: FieldId, width: usize) -> OwnSums {
        let stream = |seed| Stream::new(self.level, &domain.stream(seed, id));
        OwnSums {
            streams: self.job.party_seeds.each_ref().map(stream),
            width,
            strips: Zeroizing::new(vec![0; 2 * STRIP * width]),
        }
    }

    /// The first `len` bytes of the dealer's stream of field `id`.
    pub(crate) fn dealers(&self, id: FieldId, len: usize) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![0; len]);
        Stream::new(self.level, &self.job.domain().stream(self.job.dealer_seed, id)).fill(0, &mut bytes);
        bytes
    }

    /// Shares the field `id`. For each strip, `subtract` gets the element range and the seeded side's share and turns it
    /// into the explicit side's.
    pub(crate) fn shared(&mut self, id: FieldId, mut subtract: impl FnMut(Range<usize>, &mut [u8])) {
        let field = self.shared_field(id);
        let seeded = self.seeded();
        let mut strip = Zeroizing::new(vec![0; STRIP * field.width]);
        for range in strips(self.elems) {
            let (offset, len) = (range.start * field.width, range.len() * field.width);
            let strip = &mut strip[..len];
            field.stream.fill(offset, strip);
            if let Some(at) = field.seeded_at {
                copy_past_cache(strip, &mut self.keys[seeded.index()].as_mut()[at + offset..][..len]);
            }
            subtract(range, strip);
            let explicit_key = self.keys[seeded.other().index()].as_mut();
            copy_past_cache(strip, &mut explicit_key[field.explicit_at + offset..][..len]);
        }
    }

    /// The next field of the layout, shared, to be written strip by strip.
    pub(crate) fn shared_field(&mut self, id: FieldId) -> SharedField {
        debug_assert_eq!(self.shape().field(id).source, Source::Shared);
        let (seeded, width) = (self.seeded(), self.shape().field(id).width);
        let len = width.bytes(self.elems);
        SharedField {
            stream: self.stream(seeded, id),
            width: width.bytes(1),
            seeded_at: self.shape().delivered(id, Side::Seeded).then(|| self.reserve(seeded, id, len).start),
            explicit_at: self.reserve(seeded.other(), id, len).start,
        }
    }

    /// A strip of the explicit side's share, which so far is the seeded side's.
    pub(crate) fn seeded_strip(&mut self, field: &SharedField, range: Range<usize>) -> &mut [u8] {
        let seeded = self.seeded();
        let (offset, len) = (range.start * field.width, range.len() * field.width);
        let [key_0, key_1] = &mut self.keys;
        let (seeded_key, explicit_key) = match seeded {
            Party::P0 => (key_0, key_1),
            Party::P1 => (key_1, key_0),
        };
        let strip = &mut explicit_key.as_mut()[field.explicit_at + offset..][..len];
        field.stream.fill(offset, strip);
        if let Some(at) = field.seeded_at {
            seeded_key.as_mut()[at + offset..][..len].copy_from_slice(strip);
        }
        strip
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

    /// Deals trees that are hot at `alphas` into neighbouring fields of both keys: correction words, then corrections
    /// of the leaf block. Under [`crate::tree::Rule::Bgi`] a third field has the right children's control bits. Returns
    /// the plane of party 0's shares of the hot leaf.
    pub(crate) fn trees(
        &mut self,
        tree: TreeShape,
        roots: &[Zeroizing<Vec<u8>>; 2],
        alphas: &[u64],
        ids: TreeIds,
    ) -> Zeroizing<Vec<u8>> {
        let (elems, shape, tree) = (self.elems(), self.shape(), self.tree(tree));
        let widths = [tree.word_bytes(), BLOCK_BYTES];
        let right_width = ids.right.map(|id| shape.field(id).width);
        let right_len = right_width.map_or(0, |width| width.bytes(elems));
        let len = elems * (widths[0] + widths[1]) + right_len;
        let places = [Party::P0, Party::P1].map(|party| self.reserve(party, ids.words, len));

        // In a buffer that stays in the cache: correction words are made level by level, in long strides.
        let mut words = vec![0; STRIP * widths[0]];
        let mut leaves = vec![0; STRIP * widths[1]];
        let mut right = vec![0; right_width.map_or(0, |width| width.bytes(STRIP))];
        let mut hot = Zeroizing::new(vec![0; elems.div_ceil(8)]);
        for range in strips(elems) {
            let n = range.len();
            let (words, leaves) = (&mut words[..n * widths[0]], &mut leaves[..n * widths[1]]);
            let right = &mut right[..right_width.map_or(0, |width| width.bytes(n))];
            let out = DealtTrees {
                words: &mut *words,
                right: match right_width {
                    None => RightBits::None,
                    Some(Width::Planes(_)) => RightBits::Planes(&mut *right),
                    Some(Width::Bytes(_) | Width::Packed(_)) => RightBits::Words(&mut *right),
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
                        for (plane, strip) in planes.zip(right.chunks_exact(n.div_ceil(8))) {
                            plane[range.start / 8..][..strip.len()].copy_from_slice(strip);
                        }
                    }
                    Some(width @ (Width::Bytes(_) | Width::Packed(_))) => {
                        all_right[width.bytes(range.start)..][..right.len()].copy_from_slice(right);
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
        let stream = self.stream(seeded, id);
        if self.shape().delivered(id, Side::Seeded) {
            let mut share = Zeroizing::new(vec![0; planes.len()]);
            stream.fill(0, &mut share);
            self.append(seeded, id, &share);
        }
        stream.xor(0, &mut planes);
        planes::clear_padding(&mut planes, self.elems.div_ceil(8), self.elems);
        self.append(seeded.other(), id, &planes);
    }

    fn append(&mut self, party: Party, id: FieldId, bytes: &[u8]) {
        let place = self.reserve(party, id, bytes.len());
        self.keys[party.index()].as_mut()[place].copy_from_slice(bytes);
    }

    /// The next `len` bytes of a party's key, which belong to the field `id` and those after it.
    fn reserve(&mut self, party: Party, id: FieldId, len: usize) -> Range<usize> {
        let start = self.written[party.index()];
        debug_assert!(
            self.shape()
                .range(id, self.job.side(party), self.elems)
                // A field may be empty.
                .is_some_and(|range| (range.start..range.end.max(range.start + 1)).contains(&start)),
            "fields are written in the order of the layout"
        );
        self.written[party.index()] = start + len;
        start..start + len
    }

    fn shape(&self) -> &'j KeyShape {
        self.job.key_shape()
    }

    /// The stream of field `id` of a party's own.
    fn stream(&self, party: Party, id: FieldId) -> Stream {
        let seed = &self.job.party_seeds[party.index()];
        Stream::new(self.level, &self.job.domain().stream(seed, id))
    }
}
