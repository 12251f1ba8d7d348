//! The main job, small: dealer and two parties as real processes, and the costs that the comparison is about.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Not a multiple of 8, so that planes end inside a byte. A multiple of 4, so that the sum of both directions is whole
/// bytes. Larger than a tile, so that roles alternate.
const ELEMS: u64 = 70_004;

/// What a record has at least.
const FIELDS: [&str; 38] = [
    "model",
    "gate",
    "seq",
    "gate_elems",
    "gate_count",
    "protocol",
    "backend",
    "link",
    "key_bytes",
    "key_bytes_p0",
    "key_bytes_p1",
    "mask_bytes",
    "key_ms",
    "ship_ms",
    "open_ms",
    "eval_ms",
    "comp_ms",
    "comm_ms",
    "eval_bytes",
    "sent_bytes",
    "wire_bytes",
    "eval_rounds",
    "declared_rounds",
    "declared_bits",
    "max_err",
    "rms_err",
    "mean_err",
    "wrong",
    "repeats",
    "eval_ms_samples",
    "hardware",
    "version",
    "lan_proj_s",
    "wan_proj_s",
    "inputs",
    "link_kind",
    "rtt_ms",
    "lanes",
];

/// Key bytes per element and party, bits per element and direction, rounds.
const GELU: [(&str, f64, u64, u64); 5] = [
    ("sigma", 575.375, 139, 7),
    ("suf-lut", 92.125, 105, 4),
    ("suf", 383.0, 61, 2),
    ("onehot", 80.0, 69, 3),
    ("dpf", 383.0, 61, 2),
];
const SILU: [(&str, f64, u64, u64); 5] = [
    ("sigma", 615.375, 141, 7),
    ("suf-lut", 124.125, 107, 4),
    ("suf", 383.0, 62, 2),
    ("onehot", 112.0, 70, 3),
    ("dpf", 383.0, 62, 2),
];

/// Bytes of a batch's key that do not grow with it: the seed, and planes rounded up to bytes.
const HEADER: f64 = 64.0;

#[test]
fn the_costs_of_the_comparison_are_measured_to_the_byte() {
    for (gate, costs) in [("gelu", GELU), ("silu", SILU)] {
        let records = bench(gate);
        assert_eq!(records.len(), costs.len(), "{gate}");
        for (protocol, key, bits, rounds) in costs {
            let what = format!("{gate} {protocol}");
            let record = &records[protocol];
            for field in FIELDS {
                assert!(!record[field].is_null(), "{what}: the record lacks {field}");
            }
            let number = |field: &str| {
                record[field].as_f64().unwrap_or_else(|| panic!("{what}: {field} is no number"))
            };
            assert_eq!(number("wrong"), 0.0, "{what}");
            assert_eq!(number("eval_rounds"), rounds as f64, "{what}");
            assert_eq!(number("eval_rounds"), number("declared_rounds"), "{what}");
            assert_eq!(number("declared_bits"), (bits * ELEMS) as f64, "{what}");
            assert_eq!(number("eval_bytes"), (2 * bits * ELEMS) as f64 / 8.0, "{what}");
            assert!(
                number("wire_bytes") > number("eval_bytes"),
                "{what}: the wire carries less than the payload"
            );
            let roles_differ = protocol != "sigma" && protocol != "suf-lut";
            if !roles_differ {
                let header = number("key_bytes") - key * ELEMS as f64;
                assert!((0.0..HEADER).contains(&header), "{what}: {header} bytes beside the key");
            }
            let both = number("key_bytes_p0") + number("key_bytes_p1");
            let header = both / 2.0 - key * ELEMS as f64;
            assert!((0.0..HEADER).contains(&header), "{what}: {header} bytes beside the key");
            assert!(number("eval_ms") > 0.0 && number("comp_ms") <= number("eval_ms"), "{what}");
        }
    }
}

#[test]
fn onehot_of_the_full_shape_is_right_in_four_rounds() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(PROGRAM)
        .args(["bench", "--models", "bert-base,llama7b", "--protocols", "onehot", "--shape", "full"])
        .args(["--repeats", "1", "--backend", "cpu", "--out"])
        .arg(out.path())
        .output()
        .expect("suf starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(out.path().join("records.jsonl")).expect("records");
    let records: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect();
    for (record, gate, bits, most_bytes) in
        [(&records[0], "gelu", 75, 111.0), (&records[1], "silu", 76, 139.0)]
    {
        assert_eq!(record["gate"], gate);
        assert_eq!(record["wrong"], 0, "{gate}");
        assert_eq!(record["eval_rounds"], 4, "{gate}");
        assert_eq!(record["bits_per_elem"], f64::from(bits), "{gate}");
        let number = |field: &str| record[field].as_f64().expect("a number");
        let mean = (number("key_bytes_p0") + number("key_bytes_p1")) / 2.0 / number("gate_elems");
        assert!(mean <= most_bytes, "{gate}: {mean} bytes of key per element and party");
    }
}

fn bench(gate: &str) -> BTreeMap<String, Value> {
    let out = tempfile::tempdir().expect("a temporary folder");
    let elems = ELEMS.to_string();
    let output = Command::new(PROGRAM)
        .args(["bench", "--elements", &elems, "--gate", gate, "--repeats", "2", "--backend", "cpu", "--out"])
        .arg(out.path())
        .output()
        .expect("suf starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for file in ["compare_activation_fair.csv", "compare_activation_fair.json", "report.md", "report.html"] {
        assert!(out.path().join(file).is_file(), "{file} is missing");
    }
    records(&out.path().join("records.jsonl"))
}

fn records(path: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(path).expect("records");
    let parse = |line: &str| -> Value { serde_json::from_str(line).expect("a record is JSON") };
    let name = |record: &Value| record["protocol"].as_str().expect("a protocol").to_owned();
    text.lines().map(parse).map(|record| (name(&record), record)).collect()
}
