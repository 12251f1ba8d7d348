//! `suf describe`: what a gate computes and costs, or what a link sets, before anything runs.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use suf_gate::{
    Gate, Party, Protocol, activation::Activation, gatefile::GateFile, ring::FRAC, spec::SpecFile,
};
use suf_link::LinkProfile;

use super::remote::elements;
use crate::{
    error::Error,
    gates::{self, Definition},
    out,
    records::shape_name,
};

/// Show what a gate computes and what it costs under each protocol, or what a link profile sets. Nothing runs.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf describe gelu
  suf describe gelu --protocol onehot --shape full --elements 393216
  suf describe my-activation.toml
  suf describe my-specification.toml
  suf describe link wan")]
pub(crate) struct Args {
    /// A gate (a built-in name, or the path of a gate file or operator specification), or `link`.
    what: String,
    /// With `link`: the profile's name or path.
    #[arg(required_if_eq("what", "link"))]
    profile: Option<String>,
    /// Only this protocol.
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Shape of the protocols that have several, as the gate file names it [default: every shape].
    #[arg(long)]
    shape: Option<String>,
    /// Totals for a tensor of this many elements.
    #[arg(long, value_parser = elements())]
    elements: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    if args.what == "link" {
        if args.protocol.is_some() || args.shape.is_some() || args.elements.is_some() {
            return Err(Error::usage("a link has no --protocol, --shape or --elements: leave them out"));
        }
        return describe_link(args);
    }
    if let Some(extra) = &args.profile {
        return Err(Error::usage(format!("unexpected `{extra}`: a second name goes with `link` only")));
    }
    if args.json {
        return out::json(&described(&args.what, args.protocol, args.shape.as_deref(), args.elements)?);
    }
    let file = gates::file(&args.what)?;
    let gates = selected(&file, args.protocol, args.shape.as_deref())?;
    let rows: Vec<_> = gates.iter().map(|gate| Description::new(gate, &file, args.elements)).collect();
    match &file {
        Definition::Gate(file) => print_gate(file)?,
        Definition::Spec(file) => print_spec(file)?,
    }
    out::line(table(&rows, args.elements))?;
    for note in gates.iter().filter_map(gates::caveat) {
        out::line(note)?;
    }
    if let Some(note) = gates::rounding(&gates) {
        out::line(note)?;
    }
    out::line("digests, as `gates` in a daemon's configuration takes them:")?;
    for gate in &gates {
        let digest = hex::encode(gate.digest());
        out::line(format_args!("  {digest} {} {}", gate.protocol(), shape_name(gate)))?;
    }
    Ok(())
}

/// What the gate `name` computes and costs: under `protocol` or each that can evaluate it, in `shape` or each shape.
///
/// # Errors
/// When there is no such gate, or `protocol` cannot evaluate it in `shape`.
pub fn described(
    name: &str,
    protocol: Option<Protocol>,
    shape: Option<&str>,
    elements: Option<u64>,
) -> Result<Value, Error> {
    let file = gates::file(name)?;
    let gates = selected(&file, protocol, shape)?;
    let mut object = match &file {
        Definition::Gate(file) => gate_json(file),
        Definition::Spec(file) => spec_json(file),
    };
    object["gate"] = json!(file.name());
    object["function"] = json!(file.function().map(function));
    object["protocols"] = gates.iter().map(|gate| Description::new(gate, &file, elements).json()).collect();
    Ok(object)
}

fn selected(file: &Definition, only: Option<Protocol>, shape: Option<&str>) -> Result<Vec<Gate>, Error> {
    let protocols = Protocol::ALL.into_iter().filter(|protocol| only.is_none_or(|only| only == *protocol));
    let mut gates = Vec::new();
    for protocol in protocols {
        let shapes = match shape {
            Some(shape) if protocol == Protocol::Onehot || only.is_some() => vec![Some(shape)],
            _ => file.shapes(protocol),
        };
        for named in shapes {
            match gates::gate(file, protocol, named) {
                Ok(gate) => gates.push(gate),
                // Asked for by name: the reason is the answer.
                Err(error) if only.is_some() || shape.is_some() && protocol == Protocol::Onehot => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
    }
    if let (true, Definition::Spec(_)) = (gates.is_empty(), file) {
        // There is one protocol for it, so its reason is the answer too.
        gates.push(gates::gate(file, Protocol::Suf, None)?);
    }
    Ok(gates)
}

/// One protocol's costs.
struct Description<'a> {
    gate: &'a Gate,
    error: Option<ExpectedError>,
    elements: Option<u64>,
}

impl<'a> Description<'a> {
    fn new(gate: &'a Gate, file: &Definition, elements: Option<u64>) -> Self {
        Self { gate, error: expected_error(gate, file), elements }
    }

    fn json(&self) -> Value {
        let gate = self.gate;
        let (min, max) = gate.domain();
        let total = self.elements.map(|elements| {
            json!({
                "elements": elements,
                "key_bytes_p0": gate.batch_key_bytes(Party::P0, elements),
                "key_bytes_p1": gate.batch_key_bytes(Party::P1, elements),
                "bits_per_direction": gate.batch_message_bits(elements),
            })
        });
        json!({
            "protocol": gate.protocol().name(),
            "shape": shape_name(gate),
            "digest": hex::encode(gate.digest()),
            "domain": [real(min), real(max)],
            "key_bytes_per_elem": gate.declared().mean_key_bytes(),
            "bits_per_elem": gate.declared().bits,
            "rounds": gate.declared().rounds,
            "expected_max_err": self.error.map(|error| error.max),
            "expected_rms_err": self.error.map(|error| error.rms),
            "expected_mean_err": self.error.map(|error| error.mean),
            "note": gates::caveat(gate),
            "rounding": gates::rounding(std::slice::from_ref(gate)),
            "total": total,
        })
    }
}

fn gate_json(file: &GateFile) -> Value {
    let line =
        |line: suf_gate::curve::Line| json!({ "slope": line.slope, "intercept": real(line.intercept) });
    json!({
        "kind": "gate",
        "frac": file.curve.frac,
        "window": window(file),
        "table_entries": file.curve.window_len(),
        "left": line(file.curve.left),
        "right": line(file.curve.right),
    })
}

fn spec_json(file: &SpecFile) -> Value {
    let parts = file.spec.parts();
    let helpers: Vec<_> = parts.helpers.iter().map(|helper| &helper.name).collect();
    json!({
        "kind": "specification",
        "frac": file.frac,
        "grid_bits": parts.grid,
        "helpers": helpers,
        "pieces": parts.pieces.as_ref().map_or(0, |pieces| pieces.polynomials.len()),
        "degree": degree(file),
        "table_entries": parts.table.as_ref().map_or(0, |table| table.values.len()),
        "terms": parts.terms.len(),
        "output_shift": parts.output_shift,
    })
}

fn print_spec(file: &SpecFile) -> Result<(), Error> {
    let parts = file.spec.parts();
    let name = &file.name;
    out::line(match &file.activation {
        Some(activation) => format!("{name}: an operator specification of {}", function(activation)),
        None => format!("{name}: an operator specification; errors are against itself, unrounded"),
    })?;
    if !parts.helpers.is_empty() {
        let names: Vec<_> = parts.helpers.iter().map(|helper| helper.name.as_str()).collect();
        out::line(format_args!("  helper bits: {}", names.join(", ")))?;
    }
    if let Some(pieces) = &parts.pieces {
        let cuts: Vec<_> = pieces.cuts.iter().map(|cut| real(*cut).to_string()).collect();
        out::line(format_args!(
            "  {} pieces of degree {}, cut at {}",
            pieces.polynomials.len(),
            degree(file),
            cuts.join(", ")
        ))?;
    }
    if let Some(table) = &parts.table {
        let entries = table.values.len() as i64;
        let end = table.start + (entries << parts.grid);
        out::line(format_args!(
            "  a table of {entries} entries for {} <= x < {}",
            real(table.start),
            real(end)
        ))?;
    }
    out::line(format_args!(
        "  x on a grid of 2^-{}; {} terms; {} low bits of their sum dropped",
        file.frac - parts.grid.min(file.frac),
        parts.terms.len(),
        parts.output_shift
    ))?;
    Ok(())
}

/// The highest degree of its pieces and fixed polynomials.
fn degree(file: &SpecFile) -> usize {
    let parts = file.spec.parts();
    let pieces = parts.pieces.iter().flat_map(|pieces| &pieces.polynomials);
    let fixed = parts.terms.iter().filter_map(|term| match &term.value {
        suf_gate::spec::Value::Fixed(polynomial) => Some(polynomial),
        suf_gate::spec::Value::Pieces(_) | suf_gate::spec::Value::Table(_) => None,
    });
    pieces.chain(fixed).map(|polynomial| polynomial.len() - 1).max().unwrap_or(0)
}

fn print_gate(file: &GateFile) -> Result<(), Error> {
    let curve = &file.curve;
    let line = |line: suf_gate::curve::Line| match (line.slope, real(line.intercept)) {
        (0, intercept) => format!("{intercept}"),
        (1, 0.0) => "x".to_owned(),
        (slope, 0.0) => format!("{slope} x"),
        (slope, intercept) => format!("{slope} x + {intercept}"),
    };
    out::line(format_args!("{}: {}", file.name(), function(&file.activation)))?;
    out::line(format_args!(
        "  window |x| < {}: a table of {} entries, one per {}; below it {}, above it {}",
        window(file),
        curve.window_len(),
        1.0 / f64::from(1_u32 << (curve.frac - curve.shift)),
        line(curve.left),
        line(curve.right),
    ))?;
    Ok(())
}

fn table(rows: &[Description<'_>], elements: Option<u64>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let mut header = vec![
        "protocol",
        "shape",
        "domain",
        "key B/elem",
        "bits/elem",
        "rounds",
        "max err",
        "rms err, N(0, 2^2)",
    ];
    if elements.is_some() {
        header.extend(["key bytes, party 0", "party 1", "bytes sent"]);
    }
    table.set_header(header);
    for row in rows {
        let gate = row.gate;
        let error =
            |pick: fn(ExpectedError) -> f64| row.error.map_or(String::new(), |e| format!("{:.6}", pick(e)));
        let mut cells = vec![
            gate.protocol().to_string(),
            shape_name(gate),
            domain(gate.domain()),
            format!("{:.3}", gate.declared().mean_key_bytes()),
            gate.declared().bits.to_string(),
            gate.declared().rounds.to_string(),
            error(|error| error.max),
            error(|error| error.rms),
        ];
        if let Some(elements) = row.elements {
            cells.extend([
                gate.batch_key_bytes(Party::P0, elements).to_string(),
                gate.batch_key_bytes(Party::P1, elements).to_string(),
                gate.batch_message_bits(elements).div_ceil(8).to_string(),
            ]);
        }
        table.add_row(cells);
    }
    table
}

/// Errors against the real function, before anything runs.
#[derive(Debug, Clone, Copy)]
struct ExpectedError {
    /// The largest for |x| < 16.
    max: f64,
    /// Root mean square for inputs N(0, 2^2).
    rms: f64,
    /// Mean for the same inputs: the bias.
    mean: f64,
}

/// Over every input for |x| < 16 at which the function has a value, and both roundings. None for `suf-lut`, which computes
/// another function, as its note says.
fn expected_error(gate: &Gate, file: &Definition) -> Option<ExpectedError> {
    if gate.protocol() == Protocol::SufLut {
        return None;
    }
    let grid = match file {
        Definition::Gate(file) => file.curve.shift,
        Definition::Spec(file) => file.spec.parts().grid,
    };
    let reach = 16_i64 << FRAC;
    let (min, max) = gate.domain();
    let steps = (1_i64 << grid) as f64;
    let (mut largest, mut sum, mut squares, mut weights) = (0.0_f64, 0.0, 0.0, 0.0);
    for x in (-reach).max(min)..reach.min(max) {
        let Some(exact) = file.exact(x) else { continue };
        let [down, up] = gate.reference(x).map(|y| real(y) - exact);
        // Unbiased rounding goes up with the probability of the fraction.
        let fraction = x.rem_euclid(1 << grid) as f64 / steps;
        let weight = (-real(x) * real(x) / 8.0).exp();
        largest = largest.max(down.abs()).max(up.abs());
        sum += weight * ((1.0 - fraction) * down + fraction * up);
        squares += weight * ((1.0 - fraction) * down * down + fraction * up * up);
        weights += weight;
    }
    (weights > 0.0).then(|| ExpectedError {
        max: largest,
        rms: (squares / weights).sqrt(),
        mean: sum / weights,
    })
}

fn describe_link(args: &Args) -> Result<(), Error> {
    let name = args.profile.as_deref().unwrap_or_default();
    let profile = if name.contains(['/', '.']) {
        LinkProfile::load(name.as_ref())
    } else {
        LinkProfile::built_in(name)
    }
    .map_err(Error::usage)?;
    let settings = profile.settings();
    if args.json {
        return out::json(&json!({
            "profile": profile,
            "bandwidth_delay_bytes": profile.bandwidth_delay_bytes(),
            "settings": settings,
            "reasons": settings.reasons(),
        }));
    }
    out::line(format_args!(
        "{name}: {:.2} Gbit/s, {} ms each way; {} bytes fill it for one round trip",
        profile.rate_bps as f64 / 1e9,
        profile.delay_ms,
        profile.bandwidth_delay_bytes()
    ))?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["QUIC setting", "value", "why"]);
    table.add_rows(
        settings
            .reasons()
            .into_iter()
            .map(|reason| [reason.setting.to_owned(), reason.value, reason.why.to_owned()]),
    );
    out::line(table)?;
    Ok(())
}

fn function(activation: &Activation) -> String {
    match activation {
        Activation::Builtin(function) => function.name().to_owned(),
        Activation::Expression(expression) => expression.text().to_owned(),
        Activation::Samples(samples) => {
            let (count, first, last) = samples.extent();
            format!("{count} samples from {first} to {last}, linear in between")
        }
    }
}

/// Half the window's width.
fn window(file: &GateFile) -> f64 {
    let curve = &file.curve;
    real(1_i64 << (curve.window_bits - 1 + curve.shift))
}

/// A fixed-point value as a real number.
fn real(units: i64) -> f64 {
    units as f64 / f64::from(1_u32 << FRAC)
}

/// A domain, short: by its bound where it is symmetric, and powers of two as such.
fn domain((min, max): (i64, i64)) -> String {
    let bound = |units: i64| match units.unsigned_abs() {
        power if power.is_power_of_two() && power > 1 << (FRAC + 14) => {
            let sign = if units < 0 { "-" } else { "" };
            format!("{sign}2^{}", power.ilog2() - u32::from(FRAC))
        }
        _ => real(units).to_string(),
    };
    if min == -max {
        format!("|x| < {}", bound(max + 1))
    } else if min == -(max + 1) {
        format!("{} <= x < {}", bound(min), bound(max + 1))
    } else {
        format!("{} .. {}", bound(min), bound(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_short() {
        assert_eq!(domain((1 - (1 << 34), (1 << 34) - 1)), "|x| < 2^22");
        assert_eq!(domain((1 - (8192 << 12), (8192 << 12) - 1)), "|x| < 8192");
        assert_eq!(domain((-(1 << 34), (1 << 34) - 1)), "-2^22 <= x < 2^22");
        assert_eq!(domain((-(4 << 12), (4 << 12) - 64)), "-4 .. 3.984375");
    }

    #[test]
    fn gates_that_round_in_public_say_so() {
        let file = gates::file("gelu").unwrap();
        for gate in gates::available(&file, None).unwrap() {
            let said = Description::new(&gate, &file, None).json()["rounding"].is_string();
            let rounds = matches!(gate.protocol(), Protocol::Suf | Protocol::Onehot | Protocol::Dpf);
            assert_eq!(said, rounds, "{}", gate.protocol());
        }
        let spec =
            SpecFile::parse("f.toml", include_str!("../../../../config/specs/hard-swish-quadratic.toml"));
        let exact = gates::gate(&Definition::Spec(spec.unwrap()), Protocol::Suf, None).unwrap();
        assert_eq!(gates::rounding(&[exact]), None, "its grid is exact");
    }

    #[test]
    fn every_built_in_gate_can_be_described() {
        for name in GateFile::builtin_names() {
            let file = gates::file(name).unwrap();
            for gate in gates::available(&file, None).unwrap() {
                let description = Description::new(&gate, &file, Some(1000)).json();
                assert_eq!(description["total"]["elements"], 1000, "{name}");
            }
        }
    }
}
