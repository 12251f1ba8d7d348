//! Every mistake ends with one clear message that names who is at fault, the right exit status, and all processes alive and
//! ready for the next run.

use std::{fs, path::Path, process::Command};

use suf_tests::{
    disk::SmallDisk,
    npy,
    processes::{Hosts, NAMES, expect},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Done, the run failed, wrong usage.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

#[test]
fn wrong_usage_is_refused_with_the_nearest_right_word() {
    for (arguments, words) in [
        (&["bench", "--models", "berd-base"][..], &["berd-base", "bert-base"][..]),
        (&["bench", "--protocols", "sigam"], &["sigam", "sigma"]),
        (&["bench", "--links", "moon"], &["moon", "loopback"]),
        (&["bench", "--elements", "0", "--gate", "gelu"], &["0"]),
        (
            &["eval", "--local", "--protocol", "onehot", "--gate", "gelo", "--inputs", "x", "--outputs", "y"],
            &["gelo", "gelu"],
        ),
        (&["frobnicate"], &["frobnicate"]),
    ] {
        let output = Command::new(PROGRAM).args(arguments).output().expect("suf starts");
        expect(&output, USAGE, words, &format!("{arguments:?}"));
    }
}

#[test]
fn bad_tensors_are_refused_before_anything_is_sent() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let file = |name: &str| hosts.folder().join(name);
    npy::write_i64(&file("outside.npy"), &[0, 1 << 25, 0]);
    npy::write_i64(&file("empty.npy"), &[]);
    npy::write_i64(&file("good.npy"), &[4096]);
    let good = fs::read(file("good.npy")).expect("just written");
    fs::write(file("cut.npy"), &good[..good.len() - 1]).expect("the folder is writable");
    fs::write(file("junk.npy"), b"junk").expect("the folder is writable");
    for (number, name) in [(f64::NAN, "nan.npy"), (f64::INFINITY, "inf.npy")] {
        let header = replace(&good[..good.len() - 8], b"<i8", b"<f8");
        let bytes = [header, number.to_le_bytes().to_vec()].concat();
        fs::write(file(name), bytes).expect("the folder is writable");
    }
    for (name, words) in [
        ("outside.npy", &["index [1]", "33554432"][..]),
        ("empty.npy", &["empty"]),
        ("nan.npy", &["index [0]", "NaN"]),
        ("inf.npy", &["index [0]", "inf"]),
        ("cut.npy", &["cut.npy", "damaged"]),
        ("junk.npy", &["junk.npy"]),
        ("absent.npy", &["absent.npy"]),
    ] {
        expect(&hosts.onehot(name), USAGE, words, name);
    }
    expect(&hosts.onehot("good.npy"), DONE, &[], "after all that");
    for party in ["party0", "party1"] {
        let runs = hosts.log(party).lines().filter(|line| line.contains("batch burnt")).count();
        assert_eq!(runs, 1, "{party} took part in runs of bad tensors");
    }
}

#[test]
fn an_absent_dealer_and_an_absent_peer_are_named_and_cost_nothing_but_the_run() {
    let mut hosts = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 9]);
    hosts.kill("dealer");
    expect(&hosts.onehot("x.npy"), FAILED, &["dealer"], "without a dealer");
    hosts.restart("dealer");
    expect(&hosts.onehot("x.npy"), DONE, &[], "with the dealer again");
    hosts.kill("party1");
    expect(&hosts.onehot("x.npy"), FAILED, &["party1"], "without party 1");
    hosts.restart("party1");
    expect(&hosts.onehot("x.npy"), DONE, &[], "with party 1 again");
    for name in NAMES {
        assert!(hosts.is_alive(name), "{name} died");
        assert_eq!(hosts.terminate(name), Some(DONE), "{name} did not end cleanly on SIGTERM");
    }
}

#[test]
fn wrong_certificates_configurations_and_ports_are_refused_at_the_start() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let good = fs::read_to_string(hosts.folder().join("party1.toml")).expect("written at the start");
    let control = |text: &str| {
        text.lines().find_map(|line| line.strip_prefix("control = ")).expect("a control address").to_owned()
    };
    let own_state = |text: &str| text.replace("state-party1", "state-other");
    // Party 0's file has port 0; the address in use is the one it printed.
    let used = hosts.as_client()[1].trim_start_matches("https://").to_owned();
    for (name, text, words) in [
        (
            "another role's certificate",
            own_state(&good).replace("pki/party1", "pki/party0"),
            &["party0", "party1"][..],
        ),
        (
            "the dealer's certificate",
            own_state(&good).replace("pki/party1", "pki/dealer"),
            &["dealer", "party1"],
        ),
        ("an unknown key", format!("colour = 1\n{}", own_state(&good)), &["colour"]),
        ("party 2", own_state(&good).replace("party = 1", "party = 2"), &["party = 2"]),
        ("a taken port", own_state(&good).replace(&control(&good), &format!("\"{used}\"")), &[used.as_str()]),
        ("a ledger in use", good.clone(), &["state-party1", "another daemon"]),
        ("a missing certificate", own_state(&good).replace("party1.pem", "nobody.pem"), &["nobody.pem"]),
    ] {
        fs::write(hosts.folder().join("wrong.toml"), &text).expect("the folder is writable");
        let output = hosts.suf(&["party", "--config", "wrong.toml"]);
        expect(&output, FAILED, words, name);
    }
    let check = |text: &str| {
        fs::write(hosts.folder().join("checked.toml"), text).expect("the folder is writable");
        hosts.suf(&["party", "--config", "checked.toml", "--check"])
    };
    expect(&check(&own_state(&good)), DONE, &[], "--check of a good configuration");
    expect(&check(&good), FAILED, &["another daemon"], "--check of that of a running daemon");
}

#[test]
fn a_full_disk_ends_the_run_and_not_the_party() {
    let Some(disk) = SmallDisk::mount(4) else {
        eprintln!("SKIPPED: mounting a small file system needs root");
        return;
    };
    let spool = format!("\"{}\"", disk.path().display());
    let mut hosts = Hosts::start_with(Path::new(PROGRAM), |name, config| {
        let small = config.replace("\"state-party0\"", &format!("{spool}\nkey_memory_mb = 1"));
        if name == "party0" { small } else { config }
    });
    npy::write_i64(&hosts.folder().join("large.npy"), &[4096; 200_000]);
    npy::write_i64(&hosts.folder().join("small.npy"), &[4096; 9]);
    expect(
        &hosts.onehot("large.npy"),
        FAILED,
        &["spool", "space", "party0"],
        "16 MB of keys on 4 MB of disk",
    );
    assert_eq!(hosts.burnt("party1"), [""; 0], "refused before anything was dealt");
    for name in NAMES {
        assert!(hosts.is_alive(name), "{name} died");
    }
    expect(&hosts.onehot("small.npy"), DONE, &[], "a small run afterwards");
    // Not even the ledger finds room; it is usable again when there is some.
    let filler = disk.fill();
    expect(&hosts.onehot("small.npy"), FAILED, &["space"], "on a full disk");
    fs::remove_file(filler).expect("it is there");
    expect(&hosts.onehot("small.npy"), DONE, &[], "with room again");
    hosts.check_batches(2);
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "the length of the header stays");
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it stands there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}
