//! `suf lab`: hosts joined by links that the kernel shapes.

use std::{env, ffi::OsString, path::PathBuf, process::ExitCode};

use suf_control::v1::Fault;
use suf_gate::Protocol;
use suf_lab::{
    Host, Lab, LabError, LabPlan, Measured, NamedProfile, Network, SUF_LAB, check_kernel, list, uml,
};

use super::{
    remote::{elements, whole},
    slope,
};
use crate::{error::Error, out, runtime};

/// Run a command on hosts joined by links that the kernel shapes (tc netem): delay, rate, queue, jitter, loss.
///
/// The dealer, both parties and a client each have a network namespace with their own addresses. The command runs on the
/// client's host. `suf bench` in it puts each process on its own host. Links are measured first, and refused when they are
/// off by more than 5 %. Needs root and sch_netem, or user-mode-linux and kmod. The networks are IPv4 alone: IPv6 would send
/// packets that nobody asked for, and they would be counted.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  suf lab wan -- suf bench --protocols onehot,sigma
  suf lab wan --dealer-link metro -- suf bench --models bert-base
  suf lab --kernel uml my-link.toml -- sh -c 'ip netns exec $SUF_LAB_PARTY0 tc -s qdisc'
  suf lab slope --protocols onehot"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// The link between the parties: a built-in profile by name, or the path of a file, such as config/links/lan.toml.
    #[arg(required = true)]
    profile: Option<String>,
    /// The links to the dealer [default: the same].
    #[arg(long, value_name = "PROFILE")]
    dealer_link: Option<String>,
    #[command(flatten)]
    kernel: KernelArgs,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(clap::Subcommand)]
enum Action {
    Slope(SlopeArgs),
    /// Bring a lab up and leave it; prints its name. `ip netns exec suf-NAME-party0 ...` runs a command on a host.
    Up {
        /// The link between the parties.
        profile: String,
        /// The links to the dealer [default: the same].
        #[arg(long, value_name = "PROFILE")]
        dealer_link: Option<String>,
    },
    /// Take a lab down, with everything that runs in it.
    Down {
        /// Its name.
        name: String,
    },
    /// List the labs that are up.
    Status,
}

/// Measure rounds by time: evaluate a gate, or a model, at several delays and fit a line. Its slope is the number of rounds, which
/// must be the declared one within 2 %.
#[derive(clap::Args)]
pub(crate) struct SlopeArgs {
    /// Protocols [default: all that evaluate the gate].
    #[arg(long, value_delimiter = ',')]
    pub(crate) protocols: Vec<Protocol>,
    /// Gate: a built-in name, or the path of a gate file.
    #[arg(long, default_value = "gelu")]
    pub(crate) gate: String,
    /// Elements of the tensor. Keep them few, so that bytes and computing take little of the time.
    #[arg(long, default_value_t = 256, value_parser = elements())]
    pub(crate) elements: u64,
    /// Instead of a gate: the program of the model in this folder. Take a small one.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["protocols", "gate", "elements"])]
    pub(crate) model: Option<PathBuf>,
    /// Tokens of the model's text.
    #[arg(long, requires = "model", default_value_t = 8, value_parser = whole(1_u32, 1 << 16))]
    pub(crate) tokens: u32,
    /// Delays of one direction, in milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "10,50,90,130", value_parser = delay_ms)]
    pub(crate) delays_ms: Vec<f64>,
    /// Runs at each delay; the fastest counts, since a busy machine only ever adds. Points that are off their line by more
    /// than 1 ms are measured again, three times at most.
    #[arg(long, default_value_t = 5, value_parser = whole(1_u32, 1000))]
    pub(crate) repeats: u32,
    /// Folder of results: the lines go into its slopes.json, and into its report if it holds records.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Print the lines as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// Parses a delay on the command line, in milliseconds.
fn delay_ms(text: &str) -> Result<f64, String> {
    let delay: f64 = text.parse().map_err(|_| format!("{text:?} is no number of milliseconds"))?;
    // The most is the link profile's to say.
    if delay.is_finite() && delay > 0.0 { Ok(delay) } else { Err("a delay is more than 0 ms".into()) }
}

#[derive(clap::Args)]
struct KernelArgs {
    /// Which kernel shapes: this machine's (host), a user-mode one that is booted for the command (uml), or the first of
    /// the two that can (auto).
    #[arg(long, value_enum, default_value = "auto")]
    kernel: KernelChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KernelChoice {
    Auto,
    Host,
    Uml,
}

/// Runs the command; the exit status of what it ran.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    match &args.action {
        None => {
            let plan = plan(args.profile.as_deref().unwrap_or_default(), args.dealer_link.as_deref())?;
            if args.kernel.kernel.leads_to_uml()? {
                return again_in_uml();
            }
            in_lab(plan, &args.command)
        }
        Some(Action::Slope(slope)) => {
            // What can be refused is refused before a kernel is booted for it.
            slope::subjects(slope)?;
            if slope.kernel.kernel.leads_to_uml()? {
                return again_in_uml();
            }
            slope::run(slope).map(|()| ExitCode::SUCCESS)
        }
        Some(Action::Up { profile, dealer_link }) => {
            let lab = up(plan(profile, dealer_link.as_deref())?)?;
            // First: a lab whose name cannot be told is taken down again.
            out::line(lab.name())?;
            lab.keep().map_err(|error| Error::lab(&error))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Action::Down { name }) => {
            Lab::down(name).map_err(|error| Error::lab(&error))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Action::Status) => {
            for lab in list().map_err(|error| Error::lab(&error))? {
                let LabPlan { peer, dealer } = lab.plan;
                let kept = if lab.kept { "kept" } else { "owned by a process" };
                out::line(format_args!(
                    "{}: parties {}, dealer {}, {kept}",
                    lab.name, peer.name, dealer.name
                ))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Brings a lab up and measures it.
fn up(plan: LabPlan) -> Result<Lab, Error> {
    if env::var_os(SUF_LAB).is_some() {
        return Err(Error::usage("this is a lab already; labs do not nest"));
    }
    let lab = Lab::up(plan).map_err(|error| Error::lab(&error))?;
    for Measured { network, from, to, rtt_ms, own_ms, rate_bps } in
        lab.measure().map_err(|error| Error::lab(&error))?
    {
        out::note(format_args!(
            "{network}, {from} to {to}: round trip {rtt_ms:.3} ms (the machine's own {own_ms:.3}), {:.1} Mbit/s",
            rate_bps / 1e6
        ));
    }
    Ok(lab)
}

fn in_lab(plan: LabPlan, command: &[OsString]) -> Result<ExitCode, Error> {
    let lab = up(plan)?;
    let (program, arguments) =
        command.split_first().ok_or_else(|| Error::usage("give a command after --"))?;
    let mut child = lab.command(Host::Client, program);
    child.args(arguments).env("PATH", path_with_us());
    let failed = |error: std::io::Error| {
        Error::here(Fault::Device, format!("cannot run {}: {error}", program.display()))
    };
    let status = runtime::block_on(async |_| {
        let mut child = tokio::process::Command::from(child).kill_on_drop(true).spawn().map_err(failed)?;
        child.wait().await.map_err(failed)
    })?;
    for (network, host) in [Network::Peer, Network::Keys]
        .iter()
        .flat_map(|net| net.hosts().iter().map(move |host| (*net, *host)))
    {
        let counters = lab.counters(host, network).map_err(|error| Error::lab(&error))?;
        out::note(format_args!(
            "{network}, from {host}: {} bytes in {} packets, {} dropped",
            counters.bytes, counters.packets, counters.drops
        ));
    }
    // A status above 255 does not exist; a command that was killed has none.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The search path with this program's folder, so that `suf` in a lab is this one.
fn path_with_us() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let ours = env::current_exe().ok().and_then(|program| program.parent().map(PathBuf::from));
    env::join_paths(ours.into_iter().chain(env::split_paths(&path))).unwrap_or(path)
}

/// Runs this very command in a user-mode kernel.
fn again_in_uml() -> Result<ExitCode, Error> {
    let program = env::current_exe()
        .map_err(|error| Error::here(Fault::Device, format!("this program's path: {error}")))?;
    let command: Vec<_> = [program.into()].into_iter().chain(env::args_os().skip(1)).collect();
    out::note("in a user-mode kernel");
    uml::run(&command).map(ExitCode::from).map_err(|error| Error::lab(&error))
}

fn plan(profile: &str, dealer_link: Option<&str>) -> Result<LabPlan, Error> {
    let find = |name| NamedProfile::find(name).map_err(Error::usage);
    let peer = find(profile)?;
    Ok(match dealer_link {
        Some(dealer) => LabPlan { peer, dealer: find(dealer)? },
        None => LabPlan::uniform(peer),
    })
}

impl KernelChoice {
    /// Whether the command belongs into a user-mode kernel, seen from here.
    fn leads_to_uml(self) -> Result<bool, Error> {
        if uml::is_inside() || self == Self::Host {
            return Ok(false);
        }
        if self == Self::Uml {
            return Ok(true);
        }
        match check_kernel() {
            Ok(()) => Ok(false),
            Err(LabError::NotRoot | LabError::NoNetem(_)) if uml::is_installed() => Ok(true),
            Err(error) => Err(Error::lab(&error)),
        }
    }
}
