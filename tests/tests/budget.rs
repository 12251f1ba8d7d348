//! Memory: what the daemons hold, as the system counts it and as they do.

use std::{fs, path::Path, process::Command};

use suf_control::{
    client,
    failure::CallFailure,
    shares,
    v1::{Fault, InputPart, ListBatchesRequest, RunState, TensorHeader, input_part::Part},
};
use suf_gate::ring::WIRE;
use suf_skip::{Need, skip};
use suf_tests::{
    caller::{Caller, by_id, dealer_channel, gelu},
    holdings::{in_use, info, memory, nothing_in_use},
    npy,
    processes::{Hosts, NAMES, expect},
    users::files,
};
use suf_wire::{Party, RunId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const MIB: u64 = 1 << 20;

/// The largest tensor.
const MOST_ELEMS: u64 = 100_000_000;

/// What a dealer takes besides its keys: the program, the buffers of its network, and what its threads work with.
const DEALER_BESIDE_KEYS: u64 = 192 * MIB;

/// A dealer's memory for keys, as configured by default.
const DEALER_MEMORY: u64 = 256 * MIB;

/// What a party takes besides shares and keys in memory: the program, buffers of its networks, keys on their way to the disk.
const PARTY_WITHOUT_SHARES: u64 = 384 * MIB;

/// Clients that announce much at once.
const CLIENTS: usize = 16;

/// Batches of every protocol, each larger than the memory for keys, one after the other.
#[test]
fn the_dealer_stays_within_its_memory_under_every_protocol() {
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
            since => skip(
                Need::MemoryPeaks,
                format!("a party's peak is that of all rows: the system does not reset it ({since:?})"),
            ),
        }
        rows += 1;
    }
    assert_eq!(rows, 10);
}

/// With budgets below one such run.
#[tokio::test]
async fn clients_that_announce_the_largest_size_are_refused_before_anything_is_dealt() {
    let hosts = Hosts::start_with(Path::new(PROGRAM), |name, config| match name {
        "dealer" => config,
        _ => format!("share_memory_mb = 2048\nspool_mb = 0\n{config}"),
    });
    npy::write_i64(&hosts.folder().join("few.npy"), &[4096; 9]);
    let announced = announce(&hosts).await;
    assert_eq!(announced.iter().filter(|(_, admitted)| admitted.is_some()).count(), 0, "some were admitted");
    assert_eq!(batches(&hosts).await, 0, "the dealer was asked for keys");
    for party in Party::BOTH {
        assert_eq!(in_use(&info(&announced[0].0, party).await), [0; 3], "{party} holds something");
    }
    expect(&hosts.onehot("few.npy"), 0, &[], "a run that fits");
}

/// With the default budgets. Those that fit are dealt, and wait for an input that does not come.
#[tokio::test]
async fn clients_that_announce_the_largest_size_get_what_the_default_budgets_hold_and_no_more() {
    let mut hosts = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("few.npy"), &[4096; 9]);
    let announced = announce(&hosts).await;
    let admitted: Vec<_> =
        announced.iter().filter_map(|(client, admitted)| Some((client, (*admitted)?))).collect();
    assert!(admitted.len() <= 3, "{} were admitted", admitted.len());
    println!("{} of {CLIENTS} were admitted", admitted.len());
    if admitted.is_empty() {
        return skip(
            Need::LargestRun,
            "nothing was dealt: this machine has too little memory or disk for one such run",
        );
    }
    let (client, _) = admitted[0];
    let accounted = in_use(&info(client, Party::P0).await);
    // More keys than the dealer may hold.
    let spools = ["party0", "party1"].map(|name| hosts.folder().join(format!("state-{name}/spool")));
    let spooled = |folder: &Path| {
        files(folder).iter().map(|file| file.metadata().map_or(0, |of| of.len())).sum::<u64>()
    };
    for (party, folder) in Party::BOTH.into_iter().zip(&spools) {
        while spooled(folder) < DEALER_MEMORY + 64 * MIB {
            let active = info(client, party).await.active_runs;
            assert_eq!(active as usize, admitted.len(), "{party}: a run has ended");
        }
    }
    assert_eq!(batches(&hosts).await, admitted.len(), "keys were asked for that nobody may have");
    for (client, run) in &admitted {
        for party in Party::BOTH {
            client.party(party).cancel_run(by_id(*run)).await.expect("its own run");
        }
    }
    nothing_in_use(client).await;
    for folder in &spools {
        assert_eq!(files(folder), [folder.join("ledger-mark")], "keys are left on the disk");
    }
    expect(&hosts.onehot("few.npy"), 0, &[], "the next client");
    // No share has come, and keys are on the disk.
    for (name, most) in [
        ("dealer", DEALER_MEMORY + DEALER_BESIDE_KEYS),
        ("party0", PARTY_WITHOUT_SHARES),
        ("party1", PARTY_WITHOUT_SHARES),
    ] {
        let peak = memory(hosts.pid(name), "VmHWM:");
        println!("{name}: {} MiB at its peak, with {accounted:?} bytes accounted for at a party", peak / MIB);
        assert!(peak <= most, "{name}: {} MiB, more than {}", peak / MIB, most / MIB);
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
    // What the allocator keeps of runs that were side by side, it has reached after two rounds.
    for _ in 0..4 {
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
        nothing_in_use(&watcher).await;
        resident.push(["party0", "party1"].map(|name| memory(hosts.pid(name), "VmRSS:")));
    }
    for (name, (before, after)) in ["party0", "party1"].iter().zip(resident[1].iter().zip(resident[3])) {
        println!("{name}: {} MiB, then {} MiB", before / MIB, after / MIB);
        assert!(after < before + 64 * MIB, "{name} grew from {} to {} MiB", before / MIB, after / MIB);
    }
    for name in NAMES {
        assert!(hosts.is_alive(name), "{name} died: {}", hosts.log(name));
    }
}

/// At either party; the call ends as it should, or is broken off.
#[tokio::test]
async fn half_an_input_whose_call_ends_costs_its_run_alone_and_names_the_caller() {
    // Half of it is more than may be on its way: what the client got rid of, the party has begun to take.
    const HALF: u64 = 16;
    const ELEMS: u64 = 2 * HALF * 65_536;
    let hosts = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("few.npy"), &[4096; 9]);
    let client = Caller::connect(&hosts, "client").await;
    for (fed, broken_off) in [(Party::P0, false), (Party::P1, false), (Party::P0, true), (Party::P1, true)] {
        let run = client.start(&gelu(), ELEMS).await;
        for party in Party::BOTH {
            client.follow(party, by_id(run), &[RunState::ReadyForInput]).await;
        }
        let (sender, parts) = mpsc::channel(1);
        let mut party = client.party(fed);
        let call = tokio::spawn(async move { party.submit_input(ReceiverStream::new(parts)).await });
        let header = Part::Header(TensorHeader { run_id: run.0.to_vec().into(), elements: ELEMS, node: 0 });
        sender.send(InputPart { part: Some(header) }).await.expect("the call is open");
        for _ in 0..HALF {
            let part = Part::Shares(shares::pack(WIRE.bits(), &[4096; 65_536]));
            sender.send(InputPart { part: Some(part) }).await.expect("the call is open");
        }
        // The last one is on its way.
        sender.reserve().await.expect("the call is open");
        let why = if broken_off {
            call.abort();
            ""
        } else {
            drop(sender);
            let status = call.await.expect("no panic").expect_err("half an input");
            assert_eq!(CallFailure::from(status).fault, Fault::Caller);
            "the input ended after 1048576 of 2097152 elements"
        };
        for party in Party::BOTH {
            let end = client.follow(party, by_id(run), &[]).await;
            assert_eq!(end.state(), RunState::Failed, "{end:?}");
            let failure = end.failure.expect("why");
            assert_eq!(failure.fault(), Fault::Caller, "{party}: {failure:?}");
            let stopped = format!("the input of {fed} stopped: {why}");
            assert!(failure.reason.contains(&stopped), "{party}: {}", failure.reason);
            println!("{party}: {}", failure.reason);
        }
        nothing_in_use(&client).await;
        expect(&hosts.onehot("few.npy"), 0, &[], "the next client");
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
    }
    nothing_in_use(&client).await;
}

/// What becomes of clients that each announce the largest tensor at both parties: the runs that were admitted.
async fn announce(hosts: &Hosts) -> Vec<(Caller, Option<RunId>)> {
    let gate = gelu();
    let mut announced = Vec::new();
    for number in 0..CLIENTS {
        let name = format!("client{number}");
        hosts.issue("client", &name);
        let client = Caller::connect(hosts, &name).await;
        let run = RunId([number as u8; 16]);
        let mut admitted = Vec::new();
        for party in Party::BOTH {
            match client.start_at(party, run, &gate, MOST_ELEMS).await {
                Ok(_) => admitted.push(party),
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                    let words = ["share_memory_mb", "spool_mb", "space"];
                    assert!(words.iter().any(|word| status.message().contains(word)), "{status}");
                }
            }
        }
        assert!(admitted.is_empty() || admitted == Party::BOTH, "only {admitted:?} admitted a run");
        if !admitted.is_empty() {
            client.follow(Party::P0, by_id(run), &[RunState::Dealing]).await;
        }
        announced.push((client, (!admitted.is_empty()).then_some(run)));
    }
    announced
}

/// Batches that the dealer was asked for.
async fn batches(hosts: &Hosts) -> usize {
    let channel = dealer_channel(hosts).await;
    let listed = client::dealer(channel).list_batches(ListBatchesRequest { limit: 1000 }).await;
    listed.expect("the dealer tells").into_inner().batches.len()
}
