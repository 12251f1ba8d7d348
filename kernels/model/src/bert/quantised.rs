//! BERT in integers. Weights absorb what stands beside them. Those behind a layer norm absorb its gain and bias. Those
//! before a layer norm absorb its subtraction of the mean. The weights of queries absorb log2(e) / sqrt(d), so
//! exponentials have base 2.
//!
//! A layer norm's result before gain and bias is x. The products with x take W diag(g) and W b. The residual takes g_j
//! x_j - sum_i (g_i / h) x_i + b_j - mean(b), whose mean over j is 0.

use std::{f64::consts::LOG2_E, sync::Arc};

use super::{Bert, Config, Dense, EMBEDDINGS_NORM, Embeddings, Layer, Norm, PREFIXES, WORDS, config};
use crate::{
    Folder, ModelError,
    nodes::SharedWeights,
    quantise::{Integers, ModelDigest, narrow, wide},
    tensors::{self, Tensors},
};

/// Fractional bits of a layer norm's result.
pub(super) const NORMED: u8 = 26;
/// Fractional bits of weights behind a layer norm, and of the last weights of the feed-forward block.
pub(super) const WEIGHT: u8 = 14;
/// Fractional bits of weights behind attention.
pub(super) const ATTENTION_WEIGHT: u8 = 12;
/// Fractional bits of attention's result before those weights.
pub(super) const ATTENDED: u8 = 22;
/// Fractional bits of the activation's result.
pub(super) const ACTIVATED: u8 = 12;
/// Fractional bits of gains.
pub(super) const GAIN: u8 = 10;
/// Fractional bits of the weights of a row's mean.
pub(super) const MEAN: u8 = 19;
/// Fractional bits of the residual.
pub(super) const RESIDUAL: u8 = NORMED + GAIN;

/// A model's integers.
#[derive(Debug)]
pub struct Quantised {
    /// The layers, in order.
    pub layers: Vec<QuantisedLayer>,
    digest: [u8; 32],
    /// The matrices of its programs.
    pub(super) shared: Arc<SharedWeights>,
}

/// One layer's.
#[derive(Debug)]
pub struct QuantisedLayer {
    /// Makes queries.
    pub query: Integers,
    /// Makes keys.
    pub key: Integers,
    /// Makes values.
    pub value: Integers,
    /// Takes what the heads made.
    pub attention: Integers,
    /// The residual around attention.
    pub attention_residual: Residual,
    /// Before the activation.
    pub up: Integers,
    /// Behind the activation.
    pub down: Integers,
    /// The residual around the feed-forward block.
    pub residual: Residual,
}

/// What a residual adds: the gain of the norm before it, its mean subtracted.
#[derive(Debug)]
pub struct Residual {
    /// One for each element, with [`GAIN`] fractional bits.
    pub gain: Vec<i32>,
    /// The weights of a row's mean, with [`MEAN`] fractional bits.
    pub mean: Vec<i32>,
    /// One for each element, with [`RESIDUAL`] fractional bits.
    pub bias: Vec<i64>,
}

impl Quantised {
    /// The integers of `model`.
    ///
    /// # Errors
    /// When a weight is too large.
    pub fn new(model: &Bert) -> Result<Self, ModelError> {
        let mut layers = Vec::new();
        let mut before = &model.norm;
        for (at, layer) in model.layers.iter().enumerate() {
            layers.push(QuantisedLayer::new(at, layer, before, &model.config)?);
            before = &layer.norm;
        }
        let embeddings = [
            ("embeddings.word", model.words.rows, &model.words.values),
            ("embeddings.position", model.positions.rows, &model.positions.values),
            ("embeddings.segment", 1, &model.segment),
        ];
        let digest = digest(&model.config, embeddings, &layers, before)?;
        Ok(Self { layers, digest, shared: Arc::default() })
    }

    /// The sizes and the integers of the model in `folder`, for those who evaluate its programs and take no text. No tokenizer
    /// is made, and one layer's floats are held at a time.
    ///
    /// # Errors
    /// As for [`Bert::load`] and [`Quantised::new`].
    pub fn load(folder: &dyn Folder) -> Result<(Config, Self), ModelError> {
        let config = Config::load(folder)?;
        let bytes = tensors::read(folder, config.parameters())?;
        let tensors = Tensors::parse(&bytes, WORDS, &PREFIXES)?;
        let mut before = Norm::load(&tensors, EMBEDDINGS_NORM, config.hidden as usize)?;
        let mut layers = Vec::new();
        for at in 0..config.layers {
            let layer = Layer::load(&tensors, &config, at)?;
            layers.push(QuantisedLayer::new(at as usize, &layer, &before, &config)?);
            before = layer.norm;
        }
        let Embeddings { words, positions, segment } = Embeddings::load(&tensors, &config)?;
        let embeddings = [
            ("embeddings.word", words.rows, &words.values),
            ("embeddings.position", positions.rows, &positions.values),
            ("embeddings.segment", 1, &segment),
        ];
        let digest = digest(&config, embeddings, &layers, &before)?;
        Ok((config, Self { layers, digest, shared: Arc::default() }))
    }

    /// BLAKE3 over name, shape and integers of each tensor: the model's name among client, parties and dealer.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl QuantisedLayer {
    fn new(at: usize, layer: &Layer, before: &Norm, config: &Config) -> Result<Self, ModelError> {
        let scale = LOG2_E / f64::from(config.head()).sqrt();
        let name = |part: &str| format!("encoder.layer.{at}.{part}");
        let behind = |part: &str, dense, norm, scale| behind_norm(&name(part), dense, norm, scale);
        let centred = |part: &str, dense, input, weight| centred(&name(part), dense, input, weight);
        Ok(Self {
            query: behind("attention.self.query", &layer.query, before, scale)?,
            key: behind("attention.self.key", &layer.key, before, 1.0)?,
            value: behind("attention.self.value", &layer.value, before, 1.0)?,
            attention: centred("attention.output.dense", &layer.attention, ATTENDED, ATTENTION_WEIGHT)?,
            attention_residual: Residual::new(&name("attention.residual"), before)?,
            up: behind("intermediate.dense", &layer.up, &layer.attention_norm, 1.0)?,
            down: centred("output.dense", &layer.down, ACTIVATED, WEIGHT)?,
            residual: Residual::new(&name("output.residual"), &layer.attention_norm)?,
        })
    }
}

impl Residual {
    fn new(name: &str, norm: &Norm) -> Result<Self, ModelError> {
        let gains = || norm.gain.iter().copied().map(f64::from);
        let elems = norm.gain.len() as f64;
        let mean = norm.bias.iter().copied().map(f64::from).sum::<f64>() / elems;
        Ok(Self {
            gain: gains().map(|gain| narrow(name, gain, GAIN)).collect::<Result<_, _>>()?,
            mean: gains().map(|gain| narrow(name, gain / elems, MEAN)).collect::<Result<_, _>>()?,
            bias: (norm.bias.iter())
                .map(|bias| wide(name, f64::from(*bias) - mean, RESIDUAL))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// A product of a layer norm's result, before gain and bias, times `scale`.
fn behind_norm(name: &str, dense: &Dense, norm: &Norm, scale: f64) -> Result<Integers, ModelError> {
    let (outputs, inputs) = (dense.weight.rows, dense.weight.cols);
    let mut values = Vec::with_capacity(outputs * inputs);
    for input in 0..inputs {
        let gain = f64::from(norm.gain[input]);
        for output in 0..outputs {
            let weight = gain * f64::from(dense.weight.values[output * inputs + input]);
            values.push(narrow(name, weight * scale, WEIGHT)?);
        }
    }
    let mut bias = Vec::with_capacity(outputs);
    for (output, own) in dense.bias.iter().enumerate() {
        let row = dense.weight.row(output).iter().zip(&norm.bias);
        let folded: f64 = row.map(|(weight, bias)| f64::from(*weight) * f64::from(*bias)).sum();
        bias.push(wide(name, (folded + f64::from(*own)) * scale, NORMED + WEIGHT)?);
    }
    Ok(Integers { rows: inputs, cols: outputs, values, bias })
}

/// A product whose outputs' mean is subtracted. Its input has `input` fractional bits, its weights have `weight`.
fn centred(name: &str, dense: &Dense, input: u8, weight: u8) -> Result<Integers, ModelError> {
    let (outputs, inputs) = (dense.weight.rows, dense.weight.cols);
    let mut values = Vec::with_capacity(outputs * inputs);
    for at in 0..inputs {
        let column = || (0..outputs).map(|output| f64::from(dense.weight.values[output * inputs + at]));
        let mean = column().sum::<f64>() / outputs as f64;
        for own in column() {
            values.push(narrow(name, own - mean, weight)?);
        }
    }
    let own = || dense.bias.iter().copied().map(f64::from);
    let mean = own().sum::<f64>() / outputs as f64;
    let bias = own().map(|own| wide(name, own - mean, input + weight)).collect::<Result<_, _>>()?;
    Ok(Integers { rows: inputs, cols: outputs, values, bias })
}

/// The embeddings and the last norm are the client's, in floats: their digest is of integers with [`NORMED`] fractional bits.
fn digest(
    config: &Config,
    embeddings: [(&str, usize, &Vec<f32>); 3],
    layers: &[QuantisedLayer],
    last: &Norm,
) -> Result<[u8; 32], ModelError> {
    let Config { heads, positions, epsilon, .. } = *config;
    let mut digest = ModelDigest::new(config::TYPE, &[heads.into(), positions.into(), epsilon.to_bits()]);
    let norm = [("norm.gain", 1, &last.gain), ("norm.bias", 1, &last.bias)];
    for (name, rows, values) in embeddings.into_iter().chain(norm) {
        let integers: Result<Vec<_>, _> =
            values.iter().map(|value| wide(name, f64::from(*value), NORMED)).collect();
        digest.tensor(name, rows, integers?.into_iter());
    }
    for (at, layer) in layers.iter().enumerate() {
        for (name, integers) in [
            ("query", &layer.query),
            ("key", &layer.key),
            ("value", &layer.value),
            ("attention", &layer.attention),
            ("up", &layer.up),
            ("down", &layer.down),
        ] {
            digest.tensor(
                &format!("{at}.{name}"),
                integers.rows,
                integers.values.iter().map(|w| i64::from(*w)),
            );
            digest.tensor(&format!("{at}.{name}.bias"), 1, integers.bias.iter().copied());
        }
        for (name, residual) in
            [("attention_residual", &layer.attention_residual), ("residual", &layer.residual)]
        {
            digest.tensor(&format!("{at}.{name}.gain"), 1, residual.gain.iter().map(|w| i64::from(*w)));
            digest.tensor(&format!("{at}.{name}.mean"), 1, residual.mean.iter().map(|w| i64::from(*w)));
            digest.tensor(&format!("{at}.{name}.bias"), 1, residual.bias.iter().copied());
        }
    }
    Ok(digest.finish())
}
