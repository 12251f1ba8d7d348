//! What operators look at: the pages of real daemons, while what they watch is lost and comes back.

mod certificates;

use std::{fs, os::unix::net::UnixDatagram, path::Path, time::Duration};

use suf_skip::{Need, skip};
use suf_tests::{
    disk::SmallDisk,
    npy,
    pages::{Page, page, until},
    processes::{Hosts, NAMES, expect},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;

/// How soon an operator hears of what is lost, and of its return.
const SOON: Duration = Duration::from_secs(10);

/// The page of readiness.
const READY: &str = "/readyz";

/// Daemons with pages; each configuration is changed by `change` besides.
fn start(hosts: &mut Hosts, change: impl Fn(&str, String) -> String) {
    hosts.start_daemons(|name, config| change(name, format!("admin = \"127.0.0.1:0\"\n{config}")));
    for name in NAMES {
        ready(hosts, name);
    }
}

fn ready(hosts: &mut Hosts, name: &str) {
    until(hosts, name, READY, SOON, |page| page.status == 200);
}

/// Waits until `name` says that `check` has failed, and nothing else but `besides`.
fn fails(hosts: &mut Hosts, name: &str, check: &str, besides: &[&str]) -> Duration {
    let failed = |page: &Page| page.text.contains(&format!("failed: {check}: "));
    let took = until(hosts, name, READY, SOON, |page| page.status == 503 && failed(page));
    let page = page(hosts, name, READY);
    for line in page.text.lines().filter(|line| line.starts_with("failed: ")) {
        let known =
            [check].iter().chain(besides).any(|check| line.starts_with(&format!("failed: {check}: ")));
        assert!(known, "{name}: {line}");
        assert!(line.contains("; "), "no advice: {line}");
    }
    println!("{name} said after {took:?}: {}", page.text.replace('\n', " | "));
    took
}

#[test]
fn a_lost_peer_and_a_lost_dealer_are_told_within_ten_seconds_and_so_is_their_return() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    start(&mut hosts, |_, config| config);
    hosts.kill("party1");
    fails(&mut hosts, "party0", "peer", &[]);
    hosts.restart("party1");
    ready(&mut hosts, "party0");
    ready(&mut hosts, "party1");
    hosts.kill("dealer");
    for party in ["party0", "party1"] {
        fails(&mut hosts, party, "dealer", &[]);
    }
    hosts.restart("dealer");
    for name in NAMES {
        ready(&mut hosts, name);
    }
}

#[test]
fn a_full_disk_is_told_within_ten_seconds_and_so_is_its_end() {
    let Some(disk) = SmallDisk::mount(64) else {
        return skip(Need::Mount, "no disk was filled: this process may not mount one");
    };
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    let state = format!("state_dir = \"{}\"", disk.path().join("state").display());
    start(&mut hosts, |name, config| match name {
        "party0" => config.replace("state_dir = \"state-party0\"", &state),
        _ => config,
    });
    let filler = disk.fill();
    fails(&mut hosts, "party0", "disk", &["ledger"]);
    fails(&mut hosts, "party0", "ledger", &["disk"]);
    fs::remove_file(filler).expect("it was made");
    ready(&mut hosts, "party0");
}

#[test]
fn a_certificate_that_ends_is_told_within_ten_seconds_and_so_is_a_new_one() {
    let ends = Duration::from_secs(12);
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    certificates::certify(hosts.folder(), "dealer", ends);
    start(&mut hosts, |_, config| config);
    let page_of =
        |page: &Page| page.text.contains("failed: certificate: ") && page.text.contains("has expired");
    let took = until(&mut hosts, "dealer", READY, ends + SOON, page_of);
    println!("after {took:?}");
    certificates::certify(hosts.folder(), "dealer", Duration::from_secs(3600));
    rustix::process::kill_process(hosts.process("dealer"), rustix::process::Signal::HUP).expect("ours");
    ready(&mut hosts, "dealer");
}

/// Neither the pages nor their labels have the id of a run or its hash, a batch, a client, a gate's or a program's digest.
#[test]
fn the_pages_count_runs_and_name_none_of_them() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    start(&mut hosts, |_, config| config);
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096, -4096, 0]);
    expect(&hosts.onehot("x.npy"), DONE, &[], "a run");
    let mut secrets = Vec::new();
    for (party, who) in [("party0", "client"), ("party1", "client"), ("party0", "operator")] {
        let [option, url, identity, _] = hosts.as_client_of(party);
        let listed = hosts.suf(&["runs", "--json", &option, &url, &identity, &format!("pki/{who}.pem")]);
        expect(&listed, DONE, &[], "listing runs");
        let runs: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        let run = &runs.as_array().expect("a list")[0];
        for (key, value) in run.as_object().expect("a run") {
            if ["run_id", "run_hash", "batch_id", "gate_digest", "program_digest"].contains(&&**key) {
                let text = value.as_str().map(|text| text.trim_start_matches("hash:"));
                secrets.extend(text.filter(|text| !text.is_empty()).map(str::to_owned));
            }
        }
    }
    secrets.extend(hosts.burnt("party0"));
    assert!(secrets.len() >= 5, "{secrets:?}");
    for party in ["party0", "party1"] {
        let counted = "suf_runs_total{outcome=\"done\",fault=\"none\"} 1\n";
        until(&mut hosts, party, "/metrics", SOON, |page| page.text.contains(counted));
    }
    for name in NAMES {
        for path in ["/livez", READY, "/metrics", "/status.json"] {
            let page = page(&hosts, name, path);
            assert_eq!(page.status, 200, "{name}{path}");
            for secret in &secrets {
                assert!(!page.text.contains(secret.as_str()), "{name}{path} has {secret}");
            }
            for word in ["gelu", "onehot", "client"] {
                assert!(!page.text.contains(word), "{name}{path} has {word}: {}", page.text);
            }
        }
        let status: serde_json::Value =
            serde_json::from_str(&page(&hosts, name, "/status.json").text).expect("JSON");
        assert_eq!(status["role"], name);
        assert_eq!(status["ready"], true);
    }
    let metrics = page(&hosts, "dealer", "/metrics").text;
    for line in
        ["suf_batches_total{outcome=\"stored\"} 1.0\n", "suf_party_connections{party=\"party0\"} 1.0\n"]
    {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
}

/// What the daemon tells a service manager, which listens on a socket of the test's.
#[test]
fn a_daemon_tells_its_service_manager_that_it_is_ready_lives_and_ends() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    let path = hosts.folder().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a new name");
    manager.set_read_timeout(Some(SOON)).expect("a time");
    hosts.set_env("party1", "NOTIFY_SOCKET", path.into());
    hosts.set_env("party1", "WATCHDOG_USEC", "400000".into());
    hosts.start_daemons(|_, config| config);
    let heard = |wanted: &str| {
        let mut bytes = [0; 256];
        loop {
            let length = manager.recv(&mut bytes).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
            let said = String::from_utf8_lossy(&bytes[..length]).trim().to_owned();
            if said == wanted {
                return;
            }
            assert_eq!(said, "WATCHDOG=1", "instead of {wanted}");
        }
    };
    heard("READY=1");
    heard("WATCHDOG=1");
    heard("WATCHDOG=1");
    // A process that stands still says nothing, and the manager would end it.
    hosts.stand_still("party1");
    manager.set_nonblocking(true).expect("a mode");
    while manager.recv(&mut [0; 256]).is_ok() {}
    manager.set_nonblocking(false).expect("a mode");
    manager.set_read_timeout(Some(Duration::from_secs(1))).expect("a time");
    assert!(manager.recv(&mut [0; 256]).is_err(), "it lives all the same");
    manager.set_read_timeout(Some(SOON)).expect("a time");
    hosts.go_on("party1");
    heard("WATCHDOG=1");
    assert_eq!(hosts.terminate("party1"), Some(DONE));
    heard("STOPPING=1");
}
