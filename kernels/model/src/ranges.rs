//! How large values get within a model, as measured.

/// The smallest and the largest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Span {
    /// The span of no values.
    pub const NONE: Self = Self { min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// Takes in another value.
    pub fn include(&mut self, x: f64) {
        self.min = self.min.min(x);
        self.max = self.max.max(x);
    }

    /// The span of these values and `other`'s.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// How far apart they are.
    #[must_use]
    pub fn width(self) -> f64 {
        self.max - self.min
    }

    /// The largest absolute value.
    #[must_use]
    pub fn magnitude(self) -> f64 {
        self.max.abs().max(self.min.abs())
    }
}

impl FromIterator<f64> for Span {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        let mut span = Self::NONE;
        values.into_iter().for_each(|x| span.include(x));
        span
    }
}

/// A layer norm's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormRanges {
    /// The input's elements, their mean subtracted.
    pub hidden: Span,
    /// Variances of its rows.
    pub variance: Span,
}

/// One layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRanges {
    /// Scores of each head among a text's own tokens, in base 2: what the exponential takes.
    pub scores: Vec<Span>,
    /// Scores of each head with the rows and columns of padding, before the mask is added.
    pub padded: Vec<Span>,
    /// Values of all heads.
    pub value: Span,
    /// The norm behind attention.
    pub attention: NormRanges,
    /// Inputs of the activation.
    pub inner: Span,
    /// The norm behind the feed-forward block.
    pub output: NormRanges,
}

/// A model's layers, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    /// Each layer's.
    pub layers: Vec<LayerRanges>,
    /// Texts that were measured.
    pub texts: u64,
    /// Their tokens, padding left out.
    pub tokens: u64,
}

impl Ranges {
    /// The ranges of no text.
    #[must_use]
    pub fn none(layers: usize, heads: usize) -> Self {
        let norm = NormRanges { hidden: Span::NONE, variance: Span::NONE };
        let layer = LayerRanges {
            scores: vec![Span::NONE; heads],
            padded: vec![Span::NONE; heads],
            value: Span::NONE,
            attention: norm,
            inner: Span::NONE,
            output: norm,
        };
        Self { layers: vec![layer; layers], texts: 0, tokens: 0 }
    }

    /// The ranges of these texts and `other`'s.
    ///
    /// # Panics
    /// If they are of models with other sizes.
    #[must_use]
    pub fn join(mut self, other: &Self) -> Self {
        assert_eq!(self.layers.len(), other.layers.len(), "ranges of one model");
        for (layer, other) in self.layers.iter_mut().zip(&other.layers) {
            layer.join(other);
        }
        self.texts += other.texts;
        self.tokens += other.tokens;
        self
    }
}

impl LayerRanges {
    fn join(&mut self, other: &Self) {
        for (mine, other) in [(&mut self.scores, &other.scores), (&mut self.padded, &other.padded)] {
            mine.iter_mut().zip(other).for_each(|(span, other)| *span = span.join(*other));
        }
        self.value = self.value.join(other.value);
        self.inner = self.inner.join(other.inner);
        self.attention.join(&other.attention);
        self.output.join(&other.output);
    }
}

impl NormRanges {
    fn join(&mut self, other: &Self) {
        self.hidden = self.hidden.join(other.hidden);
        self.variance = self.variance.join(other.variance);
    }
}
