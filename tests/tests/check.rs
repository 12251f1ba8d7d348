//! `--check` refuses what a start refuses, says line by line what it looked at, and leaves no trace. A file beside the
//! configuration is used in place of the built-in one of its name.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use suf_server::ledger::RedbLog;
use suf_skip::{Need, skip};
use suf_tests::processes::{Hosts, expect};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Good, cannot start.
const DONE: i32 = 0;
const FAILED: i32 = 1;

/// A folder with certificates in `pki` and a configuration of each role, none of which is running.
struct Folder(Hosts);

impl Folder {
    fn new() -> Self {
        Self(Hosts::prepare(Path::new(PROGRAM)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.folder().join(name)
    }

    /// `suf party` or `suf dealer` with the configuration `text`, as `--check` or to start.
    fn run(&self, daemon: &str, text: &str, check: bool) -> Output {
        fs::write(self.path("own.toml"), text).expect("writable");
        let mut arguments = vec![daemon, "--config", "own.toml"];
        arguments.extend(check.then_some("--check"));
        let mut command = self.0.command(&arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("suf starts");
        if !check {
            // A daemon that starts says so; one that does not closes its output.
            let mut line = String::new();
            let read = BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line);
            if read.expect("text") > 0 {
                child.kill().expect("ours");
            }
        }
        child.wait_with_output().expect("ours")
    }

    /// Checks that both `--check` and a start refuse the configuration, in the same words.
    fn refused(&self, daemon: &str, text: &str, words: &[&str]) {
        for check in [true, false] {
            let output = self.run(daemon, text, check);
            expect(&output, FAILED, words, &format!("{daemon} with {words:?}, check: {check}"));
            assert!(!said(&output).contains("ready to start"), "{words:?}");
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const DEALER: &str = r#"
listen = "127.0.0.1:0"
control = "127.0.0.1:0"
backend = "cpu"
link = "lan"
identity = { ca = "pki/ca.pem", cert = "pki/dealer.pem", key = "pki/dealer.key" }
"#;

const PARTY0: &str = r#"
party = 0
control = "127.0.0.1:0"
dealer = "127.0.0.1:7000"
state_dir = "state"
backend = "cpu"
link = "lan"
peer = { listen = "127.0.0.1:0" }
identity = { ca = "pki/ca.pem", cert = "pki/party0.pem", key = "pki/party0.key" }
"#;

const PARTY1: &str = r#"
party = 1
control = "127.0.0.1:0"
dealer = "127.0.0.1:7000"
state_dir = "state"
backend = "cpu"
peer = { connect = "127.0.0.1:7100" }
identity = { ca = "pki/ca.pem", cert = "pki/party1.pem", key = "pki/party1.key" }
"#;

#[test]
fn a_configuration_that_cannot_start_is_not_called_ready() {
    let folder = Folder::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let taken_tcp = TcpListener::bind(tcp).expect("free");
    let taken_udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (tcp, udp) = (tcp.to_string(), taken_udp.local_addr().expect("bound").to_string());
    fs::write(folder.path("file"), "no folder").expect("writable");
    for (from, to, words) in [
        ("\"127.0.0.1:7000\"", "\"dealer\"", &["dealer", "no port"][..]),
        ("\"127.0.0.1:7000\"", "\"https://dealer:7000\"", &["dealer", "https://"]),
        ("\"127.0.0.1:7000\"", "\"dealer:99999\"", &["dealer", "65535"]),
        ("\"127.0.0.1:7000\"", "\"::1:7000\"", &["dealer", "[ADDRESS]"]),
        ("control = \"127.0.0.1:0\"", &format!("control = \"{tcp}\""), &["control", &tcp, "in use"]),
        (
            "control = \"127.0.0.1:0\"",
            "control = \"203.0.113.7:7101\"",
            &["control", "no address of this host"],
        ),
        ("listen = \"127.0.0.1:0\"", &format!("listen = \"{udp}\""), &["peer", &udp, "in use"]),
        ("\"state\"", "\"file\"", &["state_dir", "is a file"]),
        ("\"state\"", "\"file/state\"", &["state_dir", "is a file"]),
        ("party = 0", "party = 0\nkey_memory_mb = 17592186044416", &["key_memory_mb"]),
        ("party = 0", "party = 0\nthreads = 100000", &["threads"]),
        ("pki/party0", "pki/client", &["client", "party0"]),
        ("pki/party0.key", "pki/party1.key", &["party1.key", "is not the key of"]),
        ("pki/party0.pem", "pki/nobody.pem", &["nobody.pem"]),
        ("link = \"lan\"", "link = \"moon\"", &["moon", "loopback"]),
    ] {
        assert!(PARTY0.contains(from), "{from}");
        folder.refused("party", &PARTY0.replace(from, to), words);
    }
    folder.refused("party", &PARTY1.replace("127.0.0.1:7100", "party0"), &["connect", "no port"]);
    for (from, to, words) in [
        ("control = \"127.0.0.1:0\"", format!("control = \"{tcp}\""), &["control", tcp.as_str()][..]),
        ("listen = \"127.0.0.1:0\"", format!("listen = \"{udp}\""), &["listen", udp.as_str()]),
        ("pki/dealer", "pki/party0".to_owned(), &["party0", "dealer"]),
    ] {
        folder.refused("dealer", &DEALER.replace(from, &to), words);
    }
    // All that is wrong is said at once.
    let two = PARTY0.replace("\"state\"", "\"file\"").replace("link = \"lan\"", "link = \"moon\"");
    folder.refused("party", &two, &["state_dir", "moon"]);
    drop((taken_tcp, taken_udp));
}

/// A party calls and is called, and a dealer is called: a certificate for half of that is no identity for it.
#[test]
fn a_certificate_that_is_not_for_all_that_its_daemon_does_is_not_called_ready() {
    use rcgen::ExtendedKeyUsagePurpose::{self as Purpose, ClientAuth, ServerAuth};
    let folder = Folder::new();
    let read = |name: &str| fs::read_to_string(folder.path(name)).expect("just made");
    let authority = rcgen::KeyPair::from_pem(&read("pki/ca.key")).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("pki/ca.pem"), authority).expect("an authority");
    let certify = |role: &str, purposes: &[Purpose]| {
        let mut params = rcgen::CertificateParams::new(vec![role.to_owned()]).expect("a name");
        let uri = format!("suf:role/{role}").try_into().expect("ASCII");
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        params.extended_key_usages = purposes.to_vec();
        let own = rcgen::KeyPair::from_pem(&read(&format!("pki/{role}.key"))).expect("a key");
        let signed = params.signed_by(&own, &issuer).expect("signed");
        fs::write(folder.path(&format!("pki/{role}.pem")), signed.pem()).expect("writable");
    };
    for (daemon, text, role, purposes, wanted) in [
        ("party", PARTY0, "party0", &[ClientAuth][..], "serverAuth"),
        ("party", PARTY0, "party0", &[ServerAuth], "clientAuth"),
        ("party", PARTY1, "party1", &[ClientAuth], "serverAuth"),
        ("dealer", DEALER, "dealer", &[ClientAuth], "serverAuth"),
        ("dealer", DEALER, "dealer", &[], "serverAuth"),
    ] {
        certify(role, purposes);
        let file = format!("{role}.pem");
        folder.refused(daemon, text, &["identity", &file, "extended key usage", wanted, "suf pki sign"]);
        // The same, for all that it does: it is the purpose that was refused.
        certify(role, &[ServerAuth, ClientAuth]);
        expect(&folder.run(daemon, text, true), DONE, &[], role);
    }
}

#[test]
fn a_state_folder_of_another_daemon_is_refused() {
    let folder = Folder::new();
    fs::create_dir(folder.path("state")).expect("writable");
    let held = RedbLog::open(&folder.path("state")).expect("a new ledger");
    folder.refused("party", PARTY0, &["state_dir", "in use"]);
    drop(held);
    expect(&folder.run("party", PARTY0, true), DONE, &[], "a ledger that nobody has");
    // A mark without its ledger was copied, or the ledger was removed.
    fs::remove_file(folder.path("state/ledger.redb")).expect("it is there");
    folder.refused("party", PARTY0, &["state_dir", "belongs to another ledger"]);
}

#[test]
fn a_gpu_that_is_not_there_is_noticed() {
    if Path::new("/dev/nvidiactl").exists() {
        return skip(Need::NoGpu, "this machine has a GPU");
    }
    let folder = Folder::new();
    folder.refused("party", &PARTY0.replace("\"cpu\"", "\"cuda\""), &["backend"]);
    folder.refused("dealer", &DEALER.replace("\"cpu\"", "\"cuda\""), &["backend"]);
}

#[test]
fn a_check_says_line_by_line_what_it_looked_at_and_makes_no_state_folder() {
    let folder = Folder::new();
    let unknown = PARTY1.replace("127.0.0.1:7000", "no-such-host.invalid:7000");
    for (daemon, text, keys) in [
        ("dealer", DEALER, &["identity", "link", "listen", "control", "backend"][..]),
        ("party", PARTY0, &["identity", "link", "peer", "control", "state_dir", "backend"]),
        ("party", &unknown, &["identity", "link", "control", "state_dir", "backend"]),
    ] {
        let output = folder.run(daemon, text, true);
        expect(&output, DONE, &[], daemon);
        let said = said(&output);
        for key in keys {
            let good = format!("ok: {key}: ");
            assert!(said.lines().any(|line| line.starts_with(&good)), "'{good}' is missing in:\n{said}");
        }
        assert!(said.lines().last().is_some_and(|line| line.ends_with("is ready to start")), "{said}");
        // A host that is not there yet may come later.
        let doubt = said.lines().any(|line| line.starts_with("warning: dealer: "));
        assert_eq!(doubt, text.contains("no-such-host"), "{said}");
    }
    assert!(!folder.path("state").exists(), "--check made the state folder");
}

#[test]
fn a_file_beside_the_configuration_is_what_its_name_stands_for() {
    let folder = Folder::new();
    let shipped = |kind: &str, name: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests stand in the root");
        fs::read_to_string(root.join("config").join(kind).join(name)).expect("it ships")
    };
    for kind in ["links", "gates"] {
        fs::create_dir(folder.path(kind)).expect("writable");
    }
    let lan = folder.path("links/lan.toml");
    let link = |output: &Output| {
        let said = said(output);
        said.lines().find(|line| line.starts_with("ok: link: ")).unwrap_or_default().to_owned()
    };
    // As it ships, a file is the built-in profile.
    fs::write(&lan, shipped("links", "lan.toml")).expect("writable");
    let output = folder.run("party", PARTY0, true);
    expect(&output, DONE, &[], "as it ships");
    assert!(!link(&output).contains("links/lan.toml"), "{}", link(&output));
    // Edited, it is used.
    fs::write(&lan, shipped("links", "lan.toml").replace("delay_ms = 0.5", "delay_ms = 0.75"))
        .expect("writable");
    for (daemon, text) in [("party", PARTY0), ("dealer", DEALER)] {
        let output = folder.run(daemon, text, true);
        expect(&output, DONE, &[], "edited");
        assert!(
            link(&output).contains("links/lan.toml") && link(&output).contains("0.75 ms"),
            "{}",
            link(&output)
        );
    }
    // Garbage is noticed, by a start too.
    fs::write(&lan, "garbage").expect("writable");
    folder.refused("party", PARTY0, &["links/lan.toml"]);
    folder.refused("dealer", DEALER, &["links/lan.toml"]);
    // What another configuration may name, and what clients read, is looked at by people who check.
    fs::remove_file(&lan).expect("it is there");
    for name in ["links/wan.toml", "gates/gelu.toml"] {
        fs::write(folder.path(name), "garbage").expect("writable");
        expect(&folder.run("party", PARTY0, true), FAILED, &[name], name);
        fs::remove_file(folder.path(name)).expect("it is there");
    }
    // A client takes a file by its path, and a name for what is built in.
    let shifted = shipped("gates", "gelu.toml").replace("window_bits = 9", "window_bits = 10");
    fs::write(folder.path("gates/gelu.toml"), shifted).expect("writable");
    let window = |what: &str| {
        let output = folder.0.suf(&["describe", what, "--json"]);
        expect(&output, DONE, &[], what);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        json["window"].as_f64().expect("a number")
    };
    assert_eq!((window("gelu"), window("gates/gelu.toml")), (4.0, 8.0));
}

#[test]
fn models_of_a_file_are_measured_instead_of_the_built_in_ones() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |text: &str| fs::write(folder.path().join("models.toml"), text).expect("writable");
    let bench = |more: &[&str]| {
        let mut suf = Command::new(PROGRAM);
        suf.args([
            "bench",
            "--models-file",
            "models.toml",
            "--protocols",
            "onehot",
            "--repeats",
            "1",
            "--json",
        ]);
        suf.args(more).current_dir(folder.path()).output().expect("suf starts")
    };
    write("[tiny]\ngate = \"gelu\"\nwidth = 3\nlayers = 2\n");
    let output = bench(&["--seq", "2"]);
    expect(&output, DONE, &[], "a row of one's own");
    let records: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&records[0]["model"], &records[0]["gate_elems"]), (&"tiny".into(), &6.into()));
    expect(&bench(&["--models", "bert-base"]), 2, &["bert-base", "tiny"], "a row that is not there");
    write("garbage");
    expect(&bench(&[]), 2, &["models.toml", "line 1"], "garbage");
}

/// Somebody who edits a shipped file reads in it whether that has an effect.
#[test]
fn every_shipped_file_says_at_its_head_how_it_is_used() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut read = 0;
    for kind in ["links", "gates", "specs", "models", ""] {
        for entry in fs::read_dir(config.join(kind)).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a file");
            let head: String = text.lines().take_while(|line| line.starts_with('#')).collect();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let words = match kind {
                "" if name == "models.toml" => "--models-file config/models.toml".to_owned(),
                "" => format!("--config {name}"),
                "links" => format!("--links config/links/{name}"),
                "gates" => format!("--gate config/gates/{name}"),
                "models" => format!("--plan config/models/{name}"),
                _ => format!("--spec config/specs/{name}"),
            };
            assert!(head.contains(&words), "{}: '{words}' is missing at its head", path.display());
            read += 1;
        }
    }
    assert!(read > 15, "{read} files");
}
