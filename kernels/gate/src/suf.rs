//! `suf`: FuseFSS proper. An operator specification and its compiled form, as a gate.
//!
//! What is computed, which key that takes and what it costs is the compiler's to say: [`crate::spec`]. Formulas:
//! `docs/protocols/suf.md`.

use crate::{
    Cost, Curve, GateError, KeyShape, Segment,
    spec::{CompiledSpec, Spec},
};

/// A `suf` gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suf {
    spec: Spec,
    // Boxed: it is several times the size of other gates.
    compiled: Box<CompiledSpec>,
}

impl Suf {
    /// The gate of a specification.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn new(spec: Spec) -> Result<Self, GateError> {
        let compiled = CompiledSpec::new(&spec).map_err(|error| GateError::Shape(format!("suf: {error}")))?;
        Ok(Self { spec, compiled: Box::new(compiled) })
    }

    /// The gate of a curve on a grid of `domain_bits` bits, N.
    ///
    /// # Errors
    /// When the domain does not hold the window, or the ring not the domain.
    pub fn of(curve: &Curve, domain_bits: u8) -> Result<Self, GateError> {
        let spec = Spec::from_curve(curve, domain_bits)
            .map_err(|error| GateError::Shape(format!("suf: {error}")))?;
        Self::new(spec)
    }

    /// What is computed.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// How it is computed.
    #[must_use]
    pub fn compiled(&self) -> &CompiledSpec {
        &self.compiled
    }

    /// Smallest and largest input for which the output is right.
    #[must_use]
    pub fn domain(&self) -> (i64, i64) {
        self.spec.domain()
    }

    /// The finished outputs that unbiased rounding allows for input `x`.
    #[must_use]
    pub fn reference(&self, x: i64) -> [i64; 2] {
        self.spec.reference(x).map(|y| self.finish(y))
    }

    /// What a client does with an output once its mask is off: drops the low bits that products of fixed-point numbers
    /// have too many.
    #[must_use]
    pub fn finish(&self, y: i64) -> i64 {
        self.spec.finish(y)
    }

    /// The key's fields.
    #[must_use]
    pub fn key_shape(&self) -> KeyShape {
        self.compiled.key_shape()
    }

    /// The exchanges, in order.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Vec<Segment>> {
        self.compiled.exchanges()
    }

    /// The cost, as the compiler finds it.
    #[must_use]
    pub fn declared(&self) -> Cost {
        self.compiled.cost()
    }
}
