//! Key fields and messages: who gets which bytes of a chunk, and where they stand.
//!
//! A chunk of m elements is a structure of arrays: the delivered fields one after another, without padding between
//! them. The same description drives the dealer, both parties, every backend and the declared cost.

use std::ops::Range;

/// Elements of a full chunk. Keys and messages are made, shipped and pipelined chunk by chunk.
pub const CHUNK_ELEMS: usize = 1 << 16;

/// One of the two evaluating parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// Party 0.
    P0,
    /// Party 1.
    P1,
}

impl Party {
    /// 0 or 1.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::P0 => 0,
            Self::P1 => 1,
        }
    }

    /// The peer.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::P0 => Self::P1,
            Self::P1 => Self::P0,
        }
    }

    /// The role in chunk `chunk`: they alternate, so that the dealer loads both links alike.
    #[must_use]
    pub const fn role(self, chunk: u32) -> Role {
        if chunk % 2 == self.index() as u32 { Role::Seeded } else { Role::Explicit }
    }
}

/// How a party obtains its side of the correlated fields of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Expands them from its seed: no bytes.
    Seeded,
    /// Receives the difference from the dealer.
    Explicit,
}

/// Index of a field within its gate's key; part of the PRG's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldId(pub u16);

/// Where the bytes of a field come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The same bytes for both parties: correction words.
    Common,
    /// Shares of a value that the dealer chose: one side expands, the other receives the difference.
    Shared,
    /// Randomness of each party's own; the value that counts is the combination, known to the dealer alone. Never
    /// correlated, hence never shipped.
    Own,
    /// Known to the dealer alone.
    Dealer,
}

/// Width of a field per element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// That many planes of one bit: bit e of a plane is bit e % 8 of byte e / 8.
    Planes(u16),
    /// That many bytes, little endian, element after element.
    Bytes(u16),
}

impl Width {
    /// Bytes of the field for `elems` elements.
    #[must_use]
    pub const fn bytes(self, elems: usize) -> usize {
        match self {
            Self::Planes(planes) => planes as usize * elems.div_ceil(8),
            Self::Bytes(bytes) => bytes as usize * elems,
        }
    }

    /// Bits per element.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Planes(planes) => planes as u32,
            Self::Bytes(bytes) => bytes as u32 * 8,
        }
    }
}

/// One field of a gate's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name, as the gate's page below `docs/protocols.md` has it.
    pub name: &'static str,
    /// Who makes it.
    pub source: Source,
    /// Its width per element.
    pub width: Width,
}

impl Field {
    /// A field.
    #[must_use]
    pub const fn new(name: &'static str, source: Source, width: Width) -> Self {
        Self { name, source, width }
    }
}

/// Share of the input mask r: field 0 of every gate.
pub const R_IN: FieldId = FieldId(0);

/// Share of the output mask: field 1 of every gate.
pub const R_OUT: FieldId = FieldId(1);

/// The fields of a gate's key. Fields 0 and 1 are the masks of the wire, which are not part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyShape {
    fields: Vec<Field>,
    both_explicit: bool,
}

impl KeyShape {
    /// A key of `fields` after the two wire masks. With `both_explicit`, as in SIGMA, every field is shipped to both
    /// parties.
    #[must_use]
    pub fn new(both_explicit: bool, fields: impl IntoIterator<Item = Field>) -> Self {
        let masks = [
            Field::new("r_in", Source::Own, Width::Bytes(6)),
            Field::new("r_out", Source::Own, Width::Bytes(6)),
        ];
        Self { fields: masks.into_iter().chain(fields).collect(), both_explicit }
    }

    /// All fields in the order of their ids.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field `id`.
    #[must_use]
    pub fn field(&self, id: FieldId) -> &Field {
        &self.fields[usize::from(id.0)]
    }

    /// Whether every field is shipped to both parties.
    #[must_use]
    pub fn both_explicit(&self) -> bool {
        self.both_explicit
    }

    /// Whether the dealer ships field `id` to a party of role `role`.
    #[must_use]
    pub fn delivered(&self, id: FieldId, role: Role) -> bool {
        match self.field(id).source {
            Source::Dealer => false,
            Source::Common => true,
            Source::Shared => self.both_explicit || role == Role::Explicit,
            Source::Own => self.both_explicit && id != R_IN && id != R_OUT,
        }
    }

    /// Where field `id` stands in the chunk of `elems` elements of a party of role `role`; none if it is not delivered.
    #[must_use]
    pub fn range(&self, id: FieldId, role: Role, elems: usize) -> Option<Range<usize>> {
        if !self.delivered(id, role) {
            return None;
        }
        let start = self.ids().take(usize::from(id.0)).map(|before| self.bytes_of(before, role, elems)).sum();
        Some(start..start + self.bytes_of(id, role, elems))
    }

    /// Where the fields that both parties hold in equal bytes stand in the chunk of `elems` elements of a party of role
    /// `role`: one range for each field, in the order of their ids.
    pub fn common_ranges(&self, role: Role, elems: usize) -> impl Iterator<Item = Range<usize>> + use<'_> {
        self.ids()
            .filter(|id| self.field(*id).source == Source::Common)
            .filter_map(move |id| self.range(id, role, elems))
    }

    /// Bytes of a whole chunk for a party of role `role`.
    #[must_use]
    pub fn chunk_bytes(&self, role: Role, elems: usize) -> usize {
        self.ids().map(|id| self.bytes_of(id, role, elems)).sum()
    }

    /// Bytes of all chunks of a batch of `elems` elements for `party`: full even chunks, full odd chunks, and the rest.
    /// `u64::MAX` stands for more than that; no batch that is accepted comes near.
    #[must_use]
    pub fn batch_bytes(&self, party: Party, elems: u64) -> u64 {
        let full = elems / CHUNK_ELEMS as u64;
        // Below CHUNK_ELEMS.
        let rest = (elems % CHUNK_ELEMS as u64) as usize;
        let chunk = |parity: u64, elems| self.chunk_bytes(party.role(parity as u32), elems) as u128;
        // Less than 2^48 chunks of less than 2^48 bytes.
        let even = u128::from(full.div_ceil(2)) * chunk(0, CHUNK_ELEMS);
        let odd = u128::from(full / 2) * chunk(1, CHUNK_ELEMS);
        u64::try_from(even + odd + chunk(full % 2, rest)).unwrap_or(u64::MAX)
    }

    /// Delivered bits per element, rounding of the planes aside.
    #[must_use]
    pub fn bits_per_elem(&self, role: Role) -> u32 {
        self.ids().filter(|id| self.delivered(*id, role)).map(|id| self.field(id).width.bits()).sum()
    }

    fn bytes_of(&self, id: FieldId, role: Role, elems: usize) -> usize {
        if self.delivered(id, role) { self.field(id).width.bytes(elems) } else { 0 }
    }

    fn ids(&self) -> impl Iterator<Item = FieldId> + use<> {
        (0..u16::try_from(self.fields.len()).expect("a gate has fewer than 2^16 fields")).map(FieldId)
    }
}

/// One opened value of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Name of the opened value.
    pub name: &'static str,
    /// Bits per element, 1..=48.
    pub bits: u8,
}

impl Segment {
    /// A segment.
    #[must_use]
    pub const fn new(name: &'static str, bits: u8) -> Self {
        Self { name, bits }
    }

    /// Bytes for `elems` elements: packed from the lowest bit, padded with zeros to a whole byte.
    #[must_use]
    pub const fn bytes(&self, elems: usize) -> usize {
        (self.bits as usize * elems).div_ceil(8)
    }
}

/// Number of chunks of a batch of `elems` elements; `u32::MAX` for more than that many, which no batch has.
#[must_use]
pub const fn chunk_count(elems: u64) -> u32 {
    let count = elems.div_ceil(CHUNK_ELEMS as u64);
    if count > u32::MAX as u64 { u32::MAX } else { count as u32 }
}

/// Elements of chunk `chunk` in a batch of `elems` elements; 0 for a chunk that the batch does not have.
#[must_use]
pub const fn chunk_elems(elems: u64, chunk: u32) -> usize {
    let before = chunk as u64 * CHUNK_ELEMS as u64;
    let left = elems.saturating_sub(before);
    if left < CHUNK_ELEMS as u64 { left as usize } else { CHUNK_ELEMS }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(both_explicit: bool) -> KeyShape {
        KeyShape::new(
            both_explicit,
            [
                Field::new("common", Source::Common, Width::Bytes(16)),
                Field::new("shared", Source::Shared, Width::Planes(3)),
                Field::new("own", Source::Own, Width::Planes(1)),
                Field::new("dealer", Source::Dealer, Width::Bytes(2)),
            ],
        )
    }

    #[test]
    fn seeded_side_gets_only_common_fields() {
        let shape = shape(false);
        assert_eq!(shape.chunk_bytes(Role::Seeded, 9), 16 * 9);
        assert_eq!(shape.chunk_bytes(Role::Explicit, 9), 16 * 9 + 3 * 2);
        assert_eq!(shape.range(FieldId(3), Role::Explicit, 9), Some(144..150));
        assert_eq!(shape.range(FieldId(3), Role::Seeded, 9), None);
    }

    #[test]
    fn common_fields_have_equal_lengths_in_both_roles() {
        let fields = [
            Field::new("first", Source::Common, Width::Bytes(16)),
            Field::new("shared", Source::Shared, Width::Planes(3)),
            Field::new("second", Source::Common, Width::Planes(1)),
        ];
        let shape = KeyShape::new(false, fields);
        assert!(shape.common_ranges(Role::Explicit, 9).eq([0..144, 150..152]));
        assert!(shape.common_ranges(Role::Seeded, 9).eq([0..144, 144..146]));
    }

    #[test]
    fn both_explicit_ships_all_but_the_wire_masks_and_the_dealers_own() {
        let shape = shape(true);
        assert_eq!(shape.chunk_bytes(Role::Seeded, 8), 16 * 8 + 3 + 1);
        assert_eq!(shape.range(R_IN, Role::Explicit, 8), None);
        assert_eq!(shape.range(FieldId(5), Role::Explicit, 8), None);
    }

    #[test]
    fn chunks_cover_the_batch() {
        for elems in [1, 65535, 65536, 65537, 100_000_000] {
            let sum: u64 = (0..chunk_count(elems)).map(|chunk| chunk_elems(elems, chunk) as u64).sum();
            assert_eq!(sum, elems);
        }
    }

    #[test]
    fn sizes_beyond_any_batch_neither_wrap_nor_take_long() {
        for elems in [1 << 32, 1 << 48, (1 << 48) + 1, u64::MAX] {
            let exact = elems.div_ceil(CHUNK_ELEMS as u64);
            assert_eq!(u64::from(chunk_count(elems)), exact.min(u32::MAX.into()), "{elems}");
        }
        assert_eq!((chunk_elems(9, 0), chunk_elems(9, 1), chunk_elems(9, u32::MAX)), (9, 0, 0));
        let shape = shape(true);
        // Two full chunks have 16 bytes, 4 planes of bits and nothing else for each element.
        let bytes = u128::from(u64::MAX / CHUNK_ELEMS as u64) * (CHUNK_ELEMS as u128 * (16 * 8 + 4) / 8);
        assert!(bytes > u64::MAX.into());
        assert_eq!(shape.batch_bytes(Party::P0, u64::MAX), u64::MAX);
        assert_eq!(shape.batch_bytes(Party::P1, 0), 0);
    }

    #[test]
    fn roles_alternate() {
        assert_eq!(Party::P0.role(0), Role::Seeded);
        assert_eq!(Party::P1.role(0), Role::Explicit);
        assert_eq!(Party::P0.role(1), Role::Explicit);
    }
}
