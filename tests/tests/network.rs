//! What lies between the processes: addresses of both families, names, a router that forgets ports, slow and lossy
//! links. Also what a client is told when a party dies or stands still.

use std::{
    cell::OnceCell,
    fs,
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use suf_skip::{Need, skip};
use suf_tests::{
    npy,
    processes::{Hosts, NAMES, expect, loopback_with_lanes},
    relay::Relay,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;
const FAILED: i32 = 1;

/// Elements of a run that sends some 2 MB each way.
const MANY: usize = 150_000;

/// What becomes of a daemon's configuration, by its name.
type Change<'a> = &'a dyn Fn(&str, String) -> String;

/// How often a party is asked for a run that was just started.
const POLLS: usize = 1000;

#[test]
fn daemons_run_on_ipv6_and_on_both_families_mixed() {
    if !has_ipv6() {
        return;
    }
    let only_v6 = |_: &str, config: String| config.replace("127.0.0.1:0", "[::1]:0");
    // The dealer and the control API on IPv6, the parties' link on both.
    let mixed = |name: &str, config: String| match name {
        "dealer" => config.replace("127.0.0.1:0", "[::1]:0"),
        "party0" => config.replace("listen = \"127.0.0.1:0\"", "listen = \"[::]:0\""),
        _ => config.replace("connect = \"[::]:", "connect = \"127.0.0.1:"),
    };
    // Everything on both, called over IPv4.
    let both = |_: &str, config: String| {
        config
            .replace("127.0.0.1:0", "[::]:0")
            .replace("\"[::]:", "\"127.0.0.1:")
            .replace("127.0.0.1:0", "[::]:0")
    };
    let changes: [(&str, Change<'_>); 3] = [("IPv6 alone", &only_v6), ("mixed", &mixed), ("both", &both)];
    for (what, change) in changes {
        let hosts = hosts(Path::new(PROGRAM), change);
        let urls = ["party0", "party1"].map(|name| hosts.as_client_of(name)[1].replace("[::]", "127.0.0.1"));
        expect(&eval(&hosts, &urls), DONE, &[], what);
    }
}

/// Each name has an address that nobody listens at, before or after the right one.
#[test]
fn names_with_both_families_lead_to_the_daemons_in_either_order() {
    if !has_ipv6() {
        return;
    }
    for preferred in ["::1/128", "::ffff:0:0/96"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let Some(program) = with_names(folder.path(), preferred) else {
            return skip(Need::Mount, "this user may not give a process its own /etc");
        };
        let hosts = hosts(&program, |name, config| {
            let config = match name {
                // The dealer listens on IPv4, party 0 for its peer on IPv6.
                "dealer" => config,
                "party0" => config.replace("listen = \"127.0.0.1:0\"", "listen = \"[::1]:0\""),
                _ => config.replace("connect = \"[::1]:", "connect = \"party0.test:"),
            };
            config.replace("dealer = \"127.0.0.1:", "dealer = \"dealer.test:")
        });
        let urls = ["party0", "party1"]
            .map(|name| hosts.as_client_of(name)[1].replace("127.0.0.1", &format!("{name}.test")));
        expect(&eval(&hosts, &urls), DONE, &[], preferred);
        expect(&eval(&hosts, &urls), DONE, &[], preferred);
        // Where nobody listens, each address is named.
        let absent = ["https://party0.test:9".to_owned(), urls[1].clone()];
        let words = ["party0", "127.0.0.1:9", "[::1]:9"];
        expect(&eval(&hosts, &absent), FAILED, &words, "a port that nobody has");
    }
}

/// A router between the parties forgets its callers in the middle of a run, and gives them other ports.
#[test]
fn a_run_goes_on_when_a_router_gives_the_caller_another_port() {
    for lanes in [1, 3] {
        let relay = OnceCell::new();
        let folder = tempfile::tempdir().expect("a folder");
        let link = loopback_with_lanes(folder.path(), lanes);
        let hosts = hosts(Path::new(PROGRAM), |name, config| match name {
            "dealer" => config,
            _ => format!("{link}\n{}", Relay::between(&relay, Relay::to, config)),
        });
        let relay: &Relay = relay.get().expect("party 1 connects");
        expect(&hosts.onehot("few.npy"), DONE, &[], "before");
        for bytes in [500_000, 1_500_000] {
            relay.move_after(bytes);
            expect(&hosts.onehot("many.npy"), DONE, &[], "while the ports change");
            assert!(relay.has_moved(), "the run ended before");
        }
        expect(&hosts.onehot("few.npy"), DONE, &[], "afterwards");
        let log = hosts.log("party0");
        assert!(log.contains(&format!("lanes={lanes}")), "{log}");
        assert_eq!(log.matches("peer connected").count(), 1, "the connection stays: {log}");
    }
}

#[test]
fn profiles_at_the_edge_of_what_is_allowed_work() {
    for (what, profile) in [
        (
            "delay",
            "rate_bps = 1_000_000_000\ndelay_ms = 500.0\nlimit_packets = 10_000\nmtu = 1500\nlanes = 2\n",
        ),
        (
            "loss",
            "rate_bps = 1_000_000_000\ndelay_ms = 5.0\nlimit_packets = 10_000\nmtu = 1500\nloss = 0.1\n",
        ),
        ("rate", "rate_bps = 1_000_000\ndelay_ms = 5.0\nlimit_packets = 16\nmtu = 12_500\n"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("edge.toml");
        fs::write(&path, profile).expect("the folder is writable");
        let link = format!("link = \"{}\"", path.display());
        let hosts = hosts(Path::new(PROGRAM), |name, config| match name {
            "dealer" => format!("shaped = true\n{}", config.replace("link = \"loopback\"", &link)),
            _ => format!("shaped = true\n{link}\n{config}"),
        });
        expect(&hosts.onehot("few.npy"), DONE, &[], what);
    }
}

#[test]
fn a_party_that_dies_is_named_in_every_phase_of_a_clients_run() {
    let relay = OnceCell::new();
    let mut hosts = hosts(Path::new(PROGRAM), |_, config| Relay::between(&relay, Relay::to, config));
    let relay: &Relay = relay.get().expect("party 1 connects");
    for victim in ["party0", "party1"] {
        // While it waits for keys.
        hosts.stand_still("dealer");
        let run = start(&hosts, "few.npy");
        has_run(&hosts, "party1");
        hosts.kill(victim);
        is_named(run, victim, "while it waits for keys");
        hosts.go_on("dealer");
        hosts.restart(victim);
        works_again(&hosts);

        // While it waits for the outputs.
        relay.cut_after(1_000_000);
        let run = start(&hosts, "many.npy");
        while !relay.is_cut() {
            thread::yield_now();
        }
        hosts.kill(victim);
        is_named(run, victim, "in the exchanges");
        relay.mend();

        // Before it is started again.
        let run = start(&hosts, "few.npy");
        is_named(run, victim, "while it is not there");
        hosts.restart(victim);
        works_again(&hosts);
    }
    for name in NAMES {
        assert!(hosts.is_alive(name), "{name} died: {}", hosts.log(name));
    }
}

/// A call that is open notices within 30 s that nobody answers any more.
#[test]
fn a_call_to_a_party_that_stands_still_ends() {
    let relay = OnceCell::new();
    let mut hosts = hosts(Path::new(PROGRAM), |_, config| Relay::between(&relay, Relay::to, config));
    let relay: &Relay = relay.get().expect("party 1 connects");
    relay.cut_after(1_000_000);
    let run = start(&hosts, "many.npy");
    while !relay.is_cut() {
        thread::yield_now();
    }
    hosts.stand_still("party0");
    is_named(run, "party0", "while it stands still");
    hosts.go_on("party0");
    relay.mend();
    works_again(&hosts);
}

fn hosts(program: &Path, change: impl Fn(&str, String) -> String) -> Hosts {
    let hosts = Hosts::start_with(program, change);
    npy::write_i64(&hosts.folder().join("few.npy"), &[4096; 9]);
    npy::write_i64(&hosts.folder().join("many.npy"), &[4096; MANY]);
    hosts
}

/// The outcome of a small run at these parties.
fn eval(hosts: &Hosts, urls: &[String; 2]) -> Output {
    let gate =
        ["eval", "--gate", "gelu", "--protocol", "onehot", "--inputs", "few.npy", "--outputs", "y.npy"];
    let parties = ["--party0", &urls[0], "--party1", &urls[1], "--identity", "pki/client.pem"];
    hosts.suf(&[&gate[..], &parties].concat())
}

/// A run that goes on meanwhile.
fn start(hosts: &Hosts, inputs: &str) -> Child {
    let mut command = hosts.eval(&["--protocol", "onehot"], inputs);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("suf starts")
}

/// The run fails, and says in our words who is at fault.
fn is_named(run: Child, victim: &str, what: &str) {
    let output = run.wait_with_output().expect("the child is ours");
    expect(&output, FAILED, &[], &format!("{victim} dies {what}"));
    let said = String::from_utf8_lossy(&output.stderr);
    let names = [victim.to_owned(), victim.replace("party", "party ")];
    assert!(names.iter().any(|name| said.contains(name)), "{victim} is not named {what}: {said}");
    assert!(said.contains("at fault"), "nobody is at fault {what}: {said}");
}

/// Waits until `party` has a run that has not ended.
fn has_run(hosts: &Hosts, party: &str) {
    let url = &hosts.as_client_of(party)[1];
    let arguments = ["runs", "--json", &format!("--{party}"), url, "--identity", "pki/operator.pem"];
    let listed = |_| String::from_utf8_lossy(&hosts.suf(&arguments).stdout).contains("\"dealing\"");
    assert!((0..POLLS).any(listed), "{party} has not heard of the run");
}

/// A handshake that began while somebody was away goes on in growing steps: the first run may not wait for it.
fn works_again(hosts: &Hosts) {
    let mut outputs = (0..6).map(|_| hosts.onehot("few.npy"));
    assert!(outputs.any(|output| output.status.success()), "no run works: {}", hosts.log("party0"));
}

fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        skip(Need::Ipv6, "this host has no IPv6");
    }
    has
}

/// A program that runs ours with an /etc of its own, where each daemon's name has addresses of both families, that of
/// `preferred` first. None if this user may not do so.
fn with_names(folder: &Path, preferred: &str) -> Option<PathBuf> {
    let etc = folder.join("etc");
    fs::create_dir(&etc).expect("the folder is writable");
    let hosts: String =
        NAMES.iter().map(|name| format!("127.0.0.1 {name}.test\n::1 {name}.test\n")).collect();
    for (file, text) in [
        ("hosts", hosts.as_str()),
        ("nsswitch.conf", "hosts: files\n"),
        // Without this a name has the address of its first line alone.
        ("host.conf", "multi on\n"),
        ("gai.conf", &format!("precedence {preferred} 100\nprecedence ::/0 1\n")),
    ] {
        fs::write(etc.join(file), text).expect("the folder is writable");
    }
    let program = folder.join("suf-with-names");
    let (etc, own) = (etc.display(), PROGRAM);
    let text = format!(
        "#!/bin/sh\nexec unshare -m sh -c 'mount --bind {etc} /etc && exec {own} \"$@\"' sh \"$@\"\n"
    );
    fs::write(&program, text).expect("the folder is writable");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let tried = Command::new(&program).arg("--version").output().ok()?;
    tried.status.success().then_some(program)
}
