//! The command line.

mod bench;
mod describe;
mod embed;
mod eval;
mod kernel;
mod lab;
mod model;
mod model_bench;
mod pki;
mod progress;
mod remote;
mod report;
mod runs;
mod slope;
mod tensors;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

pub use self::describe::described;
use crate::{out, provenance};

const EXAMPLES: &str = "\
Examples:
  suf bench                                     measure every protocol on four transformer activations
  suf bench --models bert-base --links loopback,lan,wan --repeats 9
  suf bench kernel                              what computing costs on one core: nanoseconds per element
  suf describe gelu                             what GELU costs under each protocol, before anything runs
  suf eval --local --protocol onehot --gate gelu --inputs x.npy --outputs y.npy
  suf embed --local --model all-MiniLM-L6-v2 --input texts.txt --out v.npy
  suf model load my-model --public my-model-public --identity pki/model.pem
  suf pki request party0 --out pki --host 10.0.0.1

Exit status: 0 done; 1 the run failed, and the message says who is at fault; 2 wrong usage, nothing was sent.
A reader that has seen enough (`suf runs | head -n 1`) is no failure. Output that cannot be written, as on a full disk, is 1.
SUF_PARTY0, SUF_PARTY1 and SUF_IDENTITY stand in for --party0, --party1 and --identity where they are not given.
RUST_LOG sets the log level of the daemons (default: info).";

/// Secure two-party evaluation of activations with one-time keys from a dealer: measure it, use it, run it.
#[derive(Parser)]
#[command(name = "suf", version = provenance::version(), max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Args),
    Eval(eval::Args),
    Embed(embed::Args),
    Describe(describe::Args),
    Run(runs::RunArgs),
    Runs(runs::RunsArgs),
    Watch(runs::WatchArgs),
    Cancel(runs::CancelArgs),
    /// Certificates and their authority.
    #[command(subcommand)]
    Pki(pki::Command),
    #[command(subcommand)]
    Model(model::Command),
    Report(report::Args),
    Lab(lab::Args),
    /// Run the dealer: it makes one-time keys for the two parties.
    Dealer {
        #[command(flatten)]
        args: suf_process::Args,
        #[command(flatten)]
        life: Life,
    },
    /// Run one of the two parties: it evaluates gates on shares with the other.
    Party {
        #[command(flatten)]
        args: suf_process::Args,
        #[command(flatten)]
        life: Life,
        /// Tell the process that started this one, over standard output, what is made of each part of a run.
        #[arg(long, hide = true, requires = "until_stdin_closes")]
        tell_checker: bool,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How long a daemon lives.
#[derive(clap::Args)]
struct Life {
    /// End as on SIGTERM when standard input is closed: the daemon does not outlive the process that started it.
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// The command line, with all its commands.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program and returns its exit status.
#[must_use]
pub fn main() -> ExitCode {
    main_with(std::env::args_os())
}

/// The same with these arguments, of which the first is the program's name.
#[must_use]
pub fn main_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(out::answer("suf", &error)),
    };
    let result = match cli.command {
        Command::Bench(args) => bench::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Describe(args) => describe::run(&args),
        Command::Run(args) => runs::run(&args),
        Command::Runs(args) => runs::runs(&args),
        Command::Watch(args) => runs::watch(&args),
        Command::Cancel(args) => runs::cancel(&args),
        Command::Pki(command) => pki::run(&command),
        Command::Model(command) => model::run(&command),
        Command::Report(args) => report::run(&args),
        Command::Lab(args) => match lab::run(&args) {
            Ok(status) => return status,
            Err(error) => Err(error),
        },
        Command::Dealer { args, life } => return life.bound(|| suf_dealer::run(&args)),
        Command::Party { args, life, tell_checker: false } => return life.bound(|| suf_server::run(&args)),
        Command::Party { args, life, tell_checker: true } => {
            return life.bound(|| suf_server::run_for_checker(&args));
        }
        Command::Completions { shell } => {
            // In memory first: the library panics at an output that takes no more.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "suf", &mut script);
            out::raw(&script).map(|_| ())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::note(format_args!("suf: {error}"));
            error.exit_code()
        }
    }
}

impl Life {
    /// Runs a daemon within its life.
    fn bound(&self, daemon: impl FnOnce() -> ExitCode) -> ExitCode {
        if self.until_stdin_closes {
            std::thread::spawn(|| {
                // An error ends the wait as the end of the input does.
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                // Our own process exists and may be signalled.
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
            });
        }
        daemon()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
