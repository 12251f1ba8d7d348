//! The public part of a model with private weights: what its clients need. It makes a program's inputs of texts, and vectors of its
//! outputs. The norm before the first layer is none of it: its gain and its bias are in the weights.

use std::{cell::RefCell, collections::BTreeMap};

use super::{Bert, Config, Embeddings, Norm, PREFIXES, WORDS, embedding, normalise};
use crate::{
    Folder, ModelError, Plan, Pooling, Tokens,
    plan::{self, PlanError},
    tensors::{self, Matrix, Tensors},
};

/// A model without the weights of its layers.
#[derive(Debug)]
pub struct Public {
    /// Its sizes.
    pub config: Config,
    /// What cuts texts into tokens.
    pub tokens: Tokens,
    /// What makes one vector of a text.
    pub pooling: Pooling,
    words: Matrix,
    positions: Matrix,
    segment: Vec<f32>,
    last: Norm,
}

/// What comes before the first layer and after the last one.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// The model's sizes.
    pub config: &'a Config,
    pub(super) pooling: &'a Pooling,
    words: &'a Matrix,
    positions: &'a Matrix,
    segment: &'a [f32],
    pub(super) last: &'a Norm,
}

impl Public {
    /// The public part of the model in `folder`, which may lack all other tensors.
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
        let last = Norm::load(&tensors, &last_norm(&config), config.hidden as usize)?;
        Ok(Self { config, tokens, pooling, words, positions, segment, last })
    }
}

/// The files that clients of the model in `folder` need: its public part, and `plan` under the name `name`. The name says nothing of the
/// weights to those who do not have them.
///
/// # Errors
/// As for [`Public::load`], and when the plan is one of a model with other sizes.
pub fn public_files(
    folder: &dyn Folder,
    plan: &Plan,
    name: [u8; 32],
) -> Result<BTreeMap<String, Vec<u8>>, PublicError> {
    let read = Read { folder, files: RefCell::default() };
    let config = Config::load(&read)?;
    Pooling::load(&read)?;
    Tokens::load(&read, config.vocabulary)?;
    let mut files = read.files.into_inner();
    let plan = Plan { model: name, ..plan.clone() };
    plan.suits(&name, config.layers as usize, config.heads as usize)?;
    files.insert(plan::FILE.to_owned(), plan.to_toml().into_bytes());
    let bytes = tensors::read(folder, config.parameters())?;
    let last = last_norm(&config);
    let names = ["word", "position", "token_type"].map(embedding).into_iter();
    let names = names.chain(["weight", "bias"].map(|part| format!("{last}.{part}")));
    let chosen = Tensors::parse(&bytes, WORDS, &PREFIXES)?.choose(names)?;
    files.insert(tensors::FILE.to_owned(), chosen);
    Ok(files)
}

/// Why there is no public part of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicError {
    /// The folder is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The plan is wrong.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// A folder, and the files that were read of it.
struct Read<'a> {
    folder: &'a dyn Folder,
    files: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Folder for Read<'_> {
    fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let found = self.folder.read(path, most)?;
        if let Some(bytes) = &found {
            self.files.borrow_mut().insert(path.to_owned(), bytes.clone());
        }
        Ok(found)
    }
}

/// The norm behind the last layer. A model has a layer at least.
fn last_norm(config: &Config) -> String {
    format!("encoder.layer.{}.output.LayerNorm", config.layers.saturating_sub(1))
}

impl Ends<'_> {
    /// The normalised sum of a text's embeddings, before gain and bias: row after row. This is what a program takes.
    ///
    /// # Panics
    /// If there are more tokens than positions, or one that the model does not know.
    #[must_use]
    pub fn embed(&self, ids: &[u32]) -> Vec<f64> {
        let mut rows = Vec::with_capacity(ids.len() * self.config.hidden as usize);
        for (position, id) in ids.iter().enumerate() {
            let parts =
                self.words.row(*id as usize).iter().zip(self.positions.row(position)).zip(self.segment);
            let start = rows.len();
            rows.extend(parts.map(|((word, position), segment)| {
                f64::from(*word) + f64::from(*position) + f64::from(*segment)
            }));
            normalise(&mut rows[start..], self.config.epsilon, |_| ());
        }
        rows
    }
}

impl<'a> From<&'a Public> for Ends<'a> {
    fn from(model: &'a Public) -> Self {
        let Public { config, pooling, words, positions, segment, last, .. } = model;
        Self { config, pooling, words, positions, segment, last }
    }
}

impl<'a> From<&'a Bert> for Ends<'a> {
    fn from(model: &'a Bert) -> Self {
        let Bert { config, pooling, words, positions, segment, norm, layers, .. } = model;
        // A model has a layer at least.
        let last = layers.last().map_or(norm, |layer| &layer.norm);
        Self { config, pooling, words, positions, segment, last }
    }
}
