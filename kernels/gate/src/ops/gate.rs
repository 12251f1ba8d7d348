//! A gate on each element of a masked wire, or, for `suf-lut`, of a shared one.
//!
//! The wire may have another ring and more fractional bits than the gate: see [`Entry`].

use std::sync::Arc;

use super::{OpDef, only};
use crate::{
    Cost, Counts, Field, Form, Gate, GateError, KeyShape, NodeCost, Ring, Segment, Shape, Source, Width,
    Wire,
    layout::FieldId,
    ring::{FRAC, WIRE},
    wire::Mask,
};

/// A gate, and how its input enters it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateOp {
    gate: Arc<Gate>,
    entry: Entry,
    key_shape: Option<KeyShape>,
}

/// How a wire x of n bits enters a gate, which takes 48. It enters as x >> d, rounded down or up by a coin that the
/// masks decide.
///
/// Let a = n - d. With a >= 48 the gate takes the low 48 bits of `x_hat >> d` under the mask `r >> d`. With fewer bits
/// the wire is **extended**, for abs(x) < 2^(n-2). Let q be the highest bit of `u = x_hat + 2^(n-2)`. u wraps exactly
/// if q is 0 and the highest bit of the mask is 1. So `x >> d = (u >> d) - 2^(n-2-d) - (r >> d) + 2^a msb(r) (1 - q)`,
/// and q is public. The last exchange is linear in x. It adds the last summand from two shares of 16 bits,
/// [`WRAP_BYTES`] in the key. Proof: `docs/protocols/programs.md#extended-wires`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The ring of the wire.
    pub ring: Ring,
    /// d, the low bits that are dropped.
    pub drop: u8,
}

/// Bytes for each element of the field `wrap`: shares modulo 2^16 of kappa\[pos\] msb(r), for an opened pos of 0 and of 1.
pub const WRAP_BYTES: u16 = 4;

/// Fewest bits a of an extended wire: the summand 2^a msb(r) (1 - q) then has 16 bits at most.
const LEAST_KEPT: u8 = WIRE.bits() - 16;

impl Entry {
    /// The wire of a gate alone.
    pub const WHOLE: Self = Self { ring: WIRE, drop: 0 };

    /// a, the bits that are kept.
    #[must_use]
    pub const fn kept(self) -> u8 {
        self.ring.bits() - self.drop
    }

    /// Whether the wire is extended.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        self.kept() < WIRE.bits()
    }

    /// The gate's x_hat of an element, and q: 0 only where a wrap may have to be added.
    #[must_use]
    pub const fn enter(self, x_hat: u64) -> (u64, u64) {
        if !self.is_extended() {
            return (WIRE.reduce(x_hat >> self.drop), 1);
        }
        let quarter = 1 << (self.ring.bits() - 2);
        let u = self.ring.add(x_hat, quarter);
        (WIRE.sub(u >> self.drop, quarter >> self.drop), u >> (self.ring.bits() - 1))
    }

    /// The gate's r of an element, of which the dealer knows the mask.
    #[must_use]
    pub const fn mask(self, r: u64) -> u64 {
        WIRE.reduce(r >> self.drop)
    }

    /// The highest bit of an element's mask.
    #[must_use]
    pub const fn top(self, r: u64) -> u64 {
        r >> (self.ring.bits() - 1)
    }
}

impl GateOp {
    /// `gate` on the wire of a gate alone.
    #[must_use]
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { gate, entry: Entry::WHOLE, key_shape: None }
    }

    /// `gate` on a wire that enters by `entry`.
    ///
    /// # Errors
    /// When the gate cannot take such a wire, in words.
    pub fn entering(gate: Arc<Gate>, entry: Entry) -> Result<Self, GateError> {
        let refused = |reason: String| Err(GateError::Shape(format!("{}: {reason}", gate.protocol())));
        if entry == Entry::WHOLE {
            return Ok(Self::new(gate));
        }
        if gate.takes_shares() {
            return refused("it takes a shared wire, of which nothing is dropped".into());
        }
        if entry.drop >= entry.ring.bits() {
            return refused(format!("{} bits cannot be dropped of {}", entry.drop, entry.ring.bits()));
        }
        if entry.drop > 0 && matches!(gate.shape(), Shape::Suf(_)) {
            // The parties need shares of the mask.
            return refused("it takes a wire of which nothing is dropped: put `open` before it".into());
        }
        if !entry.is_extended() {
            return Ok(Self { gate, entry, key_shape: None });
        }
        let looked_at = match gate.shape() {
            Shape::Onehot(onehot) => onehot.input_bits(),
            Shape::Dpf(dpf) => dpf.t_bits() + dpf.curve().shift,
            Shape::Sigma(_) | Shape::Suf(_) | Shape::SufLut(_) => {
                return refused("it takes no extended wire: put `open` before it".into());
            }
        };
        let least = looked_at.max(LEAST_KEPT);
        if entry.kept() < least {
            return refused(format!("{} bits are left of the wire, at least {least} must be", entry.kept()));
        }
        let wrap = Field::new("wrap", Source::Shared, Width::Bytes(WRAP_BYTES));
        let fields = gate.key_shape().fields().iter().cloned().chain([wrap]);
        let key_shape = Some(KeyShape::new(gate.key_shape().both_explicit(), fields));
        Ok(Self { gate, entry, key_shape })
    }

    /// The gate.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// How its input enters it.
    #[must_use]
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// The field of the wrap's shares, if the wire is extended.
    #[must_use]
    pub fn wrap(&self) -> Option<FieldId> {
        // The last field.
        self.key_shape.as_ref().map(|shape| FieldId(shape.fields().len() as u16 - 1))
    }
}

impl OpDef for GateOp {
    fn name(&self) -> String {
        format!("{} {}", self.gate.name(), self.gate.protocol())
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let wire = only(inputs)?;
        let Entry { ring, drop } = self.entry;
        if (wire.ring, wire.frac) != (ring, FRAC + drop) {
            return Err(format!(
                "it takes elements of {} bits, {} of them fractional, not of {} and {}",
                ring.bits(),
                FRAC + drop,
                wire.ring.bits(),
                wire.frac
            ));
        }
        if wire.mask != Mask::Fresh && self.gate.takes_shares() {
            // It opens low bits of the wire under the wire's own mask.
            return Err("the wire's mask is derived, and it opens bits under it: put `open` before it".into());
        }
        if wire.mask == Mask::Dropped && matches!(self.gate.shape(), Shape::Suf(_)) {
            return Err("the parties hold no shares of the wire's mask: put `open` before it".into());
        }
        match (wire.form, self.gate.takes_shares()) {
            (Form::Masked, false) | (Form::Shared, true) => Ok(Some(Wire::fresh(wire.shape, WIRE, FRAC))),
            (Form::Masked | Form::Pad, true) => Err("it takes a shared wire".into()),
            (Form::Shared | Form::Pad, false) => Err("it takes a masked wire".into()),
        }
    }

    fn key_shape(&self) -> &KeyShape {
        self.key_shape.as_ref().unwrap_or(self.gate.key_shape())
    }

    fn exchanges(&self) -> &[Vec<Segment>] {
        self.gate.exchanges()
    }

    fn declared(&self, size: Counts) -> NodeCost {
        let cost = self.gate.declared();
        let wrap = if self.key_shape.is_some() { 8 * u32::from(WRAP_BYTES) } else { 0 };
        Cost { explicit_key_bits: cost.explicit_key_bits + wrap, ..cost }.times(size.elems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every x and every mask of a small ring stand for those of a large one: the bits between do not matter.
    #[test]
    fn an_extended_wire_is_the_quotient_or_one_more_for_every_mask() {
        let entry = Entry { ring: Ring::new(40), drop: 6 };
        let (a, n) = (entry.kept(), entry.ring.bits());
        assert!(entry.is_extended() && a >= LEAST_KEPT);
        let step = 1i64 << 31;
        let near = |center: i64| (-70..70).map(move |d| center + d);
        let xs: Vec<i64> =
            (-127..128).flat_map(|i| near(i * step)).filter(|x| x.abs() < 1 << (n - 2)).collect();
        for x in xs {
            for r in (0..512u64).map(|i| entry.ring.reduce(i * (1 << 31) + (i * i) % 97)) {
                let (entered, q) = entry.enter(entry.ring.add(entry.ring.encode(x), r));
                let wrap = ((1 - q) * entry.top(r)) << a;
                let found = WIRE.decode(WIRE.add(WIRE.sub(entered, entry.mask(r)), wrap));
                let floor = x >> entry.drop;
                assert!(found == floor || found == floor + 1, "{x} under {r}: {found}, not {floor}");
            }
        }
    }

    #[test]
    fn a_wire_with_bits_enough_enters_without_a_wrap() {
        for (bits, drop) in [(64, 16), (64, 0), (48, 0), (60, 3)] {
            let entry = Entry { ring: Ring::new(bits), drop };
            assert!(!entry.is_extended());
            for (x, r) in [(-5, 7), (1 << 40, u64::MAX), (-(1 << 41), 1 << 59), (0, 0)] {
                let r = entry.ring.reduce(r);
                let (entered, q) = entry.enter(entry.ring.add(entry.ring.encode(x), r));
                assert_eq!(q, 1);
                let found = WIRE.decode(WIRE.sub(entered, entry.mask(r)));
                let floor = x >> drop;
                assert!(found == floor || found == floor + 1, "{x} under {r} of {bits} bits: {found}");
            }
        }
    }
}
