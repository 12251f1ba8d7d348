//! BERT: an encoder with layer norms behind attention and feed-forward block, absolute positions, GELU.

mod client;
mod compile;
mod config;
mod load;
mod public;
mod quantised;
mod reference;

pub use client::{TextBatch, batches};
pub use compile::{
    ACTIVATIONS, CompileError, Compiled, Length, MOST_TOKENS, bucket, buckets, compile, compile_private,
    compile_private_with, compile_with, row_sums, weights,
};
pub use config::{Config, TYPE};
pub use load::load_program;
pub use public::{Ends, Public, PublicError, public_files};
pub use quantised::{Quantised, QuantisedLayer, Residual};
pub use reference::Reference;
use reference::normalise;

use crate::{
    Folder, ModelError, Pooling, Tokens,
    tensors::{self, Matrix, Tensors},
};

/// Names of tensors may begin so: as models with and without a head are saved.
const PREFIXES: [&str; 2] = ["", "bert."];

/// The norm of the sum of embeddings.
const EMBEDDINGS_NORM: &str = "embeddings.LayerNorm";

/// The tensor by which the prefix is found.
const WORDS: &str = "embeddings.word_embeddings.weight";

/// A model with float weights, and what belongs to it.
#[derive(Debug)]
pub struct Bert {
    /// Its sizes.
    pub config: Config,
    /// What cuts texts into tokens.
    pub tokens: Tokens,
    /// What makes one vector of a text.
    pub pooling: Pooling,
    /// A vector of each kind of token.
    pub words: Matrix,
    /// A vector of each position.
    pub positions: Matrix,
    /// The vector that is added to all tokens of a text.
    pub segment: Vec<f32>,
    /// The norm of the sum of embeddings.
    pub norm: Norm,
    /// The layers, in order.
    pub layers: Vec<Layer>,
}

/// What a token's vector is the sum of.
struct Embeddings {
    words: Matrix,
    positions: Matrix,
    segment: Vec<f32>,
}

/// One layer.
#[derive(Debug)]
pub struct Layer {
    /// Makes queries.
    pub query: Dense,
    /// Makes keys.
    pub key: Dense,
    /// Makes values.
    pub value: Dense,
    /// Takes what the heads made.
    pub attention: Dense,
    /// Behind attention.
    pub attention_norm: Norm,
    /// Before the activation.
    pub up: Dense,
    /// Behind the activation.
    pub down: Dense,
    /// Behind the feed-forward block.
    pub norm: Norm,
}

/// A product with a matrix of outputs by inputs, and a bias.
#[derive(Debug)]
pub struct Dense {
    /// Outputs by inputs.
    pub weight: Matrix,
    /// One for each output.
    pub bias: Vec<f32>,
}

/// A layer norm.
#[derive(Debug)]
pub struct Norm {
    /// A factor of each element.
    pub gain: Vec<f32>,
    /// A summand of each element.
    pub bias: Vec<f32>,
}

impl Bert {
    /// The model of a folder.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the model is not one that is supported.
    pub fn load(folder: &dyn Folder) -> Result<Self, ModelError> {
        let config = Config::load(folder)?;
        let pooling = Pooling::load(folder)?;
        let tokens = Tokens::load(folder, config.vocabulary)?;
        let bytes = tensors::read(folder, config.parameters())?;
        let tensors = Tensors::parse(&bytes, WORDS, &PREFIXES)?;
        let Embeddings { words, positions, segment } = Embeddings::load(&tensors, &config)?;
        Ok(Self {
            words,
            positions,
            segment,
            norm: Norm::load(&tensors, EMBEDDINGS_NORM, config.hidden as usize)?,
            layers: (0..config.layers)
                .map(|layer| Layer::load(&tensors, &config, layer))
                .collect::<Result<_, _>>()?,
            config,
            tokens,
            pooling,
        })
    }
}

/// The tensor of a kind of embeddings.
fn embedding(kind: &str) -> String {
    format!("embeddings.{kind}_embeddings.weight")
}

impl Embeddings {
    fn load(tensors: &Tensors<'_>, config: &Config) -> Result<Self, ModelError> {
        let rows =
            |name: &str, rows: u32| tensors.matrix(&embedding(name), rows as usize, config.hidden as usize);
        Ok(Self {
            words: rows("word", config.vocabulary)?,
            positions: rows("position", config.positions)?,
            segment: rows("token_type", config.types)?.row(0).to_vec(),
        })
    }
}

impl Layer {
    fn load(tensors: &Tensors<'_>, config: &Config, layer: u32) -> Result<Self, ModelError> {
        let (hidden, inner) = (config.hidden as usize, config.inner as usize);
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let dense = |part: &str, outputs, inputs| Dense::load(tensors, &name(part), outputs, inputs);
        Ok(Self {
            query: dense("attention.self.query", hidden, hidden)?,
            key: dense("attention.self.key", hidden, hidden)?,
            value: dense("attention.self.value", hidden, hidden)?,
            attention: dense("attention.output.dense", hidden, hidden)?,
            attention_norm: Norm::load(tensors, &name("attention.output.LayerNorm"), hidden)?,
            up: dense("intermediate.dense", inner, hidden)?,
            down: dense("output.dense", hidden, inner)?,
            norm: Norm::load(tensors, &name("output.LayerNorm"), hidden)?,
        })
    }
}

impl Dense {
    fn load(tensors: &Tensors<'_>, name: &str, outputs: usize, inputs: usize) -> Result<Self, ModelError> {
        Ok(Self {
            weight: tensors.matrix(&format!("{name}.weight"), outputs, inputs)?,
            bias: tensors.vector(&format!("{name}.bias"), outputs)?,
        })
    }
}

impl Norm {
    fn load(tensors: &Tensors<'_>, name: &str, len: usize) -> Result<Self, ModelError> {
        Ok(Self {
            gain: tensors.vector(&format!("{name}.weight"), len)?,
            bias: tensors.vector(&format!("{name}.bias"), len)?,
        })
    }
}
