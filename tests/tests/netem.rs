//! The gates on links that the kernel shapes: rounds as a slope, and our byte counts against those of `tc`. Inside a
//! user-mode kernel where this machine's own has no netem; where there is neither, a test says so and passes.

#[path = "../../kernels/model/tests/tiny/mod.rs"]
mod tiny;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

use serde_json::Value;
use suf_lab::{check_kernel, uml};
use suf_skip::{LIST, Need, REQUIRE, skip};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// 10 ms each way and 100 Mbit/s: what the slowest kernel carries.
const PROFILE: &str = "rate_bps = 100_000_000\ndelay_ms = 10.0\nlimit_packets = 2000\nmtu = 1500\n";

/// One lab at a time: a kernel that has to share its processor measures that.
static QUIET: Mutex<()> = Mutex::new(());

#[test]
fn bytes_on_the_wire_agree_with_the_kernels_own_count() {
    if !there_is_a_lab() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("link.toml"), PROFILE).expect("writable");
    let output = suf(
        folder.path(),
        &[
            "lab",
            "./link.toml",
            "--",
            PROGRAM,
            "bench",
            "--protocols",
            "onehot,sigma",
            "--gate",
            "gelu",
            "--elements",
            "20000",
            "--repeats",
            "2",
            "--out",
            "results",
            "--json",
        ],
    );
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    // `bench` fails when a direction is more than 1 % off; here it must have looked.
    let compared: Vec<_> = log.lines().filter(|line| line.contains("tc counted")).collect();
    assert_eq!(compared.len(), 2, "{log}");
    eprintln!("{}", compared.join("\n"));
    for record in json(&output).as_array().expect("records") {
        let number = |key: &str| record[key].as_f64().unwrap_or_else(|| panic!("{key} in {record}"));
        assert_eq!(record["link_kind"], "netem");
        assert_eq!(number("wrong"), 0.0);
        assert_eq!(number("eval_rounds"), number("declared_rounds"));
        assert!(number("rtt_ms") >= 20.0 && number("eval_ms") >= 10.0 * number("declared_rounds"));
        // Both directions' payload went over the wire within these bytes.
        assert!(number("wire_bytes") >= number("eval_bytes"), "{record}");
    }
}

/// A long delay: what a slow kernel adds to a run is small beside it.
const LONG_PROFILE: &str = "rate_bps = 100_000_000\ndelay_ms = 100.0\nlimit_packets = 6000\nmtu = 1500\n";

/// What the two may differ by.
const AGREEMENT: f64 = 0.05;

/// How many times the predicted time a model may take.
const MOST_OVER_PREDICTION: f64 = 1.35;

/// How often both are measured at most: a busy machine only ever adds, so the least of all counts.
const ATTEMPTS: usize = 3;

#[test]
fn the_shaped_socket_agrees_with_netem() {
    if !there_is_a_lab() {
        return;
    }
    let (mut netem, mut shaped) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ATTEMPTS {
        let [over_netem, over_shaped] = eval_ms_of_both();
        (netem, shaped) = (netem.min(over_netem), shaped.min(over_shaped));
        eprintln!("{netem:.1} ms over netem, {shaped:.1} ms over the shaped socket");
        if (shaped - netem).abs() <= AGREEMENT * netem {
            return;
        }
    }
    panic!("{netem} ms over netem, {shaped} ms over the shaped socket");
}

/// The least evaluation over netem and over the shaped socket, in milliseconds, in one kernel.
fn eval_ms_of_both() -> [f64; 2] {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("link.toml"), LONG_PROFILE).expect("writable");
    // The second time without the lab: on loopback of the same kernel, shaped by the parties' own sockets.
    let bench = "bench --protocols onehot --gate gelu --elements 50000 --repeats 11";
    let script = format!(
        "'{PROGRAM}' {bench} --out netem && env -u SUF_LAB '{PROGRAM}' {bench} --links ./link.toml --out shaped"
    );
    let output = suf(folder.path(), &["lab", "./link.toml", "--", "sh", "-c", &script]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ["netem", "shaped"].map(|kind| {
        let text = fs::read_to_string(folder.path().join(kind).join("records.jsonl")).expect("records");
        let record: Value = serde_json::from_str(&text).expect("one record");
        assert_eq!(record["link_kind"], kind, "{record}");
        let samples = record["eval_ms_samples"].as_array().expect("samples");
        samples.iter().filter_map(Value::as_f64).fold(f64::INFINITY, f64::min)
    })
}

#[test]
fn a_user_mode_kernel_that_dies_at_boot_is_named_and_tests_are_skipped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dies = "#!/bin/sh\nfor said in 'set fp regs failed' 'Kernel panic' 'Call Trace:' '[<1>] a' '[<2>] b' '[<3>] c'; do \
                echo \"$said\"; done\n";
    for (program, script) in [("linux.uml", dies), ("modprobe", "#!/bin/sh\n")] {
        let path = folder.path().join(program);
        fs::write(&path, script).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let others = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([folder.path().to_owned()].into_iter().chain(env::split_paths(&others)));
    let path = path.expect("no colons");
    let sentence =
        "linux.uml is installed, but dies at boot on this machine (set fp regs failed; Kernel panic); ";

    let command = ["lab", "--kernel", "uml", "wan", "--", "true"];
    let output = Command::new(PROGRAM).args(command).env("PATH", folder.path()).output().expect("suf starts");
    let said = String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    assert!(!output.status.success() && said.contains("this machine is at fault"), "{said}");
    assert!(said.contains(sentence) && said.contains("use a host kernel with sch_netem"), "{said}");
    // No compiler is found there, so that what would help on this processor is not at hand.
    let has_amx = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" amx_tile"));
    assert_eq!(said.contains("versions before 6.13 do so on processors with AMX"), has_amx, "{said}");

    if check_kernel().is_err() {
        let mut again = Command::new(env::current_exe().expect("our path"));
        again.args(["--nocapture", "--exact", "rounds_are_the_slope_of_time_over_delay"]).env("PATH", &path);
        // That skip is on purpose.
        again.env_remove(REQUIRE).env_remove(LIST);
        let output = again.output().expect("we start");
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!("{said}");
        assert!(output.status.success() && said.contains("SKIPPED") && said.contains(sentence), "{said}");
    }
}

#[test]
fn rounds_are_the_slope_of_time_over_delay() {
    if !there_is_a_lab() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    // It fails by itself when declaration, causal depth and slope differ, the slope by more than 2 %.
    let output = suf(folder.path(), &["lab", "slope", "--protocols", "onehot,sigma", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let slopes = json(&output);
    assert_eq!(slopes.as_array().map(Vec::len), Some(2));
    for slope in slopes.as_array().into_iter().flatten() {
        eprintln!("{} {}: {} rounds by slope", slope["protocol"], slope["gate"], slope["slope"]);
    }
}

/// Two layers of a transformer: 30 rounds after the opening of the inputs.
#[test]
fn rounds_of_a_model_are_the_slope_of_time_over_delay() {
    if !there_is_a_lab() {
        return;
    }
    let folder = with_a_model();
    // As above, it fails by itself.
    let lab = ["lab", "slope", "--model", "tiny", "--delays-ms", "10,30,50,70", "--repeats", "3", "--json"];
    let output = suf(folder.path(), &lab);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let slope = &json(&output)[0];
    assert_eq!((&slope["declared_rounds"], &slope["measured_rounds"]), (&30.into(), &30.into()));
    eprintln!("a model of two layers: {} rounds by slope", slope["slope"]);
}

/// Rounds x delay + bits / rate + the time on loopback of the same kernel.
#[test]
fn the_time_of_a_model_over_netem_is_what_the_link_predicts() {
    if !there_is_a_lab() {
        return;
    }
    let folder = with_a_model();
    fs::write(folder.path().join("link.toml"), LONG_PROFILE).expect("writable");
    let bench = ["bench", "model", "tiny", "--tokens", "9", "--repeats", "3", "--json"];
    let output = suf(folder.path(), &[&["lab", "./link.toml", "--", PROGRAM], &bench[..]].concat());
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("tc counted")).count(), 2, "{log}");
    let records = json(&output);
    let kinds: Vec<_> =
        records.as_array().expect("records").iter().map(|record| &record["link_kind"]).collect();
    assert_eq!(kinds, ["loopback", "netem"]);
    let prediction = &records[1]["prediction"];
    assert_eq!((&prediction["rounds_ms"], &prediction["delay_ms"]), (&3100.0.into(), &100.0.into()));
    assert_eq!(prediction["loopback_ms"], records[0]["eval_ms"]);
    let ratio = prediction["ratio"].as_f64().expect("a number");
    eprintln!("a model of two layers takes {ratio:.3} times what the link predicts");
    assert!(ratio <= MOST_OVER_PREDICTION, "{prediction}");
}

/// A folder with the tiny model in `tiny`.
fn with_a_model() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in tiny::folder() {
        let path = folder.path().join("tiny").join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    folder
}

fn there_is_a_lab() -> bool {
    match check_kernel().or_else(|why| uml::instead_of_host(why).map(drop)) {
        Ok(()) => true,
        Err(why) => {
            skip(Need::Netem, format!("nothing was measured over netem: {why}"));
            false
        }
    }
}

fn suf(folder: &Path, arguments: &[&str]) -> Output {
    let _quiet = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
    Command::new(PROGRAM).args(arguments).current_dir(folder).output().expect("suf starts")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}
