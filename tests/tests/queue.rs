//! `model_runs` by real processes: so many runs of programs compute at once, others wait for their turn in the order of party 0.

use std::{path::Path, sync::Arc};

use suf_control::v1::{Run, RunRef, RunState};
use suf_gate::Program;
use suf_tests::{
    caller::{Caller, by_id, gelu},
    holdings::{in_use, info},
    processes::Hosts,
    programs::{Case, Kind},
};
use suf_wire::{Party, RunId};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Elements of a run.
const ELEMS: usize = 1003;

fn start(places: [u16; 2]) -> Hosts {
    Hosts::start_with(Path::new(PROGRAM), |name, config| match name {
        "party0" => format!("model_runs = {}\n{config}", places[0]),
        "party1" => format!("model_runs = {}\n{config}", places[1]),
        _ => config,
    })
}

fn case() -> Case {
    Case::new(Kind::InARow, &gelu(), ELEMS).expect("onehot takes a masked wire")
}

/// The run, as soon as `party` says that it waits at `place`.
async fn waits(client: &Caller, party: Party, run: RunId, place: u32) {
    let mut watching = client.party(party).watch_run(by_id(run)).await.expect("its own run").into_inner();
    while let Some(now) = watching.message().await.expect("the party tells") {
        if (now.state(), now.position) == (RunState::Queued, place) {
            return;
        }
        assert!(matches!(now.state(), RunState::Proposed | RunState::Queued), "{party}: {now:?}");
    }
    panic!("{party} says nothing of place {place}");
}

async fn ready(client: &Caller, run: RunId) {
    for party in Party::BOTH {
        let now = client.follow(party, by_id(run), &[RunState::ReadyForInput]).await;
        assert_eq!((now.state(), now.position), (RunState::ReadyForInput, 0), "{party}: {now:?}");
    }
}

/// Feeds a run that is ready, and checks what comes out.
async fn finish(client: &Caller, case: &Case, run: RunId) {
    let (program, x) = (&*case.program, case.inputs(1));
    for (node, shares) in program.inputs().zip(Case::share(&x, 1)) {
        let ring = program.node(node).ring().expect("an input makes a wire");
        for (party, share) in Party::BOTH.into_iter().zip(&shares) {
            client.submit_to(party, run, (node, ring), share).await.expect("its own run");
        }
    }
    let mut outputs = Vec::new();
    for node in program.outputs() {
        let ring = program.node(program.node(node).inputs()[0]).ring().expect("an output takes a wire");
        let fetch = async |party| client.fetch_from(party, by_id(run), (node, ring)).await.expect("done");
        outputs.push([fetch(Party::P0).await, fetch(Party::P1).await]);
    }
    case.check(&x, &outputs).expect("right");
    for party in Party::BOTH {
        client.party(party).acknowledge_output(by_id(run)).await.expect("its own run");
    }
}

async fn cancel(client: &Caller, party: Party, run: RunRef) -> Run {
    client.party(party).cancel_run(run).await.expect("the party ends it").into_inner()
}

/// Bytes that runs hold at a party: of shares, keys and spool.
async fn held(client: &Caller, party: Party) -> [u64; 3] {
    in_use(&info(client, party).await)
}

async fn start_all<const RUNS: usize>(client: &Caller, program: &Program) -> [RunId; RUNS] {
    let mut runs = [RunId([0; 16]); RUNS];
    for run in &mut runs {
        *run = client.start_program(program).await;
    }
    runs
}

#[tokio::test]
async fn runs_wait_for_their_turn_and_each_hears_its_place() {
    let hosts = start([1, 2]);
    let client = Caller::connect(&hosts, "client").await;
    let case = case();
    let [first, second, third] = start_all(&client, &case.program).await;
    ready(&client, first).await;
    for party in Party::BOTH {
        waits(&client, party, second, 1).await;
        waits(&client, party, third, 2).await;
    }
    // What is shown to people.
    let options = hosts.as_client_of("party1");
    let arguments: Vec<&str> = ["runs"].into_iter().chain(options.iter().map(String::as_str)).collect();
    let listed = String::from_utf8(hosts.suf(&arguments).stdout).expect("text");
    assert!(listed.contains("queued at place 2") && listed.contains("queued at place 1"), "{listed}");
    // A run of one gate does not wait.
    let gate = client.start(&gelu(), 9).await;
    ready(&client, gate).await;

    finish(&client, &case, first).await;
    ready(&client, second).await;
    for party in Party::BOTH {
        waits(&client, party, third, 1).await;
    }
    finish(&client, &case, second).await;
    ready(&client, third).await;
    finish(&client, &case, third).await;
    hosts.check_batches(3);
}

#[tokio::test]
async fn a_waiting_run_that_is_cancelled_gives_all_back_and_its_turn_too() {
    let hosts = start([1, 1]);
    let client = Caller::connect(&hosts, "client").await;
    let case = case();
    let first = client.start_program(&case.program).await;
    ready(&client, first).await;
    let before = [held(&client, Party::P0).await, held(&client, Party::P1).await];
    // At either party, by its client; and by who goes away there.
    for party in Party::BOTH {
        let [second, third] = start_all(&client, &case.program).await;
        for party in Party::BOTH {
            waits(&client, party, second, 1).await;
            waits(&client, party, third, 2).await;
        }
        let ended = cancel(&client, party, by_id(second)).await;
        assert_eq!((ended.state(), ended.position), (RunState::Cancelled, 0), "{ended:?}");
        let other = client.follow(party.other(), by_id(second), &[]).await;
        assert_eq!(other.state(), RunState::Failed, "{other:?}");
        let failure = other.failure.expect("of a run that failed");
        assert!(failure.reason.contains("was cancelled over the control API"), "{failure:?}");
        for party in Party::BOTH {
            waits(&client, party, third, 1).await;
        }
        cancel(&client, Party::P0, by_id(third)).await;
        client.follow(Party::P1, by_id(third), &[]).await;
        for (party, before) in Party::BOTH.into_iter().zip(before) {
            assert_eq!(held(&client, party).await, before, "{party}");
        }
    }
    finish(&client, &case, first).await;
    let next = client.start_program(&case.program).await;
    ready(&client, next).await;
    finish(&client, &case, next).await;
    for party in Party::BOTH {
        assert_eq!(held(&client, party).await, [0; 3], "{party}");
    }
}

/// Party 1 has fewer places than party 0: proposals wait there, in a circle they do not.
#[tokio::test]
async fn many_runs_of_two_clients_end_whatever_places_the_parties_have() {
    const RUNS: usize = 6;
    for places in [[3, 1], [1, 3], [2, 2]] {
        let hosts = start(places);
        hosts.issue("client", "other");
        let case = Arc::new(case());
        let mut clients = Vec::new();
        for name in ["client", "other"] {
            let client = Caller::connect(&hosts, name).await;
            let case = Arc::clone(&case);
            clients.push(tokio::spawn(async move {
                for run in start_all::<RUNS>(&client, &case.program).await {
                    ready(&client, run).await;
                    finish(&client, &case, run).await;
                }
            }));
        }
        for client in clients {
            client.await.expect("all of its runs end well");
        }
        hosts.check_batches(2 * RUNS);
    }
}

#[tokio::test]
async fn a_waiting_run_ends_when_the_other_party_is_gone() {
    let mut hosts = start([1, 1]);
    let client = Caller::connect(&hosts, "client").await;
    let case = case();
    let [first, second] = start_all(&client, &case.program).await;
    ready(&client, first).await;
    waits(&client, Party::P0, second, 1).await;
    waits(&client, Party::P1, second, 1).await;
    hosts.kill("party1");
    let ended = client.follow(Party::P0, by_id(second), &[]).await;
    assert_eq!(ended.state(), RunState::Failed, "{ended:?}");
    assert_eq!(client.follow(Party::P0, by_id(first), &[]).await.state(), RunState::Failed);
    assert_eq!(held(&client, Party::P0).await, [0; 3]);
    hosts.restart("party1");
    let client = Caller::connect(&hosts, "client").await;
    let next = client.start_program(&case.program).await;
    ready(&client, next).await;
    finish(&client, &case, next).await;
}
