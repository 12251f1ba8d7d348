//! deploy/README.md, executed: each block that names its host runs on that host, word by word but for the addresses.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use suf_gate::{Protocol, catalog, gatefile::GateFile};
use suf_lab::{Host, Lab, LabPlan, NamedProfile, check_kernel, uml};
use suf_skip::{Need, skip};
use suf_tests::{
    inputs,
    models::{TEXTS, Tiny, vectors},
    npy,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");
const README: &str = include_str!("../../deploy/README.md");

/// The walk-through's network, and the lab's that stands for it.
const NETWORK: [&str; 2] = ["10.0.0.", "10.77.2."];

/// The folder of the walk-through's model, and that of the owner of private weights. A tiny one stands for both.
const MODELS: [&str; 2] = ["all-MiniLM-L6-v2", "my-model"];

/// What tells that texts were padded to a bucket: none has as many tokens.
const PADDED: &str = "of 16 tokens: ";

/// A copy between hosts, for machines without ssh: the hosts' home folders stand side by side.
const SCP: &str = r#"#!/bin/sh
place() {
    case $1 in
    10.77.2.1:*) echo "$HOSTS/party0/${1#*:}" ;;
    10.77.2.2:*) echo "$HOSTS/party1/${1#*:}" ;;
    10.77.2.3:*) echo "$HOSTS/dealer/${1#*:}" ;;
    *:*) echo "no host in $1" >&2; exit 1 ;;
    *) echo "$1" ;;
    esac
}
for last; do :; done
to=$(place "$last") || exit 1
while [ $# -gt 1 ]; do
    from=$(place "$1") || exit 1
    case $from in *.key) echo "a private key travels: $1" >&2; exit 1 ;; esac
    cp -p "$from" "$to" || exit 1
    shift
done
"#;

/// A block of the walk-through.
#[derive(Debug)]
struct Block {
    host: Host,
    daemon: bool,
    commands: String,
}

/// A daemon that ends with the test.
struct Daemon(Child);

#[test]
fn the_walk_through_works() {
    match check_kernel() {
        Ok(()) => walk(),
        Err(why) => match uml::instead_of_host(why) {
            Ok(why) => {
                eprintln!("in a user-mode kernel: {why}");
                let command = [env::current_exe().expect("our path").into(), "--nocapture".into()];
                assert_eq!(uml::run(&command).expect("the kernel runs"), 0);
            }
            Err(why) => skip(Need::Namespaces, format!("the walk-through was not executed: {why}")),
        },
    }
}

#[test]
fn the_walk_through_starts_every_daemon_and_ends_at_the_client() {
    let blocks = blocks();
    let daemons = blocks.iter().filter(|block| block.daemon);
    assert_eq!(
        daemons.map(|block| block.host).collect::<Vec<_>>(),
        [Host::Dealer, Host::Party0, Host::Party1]
    );
    assert_eq!(blocks.last().map(|block| block.host), Some(Host::Client));
}

fn walk() {
    let profile = NamedProfile::find("loopback").expect("built in");
    let lab = Lab::up(LabPlan::uniform(profile)).expect("a lab");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    prepare(root);
    let mut daemons = Vec::new();
    for block in blocks() {
        eprintln!("{}:\n{}", block.host, block.commands);
        let mut shell = shell(&lab, root, &block);
        if block.daemon {
            daemons.push(Daemon::start(shell));
        } else {
            let output = shell.output().expect("a shell");
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "on {}: {}\n{log}", block.host, block.commands);
            let embeds = block.commands.starts_with("suf embed ");
            assert!(!embeds || log.contains(PADDED), "{log}");
        }
    }
    let file = GateFile::builtin("gelu").expect("built in");
    let gate = catalog::gate(&file, Protocol::Onehot, None).expect("in the file");
    let home = home(root, Host::Client);
    let (x, y) = (npy::read_i64(&home.join("x.npy")), npy::read_i64(&home.join("y.npy")));
    assert_eq!(x.len(), y.len());
    assert!(x.iter().zip(&y).all(|(x, y)| gate.reference(*x).contains(y)));
    let tiny = Tiny::load();
    for file in ["v.npy", "private.npy"] {
        for (text, vector) in TEXTS.iter().zip(vectors(&home.join(file), TEXTS.len())) {
            tiny.check_text(text, &vector).expect("the vector of the text");
        }
    }
    drop(daemons);
    only_own_keys(root);
}

/// Each private key is where it is used, and nowhere else.
fn only_own_keys(root: &Path) {
    for (host, wanted) in [
        (Host::Dealer, &["pki/dealer.key"][..]),
        (Host::Party0, &["pki/party0.key"]),
        (Host::Party1, &["pki/party1.key"]),
        (Host::Client, &["authority/ca.key", "pki/client.key", "pki/model.key", "pki/operator.key"]),
    ] {
        let home = home(root, host);
        let found = Command::new("find").args([".", "-name", "*.key"]).current_dir(home).output();
        let found = String::from_utf8(found.expect("find runs").stdout).expect("text");
        let mut found: Vec<_> = found.lines().map(|line| line.trim_start_matches("./")).collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "{host}");
    }
}

/// Folders as section 1 of the walk-through leaves them, the model, and the client's tensor and texts.
fn prepare(root: &Path) {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for host in Host::ALL {
        let home = home(root, host);
        fs::create_dir_all(&home).expect("writable");
        let copied = Command::new("cp").arg("-r").arg(&config).arg(home.join("config")).status();
        assert!(copied.expect("cp runs").success());
        Tiny::load().write(&home.join(MODELS[0]));
    }
    let programs = programs(root);
    fs::create_dir(&programs).expect("writable");
    symlink(PROGRAM, programs.join("suf")).expect("writable");
    fs::write(programs.join("scp"), SCP).expect("writable");
    fs::set_permissions(programs.join("scp"), fs::Permissions::from_mode(0o755)).expect("ours");
    let file = GateFile::builtin("gelu").expect("built in");
    let gate = catalog::gate(&file, Protocol::Onehot, None).expect("in the file");
    let client = home(root, Host::Client);
    npy::write_i64(&client.join("x.npy"), &inputs::awkward(&gate, 1001, 1));
    Tiny::load().write(&client.join(MODELS[1]));
    fs::write(client.join("texts.txt"), TEXTS.join("\n")).expect("writable");
}

/// A shell on the block's host, in its folder, that stops at the first command that fails.
fn shell(lab: &Lab, root: &Path, block: &Block) -> Command {
    let path = format!("{}:{}", programs(root).display(), env::var("PATH").unwrap_or_default());
    let mut shell = lab.command(block.host, "sh");
    let commands = block.commands.replace(NETWORK[0], NETWORK[1]);
    // A daemon takes the shell's place, so that it is what is ended.
    let commands = if block.daemon { format!("exec {commands}") } else { commands };
    shell.args(["-e", "-c", &commands]).current_dir(home(root, block.host));
    shell.env("PATH", path).env("HOSTS", root).stdin(Stdio::null());
    shell
}

/// `~/suf` of a host.
fn home(root: &Path, host: Host) -> PathBuf {
    root.join(host.name()).join("suf")
}

fn programs(root: &Path) -> PathBuf {
    root.join("bin")
}

/// The blocks whose first line names a host: "```sh party0", and " daemon" if it stays.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        let Some(words) = line.strip_prefix("```sh ") else { continue };
        let (name, daemon) = words.strip_suffix(" daemon").map_or((words, false), |name| (name, true));
        let host = Host::ALL.into_iter().find(|host| host.name() == name);
        let host = host.unwrap_or_else(|| panic!("the walk-through has no host {name}"));
        let commands: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(Block { host, daemon, commands: commands.join("\n") });
    }
    blocks
}

impl Daemon {
    /// Starts it and waits for the line that says that it is ready.
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a daemon prints text");
        assert!(line.contains("\"ready\""), "instead of a ready line: {line:?}");
        Self(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be dead already; either way it is gone afterwards.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
