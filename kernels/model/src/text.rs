//! Texts as tokens. The tokenizer is that of the folder; its own truncation and padding are off.

use serde_json::Value;
use tokenizers::{Tokenizer, normalizers::Precompiled};

use crate::{Folder, ModelError, folder, json};

/// The tokenizer's file.
pub const FILE: &str = "tokenizer.json";

/// Largest file: a vocabulary of a million tokens.
const MOST_BYTES: u64 = 64 << 20;

/// Longest text, in bytes: hundreds of bytes for each token that a model takes. A longer one is refused before it is cut into
/// tokens.
pub const MOST_TEXT_BYTES: usize = 1 << 20;

/// Why a text cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// There is nothing in it.
    #[error("the text is empty")]
    Empty,
    /// More tokens than the model has positions.
    #[error("the text has {tokens} tokens, and the model takes {most} at most: shorten it")]
    Long {
        /// Tokens of the text.
        tokens: usize,
        /// Most that are taken.
        most: usize,
    },
    /// More bytes than are cut into tokens.
    #[error("the text has {bytes} bytes, and at most {MOST_TEXT_BYTES} are taken: shorten it")]
    Large {
        /// Bytes of the text.
        bytes: usize,
    },
    /// The tokenizer does not take it.
    #[error("the tokenizer does not take the text: {0}")]
    Tokenizer(String),
}

/// Cuts texts into tokens.
#[derive(Clone)]
pub struct Tokens {
    tokenizer: Tokenizer,
    /// Tokens that the model knows.
    vocabulary: u32,
}

impl Tokens {
    /// The folder's tokenizer, for a model that knows `vocabulary` tokens.
    ///
    /// # Errors
    /// When it is missing, damaged, or knows a token that the model does not.
    pub fn load(folder: &dyn Folder, vocabulary: u32) -> Result<Self, ModelError> {
        let bytes = folder::required(folder, FILE, MOST_BYTES)?;
        // The library panics at a decoder that is no JSON, and at a compiled normalizer that it cannot read.
        let value = json::value(FILE, &bytes)?;
        check_normalizer(&value["normalizer"])?;
        let mut tokenizer = Tokenizer::from_bytes(bytes)
            .map_err(|error| ModelError::damaged(FILE, format!("it is no tokenizer: {error}")))?;
        tokenizer.with_padding(None);
        let whole = tokenizer.with_truncation(None).map(|_| ());
        whole.map_err(|error| ModelError::damaged(FILE, format!("its truncation stays on: {error}")))?;
        let processor = serde_json::to_value(tokenizer.get_post_processor());
        check_template(&processor.unwrap_or_default())?;
        let last = tokenizer.get_vocab(true).into_values().max();
        match last {
            Some(last) if last < vocabulary => Ok(Self { tokenizer, vocabulary }),
            Some(last) => {
                let problem =
                    format!("it has a token {last}, and the model of config.json {vocabulary} tokens");
                Err(ModelError::damaged(FILE, problem))
            }
            None => Err(ModelError::damaged(FILE, "it has no tokens")),
        }
    }

    /// The tokens of `text`, with those that the model wants around them; `most` is what the model takes.
    ///
    /// # Errors
    /// When the text is empty or too long.
    pub fn encode(&self, text: &str, most: usize) -> Result<Vec<u32>, TextError> {
        let ids = self.all(text)?;
        if ids.len() > most {
            return Err(TextError::Long { tokens: ids.len(), most });
        }
        Ok(ids)
    }

    /// As [`Tokens::encode`]; of a text that is too long, the first tokens and its last one, which ends every text.
    ///
    /// # Errors
    /// When the text is empty, or has more than [`MOST_TEXT_BYTES`].
    pub fn encode_cut(&self, text: &str, most: usize) -> Result<Vec<u32>, TextError> {
        let mut ids = self.all(text)?;
        if ids.len() > most {
            ids.drain(most - 1..ids.len() - 1);
        }
        Ok(ids)
    }

    fn all(&self, text: &str) -> Result<Vec<u32>, TextError> {
        if text.trim().is_empty() {
            return Err(TextError::Empty);
        }
        if text.len() > MOST_TEXT_BYTES {
            return Err(TextError::Large { bytes: text.len() });
        }
        let encoding =
            self.tokenizer.encode(text, true).map_err(|error| TextError::Tokenizer(error.to_string()))?;
        match encoding.get_ids() {
            [] => Err(TextError::Empty),
            ids => match ids.iter().find(|id| **id >= self.vocabulary) {
                // Of what is put around texts, which is not in the vocabulary.
                Some(id) => {
                    let problem =
                        format!("it makes a token {id} of it, and the model knows {}", self.vocabulary);
                    Err(TextError::Tokenizer(problem))
                }
                None => Ok(ids.to_vec()),
            },
        }
    }
}

/// Whether each compiled normalizer in `normalizer`, which may be a sequence, can be read.
fn check_normalizer(normalizer: &Value) -> Result<(), ModelError> {
    if normalizer["type"] == "Precompiled" {
        // As text: the library borrows from it.
        let read = serde_json::from_str::<Precompiled>(&normalizer.to_string());
        read.map_err(|error| ModelError::damaged(FILE, format!("its normalizer is damaged: {error}")))?;
    }
    let inner = normalizer["normalizers"].as_array();
    inner.into_iter().flatten().try_for_each(check_normalizer)
}

/// Whether what `processor`, which may be a sequence, puts around a text is there: the library panics where it is not.
fn check_template(processor: &Value) -> Result<(), ModelError> {
    if processor["type"] == "TemplateProcessing" {
        for piece in processor["single"].as_array().into_iter().flatten() {
            let token = piece["SpecialToken"]["id"].as_str();
            let is_there = match token {
                Some(token) => !processor["special_tokens"][token].is_null(),
                None => piece["Sequence"]["id"] == "A",
            };
            if !is_there {
                let problem = format!("it puts {piece} around a text, which it does not have");
                return Err(ModelError::damaged(FILE, problem));
            }
        }
    }
    let inner = processor["processors"].as_array();
    inner.into_iter().flatten().try_for_each(check_template)
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.tokenizer.get_vocab_size(true))
    }
}
