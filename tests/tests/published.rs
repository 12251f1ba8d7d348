//! Our exports against the published comparison's own files, on its own four rows: every column that does not depend on
//! the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// The published files begin with headers of their own; everything else is the same to the byte.
const HEADER: u64 = 128;

/// SIGMA's bytes per element in the published second table. That table counts another build of SIGMA than the first,
/// whose messages are not packed to bits. Ours, and the published first table's, have 34.75 and 35.25.
const UNPACKED: [(&str, u64); 2] = [("gelu", 51), ("silu", 53)];

#[test]
fn the_fair_comparison_is_the_published_one_but_for_times() {
    let out = tempfile::tempdir().expect("a temporary folder");
    // All four rows of the published size; one run each, after the one that warms up.
    suf(&["bench", "--protocols", "sigma,suf-lut", "--repeats", "1", "--backend", "cpu"], out.path());
    let (published, ours) =
        (published("compare_activation_fair.json"), objects(out.path(), "compare_activation_fair"));
    compare_rows(&published, &ours, |key| {
        if key.ends_with("_bytes") {
            Compared::UpToHeader
        } else if key.ends_with("_ms") || key.ends_with("_s") {
            Compared::Time
        } else {
            Compared::Exactly
        }
    });
    // The published LAN and WAN seconds are projections, which ours stand beside: from the same bytes and rounds.
    for row in &ours {
        for prefix in ["sigma", "suf"] {
            let number = |key: &str| row[format!("{prefix}_{key}")].as_f64().expect("a number");
            let projected = |bytes_per_s: f64, delay_s: f64| {
                number("per_gate_comp_ms") / 1e3
                    + 2.0 * number("per_gate_eval_bytes") / bytes_per_s
                    + number("per_gate_eval_rounds") * delay_s
            };
            assert!((number("lan_proj_s") - projected(1e9, 0.5e-3)).abs() < 1e-9);
            assert!((number("wan_proj_s") - projected(400e6, 4e-3)).abs() < 1e-9);
        }
    }
    let columns = columns(out.path(), "compare_activation_fair");
    assert_eq!(columns[..24], published_columns(1), "the published columns come first");
    let again: Vec<_> =
        columns.iter().filter(|column| column.starts_with("onehot_") && !column.contains("proj")).collect();
    assert_eq!(again.len(), 7 + 6, "and again for onehot: its own and SIGMA's ratios to it");
}

#[test]
fn the_second_table_is_the_published_one_but_for_times_and_packing() {
    let out = tempfile::tempdir().expect("a temporary folder");
    suf(&["bench", "kernel", "--protocols", "sigma", "--samples", "1"], out.path());
    let (published, ours) = (published("compare_activation.json"), objects(out.path(), "compare_activation"));
    compare_rows(&published, &ours, |key| {
        if key.ends_with("_ms") {
            Compared::Time
        } else if key.starts_with("sigma_") && key.ends_with("_eval_bytes") {
            Compared::ElsewhereInThisTest
        } else if key.starts_with("sigma_") {
            Compared::UpToHeader
        } else {
            Compared::Exactly
        }
    });
    for (published, ours) in published.iter().zip(&ours) {
        let key = "sigma_per_gate_eval_bytes";
        let elems = whole(&ours["gate_elems"]);
        let (_, unpacked) =
            UNPACKED.into_iter().find(|(gate, _)| ours["gate"] == *gate).expect("gelu or silu");
        assert!(whole(&published[key]).abs_diff(elems * unpacked) < HEADER);
        assert!(whole(&ours[key]) < whole(&published[key]));
        assert_eq!(ours["note"], "one mask per tensor: insecure, compute only");
    }
    let columns = columns(out.path(), "compare_activation");
    assert_eq!(columns[..21], published_columns(2));
    assert_eq!(columns[21..], ["note"]);

    let text = fs::read_to_string(out.path().join("kernel.jsonl")).expect("records");
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).expect("a record is JSON");
        for field in
            ["hardware", "aes_ns", "protocol", "gate", "deal_ns", "eval_ns_seeded", "eval_ns_explicit"]
        {
            assert!(!record[field].is_null(), "the record lacks {field}");
        }
        assert_eq!(record["steps"].as_array().map(Vec::len), Some(8), "seven exchanges and the finish");
    }
}

/// How a key is compared.
enum Compared {
    Exactly,
    UpToHeader,
    /// A number, or nothing where the link was not run.
    Time,
    ElsewhereInThisTest,
}

fn compare_rows(published: &[Value], ours: &[Value], how: impl Fn(&str) -> Compared) {
    assert_eq!(ours.len(), published.len());
    for row in published {
        let model = &row["model"];
        let found = ours.iter().find(|ours| ours["model"] == *model).expect("every model");
        for (key, expected) in row.as_object().expect("an object") {
            let ours = found.get(key).unwrap_or_else(|| panic!("{model}: no key {key}"));
            match how(key) {
                Compared::Exactly => assert_eq!(ours, expected, "{model} {key}"),
                Compared::UpToHeader => {
                    // A total over an inference has a header for every gate.
                    let gates = if key.contains("_total_") { whole(&row["gate_count"]) } else { 1 };
                    let apart = whole(ours).abs_diff(whole(expected));
                    assert!(apart < HEADER * gates, "{model} {key}: {ours}, published {expected}");
                }
                Compared::Time => assert!(ours.is_f64() || ours.is_null(), "{model} {key}"),
                Compared::ElsewhereInThisTest => {}
            }
        }
    }
}

fn suf(arguments: &[&str], out: &Path) {
    let output = Command::new(PROGRAM).args(arguments).arg("--out").arg(out).output().expect("suf starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn published(name: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../server/cli/published").join(name);
    parse(&fs::read_to_string(path).expect("the published file"))
}

fn objects(out: &Path, name: &str) -> Vec<Value> {
    parse(&fs::read_to_string(out.join(name).with_extension("json")).expect("our file"))
}

fn parse(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("a list of rows")
}

fn columns(out: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(out.join(name).with_extension("csv")).expect("our file");
    text.lines().next().expect("a header").split(',').map(Into::into).collect()
}

/// Columns of the published CSV files, which print their JSON's keys without `per_gate_`, some of them.
fn published_columns(table: u8) -> Vec<&'static str> {
    let text = match table {
        1 => {
            "model,gate,seq,gate_elems,sigma_key_bytes,sigma_key_ms,sigma_eval_ms,sigma_eval_bytes,sigma_eval_rounds,\
             sigma_lan_s,sigma_wan_s,suf_key_bytes,suf_key_ms,suf_eval_ms,suf_eval_bytes,suf_eval_rounds,suf_lan_s,\
             suf_wan_s,key_bytes_x,key_ms_x,eval_ms_x,eval_bytes_x,lan_x,wan_x"
        }
        _ => {
            "model,gate,seq,gate_elems,gate_count,suf_intervals,suf_degree,suf_helpers,suf_pred_bytes,suf_lut_bytes,\
             suf_key_bytes,suf_key_ms,suf_eval_ms,sigma_key_bytes,sigma_key_ms,sigma_eval_bytes,sigma_eval_ms,\
             key_bytes_x,key_ms_x,eval_ms_x,eval_bytes_x"
        }
    };
    text.split(',').collect()
}

fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number"))
}
