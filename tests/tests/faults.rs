//! What happens to processes, not within them: one stands still, the link between the parties is cut, file descriptors run
//! out, files are not theirs. The run ends with a clear error, the processes live, and the next run works.

use std::{
    cell::OnceCell,
    collections::HashSet,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use suf_tests::{
    npy,
    processes::{Hosts, NAMES, expect, loopback_with_lanes},
    relay::Relay,
    users::{NOBODY, hand_over, own_uid},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;
const FAILED: i32 = 1;

/// Runs on a mended link of which one must work; each that does not waits 10 s for the connection.
const TRIES: usize = 6;

/// Elements of a run that sends some 2 MB each way.
const MANY: usize = 150_000;

#[test]
fn a_process_that_stands_still_is_named_and_goes_on_afterwards() {
    let mut hosts = hosts(|_, config| config);
    for name in ["dealer", "party1"] {
        hosts.stand_still(name);
        expect(&hosts.onehot("few.npy"), FAILED, &[name], "while it stands still");
        hosts.go_on(name);
        expect(&hosts.onehot("few.npy"), DONE, &[], "once it goes on");
    }
    all_live(&mut hosts);
}

/// One lane or several, they are cut together.
#[test]
fn a_link_that_is_cut_in_the_middle_of_a_run_costs_that_run() {
    let relay = OnceCell::new();
    let folder = tempfile::tempdir().expect("a folder");
    let link = loopback_with_lanes(folder.path(), 3);
    let mut hosts = hosts(|name, config| match name {
        "dealer" => config,
        _ => format!("{link}\n{}", Relay::between(&relay, Relay::to, config)),
    });
    let relay: &Relay = relay.get().expect("party 1 connects");
    expect(&hosts.onehot("few.npy"), DONE, &[], "through the relay");
    assert!(hosts.log("party0").contains("lanes=3"), "one lane: {}", hosts.log("party0"));
    // In the opening of the inputs, and in the exchanges.
    for bytes in [1_000_000, 2_500_000] {
        relay.cut_after(bytes);
        expect(&hosts.onehot("many.npy"), FAILED, &["party"], "while the link is cut");
        assert!(relay.is_cut(), "the run failed before the cut");
        relay.mend();
        // A handshake that began while the link was cut goes on in growing steps: the first run may not wait for it.
        let again = (0..TRIES).map(|_| hosts.onehot("few.npy")).find(|output| output.status.success());
        assert!(again.is_some(), "no run works on the mended link: {}", hosts.log("party0"));
    }
    all_live(&mut hosts);
    for name in ["party0", "party1"] {
        let burnt = hosts.burnt(name);
        assert!(burnt.len() >= 5, "{name} burnt only {} batches", burnt.len());
        assert_eq!(burnt.iter().collect::<HashSet<_>>().len(), burnt.len(), "{name} burnt a batch twice");
    }
}

#[test]
fn a_party_without_file_descriptors_recovers() {
    let mut hosts = hosts(|_, config| config);
    for name in ["party0", "party1"] {
        let pid = hosts.process(name);
        // The hard limit was inherited from here. What is open stays open; nothing more can be opened.
        let few = Rlimit { current: Some(3), maximum: getrlimit(Resource::Nofile).maximum };
        let before = prlimit(Some(pid), Resource::Nofile, few).expect("the child is ours");
        expect(&hosts.onehot("few.npy"), FAILED, &[name], "without file descriptors");
        prlimit(Some(pid), Resource::Nofile, before).expect("the child is ours");
        expect(&hosts.onehot("few.npy"), DONE, &[], "with them again");
        let log = hosts.log(name);
        assert!(
            log.contains("cannot accept a control connection; trying again"),
            "{name} did not notice: {log}"
        );
    }
    all_live(&mut hosts);
}

#[test]
fn files_that_are_not_the_daemons_are_named_at_the_start() {
    let hosts = Hosts::prepare(Path::new(PROGRAM));
    let folder = hosts.folder();
    let state = folder.join("state");
    fs::create_dir(&state).expect("the folder is writable");
    let config = "party = 0\ncontrol = \"127.0.0.1:0\"\ndealer = \"127.0.0.1:9\"\nstate_dir = \"state\"\n\
                  backend = \"cpu\"\npeer = { listen = \"127.0.0.1:0\" }\n[identity]\nca = \"pki/ca.pem\"\n\
                  cert = \"pki/party0.pem\"\nkey = \"pki/party0.key\"\n";
    fs::write(folder.join("party0.toml"), config).expect("the folder is writable");
    fs::write(state.join("ledger.redb"), []).expect("the folder is writable");
    let root = own_uid() == 0;
    let program = if root { hand_over(Path::new(PROGRAM), folder) } else { PROGRAM.into() };
    let start = |check: Option<&str>| {
        let mut command = Command::new(&program);
        command.args(["party", "--config", "party0.toml"]).args(check).current_dir(folder);
        if root {
            // Nothing is closed to root.
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output().expect("suf starts")
    };
    let key = folder.join("pki/party0.key");
    for (path, mode, words) in [
        (&key, 0o000, &["party0.key"][..]),
        (&key, 0o644, &["party0.key", "can be read by others"]),
        (&state.join("ledger.redb"), 0o400, &["ledger.redb"]),
        (&state, 0o500, &["state"]),
        (&folder.join("party0.toml"), 0o000, &["party0.toml"]),
    ] {
        let before = fs::metadata(path).expect("it is there").permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
        for check in [None, Some("--check")] {
            expect(&start(check), FAILED, words, &format!("{} with mode {mode:o} {check:?}", path.display()));
        }
        fs::set_permissions(path, before).expect("it is ours");
    }
}

fn hosts(change: impl Fn(&str, String) -> String) -> Hosts {
    let hosts = Hosts::start_with(Path::new(PROGRAM), change);
    npy::write_i64(&hosts.folder().join("few.npy"), &[4096; 9]);
    npy::write_i64(&hosts.folder().join("many.npy"), &[4096; MANY]);
    hosts
}

fn all_live(hosts: &mut Hosts) {
    for name in NAMES {
        assert!(hosts.is_alive(name), "{name} died: {}", hosts.log(name));
    }
}
