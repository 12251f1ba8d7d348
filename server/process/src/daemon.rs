//! Options, start, and the address of the control API.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use tokio::net::TcpListener;

use crate::{hardening, output, telemetry};

/// Options of every daemon.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file; those that ship in config/ document every key.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Look at all that a start needs (configuration, files, certificate, ports, state folder), say what was found, and exit.
    #[arg(long)]
    pub check: bool,
    /// How log lines look; RUST_LOG says which there are.
    #[arg(long, value_name = "text|json", default_value = "text")]
    pub log_format: telemetry::LogFormat,
}

/// Anything that keeps a daemon from starting, in words.
pub type Start<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Runs the daemon `program` until its `start` returns: guards the process, sets up its log, then calls `start`. Exit status 0
/// after an orderly end, 1 if it cannot start.
#[must_use]
pub fn run(program: &str, args: &Args, start: impl FnOnce(&Args) -> Start<()>) -> ExitCode {
    let begun = || -> Start<()> {
        hardening::guard()?;
        telemetry::init(args.log_format)?;
        // The first draw takes 20 ms once; it must not fall into the first handshake, whose round trip is measured.
        aws_lc_rs::rand::fill(&mut [0; 32]).map_err(|_| "the operating system gives no entropy")?;
        start(args)
    };
    match begun() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(format_args!("{program}: {error}"));
            ExitCode::FAILURE
        }
    }
}

impl Args {
    /// Prints the line of `--check` for a configuration of `who` that is good.
    ///
    /// # Errors
    /// When standard output does not take it.
    pub fn checked(&self, who: &str) -> Start<()> {
        output::line(format_args!("{}: {who} is ready to start", Path::display(&self.config)))
            .map_err(|error| output::unwritten(&error))?;
        Ok(())
    }
}

/// Prints the line that says that a daemon is ready, and with which addresses. A daemon whose output is full or closed
/// serves all the same: the log has the addresses too.
pub fn say_ready(ready: &impl std::fmt::Display) {
    if let Err(error) = output::line(ready) {
        tracing::warn!(%error, "standard output does not take the line that says that the daemon is ready");
    }
}

/// Binds the address of the control API, and says which it is: the file may leave the port to the system.
///
/// # Errors
/// When it cannot be bound; the message names the key.
pub async fn bind_control(addr: SocketAddr) -> Start<(TcpListener, SocketAddr)> {
    let listener = suf_net::tcp_listener(addr)
        .map_err(|error| format!("control = \"{addr}\" cannot be bound: {error}"))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}
