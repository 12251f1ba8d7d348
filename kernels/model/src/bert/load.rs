//! The matrices of a model with private weights, and the program with which its owner loads them. The program follows from the
//! model's sizes alone.

use std::sync::Arc;

use suf_gate::{
    Form, NodeId, Program, TensorShape,
    ops::{
        Input, Keep, Op,
        private::{LOADED, Matrix},
    },
};

use super::{
    Config, Quantised, QuantisedLayer, Residual,
    quantised::{ACTIVATED, ATTENDED, ATTENTION_WEIGHT, GAIN, MEAN, NORMED, RESIDUAL, WEIGHT},
};
use crate::{
    nodes::{Refusal, shape},
    quantise::Integers,
};

/// A matrix of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Query,
    QueryBias,
    Key,
    KeyBias,
    Value,
    ValueBias,
    Attention,
    AttentionGain,
    AttentionMean,
    AttentionBias,
    Up,
    UpBias,
    Down,
    Gain,
    Mean,
    Bias,
}

/// The matrices of a layer in the order of the load program's inputs.
const PARTS: [Part; 16] = [
    Part::Query,
    Part::QueryBias,
    Part::Key,
    Part::KeyBias,
    Part::Value,
    Part::ValueBias,
    Part::Attention,
    Part::AttentionGain,
    Part::AttentionMean,
    Part::AttentionBias,
    Part::Up,
    Part::UpBias,
    Part::Down,
    Part::Gain,
    Part::Mean,
    Part::Bias,
];

impl Part {
    /// Rows, columns and fractional bits.
    fn sizes(self, config: &Config) -> (u32, u32, u8) {
        let (hidden, inner) = (config.hidden, config.inner);
        match self {
            Self::Query | Self::Key | Self::Value => (hidden, hidden, WEIGHT),
            Self::QueryBias | Self::KeyBias | Self::ValueBias => (1, hidden, NORMED + WEIGHT),
            Self::Attention => (hidden, hidden, ATTENTION_WEIGHT),
            Self::AttentionGain | Self::Gain => (1, hidden, GAIN),
            Self::AttentionMean | Self::Mean => (hidden, 1, MEAN),
            Self::AttentionBias | Self::Bias => (1, hidden, RESIDUAL),
            Self::Up => (hidden, inner, WEIGHT),
            Self::UpBias => (1, inner, NORMED + WEIGHT),
            Self::Down => (inner, hidden, WEIGHT),
        }
    }

    fn shape(self, config: &Config) -> Result<TensorShape, Refusal> {
        let (rows, cols, _) = self.sizes(config);
        shape("a matrix of a layer", rows, cols)
    }

    /// That of layer `layer`.
    pub(super) fn matrix(self, config: &Config, layer: usize) -> Result<Matrix, Refusal> {
        let (_, _, frac) = self.sizes(config);
        let input = NodeId((layer * PARTS.len() + self as usize) as u16);
        Ok(Matrix { input, shape: self.shape(config)?, frac })
    }

    /// Its elements, row after row.
    fn values(self, layer: &QuantisedLayer) -> Vec<i64> {
        let matrix = |integers: &Integers| integers.values.iter().map(|value| i64::from(*value)).collect();
        let row = |values: &[i32]| values.iter().map(|value| i64::from(*value)).collect();
        match self {
            Self::Query => matrix(&layer.query),
            Self::QueryBias => layer.query.bias.clone(),
            Self::Key => matrix(&layer.key),
            Self::KeyBias => layer.key.bias.clone(),
            Self::Value => matrix(&layer.value),
            Self::ValueBias => layer.value.bias.clone(),
            Self::Attention => matrix(&layer.attention),
            Self::AttentionGain => row(&layer.attention_residual.gain),
            Self::AttentionMean => row(&layer.attention_residual.mean),
            Self::AttentionBias => {
                summed(&layer.attention, ATTENDED + ATTENTION_WEIGHT, &layer.attention_residual)
            }
            Self::Up => matrix(&layer.up),
            Self::UpBias => layer.up.bias.clone(),
            Self::Down => matrix(&layer.down),
            Self::Gain => row(&layer.residual.gain),
            Self::Mean => row(&layer.residual.mean),
            Self::Bias => summed(&layer.down, ACTIVATED + WEIGHT, &layer.residual),
        }
    }
}

/// The biases of a block, which have `frac` fractional bits, and of its residual.
fn summed(block: &Integers, frac: u8, residual: &Residual) -> Vec<i64> {
    let biases = block.bias.iter().zip(&residual.bias);
    biases.map(|(block, residual)| (block << (RESIDUAL - frac)).wrapping_add(*residual)).collect()
}

/// The program with which the matrices of a model with these sizes are loaded: an input for each, which is kept.
///
/// # Errors
/// When the model is too large.
pub fn load_program(config: &Config) -> Result<Arc<Program>, Refusal> {
    let mut nodes = Vec::new();
    for _ in 0..config.layers {
        for part in PARTS {
            let (_, _, frac) = part.sizes(config);
            let input = Input::new(part.shape(config)?, LOADED, frac, Form::Masked);
            nodes.push((Op::Input(input), Vec::new()));
        }
    }
    let inputs = nodes.len();
    // One whose number does not fit is beyond the limit of nodes.
    nodes.extend((0..inputs).map(|input| (Op::Keep(Keep), vec![NodeId(input as u16)])));
    Program::new(nodes).map(Arc::new).map_err(|error| Refusal(error.to_string()))
}

impl Quantised {
    /// The matrices in the order of the inputs of [`load_program`], each row after row.
    pub fn matrices(&self) -> impl Iterator<Item = Vec<i64>> {
        self.layers.iter().flat_map(|layer| PARTS.iter().map(move |part| part.values(layer)))
    }
}
