//! `suf bench model` on a tiny random BERT. Its records hold what they should, and a node's figures add up. Only
//! those who may ask are given what a checker gets.

#[path = "../../kernels/model/tests/tiny/mod.rs"]
mod tiny;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use suf_skip::{Need, skip};
use suf_tests::processes::Hosts;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// What a model's record has beside what every record has.
const FIELDS: [&str; 14] = [
    "tokens",
    "batch",
    "weights",
    "cosine_min",
    "cosine_mean",
    "declared_key_bytes",
    "declared_bits",
    "sigma_rounds",
    "sigma_key_bytes",
    "sigma_sent_bytes",
    "load_bytes",
    "key_bytes_p0",
    "eval_ms_samples",
    "nodes",
];

/// A folder with the tiny model in `model`.
fn prepare() -> TempDir {
    let place = tempfile::tempdir().expect("a folder");
    for (name, bytes) in tiny::folder() {
        let path = place.path().join("model").join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    place
}

fn suf(place: &Path, arguments: &str) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments.split(' ')).current_dir(place).output().expect("suf starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn records(place: &Path) -> Vec<Value> {
    let text = fs::read_to_string(place.join("results/records.jsonl")).expect("records");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn every_node_is_right_and_its_figures_add_up_to_the_totals() {
    let place = prepare();
    let gate = "bench --elements 100 --gate gelu --protocols onehot --repeats 1 --backend cpu";
    let before = suf(place.path(), gate);
    assert!(before.status.success(), "{}", said(&before));
    let arguments = "bench model model --tokens 9,16 --batch 2 --repeats 2 --backend cpu --trace trace.json";
    for length in ["exact", "bucket"] {
        let output = suf(place.path(), &format!("{arguments} --length {length}"));
        assert!(output.status.success(), "{}", said(&output));
        let mut records = records(place.path());
        assert_eq!(records.remove(0)["gate"], "gelu", "what `suf bench` measured before stands");
        assert_eq!(records.len(), 2, "one record for each number of tokens");
        for (record, tokens) in records.iter().zip([9, 16]) {
            assert_eq!((&record["tokens"], &record["batch"]), (&tokens.into(), &2.into()));
            assert_eq!(record["length"], length);
            check(record, 31.0);
            assert_eq!((&record["weights"], &record["load_bytes"]), (&"public".into(), &0.into()));
        }
    }
    let trace: Value = serde_json::from_slice(&fs::read(place.path().join("trace.json")).expect("a trace"))
        .expect("the trace is JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    for party in [0, 1] {
        let of_party = |name: &str| {
            let named = |event: &&Value| event["pid"] == party && event["name"] == name && event["ph"] == "X";
            events.iter().filter(named).count()
        };
        assert!(of_party("layer 1 scores") > 0 && of_party("layer 0 gelu") > 0, "party {party}");
    }
    // The other way round: what was measured of models stands beside new gates.
    let after = suf(place.path(), gate);
    assert!(after.status.success(), "{}", said(&after));
    let kinds: Vec<_> = records(place.path()).iter().map(|record| record["gate"].clone()).collect();
    assert_eq!(kinds, ["gelu", "bert", "bert"]);
    let report = fs::read_to_string(place.path().join("results/report.md")).expect("a report");
    assert!(report.contains("# Measured activations") && report.contains("# Measured models"), "{report}");
    let page = fs::read_to_string(place.path().join("results/report.html")).expect("a page");
    assert!(page.contains("layer 1 gelu: ") && !page.contains("http-equiv"), "a waterfall");
}

/// Loopback is measured too, and what a link predicts begins from it.
#[test]
fn a_link_predicts_from_loopback_and_the_critical_path_is_all_of_the_time() {
    let place = prepare();
    let arguments = "bench model model --tokens 9 --repeats 3 --backend cpu --links metro";
    let output = suf(place.path(), arguments);
    assert!(output.status.success(), "{}", said(&output));
    let records = records(place.path());
    assert!(records.iter().map(|record| &record["link"]).eq(["loopback", "metro"]));
    assert!(records[0]["prediction"].is_null(), "loopback predicts nothing");
    let (prediction, number) = (&records[1]["prediction"], |value: &Value| value.as_f64().expect("a number"));
    let of = |field: &str| number(&prediction[field]);
    assert_eq!((of("delay_ms"), of("link_bps")), (5.0, 1e9));
    assert_eq!(of("rounds_ms"), 5.0 * number(&records[1]["eval_rounds"]));
    // Written as decimals, and read again.
    let equal = |a: f64, b: f64| assert!((a - b).abs() <= 1e-12 * b, "{a} is not {b}");
    equal(of("bits_ms"), number(&records[1]["sent_bytes"]) * 8e3 / 1e9);
    equal(of("loopback_ms"), number(&records[0]["eval_ms"]));
    equal(of("predicted_ms"), of("rounds_ms") + of("bits_ms") + of("loopback_ms"));
    equal(of("ratio"), number(&records[1]["eval_ms"]) / of("predicted_ms"));
    for record in &records {
        let samples: Vec<f64> =
            record["eval_ms_samples"].as_array().expect("samples").iter().map(number).collect();
        let path = |cause: &str| {
            let nodes = record["nodes"].as_array().expect("nodes");
            nodes.iter().map(|node| number(&node["path"][cause])).sum::<f64>()
        };
        let all = path("comp_ms") + path("turn_ms") + path("peer_ms") + path("link_ms");
        // The path begins with the first work and ends with the last, microseconds within the run's time.
        let found = samples.iter().any(|sample| (0.9 * sample..=sample + 0.1).contains(&all));
        assert!(found, "{all} of {samples:?}");
        let delays = if record["link"] == "metro" { of("rounds_ms") } else { 0.0 };
        // A message may be on its way while both work.
        assert!(path("link_ms") + path("peer_ms") >= delays - path("comp_ms") - path("turn_ms"), "{record}");
    }
}

/// On a long link it is the one of few rounds.
#[test]
fn the_protocol_of_the_activation_follows_from_the_measured_link() {
    let place = prepare();
    chosen_on(place.path(), "model --tokens 9 --links intercontinental", "dpf", 29);
}

/// On a short link it is the one whose keys have few bytes.
#[test]
fn a_real_model_has_short_keys_on_a_short_link() {
    let Ok(folder) = std::env::var("SUF_MINILM") else {
        return skip(Need::MiniLm, "no real model: SUF_MINILM names no folder with MiniLM");
    };
    let place = tempfile::tempdir().expect("a folder");
    chosen_on(place.path(), &format!("{folder} --tokens 16 --links lan"), "onehot", 91);
}

/// `bench model --activation auto` with `arguments` measures both protocols on loopback and takes `protocol` on the link.
fn chosen_on(place: &Path, arguments: &str, protocol: &str, rounds: u32) {
    let output = suf(place, &format!("bench model {arguments} --activation auto --repeats 1 --backend cpu"));
    assert!(output.status.success(), "{}", said(&output));
    let records = records(place);
    let protocols: Vec<_> = records.iter().map(|record| record["protocol"].clone()).collect();
    assert_eq!(protocols, ["onehot", "dpf", protocol], "{}", said(&output));
    let chosen = &records[2];
    assert_eq!(chosen["eval_rounds"], rounds);
    let loopback = records.iter().find(|record| record["protocol"] == protocol).expect("it is there");
    assert_eq!(chosen["prediction"]["loopback_ms"], loopback["eval_ms"]);
    let why = chosen["why"].as_str().expect("a reason");
    assert!(why.contains(" ms each way, ") && why.contains(&format!(": {protocol} ")), "{why}");
    assert!(said(&output).contains(why) && loopback["why"].is_null(), "{}", said(&output));
}

/// The weights are loaded once, and all programs run on them.
#[test]
fn every_node_on_private_weights_is_right_and_loading_them_is_measured() {
    let place = prepare();
    let arguments = "bench model model --weights private --tokens 9,16 --batch 2 --repeats 2 --backend cpu";
    for length in ["exact", "bucket"] {
        let output = suf(place.path(), &format!("{arguments} --length {length}"));
        assert!(output.status.success(), "{}", said(&output));
        let records = records(place.path());
        assert_eq!(records.len(), 2, "one record for each number of tokens");
        for record in &records {
            check(record, 39.0);
            assert_eq!(record["weights"], "private");
            // 64 bits for each element of each matrix.
            let elements = 4 * tiny::HIDDEN * tiny::HIDDEN + 2 * tiny::HIDDEN * tiny::INNER;
            let elements = tiny::LAYERS * (elements + 9 * tiny::HIDDEN + tiny::INNER);
            assert_eq!(record["load_bytes"], 8 * elements);
            assert!(record["load_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{record}");
        }
    }
    let report = fs::read_to_string(place.path().join("results/report.md")).expect("a report");
    assert!(report.contains("private weights were loaded once"), "{report}");
}

fn check(record: &Value, rounds: f64) {
    for field in FIELDS {
        assert!(!record[field].is_null(), "the record lacks {field}");
    }
    let number = |value: &Value| value.as_f64().expect("a number");
    let total = |field: &str| number(&record[field]);
    assert_eq!((total("wrong"), total("out_of_range")), (0.0, 0.0));
    assert_eq!((total("eval_rounds"), total("declared_rounds")), (rounds, rounds));
    assert!(total("cosine_min") >= 0.9998 && total("cosine_mean") >= total("cosine_min"));
    let nodes = record["nodes"].as_array().expect("nodes");
    let sum = |field: &str| nodes.iter().map(|node| number(&node[field])).sum::<f64>();
    for field in ["sent_bytes", "key_bytes", "declared_key_bytes", "declared_bits"] {
        assert_eq!(sum(field), total(field), "{field}");
    }
    assert_eq!(total("key_bytes"), total("declared_key_bytes"));
    assert!(sum("rounds") >= total("eval_rounds") && sum("comp_ms") >= total("comp_ms"));
    for node in nodes {
        assert_eq!(node["bits_sent"], node["declared_bits"], "{node}");
        assert_eq!(node["bits_sent"], node["bits_received"], "{node}");
        assert_eq!((&node["wrong"], &node["out_of_range"]), (&0.into(), &0.into()), "{node}");
        assert!(number(&node["begin_ms"]) <= number(&node["end_ms"]), "{node}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_starts() {
    let place = prepare();
    fs::write(place.path().join("few.txt"), "fox\n").expect("a file");
    for (arguments, part) in [
        ("bench model nowhere", "there is no folder nowhere"),
        ("bench model model --tokens 65", "the model takes 1 to 64 tokens, not 65"),
        ("bench model model --tokens 8,8", "8 is named twice in --tokens"),
        ("bench model model --tokens 32 --inputs few.txt", "and 32 are to be measured: give more texts"),
        ("bench model model --weights secret", "--weights"),
        ("bench model model --links nowhere", "nowhere"),
        ("bench model model --trace missing/trace.json", "missing/trace.json"),
    ] {
        let output = suf(place.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", said(&output));
        assert!(said(&output).contains(part), "{arguments}: {}", said(&output));
    }
    assert!(!place.path().join("results/records.jsonl").exists(), "records were written");
}

/// Only the process that starts a party, and reads its standard output, gets what a checker needs.
#[test]
fn a_party_tells_a_checker_only_over_a_pipe_of_the_process_that_started_it() {
    let hosts = Hosts::prepare(Path::new(PROGRAM));
    let party = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["party", "--config", "party0.toml", "--tell-checker"]).args(arguments);
        command.current_dir(hosts.folder()).stdin(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let alone = party(&[]).stdout(Stdio::piped()).output().expect("suf starts");
    assert_eq!(alone.status.code(), Some(2), "{}", said(&alone));
    assert!(said(&alone).contains("--until-stdin-closes"), "{}", said(&alone));
    let file = fs::File::create(hosts.folder().join("output")).expect("a file");
    let mut to_file = party(&["--until-stdin-closes"]).stdout(file).spawn().expect("suf starts");
    // Open until the end: the party would end with it.
    let input = to_file.stdin.take();
    let output = to_file.wait_with_output().expect("it is ours");
    drop(input);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("goes to a pipe, and standard output is none"), "{}", said(&output));
}
