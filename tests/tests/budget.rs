//! Memory: what the daemons hold, as the system counts it and as they do.

use std::{fs, path::Path, process::Command};

use suf_control::v1::{InfoRequest, PartyInfo, RunState};
use suf_tests::{
    caller::{Caller, batches_dealt, by_id, gelu},
    npy,
    processes::{Hosts, NAMES, expect},
};
use suf_wire::{Party, RunId};
use tonic::Code;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const MIB: u64 = 1 << 20;

/// The largest tensor.
const MOST_ELEMS: u64 = 100_000_000;

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
    // Not a multiple of the tile, so that the last one has a size of its own.
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 500_000]);
    for protocol in ["sigma", "suf", "onehot", "dpf", "suf-lut", "sigma"] {
        let output = hosts.eval(&["--protocol", protocol], "x.npy").output().expect("suf starts");
        expect(&output, 0, &[], protocol);
    }
    let peak = memory(hosts.pid("dealer"), "VmHWM:");
    let most = MEMORY_MB * MIB + DEALER_BESIDE_KEYS;
    println!("the dealer's peak: {} MiB", peak / MIB);
    assert!(peak <= most, "{} MiB, more than {}", peak / MIB, most / MIB);
}

/// The smallest and the largest model row, under every protocol.
#[test]
fn the_peaks_of_a_benchmark_are_in_its_records_and_within_their_budgets() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(PROGRAM)
        .args(["bench", "--models", "bert-base,llama7b", "--repeats", "1", "--backend", "cpu", "--out"])
        .arg(out.path())
        .output()
        .expect("suf starts");
    expect(&output, 0, &[], "bench");
    let text = fs::read_to_string(out.path().join("records.jsonl")).expect("records");
    let mut rows = 0;
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("a record is JSON");
        let number = |field: &str| record[field].as_u64().unwrap_or_else(|| panic!("{field}: {record}"));
        let what = format!("{} {}", record["model"], record["protocol"]);
        let (dealer, party) = (number("dealer_peak_bytes"), number("party_peak_bytes"));
        let keys = number("key_bytes_p0").max(number("key_bytes_p1"));
        println!("{what}: dealer {} MiB, party {} MiB, keys {} MiB", dealer / MIB, party / MIB, keys / MIB);
        assert!((MIB..=512 * MIB).contains(&dealer), "{what}: the dealer's peak is {} MiB", dealer / MIB);
        match record["peaks_since"].as_str() {
            Some("row") => assert!(
                (MIB..=keys + 512 * MIB).contains(&party),
                "{what}: a party's peak is {} MiB, with {} MiB of keys",
                party / MIB,
                keys / MIB
            ),
            since => println!(
                "SKIPPED, a party's peak is that of all rows: the system does not reset it ({since:?})"
            ),
        }
        rows += 1;
    }
    assert_eq!(rows, 10);
}

#[tokio::test]
async fn clients_that_announce_the_largest_size_are_refused_before_anything_is_dealt() {
    const CLIENTS: usize = 16;
    for (budget, least_refused) in [("share_memory_mb = 2048\nspool_mb = 0\n", CLIENTS), ("", 12)] {
        let hosts = Hosts::start_with(Path::new(PROGRAM), |name, config| match name {
            "dealer" => config,
            _ => format!("{budget}{config}"),
        });
        npy::write_i64(&hosts.folder().join("few.npy"), &[4096; 9]);
        let gate = gelu();
        let mut refused = 0;
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let name = format!("client{number}");
            hosts.issue("client", &name);
            let client = Caller::connect(&hosts, &name).await;
            let run = RunId([number as u8; 16]);
            match client.start_at(Party::P0, run, &gate, MOST_ELEMS).await {
                Ok(_) => {}
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                    let words = ["share_memory_mb", "spool_mb", "space"];
                    assert!(words.iter().any(|word| status.message().contains(word)), "{status}");
                    refused += 1;
                }
            }
            clients.push(client);
        }
        assert!(refused >= least_refused, "only {refused} of {CLIENTS} were refused with {budget:?}");
        assert_eq!(batches_dealt(&hosts).await, 0, "something was dealt");
        if refused == CLIENTS {
            for party in Party::BOTH {
                assert_eq!(in_use(&info(&clients[0], party).await), [0; 3], "{party} holds something");
            }
            expect(&hosts.onehot("few.npy"), 0, &[], "a run that fits");
        }
    }
}

/// Each leaves in the middle: some without a word, some cancel, some when their input is half there.
#[tokio::test]
async fn clients_that_leave_hold_no_bytes_afterwards_and_the_next_is_served_at_once() {
    const CLIENTS: usize = 32;
    // One tile, which is one message.
    const ELEMS: u64 = 65_536;
    let mut hosts = Hosts::start_with(Path::new(PROGRAM), |name, config| match name {
        "dealer" => config,
        _ => format!("lease_s = 1\n{config}"),
    });
    npy::write_i64(&hosts.folder().join("few.npy"), &[4096; 9]);
    // Several certificates, so that none reaches its number of runs before its leases have ended.
    let names = ["one", "two", "three", "four"];
    names.iter().for_each(|name| hosts.issue("client", name));
    let gate = gelu();
    let watcher = Caller::connect(&hosts, "observer").await;
    let mut resident = Vec::new();
    for _ in 0..2 {
        for number in 0..CLIENTS {
            let client = Caller::connect(&hosts, names[number % names.len()]).await;
            let run = client.start(&gate, ELEMS).await;
            let ready = client.follow(Party::P0, by_id(run), &[RunState::ReadyForInput]).await;
            assert_eq!(ready.state(), RunState::ReadyForInput, "{ready:?}");
            match number % 3 {
                0 => {}
                1 => {
                    client.party(Party::P0).cancel_run(by_id(run)).await.expect("its own run");
                }
                _ => {
                    // One party has its half, the other never gets it.
                    let share = vec![4096; ELEMS as usize];
                    client.submit(Party::P0, run, &share).await.expect("its own run");
                }
            }
        }
        expect(&hosts.onehot("few.npy"), 0, &[], "the next client");
        for party in Party::BOTH {
            while in_use(&info(&watcher, party).await) != [0; 3] {
                tokio::task::yield_now().await;
            }
        }
        resident.push(["party0", "party1"].map(|name| memory(hosts.pid(name), "VmRSS:")));
    }
    for (name, (before, after)) in ["party0", "party1"].iter().zip(resident[0].iter().zip(resident[1])) {
        println!("{name}: {} MiB, then {} MiB", before / MIB, after / MIB);
        assert!(after < before + 64 * MIB, "{name} grew from {} to {} MiB", before / MIB, after / MIB);
    }
    for name in NAMES {
        assert!(hosts.is_alive(name), "{name} died: {}", hosts.log(name));
    }
}

#[tokio::test]
async fn a_run_whose_input_does_not_come_ends_in_time_and_gives_its_keys_back() {
    let hosts = Hosts::start_with(Path::new(PROGRAM), |name, config| match name {
        "dealer" => config,
        _ => format!("input_wait_s = 1\n{config}"),
    });
    let client = Caller::connect(&hosts, "client").await;
    let run = client.start(&gelu(), 9).await;
    // It watches, so that its lease does not end.
    let end = client.follow(Party::P0, by_id(run), &[]).await;
    assert_eq!(end.state(), RunState::Failed, "{end:?}");
    let reason = end.failure.expect("why").reason;
    assert!(reason.contains("input_wait_s"), "{reason}");
    for party in Party::BOTH {
        client.follow(party, by_id(run), &[]).await;
        while in_use(&info(&client, party).await) != [0; 3] {
            tokio::task::yield_now().await;
        }
    }
}

async fn info(caller: &Caller, party: Party) -> PartyInfo {
    caller.party(party).info(InfoRequest {}).await.expect("the party tells").into_inner()
}

/// Bytes of shares, keys and spool.
fn in_use(info: &PartyInfo) -> [u64; 3] {
    [&info.share_memory, &info.key_memory, &info.spool].map(|budget| {
        let budget = budget.as_ref().expect("the party tells");
        assert!(budget.in_use_bytes <= budget.bound_bytes, "{budget:?}");
        budget.in_use_bytes
    })
}

/// A line of a process's status, in bytes.
fn memory(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let kib = status.lines().find_map(|found| found.strip_prefix(line)).expect("the system counts");
    kib.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}
