//! The daemons of a local run.

use std::path::PathBuf;

use suf_cli::{
    cluster::{Cluster, Placement, Program, Setup},
    error::Error,
};

/// Starts a dealer and two parties on this machine by `program`, with the model of a folder and the text of its plan.
///
/// # Errors
/// When one does not start, with the end of its log.
pub(crate) fn start(
    (path, arguments): (PathBuf, Vec<String>),
    backend: String,
    link: String,
    model: Option<(PathBuf, String)>,
) -> Result<Cluster, Error> {
    let arguments = arguments.into_iter().map(Into::into).collect();
    let program = Program { path, arguments, survives_signals: true };
    let setup = Setup { link, shaped: false, backend, placement: Placement::Loopback, model, checked: false };
    Cluster::start_by(&program, &setup)
}
