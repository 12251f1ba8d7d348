//! `suf model`: what is known of a model before anything runs, and models that are loaded at the parties.

mod calibrate;
mod check;
mod load;
mod loads;

use crate::error::Error;

/// Models: what a program of one costs, how large its values get, and private weights at the parties.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Check(check::Args),
    Calibrate(calibrate::Args),
    Load(load::Args),
    List(loads::ListArgs),
    Drop(loads::DropArgs),
}

/// Runs the command.
pub(crate) fn run(command: &Command) -> Result<(), Error> {
    match command {
        Command::Check(args) => check::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        Command::Load(args) => load::run(args),
        Command::List(args) => loads::list(args),
        Command::Drop(args) => loads::drop_load(args),
    }
}
