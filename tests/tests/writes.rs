//! Files that `suf` writes. They are whole or as they were, and are looked at before the work. A folder of results has
//! one writer. Also what an earlier command left damaged.

#[path = "../../kernels/model/tests/tiny/mod.rs"]
mod tiny;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use suf_lab::check_kernel;
use suf_link::LinkProfile;
use suf_skip::{Need, skip};
use suf_tests::{
    commands::{self, words},
    disk::SmallDisk,
    npy,
    processes::{Hosts, expect},
    users::files,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// Elements whose output, of 64 KiB, does not fit on a disk that has nothing left.
const MANY: usize = 8192;

#[test]
fn a_full_disk_leaves_every_file_that_suf_writes_as_it_was() {
    let Some(disk) = SmallDisk::mount(4) else {
        return skip(Need::Mount, "no disk was filled: mounting a small file system needs root");
    };
    let hosts = Hosts::start(Path::new(PROGRAM));
    let folder = tempfile::tempdir().expect("a temporary folder");
    npy::write_i64(&folder.path().join("x.npy"), &[4096; MANY]);
    for (name, bytes) in tiny::folder() {
        let path = folder.path().join("model").join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    fs::write(folder.path().join("texts.txt"), "the quick brown fox\n").expect("a file");
    fs::write(disk.path().join("README.md"), "<!-- suf report: begin -->\n<!-- suf report: end -->\n")
        .expect("there is room");
    let run = |arguments: &[String]| suf(folder.path(), arguments);
    for made in ["init DISK/authority", "request client --out DISK/request"] {
        let made = format!("pki {}", made.replace("DISK", &disk.path().display().to_string()));
        expect(&run(&words(&made)), DONE, &[], &made);
    }
    let all: Vec<_> =
        commands::all().iter().flat_map(|command| writers(command, disk.path(), &hosts)).collect();
    for arguments in &all {
        expect(&run(arguments), DONE, &[], &format!("{arguments:?} with room"));
    }
    let before = contents(disk.path());
    assert!(before.len() >= 30, "{:?}", before.keys());
    let filler = disk.fill();
    for arguments in &all {
        let what = format!("{arguments:?} on a full disk");
        let arguments: Vec<_> = arguments.iter().map(|word| word.replace("NEW", "NEXT")).collect();
        let output = run(&arguments);
        expect(&output, FAILED, &[&disk.path().display().to_string(), "space"], &what);
        let mut after = contents(disk.path());
        after.remove(&filler);
        assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "{what}");
        assert!(after == before, "{what} changed a file that stood there");
        if arguments[0] == "bench" {
            // Nothing measured is lost: it is printed, and its records are saved.
            let row = if arguments[1] == "model" { "exact" } else { "onehot" };
            assert!(String::from_utf8_lossy(&output.stdout).contains(row), "{what}: no table");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let saved = said.lines().find_map(|line| line.strip_prefix("what was measured is in "));
            let saved = fs::read_to_string(saved.expect("a place")).expect("records");
            let record: Value = serde_json::from_str(saved.lines().next().expect("a record")).expect("JSON");
            assert_eq!(record["protocol"], "onehot", "{what}");
        }
    }
}

/// Command lines by which `command` writes files to `disk`. A word with NEW names what must not exist yet.
fn writers(command: &str, disk: &Path, hosts: &Hosts) -> Vec<Vec<String>> {
    let disk = disk.display();
    let small = "--gate gelu --protocols onehot";
    match command {
        "bench" => {
            vec![words(&format!("bench {small} --elements 3 --repeats 1 --backend cpu --out {disk}/results"))]
        }
        "bench model" => vec![words(&format!(
            "bench model model --tokens 8 --repeats 1 --backend cpu --out {disk}/results --trace {disk}/trace.json"
        ))],
        "bench kernel" => vec![words(&format!("bench kernel {small} --samples 1 --out {disk}/results"))],
        "eval" => vec![words(&format!(
            "eval --local --backend cpu --protocol onehot --gate gelu --inputs x.npy --outputs {disk}/y.npy"
        ))],
        "embed" => vec![words(&format!("embed --local --model model --out {disk}/v.npy fox"))],
        "model calibrate" => {
            vec![words(&format!("model calibrate model --input texts.txt --out {disk}/plan.toml"))]
        }
        "model load" => {
            let certificate = hosts.folder().join("pki/model.pem").display().to_string();
            let [party0, url0, party1, url1, identity, _] = hosts.as_client();
            let load = format!("model load model --name NEW --public {disk}/NEW-public");
            vec![[words(&load), [party0, url0, party1, url1, identity, certificate].into()].concat()]
        }
        "report" => {
            let from = format!("report --from {disk}/results/records.jsonl");
            vec![words(&from), words(&format!("{from} --readme {disk}/README.md"))]
        }
        "lab slope" => match check_kernel() {
            Ok(()) => vec![words(&format!(
                "lab slope --kernel host --protocols onehot --delays-ms 5,30,60 --out {disk}/results"
            ))],
            Err(why) => {
                skip(Need::HostLab, format!("no slope was written to a full disk: {why}"));
                Vec::new()
            }
        },
        "pki init" => vec![words(&format!("pki init {disk}/NEW-pki"))],
        "pki request" => vec![words(&format!("pki request client --out {disk}/NEW-request"))],
        "pki sign" => vec![words(&format!(
            "pki sign {disk}/request/client.csr --ca {disk}/authority --role client --out {disk}/NEW-signed.pem"
        ))],
        "pki revoke" => {
            vec![words(&format!("pki revoke {disk}/authority/client.pem --ca {disk}/authority"))]
        }
        "pki issue" => vec![words(&format!("pki issue {disk}/authority client --name NEW-client"))],
        // These write no file.
        "model check" | "model list" | "model drop" | "describe" | "run" | "runs" | "watch" | "cancel"
        | "lab" | "lab up" | "lab down" | "lab status" | "dealer" | "party" | "completions" => Vec::new(),
        other => panic!("`suf {other}` is new: say here which files it writes"),
    }
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_anything_runs() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 9]);
    fs::create_dir(hosts.folder().join("folder")).expect("a new name");
    fs::write(hosts.folder().join("file"), "kept").expect("a new name");
    for (outputs, words) in [
        ("missing/y.npy", &["missing/y.npy", "No such file", "nothing was begun"][..]),
        ("folder", &["cannot write folder", "directory"]),
        ("file/y.npy", &["file/y.npy", "Not a directory"]),
    ] {
        let output = eval_to(&hosts, outputs).output().expect("suf starts");
        expect(&output, USAGE, words, outputs);
    }
    for party in ["party0", "party1"] {
        assert!(hosts.burnt(party).is_empty(), "{party} evaluated for an output that cannot be written");
    }
    for command in [
        "bench --gate gelu --elements 3 --out file",
        "bench kernel --out file",
        "report --from x.npy --out file",
        "lab slope --kernel host --out file",
    ] {
        let output = suf(hosts.folder(), &words(command));
        assert_ne!(output.status.code(), Some(DONE), "{command}");
        assert!(output.stdout.is_empty(), "{command} has measured");
    }
    assert_eq!(fs::read_to_string(hosts.folder().join("file")).expect("it is there"), "kept");
}

#[test]
fn a_tensor_that_goes_to_standard_output_is_alone_there() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 9]);
    let eval = || eval_to(&hosts, "/dev/stdout");
    let output = eval().output().expect("suf starts");
    expect(&output, DONE, &["onehot gelu on 9 elements"], "into a pipe");
    let (piped, redirected) = (hosts.folder().join("piped.npy"), hosts.folder().join("redirected.npy"));
    fs::write(&piped, &output.stdout).expect("the folder is writable");
    let into_file = eval().stdout(File::create(&redirected).expect("writable")).output().expect("suf starts");
    expect(&into_file, DONE, &["onehot gelu on 9 elements"], "into a file");
    for path in [piped, redirected] {
        assert_eq!(npy::read_i64(&path).len(), 9, "{}", path.display());
    }
}

#[test]
fn a_second_command_into_one_folder_of_results_is_told_who_writes_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut first = Command::new(PROGRAM)
        .args(words("bench --gate gelu --elements 100000 --repeats 1000 --protocols onehot --backend cpu --out results"))
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("suf starts");
    let mut line = String::new();
    let mut said = BufReader::new(first.stderr.take().expect("piped"));
    // It says what it is when it has the folder.
    said.read_line(&mut line).expect("text");
    assert!(line.starts_with("suf "), "{line}");
    let holder = format!("suf bench (process {})", first.id());
    for command in ["bench --gate gelu --elements 3 --out results", "bench kernel --out results"] {
        let output = suf(folder.path(), &words(command));
        expect(&output, USAGE, &["results", &holder, "--out"], command);
    }
    let stopped = Command::new("kill").args(["-TERM", &first.id().to_string()]).status();
    assert!(stopped.expect("kill runs").success());
    first.wait().expect("it is ours");
    let after = "bench --gate gelu --elements 3 --repeats 1 --protocols onehot --backend cpu --out results";
    expect(&suf(folder.path(), &words(after)), DONE, &[], "when the folder is free again");
}

#[test]
fn damaged_results_of_earlier_commands_cost_no_bench_and_no_report() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let results = folder.path().join("results");
    fs::create_dir(&results).expect("a new name");
    fs::write(results.join("kernel.jsonl"), "{\"half\": ").expect("writable");
    fs::write(results.join("slopes.json"), b"[{\xff").expect("writable");
    fs::write(results.join("records.jsonl"), "{\"also\": ").expect("writable");
    let bench = "bench --gate gelu --elements 3 --repeats 1 --protocols onehot --backend cpu --out results";
    let output = suf(folder.path(), &words(bench));
    expect(&output, DONE, &["warning", "kernel.jsonl:1", "slopes.json"], "a bench beside damaged files");
    assert!(String::from_utf8_lossy(&output.stdout).contains("onehot"), "no table");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let place = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words:?} is missing in: {said}"));
    assert!(place("kernel.jsonl:1") < place(" on "), "looked at after the measuring: {said}");
    assert_eq!(fs::read_to_string(results.join("kernel.jsonl")).expect("kept"), "{\"half\": ");

    // A bench of an earlier version that was killed while it wrote: the whole records count.
    let record = fs::read_to_string(results.join("records.jsonl")).expect("made anew");
    fs::write(results.join("records.jsonl"), format!("{record}{}", &record[..100])).expect("writable");
    let output = suf(folder.path(), &words("report"));
    expect(&output, DONE, &["records.jsonl:2", "left out"], "a report of one record and a half");
    fs::write(results.join("records.jsonl"), &record[..100]).expect("writable");
    let output = suf(folder.path(), &words("report"));
    expect(&output, USAGE, &["records.jsonl", "no record"], "a report of half a record");
}

#[test]
fn folders_may_have_odd_names() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    for name in ["e\u{301}tude", "quo\"te'", "back\\slash", "two  words", "line\nbreak", "$(id)"] {
        let folder = parent.path().join(name);
        fs::create_dir(&folder).expect("a new name");
        let (_, loopback) = LinkProfile::BUILT_IN[0];
        fs::write(folder.join("ours.toml"), loopback).expect("writable");
        let bench =
            "bench --gate gelu --elements 3 --repeats 1 --protocols onehot --backend cpu --links ./ours.toml";
        let output = Command::new(PROGRAM)
            .args(words(bench))
            .current_dir(&folder)
            .env("TMPDIR", &folder)
            .output()
            .expect("suf starts");
        expect(&output, DONE, &[], name);
        assert!(folder.join("results/report.html").is_file(), "{name}");
    }
}

/// `suf eval` of `x.npy` with its output at `outputs`.
fn eval_to(hosts: &Hosts, outputs: &str) -> Command {
    let eval = hosts.eval(&["--protocol", "onehot"], "x.npy");
    let mut command = Command::new(PROGRAM);
    command.args(eval.get_args().map(|word| if word == "y.npy" { outputs.as_ref() } else { word }));
    command.current_dir(hosts.folder()).stdin(Stdio::null());
    command
}

fn suf(folder: &Path, arguments: &[String]) -> Output {
    // The folder for temporary files is the test's own: what is saved there goes with it.
    let mut command = Command::new(PROGRAM);
    command.args(arguments).current_dir(folder).env("TMPDIR", folder).stdin(Stdio::null());
    command.output().expect("suf starts")
}

/// All files under `folder` but the lock, which says who wrote last.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let own = files(folder).into_iter().filter(|path| !path.ends_with(".suf-lock"));
    own.map(|path| (path.clone(), fs::read(&path).expect("readable"))).collect()
}
