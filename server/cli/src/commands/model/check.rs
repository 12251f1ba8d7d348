//! `suf model check`: the program of a model, before anything runs.

use std::path::PathBuf;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use suf_gate::{Node, NodeId, Party, Program, Protocol};
use suf_model::{
    bert::{self, Compiled, Length, load_program},
    nodes::About,
    plan::hex,
};

use crate::{
    commands::remote::whole,
    embedding::{Source, Weights},
    error::Error,
    model::{Model, counted},
    out,
};

/// Show the program that a model becomes, and what it costs: nodes, rings, bounds, rounds, bits, key bytes. Nothing runs.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf model check all-MiniLM-L6-v2
  suf model check all-MiniLM-L6-v2 --tokens 32 --length bucket
  suf model check all-MiniLM-L6-v2 --weights private
  suf model check all-MiniLM-L6-v2 --json | jq '{rounds, sent_bytes, key_bytes}'")]
pub(crate) struct Args {
    /// The model's folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Tokens of the text, those at its ends counted [default: 128, or as many as the model takes].
    #[arg(long, value_parser = whole(1_u32, 1 << 16))]
    tokens: Option<u32>,
    /// Texts that are evaluated together.
    #[arg(long, default_value_t = 1, value_parser = whole(1_u32, 1 << 10))]
    batch: u32,
    /// Whether the text's length is public, or hidden by padding it to so many tokens.
    #[arg(long, default_value = "exact", value_parser = ["exact", "bucket"])]
    length: String,
    /// Who knows the weights: public, both parties and the dealer; private, nobody but their owner.
    #[arg(long, default_value = "public", value_parser = ["public", "private"])]
    weights: String,
    /// The plan [default: DIR/plan.toml, or one that is part of this program, or from built-in sentences].
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Tokens of a program if nothing is said of them.
const TOKENS: u32 = 128;

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let model = Model::load(&args.folder)?;
    let (plan, source) = model.plan(args.plan.as_deref())?;
    let tokens = args.tokens.unwrap_or_else(|| model.bert.config.positions.min(TOKENS));
    let length = Length { tokens, batch: args.batch, padded: args.length == "bucket" };
    let mut program = Source::public(&model, &plan);
    if args.weights == "private" {
        program.weights = Weights::Private { load: None };
    }
    let compiled = program.compile(length, Protocol::Onehot).map_err(Error::usage)?;
    if args.json {
        let mut object = json_of(&compiled);
        object["weights"] = json!(args.weights);
        object["load_bytes"] = json!(compiled.program.load().map_or(Ok(0), |_| load_bytes(&model))?);
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
    out::line(format_args!(
        "plan: {source}, measured on {} with {} tokens",
        counted(plan.texts),
        plan.tokens
    ))?;
    out::line(table(&compiled))?;
    let total = Total::of(&compiled);
    out::line(format_args!(
        "{} of {} tokens, {}, {} weights: {} rounds, {:.2} MB per direction, {:.1} MB of keys per party",
        counted(length.batch.into()),
        length.tokens,
        args.length,
        args.weights,
        total.rounds,
        total.bits as f64 / 8e6,
        total.key_bytes() / 1e6
    ))?;
    Ok(())
}

/// Bytes that each party sends when the weights are loaded.
fn load_bytes(model: &Model) -> Result<u64, Error> {
    let program = load_program(&model.bert.config).map_err(Error::usage)?;
    Ok(opened_bits(&program).div_ceil(8))
}

/// Bits per direction that open a program's inputs.
fn opened_bits(program: &Program) -> u64 {
    program.inputs().map(|input| program.node(input).message_bits()).sum()
}

/// What a whole program costs, with the opening of its inputs.
struct Total {
    rounds: u16,
    bits: u64,
    keys: [u64; 2],
}

impl Total {
    fn of(compiled: &Compiled) -> Self {
        let program = &compiled.program;
        let opened = opened_bits(program);
        Self {
            rounds: program.rounds() + u16::from(opened > 0),
            bits: program.message_bits() + opened,
            keys: Party::BOTH.map(|party| program.key_bytes(party)),
        }
    }

    /// The mean of both parties.
    fn key_bytes(&self) -> f64 {
        let [first, second] = self.keys;
        (first + second) as f64 / 2.0
    }
}

/// The nodes, each with what is known of it.
fn nodes(compiled: &Compiled) -> impl Iterator<Item = (NodeId, &Node, &About)> {
    compiled.program.nodes().zip(&compiled.about).map(|((id, node), about)| (id, node, about))
}

/// The mean of both parties' key bytes.
fn key_bytes(compiled: &Compiled, id: NodeId) -> f64 {
    let [first, second] = Party::BOTH.map(|party| compiled.program.node_key_bytes(party, id));
    (first + second) as f64 / 2.0
}

fn json_of(compiled: &Compiled) -> Value {
    let total = Total::of(compiled);
    let node = |(id, node, about): (NodeId, &Node, &About)| {
        let shape = node.shape();
        json!({
            "node": id.index(),
            "name": about.name,
            "op": node.op().def().name(),
            "takes": node.inputs().iter().map(|input| input.index()).collect::<Vec<_>>(),
            "rows": shape.rows(),
            "cols": shape.cols(),
            "ring": node.wire().map(|wire| wire.ring.bits()),
            "frac": node.wire().map(|wire| wire.frac),
            "bound": about.bound,
            "rounds": node.declared().rounds,
            "bits": node.message_bits(),
            "key_bytes": key_bytes(compiled, id),
        })
    };
    let Length { tokens, batch, padded } = compiled.length;
    json!({
        "program": hex(compiled.program.digest()),
        "tokens": tokens,
        "batch": batch,
        "length": if padded { "bucket" } else { "exact" },
        "rounds": total.rounds,
        "bits": total.bits,
        "sent_bytes": total.bits.div_ceil(8),
        "key_bytes": total.key_bytes(),
        "key_bytes_p0": total.keys[0],
        "key_bytes_p1": total.keys[1],
        "nodes": nodes(compiled).map(node).collect::<Vec<_>>(),
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
    for (id, node, about) in nodes(compiled) {
        let takes: Vec<_> = node.inputs().iter().map(|input| input.index().to_string()).collect();
        let wire = |part: fn(&suf_gate::Wire) -> u8| {
            node.wire().map_or(String::new(), |wire| part(wire).to_string())
        };
        table.add_row([
            id.index().to_string(),
            about.name.clone(),
            node.op().def().name(),
            takes.join(" "),
            node.shape().to_string(),
            wire(|wire| wire.ring.bits()),
            wire(|wire| wire.frac),
            about.bound.map_or(String::new(), |bound| format!("{bound:.4}")),
            node.declared().rounds.to_string(),
            node.message_bits().to_string(),
            format!("{:.1}", key_bytes(compiled, id)),
        ]);
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
