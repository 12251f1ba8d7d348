//! `suf model`: what is known of a model before anything runs.

mod calibrate;
mod check;

use crate::error::Error;

/// Models: what a program of one costs, and how large its values get.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Check(check::Args),
    Calibrate(calibrate::Args),
}

/// Runs the command.
pub(crate) fn run(command: &Command) -> Result<(), Error> {
    match command {
        Command::Check(args) => check::run(args),
        Command::Calibrate(args) => calibrate::run(args),
    }
}
