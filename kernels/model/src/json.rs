//! Objects of JSON files, with errors that name file and key.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::ModelError;

/// Largest JSON file that is read, other than a tokenizer's: configurations have a few kilobytes.
pub(crate) const MOST_BYTES: u64 = 1 << 20;

/// An object that is the whole of a file.
pub(crate) struct Object<'a> {
    file: &'a str,
    keys: Map<String, Value>,
}

/// The value that is the whole of a file.
pub(crate) fn value(file: &str, bytes: &[u8]) -> Result<Value, ModelError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ModelError::damaged(file, format!("it is no JSON: {error}")))
}

impl<'a> Object<'a> {
    pub(crate) fn parse(file: &'a str, bytes: &[u8]) -> Result<Self, ModelError> {
        match value(file, bytes)? {
            Value::Object(keys) => Ok(Self { file, keys }),
            _ => Err(ModelError::damaged(file, "it is no JSON object")),
        }
    }

    /// The value of `key`; none if it is missing or null.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.keys.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A whole number in `range`.
    pub(crate) fn number(&self, key: &str, range: RangeInclusive<u32>) -> Result<u32, ModelError> {
        let found = self.due(key)?;
        let number = found.as_u64().and_then(|number| u32::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = range.into_inner();
            self.wrong(key, found, &format!("a whole number from {least} to {most}"))
        })
    }

    /// A number above 0 and below `most`.
    pub(crate) fn small(&self, key: &str, most: f64) -> Result<f64, ModelError> {
        let found = self.due(key)?;
        let number = found.as_f64().filter(|number| *number > 0.0 && *number < most);
        number.ok_or_else(|| self.wrong(key, found, &format!("a number above 0 and below {most}")))
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<&str, ModelError> {
        let found = self.due(key)?;
        found.as_str().ok_or_else(|| self.wrong(key, found, "a text"))
    }

    /// Whether a switch is on; a missing one is off.
    pub(crate) fn switch(&self, key: &str) -> Result<bool, ModelError> {
        match self.get(key) {
            None => Ok(false),
            Some(found) => found.as_bool().ok_or_else(|| self.wrong(key, found, "true or false")),
        }
    }

    /// The error about a key whose value is not supported.
    pub(crate) fn unsupported(&self, key: &str, found: &str, known: &str) -> ModelError {
        let problem = format!("{key} is {found}, which is not supported");
        ModelError::new(self.file, problem, format!("take a model with {known}"))
    }

    fn due(&self, key: &str) -> Result<&Value, ModelError> {
        self.get(key).ok_or_else(|| ModelError::damaged(self.file, format!("the key {key} is missing")))
    }

    fn wrong(&self, key: &str, found: &Value, due: &str) -> ModelError {
        let found: String = found.to_string().chars().take(40).collect();
        ModelError::damaged(self.file, format!("{key} is {found}, and has to be {due}"))
    }
}
