//! Keys and messages of fixed seeds, against files: a change of any byte of a layout, a stream or a message is seen here.
//!
//! `SUF_BLESS=1 cargo test -p suf-tests --test vectors` writes the files anew; their diff is then part of the change.

use std::{fmt::Write, fs, path::PathBuf, sync::Arc};

use serde_json::Value;
use suf_cpu::CpuBackend;
use suf_gate::{
    Form, Gate, NodeId, Part, Program, Protocol, Seed, TensorShape, TwoParties, WeightStore, catalog,
    gatefile::GateFile,
    ops::{Input, Op, Output},
    ring::{FRAC, WIRE},
    spec::SpecFile,
};
use suf_wire::{DataHead, DealerMessage, KeyPartHead, Message, PREFIX_BYTES, PeerMessage, decode_frame};

/// Elements of each tile: enough for a plane to end inside a byte.
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

/// What `make_refused.py` made: whole messages are accepted, and each of them with one fault is refused for that fault.
#[test]
fn what_must_be_refused_is_refused_for_the_reason_that_the_vectors_give() {
    let families: Value = serde_json::from_str(include_str!("../vectors/refused.json")).expect("JSON");
    let families = families.as_object().expect("families by name");
    assert!(families.keys().eq(["keys", "peer", "program"]), "{:?}", families.keys());
    let mut wrong = Vec::new();
    for (family, cases) in families {
        let decode: fn(&[u8]) -> Result<(), String> = match &family[..] {
            "peer" => message::<PeerMessage>,
            "keys" => message::<DealerMessage>,
            _ => |bytes| said(Program::decode(bytes, &WeightStore::default())),
        };
        let (accepted, refused) = (cases_of(cases, "accepted"), cases_of(cases, "refused"));
        assert!(accepted.len() >= 5 && refused.len() >= 9, "{family}");
        for (what, bytes, _) in accepted {
            assert_eq!(decode(&bytes), Ok(()), "{family}: {what}");
        }
        for (what, bytes, reason) in refused {
            match decode(&bytes) {
                Ok(()) => wrong.push(format!("{family}: {what} is accepted")),
                Err(found) if found.contains(&reason) => {}
                Err(found) => wrong.push(format!("{family}: {what}: {found:?}, not {reason:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Payloads of the length that comes are what the receiver expects.
fn message<M: Message>(bytes: &[u8]) -> Result<(), String> {
    let heads = [DataHead::BYTES, KeyPartHead::BYTES].map(|head| PREFIX_BYTES + head);
    let head = if bytes.get(4) == Some(&0x44) { heads[1] } else { heads[0] };
    said(decode_frame::<M>(bytes, |_| bytes.len().checked_sub(head)))
}

fn said<T, E: std::fmt::Display>(decoded: Result<T, E>) -> Result<(), String> {
    decoded.map(drop).map_err(|error| error.to_string())
}

/// What it is, its bytes, and the reason for which it is refused.
fn cases_of(family: &Value, kind: &str) -> Vec<(String, Vec<u8>, String)> {
    let cases = family[kind].as_array().expect("cases").iter();
    let text = |case: &Value, field: &str| case[field].as_str().unwrap_or_default().to_owned();
    cases.map(|case| (text(case, "what"), bytes_of(&text(case, "bytes")), text(case, "reason"))).collect()
}

/// Bytes in hex, and perhaps `+` and the number of zeros that follow.
fn bytes_of(text: &str) -> Vec<u8> {
    let (hex, zeros) = text.split_once('+').unwrap_or((text, "0"));
    let digits = hex.as_bytes().chunks(2);
    let mut bytes: Vec<u8> = digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits"))
        .collect();
    bytes.resize(bytes.len() + zeros.parse::<usize>().expect("a number"), 0);
    bytes
}

/// Everything that is dealt and sent for a tile of each of two gates, in hex, with its name beside it. Party 0 and
/// party 1 are the seeded sides of the two gates.
fn transcript(gate: &Gate, inputs: &[i64]) -> String {
    let backend = CpuBackend::new();
    let gate = Arc::new(gate.clone());
    let (low, high) = gate.domain();
    let x: Vec<i64> = inputs.iter().map(|x| (*x).clamp(low, high)).collect();
    let shape = TensorShape::flat(x.len() as u64).expect("a few elements");
    let form = if gate.takes_shares() { Form::Shared } else { Form::Masked };
    let input = || (Op::Input(Input::new(shape, WIRE, FRAC, form)), vec![]);
    let program = Program::new([
        input(),
        (Op::gate(Arc::clone(&gate)), vec![NodeId(0)]),
        input(),
        (Op::gate(gate), vec![NodeId(2)]),
        (Op::Output(Output), vec![NodeId(1)]),
        (Op::Output(Output), vec![NodeId(3)]),
    ]);
    let program = Arc::new(program.expect("a program"));
    let seeds = [0x11, 0x22, 0x33].map(|byte| Seed::new([byte; 32]));
    let parties = TwoParties::new(Arc::clone(&program), [0x44; 16], seeds);
    let shares = [x.iter().map(|x| WIRE.encode(*x)).collect(), vec![0; x.len()]];
    let found = parties
        .run(&backend, [&backend, &backend], &[shares.clone(), shares])
        .expect("the CPU does not fail");
    let mut out = String::new();
    line(&mut out, "program digest", program.digest());
    for (id, node) in program.nodes() {
        let part = Part::new(id, 0);
        for (key, party) in found.keys[&part].iter().zip(0..).filter(|_| node.is_keyed()) {
            line(&mut out, &format!("{id} key of party {party}"), key.expose());
        }
        for step in 0..node.exchanges() {
            for (message, party) in found.messages[&(part, step)].iter().zip(0..) {
                line(&mut out, &format!("{id} step {step} message of party {party}"), message);
            }
        }
        let [mine, theirs] = &found.values[&part];
        if node.is_output() {
            writeln!(out, "{id} shares: {mine:x?} {theirs:x?}").expect("a string takes all");
        } else if node.wire().is_some_and(|wire| wire.form == Form::Masked) {
            assert_eq!(mine, theirs, "both parties open the same");
            writeln!(out, "{id} wire: {mine:x?}").expect("a string takes all");
        }
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
