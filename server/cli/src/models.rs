//! The model rows of the benchmark: `config/models.toml`, which is part of the program.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, did_you_mean};

const EMBEDDED: &str = include_str!("../../../config/models.toml");

/// One model's activation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name of the gate, or the path of a gate file.
    pub gate: String,
    /// Elements per token in one layer.
    pub width: u64,
    /// Gates of this size in one inference.
    pub layers: u32,
}

/// All models by name.
///
/// # Panics
/// Never: the text is part of the program, and a test parses it.
#[must_use]
pub fn all() -> BTreeMap<String, Model> {
    toml::from_str(EMBEDDED).expect("the embedded models parse")
}

/// The model called `name`.
///
/// # Errors
/// When there is none, with those that there are.
pub fn find(name: &str) -> Result<Model, Error> {
    let mut models = all();
    models.remove(name).ok_or_else(|| {
        let known: Vec<_> = models.keys().map(String::as_str).collect();
        let near = did_you_mean(name, known.iter().copied());
        Error::usage(format!("no model is called `{name}`{near}; there are: {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_have_the_published_sizes() {
        for (name, elements) in
            [("bert-base", 393_216), ("bert-large", 524_288), ("gpt2", 393_216), ("llama7b", 1_409_024)]
        {
            assert_eq!(find(name).unwrap().width * 128, elements, "{name}");
        }
        assert_eq!(all().len(), 4);
        assert!(find("bert-bas").unwrap_err().to_string().contains("`bert-base`"));
    }
}
