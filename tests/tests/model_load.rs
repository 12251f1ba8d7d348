//! `suf model load`, `list` and `drop`, and `suf embed` with private weights. Vectors are those of the weights in floats. What does not
//! fit, or is not there any more, is named.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use safetensors::SafeTensors;
use serde_json::Value;
use suf_control::v1::RunState;
use suf_model::{
    bert::{Bert, Reference},
    builtin,
};
use suf_process::ModelFolder;
use suf_skip::{Need, skip};
use suf_tests::{
    caller::Caller,
    models::{TEXTS, Tiny, rows, vectors},
    processes::{Hosts, expect},
};
use suf_wire::Party;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// Hosts whose daemons know no model. The folders `model` and `other` have models of equal sizes, with their plans.
fn start() -> Hosts {
    let hosts = Hosts::start(Path::new(PROGRAM));
    Tiny::load().write(&hosts.folder().join("model"));
    Tiny::other().write(&hosts.folder().join("other"));
    fs::write(hosts.folder().join("texts.txt"), TEXTS.join("\n")).expect("the folder is writable");
    hosts
}

/// `suf model` with these words, as the holder of the certificate `who`.
fn model(hosts: &Hosts, who: &str, arguments: &str) -> Output {
    let mut command = hosts.command(&["model"]);
    command.args(arguments.split_whitespace()).args(hosts.as_named(who)).output().expect("suf starts")
}

/// The same by the owner, to its end; what it prints as JSON.
fn owner(hosts: &Hosts, arguments: &str) -> Value {
    let output = model(hosts, "model", &format!("{arguments} --json"));
    expect(&output, DONE, &[], arguments);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn embed(hosts: &Hosts, arguments: &str) -> Output {
    embed_as(hosts, "client", arguments)
}

fn embed_as(hosts: &Hosts, who: &str, arguments: &str) -> Output {
    let mut command = hosts.command(&["embed", "--weights", "private", "--out", "v.npy"]);
    command.args(arguments.split_whitespace()).args(hosts.as_named(who)).output().expect("suf starts")
}

fn assert_right(hosts: &Hosts, model: &Tiny) {
    for (text, vector) in TEXTS.iter().zip(vectors(&hosts.folder().join("v.npy"), TEXTS.len())) {
        model.check_text(text, &vector).expect("the vector of the text");
    }
}

#[test]
fn clients_of_a_loaded_model_get_its_vectors_without_its_weights() {
    let hosts = start();
    let loaded = owner(&hosts, "load model --name mine --tokens 3,12 --public public");
    let digest = loaded["digest"].as_str().expect("a digest");
    assert_eq!((&loaded["name"], &loaded["clients"]), (&"mine".into(), &0.into()));
    // 64 bits for each element: 16 matrices in each of 2 layers.
    assert_eq!(loaded["load_bytes"], 8 * 2 * (4 * 32 * 32 + 2 * 32 * 64 + 9 * 32 + 64));
    let listed = owner(&hosts, "list");
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    for field in ["name", "digest", "program_digest", "load_bytes", "programs"] {
        assert_eq!(listed[0][field], loaded[field], "{field}");
    }
    assert_eq!(listed[0]["parties"], serde_json::json!([0, 1]));

    // Clients have embeddings and the last norm, and a plan that names the load.
    let weights = fs::read(hosts.folder().join("public/model.safetensors")).expect("weights");
    let weights = SafeTensors::deserialize(&weights).expect("tensors");
    let private =
        |name: &&str| name.starts_with("encoder") && !name.starts_with("encoder.layer.1.output.LayerNorm");
    assert_eq!(weights.names().into_iter().filter(private).collect::<Vec<_>>(), [""; 0]);
    let plan = fs::read_to_string(hosts.folder().join("public/plan.toml")).expect("a plan");
    assert!(plan.contains(digest) && !plan.contains(&Tiny::load().digest()), "{plan}");

    for options in ["", "--batch 4", "--load mine", &format!("--load {digest}")] {
        let output = embed(&hosts, &format!("--model public --input texts.txt {options}"));
        expect(&output, DONE, &["vectors of 5 texts"], options);
        assert_right(&hosts, &Tiny::load());
    }
    // Words of letters: one token each, and one at both ends.
    let exact = embed(&hosts, "--model public --length exact a goodmornin");
    expect(&exact, DONE, &["vectors of 2 texts"], "lengths that the owner has named");
    let other = embed(&hosts, "--model public --length exact unnamed");
    expect(&other, FAILED, &["owner", "program"], "a length that it has not named");
    assert!(owner(&hosts, "list")[0]["runs"].as_u64() >= Some(10), "runs are counted");

    let dropped = owner(&hosts, "drop mine");
    assert_eq!((&dropped["digest"], &dropped["parties"]), (&loaded["digest"], &serde_json::json!([0, 1])));
    assert_eq!(owner(&hosts, "list"), serde_json::json!([]));
    expect(&embed(&hosts, "--model public a"), USAGE, &["no model is loaded", "suf model load"], "dropped");
}

#[test]
fn what_an_owner_cannot_load_is_named_before_anything_is_sent() {
    let hosts = start();
    for (name, tensor, weight) in [
        ("heavy", "encoder.layer.1.intermediate.dense.weight", 3e5),
        ("heavier", "encoder.layer.0.attention.output.dense.weight", 1e6),
    ] {
        Tiny::load().write_with(&hosts.folder().join(name), tensor, weight);
    }
    fs::write(hosts.folder().join("half.pem"), "-----BEGIN").expect("writable");
    for (arguments, words) in [
        (
            "load heavy",
            &["encoder.layer.1.intermediate.dense: a weight is", "absolute values below 2^17"][..],
        ),
        ("load heavier", &["encoder.layer.0.attention.output.dense: a weight is", "below 2^19"]),
        ("load nowhere", &["there is no folder nowhere"]),
        ("load model --plan other/plan.toml", &["other/plan.toml", "the plan belongs to the model"]),
        ("load model --public other", &["cannot write other", "exists"]),
        ("load model --public missing/public", &["cannot write missing/public", "nothing was begun"]),
        ("load model --clients pki/observer.pem", &["pki/observer.pem is the certificate of a observer"]),
        ("load model --clients half.pem", &["half.pem"]),
        ("load model --tokens 65", &["the model takes 1 to 64 tokens, not 65"]),
        ("load model --tokens 8,8", &["8 is named twice in --tokens"]),
        (&format!("load model --name {}", "n".repeat(65)), &["1 to 64 characters, not 65"]),
    ] {
        expect(&model(&hosts, "model", arguments), USAGE, words, arguments);
    }
    // Those who own no model, and an owner who is no client.
    for who in ["client", "operator", "observer"] {
        expect(&model(&hosts, who, "load model"), FAILED, &["party", "of role", "model"], who);
    }
    for party in ["party0", "party1"] {
        assert_eq!(hosts.burnt(party), [""; 0], "{party}");
    }
    assert_eq!(owner(&hosts, "list"), serde_json::json!([]));
    expect(
        &model(&hosts, "model", "drop mine"),
        USAGE,
        &["no loaded model of yours is called `mine`"],
        "none",
    );
}

#[test]
fn the_load_that_is_meant_is_found_or_the_choice_is_named() {
    let hosts = start();
    let old = owner(&hosts, "load model --name old --public old");
    owner(&hosts, "drop old");
    owner(&hosts, "load model --name first --public first");
    owner(&hosts, "load other --name second --public second");
    // Each folder leads to its own load.
    expect(&embed(&hosts, "--model second --input texts.txt"), DONE, &[], "the folder's own");
    assert_right(&hosts, &Tiny::other());
    expect(&embed(&hosts, "--model old a"), USAGE, &["several", "first (", "second (", "--load"], "two");
    expect(&embed(&hosts, "--model old --load third a"), USAGE, &["`third`", "first (", "second ("], "none");
    let by_digest = format!("drop {}", old["digest"].as_str().expect("a digest"));
    expect(&model(&hosts, "model", &by_digest), USAGE, &["there are: second, first"], "dropped before");
    expect(&embed(&hosts, "--model old --load first --input texts.txt"), DONE, &[], "by name");
    assert_right(&hosts, &Tiny::load());
    owner(&hosts, "drop second");
    let only = embed(&hosts, "--model old --input texts.txt");
    expect(&only, DONE, &["takes the loaded model first", "written for another load"], "the only one");
    assert_right(&hosts, &Tiny::load());

    // Wrong usage is that, whatever is loaded.
    for (arguments, words) in [
        ("--local --load first a", &["--load goes with"][..]),
        ("--weights public --load first a", &["--load goes with"]),
    ] {
        let mut command = hosts.command(&["embed", "--model", "model", "--out", "v.npy"]);
        let said = command.args(arguments.split(' ')).output().expect("suf starts");
        expect(&said, USAGE, words, arguments);
    }
    fs::remove_file(hosts.folder().join("first/plan.toml")).expect("it is there");
    expect(
        &embed(&hosts, "--model first a"),
        USAGE,
        &["no plan in first", "suf model load --public"],
        "no plan",
    );
}

#[test]
fn only_the_clients_that_the_owner_names_see_and_use_a_model_and_only_its_owner_drops_it() {
    let hosts = start();
    hosts.issue("client", "alice");
    hosts.issue("model", "rival");
    owner(&hosts, "load model --name mine --clients pki/alice.pem --public public");
    expect(
        &embed_as(&hosts, "alice", "--model public --input texts.txt"),
        DONE,
        &[],
        "a client that is named",
    );
    assert_right(&hosts, &Tiny::load());
    let other = embed(&hosts, "--model public a");
    expect(&other, USAGE, &["no model is loaded that this certificate may use"], "another client");
    let foreign = model(&hosts, "rival", "drop mine");
    expect(&foreign, USAGE, &["no loaded model of yours is called `mine`"], "another owner");
    let name = model(&hosts, "rival", "load other --name mine");
    assert_ne!(name.status.code(), Some(DONE), "a second model of one name");
    let seen = model(&hosts, "operator", "list");
    expect(&seen, DONE, &[], "an operator");
    assert!(String::from_utf8_lossy(&seen.stdout).contains("mine"), "an operator sees it");
    expect(&model(&hosts, "client", "drop mine"), USAGE, &[], "a client drops nothing");
    expect(&model(&hosts, "operator", "drop mine"), DONE, &[], "an operator drops it");
}

#[test]
fn a_restarted_daemon_is_named_and_a_model_that_is_loaded_again_works() {
    let mut hosts = start();
    owner(&hosts, "load model --name mine --public public");
    hosts.kill("party1");
    let alone = model(&hosts, "model", "list --json");
    expect(&alone, FAILED, &["party1"], "a party that is gone");
    let listed: Value = serde_json::from_slice(&alone.stdout).expect("what the other one lists");
    assert_eq!(listed[0]["parties"], serde_json::json!([0]));
    hosts.restart("party1");
    let table = model(&hosts, "model", "list");
    expect(&table, DONE, &[], "both answer");
    assert!(String::from_utf8_lossy(&table.stdout).contains("party 0 only"));
    let said = embed(&hosts, "--model public a");
    expect(&said, USAGE, &["mine", "loaded at party 0 only", "load it again"], "at one party");
    assert_eq!(owner(&hosts, "load model --name mine")["replaced"], 1);
    expect(&embed(&hosts, "--model public --input texts.txt"), DONE, &["mine"], "loaded again");
    assert_right(&hosts, &Tiny::load());

    hosts.kill("dealer");
    hosts.restart("dealer");
    let said = embed(&hosts, "--model public a");
    expect(&said, FAILED, &["dealer", "load the model again"], "a dealer that was restarted");
    assert_eq!(owner(&hosts, "load model --name mine")["replaced"], 1);
    assert_eq!(owner(&hosts, "list").as_array().map(Vec::len), Some(1));
    expect(&embed(&hosts, "--model public --input texts.txt"), DONE, &[], "and again");
    assert_right(&hosts, &Tiny::load());
}

#[tokio::test]
async fn a_model_that_is_dropped_in_the_middle_ends_its_runs_and_keeps_what_was_finished() {
    const MANY: usize = 60;
    let hosts = start();
    owner(&hosts, "load model --name mine --public public");
    let texts: Vec<_> = (0..MANY).map(|at| TEXTS[at % TEXTS.len()]).collect();
    fs::write(hosts.folder().join("many.txt"), texts.join("\n")).expect("the folder is writable");
    let many = "--model public --input many.txt";
    let mut command = hosts.command(&["embed", "--weights", "private", "--out", "v.npy"]);
    command.args(many.split(' ')).args(hosts.as_named("client"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("suf starts");
    let observer = Caller::connect(&hosts, "observer").await;
    let done = async || {
        let runs = observer.list(Party::P0, false).await;
        runs.iter().filter(|run| run.state() == RunState::Done).count()
    };
    // The load itself is a run.
    while done().await < 4 {}
    owner(&hosts, "drop mine");
    let said = child.wait_with_output().expect("the child is ours");
    assert_ne!(said.status.code(), Some(DONE), "it went on without a model");
    expect(
        &said,
        said.status.code().expect("it ended"),
        &["drop", "are kept in v.npy.partial.npz"],
        "dropped",
    );
    owner(&hosts, "load model --name mine");
    let rest = embed(&hosts, &format!("{many} --resume"));
    expect(&rest, DONE, &["of 60 texts were kept before", "vectors of 60 texts"], "the rest");
    for (at, vector) in vectors(&hosts.folder().join("v.npy"), MANY).iter().enumerate() {
        Tiny::load().check_text(TEXTS[at % TEXTS.len()], vector).expect("the vector of the text");
    }
}

#[test]
fn local_daemons_take_private_weights_too() {
    let place = tempfile::tempdir().expect("a folder");
    let tiny = Tiny::load();
    tiny.write(&place.path().join("model"));
    for length in ["exact", "bucket"] {
        let mut command = Command::new(PROGRAM);
        command.args(["embed", "--local", "--weights", "private", "--model", "model", "--length", length]);
        command.args(["--batch", "2", "--out", "v.npy"]).args(TEXTS).current_dir(place.path());
        expect(&command.output().expect("suf starts"), DONE, &["vectors of 5 texts"], length);
        for (text, vector) in TEXTS.iter().zip(vectors(&place.path().join("v.npy"), TEXTS.len())) {
            tiny.check_text(text, &vector).expect("the vector of the text");
        }
    }
}

/// Built-in sentences, each evaluated with as many tokens as it has.
#[test]
fn vectors_of_the_real_model_with_private_weights_are_those_of_the_reference() {
    let Some(folder) = std::env::var_os("SUF_MINILM").map(PathBuf::from) else {
        return skip(Need::MiniLm, "no real model: SUF_MINILM names no folder with MiniLM");
    };
    let model = Bert::load(&ModelFolder::open(&folder).expect("a folder")).expect("a model");
    let reference = Reference::new(&model);
    let place = tempfile::tempdir().expect("a folder");
    let texts: Vec<_> = builtin::sentences().take(8).collect();
    fs::write(place.path().join("texts.txt"), texts.join("\n")).expect("a file");
    let mut command = Command::new(PROGRAM);
    command.args([
        "embed",
        "--local",
        "--weights",
        "private",
        "--input",
        "texts.txt",
        "--out",
        "v.npy",
        "--model",
    ]);
    let made = command.arg(&folder).current_dir(place.path()).output().expect("suf starts");
    expect(&made, DONE, &["vectors of 8 texts"], "the real model");
    let vectors = rows(&place.path().join("v.npy"), texts.len(), model.config.hidden as usize);
    for (text, vector) in texts.iter().zip(vectors) {
        let ids = model.tokens.encode(text, 512).expect("a text");
        let cosine: f64 = vector.iter().zip(&reference.embed(&ids)).map(|(a, b)| a * b).sum();
        assert!(cosine >= 0.9998, "{text}: cosine {cosine}");
    }
}
