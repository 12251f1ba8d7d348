//! `suf model check`: the program of a model, before anything runs.

use std::path::PathBuf;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use suf_model::{
    bert::{self, Compiled, Length, compile},
    plan::hex,
    steps::{Step, StepId},
};

use crate::{commands::remote::whole, error::Error, model::Model, out};

/// Show the program that a model becomes, and what it costs: nodes, rings, bounds, rounds, bits, key bytes. Nothing runs.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf model check all-MiniLM-L6-v2
  suf model check all-MiniLM-L6-v2 --tokens 32 --length bucket
  suf model check all-MiniLM-L6-v2 --json | jq '{rounds, sent_bytes, key_bytes}'")]
pub(crate) struct Args {
    /// The model's folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Tokens of the text, those at its ends counted.
    #[arg(long, default_value_t = 128, value_parser = whole(1_u32, 1 << 16))]
    tokens: u32,
    /// Texts that are evaluated together.
    #[arg(long, default_value_t = 1, value_parser = whole(1_u32, 1 << 10))]
    batch: u32,
    /// Whether the text's length is public, or hidden by padding it to so many tokens.
    #[arg(long, default_value = "exact", value_parser = ["exact", "bucket"])]
    length: String,
    /// The plan [default: DIR/plan.toml, or one that is part of this program, or from built-in sentences].
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let model = Model::load(&args.folder)?;
    let (plan, source) = model.plan(args.plan.as_deref())?;
    let length = Length { tokens: args.tokens, batch: args.batch, padded: args.length == "bucket" };
    let compiled = compile(&model.bert.config, &model.integers, &plan, length).map_err(Error::usage)?;
    if args.json {
        let mut object = json_of(&compiled);
        let config = &model.bert.config;
        object["model"] = json!({
            "architecture": bert::TYPE,
            "digest": hex(model.integers.digest()),
            "layers": config.layers,
            "hidden": config.hidden,
            "heads": config.heads,
            "inner": config.inner,
            "positions": config.positions,
            "vocabulary": config.vocabulary,
        });
        object["plan"] = json!({ "source": source, "texts": plan.texts, "tokens": plan.tokens });
        return out::json(&object);
    }
    out::line(format_args!("model {} ({})", hex(model.integers.digest()), bert::TYPE))?;
    out::line(format_args!("plan: {source}, measured on {} texts with {} tokens", plan.texts, plan.tokens))?;
    out::line(table(&compiled))?;
    let total = compiled.steps.total();
    out::line(format_args!(
        "{} texts of {} tokens, {}, public weights: {} rounds, {:.2} MB per direction, {:.1} MB of keys per party",
        length.batch,
        length.tokens,
        args.length,
        total.rounds,
        total.bits / 8e6,
        total.key_bytes / 1e6
    ))?;
    Ok(())
}

fn json_of(compiled: &Compiled) -> Value {
    let total = compiled.steps.total();
    let node = |(id, step): (StepId, &Step)| {
        let (made, cost) = (step.made, compiled.steps.cost(step));
        json!({
            "node": id.0,
            "name": step.name,
            "op": step.kind.name(),
            "takes": step.takes.iter().map(|StepId(at)| at).collect::<Vec<_>>(),
            "rows": made.rows,
            "cols": made.cols,
            "ring": made.ring,
            "frac": made.frac,
            "bound": made.bound,
            "rounds": cost.rounds,
            "bits": cost.bits,
            "key_bytes": cost.key_bytes,
        })
    };
    let Length { tokens, batch, padded } = compiled.length;
    json!({
        "tokens": tokens,
        "batch": batch,
        "length": if padded { "bucket" } else { "exact" },
        "weights": "public",
        "rounds": total.rounds,
        "bits": total.bits,
        "sent_bytes": total.bits / 8.0,
        "key_bytes": total.key_bytes,
        "nodes": compiled.steps.iter().map(node).collect::<Vec<_>>(),
    })
}

fn table(compiled: &Compiled) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "node",
        "name",
        "op",
        "takes",
        "shape",
        "ring",
        "frac",
        "|x| below",
        "rounds",
        "bits",
        "key bytes",
    ]);
    for (id, step) in compiled.steps.iter() {
        let (made, cost) = (step.made, compiled.steps.cost(step));
        let takes: Vec<_> = step.takes.iter().map(StepId::to_string).collect();
        table.add_row([
            id.to_string(),
            step.name.clone(),
            step.kind.name().to_owned(),
            takes.join(" "),
            format!("{} x {}", made.rows, made.cols),
            made.ring.to_string(),
            made.frac.to_string(),
            format!("{:.4}", made.bound),
            cost.rounds.to_string(),
            cost.bits.to_string(),
            format!("{:.1}", cost.key_bytes),
        ]);
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
