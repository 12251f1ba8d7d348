//! `suf describe`: what a gate computes and costs, or what a link sets, before anything runs.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use suf_gate::{Gate, Protocol, activation::Activation, gatefile::GateFile, layout::Party, ring::FRAC};
use suf_link::LinkProfile;

use crate::{error::Error, gates, records::shape_name};

/// Show what a gate computes and what it costs under each protocol, or what a link profile sets. Nothing runs.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf describe gelu
  suf describe gelu --protocol onehot --shape full --elements 393216
  suf describe my-activation.toml
  suf describe link wan")]
pub(crate) struct Args {
    /// A gate (a built-in name, or the path of a gate file), or `link`.
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
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    elements: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    if args.what == "link" {
        return describe_link(args);
    }
    if let Some(extra) = &args.profile {
        return Err(Error::usage(format!("unexpected `{extra}`: a second name goes with `link` only")));
    }
    let file = gates::file(&args.what)?;
    let gates = selected(args, &file)?;
    let rows: Vec<_> = gates.iter().map(|gate| Description::new(gate, &file, args.elements)).collect();
    if args.json {
        return super::print_json(&json!({
            "gate": file.name(),
            "function": function(&file.activation),
            "frac": file.curve.frac,
            "window": window(&file),
            "table_entries": file.curve.window_len(),
            "left": { "slope": file.curve.left.slope, "intercept": real(file.curve.left.intercept) },
            "right": { "slope": file.curve.right.slope, "intercept": real(file.curve.right.intercept) },
            "protocols": rows.iter().map(Description::json).collect::<Vec<_>>(),
        }));
    }
    print_gate(&file);
    println!("{}", table(&rows, args.elements));
    for note in gates.iter().filter_map(gates::caveat) {
        println!("{note}");
    }
    Ok(())
}

fn selected(args: &Args, file: &GateFile) -> Result<Vec<Gate>, Error> {
    let shapes: Vec<Option<&str>> = match &args.shape {
        Some(shape) => vec![Some(shape)],
        None => file.onehot.keys().map(|shape| Some(shape.as_str())).collect(),
    };
    let protocols =
        Protocol::ALL.into_iter().filter(|protocol| args.protocol.is_none_or(|only| only == *protocol));
    let mut gates = Vec::new();
    for protocol in protocols {
        let shapes = if protocol == Protocol::Onehot { &shapes[..] } else { &[None] };
        for shape in shapes {
            match gates::gate(file, protocol, *shape) {
                Ok(gate) => gates.push(gate),
                // Asked for by name: the reason is the answer.
                Err(error)
                    if args.protocol.is_some() || args.shape.is_some() && protocol == Protocol::Onehot =>
                {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
    }
    Ok(gates)
}

/// One protocol's costs.
struct Description<'a> {
    gate: &'a Gate,
    error: Option<(f64, f64)>,
    elements: Option<u64>,
}

impl<'a> Description<'a> {
    fn new(gate: &'a Gate, file: &GateFile, elements: Option<u64>) -> Self {
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
            "expected_max_err": self.error.map(|(max, _)| max),
            "expected_rms_err": self.error.map(|(_, rms)| rms),
            "note": gates::caveat(gate),
            "total": total,
        })
    }
}

fn print_gate(file: &GateFile) {
    let curve = &file.curve;
    let line = |line: suf_gate::curve::Line| match (line.slope, real(line.intercept)) {
        (0, intercept) => format!("{intercept}"),
        (1, 0.0) => "x".to_owned(),
        (slope, 0.0) => format!("{slope} x"),
        (slope, intercept) => format!("{slope} x + {intercept}"),
    };
    println!("{}: {}", file.name(), function(&file.activation));
    println!(
        "  window |x| < {}: a table of {} entries, one per {}; below it {}, above it {}",
        window(file),
        curve.window_len(),
        1.0 / f64::from(1_u32 << (curve.frac - curve.shift)),
        line(curve.left),
        line(curve.right),
    );
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
            |pick: fn((f64, f64)) -> f64| row.error.map_or(String::new(), |e| format!("{:.6}", pick(e)));
        let mut cells = vec![
            gate.protocol().to_string(),
            shape_name(gate),
            domain(gate.domain()),
            format!("{:.3}", gate.declared().mean_key_bytes()),
            gate.declared().bits.to_string(),
            gate.declared().rounds.to_string(),
            error(|(max, _)| max),
            error(|(_, rms)| rms),
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

/// Largest error against the real function for |x| < 16, and the root mean square for N(0, 2^2) inputs, over every input and
/// both roundings; none for `suf-lut`, which computes another function, as its note says.
fn expected_error(gate: &Gate, file: &GateFile) -> Option<(f64, f64)> {
    if gate.protocol() == Protocol::SufLut {
        return None;
    }
    let reach = 16_i64 << FRAC;
    let (min, max) = gate.domain();
    let steps = f64::from(1_u32 << file.curve.shift);
    let (mut largest, mut squares, mut weights) = (0.0_f64, 0.0, 0.0);
    for x in (-reach).max(min)..reach.min(max) {
        let exact = file.activation.eval(real(x));
        let [down, up] = gate.reference(x).map(|y| real(y) - exact);
        // Unbiased rounding goes up with the probability of the fraction.
        let fraction = x.rem_euclid(1 << file.curve.shift) as f64 / steps;
        let weight = (-real(x) * real(x) / 8.0).exp();
        largest = largest.max(down.abs()).max(up.abs());
        squares += weight * ((1.0 - fraction) * down * down + fraction * up * up);
        weights += weight;
    }
    Some((largest, (squares / weights).sqrt()))
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
        return super::print_json(&json!({
            "profile": profile,
            "bandwidth_delay_bytes": profile.bandwidth_delay_bytes(),
            "settings": settings,
            "reasons": settings.reasons(),
        }));
    }
    println!(
        "{name}: {:.2} Gbit/s, {} ms each way; {} bytes fill it for one round trip",
        profile.rate_bps as f64 / 1e9,
        profile.delay_ms,
        profile.bandwidth_delay_bytes()
    );
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
    println!("{table}");
    Ok(())
}

fn function(activation: &Activation) -> String {
    match activation {
        Activation::Builtin(function) => function.name().to_owned(),
        Activation::Expression(expression) => expression.text().to_owned(),
        Activation::Samples(_) => "samples, linear in between".to_owned(),
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
        assert_eq!(domain((-(4 << 12), (4 << 12) - 64)), "-4 .. 3.984375");
    }

    #[test]
    fn every_built_in_gate_can_be_described() {
        for name in GateFile::builtin_names() {
            let file = gates::file(name).unwrap();
            for gate in gates::available(&file, None) {
                let description = Description::new(&gate, &file, Some(1000)).json();
                assert_eq!(description["total"]["elements"], 1000, "{name}");
            }
        }
    }
}
