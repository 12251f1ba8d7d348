//! GPUs that cannot be used, or not for this run: none, a driver that is too old, too little memory. The host plays them, on any
//! machine.

#[path = "../../kernels/cuda/tests/host/mod.rs"]
mod host;

use std::{fs, path::Path, process::Command};

use host::HostGpu;
use suf_gate::TILE_ELEMS;
use suf_skip::{Need, skip};
use suf_tests::{
    npy,
    processes::{Hosts, NAMES, expect},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;
const FAILED: i32 = 1;

/// What is wrong with a GPU, and what is said about it.
const UNUSABLE: [(&str, &str, &str); 2] =
    [("PLAYED_GPUS", "0", "0 are there"), ("PLAYED_VERSION", "12040", "12.8 is the oldest that is used")];

/// Enough for some elements, and not for a tile of `onehot`'s keys.
const FEW_BYTES: &str = "4000000";

fn played() -> Option<HostGpu> {
    HostGpu::build().map_err(|why| skip(Need::Cxx, format!("no GPU was emulated: {why}"))).ok()
}

#[test]
fn a_gpu_that_cannot_be_used_is_an_error_or_leaves_the_cpu() {
    let Some(host) = played() else { return };
    for (variable, value, said) in UNUSABLE {
        let hosts = start(&host, "auto", (variable, value));
        expect(&hosts.onehot("few.npy"), DONE, &[], said);
        for name in ["party0", "party1"] {
            assert_eq!(hosts.last_figures(name)["backend"], "cpu", "{said}");
        }
        for name in NAMES {
            let log = hosts.log(name);
            assert!(log.contains("the CPU computes") && log.contains(said), "{name}: {log}");
        }
        // The same party, told to use it.
        let config = hosts.folder().join("party0.toml");
        let config = fs::read_to_string(config).expect("it is there").replace("\"auto\"", "\"cuda\"");
        fs::write(hosts.folder().join("cuda.toml"), config).expect("writable");
        let mut party: Command = hosts.command(&["party", "--config", "cuda.toml"]);
        let output = party.envs(host.variables()).env(variable, value).output().expect("it starts");
        expect(&output, FAILED, &[said], said);
    }
}

#[test]
fn a_run_that_does_not_fit_fails_and_the_next_one_works() {
    let Some(host) = played() else { return };
    let mut hosts = start(&host, "cuda", ("PLAYED_BYTES", FEW_BYTES));
    npy::write_i64(&hosts.folder().join("many.npy"), &vec![4096; TILE_ELEMS]);
    for _ in 0..2 {
        expect(&hosts.onehot("few.npy"), DONE, &[], "few elements fit");
        expect(&hosts.onehot("many.npy"), FAILED, &["out of memory"], "a tile does not");
    }
    expect(&hosts.onehot("few.npy"), DONE, &[], "few elements fit");
    for name in NAMES {
        assert!(hosts.is_alive(name), "{name} died: {}", hosts.log(name));
    }
    hosts.check_batches(3);
}

/// Daemons with the GPU that `host` plays, of which `wrong` is wrong.
fn start(host: &HostGpu, backend: &str, wrong: (&'static str, &str)) -> Hosts {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    let variables = host.variables().map(|(variable, value)| (variable, value.into_os_string()));
    for (variable, value) in variables.into_iter().chain([(wrong.0, wrong.1.into())]) {
        NAMES.iter().for_each(|name| hosts.set_env(name, variable, value.clone()));
    }
    let backend = format!("backend = \"{backend}\"");
    hosts.start_daemons(|name, config| match name {
        "dealer" => format!("{backend}\n{config}"),
        _ => config.replace("backend = \"cpu\"", &backend),
    });
    npy::write_i64(&hosts.folder().join("few.npy"), &[4096; 9]);
    hosts
}
