//! What is wrong with a model's folder.

/// What is wrong with a model's folder, in which file, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}: {advice}")]
pub struct ModelError {
    /// The file, by its path within the folder.
    pub file: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub advice: String,
}

impl ModelError {
    /// The `problem` of `file`, and what to do.
    #[must_use]
    pub fn new(file: &str, problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { file: file.to_owned(), problem: problem.into(), advice: advice.into() }
    }

    /// A file that is damaged, or is not what its name says.
    #[must_use]
    pub fn damaged(file: &str, problem: impl Into<String>) -> Self {
        Self::new(file, problem, "get the file again from where the model came from")
    }
}
