//! The extension of the Python package `suf`: the client that the command `suf` has, and its daemons for a local run.
//!
//! The package around it turns arguments into plain ones. Arrays come as bytes, in the order of their memory.

mod attend;
mod client;
mod encoder;
mod evaluate;
mod failure;
mod local;

use pyo3::pymodule;

/// The daemons of a local run are this extension, and wipe what they free.
#[global_allocator]
static ALLOCATOR: suf_process::Allocator = suf_process::ALLOCATOR;

/// What the package calls.
#[pymodule]
mod _suf {
    use std::{ffi::OsString, process::ExitCode};

    use pyo3::{
        Bound, PyResult, Python, pyfunction,
        types::{PyModule, PyModuleMethods},
    };
    use suf_gate::Protocol;

    use crate::failure::{input, raised};
    #[pymodule_export]
    use crate::{attend::Stop, client::Client, encoder::Model};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", suf_cli::provenance::version())?;
        module.add("MOST_ELEMENTS", suf_gate::limits::MAX_ELEMS)
    }

    /// Is `suf` with these arguments; its exit status.
    #[pyfunction]
    fn daemon(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
        let ended = py.detach(|| suf_cli::main_with(std::iter::once("suf".into()).chain(arguments)));
        (0..=u8::MAX).find(|code| ExitCode::from(*code) == ended).unwrap_or(1)
    }

    /// What a gate computes and costs, as JSON.
    #[pyfunction]
    #[pyo3(signature = (gate, protocol, shape, elements))]
    fn describe(
        py: Python<'_>,
        gate: &str,
        protocol: Option<&str>,
        shape: Option<&str>,
        elements: Option<u64>,
    ) -> PyResult<String> {
        let protocol: Option<Protocol> =
            protocol.map(str::parse).transpose().map_err(|error| input(py, &error))?;
        py.detach(|| suf_cli::described(gate, protocol, shape, elements))
            .map(|described| described.to_string())
            .map_err(|error| raised(py, &error))
    }
}
