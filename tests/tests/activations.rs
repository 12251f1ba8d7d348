//! An activation of a user's own is one file and no code. It is described, then evaluated by real processes that have
//! never heard of it. The error is the predicted one.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use suf_tests::{npy, processes::Hosts};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// The page that shows how; its first file is what is tried here.
const PAGE: &str = include_str!("../../docs/activations.md");

/// An operator specification: x^2 for |x| < 2, 4 |x| - 4 outside, with slopes that meet.
const HUBER: &str = r#"
name = "my-huber"
expression = "abs(x) * 4 - 4 + relu(2 - abs(x)) * relu(2 - abs(x))"
frac = 12
domain_bits = 34
grid = 0
output_shift = 12

[[piece]]
until = -8192
polynomial = [-67108864, -16384]

[[piece]]
until = 8192
polynomial = [0, 0, 1]

[[piece]]
polynomial = [-67108864, 16384]

[[term]]
pieces = 1
"#;

/// Elements: more than a tile, so that the sides change roles.
const ELEMS: usize = 70_000;

/// The measured root mean square may be off the predicted one by this share: eight standard deviations at this size.
/// The roundings are random, and few of the errors make most of it.
const SAMPLING: f64 = 0.06;

#[test]
fn one_file_is_an_activation_under_suf_and_onehot_with_its_error_as_predicted() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let x = normal(ELEMS);
    npy::write_i64(&hosts.folder().join("x.npy"), &x);
    fs::write(hosts.folder().join("my-mish.toml"), mish()).expect("the folder is writable");
    let described = json(&hosts.suf(&["describe", "my-mish.toml", "--elements", "70000", "--json"]));
    assert_eq!(described["function"], "x * tanh(ln(1 + exp(x)))");
    for protocol in ["suf", "onehot", "dpf"] {
        let predicted = described["protocols"].as_array().expect("protocols").iter();
        let predicted = predicted.clone().find(|row| row["protocol"] == protocol).expect("described");
        let found = eval(&hosts, &["--protocol", protocol, "--gate", "my-mish.toml"]);
        assert_eq!(found["gate"], "my-mish");
        as_predicted(predicted, &found, protocol);

        let exact = |x: f64| x * x.exp().ln_1p().tanh();
        for (x, y) in x.iter().zip(npy::read_i64(&hosts.folder().join("y.npy"))) {
            let error = (y as f64 / 4096.0 - exact(*x as f64 / 4096.0)).abs();
            assert!(error <= number(predicted, "expected_max_err") + 1e-9, "{protocol}: x = {x}, y = {y}");
        }
    }
}

/// e^x overflows at 710, far inside the domain, and the quotient is then no number.
#[test]
fn a_formula_that_overflows_leaves_figures_that_can_be_read_again() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let x: Vec<i64> = (-2000..2000).map(|x| x * 4096).collect();
    npy::write_i64(&hosts.folder().join("x.npy"), &x);
    let write = |name: &str, text: &str| {
        fs::write(hosts.folder().join(name), text).expect("the folder is writable");
    };
    write(
        "line.toml",
        "name = \"line\"\nexpression = \"x * exp(x) / (1 + exp(x))\"\nfrac = 12\nshift = 6\n\
         [onehot]\ndefault = [5, 6]\n",
    );
    let hard_swish = include_str!("../../config/specs/hard-swish-quadratic.toml");
    let expression = "expression = \"x * (relu(x + 3) - relu(x - 3)) / 6 * (exp(x) / exp(x))\"";
    write("none.toml", &hard_swish.replace("function = \"hard-swish\"", expression));

    // A gate file has lines to compare with, a specification has not: e^-x overflows to 0 below -745.
    let without = x.iter().filter(|x| **x > 709 * 4096 || **x < -745 * 4096).count();
    for (gate, protocol, without, most) in [("line.toml", "dpf", 0, 0.01), ("none.toml", "suf", without, 0.3)]
    {
        let found = eval(&hosts, &["--protocol", protocol, "--gate", gate]);
        assert_eq!(found["without_reference"], without, "{gate}: {found}");
        for figure in ["max_err", "rms_err"] {
            assert!(number(&found, figure) < most, "{gate}: {found}");
        }
        let folder = format!("results-{protocol}");
        let bench = ["bench", "--gate", gate, "--elements", "4000", "--inputs", "x.npy", "--out", &folder];
        let once = ["--protocols", protocol, "--repeats", "1", "--backend", "cpu"];
        let bench = hosts.suf(&[&bench[..], &once].concat());
        assert!(bench.status.success(), "{}", String::from_utf8_lossy(&bench.stderr));
        let records = format!("{folder}/records.jsonl");
        let report = hosts.suf(&["report", "--from", &records]);
        assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
        let page = fs::read_to_string(hosts.folder().join(&folder).join("report.md")).expect("a report");
        // One run that warms up, and one that is measured.
        let line = format!("{} values have no error, because the function has no value there", 2 * without);
        assert_eq!(page.contains(&line), without > 0, "{gate}: {page}");
    }
}

#[test]
fn a_specification_file_and_a_table_of_samples_are_activations_too() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("x.npy"), &normal(ELEMS));
    fs::write(hosts.folder().join("huber.toml"), HUBER).expect("the folder is writable");
    let described = json(&hosts.suf(&["describe", "huber.toml", "--elements", "70000", "--json"]));
    assert_eq!((&described["kind"], &described["pieces"]), (&"specification".into(), &3.into()));
    let found = eval(&hosts, &["--spec", "huber.toml"]);
    assert_eq!((&found["protocol"], &found["gate"]), (&"suf".into(), &"my-huber".into()));
    as_predicted(&described["protocols"][0], &found, "huber");

    // tanh by its values at 257 points; the ends are given, the samples do not reach them.
    let values: Vec<_> = (-128..=128).map(|i| format!("{:.12}", (f64::from(i) / 32.0).tanh())).collect();
    let text = format!(
        "name = \"sampled-tanh\"\nsamples = {{ start = -4.0, step = 0.03125, values = [{}] }}\nfrac = 12\nshift = 6\n\
         window_bits = 9\nleft = {{ slope = 0, intercept = -1.0 }}\nright = {{ slope = 0, intercept = 1.0 }}\n\
         [onehot]\ndefault = [6, 6]\n",
        values.join(", ")
    );
    fs::write(hosts.folder().join("sampled.toml"), text).expect("the folder is writable");
    let described = json(&hosts.suf(&[
        "describe",
        "sampled.toml",
        "--protocol",
        "onehot",
        "--elements",
        "70000",
        "--json",
    ]));
    assert_eq!(described["function"], "257 samples from -4 to 4, linear in between");
    let found = eval(&hosts, &["--protocol", "onehot", "--gate", "sampled.toml"]);
    as_predicted(&described["protocols"][0], &found, "samples");
}

#[test]
fn a_wrong_file_is_refused_at_its_line_and_nothing_is_started() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    npy::write_i64(&folder.path().join("x.npy"), &[4096]);
    for (name, text, words) in [
        ("typo.toml", mish().replace("tanh", "tahn"), &["typo.toml:2:"][..]),
        ("frac.toml", mish().replace("frac = 12", "frac = 10"), &["frac.toml:3:", "12 fractional bits"]),
        ("key.toml", mish().replace("shift", "shfit"), &["key.toml:4:", "shfit"]),
        ("cuts.toml", HUBER.replace("until = 8192", "until = -9000"), &["cuts.toml:"]),
    ] {
        fs::write(folder.path().join(name), text).expect("the folder is writable");
        let output = Command::new(PROGRAM)
            .args([
                "eval",
                "--local",
                "--protocol",
                "suf",
                "--gate",
                name,
                "--inputs",
                "x.npy",
                "--outputs",
                "y.npy",
            ])
            .current_dir(folder.path())
            .output()
            .expect("suf starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        for word in words {
            assert!(said.contains(word), "{name}: '{word}' is missing in: {said}");
        }
        assert!(!folder.path().join("y.npy").exists(), "{name}");
    }
}

/// The gate file of Mish, as the page has it.
fn mish() -> &'static str {
    let (_, rest) = PAGE.split_once("```toml\n").expect("a file in the page");
    rest.split_once("```").expect("its end").0
}

fn as_predicted(predicted: &Value, found: &Value, what: &str) {
    assert_eq!(found["wrong"], 0, "{what}");
    assert_eq!(found["eval_rounds"], predicted["rounds"], "{what}");
    let sent = number(predicted, "bits_per_elem") * ELEMS as f64;
    assert_eq!(number(found, "eval_bytes"), (2.0 * sent / 8.0).ceil(), "{what}");
    for party in ["key_bytes_p0", "key_bytes_p1"] {
        let header = number(found, party) - number(&predicted["total"], party);
        assert!((0.0..128.0).contains(&header), "{what}: {header} bytes of {party} beside the key");
    }
    let (max, rms) = (number(predicted, "expected_max_err"), number(predicted, "expected_rms_err"));
    assert!(number(found, "max_err") <= max + 1e-9, "{what}: {found} predicted {predicted}");
    let share = number(found, "rms_err") / rms;
    assert!((share - 1.0).abs() < SAMPLING, "{what}: rms is {share} of the predicted");
    let bias = number(found, "mean_err") - number(predicted, "expected_mean_err");
    // Six standard deviations of a mean.
    assert!(bias.abs() < 6.0 * rms / (ELEMS as f64).sqrt(), "{what}: the mean is {bias} off the predicted");
}

fn eval(hosts: &Hosts, gate: &[&str]) -> Value {
    let mut command = hosts.command(&["eval", "--inputs", "x.npy", "--outputs", "y.npy", "--json"]);
    json(&command.args(gate).args(hosts.as_client()).output().expect("suf starts"))
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {object}"))
}

/// N(0, 2^2) in units of 2^-12, fixed seed.
fn normal(elems: usize) -> Vec<i64> {
    let mut rng = StdRng::seed_from_u64(7);
    let mut unit = || 1.0 - rng.random::<f64>();
    let mut one = || (-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos() * 2.0;
    (0..elems).map(|_| (one() * 4096.0).round() as i64).collect()
}
