//! Models from their folder: `suf model` on a tiny random BERT, and on MiniLM where `SUF_MINILM` names its folder.

#[path = "../../kernels/model/tests/tiny/mod.rs"]
mod tiny;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use suf_model::{
    bert::{Bert, Reference},
    builtin,
};
use suf_process::ModelFolder;
use suf_skip::{Need, skip};
use suf_tests::models::rows;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// A folder with the tiny model in `model`, and texts in `texts.txt`.
fn prepare() -> TempDir {
    let place = tempfile::tempdir().expect("a folder");
    for (name, bytes) in tiny::folder() {
        let path = place.path().join("model").join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    fs::write(place.path().join("texts.txt"), "a\nthe quick brown fox\n\njumps over\r\n").expect("a file");
    place
}

fn suf(place: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).current_dir(place).output().expect("suf starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `suf` prints, which has to end well.
fn well(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_plan_is_made_and_the_program_is_shown_before_anything_runs() {
    let place = prepare();
    let suf = |arguments: &[&str]| suf(place.path(), arguments);
    let made = suf(&["model", "calibrate", "model", "--input", "texts.txt", "--out", "plan.toml"]);
    well(&made);
    assert!(text(&made.stderr).contains("plan.toml: bounds from 3 texts with"), "{}", text(&made.stderr));

    let arguments = ["model", "check", "model", "--plan", "plan.toml", "--tokens", "20", "--json"];
    let shown: Value = serde_json::from_str(&well(&suf(&arguments))).expect("JSON");
    assert_eq!((&shown["rounds"], &shown["tokens"]), (&31.into(), &20.into()));
    assert_eq!(shown["plan"]["source"], "plan.toml");
    let nodes = shown["nodes"].as_array().expect("a list");
    let sum = |key: &str| nodes.iter().map(|node| node[key].as_f64().expect("a number")).sum::<f64>();
    assert_eq!(sum("bits"), shown["bits"].as_f64().expect("a number"));
    assert_eq!(sum("key_bytes"), shown["key_bytes"].as_f64().expect("a number"));
    assert!(sum("rounds") >= 31.0, "rounds of nodes overlap");

    let table = well(&suf(&[
        "model",
        "check",
        "model",
        "--plan",
        "plan.toml",
        "--length",
        "bucket",
        "--tokens",
        "16",
    ]));
    for part in ["layer 1 gelu", "layer 0 row exponent", "of 16 tokens, bucket, public weights: 31 rounds"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }

    // A plan in the model's folder is taken; without one ranges are measured, and that is said.
    let bare = suf(&["model", "check", "model"]);
    well(&bare);
    assert!(text(&bare.stderr).contains("no plan for the model"), "{}", text(&bare.stderr));
    fs::copy(place.path().join("plan.toml"), place.path().join("model/plan.toml")).expect("a copy");
    let beside = suf(&["model", "check", "model"]);
    assert!(well(&beside).contains("plan: model/plan.toml, measured on 3 texts"));
    assert!(beside.stderr.is_empty(), "{}", text(&beside.stderr));
}

#[test]
fn what_cannot_be_read_is_named_and_nothing_is_written() {
    let place = prepare();
    let file = |name: &str, bytes: &[u8]| fs::write(place.path().join(name), bytes).expect("a file");
    file("long.txt", format!("fine\n{}\n", "word ".repeat(99)).as_bytes());
    file("empty.txt", b"\n \n");
    file("bytes.txt", b"fine\n\xff\xfe\n");
    let plan = "version = 1\narchitecture = \"bert\"\ntexts = 1\ntokens = 1\nlayers = []\n";
    file("other.toml", format!("model = \"{}\"\n{plan}", "ab".repeat(32)).as_bytes());
    file("wrong.toml", format!("model = \"{}\"\ncolour = 1\n{plan}", "ab".repeat(32)).as_bytes());
    let calibrate = |texts| ["model", "calibrate", "model", "--out", "new.toml", "--input", texts];
    let with_plan = |plan| ["model", "check", "model", "--plan", plan];
    for (arguments, parts) in [
        (&["model", "check", "nowhere"][..], ["there is no folder nowhere", ""]),
        (&["model", "check", "texts.txt"], ["texts.txt is a file", "name the folder of a model"]),
        (&["model", "check", "."], ["config.json: there is no such file", "name the folder of a model"]),
        (&["model", "check", "model", "--tokens", "65"], ["the model takes 1 to 64 tokens, not 65", ""]),
        (&with_plan("other.toml"), ["the plan belongs to the model abab", "and this model is"]),
        (&with_plan("wrong.toml"), ["the plan wrong.toml is wrong in line 2", "there is no key `colour`"]),
        (&with_plan("none.toml"), ["cannot read the plan none.toml", "there is no such file"]),
        (&calibrate("long.txt"), ["text 2: the text has", "and the model takes 64 at most"]),
        (&calibrate("empty.txt"), ["empty.txt has no text", "write one on each line"]),
        (&calibrate("bytes.txt"), ["bytes.txt, line 2: this is no text in UTF-8", "save the file as UTF-8"]),
        (&calibrate("none.txt"), ["cannot read the texts none.txt", ""]),
    ] {
        let output = suf(place.path(), arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: `{part}` is not in {error}");
        }
    }
    assert!(!place.path().join("new.toml").exists(), "a plan was written");
}

/// Vectors by a dealer and two parties on this machine, beside the reference in floats: exact and padded, one and many.
#[test]
fn vectors_of_texts_come_out_of_two_parties() {
    let place = prepare();
    let suf = |arguments: &[&str]| suf(place.path(), arguments);
    well(&suf(&["model", "calibrate", "model", "--input", "texts.txt", "--out", "model/plan.toml"]));
    let model = Bert::load(&tiny::folder()).expect("a model");
    let reference = Reference::new(&model);
    let texts = ["a", "the quick brown fox", "jumps over"];
    for options in [&["--length", "exact"][..], &["--length", "bucket", "--batch", "2"]] {
        let arguments = ["embed", "--local", "--model", "model", "--input", "texts.txt", "--out", "v.npy"];
        let made = suf(&[&arguments, options].concat());
        well(&made);
        let vectors = rows(&place.path().join("v.npy"), texts.len(), tiny::HIDDEN);
        for (text, vector) in texts.iter().zip(vectors) {
            let ids = model.tokens.encode(text, tiny::POSITIONS).expect("a text");
            let cosine = cosine(&vector, &reference.embed(&ids));
            assert!(cosine >= 0.9998, "{text}: cosine {cosine}");
        }
    }
}

/// Of two vectors of length 1.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn texts_that_cannot_be_embedded_are_refused_before_anything_starts() {
    let place = prepare();
    let long = "word ".repeat(99);
    for (arguments, parts) in [
        (&["--out", "v.npy", "a", ""][..], ["text 2: the text is empty", ""]),
        (&["--out", "v.npy", &long], ["text 1: the text has 398 tokens", "the model takes 64 at most"]),
        (&["--out", "v.npy"], ["<TEXT>", ""]),
        (&["--out", "nowhere/v.npy", "a"], ["nowhere/v.npy", ""]),
    ] {
        let output = suf(place.path(), &[&["embed", "--local", "--model", "model"], arguments].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: `{part}` is not in {error}");
        }
    }
    assert!(!place.path().join("v.npy").exists(), "vectors were written");

    // A plan with bounds that the text's values leave.
    well(&suf(place.path(), &["model", "calibrate", "model", "--input", "texts.txt", "--out", "plan.toml"]));
    let plan = fs::read_to_string(place.path().join("plan.toml")).expect("a plan");
    let line = plan.lines().find(|line| line.starts_with("inner")).expect("it has one");
    fs::write(place.path().join("tight.toml"), plan.replacen(line, "inner = 0.5", 1)).expect("a file");
    let arguments = [
        "embed",
        "--local",
        "--model",
        "model",
        "--plan",
        "tight.toml",
        "--out",
        "v.npy",
        "the quick brown fox",
    ];
    let output = suf(place.path(), &arguments);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    let parts = [
        "text 1: layer 0: inputs of the activation",
        "the plan's bounds are -0.5 and 0.5",
        "nothing was sent",
    ];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
}

/// 16 of the built-in sentences, each evaluated with as many tokens as it has.
#[test]
fn vectors_of_the_real_model_are_those_of_the_reference() {
    let Some(folder) = std::env::var_os("SUF_MINILM").map(PathBuf::from) else {
        return skip(Need::MiniLm, "no real model: SUF_MINILM names no folder with MiniLM");
    };
    let model = Bert::load(&ModelFolder::open(&folder).expect("a folder")).expect("a model");
    let reference = Reference::new(&model);
    let place = tempfile::tempdir().expect("a folder");
    let texts: Vec<_> = builtin::sentences().take(16).collect();
    fs::write(place.path().join("texts.txt"), texts.join("\n")).expect("a file");
    let folder = folder.to_str().expect("its path is text");
    let arguments = ["embed", "--local", "--model", folder, "--input", "texts.txt", "--out", "v.npy"];
    well(&suf(place.path(), &arguments));
    let vectors = rows(&place.path().join("v.npy"), texts.len(), model.config.hidden as usize);
    for (text, vector) in texts.iter().zip(vectors) {
        let ids = model.tokens.encode(text, 512).expect("a text");
        let cosine = cosine(&vector, &reference.embed(&ids));
        assert!(cosine >= 0.9998, "{text}: cosine {cosine}");
    }
}

/// The page's sums of MiniLM's programs are what `suf model check` prints.
#[test]
fn the_page_on_models_has_the_costs_that_are_declared() {
    let Some(folder) = std::env::var_os("SUF_MINILM").map(PathBuf::from) else {
        return skip(Need::MiniLm, "no real model: SUF_MINILM names no folder with MiniLM");
    };
    let folder = folder.to_str().expect("its path is text");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/models.md");
    let page = fs::read_to_string(page).expect("a page");
    let sums: Vec<_> = page.lines().filter(|line| line.starts_with("1 text of ")).collect();
    assert!(sums.len() >= 8, "{} sums", sums.len());
    for sum in sums {
        let words: Vec<_> = sum.split([' ', ',']).collect();
        let (tokens, length, weights) = (words[3], words[6], words[8]);
        let arguments =
            ["model", "check", folder, "--tokens", tokens, "--length", length, "--weights", weights];
        let printed = well(&suf(Path::new("."), &arguments));
        assert_eq!(printed.lines().last(), Some(sum));
    }
}

/// The totals of MiniLM: 91 rounds, 115 with private weights, and bounds on what is sent and dealt.
#[test]
fn minilm_takes_as_many_rounds_and_no_more_bytes_than_promised() {
    let Some(folder) = std::env::var_os("SUF_MINILM").map(PathBuf::from) else {
        return skip(Need::MiniLm, "no real model: SUF_MINILM names no folder with MiniLM");
    };
    let folder = folder.to_str().expect("its path is text");
    for (tokens, length, weights, rounds, sent, keys) in [
        ("128", "exact", "public", 91, 33.6e6, 170e6),
        ("32", "exact", "public", 91, 6.2e6, 37e6),
        ("128", "bucket", "public", 91, 34e6, 225e6),
        ("128", "exact", "private", 115, 55e6, 182e6),
        ("32", "exact", "private", 115, 11.3e6, 37e6),
    ] {
        let arguments = [
            "model",
            "check",
            folder,
            "--json",
            "--tokens",
            tokens,
            "--length",
            length,
            "--weights",
            weights,
        ];
        let shown: Value = serde_json::from_str(&well(&suf(Path::new("."), &arguments))).expect("JSON");
        assert_eq!(shown["plan"]["source"], "part of this program");
        assert_eq!(
            (&shown["rounds"], &shown["weights"]),
            (&rounds.into(), &weights.into()),
            "{tokens} {length}"
        );
        let number = |key: &str| shown[key].as_f64().expect("a number");
        let (found_sent, found_keys) = (number("sent_bytes"), number("key_bytes"));
        assert!(found_sent <= sent && found_keys <= keys, "{tokens} {length}: {found_sent} {found_keys}");
    }
}
