//! The model rows of the benchmark: `config/models.toml`, of which a copy is part of the program, or a file of one's own.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use suf_toml::Mistake;

use crate::{
    error::{Error, did_you_mean},
    gates::own_file,
};

/// Where every key is explained.
const EXPLAINED: &str = "config/models.toml";

const BUILT_IN: &str = include_str!("../../../config/models.toml");

/// Model rows by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models(BTreeMap<String, Model>);

/// One model's activation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name of a built-in gate, or the path of a gate file.
    pub gate: String,
    /// Elements per token in one layer.
    pub width: u64,
    /// Gates of this size in one inference.
    pub layers: u32,
}

impl Models {
    /// The rows that are part of the program.
    ///
    /// # Panics
    /// Never: a test parses them.
    #[must_use]
    pub fn built_in() -> Self {
        Self(toml::from_str(BUILT_IN).expect("the built-in models parse"))
    }

    /// The rows of the file at `path`. Paths of gate files in it are taken from its folder.
    ///
    /// # Errors
    /// When it cannot be read, or is not right; the message has the line and column.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = path.display();
        let wrong = |mistake: Mistake| Error::usage(format!("the models {name} are wrong in {mistake}"));
        let bytes = own_file("the models", path)?;
        let text = suf_toml::text(&bytes).map_err(wrong)?;
        let mut models: BTreeMap<String, Model> = suf_toml::parse(text, EXPLAINED).map_err(wrong)?;
        if models.is_empty() {
            let problem = format!("there is no row: add one such as [bert-base] of {EXPLAINED}");
            return Err(wrong(Mistake::at(text, 0, problem)));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        for (row, model) in &mut models {
            for (key, value) in [("width", model.width), ("layers", model.layers.into())] {
                if value == 0 {
                    let problem = format!("{row}.{key} = 0; it is 1 or more");
                    return Err(wrong(Mistake::of_key(text, &[row, key], problem)));
                }
            }
            if is_path(&model.gate) {
                model.gate = folder.join(&model.gate).display().to_string();
            }
        }
        Ok(Self(models))
    }

    /// The names of the rows, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The row called `name`.
    ///
    /// # Errors
    /// When there is none, with those that there are.
    pub fn find(&self, name: &str) -> Result<&Model, Error> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<_> = self.0.keys().map(String::as_str).collect();
            let near = did_you_mean(name, known.iter().copied());
            Error::usage(format!("no model is called `{name}`{near}; there are: {}", known.join(", ")))
        })
    }
}

impl IntoIterator for Models {
    type Item = (String, Model);
    type IntoIter = std::collections::btree_map::IntoIter<String, Model>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Whether a gate is named by a path, as `gates::file` has it.
fn is_path(gate: &str) -> bool {
    gate.contains('/') || Path::new(gate).extension().is_some_and(|ending| ending == "toml")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_rows_have_the_published_sizes() {
        let models = Models::built_in();
        for (name, elements) in
            [("bert-base", 393_216), ("bert-large", 524_288), ("gpt2", 393_216), ("llama7b", 1_409_024)]
        {
            assert_eq!(models.find(name).unwrap().width * 128, elements, "{name}");
        }
        assert_eq!(models.names().len(), 4);
        assert!(models.find("bert-bas").unwrap_err().to_string().contains("`bert-base`"));
    }

    #[test]
    fn a_file_of_ones_own_has_its_gates_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.toml");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Models::read(&path)
        };
        let models = read("[tiny]\ngate = \"mine.toml\"\nwidth = 3\nlayers = 2\n").unwrap();
        assert_eq!(models.names(), ["tiny"]);
        assert_eq!(models.find("tiny").unwrap().gate, folder.path().join("mine.toml").display().to_string());
        for (text, word) in [
            ("", "no row"),
            ("garbage", "line 1"),
            ("[tiny]\ngate = \"gelu\"\nwidth = 0\nlayers = 2\n", "tiny.width = 0"),
            ("[tiny]\ngate = \"gelu\"\nwidht = 3\nlayers = 2\n", "widht"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(word) && message.contains("models.toml"), "{message}");
        }
    }
}
