//! The forward pass in 64-bit floats: what a program's result is compared with, and what ranges are measured by.

use std::f64::consts::LOG2_E;

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::{Bert, Config, Dense, Ends, Norm};
use crate::{
    Pooling,
    ranges::{LayerRanges, NormRanges, Ranges, Span},
    tensors::Matrix,
};

/// A model's weights in 64-bit floats.
#[derive(Debug)]
pub struct Reference<'a> {
    model: &'a Bert,
    norm: Scale,
    layers: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    query: Product,
    key: Product,
    value: Product,
    attention: Product,
    attention_norm: Scale,
    up: Product,
    down: Product,
    norm: Scale,
}

/// Inputs by outputs, and the bias.
#[derive(Debug)]
struct Product(Array2<f64>, Array1<f64>);

/// Gain and bias.
#[derive(Debug)]
struct Scale(Array1<f64>, Array1<f64>);

impl<'a> Reference<'a> {
    /// The reference of `model`.
    #[must_use]
    pub fn new(model: &'a Bert) -> Self {
        let layers = model.layers.iter().map(|layer| Block {
            query: Product::new(&layer.query),
            key: Product::new(&layer.key),
            value: Product::new(&layer.value),
            attention: Product::new(&layer.attention),
            attention_norm: Scale::new(&layer.attention_norm),
            up: Product::new(&layer.up),
            down: Product::new(&layer.down),
            norm: Scale::new(&layer.norm),
        });
        Self { model, norm: Scale::new(&model.norm), layers: layers.collect() }
    }

    /// The vector of a text with the tokens `ids`.
    ///
    /// # Panics
    /// As for [`Reference::forward`].
    #[must_use]
    pub fn embed(&self, ids: &[u32]) -> Vec<f64> {
        let out = self.forward(ids, ids.len(), None);
        pooled(&self.model.pooling, out.view())
    }

    /// Takes the ranges of a text into `ranges`. It is padded to `padded` tokens with its last one.
    ///
    /// # Panics
    /// As for [`Reference::forward`].
    pub fn measure(&self, ids: &[u32], padded: usize, ranges: &mut Ranges) {
        let mut ids = ids.to_vec();
        let real = ids.len();
        ids.extend(ids.last().copied().into_iter().cycle().take(padded.saturating_sub(real)));
        let _ = self.forward(&ids, real, Some(ranges));
        ranges.texts += 1;
        ranges.tokens += real as u64;
    }

    /// The last layer's vectors of all tokens. The first `real` tokens are the text's, the others padding, to which nothing attends.
    ///
    /// # Panics
    /// If there are no tokens, more than positions, or one that the model does not know.
    #[must_use]
    pub fn forward(&self, ids: &[u32], real: usize, mut ranges: Option<&mut Ranges>) -> Array2<f64> {
        let Config { hidden, .. } = self.model.config;
        let normed = Ends::from(self.model).embed(ids);
        let x = Array2::from_shape_vec((ids.len(), hidden as usize), normed).expect("a row for each token");
        let mut x = self.norm.apply(x);
        for (at, layer) in self.layers.iter().enumerate() {
            let mut ranges = ranges.as_deref_mut().map(|ranges| &mut ranges.layers[at]);
            let attended = layer.attend(&x, real, self.model.config.heads as usize, ranges.as_deref_mut());
            let sum = layer.attention.apply(attended.view()) + &x;
            x = self.normalise(sum, &layer.attention_norm, ranges.as_deref_mut().map(|at| &mut at.attention));
            let mut inner = layer.up.apply(x.view());
            if let Some(ranges) = ranges.as_deref_mut() {
                ranges.inner = ranges.inner.join(inner.iter().copied().collect());
            }
            inner.mapv_inplace(gelu);
            let sum = layer.down.apply(inner.view()) + &x;
            x = self.normalise(sum, &layer.norm, ranges.map(|at| &mut at.output));
        }
        x
    }

    fn normalise(&self, mut x: Array2<f64>, scale: &Scale, ranges: Option<&mut NormRanges>) -> Array2<f64> {
        let mut seen = NormRanges { hidden: Span::NONE, variance: Span::NONE };
        for mut row in x.rows_mut() {
            let row = row.as_slice_mut().expect("rows stand together");
            let variance = normalise(row, self.model.config.epsilon, |x| seen.hidden.include(x));
            seen.variance.include(variance);
        }
        if let Some(ranges) = ranges {
            ranges.hidden = ranges.hidden.join(seen.hidden);
            ranges.variance = ranges.variance.join(seen.variance);
        }
        scale.apply(x)
    }
}

impl Block {
    fn attend(
        &self,
        x: &Array2<f64>,
        real: usize,
        heads: usize,
        ranges: Option<&mut LayerRanges>,
    ) -> Array2<f64> {
        let [query, key, value] = [&self.query, &self.key, &self.value].map(|made| made.apply(x.view()));
        let width = x.ncols() / heads;
        let root = (width as f64).sqrt();
        let mut out = Array2::zeros(x.dim());
        let mut spans = Vec::new();
        for head in 0..heads {
            let columns = s![.., head * width..(head + 1) * width];
            let mut scores = query.slice(columns).dot(&key.slice(columns).t()) / root;
            if ranges.is_some() {
                spans.push([scores.slice(s![..real, ..real]), scores.view()].map(base_2));
            }
            scores.slice_mut(s![.., real..]).fill(f64::NEG_INFINITY);
            for mut row in scores.rows_mut() {
                let most = row.fold(f64::NEG_INFINITY, |most, x| most.max(*x));
                row.mapv_inplace(|x| (x - most).exp());
                let sum = row.sum();
                row /= sum;
            }
            out.slice_mut(columns).assign(&scores.dot(&value.slice(columns)));
        }
        if let Some(ranges) = ranges {
            ranges.value = ranges.value.join(value.iter().copied().collect());
            for (head, [own, all]) in spans.into_iter().enumerate() {
                ranges.scores[head] = ranges.scores[head].join(own);
                ranges.padded[head] = ranges.padded[head].join(all);
            }
        }
        out
    }
}

impl Product {
    fn new(dense: &Dense) -> Self {
        let Matrix { rows, cols, values } = &dense.weight;
        let weight = values.iter().copied().map(f64::from).collect();
        let weight = Array2::from_shape_vec((*rows, *cols), weight).expect("a matrix has its size");
        Self(weight.reversed_axes(), dense.bias.iter().copied().map(f64::from).collect())
    }

    fn apply(&self, x: ArrayView2<'_, f64>) -> Array2<f64> {
        x.dot(&self.0) + &self.1
    }
}

impl Scale {
    fn new(norm: &Norm) -> Self {
        let [gain, bias] = [&norm.gain, &norm.bias].map(|part| part.iter().copied().map(f64::from).collect());
        Self(gain, bias)
    }

    fn apply(&self, x: Array2<f64>) -> Array2<f64> {
        x * &self.0 + &self.1
    }
}

/// The vector of a text from the vectors of its tokens.
fn pooled(pooling: &Pooling, rows: ArrayView2<'_, f64>) -> Vec<f64> {
    pooling.apply(rows.axis_iter(Axis(0)).map(|row| row.to_slice().expect("rows stand together")))
}

/// Subtracts the mean and divides by the standard deviation; returns the variance. `see` is shown what is divided.
pub(super) fn normalise(row: &mut [f64], epsilon: f64, mut see: impl FnMut(f64)) -> f64 {
    let len = row.len() as f64;
    let mean = row.iter().sum::<f64>() / len;
    row.iter_mut().for_each(|x| *x -= mean);
    row.iter().for_each(|x| see(*x));
    let variance = row.iter().map(|x| x * x).sum::<f64>() / len;
    let deviation = (variance + epsilon).sqrt();
    row.iter_mut().for_each(|x| *x /= deviation);
    variance
}

fn base_2(scores: ArrayView2<'_, f64>) -> Span {
    scores.iter().map(|score| score * LOG2_E).collect()
}

fn gelu(x: f64) -> f64 {
    x * 0.5 * (1.0 + libm::erf(x / std::f64::consts::SQRT_2))
}
