//! Logs of a daemon: to standard error, filtered by `RUST_LOG` (default `info`), as text or as JSON lines.

use std::{env, io, io::IsTerminal, str::FromStr};

use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::output::LossyStderr;

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line, for collectors.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The environment's filter is malformed.
    #[error("RUST_LOG is not a filter ({0}): write for example RUST_LOG=info or RUST_LOG=suf_link=debug")]
    Filter(#[from] ParseError),
    /// A second call in one process.
    #[error("logging is set up already")]
    Twice,
}

/// Starts logging for the whole process; once, at the start of `main`.
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    let filter = match env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => directives.parse()?,
        _ => EnvFilter::new("info"),
    };
    // The library's own report of a failed write would panic when standard error is what has failed.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LossyStderr::default)
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| TelemetryError::Twice)
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{name:?} is no log format: write text or json")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names_and_start_once() {
        assert_eq!("text".parse(), Ok(LogFormat::Text));
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert!("xml".parse::<LogFormat>().is_err());
        init(LogFormat::Json).unwrap();
        assert!(matches!(init(LogFormat::Text), Err(TelemetryError::Twice)));
    }
}
