//! `suf embed` against parties that are there already. Vectors are right, and those of finished texts are kept. What does not fit is
//! named before anything secret moves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use suf_control::v1::RunState;
use suf_tests::{
    caller::Caller,
    models::{TEXTS, Tiny, vectors},
    processes::{Hosts, NAMES, expect},
};
use suf_wire::Party;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// Texts of a call that is ended in the middle.
const MANY: usize = 60;

/// What keeps `name` out of the model's table: lines at the start of its configuration, and the folder of the model.
type Change<'a> = &'a dyn Fn(&str) -> (&'a str, &'a str);

/// The hosts, each with the model of a folder: `model`, or `other` with other weights.
fn start(change: Change<'_>) -> Hosts {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    Tiny::load().write(&hosts.folder().join("model"));
    Tiny::other().write(&hosts.folder().join("other"));
    fs::write(hosts.folder().join("texts.txt"), TEXTS.join("\n")).expect("the folder is writable");
    hosts.start_daemons(|name, config| {
        let (lines, model) = change(name);
        format!("{lines}{config}\n[[models]]\ndir = \"{model}\"\n")
    });
    hosts
}

fn embed(hosts: &Hosts, arguments: &[&str]) -> Output {
    let mut command = hosts.command(&["embed", "--model", "model", "--out", "v.npy"]);
    command.args(arguments).args(hosts.as_client()).output().expect("suf starts")
}

fn no_batch_was_burnt(hosts: &Hosts) {
    for party in &NAMES[1..] {
        assert_eq!(hosts.burnt(party), [""; 0], "{party}");
    }
}

#[test]
fn vectors_come_from_remote_parties_in_buckets_and_in_exact_programs() {
    let tiny = Tiny::load();
    let hosts = start(&|_| ("", "model"));
    for options in [&[][..], &["--batch", "2"], &["--length", "exact"]] {
        let made = embed(&hosts, &[&["--input", "texts.txt"], options].concat());
        expect(&made, DONE, &["vectors of 5 texts"], &format!("{options:?}"));
        for (text, vector) in TEXTS.iter().zip(vectors(&hosts.folder().join("v.npy"), TEXTS.len())) {
            tiny.check_text(text, &vector).expect("the vector of the text");
        }
    }
}

/// The client says why, unless it was told which protocol to take.
#[test]
fn the_activation_takes_few_rounds_on_a_long_link() {
    let tiny = Tiny::load();
    let long = "link = \"intercontinental\"\nshaped = true\n";
    let hosts = start(&|name| if name == "dealer" { ("", "model") } else { (long, "model") });
    for (options, says) in [
        (&[][..], Some("of 16 tokens: dpf for the activation: at ")),
        (&["--activation", "auto"], Some("of 16 tokens: dpf for the activation: at ")),
        (&["--activation", "onehot"], None),
    ] {
        let made = embed(&hosts, &[&["a"], options].concat());
        expect(&made, DONE, says.as_slice(), &format!("{options:?}"));
        let said = String::from_utf8_lossy(&made.stderr);
        assert_eq!(said.contains("for the activation"), says.is_some(), "{said}");
        for vector in vectors(&hosts.folder().join("v.npy"), 1) {
            tiny.check_text("a", &vector).expect("the vector of the text");
        }
    }
}

#[test]
fn other_weights_at_the_dealer_or_a_party_are_named_before_anything_secret_moves() {
    let (own, other) = (Tiny::load().digest(), Tiny::other().digest());
    for (odd, code, words) in [
        ("dealer", FAILED, &["the dealer has not loaded", "[[models]]"][..]),
        ("party0", USAGE, &["party 0 has not loaded the model", "[[models]]"]),
        ("party1", USAGE, &["party 1 has not loaded the model", "[[models]]"]),
    ] {
        let hosts = start(&|name| ("", if name == odd { "other" } else { "model" }));
        let said = embed(&hosts, &["a"]);
        let words: Vec<&str> = words.iter().copied().chain([&own[..], &other[..]]).collect();
        expect(&said, code, &words, odd);
        assert!(!hosts.folder().join("v.npy").exists(), "{odd}: vectors were written");
        no_batch_was_burnt(&hosts);
    }
}

#[test]
fn what_does_not_fit_is_refused_before_keys_are_dealt() {
    let long = "word ".repeat(99);
    let hosts =
        start(&|name| if name == "party1" { ("share_memory_mb = 1\n", "model") } else { ("", "model") });
    fs::write(hosts.folder().join("bytes.txt"), b"fine\n\xff\xfe\n").expect("the folder is writable");
    for (arguments, code, words) in [
        (&[&long[..]][..], USAGE, &["text 1: the text has 398 tokens", "the model takes 64 at most"][..]),
        (&["a", ""], USAGE, &["text 2: the text is empty"]),
        (&["--input", "bytes.txt"], USAGE, &["bytes.txt, line 2: this is no text in UTF-8"]),
        (&["--plan", "other/plan.toml", "a"], USAGE, &["the plan belongs to the model", "and this model is"]),
        (&["--resume", "--out", "/dev/null", "a"], USAGE, &["--resume goes with a file"]),
        (&["--length", "exact", TEXTS[3]], FAILED, &["party 1", "share_memory_mb"]),
    ] {
        let mut arguments = arguments.to_vec();
        let own_out = arguments.contains(&"--out");
        let mut command = hosts.command(&["embed", "--model", "model"]);
        if !own_out {
            arguments.extend(["--out", "v.npy"]);
        }
        let said = command.args(&arguments).args(hosts.as_client()).output().expect("suf starts");
        expect(&said, code, words, &format!("{arguments:?}"));
    }
    assert!(!hosts.folder().join("v.npy").exists(), "vectors were written");
    no_batch_was_burnt(&hosts);
}

/// A call with many texts, some of which are finished.
async fn begin(hosts: &Hosts) -> Child {
    let texts: Vec<_> = (0..MANY).map(|at| TEXTS[at % TEXTS.len()]).collect();
    fs::write(hosts.folder().join("many.txt"), texts.join("\n")).expect("the folder is writable");
    let mut command = hosts.command(&["embed", "--model", "model", "--out", "v.npy", "--input", "many.txt"]);
    let child = command.args(hosts.as_client()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("suf starts");
    let observer = Caller::connect(hosts, "observer").await;
    let done = async || {
        let runs = observer.list(Party::P0, false).await;
        runs.iter().filter(|run| run.state() == RunState::Done).count()
    };
    while done().await < 3 {
        assert_eq!(
            child.try_wait().expect("the child is ours"),
            None,
            "it ended before three texts were done"
        );
    }
    child
}

#[tokio::test]
async fn vectors_of_finished_texts_are_kept_and_the_next_call_goes_on_with_the_others() {
    let tiny = Tiny::load();
    let mut hosts = start(&|_| ("", "model"));
    let (whole, partial) = (hosts.folder().join("v.npy"), hosts.folder().join("v.npy.partial.npz"));
    let child = begin(&hosts).await;
    hosts.kill("party1");
    let said = child.wait_with_output().expect("the child is ours");
    expect(&said, FAILED, &["of 60 texts are kept in v.npy.partial.npz", "--resume"], "a killed party");
    assert!(partial.exists() && !whole.exists());
    hosts.restart("party1");

    // Other texts, and another way to evaluate them, are another call.
    let resume = ["--resume", "--input"];
    for arguments in [&["texts.txt"][..], &["many.txt", "--length", "exact"]] {
        let said = embed(&hosts, &[&resume[..], arguments].concat());
        expect(&said, USAGE, &["v.npy.partial.npz: it is of other texts"], &format!("{arguments:?}"));
    }
    let before = runs(&hosts);
    let said = embed(&hosts, &[&resume[..], &["many.txt"]].concat());
    expect(&said, DONE, &["of 60 texts were kept before", "vectors of 60 texts"], "the rest");
    assert!(!partial.exists() && whole.exists());
    assert!(runs(&hosts) - before < MANY, "all texts were evaluated anew");
    for (at, vector) in vectors(&whole, MANY).iter().enumerate() {
        tiny.check_text(TEXTS[at % TEXTS.len()], vector).expect("the vector of the text");
    }
}

#[tokio::test]
async fn vectors_of_finished_texts_are_kept_when_the_client_is_interrupted() {
    let hosts = start(&|_| ("", "model"));
    let child = begin(&hosts).await;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("process ids are positive");
    kill_process(pid, Signal::INT).expect("the child is ours");
    let said = child.wait_with_output().expect("the child is ours");
    expect(&said, FAILED, &["interrupted", "of 60 texts are kept in v.npy.partial.npz"], "an interrupt");
    let left: [PathBuf; 2] = ["v.npy", "v.npy.partial.npz"].map(|name| hosts.folder().join(name));
    assert_eq!(left.map(|path| path.exists()), [false, true]);
}

/// Runs that ended well at party 0.
fn runs(hosts: &Hosts) -> usize {
    hosts.log("party0").matches("run done").count()
}
