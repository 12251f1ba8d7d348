//! `open`: x, or x >> d, under a fresh mask in a ring of n' bits. One round of n' bits.
//!
//! Of a shared wire each party sends its share plus its share of the mask: no key. Of a masked wire the parties hold no share of x
//! unless the dealer ships shares of the wire's mask. With `u = x_hat + 2^(n-2)` and q its highest bit,
//! `x >> d = (u >> d) - 2^(n-2-d) - (r >> d) + 2^a msb(r) (1 - q)`, a = n - d ([`super::gate::Entry`]): shares of `r >> d`
//! modulo 2^n', and of `2^a msb(r)`, which are n' - a bits. Both stand in whole bytes.

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{Op, OpDef, only};
use crate::{
    BackendError, Cost, DealJob, EvalJob, Field, Form, HostValue, KeyBytes, KeyShape, PartEval, Party, Ring,
    SecretBytes, Segment, Side, Source, Span, StagedPart, Value, Width, Wire,
    layout::{FieldId, NO_KEY},
    packing,
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
        let exchanges = vec![vec![Segment::new("x_hat", ring.bits())]];
        Self { form: Form::Shared, from: ring, drop: 0, to: ring, key_shape: NO_KEY.clone(), exchanges }
    }

    /// Opens x >> `drop` of a masked wire of the ring `from` in the ring `to`.
    ///
    /// # Errors
    /// When no bit is left, in words.
    pub fn masked(from: Ring, drop: u8, to: Ring) -> Result<Self, String> {
        if from.bits() < 3 || drop > from.bits() - 2 {
            return Err(format!("{drop} bits cannot be dropped of {} to be opened", from.bits()));
        }
        let bytes = |bits: u8| Width::Bytes(u16::from(bits.div_ceil(8)));
        let mut fields = vec![Field::new("mask", Source::Shared, bytes(to.bits()))];
        if to.bits() > from.bits() - drop {
            fields.push(Field::new("wrap", Source::Shared, bytes(to.bits() - (from.bits() - drop))));
        }
        let exchanges = vec![vec![Segment::new("x_hat", to.bits())]];
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

    /// The public summand of x >> d, and 1 - q: whether a wrap may have to be added.
    #[must_use]
    pub fn public(&self, x_hat: u64) -> (u64, u64) {
        let quarter = 1u64 << (self.from.bits() - 2);
        let u = self.from.add(x_hat, quarter);
        let moved = (u >> self.drop).wrapping_sub(quarter >> self.drop);
        (moved, 1 - (u >> (self.from.bits() - 1)))
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

    fn declared(&self) -> Cost {
        let whole = |bits: u8| 8 * u32::from(bits.div_ceil(8));
        let wrap = self.to.bits().saturating_sub(self.kept());
        let explicit_key_bits = match self.form {
            Form::Shared => 0,
            Form::Masked => whole(self.to.bits()) + whole(wrap),
        };
        Cost { rounds: 1, bits: self.to.bits().into(), seeded_key_bits: 0, explicit_key_bits }
    }
}

/// Bytes of a stream, as a backend makes them: the first ones of a field of the part.
pub type Expand<'a> = &'a dyn Fn(FieldId, usize) -> Zeroizing<Vec<u8>>;

/// Both parties' keys of a tile, made on the host. `masks` is the mask of the wire that is taken, `seeded` expands the fields of the
/// seeded side.
///
/// # Panics
/// If the node opens no wire.
#[must_use]
pub fn deal(job: &DealJob<'_>, masks: &[u64], seeded: Expand<'_>) -> [SecretBytes; 2] {
    let Op::Open(open) = job.node().op() else { panic!("asked of openings alone") };
    let mut explicit = Vec::with_capacity(job.program.key_bytes_of(Party::P0, job.part));
    let shifts = [(MASK_SHARES, open.drop), (WRAP_SHARES, open.from.bits() - 1)];
    for (id, shift) in shifts.into_iter().take(open.key_shape.fields().len()) {
        let width = open.key_shape.field(id).width.bytes(1);
        let shares = seeded(id, width * masks.len());
        for (mask, share) in masks.iter().zip(shares.chunks_exact(width)) {
            let rest = (mask >> shift).wrapping_sub(number(share));
            explicit.extend_from_slice(&rest.to_le_bytes()[..width]);
        }
    }
    let explicit = SecretBytes::new(explicit);
    match job.side(Party::P0) {
        Side::Seeded => [SecretBytes::default(), explicit],
        Side::Explicit => [explicit, SecretBytes::default()],
    }
}

/// A tile at one party, on the host. `expand` makes this party's streams, `mask` is its share of the mask of the wire that is made.
///
/// # Panics
/// If the node opens no wire.
#[must_use]
pub fn stage(job: EvalJob, key: &KeyBytes, expand: Expand<'_>, mask: Vec<u64>) -> Box<dyn StagedPart> {
    let Op::Open(open) = job.node().op() else { panic!("asked of openings alone") };
    let open = open.clone();
    let numbers = |id: FieldId| {
        let width = open.key_shape.field(id).width.bytes(1);
        let of = |bytes: &[u8]| Zeroizing::new(bytes.chunks_exact(width).map(number).collect::<Vec<_>>());
        match open.key_shape.range(id, job.side(), job.elems()) {
            Some(range) => of(&key.expose()[range]),
            None => of(&expand(id, width * job.elems())),
        }
    };
    let masks = if open.form == Form::Masked { numbers(MASK_SHARES) } else { Zeroizing::default() };
    let wraps = if open.has_wrap() { numbers(WRAP_SHARES) } else { Zeroizing::default() };
    Box::new(Opening { open, masks, wraps, mask: Zeroizing::new(mask), wire: Vec::new(), sent: None, job })
}

struct Opening {
    open: Open,
    masks: Zeroizing<Vec<u64>>,
    wraps: Zeroizing<Vec<u64>>,
    /// Of the wire that is made.
    mask: Zeroizing<Vec<u64>>,
    /// The masked wire, or this party's shares.
    wire: Vec<u64>,
    /// This party's shares of what is opened.
    sent: Option<Vec<u64>>,
    job: EvalJob,
}

impl StagedPart for Opening {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        self.wire = self.job.only_input(inputs)?;
        Ok(self)
    }
}

impl Opening {
    /// This party's share of element `i` without a mask, modulo 2^64.
    fn unmasked(&self, i: usize) -> u64 {
        if self.open.form == Form::Shared {
            return self.wire[i];
        }
        let (moved, may_wrap) = self.open.public(self.wire[i]);
        let wrap = self.wraps.get(i).map_or(0, |wrap| wrap.wrapping_mul(may_wrap) << self.open.kept());
        let public = match self.job.party {
            Party::P0 => moved,
            Party::P1 => 0,
        };
        public.wrapping_sub(self.masks[i]).wrapping_add(wrap)
    }
}

impl PartEval for Opening {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        if step != 0 || !incoming.is_empty() || self.sent.is_some() || self.wire.is_empty() {
            return Err(BackendError::Misuse("a wire is opened once"));
        }
        let ring = self.open.to;
        let shares = (0..self.wire.len()).map(|i| ring.add(self.unmasked(i), self.mask[i]));
        let shares: Vec<u64> = shares.collect();
        let message = packing::pack(ring, &shares);
        self.sent = Some(shares);
        Ok(message.into())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        let ring = self.open.to;
        let due = packing::packed_bytes(ring, self.wire.len());
        let sent = self.sent.as_mut().filter(|_| incoming.len() == due);
        let shares = sent.ok_or(BackendError::Misuse("a message out of turn or of another length"))?;
        let mut opened = std::mem::take(shares);
        self.wire.clear();
        packing::add_packed(ring, incoming, &mut opened);
        Ok(HostValue::shared(opened))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    fn is_prompt(&self) -> bool {
        false
    }
}

/// A number of at most eight bytes.
fn number(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}
