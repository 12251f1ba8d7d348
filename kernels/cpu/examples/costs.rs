//! Prints what each gate costs on one core: nanoseconds per element, as the median over full chunks and in brackets the
//! least, for the dealer (both parties' keys) and for each step of both roles.
//!
//! `cargo run --release -p suf-cpu --example costs [WORD..]`: only gates with all these words in their titles.

use std::{error::Error, sync::Arc, time::Instant};

use suf_cpu::CpuBackend;
use suf_gate::{
    Backend, CHUNK_ELEMS, ChunkEval, DealJob, EvalJob, Gate, Input, KeyBytes, Party, Protocol, Role, Seed,
    catalog, gatefile::GateFile,
};

/// Chunks measured for each figure.
const CHUNKS: usize = 21;

fn main() -> Result<(), Box<dyn Error>> {
    let backend = CpuBackend::new();
    println!("{}, ns per element", backend.info().device);
    let words: Vec<String> = std::env::args().skip(1).collect();
    for gate in gates()? {
        let title = format!("{} {} ({} B)", gate.name(), gate.protocol(), gate.declared().mean_key_bytes());
        if words.iter().all(|word| title.contains(word)) {
            measure(&backend, &title, &Arc::new(gate))?;
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

/// Times of one gate: the dealer's, and of either role the steps and the finish.
fn measure(backend: &dyn Backend, title: &str, gate: &Arc<Gate>) -> Result<(), Box<dyn Error>> {
    let party_seeds = [Seed::new([1; 32]), Seed::new([2; 32])];
    let dealer_seed = Seed::new([3; 32]);
    let steps = gate.exchanges().len();
    let mut dealing = Vec::new();
    let mut steps_of = [0, 1].map(|_| vec![Vec::new(); steps + 1]);
    for _ in 0..CHUNKS {
        let job = DealJob {
            gate,
            batch: [0; 16],
            chunk: 0,
            elems: CHUNK_ELEMS,
            party_seeds: &party_seeds,
            dealer_seed: &dealer_seed,
        };
        let start = Instant::now();
        let [key_0, key_1] = backend.deal(&job)?;
        dealing.push(start.elapsed().as_secs_f64());

        let begin = |party: Party, key: KeyBytes| -> Result<Box<dyn ChunkEval>, Box<dyn Error>> {
            let job = EvalJob {
                gate: gate.clone(),
                batch: [0; 16],
                chunk: 0,
                elems: CHUNK_ELEMS,
                party,
                seed: party_seeds[party.index()].clone(),
            };
            // Any input costs the same.
            let input: Vec<u64> =
                (0..CHUNK_ELEMS as u64).map(|i| i.wrapping_mul(0x1234_5678_9ABB) >> 16).collect();
            let input = if gate.takes_shares() { Input::Shares(input) } else { Input::Wire(input) };
            Ok(backend.stage(&job, key)?.begin(input)?)
        };
        let mut evals = [begin(Party::P0, key_0.into())?, begin(Party::P1, key_1.into())?];
        let mut received = [Vec::new(), Vec::new()];
        for step in 0..=steps {
            let mut sent = [Vec::new(), Vec::new()];
            for party in [0, 1] {
                let start = Instant::now();
                if step < steps {
                    sent[party] = evals[party].step(step, &received[party])?;
                } else {
                    evals[party].finish(&received[party])?;
                }
                steps_of[party][step].push(start.elapsed().as_secs_f64());
            }
            sent.swap(0, 1);
            received = sent;
        }
    }
    println!("{title:<24} deal {}", figures(&[per_element(&mut dealing)]));
    for (party, steps) in [Party::P0, Party::P1].into_iter().zip(&mut steps_of) {
        let role = match party.role(0) {
            Role::Seeded => "seeded",
            Role::Explicit => "explicit",
        };
        let times: Vec<[f64; 2]> = steps.iter_mut().map(per_element).collect();
        let sum = times.iter().fold([0.0; 2], |sum, time| [sum[0] + time[0], sum[1] + time[1]]);
        println!("{role:>24} eval {} = {}", figures(&[sum]), figures(&times));
    }
    Ok(())
}

fn figures(times: &[[f64; 2]]) -> String {
    let each: Vec<String> =
        times.iter().map(|[median, least]| format!("{median:6.1} ({least:5.1})")).collect();
    each.join(" + ")
}

/// The median and the least of a chunk's seconds, in nanoseconds per element.
fn per_element(seconds: &mut Vec<f64>) -> [f64; 2] {
    seconds.sort_by(f64::total_cmp);
    [seconds[seconds.len() / 2], seconds[0]].map(|time| time * 1e9 / CHUNK_ELEMS as f64)
}
