//! Skips are listed, and fail where they are forbidden. The tests start this program again, with variables of their own.

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use suf_skip::{LIST, Need, REQUIRE, required, skip};

/// Set in the processes that the tests start: what is skipped, and why.
const REASON: &str = "SUF_SKIPS_REASON";

const SKIPS: &str = "skips_where_a_test_asks_for_it";
const PROCESSES: usize = 8;

/// A typing error in the variable of this very run would otherwise forbid nothing.
#[test]
fn the_variable_of_this_run_names_known_needs() {
    required().unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn names_are_told_apart() {
    for need in Need::ALL {
        assert_eq!(Need::from_name(need.name()), Ok(need));
    }
    let error = Need::from_name("netme").expect_err("unknown");
    assert!(error.contains("'netme' is unknown") && error.contains("netem, namespaces"), "{error}");
}

#[test]
fn skips_where_a_test_asks_for_it() {
    if let Ok(reason) = env::var(REASON) {
        skip(Need::Ipv6, reason);
    }
}

#[test]
fn a_skip_is_said_listed_and_passes() {
    let folder = tempdir("passes");
    let list = folder.join("skips");
    let output = run(&list, "", "no IPv6\n  here");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("SKIPPED (ipv6): no IPv6 here\n"), "{said}");
    let [line] = lines(&list).try_into().expect("one line");
    let fields: Vec<_> = line.split('\t').collect();
    let [need, place, test, reason] = fields.try_into().expect("four fields");
    assert_eq!((need, test, reason), ("ipv6", SKIPS, "no IPv6 here"));
    assert!(place.contains("skips.rs:"), "{place}");
}

#[test]
fn a_skip_that_is_forbidden_fails_and_is_listed() {
    let folder = tempdir("forbidden");
    for (at, (require, fails)) in
        [("ipv6", true), ("netem, ipv6", true), ("netem", false), (" , ", false), ("netme", true)]
            .into_iter()
            .enumerate()
    {
        let list = folder.join(at.to_string());
        let output = run(&list, require, "none");
        assert_eq!(output.status.success(), !fails, "{require}: {output:?}");
        assert_eq!(lines(&list).len(), 1, "{require}");
    }
}

#[test]
fn a_list_that_cannot_be_written_fails() {
    let output = run(Path::new("/no/such/folder/skips"), "", "none");
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn processes_at_one_time_lose_no_line() {
    let folder = tempdir("parallel");
    let list = folder.join("skips");
    let long = "so ".repeat(1000);
    let started: Vec<Child> = (0..PROCESSES)
        .map(|at| command(&list, "", &format!("{at} {long}")).spawn().expect("we start again"))
        .collect();
    for process in started {
        assert!(process.wait_with_output().expect("it ends").status.success());
    }
    let lines = lines(&list);
    assert_eq!(lines.len(), PROCESSES);
    for at in 0..PROCESSES {
        let reason = format!("\t{at} {}", long.trim_end());
        assert_eq!(lines.iter().filter(|line| line.ends_with(&reason)).count(), 1, "process {at}");
    }
}

fn run(list: &Path, require: &str, reason: &str) -> Output {
    command(list, require, reason).output().expect("we start again")
}

fn command(list: &Path, require: &str, reason: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("our path"));
    command.args(["--nocapture", "--exact", SKIPS]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env(LIST, list).env(REQUIRE, require).env(REASON, reason);
    command
}

fn lines(list: &Path) -> Vec<String> {
    fs::read_to_string(list).expect("a list").lines().map(Into::into).collect()
}

/// An empty folder of this test.
fn tempdir(name: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skips").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("ours");
    }
    fs::create_dir_all(&folder).expect("the folder is writable");
    folder
}
