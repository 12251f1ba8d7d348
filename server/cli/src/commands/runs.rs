//! `suf run`, `runs`, `watch`, `cancel`: the control API from the shell.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use suf_control::v1::{self, RunState};
use suf_gate::Protocol;
use suf_wire::{Party, RunId};
use tonic::Streaming;

use super::remote::{BothParties, OneParty, RunName, deadline, elements, run_name, whole};
use crate::{
    client::{self, Parties},
    error::Error,
    gates,
    out::{self, Reader},
    runtime,
};

/// Start a run at both parties and print its id. It belongs to the certificate that starts it.
///
/// `suf eval --run ID` with the same certificate feeds it. The parties cancel a run whose client has no call open for their
/// `lease_s`, 60 s by default. Feed it within that time, or keep it with --watch.
#[derive(clap::Args)]
#[command(after_help = "Example:
  suf run --party0 10.0.0.1:7101 --party1 10.0.0.2:7201 --identity pki/client.pem \\
    --protocol onehot --gate gelu --elements 393216 --watch")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    parties: BothParties,
    /// Protocol.
    #[arg(long)]
    protocol: Protocol,
    /// Gate: a built-in name, or the path of a gate file or operator specification.
    #[arg(long)]
    gate: String,
    /// Shape of the protocol, as the gate file names it.
    #[arg(long)]
    shape: Option<String>,
    /// Elements of the tensor.
    #[arg(long, value_parser = elements())]
    elements: u64,
    /// End the run after this many seconds, if it has not ended before.
    #[arg(long, value_name = "SECONDS", value_parser = deadline())]
    deadline: Option<u32>,
    /// Follow the run until it ends, and keep it meanwhile. Ctrl-C cancels it.
    #[arg(long)]
    watch: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// List the runs that a party remembers, newest first.
///
/// A client sees its own runs, with their ids. Operators and observers see all runs of the host, with `hash:` and the hash of
/// each id.
#[derive(clap::Args)]
pub(crate) struct RunsArgs {
    #[command(flatten)]
    party: OneParty,
    /// Only runs that have not ended.
    #[arg(long)]
    active: bool,
    /// At most this many.
    #[arg(long, default_value_t = 20, value_parser = whole(1_u32, 1000))]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Follow a run until it ends. Exit status 1 if it fails.
#[derive(clap::Args)]
pub(crate) struct WatchArgs {
    /// The run: its id, if it is yours, or `hash:` and the hash of its id, as `suf runs` prints them.
    #[arg(value_parser = run_name)]
    run: RunName,
    #[command(flatten)]
    party: OneParty,
    /// Print JSON, one object per line.
    #[arg(long)]
    json: bool,
}

/// End a run at both parties. Its keys are burnt. A client ends runs of its own, an operator any run of the host.
#[derive(clap::Args)]
pub(crate) struct CancelArgs {
    /// The run: its id, if it is yours, or `hash:` and the hash of its id, as `suf runs` prints them.
    #[arg(value_parser = run_name)]
    run: RunName,
    #[command(flatten)]
    party: OneParty,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `suf run`.
pub(crate) fn run(args: &RunArgs) -> Result<(), Error> {
    let gate = gates::gate(&gates::file(&args.gate)?, args.protocol, args.shape.as_deref())?;
    let id = RunId(client::os_random()?);
    let deadline = args.deadline.map(|seconds| Duration::from_secs(seconds.into()));
    let request = client::start_request(&gate, args.elements, id, deadline);
    runtime::block_on(async |interrupt| {
        let parties = args.parties.connect().await?.until(interrupt);
        let started = async {
            print_run(&parties.start(request).await?, args.json, false)?;
            if args.watch { keep(&parties, id, args.json).await } else { Ok(()) }
        };
        parties.ending_at_both(id, started).await
    })
}

/// Runs `suf runs`.
pub(crate) fn runs(args: &RunsArgs) -> Result<(), Error> {
    runtime::block_on(async |_| {
        let place = client::place(args.party.party()?);
        let request = v1::ListRunsRequest { limit: args.limit, active_only: args.active };
        let reply = args.party.connect().await?.list_runs(request).await;
        let runs = reply.map_err(|status| Error::call(place, status))?.into_inner().runs;
        if args.json {
            return out::json(&runs.iter().map(run_json).collect::<Vec<_>>());
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["run", "protocol", "gate", "elements", "state", "eval ms", "failure"]);
        for run in &runs {
            table.add_row([
                name(run),
                run.protocol.clone(),
                run.gate.clone(),
                run.elements.to_string(),
                state(run),
                run.figures.as_ref().map_or(String::new(), |figures| format!("{:.3}", figures.eval_ms)),
                run.failure.as_ref().map_or(String::new(), |failure| failure.reason.clone()),
            ]);
        }
        out::line(table)?;
        Ok(())
    })
}

/// Runs `suf watch`.
pub(crate) fn watch(args: &WatchArgs) -> Result<(), Error> {
    runtime::block_on(async |_| follow(&args.party, args.run, args.json).await)
}

/// Runs `suf cancel`.
pub(crate) fn cancel(args: &CancelArgs) -> Result<(), Error> {
    runtime::block_on(async |_| {
        let place = client::place(args.party.party()?);
        let reply = args.party.connect().await?.cancel_run(args.run.reference()).await;
        let run = reply.map_err(|status| Error::call(place, status))?.into_inner();
        print_run(&run, args.json, false).map(|_| ())
    })
}

/// Prints each state of a run until it ends, or until the reader is gone. The run's failure is the command's.
async fn follow(party: &OneParty, run: RunName, json: bool) -> Result<(), Error> {
    let place = client::place(party.party()?);
    let states = party.connect().await?.watch_run(run.reference()).await;
    let states = states.map_err(|status| Error::call(place, status))?.into_inner();
    print_states(place, states, json).await
}

/// Prints each state of a run of our own at party 0. Both parties keep the run for as long as it is watched.
async fn keep(parties: &Parties, run: RunId, json: bool) -> Result<(), Error> {
    let watch = async |party| {
        let states = parties.party(party).watch_run(client::reference(run)).await;
        states.map(tonic::Response::into_inner).map_err(|status| Error::call(client::place(party), status))
    };
    let (states, _kept) = tokio::try_join!(watch(Party::P0), watch(Party::P1))?;
    print_states(client::place(Party::P0), states, json).await
}

async fn print_states(place: &str, mut states: Streaming<v1::Run>, json: bool) -> Result<(), Error> {
    let mut last = None;
    while let Some(run) = states.message().await.map_err(|status| Error::call(place, status))? {
        if print_run(&run, json, true)? == Reader::Gone {
            return Ok(());
        }
        last = Some(run);
    }
    match last {
        Some(run) if run.state() == RunState::Failed => Err(client::ended_badly(place, &run)),
        _ => Ok(()),
    }
}

/// The run's id, if it was told to us, else its hash.
fn name(run: &v1::Run) -> String {
    if run.run_id.is_empty() { hash(run) } else { hex::encode(&run.run_id) }
}

fn hash(run: &v1::Run) -> String {
    format!("hash:{}", hex::encode(&run.run_hash))
}

fn print_run(run: &v1::Run, json: bool, one_line: bool) -> Result<Reader, Error> {
    if json && one_line {
        return out::line(run_json(run));
    }
    if json {
        return out::line(format_args!("{:#}", run_json(run)));
    }
    let figures = run.figures.as_ref().map_or_else(String::new, |figures| {
        format!(
            ", {} rounds, {:.3} ms ({:.3} computing), {} key bytes",
            figures.rounds, figures.eval_ms, figures.comp_ms, figures.key_bytes
        )
    });
    out::line(format_args!("{} {} {}: {}{figures}", name(run), what(run), run.elements, state(run)))
}

/// What it evaluates: a gate by protocol and name, another program by its digest.
fn what(run: &v1::Run) -> String {
    if run.gate.is_empty() {
        return format!("program {}", hex::encode(&run.program_digest));
    }
    format!("{} {}", run.protocol, run.gate)
}

fn node_value(node: &v1::NodeFigures) -> Value {
    json!({
        "node": node.node,
        "name": node.name,
        "rounds": node.rounds,
        "bits_sent": node.bits_sent,
        "bits_received": node.bits_received,
        "key_bytes": node.key_bytes,
        "comp_ms": node.comp_ms,
        "begin_ms": node.begin_ms,
        "end_ms": node.end_ms,
    })
}

fn run_json(run: &v1::Run) -> Value {
    let failure = run.failure.as_ref().map(|failure| {
        json!({ "fault": failure.fault().as_str_name(), "reason": failure.reason, "step": failure.step })
    });
    let figures = run.figures.as_ref().map(|figures| {
        json!({
            "key_bytes": figures.key_bytes,
            "mask_bytes": figures.mask_bytes,
            "container_bytes": figures.container_bytes,
            "key_ms": figures.key_ms,
            "ship_ms": figures.ship_ms,
            "open_ms": figures.open_ms,
            "eval_ms": figures.eval_ms,
            "comp_ms": figures.comp_ms,
            "comm_ms": figures.comm_ms,
            "run_ms": figures.run_ms,
            "kernel_ms": figures.kernel_ms,
            "copy_ms": figures.copy_ms,
            "wait_ms": figures.wait_ms,
            "bits_sent": figures.bits_sent,
            "bits_received": figures.bits_received,
            "wire_bytes": figures.wire_bytes_sent + figures.wire_bytes_received,
            "eval_rounds": figures.rounds,
            "declared_rounds": figures.declared_rounds,
            "declared_bits": figures.declared_bits,
            "backend": figures.backend,
            "hardware": figures.hardware,
            "processor_mhz": figures.processor_mhz,
            "memory_mhz": figures.memory_mhz,
            "version": figures.version,
            "nodes": figures.nodes.iter().map(node_value).collect::<Vec<_>>(),
        })
    });
    json!({
        "run_id": (!run.run_id.is_empty()).then(|| hex::encode(&run.run_id)),
        "run_hash": hash(run),
        "batch_id": hex::encode(&run.batch_id),
        "gate": run.gate,
        "protocol": run.protocol,
        "gate_digest": hex::encode(&run.gate_digest),
        "program_digest": hex::encode(&run.program_digest),
        "load": (!run.load.is_empty()).then(|| hex::encode(&run.load)),
        "elements": run.elements,
        "state": state_name(run.state()),
        "position": (run.position > 0).then_some(run.position),
        "started_unix_ms": run.started_unix_ms,
        "failure": failure,
        "figures": figures,
    })
}

/// The run's state, and its place in the queue if it waits for its turn.
fn state(run: &v1::Run) -> String {
    let name = state_name(run.state());
    if run.position > 0 { format!("{name} at place {}", run.position) } else { name.to_owned() }
}

fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Unspecified => "unknown",
        RunState::Proposed => "proposed",
        RunState::Dealing => "dealing",
        RunState::ReadyForInput => "ready-for-input",
        RunState::Opening => "opening",
        RunState::Evaluating => "evaluating",
        RunState::Done => "done",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
        RunState::Queued => "queued",
    }
}
