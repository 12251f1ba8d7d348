//! Processes that should not trust each other: a dealer that lies, certificates that are renewed, backups that are restored.

use std::{fs, path::Path, process::Command};

use suf_tests::{dealer::TestDealer, npy, processes::Hosts};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

#[test]
fn a_dealer_that_gives_unequal_keys_is_named_to_the_client() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    let dealer = TestDealer::start(&hosts.folder().join("pki"), true);
    let ours = format!("dealer = \"{}\"", dealer.address());
    hosts.start_daemons(|_, config| {
        let theirs = config.lines().find(|line| line.starts_with("dealer = ")).map(str::to_owned);
        theirs.map_or(config.clone(), |theirs| config.replace(&theirs, &ours))
    });
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 9]);
    for protocol in ["sigma", "suf", "dpf", "suf-lut"] {
        let output = hosts.eval(&["--protocol", protocol], "x.npy").output().expect("suf starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{protocol}: {said}");
        assert!(said.contains("dealer") && said.contains("unequal public parts"), "{protocol}: {said}");
    }
    // Nothing of onehot's keys is common, hence nothing is unequal.
    let output = hosts.onehot("x.npy");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_certificate_is_renewed_without_a_restart() {
    let mut hosts = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 9]);
    let pki = hosts.folder().join("pki");
    for (name, role) in [("dealer", "dealer"), ("party0", "party0"), ("party1", "party1")] {
        let issued = hosts.suf(&["pki", "issue", "pki", role, "--name", "next"]);
        assert!(issued.status.success(), "{}", String::from_utf8_lossy(&issued.stderr));
        for ending in ["pem", "key"] {
            fs::rename(pki.join(format!("next.{ending}")), pki.join(format!("{name}.{ending}")))
                .expect("moved");
        }
        let hung_up = Command::new("kill").args(["-HUP", &hosts.pid(name).to_string()]).status();
        assert!(hung_up.expect("kill runs").success());
        while !hosts.log(name).contains("certificate read anew") {
            assert!(hosts.is_alive(name), "{name} died: {}", hosts.log(name));
            std::thread::yield_now();
        }
        let output = hosts.onehot("x.npy");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // What does not fit is not taken, and said.
    fs::copy(pki.join("party0.pem"), pki.join("party1.pem")).expect("copied");
    let hung_up = Command::new("kill").args(["-HUP", &hosts.pid("party1").to_string()]).status();
    assert!(hung_up.expect("kill runs").success());
    while !hosts.log("party1").contains("the certificate stays as it was") {
        assert!(hosts.is_alive("party1"), "party1 died: {}", hosts.log("party1"));
        std::thread::yield_now();
    }
    assert!(hosts.onehot("x.npy").status.success());
}

#[test]
fn a_restored_ledger_and_a_copied_spool_are_refused_at_the_start() {
    let mut hosts = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 9]);
    assert!(hosts.onehot("x.npy").status.success());
    let state = |name: &str| hosts.folder().join(format!("state-{name}"));
    let (ledger, backup) = (state("party0").join("ledger.redb"), hosts.folder().join("backup"));
    let marks = ["party0", "party1"].map(|name| state(name).join("spool/ledger-mark"));
    hosts.kill("party0");
    fs::copy(&ledger, &backup).expect("a backup");
    hosts.restart("party0");
    assert!(hosts.onehot("x.npy").status.success());

    for name in ["party0", "party1"] {
        assert_eq!(hosts.terminate(name), Some(0));
    }
    let current = fs::read(&ledger).expect("a ledger");
    fs::copy(&backup, &ledger).expect("restored");
    refused(&hosts, "party0", "restored from a backup");
    fs::write(&ledger, current).expect("undone");

    let own = fs::read(&marks[0]).expect("a mark");
    fs::copy(&marks[1], &marks[0]).expect("copied");
    refused(&hosts, "party0", "belongs to another ledger");
    fs::write(&marks[0], own).expect("undone");

    hosts.restart("party0");
    hosts.restart("party1");
    assert!(hosts.onehot("x.npy").status.success());
}

fn refused(hosts: &Hosts, name: &str, words: &str) {
    let output = hosts.suf(&["party", "--config", &format!("{name}.toml")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(words), "'{words}' is missing in: {said}");
}
