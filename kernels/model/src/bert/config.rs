//! `config.json` of a BERT.

use crate::{
    Folder, ModelError, folder,
    json::{self, Object},
};

/// The file.
const FILE: &str = "config.json";

/// `model_type` of this architecture.
pub const TYPE: &str = "bert";

/// Names of GELU with the error function, as `hidden_act` has them.
const GELU: [&str; 2] = ["gelu", "gelu_python"];

/// Sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Elements of a token's vector.
    pub hidden: u32,
    /// Inputs of the activation, for each token.
    pub inner: u32,
    /// Attention heads; they divide `hidden`.
    pub heads: u32,
    /// Layers.
    pub layers: u32,
    /// Tokens that a text has at most.
    pub positions: u32,
    /// Kinds of tokens.
    pub vocabulary: u32,
    /// Kinds of segments of a text; texts are of kind 0.
    pub types: u32,
    /// What layer norms add to the variance.
    pub epsilon: f64,
}

impl Config {
    /// What the folder's file says.
    ///
    /// # Errors
    /// When the file is missing or damaged, or the model is not one that is supported: which key, and what is.
    pub fn load(folder: &dyn Folder) -> Result<Self, ModelError> {
        let bytes = folder::required(folder, FILE, json::MOST_BYTES)?;
        let object = Object::parse(FILE, &bytes)?;
        let model = object.text("model_type")?;
        if model != TYPE {
            return Err(object.unsupported("model_type", model, "the architecture bert"));
        }
        let activation = object.text("hidden_act")?;
        if !GELU.contains(&activation) {
            return Err(object.unsupported("hidden_act", activation, "the activation gelu"));
        }
        if object.get("position_embedding_type").is_some() {
            let positions = object.text("position_embedding_type")?;
            if positions != "absolute" {
                return Err(object.unsupported("position_embedding_type", positions, "absolute positions"));
            }
        }
        for key in ["is_decoder", "add_cross_attention"] {
            if object.switch(key)? {
                return Err(object.unsupported(key, "true", "an encoder alone"));
            }
        }
        let config = Self {
            hidden: object.number("hidden_size", 1..=1 << 13)?,
            inner: object.number("intermediate_size", 1..=1 << 16)?,
            heads: object.number("num_attention_heads", 1..=1 << 8)?,
            layers: object.number("num_hidden_layers", 1..=64)?,
            positions: object.number("max_position_embeddings", 2..=1 << 16)?,
            vocabulary: object.number("vocab_size", 1..=1 << 22)?,
            types: object.number("type_vocab_size", 1..=1 << 10)?,
            epsilon: object.small("layer_norm_eps", 0.1)?,
        };
        if !config.hidden.is_multiple_of(config.heads) {
            let problem = format!(
                "hidden_size {} is no multiple of num_attention_heads {}",
                config.hidden, config.heads
            );
            return Err(ModelError::damaged(FILE, problem));
        }
        Ok(config)
    }

    /// Elements of a head.
    #[must_use]
    pub fn head(&self) -> u32 {
        self.hidden / self.heads
    }

    /// Number of weights that are used.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let [hidden, inner] = [self.hidden, self.inner].map(u64::from);
        let embeddings = u64::from(self.vocabulary) + u64::from(self.positions) + u64::from(self.types) + 2;
        let layer = 4 * hidden * (hidden + 1) + inner * (2 * hidden + 1) + 5 * hidden;
        embeddings * hidden + u64::from(self.layers) * layer
    }
}
