//! `suf run`, `runs`, `watch`, `cancel`: the control API from the shell.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use suf_control::v1::{self, RunState};
use suf_gate::Protocol;
use suf_wire::RunId;

use super::remote::{OneParty, deadline, elements, run_id};
use crate::{
    client,
    error::Error,
    gates,
    out::{self, Reader},
    runtime,
};

/// Start a run and print its id. A client then feeds it with `suf eval --run ID`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  suf run --party0 10.0.0.1:7101 --identity pki/operator.pem --protocol onehot --gate gelu --elements 393216 --watch")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    party: OneParty,
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
    /// Follow the run until it ends.
    #[arg(long)]
    watch: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// List the runs that a party remembers, newest first.
#[derive(clap::Args)]
pub(crate) struct RunsArgs {
    #[command(flatten)]
    party: OneParty,
    /// Only runs that have not ended.
    #[arg(long)]
    active: bool,
    /// At most this many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Follow a run until it ends. Exit status 1 if it fails.
#[derive(clap::Args)]
pub(crate) struct WatchArgs {
    /// The run.
    #[arg(value_parser = run_id)]
    run: RunId,
    #[command(flatten)]
    party: OneParty,
    /// Print JSON, one object per line.
    #[arg(long)]
    json: bool,
}

/// End a run at both parties. Its keys are burnt.
#[derive(clap::Args)]
pub(crate) struct CancelArgs {
    /// The run.
    #[arg(value_parser = run_id)]
    run: RunId,
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
    runtime::block_on(async {
        let place = client::place(args.party.party()?);
        let mut party = args.party.connect().await?;
        let run = party.start_run(request).await.map_err(|status| Error::call(place, status))?.into_inner();
        if let Err(error) = print_run(&run, args.json, false) {
            out::note(format_args!("the run {id} has been started"));
            return Err(error);
        }
        if args.watch { follow(&args.party, id, args.json).await } else { Ok(()) }
    })
}

/// Runs `suf runs`.
pub(crate) fn runs(args: &RunsArgs) -> Result<(), Error> {
    runtime::block_on(async {
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
                hex::encode(&run.run_id),
                run.protocol.clone(),
                run.gate.clone(),
                run.elements.to_string(),
                state_name(run.state()).to_owned(),
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
    runtime::block_on(follow(&args.party, args.run, args.json))
}

/// Runs `suf cancel`.
pub(crate) fn cancel(args: &CancelArgs) -> Result<(), Error> {
    runtime::block_on(async {
        let place = client::place(args.party.party()?);
        let reply = args.party.connect().await?.cancel_run(client::reference(args.run)).await;
        let run = reply.map_err(|status| Error::call(place, status))?.into_inner();
        print_run(&run, args.json, false).map(|_| ())
    })
}

/// Prints each state of a run until it ends, or until nobody reads any more; its failure is ours.
async fn follow(party: &OneParty, run: RunId, json: bool) -> Result<(), Error> {
    let place = client::place(party.party()?);
    let failed = |status| Error::call(place, status);
    let mut states =
        party.connect().await?.watch_run(client::reference(run)).await.map_err(failed)?.into_inner();
    let mut last = None;
    while let Some(run) = states.message().await.map_err(failed)? {
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
    out::line(format_args!(
        "{} {} {} {}: {}{figures}",
        hex::encode(&run.run_id),
        run.protocol,
        run.gate,
        run.elements,
        state_name(run.state())
    ))
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
        })
    });
    json!({
        "run_id": hex::encode(&run.run_id),
        "batch_id": hex::encode(&run.batch_id),
        "gate": run.gate,
        "protocol": run.protocol,
        "gate_digest": hex::encode(&run.gate_digest),
        "elements": run.elements,
        "state": state_name(run.state()),
        "started_unix_ms": run.started_unix_ms,
        "failure": failure,
        "figures": figures,
    })
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
    }
}
