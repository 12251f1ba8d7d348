//! How the vectors of a text's tokens become one vector, as sentence-transformers writes it: `modules.json` and the
//! configuration of its pooling module.

use serde_json::Value;

use crate::{
    Folder, ModelError, folder,
    json::{self, Object},
};

/// The file that lists the modules.
pub const FILE: &str = "modules.json";

/// Keys of the pooling module's switches, and what each means.
const MODES: [(&str, Summary); 4] = [
    ("pooling_mode_cls_token", Summary::First),
    ("pooling_mode_mean_tokens", Summary::Mean),
    ("pooling_mode_max_tokens", Summary::Max),
    ("pooling_mode_mean_sqrt_len_tokens", Summary::MeanRoot),
];

/// What a text's vector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summary {
    /// The first token's vector.
    First,
    /// The mean of all tokens' vectors.
    Mean,
    /// The maximum of each element.
    Max,
    /// The sum, divided by the root of the number of tokens.
    MeanRoot,
}

/// How the vectors of the last layer become the vector of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// How one vector is made of the tokens' vectors.
    pub summary: Summary,
    /// Whether that is divided by its length.
    pub normalise: bool,
}

impl Pooling {
    /// What the folder says; without `modules.json` the mean, as sentence-transformers takes it.
    ///
    /// # Errors
    /// When a file is damaged, or asks for what is not supported.
    pub fn load(folder: &dyn Folder) -> Result<Self, ModelError> {
        let Some(bytes) = folder::optional(folder, FILE, json::MOST_BYTES)? else {
            return Ok(Self { summary: Summary::Mean, normalise: false });
        };
        let value = json::value(FILE, &bytes)?;
        let modules =
            value.as_array().ok_or_else(|| ModelError::damaged(FILE, "it is no list of modules"))?;
        let kinds: Result<Vec<_>, _> = modules.iter().map(kind).collect();
        let kinds = kinds?;
        let names: Vec<_> = kinds.iter().map(|(name, _)| *name).collect();
        let normalise = match &names[..] {
            ["Transformer", "Pooling"] => false,
            ["Transformer", "Pooling", "Normalize"] => true,
            _ => {
                let problem = format!("the modules {} are not supported", names.join(", "));
                let advice = "take a model with the modules Transformer, Pooling and perhaps Normalize";
                return Err(ModelError::new(FILE, problem, advice));
            }
        };
        Ok(Self { summary: summary(folder, kinds[1].1)?, normalise })
    }

    /// The vector of a text: `rows` are those of its tokens, padding left out.
    ///
    /// # Panics
    /// If there are no rows.
    #[must_use]
    pub fn apply<'a>(&self, mut rows: impl ExactSizeIterator<Item = &'a [f64]>) -> Vec<f64> {
        let tokens = rows.len() as f64;
        let mut pooled = rows.next().expect("a text has a token").to_vec();
        for row in rows {
            for (sum, x) in pooled.iter_mut().zip(row) {
                match self.summary {
                    Summary::First => {}
                    Summary::Max => *sum = sum.max(*x),
                    Summary::Mean | Summary::MeanRoot => *sum += x,
                }
            }
        }
        let divisor = match self.summary {
            Summary::First | Summary::Max => 1.0,
            Summary::Mean => tokens,
            Summary::MeanRoot => tokens.sqrt(),
        };
        pooled.iter_mut().for_each(|x| *x /= divisor);
        if self.normalise {
            let length = pooled.iter().map(|x| x * x).sum::<f64>().sqrt();
            pooled.iter_mut().for_each(|x| *x /= length.max(f64::MIN_POSITIVE));
        }
        pooled
    }
}

/// The kind of a module, without the library's path before it, and its folder.
fn kind(module: &Value) -> Result<(&str, &str), ModelError> {
    let text = |key: &str| {
        let found = module.get(key).and_then(Value::as_str);
        found.ok_or_else(|| ModelError::damaged(FILE, format!("a module has no text `{key}`")))
    };
    let name = text("type")?.rsplit('.').next().unwrap_or_default();
    Ok((name, text("path")?))
}

fn summary(folder: &dyn Folder, path: &str) -> Result<Summary, ModelError> {
    // A folder beside the file: a path elsewhere is not the model's.
    if path.is_empty() || path.starts_with('.') || path.contains(['/', '\\']) {
        return Err(ModelError::damaged(FILE, format!("the module's path {path:?} is no name of a folder")));
    }
    let file = format!("{path}/config.json");
    let bytes = folder::required(folder, &file, json::MOST_BYTES)?;
    let object = Object::parse(&file, &bytes)?;
    let mut on = Vec::new();
    for (key, _) in object.keys().filter(|(key, _)| key.starts_with("pooling_mode_")) {
        if object.switch(key)? {
            on.push(key);
        }
    }
    match MODES.iter().find(|(key, _)| on == [*key]) {
        Some((_, summary)) => Ok(*summary),
        None => {
            let problem = format!("pooling by [{}] is not supported", on.join(", "));
            let known = MODES.map(|(key, _)| key).join(", ");
            Err(ModelError::new(&file, problem, format!("take a model with one of {known}")))
        }
    }
}
