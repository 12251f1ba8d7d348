//! `suf bench kernel`: one core's computation, with nothing sent.

use std::{path::PathBuf, sync::Arc};

use suf_cpu::{CpuBackend, costs};
use suf_gate::{Gate, Protocol};

use super::{progress::Progress, remote::whole};
use crate::{
    error::{Error, named_once},
    gates, jsonl,
    kernel::{self, KernelRecord, second},
    out, provenance,
    results::Folder,
    tables::{self, Style},
};

/// Sequence length of the second table's model rows, as published.
const SEQ: u64 = 128;

/// What computing costs on one core of this machine: nanoseconds per element, with nothing sent.
///
/// For each gate and protocol: the dealer's time for both parties' keys, and the evaluation by either side, in all and step
/// by step. The seeded side expands its shares, and the explicit side is sent them. A party is each on every other tile.
/// Beside them stand the calls of AES that the definition needs, and the ratio of the whole to their time at this
/// processor's measured rate. Nothing built on AES can go below 1.
///
/// Times are medians over tiles of 65536 elements, of what the measuring thread spent on its processor: other programs
/// disturb them little.
///
/// Also the published second table (compare_activation): SUF as a kernel with one mask and one key for a whole tensor.
/// As a protocol that is insecure, so it is only computed. SIGMA beside it is timed without its communication.
///
/// Writes kernel.jsonl, compare_activation.csv and .json. `suf report` puts kernel.jsonl into the report and the README.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf bench kernel
  suf bench kernel --gate my-activation.toml --protocols onehot,dpf
  suf bench kernel --samples 101 --json | jq '.gates[] | {protocol, gate, deal_ns, eval_ns_seeded}'")]
pub(crate) struct Args {
    /// Gates: built-in names, or paths of gate files.
    #[arg(long = "gate", value_name = "GATE", value_delimiter = ',', default_values = ["gelu", "silu"])]
    gates: Vec<String>,
    /// Protocols: sigma, suf-lut, suf, onehot, dpf [default: all that evaluate the gate].
    #[arg(long, value_delimiter = ',')]
    protocols: Vec<Protocol>,
    /// Tiles measured for each figure.
    #[arg(long, default_value_t = 21, value_parser = whole(1_u16, 10_000))]
    samples: u16,
    /// Folder for the results.
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Print the records as JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let gates = selected(args)?;
    let files = [kernel::FILE].into_iter().chain(second::FILES);
    let _folder = Folder::open(&args.out, "suf bench kernel", files)?;
    let samples = usize::from(args.samples);
    let progress = Progress::new(gates.len() as u64);
    progress.line(&format!("suf {} on {}", provenance::version(), provenance::machine()));
    let backend = CpuBackend::new();
    let aes_ns = costs::nanoseconds_per_call(samples);
    let mut records = Vec::new();
    for gate in gates {
        progress.doing(&format!("{} {}", gate.name(), gate.protocol()));
        records.push(KernelRecord::measure(&backend, &Arc::new(gate), samples, aes_ns)?);
        progress.step();
    }
    progress.doing(second::LABEL);
    let rows = second::measure(SEQ, samples, &records)?;
    drop(progress);

    let stored = kernel::write(&args.out.join(kernel::FILE), &records)
        .inspect_err(|_| jsonl::rescue(&records))
        .and_then(|()| second::write(&args.out, &rows));
    // The tables are printed even if a file failed. A failed file is reported even if the tables could not be printed.
    let printed = print(args, &records, &rows);
    stored.and(printed)
}

fn print(args: &Args, records: &[KernelRecord], rows: &[second::SecondRow]) -> Result<(), Error> {
    if args.json {
        return out::json(&serde_json::json!({ "gates": records, "compare_activation": rows }));
    }
    out::line(tables::costs(records, Style::Terminal))?;
    out::line(tables::costs_note(records))?;
    out::line(format_args!("\n{}", tables::steps(records, Style::Terminal)))?;
    out::line(format_args!(
        "\nSUF and SIGMA as the published second table has them; SUF: {}",
        second::LABEL
    ))?;
    out::line(tables::second(rows, Style::Terminal))?;
    out::line(args.out.join(kernel::FILE).display())?;
    Ok(())
}

/// The gates in all their shapes.
fn selected(args: &Args) -> Result<Vec<Gate>, Error> {
    named_once("--gate", &args.gates)?;
    named_once("--protocols", &args.protocols)?;
    let mut selected = Vec::new();
    for name in &args.gates {
        let file = gates::file(name)?;
        let named = !args.protocols.is_empty();
        let protocols = if named { &args.protocols[..] } else { &Protocol::ALL };
        for protocol in protocols {
            for shape in file.shapes(*protocol) {
                match gates::gate(&file, *protocol, shape) {
                    Ok(gate) => selected.push(gate),
                    Err(error) if named => return Err(error),
                    Err(_) => {}
                }
            }
        }
    }
    Ok(selected)
}
