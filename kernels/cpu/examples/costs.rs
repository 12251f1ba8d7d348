//! Prints what each gate costs on one core, in nanoseconds per element: the median over full tiles, and in brackets the
//! least. It does so for the dealer (both parties' keys) and for each step of both roles. It also prints how far that
//! is from the time of the gate's calls of AES alone. `suf bench kernel` measures the same and writes records.
//!
//! `cargo run --release -p suf-cpu --example costs [WORD..]`: only gates with all these words in their titles.

#[macro_use]
#[path = "../../gate/examples/output/mod.rs"]
mod output;

use std::{error::Error, hint::black_box, sync::Arc};

use suf_cpu::{
    CpuBackend,
    costs::{self, Calls, Times},
};
use suf_gate::{Backend, Gate, Protocol, catalog, gatefile::GateFile};

/// A piece of memory larger than any message.
const SEEN_BYTES: usize = 16 << 20;

/// Chunks measured for each figure.
const CHUNKS: usize = 21;

fn main() -> Result<(), Box<dyn Error>> {
    // In a process that runs for long, freed memory stays with the allocator. This one's begins to keep it once a large
    // piece has come and gone; before, every message would be charged with its page faults.
    drop(black_box(vec![0u8; SEEN_BYTES]));
    let backend = CpuBackend::new();
    let per_call = costs::nanoseconds_per_call(CHUNKS);
    say!("{}, {per_call:.2} ns per call of AES; ns per element", backend.info().device);
    let words: Vec<String> = std::env::args().skip(1).collect();
    for gate in gates()? {
        let title = format!("{} {} ({} B)", gate.name(), gate.protocol(), gate.declared().mean_key_bytes());
        if words.iter().all(|word| title.contains(word)) {
            print(&backend, &title, &Arc::new(gate), per_call)?;
        }
    }
    Ok(())
}

/// The gates of the comparison: GELU and SiLU under every protocol, in every shape.
fn gates() -> Result<Vec<Gate>, Box<dyn Error>> {
    let mut gates = Vec::new();
    for name in ["gelu", "silu"] {
        let file = GateFile::builtin(name)?;
        for protocol in Protocol::ALL {
            let shapes = match protocol {
                Protocol::Onehot => file.onehot.keys().map(|shape| Some(shape.as_str())).collect(),
                _ => vec![None],
            };
            gates.extend(shapes.into_iter().filter_map(|shape| catalog::gate(&file, protocol, shape).ok()));
        }
    }
    Ok(gates)
}

fn print(backend: &dyn Backend, title: &str, gate: &Arc<Gate>, per_call: f64) -> Result<(), Box<dyn Error>> {
    let costs = costs::measure(backend, gate, CHUNKS)?;
    let calls = Calls::of(gate);
    let compared = |times: &Times, calls: Option<u32>| match calls {
        None | Some(0) => "no AES counted".to_owned(),
        Some(calls) => {
            format!("{calls} AES, {:.1} of their time", times.least() / (f64::from(calls) * per_call))
        }
    };
    let deal = compared(&costs.deal, calls.map(|calls| calls.deal));
    say!("{title:<28} deal {} {deal}", figure(&costs.deal));
    for (role, costs, calls) in [
        ("seeded", &costs.seeded, calls.map(|calls| calls.seeded)),
        ("explicit", &costs.explicit, calls.map(|calls| calls.explicit)),
    ] {
        let steps: Vec<String> = costs.steps.iter().map(figure).collect();
        let ratio = compared(&costs.eval, calls);
        say!("{role:>28} eval {} {ratio} = {}", figure(&costs.eval), steps.join(" + "));
    }
    Ok(())
}

fn figure(times: &Times) -> String {
    format!("{:6.1} ({:5.1})", times.median(), times.least())
}
