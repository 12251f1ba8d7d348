//! Standard output and standard error that are closed, full or no longer read. No command panics, its exit status is
//! the documented one, and its work is done.

#[path = "../../kernels/model/tests/tiny/mod.rs"]
mod tiny;

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use suf_lab::check_kernel;
use suf_skip::{Need, skip};
use suf_tests::{
    commands::{self, words},
    npy,
    processes::Hosts,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Closed,
    Full,
    Gone,
}

const FAULTS: [Fault; 3] = [Fault::Closed, Fault::Full, Fault::Gone];

/// The file descriptors of the two streams.
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

#[test]
fn every_command_ends_as_documented_whatever_becomes_of_its_output() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096, -4096, 0]);
    for (name, bytes) in tiny::folder() {
        let path = hosts.folder().join("model").join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    fs::write(hosts.folder().join("texts.txt"), "the quick brown fox\n").expect("a file");
    let records = run(&hosts, &bench("sample"), None);
    assert_eq!(records.status.code(), Some(DONE), "{}", said(&records));
    if let Err(why) = check_kernel() {
        skip(Need::HostLab, format!("no output of `suf lab`, which refuses to begin on this machine: {why}"));
    }
    let labs = kept_labs(&hosts);
    let mut case = 0;
    let mut fresh = || {
        case += 1;
        format!("case{case}")
    };
    for command in commands::all() {
        let sound = run(&hosts, &arguments(&hosts, &command, &fresh()), None);
        let code = sound.status.code();
        let may_fail = command.starts_with("lab");
        assert!(may_fail || code == Some(DONE), "{command}: {}", said(&sound));
        for (stream, fault) in [STDOUT, STDERR].into_iter().flat_map(|fd| FAULTS.map(|fault| (fd, fault))) {
            let what = format!("suf {command}, descriptor {stream} {fault:?}");
            let output = run(&hosts, &arguments(&hosts, &command, &fresh()), Some((stream, fault)));
            let prints = stream == STDOUT && !sound.stdout.is_empty();
            let due = if prints && fault == Fault::Full && code == Some(DONE) { Some(FAILED) } else { code };
            assert_eq!(output.status.code(), due, "{what}: {}", said(&output));
            assert!(!said(&output).contains("panicked"), "{what}: {}", said(&output));
            if due != code {
                assert!(said(&output).contains("standard output"), "{what}: {}", said(&output));
            }
        }
    }
    for lab in kept_labs(&hosts).into_iter().filter(|lab| !labs.contains(lab)) {
        assert_eq!(hosts.suf(&["lab", "down", &lab]).status.code(), Some(DONE), "{lab}");
    }
    // The work was done although nobody was shown: each evaluation has its output, each bench its records.
    let files = |ending: &str| {
        let entries = fs::read_dir(hosts.folder()).expect("a folder");
        let names = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("text"));
        names.filter(|name| name.starts_with("case") && name.ends_with(ending)).count()
    };
    let runs = 1 + 2 * FAULTS.len();
    assert_eq!(files(".npy"), 2 * runs, "evaluations or embeddings without an output");
    assert_eq!(files(".toml"), runs, "calibrations without a plan");
    assert_eq!(files(".bench"), 2 * runs, "benches without a folder");
    assert_eq!(files(".json"), runs, "benches of models without a trace");
    assert_eq!(files(".public"), runs, "loaded models without a folder for clients");
}

#[test]
fn help_and_wrong_usage_end_as_documented_whatever_becomes_of_the_output() {
    let hosts = Hosts::prepare(Path::new(PROGRAM));
    let helps = commands::all().into_iter().map(|command| format!("{command} --help"));
    for asked in helps.chain(["--help".into(), "--version".into(), "help pki".into()]) {
        let arguments: Vec<_> = asked.split(' ').map(str::to_owned).collect();
        for (fault, due) in [(Fault::Closed, DONE), (Fault::Full, FAILED), (Fault::Gone, DONE)] {
            let output = run(&hosts, &arguments, Some((STDOUT, fault)));
            assert_eq!(output.status.code(), Some(due), "{asked}, {fault:?}: {}", said(&output));
            assert!(!said(&output).contains("panicked"), "{asked}, {fault:?}: {}", said(&output));
        }
    }
    for wrong in [&["frobnicate"][..], &["eval"], &["describe", "no-such-gate"]] {
        let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        for fault in FAULTS {
            let output = run(&hosts, &wrong, Some((STDERR, fault)));
            assert_eq!(output.status.code(), Some(USAGE), "{wrong:?}, {fault:?}");
        }
    }
}

#[test]
fn a_run_that_is_watched_by_nobody_any_more_is_not_watched_on() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let id = start_run(&hosts);
    // The run waits for its input: it does not end by itself while this test runs.
    let mut watch = client(&hosts, &["watch", &id]).stdout(Stdio::piped()).spawn().expect("suf starts");
    drop(watch.stdout.take());
    let cancelled = client(&hosts, &["cancel", &id]).output().expect("suf starts");
    assert!(cancelled.status.success(), "{}", said(&cancelled));
    assert_eq!(watch.wait().expect("it is ours").code(), Some(DONE));
}

#[test]
fn daemons_serve_with_a_log_that_is_full_and_tell_a_full_output_to_the_log() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    for name in ["dealer", "party0", "party1"] {
        // Where the daemons' standard error goes.
        symlink("/dev/full", hosts.folder().join(format!("{name}.log"))).expect("a new name");
    }
    hosts.start_daemons(|_, config| config);
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 9]);
    let output = hosts.onehot("x.npy");
    assert_eq!(output.status.code(), Some(DONE), "{}", said(&output));
    for name in ["party1", "party0", "dealer"] {
        assert_eq!(hosts.terminate(name), Some(DONE), "{name}");
    }

    for fault in FAULTS {
        let mut command = broken(&hosts, &words("dealer --config dealer.toml"), STDOUT, fault);
        let mut dealer = command.stderr(Stdio::piped()).spawn().expect("sh starts");
        let mut log = BufReader::new(dealer.stderr.take().expect("piped"));
        let mut lines = String::new();
        while !lines.contains("keys=") {
            assert_ne!(log.read_line(&mut lines).expect("text"), 0, "{fault:?}: it ended: {lines}");
        }
        assert_eq!(
            lines.contains("standard output does not take"),
            fault == Fault::Full,
            "{fault:?}: {lines}"
        );
        let signal = Command::new("kill").args(["-TERM", &dealer.id().to_string()]).status();
        assert!(signal.expect("kill runs").success());
        log.read_to_string(&mut lines).expect("text");
        assert_eq!(dealer.wait().expect("it is ours").code(), Some(DONE), "{fault:?}: {lines}");
    }
}

/// Arguments with which `command` does its work on `hosts`; `fresh` is a name that nothing has yet.
fn arguments(hosts: &Hosts, command: &str, fresh: &str) -> Vec<String> {
    let of_one_party = |text: String| [words(&text), hosts.as_client_of("party0").into()].concat();
    let owner = |text: String| [words(&text), hosts.as_named("model").into()].concat();
    match command {
        "bench" => bench(&format!("{fresh}.bench")),
        "bench kernel" => {
            words(&format!("bench kernel --gate gelu --protocols onehot --samples 1 --out {fresh}"))
        }
        "bench model" => words(&format!(
            "bench model model --tokens 8 --repeats 1 --out {fresh}.bench --trace {fresh}.json"
        )),
        "eval" => words(&format!(
            "eval --local --backend cpu --protocol onehot --gate gelu --inputs x.npy --outputs {fresh}.npy"
        )),
        "embed" => words(&format!("embed --local --model model --out {fresh}.npy fox")),
        "model check" => words("model check model"),
        "model calibrate" => words(&format!("model calibrate model --input texts.txt --out {fresh}.toml")),
        "model load" => owner(format!("model load model --name {fresh} --public {fresh}.public")),
        "model list" => owner("model list".into()),
        "model drop" => {
            let name = format!("{fresh}.dropped");
            let load = owner(format!("model load model --name {name}"));
            let loaded = run(hosts, &load, None);
            assert!(loaded.status.success(), "{}", said(&loaded));
            owner(format!("model drop {name}"))
        }
        "describe" => words("describe gelu --protocol onehot"),
        "run" => {
            let run = "run --protocol onehot --gate gelu --elements 3 --deadline 60";
            [words(run), hosts.as_client().into()].concat()
        }
        "runs" => of_one_party("runs".into()),
        "watch" => {
            let id = start_run(hosts);
            let ended = client(hosts, &["cancel", &id]).output().expect("suf starts");
            assert!(ended.status.success(), "{}", said(&ended));
            of_one_party(format!("watch {id}"))
        }
        "cancel" => of_one_party(format!("cancel {}", start_run(hosts))),
        "pki init" => words(&format!("pki init {fresh}")),
        "pki request" => words(&format!("pki request client --out {fresh}")),
        "pki sign" => {
            let made = hosts.suf(&["pki", "request", "client", "--out", fresh]);
            assert!(made.status.success(), "{}", said(&made));
            words(&format!("pki sign {fresh}/client.csr --ca pki --role client --out {fresh}.pem"))
        }
        "pki revoke" => words("pki revoke pki/observer.pem --ca pki"),
        "pki issue" => words(&format!("pki issue pki client --name {fresh}")),
        "report" => words(&format!("report --from sample/records.jsonl --out {fresh}")),
        "lab" => words("lab --kernel host lan -- true"),
        "lab slope" => words("lab slope --kernel host --protocols onehot --delays-ms 1,2,3 --repeats 1"),
        "lab up" => words("lab up lan"),
        "lab down" => words("lab down nosuch"),
        "lab status" => words("lab status"),
        "dealer" => words("dealer --config dealer.toml --check"),
        "party" => {
            // The party at work holds its own state folder.
            let at_work = fs::read_to_string(hosts.folder().join("party1.toml")).expect("a configuration");
            let idle = at_work.replace("state-party1", "state-idle");
            assert_ne!(idle, at_work);
            fs::write(hosts.folder().join("idle.toml"), idle).expect("the folder is writable");
            words("party --config idle.toml --check")
        }
        "completions" => words("completions bash"),
        other => panic!("`suf {other}` is new: say here how it is called"),
    }
}

fn bench(out: &str) -> Vec<String> {
    words(&format!("bench --elements 3 --gate gelu --protocols onehot --repeats 1 --backend cpu --out {out}"))
}

/// `suf` with `arguments`, as the client of party 0, not started yet.
fn client(hosts: &Hosts, arguments: &[&str]) -> Command {
    let mut command = hosts.command(arguments);
    command.args(hosts.as_client_of("party0"));
    command
}

/// A run that waits for its input.
fn start_run(hosts: &Hosts) -> String {
    let start =
        ["run", "--protocol", "onehot", "--gate", "gelu", "--elements", "3", "--deadline", "60", "--json"];
    let started = hosts.command(&start).args(hosts.as_client()).output().expect("suf starts");
    assert!(started.status.success(), "{}", said(&started));
    let run: Value = serde_json::from_slice(&started.stdout).expect("JSON");
    run["run_id"].as_str().expect("an id").to_owned()
}

fn kept_labs(hosts: &Hosts) -> Vec<String> {
    let status = hosts.suf(&["lab", "status"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    let kept = text.lines().filter(|line| line.ends_with("kept"));
    kept.filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect()
}

/// Runs `suf` in the folder of `hosts` to its end, with one of its two streams broken.
fn run(hosts: &Hosts, arguments: &[String], broken_stream: Option<(u32, Fault)>) -> Output {
    match broken_stream {
        None => hosts.suf(&arguments.iter().map(String::as_str).collect::<Vec<_>>()),
        Some((stream, fault)) => {
            let mut command = broken(hosts, arguments, stream, fault);
            if stream == STDOUT {
                command.stderr(Stdio::piped())
            } else {
                command.stdout(Stdio::piped())
            };
            command.spawn().expect("sh starts").wait_with_output().expect("it is ours")
        }
    }
}

/// `suf`, not started yet, whose `stream` is broken; the other one is the caller's to set.
fn broken(hosts: &Hosts, arguments: &[String], stream: u32, fault: Fault) -> Command {
    let mut command = Command::new("sh");
    // Only a shell starts a process with a closed stream.
    let close = if fault == Fault::Closed { format!("{stream}>&-") } else { String::new() };
    command.args(["-c", &format!("exec \"$0\" \"$@\" {close}"), PROGRAM]).args(arguments);
    command.current_dir(hosts.folder()).stdin(Stdio::null());
    let end = match fault {
        Fault::Closed => Stdio::null(),
        Fault::Full => OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it").into(),
        // The reader is dropped here: the pipe has ended before the first byte.
        Fault::Gone => std::io::pipe().expect("a pipe").1.into(),
    };
    if stream == STDOUT {
        command.stdout(end)
    } else {
        command.stderr(end)
    };
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
