//! Memory: what the daemons hold, as the system counts it and as they do.

use std::{fs, path::Path};

use suf_tests::{
    npy,
    processes::{Hosts, expect},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const MIB: u64 = 1 << 20;

/// What a dealer takes besides its keys: the program, the buffers of its network, and what its threads work with.
const DEALER_BESIDE_KEYS: u64 = 192 * MIB;

/// Batches of every protocol, each larger than the memory for keys, one after the other.
#[test]
fn the_dealer_stays_within_its_memory_whatever_it_deals() {
    const MEMORY_MB: u64 = 128;
    let mut hosts = Hosts::start_with(Path::new(PROGRAM), |name, config| match name {
        "dealer" => format!("memory_mb = {MEMORY_MB}\nbackend = \"cpu\"\n{config}"),
        _ => config,
    });
    // Not a multiple of the chunk, so that the last one has a size of its own.
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 500_000]);
    for protocol in ["sigma", "suf", "onehot", "dpf", "suf-lut", "sigma"] {
        let output = hosts.eval(&["--protocol", protocol], "x.npy").output().expect("suf starts");
        expect(&output, 0, &[], protocol);
    }
    let peak = peak_memory(hosts.pid("dealer"));
    let most = MEMORY_MB * MIB + DEALER_BESIDE_KEYS;
    println!("the dealer's peak: {} MiB", peak / MIB);
    assert!(peak <= most, "{} MiB, more than {}", peak / MIB, most / MIB);
}

/// `VmHWM` of a process, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the system counts");
    kib.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}
