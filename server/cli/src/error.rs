//! How a command ends badly: wrong usage (exit status 2) or a failed run (exit status 1) that says who is at fault.

use std::process::ExitCode;

use suf_control::{call::CallError, client::ConnectError, failure::CallFailure, v1::Fault};

/// Why a command ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command as written cannot be carried out; nothing was sent. Exit status 2.
    #[error("{0}")]
    Usage(String),
    /// The run failed. Exit status 1.
    #[error("{place}{failure}")]
    Run {
        /// The process that reported it, such as "party 0: "; empty for this process.
        place: String,
        /// The side that has to act, and what happened.
        failure: CallFailure,
    },
    /// A daemon did not answer. Exit status 1.
    #[error("{place} is at fault: {reason}")]
    Unanswered {
        /// The daemon that was called, such as "party 0".
        place: String,
        /// What was seen of it, and what to do.
        reason: String,
    },
}

impl Error {
    /// Wrong usage, in one sentence that says what to write instead.
    pub fn usage(message: impl ToString) -> Self {
        Self::Usage(message.to_string())
    }

    /// A failure of this process or its machine.
    pub fn here(fault: Fault, reason: impl Into<String>) -> Self {
        Self::Run { place: String::new(), failure: CallFailure::new(fault, reason) }
    }

    /// A failure that `place` reported.
    pub fn at(place: &str, failure: CallFailure) -> Self {
        Self::Run { place: format!("{place}: "), failure }
    }

    /// No connection to `place`.
    pub fn connect(place: &str, error: &ConnectError) -> Self {
        Self::of(place, error.into())
    }

    /// A refused or broken call to `place`.
    pub fn call(place: &str, status: tonic::Status) -> Self {
        Self::of(place, status.into())
    }

    fn of(place: &str, error: CallError) -> Self {
        match error {
            CallError::Refused(failure) => Self::at(place, failure),
            CallError::Unanswered(reason) => Self::Unanswered { place: place.to_owned(), reason },
        }
    }

    /// A file of ours that cannot be written: the disk or its permissions.
    pub fn write(path: &std::path::Path, error: impl std::fmt::Display) -> Self {
        Self::here(Fault::Device, format!("cannot write {}: {error}", path.display()))
    }

    /// A file that was looked at before the work, and cannot be written: what the command line names is wrong, or the disk
    /// is full. Nothing was begun.
    pub fn unwritable(path: &std::path::Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let of_the_path = [
            Kind::NotFound,
            Kind::AlreadyExists,
            Kind::NotADirectory,
            Kind::IsADirectory,
            Kind::PermissionDenied,
            Kind::InvalidFilename,
            Kind::ReadOnlyFilesystem,
        ];
        if of_the_path.contains(&error.kind()) {
            return Self::usage(format!(
                "cannot write {}: {error}; nothing was begun: name a place that can be written",
                path.display()
            ));
        }
        Self::write(path, error)
    }

    /// The exit status of `suf` for this error.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Run { .. } | Self::Unanswered { .. } => ExitCode::FAILURE,
        }
    }
}

/// Wrong usage if one of the names given to `option` is there twice: it would be measured twice, and its records mixed up.
///
/// # Errors
/// When a name is there twice: the first such name.
pub fn named_once<T: PartialEq + std::fmt::Display>(option: &str, names: &[T]) -> Result<(), Error> {
    let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    twice.map_or(Ok(()), |(_, name)| Err(Error::usage(format!("{name} is named twice in {option}"))))
}

/// The known name nearest to `name`, as the end of a message, if there is one near enough to be a typing error.
#[must_use]
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // 0.7 of Jaro's similarity is what clap uses for its own suggestions.
    known
        .into_iter()
        .map(|candidate| (strsim::jaro(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!(" (did you mean `{candidate}`?)"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_get_the_nearest_name_and_others_none() {
        assert_eq!(did_you_mean("gleu", ["gelu", "silu"]), " (did you mean `gelu`?)");
        assert_eq!(did_you_mean("quux", ["gelu", "silu"]), "");
    }

    #[test]
    fn a_failure_names_the_place_and_the_one_at_fault() {
        let error = Error::at("party 1", CallFailure::new(Fault::Dealer, "it closed the connection"));
        assert_eq!(error.to_string(), "party 1: the dealer is at fault: it closed the connection");
    }
}
