//! A GPU that is lost in the middle of a run, by real daemons. A library before the NVIDIA driver makes it fail: from a
//! kernel of the test's choice on, it returns the errors of a lost card. Where there is no GPU, the host emulates one.

#[path = "../../kernels/cuda/tests/host/mod.rs"]
mod host;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use host::HostGpu;
use suf_gate::{Protocol, catalog, gatefile::GateFile};
use suf_process::BackendChoice;
use suf_skip::{Need, skip};
use suf_tests::{
    inputs, npy,
    pages::{Page, until},
    processes::{CAPTURE, Hosts, NAMES, check_from_outside, expect, loopback_with_lanes},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");
const SHIM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gpu/lost_driver.c");

const DONE: i32 = 0;
const FAILED: i32 = 1;

/// The pages on which daemons tell of their GPUs, and how soon they do.
const ADMIN: &str = "admin = \"127.0.0.1:0\"";
const SOON: Duration = Duration::from_secs(10);

/// Elements of a run: three tiles.
const ELEMS: usize = 150_000;

/// Of the parties' connection: exchanges are then made on their tile's lane.
const LANES: usize = 4;

/// The test, and the variable that says that the host plays the GPU.
const TEST: &str = "a_lost_gpu_costs_the_run_and_the_next_one_is_computed_all_the_same";
const PLAYED: &str = "SUF_GPU_IS_PLAYED";

/// What the driver says of a kernel that ended badly, of memory beyond repair, and of a card that is not there.
const LAUNCH_FAILED: u32 = 719;
const ECC_UNCORRECTABLE: u32 = 214;
const DEVICE_UNAVAILABLE: u32 = 46;

/// Kernels after which a card is lost. A party starts one for each tile to take its key, and one to mask its input
/// before the first exchange: six in all. A dealer starts two or more for each tile.
const INTO_EVALUATION: u32 = 8;
const INTO_DEALING: u32 = 2;

#[test]
fn a_lost_gpu_costs_the_run_and_the_next_one_is_computed_all_the_same() {
    let (driver, folder) = match (BackendChoice::Cuda.backend(0), real_driver()) {
        (Ok(_), Some(driver)) => (driver, tempfile::tempdir().expect("a temporary folder")),
        _ if env::var_os(PLAYED).is_none() => return on_a_played_gpu(),
        (Ok(_), None) => panic!("the driver's library is not found"),
        (Err(why), _) => panic!("the host plays no GPU: {why}"),
    };
    if let Err(why) = build(&driver, folder.path()) {
        return skip(Need::Cc, format!("no GPU was lost: {why}"));
    }
    let mut hosts = Hosts::prepare(Path::new(PROGRAM)).logging(CAPTURE);
    for name in NAMES {
        hosts.set_env(name, "LOST_GPU_FILE", order(&hosts, name).into());
        hosts.set_env(name, "LD_LIBRARY_PATH", before(folder.path(), "LD_LIBRARY_PATH"));
    }
    let link = loopback_with_lanes(hosts.folder(), LANES);
    // The dealer and party 1 may use the CPU when there is no GPU any more; party 0 is told to use a GPU.
    hosts.start_daemons(|name, config| match name {
        "party0" => format!("{ADMIN}\n{link}\n{}", config.replace("backend = \"cpu\"", "backend = \"cuda\"")),
        "party1" => format!("{ADMIN}\n{link}\n{}", config.replace("backend = \"cpu\"", "backend = \"auto\"")),
        _ => format!("{ADMIN}\n{}", config.replace("backend = \"cpu\"", "backend = \"auto\"")),
    });
    NAMES.iter().for_each(|name| gpu_is_there(&mut hosts, name));
    let file = GateFile::builtin("gelu").expect("built in");
    let gate = catalog::gate(&file, Protocol::Onehot, None).expect("in the file");
    let x = inputs::awkward(&gate, ELEMS, 1);
    npy::write_i64(&hosts.folder().join("x.npy"), &x);
    let works = |hosts: &Hosts, backends: [&str; 2], what: &str| {
        let output = hosts.onehot("x.npy");
        expect(&output, DONE, &[], what);
        let y = npy::read_i64(&hosts.folder().join("y.npy"));
        assert_eq!(y.len(), x.len(), "{what}");
        assert!(x.iter().zip(&y).all(|(x, y)| gate.reference(*x).contains(y)), "{what}");
        let used = ["party0", "party1"].map(|name| hosts.last_figures(name)["backend"].take());
        assert_eq!(used, backends, "{what}");
    };
    works(&hosts, ["cuda", "cuda"], "before anything is lost");

    lose(&hosts, "party1", INTO_EVALUATION, LAUNCH_FAILED);
    expect(&hosts.onehot("x.npy"), FAILED, &["party", "device lost"], "while party 1 loses its GPU");
    ended_while(&hosts, "party1", "Evaluating");
    gpu_is_missed(&mut hosts, "party1");
    works(&hosts, ["cuda", "cpu"], "after party 1 has lost its GPU");

    lose(&hosts, "dealer", INTO_DEALING, ECC_UNCORRECTABLE);
    expect(&hosts.onehot("x.npy"), FAILED, &["dealer", "device lost"], "while the dealer loses its GPU");
    gpu_is_missed(&mut hosts, "dealer");
    works(&hosts, ["cuda", "cpu"], "after the dealer has lost its GPU");

    lose(&hosts, "party0", INTO_EVALUATION, DEVICE_UNAVAILABLE);
    expect(&hosts.onehot("x.npy"), FAILED, &["party 0", "device lost"], "while party 0 loses its GPU");
    ended_while(&hosts, "party0", "Evaluating");
    expect(&hosts.onehot("x.npy"), FAILED, &["party 0", "device lost"], "party 0 may not use its CPU");
    gpu_is_missed(&mut hosts, "party0");

    for name in NAMES {
        assert!(hosts.is_alive(name), "{name} died: {}", hosts.log(name));
        if name != "party0" {
            let log = hosts.log(name);
            assert!(log.contains("the CPU computes until this daemon is started again"), "{name}: {log}");
        }
        fs::remove_file(order(&hosts, name)).expect("it was written");
    }
    for name in ["party0", "party1"] {
        hosts.kill(name);
        hosts.restart(name);
        gpu_is_there(&mut hosts, name);
    }
    works(&hosts, ["cuda", "cuda"], "with new GPUs");
    hosts.check_batches(6);
    check_from_outside(&[&hosts]);
}

/// Waits until `name` says that its GPU is there.
fn gpu_is_there(hosts: &mut Hosts, name: &str) {
    until(hosts, name, "/readyz", SOON, |page| page.text.contains("ok: device\n"));
}

/// Waits until `name` says that its GPU is lost, which makes it not ready.
fn gpu_is_missed(hosts: &mut Hosts, name: &str) {
    let missed = |page: &Page| page.status == 503 && page.text.contains("failed: device: ");
    until(hosts, name, "/readyz", SOON, missed);
}

/// Starts this test again, with a GPU that the host plays.
fn on_a_played_gpu() {
    let host = match HostGpu::build() {
        Ok(host) => host,
        Err(why) => return skip(Need::Cxx, format!("no GPU was lost: {why}")),
    };
    let mut again = Command::new(env::current_exe().expect("this program has a path"));
    again.envs(host.variables());
    let output = again.args(["--nocapture", "--exact", TEST]).env(PLAYED, "1").output();
    let output = output.expect("this program starts again");
    let [said, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said.contains(&format!("test {TEST} ... ok")), "{said}{errors}");
    println!("{said}{errors}");
}

/// From now on, `name` starts `kernels` more kernels, and then gets `error` from everything.
fn lose(hosts: &Hosts, name: &str, kernels: u32, error: u32) {
    fs::write(order(hosts, name), format!("{kernels} {error}")).expect("writable");
}

/// The file that tells the library before `name`'s driver what to do.
fn order(hosts: &Hosts, name: &str) -> PathBuf {
    hosts.folder().join(format!("lost-{name}"))
}

/// Checks that the last run that failed at `name` had come to `state`.
fn ended_while(hosts: &Hosts, name: &str, state: &str) {
    let log = hosts.log(name);
    let last = log.lines().rfind(|line| line.contains("run ended")).expect("a run has failed");
    eprintln!("{name}: {last}");
    assert!(last.contains(&format!("step={state}")) && last.contains("device lost"), "{name}: {last}");
}

/// Builds the library that stands before `driver`, under the names by which a driver is looked for.
fn build(driver: &Path, folder: &Path) -> Result<(), String> {
    // A library that carries the real one's path as its name is what the other then says it needs.
    let (named, shim) = (folder.join("named.so"), folder.join("libcuda.so.1"));
    let soname = format!("-Wl,-soname,{}", driver.display());
    let compile = |arguments: &[&OsString]| {
        let output = Command::new("cc").args(["-shared", "-fPIC", "-O1"]).args(arguments).output();
        let output = output.map_err(|error| format!("cc cannot be started: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("cc: {said}")) }
    };
    let empty = folder.join("empty.c");
    fs::write(&empty, "").expect("writable");
    compile(&[&soname.into(), &"-o".into(), &named.clone().into(), &empty.into()])?;
    let real = format!("-DREAL=\"{}\"", driver.display());
    let no_soname = "-Wl,--no-as-needed".into();
    compile(&[&real.into(), &"-o".into(), &shim.clone().into(), &SHIM.into(), &no_soname, &named.into()])?;
    std::os::unix::fs::symlink(shim, folder.join("libcuda.so")).expect("writable");
    Ok(())
}

/// `folder` before what the variable `name` lists.
fn before(folder: &Path, name: &str) -> OsString {
    let listed = env::var_os(name).unwrap_or_default();
    env::join_paths([folder.to_owned()].into_iter().chain(env::split_paths(&listed))).expect("no colons")
}

/// The driver's library, as the loader finds it: this process has it open.
fn real_driver() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let mut files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    files.find(|file| file.contains("/libcuda.so")).map(PathBuf::from)
}
