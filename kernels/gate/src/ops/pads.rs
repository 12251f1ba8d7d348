//! `pads`: the parties' shares of a function of a wire's mask, as a wire of the form [`Form::Pad`]. Products of masked wires take
//! them. No message. If the parties hold shares of the mask, each computes its own and there is no key; otherwise the dealer
//! ships them. Two nodes that need the same shares take the same wire, so nothing is shipped twice.
//! Why that is safe: `docs/protocols/products.md#pads`.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{
    Extended, Op, OpDef,
    fields::{SharedFields, shares},
    host::{DealHost, EvalHost},
};
use crate::{
    BackendError, Counts, DealJob, EvalJob, Field, Form, HostValue, KeyBytes, KeyShape, NodeCost, Part,
    PartEval, Ring, SecretBytes, Segment, Source, Span, StagedPart, Value, Width, Wire,
    layout::{FieldId, NO_KEY},
    wire::Mask,
};

/// A function of an element's mask r.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadOf {
    /// `r >> d`.
    Quotient,
    /// The highest bit of r.
    Top,
    /// Their product.
    TopQuotient,
}

/// What is shared, and in which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pad {
    /// The function.
    pub of: PadOf,
    /// The wire's ring, and d.
    pub from: Extended,
    /// The ring of the shares.
    pub to: Ring,
}

impl fmt::Display for Pad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.of {
            PadOf::Quotient => "the mask",
            PadOf::Top => "the mask's top bit",
            PadOf::TopQuotient => "the mask times its top bit",
        };
        write!(f, "{} bits of {of}, {} bits dropped,", self.to.bits(), self.from.drop)
    }
}

impl Pad {
    /// r itself, of a wire of `from`, modulo the size of `to`.
    #[must_use]
    pub const fn whole(from: Ring, to: Ring) -> Self {
        Self { of: PadOf::Quotient, from: Extended { ring: from, drop: 0 }, to }
    }

    /// The function of a mask.
    #[must_use]
    pub const fn value(&self, r: u64) -> u64 {
        let (quotient, top) = (self.from.quotient(r), self.from.top(r));
        self.to.reduce(match self.of {
            PadOf::Quotient => quotient,
            PadOf::Top => top,
            PadOf::TopQuotient => top.wrapping_mul(quotient),
        })
    }
}

/// Makes shares of a function of a wire's mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pads {
    pad: Pad,
    is_dealt: bool,
    key_shape: KeyShape,
}

impl Pads {
    /// Shares that the dealer ships.
    #[must_use]
    pub fn dealt(pad: Pad) -> Self {
        let field = Field::new("shares", Source::Shared, Width::Packed(pad.to.bits()));
        Self { pad, is_dealt: true, key_shape: KeyShape::new(false, [field]) }
    }

    /// The parties' own shares of the mask of a wire of `from`, modulo the size of `to`.
    ///
    /// # Errors
    /// When `to` is the larger ring, in words: then the parties' shares do not sum up to the mask.
    pub fn own(from: Ring, to: Ring) -> Result<Self, String> {
        if to.bits() > from.bits() {
            return Err(format!(
                "shares modulo 2^{} cannot be reduced to shares modulo 2^{}",
                from.bits(),
                to.bits()
            ));
        }
        Ok(Self { pad: Pad::whole(from, to), is_dealt: false, key_shape: NO_KEY.clone() })
    }

    /// What is shared.
    #[must_use]
    pub fn pad(&self) -> &Pad {
        &self.pad
    }

    /// Whether the dealer ships it.
    #[must_use]
    pub fn is_dealt(&self) -> bool {
        self.is_dealt
    }

    /// Both parties' keys of a tile.
    pub(crate) fn deal(
        &self,
        job: &DealJob<'_>,
        host: &dyn DealHost,
    ) -> Result<[SecretBytes; 2], BackendError> {
        let mut key = SharedFields::new(job, host);
        if self.is_dealt {
            let masks = host.mask(Part { node: job.node().inputs()[0], ..job.part })?;
            key.share(Zeroizing::new(masks.iter().map(|r| self.pad.value(*r)).collect()))?;
        }
        Ok(key.finish())
    }
}

impl OpDef for Pads {
    fn name(&self) -> String {
        let of = match self.pad.of {
            PadOf::Quotient => "masks",
            PadOf::Top => "top bits of masks",
            PadOf::TopQuotient => "masks times their top bits",
        };
        format!("shares of {of}")
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let [wire] = inputs else { return Err(format!("it takes one wire, not {}", inputs.len())) };
        self.pad.from.frac_of(wire)?;
        if !self.is_dealt && wire.mask == Mask::Dropped {
            return Err("the parties hold no shares of the wire's mask: the dealer ships them".into());
        }
        Ok(Some(Wire { ring: self.pad.to, frac: 0, form: Form::Pad, mask: Mask::Dropped, ..*wire }))
    }

    fn key_shape(&self) -> &KeyShape {
        &self.key_shape
    }

    fn exchanges(&self) -> &[Vec<Segment>] {
        &[]
    }

    fn declared(&self, size: Counts) -> NodeCost {
        let bits = if self.is_dealt { u64::from(self.pad.to.bits()) } else { 0 };
        NodeCost { explicit_key_bits: bits * size.elems as u64, ..NodeCost::NONE }
    }
}

/// A tile at one party.
pub(crate) fn stage(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let Op::Pads(pads) = job.node().op() else { unreachable!("asked of shares of masks alone") };
    let shares = if pads.is_dealt {
        shares(job, key, host, FieldId(0))?
    } else {
        let mut mask = host.mask(Part { node: job.node().inputs()[0], ..job.part })?;
        mask.iter_mut().for_each(|r| *r = pads.pad.to.reduce(*r));
        mask
    };
    Ok(Box::new(Sharing { job: job.clone(), shares }))
}

struct Sharing {
    job: EvalJob,
    shares: Zeroizing<Vec<u64>>,
}

impl StagedPart for Sharing {
    fn begin(self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        // The value is not used, and says nothing that the shares depend on.
        self.job.check_inputs(&inputs)?;
        Ok(self)
    }
}

impl PartEval for Sharing {
    fn step(&mut self, _: usize, _: &[u8]) -> Result<Bytes, BackendError> {
        Err(BackendError::Misuse("shares of masks have no exchange"))
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        if self.shares.is_empty() || !incoming.is_empty() {
            return Err(BackendError::Misuse("shares of masks are made once, without a message"));
        }
        Ok(HostValue::shared(std::mem::take(&mut *self.shares)))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    fn is_prompt(&self) -> bool {
        false
    }
}
