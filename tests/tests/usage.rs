//! The command line. Options that contradict each other or mean nothing are refused with exit status 2 before anything
//! starts. Variables only stand in for options that are not given.

use std::{fs, path::Path, process::Command};

use suf_tests::{npy, processes::expect};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Wrong usage.
const USAGE: i32 = 2;

#[test]
fn variables_that_the_command_line_makes_void_are_ignored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    npy::write_i64(&folder.path().join("x.npy"), &[4096; 9]);
    let command = "eval --local --protocol onehot --gate gelu --inputs x.npy --outputs y.npy";
    let mut suf = suf(folder.path(), command);
    suf.env("SUF_PARTY0", "nowhere:1").env("SUF_PARTY1", "nowhere:2").env("SUF_IDENTITY", "nobody.pem");
    expect(&suf.output().expect("suf starts"), 0, &[], "eval --local with variables of a remote one");
    assert_eq!(npy::read_i64(&folder.path().join("y.npy")).len(), 9);
}

#[test]
fn a_party_on_the_command_line_comes_before_one_in_the_environment() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = suf(folder.path(), "pki init pki").output().expect("suf starts");
    expect(&made, 0, &[], "certificates");
    // Nobody listens on port 1; the message names whom it called.
    let runs = |options: &str, party0: Option<&str>, party1: Option<&str>| {
        let mut suf = suf(folder.path(), &format!("runs --identity pki/operator.pem {options}"));
        suf.envs(party0.map(|address| ("SUF_PARTY0", address)));
        suf.envs(party1.map(|address| ("SUF_PARTY1", address)));
        suf.output().expect("suf starts")
    };
    let here = Some("127.0.0.1:1");
    expect(&runs("--party1 127.0.0.1:1", here, here), 1, &["party1"], "party 1 by its option");
    expect(&runs("--party0 127.0.0.1:1", None, here), 1, &["party0"], "party 0 by its option");
    expect(&runs("", here, None), 1, &["party0"], "party 0 by its variable");
    expect(&runs("", Some(""), here), 1, &["party1"], "an empty variable is none");
    expect(&runs("", Some(""), Some("")), USAGE, &["--party0"], "two empty variables are none");
    let mut by_variable = suf(folder.path(), "runs --party0 127.0.0.1:1");
    by_variable.env("SUF_IDENTITY", "pki/observer.pem");
    expect(&by_variable.output().expect("suf starts"), 1, &["party0"], "a certificate by its variable");
    by_variable.env("SUF_IDENTITY", "");
    expect(&by_variable.output().expect("suf starts"), USAGE, &["--identity"], "an empty variable");
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for (command, words) in [
        (eval("--protocol onehot --deadline 0"), "from 1 to 86400"),
        (eval("--protocol onehot --deadline 86401"), "from 1 to 86400"),
        (eval("--protocol onehot --deadline NaN"), "invalid"),
        ("run --protocol onehot --gate gelu --elements 0".into(), "from 1 to 100000000"),
        ("run --protocol onehot --gate gelu --elements 100000001".into(), "from 1 to 100000000"),
        ("run --protocol onehot --gate gelu --elements 9 --deadline 0".into(), "from 1 to 86400"),
        ("bench --elements 100000001 --gate gelu".into(), "from 1 to 100000000"),
        ("bench --repeats 0".into(), "from 1 to 1000"),
        ("bench --seq 0".into(), "from 1 to 65536"),
        ("bench kernel --samples 0".into(), "from 1 to 10000"),
        ("runs --limit 0".into(), "from 1 to 1000"),
        ("describe gelu --elements 0".into(), "from 1 to 100000000"),
        ("lab slope --delays-ms 10,NaN,30".into(), "more than 0"),
        ("lab slope --delays-ms 0,10,20".into(), "more than 0"),
        ("lab slope --delays-ms 10,20,inf".into(), "more than 0"),
        ("lab slope --delays-ms=-1,10,20".into(), "more than 0"),
        ("lab slope --repeats 0".into(), "from 1 to 1000"),
        ("lab slope --delays-ms 10,20".into(), "at least three different"),
        ("lab slope --gate gelo".into(), "`gelu`"),
        ("bench --repeats many".into(), "from 1 to 1000"),
        ("describe gelu --elements 1e6".into(), "from 1 to 100000000"),
        ("bench --links ./none.toml".into(), "./none.toml: the file cannot be read: No such file"),
        ("report".into(), "results/records.jsonl: No such file"),
        ("report".into(), "`suf bench` writes"),
        ("runs --party0 a:1 --identity none.pem".into(), "--identity: none.pem cannot be read"),
        ("runs --party0 a --identity none.pem".into(), "--party0: \"https://a\" is no address of a daemon"),
        (eval("--protocol onehot --party0 a:1 --party1 a:1 --identity none.pem"), "two daemons"),
        (eval("--protocol onehot --party0 a:99999 --party1 b:1 --identity none.pem"), "65535"),
    ] {
        refused(&command, words);
    }
}

#[test]
fn options_that_would_be_ignored_are_refused() {
    for (command, words) in [
        (eval("--local --protocol suf --shape full"), "suf has no shapes"),
        (eval("--local --auto --shape ful"), "`full`"),
        (eval("--protocol onehot --backend cpu --party0 a:1 --party1 b:1"), "--local"),
        (eval("--local --protocol onehot --party0 a:1"), "cannot be used"),
        (eval("--local --protocol onehot --key a.key"), "cannot be used"),
        (eval("--local --auto --protocol onehot"), "cannot be used"),
        (eval(&format!("--protocol onehot --run {} --deadline 5", "0f".repeat(16))), "cannot be used"),
        ("run --protocol dpf --gate gelu --shape full --elements 9".into(), "dpf has no shapes"),
        ("bench --protocols suf,dpf --shape full".into(), "suf has no shapes"),
        ("bench --shape ful".into(), "`full`"),
        ("bench --gate gelu --elements 9 --seq 64".into(), "cannot be used"),
        ("bench --gate gelu --elements 9 --models gpt2".into(), "cannot be used"),
        ("bench --protocols onehot,suf,onehot".into(), "onehot is named twice"),
        ("bench --models gpt2,gpt2".into(), "gpt2 is named twice"),
        ("bench --links lan,lan".into(), "lan is named twice"),
        ("bench kernel --gate gelu,silu,gelu".into(), "gelu is named twice"),
        ("describe gelu --protocol sigma --shape full".into(), "sigma has no shapes"),
        ("describe gelu wan".into(), "unexpected"),
        ("describe link wan --elements 9".into(), "--elements"),
        ("describe link wan --protocol suf".into(), "--protocol"),
    ] {
        refused(&command, words);
    }
}

/// `suf eval` with these options and the others that it needs.
fn eval(options: &str) -> String {
    format!("eval --gate gelu --inputs x.npy --outputs y.npy {options}")
}

/// Checks that `command` is refused before anything starts, in a folder where it would find its tensor.
fn refused(command: &str, words: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    npy::write_i64(&folder.path().join("x.npy"), &[4096; 9]);
    let output = suf(folder.path(), command).output().expect("suf starts");
    expect(&output, USAGE, &[words], command);
    let left = fs::read_dir(folder.path()).expect("readable").count();
    assert_eq!(left, 1, "{command} left files behind");
}

/// `suf` with the words of `command` in `folder`, without the variables that it reads.
fn suf(folder: &Path, command: &str) -> Command {
    let mut suf = Command::new(PROGRAM);
    suf.args(command.split_whitespace()).current_dir(folder);
    suf.env_remove("SUF_PARTY0").env_remove("SUF_PARTY1").env_remove("SUF_IDENTITY");
    suf
}
