//! `open`: x, or x >> d, under a fresh mask in a ring of n' bits. One round of n' bits.
//!
//! Of a shared wire each party sends its share plus its share of the mask: no key. Of a masked wire the parties hold no
//! share of x unless the dealer ships shares of the wire's mask. Let a = n - d, and let q be the highest bit of `u =
//! x_hat + 2^(n-2)`. Then `x >> d = (u >> d) - 2^(n-2-d) - (r >> d) + 2^a msb(r) (1 - q)` ([`super::gate::Entry`]). The
//! dealer ships shares of `r >> d` modulo 2^n', and of `2^a msb(r)`, which are n' - a bits.

use zeroize::Zeroizing;

use super::{
    Extended, Op, OpDef,
    fields::{SharedFields, shares},
    host::{DealHost, EvalHost},
    only,
    round::{self, Share},
};
use crate::{
    BackendError, Counts, DealJob, EvalJob, Field, Form, KeyBytes, KeyShape, NodeCost, Part, Party, Ring,
    SecretBytes, Segment, Source, StagedPart, Width, Wire,
    layout::{FieldId, NO_KEY},
};

/// Shared: `r >> d` modulo 2^n'.
pub const MASK_SHARES: FieldId = FieldId(0);
/// Shared: msb(r) modulo 2^(n'-a); there only where n' > a.
pub const WRAP_SHARES: FieldId = FieldId(1);

/// Opens a wire under a fresh mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// What the wire must be: its form, its ring, and d.
    form: Form,
    from: Ring,
    drop: u8,
    to: Ring,
    key_shape: KeyShape,
    exchanges: Vec<Vec<Segment>>,
}

impl Open {
    /// Opens a shared wire of the ring `ring` in that ring.
    #[must_use]
    pub fn shared(ring: Ring) -> Self {
        let exchanges = round::exchange(ring);
        Self { form: Form::Shared, from: ring, drop: 0, to: ring, key_shape: NO_KEY.clone(), exchanges }
    }

    /// Opens x >> `drop` of a masked wire of the ring `from` in the ring `to`.
    ///
    /// # Errors
    /// When no bit is left, in words.
    pub fn masked(from: Ring, drop: u8, to: Ring) -> Result<Self, String> {
        let kept = Extended::new(from, drop)?.kept();
        let mut fields = vec![Field::new("mask", Source::Shared, Width::Packed(to.bits()))];
        if to.bits() > kept {
            fields.push(Field::new("wrap", Source::Shared, Width::Packed(to.bits() - kept)));
        }
        let exchanges = round::exchange(to);
        Ok(Self { form: Form::Masked, from, drop, to, key_shape: KeyShape::new(false, fields), exchanges })
    }

    /// The form of the wire that it takes.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The ring of the wire that it takes.
    #[must_use]
    pub fn from(&self) -> Ring {
        self.from
    }

    /// d, the bits that are dropped.
    #[must_use]
    pub fn dropped(&self) -> u8 {
        self.drop
    }

    /// The ring of the wire that it makes.
    #[must_use]
    pub fn to(&self) -> Ring {
        self.to
    }

    /// a, the bits that are kept.
    #[must_use]
    pub fn kept(&self) -> u8 {
        self.from.bits() - self.drop
    }

    /// Whether shares of the wrap are in the key.
    #[must_use]
    pub fn has_wrap(&self) -> bool {
        self.key_shape.fields().len() > 1
    }

    /// Both parties' keys of a tile.
    pub(crate) fn deal(
        &self,
        job: &DealJob<'_>,
        host: &dyn DealHost,
    ) -> Result<[SecretBytes; 2], BackendError> {
        let mut key = SharedFields::new(job, host);
        if self.form == Form::Masked {
            let masks = host.mask(Part { node: job.node().inputs()[0], ..job.part })?;
            let shifted = |shift: u8| Zeroizing::new(masks.iter().map(|mask| mask >> shift).collect());
            key.share(shifted(self.drop))?;
            if self.has_wrap() {
                key.share(shifted(self.from.bits() - 1))?;
            }
        }
        Ok(key.finish())
    }

    /// The wire that it takes, if that is masked.
    fn extended(&self) -> Extended {
        Extended { ring: self.from, drop: self.drop }
    }
}

impl OpDef for Open {
    fn name(&self) -> String {
        "open".into()
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let wire = only(inputs)?;
        if (wire.form, wire.ring) != (self.form, self.from) {
            return Err(format!("it takes a {:?} wire of {} bits, not {wire}", self.form, self.from.bits()));
        }
        match wire.frac.checked_sub(self.drop) {
            Some(frac) if frac < self.to.bits() => Ok(Some(Wire::fresh(wire.shape, self.to, frac))),
            _ => Err(format!("{wire} has no {} fractional bits to drop", self.drop)),
        }
    }

    fn key_shape(&self) -> &KeyShape {
        &self.key_shape
    }

    fn exchanges(&self) -> &[Vec<Segment>] {
        &self.exchanges
    }

    fn declared(&self, size: Counts) -> NodeCost {
        let all = |bits: u8| u64::from(bits) * size.elems as u64;
        let wrap = self.to.bits().saturating_sub(self.kept());
        let explicit_key_bits = match self.form {
            Form::Shared | Form::Pad => 0,
            Form::Masked => all(self.to.bits()) + all(wrap),
        };
        NodeCost { rounds: 1, bits: all(self.to.bits()), seeded_key_bits: 0, explicit_key_bits }
    }
}

/// A tile at one party.
pub(crate) fn stage(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let Op::Open(open) = job.node().op() else { unreachable!("asked of openings alone") };
    let of =
        |id, is_there: bool| if is_there { shares(job, key, host, id) } else { Ok(Zeroizing::default()) };
    let masks = of(MASK_SHARES, open.form == Form::Masked)?;
    let wraps = of(WRAP_SHARES, open.has_wrap())?;
    round::stage(job, host, Shares { open: open.clone(), masks, wraps })
}

struct Shares {
    open: Open,
    masks: Zeroizing<Vec<u64>>,
    wraps: Zeroizing<Vec<u64>>,
}

impl Share for Shares {
    fn share(&self, job: &EvalJob, taken: Vec<Vec<u64>>) -> Vec<u64> {
        let mut wire = taken.into_iter().next().expect("it takes one wire");
        if self.open.form != Form::Masked {
            return wire;
        }
        let is_first = u64::from(job.party == Party::P0);
        for (i, (x, mask)) in wire.iter_mut().zip(self.masks.iter()).enumerate() {
            let (moved, may_wrap) = self.open.extended().public(*x);
            let wrap = self.wraps.get(i).map_or(0, |wrap| wrap.wrapping_mul(may_wrap) << self.open.kept());
            *x = is_first.wrapping_mul(moved).wrapping_sub(*mask).wrapping_add(wrap);
        }
        wire
    }
}
