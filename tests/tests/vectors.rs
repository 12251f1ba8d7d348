//! Keys and messages of fixed seeds, against files: a change of any byte of a layout, a stream or a message is seen here.
//!
//! `SUF_BLESS=1 cargo test -p suf-tests --test vectors` writes the files anew; their diff is then part of the change.

use std::{fmt::Write, fs, path::PathBuf, sync::Arc};

use bytes::Bytes;
use suf_cpu::CpuBackend;
use suf_gate::{
    Backend, DealJob, EvalJob, Gate, Input, Party, Protocol, Seed, catalog, gatefile::GateFile, layout,
    ring::WIRE, spec::SpecFile,
};

/// Elements of each chunk: enough for a plane to end inside a byte.
const INPUTS: [i64; 3] = [-1, 4095, -70_000];

#[test]
fn onehot_keys_and_messages_have_not_changed() {
    for (name, shape) in [("gelu", "default"), ("gelu", "full"), ("gelu", "window"), ("silu", "default")] {
        let file = GateFile::builtin(name).expect("built in");
        let gate = catalog::gate(&file, Protocol::Onehot, Some(shape)).expect("in the file");
        compare(&format!("onehot-{name}-{shape}.txt"), &transcript(&gate, &INPUTS));
    }
}

#[test]
fn suf_lut_keys_and_messages_have_not_changed() {
    for name in ["gelu", "silu"] {
        let file = GateFile::builtin(name).expect("built in");
        let gate = catalog::gate(&file, Protocol::SufLut, None).expect("in the file");
        compare(&format!("suf-lut-{name}.txt"), &transcript(&gate, &INPUTS));
    }
}

/// Their keys are long, so that two elements must do.
#[test]
fn keys_and_messages_of_comparison_trees_have_not_changed() {
    for (name, protocol) in [
        ("gelu", Protocol::Sigma),
        ("silu", Protocol::Sigma),
        ("gelu", Protocol::Dpf),
        ("silu", Protocol::Dpf),
        ("gelu", Protocol::Suf),
    ] {
        let file = GateFile::builtin(name).expect("built in");
        let gate = catalog::gate(&file, protocol, None).expect("in the file");
        compare(&format!("{protocol}-{name}.txt"), &transcript(&gate, &INPUTS[..2]));
    }
}

/// Polynomials on pieces, which the gates of functions do without.
#[test]
fn keys_and_messages_of_a_specification_have_not_changed() {
    let text = include_str!("../../config/specs/hard-swish-quadratic.toml");
    let file = SpecFile::parse("hard-swish-quadratic.toml", text).expect("a specification");
    let gate = catalog::from_spec_file(&file).expect("it compiles");
    compare("suf-hard-swish-quadratic.txt", &transcript(&gate, &INPUTS[..2]));
}

/// Everything that is dealt and said for one chunk of each parity, in hex, with its name beside it.
fn transcript(gate: &Gate, inputs: &[i64]) -> String {
    let backend = CpuBackend::new();
    let seeds = [Seed::new([0x11; 32]), Seed::new([0x22; 32])];
    let dealer_seed = Seed::new([0x33; 32]);
    let batch = [0x44; 16];
    let (low, high) = gate.domain();
    let x: Vec<i64> = inputs.iter().map(|x| (*x).clamp(low, high)).collect();
    let mut out = String::new();
    line(&mut out, "gate digest", gate.digest());
    for chunk in [0, 1] {
        let job =
            DealJob { gate, batch, chunk, elems: x.len(), party_seeds: &seeds, dealer_seed: &dealer_seed };
        let keys = backend.deal(&job).expect("the CPU does not fail");
        let jobs = [Party::P0, Party::P1].map(|party| EvalJob {
            gate: Arc::new(gate.clone()),
            batch,
            chunk,
            elems: x.len(),
            party,
            seed: seeds[party.index()].clone(),
        });
        for (key, party) in keys.iter().zip(0..) {
            line(&mut out, &format!("chunk {chunk} key of party {party}"), key.expose());
        }
        let masks =
            jobs.each_ref().map(|job| backend.wire_mask(job, layout::R_IN).expect("the CPU does not fail"));
        let x_hat: Vec<u64> =
            (0..x.len()).map(|i| WIRE.add(WIRE.encode(x[i]), WIRE.add(masks[0][i], masks[1][i]))).collect();
        let mut evals: Vec<_> = jobs
            .iter()
            .zip(keys)
            .map(|(job, key)| {
                let input = if gate.takes_shares() {
                    let value = |i: usize| if job.party == Party::P0 { WIRE.encode(x[i]) } else { 0 };
                    Input::Shares((0..x.len()).map(value).collect())
                } else {
                    Input::Wire(x_hat.clone())
                };
                let staged = backend.stage(job, key.into()).expect("the CPU does not fail");
                staged.begin(input).expect("the CPU does not fail")
            })
            .collect();
        let mut messages = [Bytes::new(), Bytes::new()];
        for step in 0..gate.exchanges().len() {
            let incoming = [messages[1].clone(), messages[0].clone()];
            for (party, eval) in evals.iter_mut().enumerate() {
                messages[party] = eval.step(step, &incoming[party]).expect("the CPU does not fail");
                line(
                    &mut out,
                    &format!("chunk {chunk} step {step} message of party {party}"),
                    &messages[party],
                );
            }
        }
        let last = [messages[1].clone(), messages[0].clone()];
        let y_hat: Vec<_> = evals
            .iter_mut()
            .zip(&last)
            .map(|(eval, last)| eval.finish(last).expect("the CPU does not fail"))
            .collect();
        assert_eq!(y_hat[0], y_hat[1], "both parties open the same");
        writeln!(out, "chunk {chunk} y_hat: {:x?}", y_hat[0]).expect("a string takes all");
    }
    out
}

fn line(out: &mut String, name: &str, bytes: &[u8]) {
    write!(out, "{name} ({} bytes):", bytes.len()).expect("a string takes all");
    for (at, byte) in bytes.iter().enumerate() {
        let gap = if at % 48 == 0 { "\n  " } else { "" };
        write!(out, "{gap}{byte:02x}").expect("a string takes all");
    }
    out.push('\n');
}

fn compare(file: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
    if std::env::var_os("SUF_BLESS").is_some() {
        fs::write(&path, found).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (at, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(expected, found, "{file}:{} has changed", at + 1);
    }
    assert_eq!(expected.lines().count(), found.lines().count(), "{file} has another length");
}
