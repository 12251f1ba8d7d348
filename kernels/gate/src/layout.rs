//! Key fields and messages: who gets which bytes of a tile, and where they stand.
//!
//! The key of a tile of m elements is a structure of arrays: the delivered fields one after another, without padding between
//! them. The same description drives the dealer, both parties, every backend and the declared cost.

use std::ops::Range;

use suf_wire::Party;

use crate::limits::TILE_ELEMS;

/// How a party obtains its side of the correlated fields of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Expands them from its seed: no bytes.
    Seeded,
    /// Receives the difference from the dealer.
    Explicit,
}

impl Side {
    /// The side of `party` in the tile that is number `place`: they alternate, so that the dealer loads both links alike.
    #[must_use]
    pub const fn of(party: Party, place: u32) -> Self {
        if place % 2 == party.index() as u32 { Self::Seeded } else { Self::Explicit }
    }
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

/// Width of a field's entry; a field has one for each element, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// That many planes of one bit: bit e of a plane is bit e % 8 of byte e / 8.
    Planes(u16),
    /// That many bytes, little endian, element after element.
    Bytes(u16),
    /// That many bits, 1 to 64, element after element from the lowest bit, padded with zeros to a whole byte: as a message.
    Packed(u8),
}

/// What a field or a segment has one entry for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Each element of the part.
    Element,
    /// Each row of the part.
    Row,
    /// Each element that the part takes of the node's first wire.
    Taken,
}

/// How many entries each [`Extent`] has, in a part or in a whole node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of [`Extent::Element`].
    pub elems: usize,
    /// Of [`Extent::Row`].
    pub rows: usize,
    /// Of [`Extent::Taken`].
    pub taken: usize,
}

impl Counts {
    /// Entries over `extent`.
    #[must_use]
    pub const fn of(self, extent: Extent) -> usize {
        match extent {
            Extent::Element => self.elems,
            Extent::Row => self.rows,
            Extent::Taken => self.taken,
        }
    }

    /// Of two parts together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            elems: self.elems + other.elems,
            rows: self.rows + other.rows,
            taken: self.taken + other.taken,
        }
    }
}

/// Of a gate by itself, on so many elements in one column.
impl From<usize> for Counts {
    fn from(elems: usize) -> Self {
        Self { elems, rows: elems, taken: elems }
    }
}

impl Width {
    /// Bytes of the field for `entries` entries.
    #[must_use]
    pub const fn bytes(self, entries: usize) -> usize {
        match self {
            Self::Planes(planes) => planes as usize * entries.div_ceil(8),
            Self::Bytes(bytes) => bytes as usize * entries,
            Self::Packed(bits) => (bits as usize * entries).div_ceil(8),
        }
    }

    /// Bits of an entry.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Planes(planes) => planes as u32,
            Self::Bytes(bytes) => bytes as u32 * 8,
            Self::Packed(bits) => bits as u32,
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
    /// The width of an entry.
    pub width: Width,
    /// What it has one entry for.
    pub over: Extent,
}

impl Field {
    /// A field with an entry for each element.
    #[must_use]
    pub const fn new(name: &'static str, source: Source, width: Width) -> Self {
        Self { name, source, width, over: Extent::Element }
    }

    /// The same with an entry for each of what `over` says.
    #[must_use]
    pub const fn over(self, over: Extent) -> Self {
        Self { over, ..self }
    }

    /// Number of entries.
    #[must_use]
    pub fn entries(&self, counts: impl Into<Counts>) -> usize {
        counts.into().of(self.over)
    }

    /// Bytes of the field.
    #[must_use]
    pub fn bytes(&self, counts: impl Into<Counts>) -> usize {
        self.width.bytes(self.entries(counts))
    }
}

/// The fields of a node's key. Masks belong to wires and are not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyShape {
    fields: Vec<Field>,
    both_explicit: bool,
}

/// The layout of nodes without a key.
pub static NO_KEY: KeyShape = KeyShape { fields: Vec::new(), both_explicit: false };

impl KeyShape {
    /// A key of `fields`. With `both_explicit`, as in SIGMA, every field is shipped to both parties.
    #[must_use]
    pub fn new(both_explicit: bool, fields: impl IntoIterator<Item = Field>) -> Self {
        Self { fields: fields.into_iter().collect(), both_explicit }
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

    /// Whether the dealer ships field `id` to a party on side `side`.
    #[must_use]
    pub fn delivered(&self, id: FieldId, side: Side) -> bool {
        match self.field(id).source {
            Source::Dealer => false,
            Source::Common => true,
            Source::Shared => self.both_explicit || side == Side::Explicit,
            Source::Own => self.both_explicit,
        }
    }

    /// Where field `id` stands in the key of a part of a party on side `side`; none if it is not delivered.
    #[must_use]
    pub fn range(&self, id: FieldId, side: Side, counts: impl Into<Counts>) -> Option<Range<usize>> {
        if !self.delivered(id, side) {
            return None;
        }
        let counts = counts.into();
        let start =
            self.ids().take(usize::from(id.0)).map(|before| self.bytes_of(before, side, counts)).sum();
        Some(start..start + self.bytes_of(id, side, counts))
    }

    /// Where the common fields stand in a party's key of a part, if the party is on side `side`. Both parties hold
    /// these fields in equal bytes. There is one range for each field, in the order of their ids.
    pub fn common_ranges<C: Into<Counts>>(
        &self,
        side: Side,
        counts: C,
    ) -> impl Iterator<Item = Range<usize>> + use<'_, C> {
        let counts = counts.into();
        self.ids()
            .filter(|id| self.field(*id).source == Source::Common)
            .filter_map(move |id| self.range(id, side, counts))
    }

    /// Bytes of the key of a part for a party on side `side`.
    #[must_use]
    pub fn tile_bytes(&self, side: Side, counts: impl Into<Counts>) -> usize {
        let counts = counts.into();
        self.ids().map(|id| self.bytes_of(id, side, counts)).sum()
    }

    /// Delivered bits, padding to bytes aside.
    #[must_use]
    pub fn bits(&self, side: Side, counts: impl Into<Counts>) -> u64 {
        let counts = counts.into();
        let delivered = self.ids().filter(|id| self.delivered(*id, side)).map(|id| self.field(id));
        delivered.map(|field| u64::from(field.width.bits()) * field.entries(counts) as u64).sum()
    }

    /// Bytes of all tiles of a tensor of `elems` elements and one column for `party`: full even tiles, full odd tiles, and the
    /// rest.
    /// `u64::MAX` stands for more than that; no batch that is accepted comes near.
    #[must_use]
    pub fn batch_bytes(&self, party: Party, elems: u64) -> u64 {
        let full = elems / TILE_ELEMS as u64;
        // Below TILE_ELEMS.
        let rest = (elems % TILE_ELEMS as u64) as usize;
        let tile = |parity: u64, elems| self.tile_bytes(Side::of(party, parity as u32), elems) as u128;
        // Less than 2^48 tiles of less than 2^48 bytes.
        let even = u128::from(full.div_ceil(2)) * tile(0, TILE_ELEMS);
        let odd = u128::from(full / 2) * tile(1, TILE_ELEMS);
        u64::try_from(even + odd + tile(full % 2, rest)).unwrap_or(u64::MAX)
    }

    /// Delivered bits per element, rounding of the planes aside.
    #[must_use]
    pub fn bits_per_elem(&self, side: Side) -> u32 {
        self.ids().filter(|id| self.delivered(*id, side)).map(|id| self.field(id).width.bits()).sum()
    }

    fn bytes_of(&self, id: FieldId, side: Side, counts: Counts) -> usize {
        if self.delivered(id, side) { self.field(id).bytes(counts) } else { 0 }
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
    /// Bits of an entry, 1..=64.
    pub bits: u8,
    /// What it has one entry for.
    pub over: Extent,
}

impl Segment {
    /// A segment with an entry for each element.
    #[must_use]
    pub const fn new(name: &'static str, bits: u8) -> Self {
        Self { name, bits, over: Extent::Element }
    }

    /// The same with an entry for each of what `over` says.
    #[must_use]
    pub const fn over(self, over: Extent) -> Self {
        Self { over, ..self }
    }

    /// Number of entries.
    #[must_use]
    pub fn entries(&self, counts: impl Into<Counts>) -> usize {
        counts.into().of(self.over)
    }

    /// Bytes of the entries: packed from the lowest bit, padded with zeros to a whole byte.
    #[must_use]
    pub fn bytes(&self, counts: impl Into<Counts>) -> usize {
        (usize::from(self.bits) * self.entries(counts)).div_ceil(8)
    }
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
        assert_eq!(shape.tile_bytes(Side::Seeded, 9), 16 * 9);
        assert_eq!(shape.tile_bytes(Side::Explicit, 9), 16 * 9 + 3 * 2);
        assert_eq!(shape.range(FieldId(1), Side::Explicit, 9), Some(144..150));
        assert_eq!(shape.range(FieldId(1), Side::Seeded, 9), None);
    }

    #[test]
    fn common_fields_have_equal_lengths_in_both_roles() {
        let fields = [
            Field::new("first", Source::Common, Width::Bytes(16)),
            Field::new("shared", Source::Shared, Width::Planes(3)),
            Field::new("second", Source::Common, Width::Planes(1)),
        ];
        let shape = KeyShape::new(false, fields);
        assert!(shape.common_ranges(Side::Explicit, 9).eq([0..144, 150..152]));
        assert!(shape.common_ranges(Side::Seeded, 9).eq([0..144, 144..146]));
    }

    #[test]
    fn both_explicit_ships_all_but_the_dealers_own() {
        let shape = shape(true);
        assert_eq!(shape.tile_bytes(Side::Seeded, 8), 16 * 8 + 3 + 1);
        assert_eq!(shape.range(FieldId(3), Side::Explicit, 8), None);
    }

    #[test]
    fn sizes_beyond_any_batch_do_not_wrap() {
        let shape = shape(true);
        // Two full tiles have 16 bytes, 4 planes of bits and nothing else for each element.
        let bytes = u128::from(u64::MAX / TILE_ELEMS as u64) * (TILE_ELEMS as u128 * (16 * 8 + 4) / 8);
        assert!(bytes > u64::MAX.into());
        assert_eq!(shape.batch_bytes(Party::P0, u64::MAX), u64::MAX);
        assert_eq!(shape.batch_bytes(Party::P1, 0), 0);
    }

    #[test]
    fn fields_have_an_entry_for_each_of_their_extent() {
        let shape = KeyShape::new(
            false,
            [
                Field::new("element", Source::Shared, Width::Packed(34)),
                Field::new("row", Source::Common, Width::Bytes(9)).over(Extent::Row),
                Field::new("taken", Source::Shared, Width::Packed(3)).over(Extent::Taken),
            ],
        );
        let counts = Counts { elems: 6, rows: 3, taken: 11 };
        assert_eq!(shape.tile_bytes(Side::Explicit, counts), 26 + 27 + 5);
        assert_eq!(shape.tile_bytes(Side::Seeded, counts), 27);
        assert_eq!(shape.range(FieldId(2), Side::Explicit, counts), Some(53..58));
        assert_eq!(shape.bits(Side::Explicit, counts), 34 * 6 + 72 * 3 + 3 * 11);
        let segment = Segment::new("row", 13);
        assert_eq!([segment, segment.over(Extent::Row)].map(|segment| segment.bytes(counts)), [10, 5]);
    }

    #[test]
    fn sides_alternate() {
        assert_eq!(Side::of(Party::P0, 0), Side::Seeded);
        assert_eq!(Side::of(Party::P1, 0), Side::Explicit);
        assert_eq!(Side::of(Party::P0, 1), Side::Explicit);
    }
}
