//! A run belongs to the certificate that started it. Each party decides that by itself. Nobody else gets its tensors.
//! Knowing the run's id or seeing it in a listing or a log does not help. An operator and the other party do not get
//! them either.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use suf_control::v1::{Run, RunRef, RunState};
use suf_gate::{Gate, Program};
use suf_link::{Connection, Endpoint, Identity, LinkProfile, Session};
use suf_party::{Plan, Registration};
use suf_tests::{
    caller::{Caller, by_hash, by_id, gelu},
    npy,
    processes::{Hosts, NAMES, expect},
};
use suf_wire::{BatchId, Digest, Fault, Party, PeerMessage, Role, RunId};
use tonic::{Code, Status};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Elements of a run.
const ELEMS: u64 = 9;

/// 1.0 in fixed point.
const ONE: u64 = 4096;

#[tokio::test]
async fn a_run_is_touched_by_the_client_that_started_it_and_by_nobody_else() {
    let hosts = start(|_, config| config);
    let owner = Caller::connect(&hosts, "client").await;
    let gate = gelu();
    let run = owner.start(&gate, ELEMS).await;
    for party in Party::BOTH {
        let ready = owner.follow(party, by_id(run), &[RunState::ReadyForInput]).await;
        assert_eq!(ready.state(), RunState::ReadyForInput);
        assert_eq!(ready.run_hash[..], run.public_hash().0);
    }
    let mut intruders = Vec::new();
    for (name, role) in [("other", "client"), ("observer", "observer"), ("operator", "operator")] {
        intruders.push((name, role, Caller::connect(&hosts, name).await));
    }
    for (name, role, intruder) in &intruders {
        for party in Party::BOTH {
            is_kept_out(name, role, intruder, party, run, &gate).await;
        }
    }

    let shares = [vec![ONE; ELEMS as usize], vec![0; ELEMS as usize]];
    for (party, share) in Party::BOTH.into_iter().zip(&shares) {
        assert_eq!(owner.submit(party, run, share).await.expect("its own run"), ELEMS);
    }
    let mut output = Vec::new();
    for party in Party::BOTH {
        let first = owner.fetch(party, by_id(run)).await.expect("its own run");
        let again = owner.fetch(party, by_hash(run.public_hash())).await.expect("not acknowledged yet");
        assert_eq!(first, again);
        output.push(first);
    }
    for (a, b) in output[0].iter().zip(&output[1]) {
        assert!(gate.reference(ONE as i64).contains(&gate.output(*a, *b)));
    }
    for (name, role, intruder) in &intruders {
        for party in Party::BOTH {
            is_kept_out(name, role, intruder, party, run, &gate).await;
        }
    }
    for party in Party::BOTH {
        owner.fetch(party, by_id(run)).await.expect("intruders have changed nothing");
        for _ in 0..2 {
            owner.party(party).acknowledge_output(by_id(run)).await.expect("its own run");
        }
        let gone = owner.fetch(party, by_id(run)).await.expect_err("acknowledged");
        assert_eq!(gone.code(), Code::NotFound, "{gone}");
        assert!(gone.message().contains("acknowledged"), "{gone}");
    }
    for name in NAMES {
        let log = hosts.log(name);
        assert!(!log.contains(&run.reveal()), "{name} logs the id of a run: {log}");
        if name != "dealer" {
            assert!(log.contains(&run.public_hash().to_string()), "{name} logs no hash: {log}");
        }
    }
}

/// An intruder with a certificate of `role` knows the id and the hash of a run, and tries everything at one party.
async fn is_kept_out(name: &str, role: &str, intruder: &Caller, party: Party, run: RunId, gate: &Gate) {
    let what = format!("{name} at {party}");
    let (id, hash) = (by_id(run), by_hash(run.public_hash()));
    let never = by_id(RunId([9; 16]));
    let client = role == "client";
    // What the role may call at all is answered as for a run that never was.
    let unknown = intruder.party(party).get_run(never.clone()).await.expect_err("there is none");
    assert_eq!(unknown.code(), Code::NotFound, "{what}");
    let is_unknown = |status: Status| {
        assert_eq!((status.code(), status.message()), (unknown.code(), unknown.message()), "{what}");
    };
    let is_denied = |status: Status| {
        assert_eq!(status.code(), Code::PermissionDenied, "{what}: {status}");
    };
    let mut references = vec![id.clone()];
    references.extend(client.then(|| hash.clone()));
    for reference in references {
        let mut calls = intruder.party(party);
        is_unknown(calls.get_run(reference.clone()).await.expect_err(&what));
        is_unknown(calls.watch_run(reference.clone()).await.expect_err(&what));
        let cancelled = calls.cancel_run(reference.clone()).await.expect_err(&what);
        if role == "observer" {
            is_denied(cancelled)
        } else {
            is_unknown(cancelled)
        }
        let fetched = intruder.fetch(party, reference.clone()).await.expect_err(&what);
        let acknowledged = calls.acknowledge_output(reference).await.expect_err(&what);
        for status in [fetched, acknowledged] {
            if client { is_unknown(status) } else { is_denied(status) }
        }
    }
    let fed = intruder.submit(party, run, &[1; ELEMS as usize]).await.expect_err(&what);
    let started = intruder.start_at(party, run, gate, ELEMS).await.expect_err(&what);
    let listed = intruder.list(party, false).await;
    if client {
        is_unknown(fed);
        assert_eq!(started.code(), Code::AlreadyExists, "{what}: {started}");
        assert_eq!(listed, [], "{what}");
        return;
    }
    is_denied(fed);
    is_denied(started);
    // Who watches over the host sees that there is a run, and not its id.
    let seen = intruder.party(party).get_run(hash).await.expect("by its hash").into_inner();
    for shown in [&seen, &listed[0]] {
        assert_eq!(shown.run_id, "", "{what}");
        assert_eq!(shown.run_hash[..], run.public_hash().0, "{what}");
    }
}

#[tokio::test]
async fn an_operator_ends_any_run_of_its_host_by_its_hash() {
    let hosts = start(|_, config| config);
    let (owner, operator) =
        (Caller::connect(&hosts, "client").await, Caller::connect(&hosts, "operator").await);
    for party in Party::BOTH {
        let run = owner.start(&gelu(), ELEMS).await;
        owner.follow(party, by_id(run), &[RunState::ReadyForInput]).await;
        let hash = run.public_hash();
        let options = hosts.with_certificate("operator", party.role().name());
        let listed = output_of(hosts.command(&["runs", "--active"]).args(options));
        assert!(listed.contains(&hash.to_string()) && !listed.contains(&run.reveal()), "{listed}");
        let cancelled = operator.party(party).cancel_run(by_hash(hash)).await.expect("any run").into_inner();
        assert_eq!((cancelled.state(), &cancelled.run_id[..]), (RunState::Cancelled, &[][..]));
        let other = owner.follow(party.other(), by_id(run), &[]).await;
        assert_eq!(other.state(), RunState::Failed);
        assert!(reason(&other).contains("cancelled over the control API"), "{other:?}");
        assert!(!format!("{other:?}").contains(&run.reveal()));
        let watched = hosts
            .command(&["watch", &hash.to_string()])
            .args(hosts.with_certificate("observer", party.role().name()))
            .output();
        expect(&watched.expect("suf starts"), 0, &[], "an observer watches by hash");
    }
}

#[tokio::test]
async fn clients_list_and_cancel_runs_of_their_own() {
    let hosts = start(|_, config| config);
    let owner = Caller::connect(&hosts, "client").await;
    let run = owner.start(&gelu(), ELEMS).await;
    owner.follow(Party::P1, by_id(run), &[RunState::ReadyForInput]).await;
    for (name, seen) in [("client", true), ("other", false)] {
        let listed = output_of(hosts.command(&["runs"]).args(hosts.with_certificate(name, "party1")));
        assert_eq!(listed.contains(&run.reveal()), seen, "{name}");
    }
    let cancel = |name: &str| {
        let cancel =
            hosts.command(&["cancel", &run.reveal()]).args(hosts.with_certificate(name, "party1")).output();
        cancel.expect("suf starts")
    };
    expect(&cancel("other"), 1, &["no such run"], "somebody else cancels");
    expect(&cancel("client"), 0, &[], "the client cancels");
    assert_eq!(owner.follow(Party::P1, by_id(run), &[]).await.state(), RunState::Cancelled);
}

#[tokio::test]
async fn a_run_that_only_one_party_knows_is_refused_and_says_why() {
    let hosts = start(
        |name, config| if name == "dealer" { config } else { format!("register_wait_s = 1\n{config}") },
    );
    let owner = Caller::connect(&hosts, "client").await;
    // The parties are connected: a run works.
    let run = owner.start(&gelu(), ELEMS).await;
    owner.follow(Party::P0, by_id(run), &[RunState::ReadyForInput]).await;
    owner.party(Party::P0).cancel_run(by_id(run)).await.expect("its own run");

    for (party, words) in [
        (Party::P0, "no client has registered the run at party1"),
        (Party::P1, "party0 has not proposed the run"),
    ] {
        let run = RunId([party.index() as u8; 16]);
        owner.start_at(party, run, &gelu(), ELEMS).await.expect("registered");
        let ended = owner.follow(party, by_id(run), &[]).await;
        assert_eq!(ended.state(), RunState::Failed);
        assert!(reason(&ended).contains(words), "{ended:?}");
    }
    let run = RunId([7; 16]);
    owner.start_at(Party::P1, run, &gelu(), ELEMS + 1).await.expect("registered");
    owner.start_at(Party::P0, run, &gelu(), ELEMS).await.expect("registered");
    for party in Party::BOTH {
        let ended = owner.follow(party, by_id(run), &[]).await;
        let [nine, ten] = [ELEMS, ELEMS + 1].map(|elems| {
            let program = Program::of_gate(gelu(), elems).expect("of a size");
            Digest(*program.digest()).to_string()
        });
        let words = [format!("party0 proposes program {nine}"), format!("for program {ten}")];
        let reason = reason(&ended);
        assert!(words.iter().all(|words| reason.contains(words)), "{party}: {reason}");
    }
    let empty = owner.party(Party::P0).start_run(suf_control::v1::StartRunRequest::default()).await;
    let empty = empty.expect_err("no id");
    assert!(empty.message().contains("16 bytes"), "{empty}");
}

/// Party 0 is played here. Whatever it proposes, party 1 takes part in what a client asked party 1 for, and in nothing else.
#[tokio::test]
async fn a_corrupt_party_cannot_start_a_run_that_no_client_has_registered() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    let identity = Identity::load_from(&hosts.folder().join("pki"), "party0").expect("a certificate");
    let profile = LinkProfile::built_in("loopback").expect("built in");
    let endpoint =
        Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), &identity, &profile, false).expect("a socket");
    let ours = format!("connect = \"{}\"", endpoint.local_addr().expect("bound"));
    hosts.start_daemons(|name, config| {
        let theirs =
            config.find("connect = ").map(|at| config[at..].split(' ').take(3).collect::<Vec<_>>().join(" "));
        match (name, theirs) {
            ("party1", Some(theirs)) => {
                format!(
                    "register_wait_s = 1\nmax_run_s = 2\nlink = \"loopback\"\n{}",
                    config.replace(&theirs, &ours)
                )
            }
            _ => config,
        }
    });
    let party1 = endpoint.accept(&[Role::Party1]).await.expect("party 1 calls");
    let owner = Caller::connect(&hosts, "client").await;
    let gate = gelu();
    let plan = |run: RunId, elems: u64| {
        let program = Arc::new(Program::of_gate(gate.clone(), elems).expect("of a size"));
        let registration = Registration { run, program, deadline_ms: 3_600_000, me: Party::P0, load: None };
        registration.with_batch(BatchId(run.0))
    };

    let (_channel, answer) = propose(&party1, &plan(RunId([1; 16]), ELEMS)).await;
    refused(&answer, Fault::Caller, "no client has registered the run at party1");

    let run = RunId([2; 16]);
    owner.start_at(Party::P1, run, &gate, ELEMS).await.expect("registered");
    let (_channel, answer) = propose(&party1, &plan(run, ELEMS + 1)).await;
    let other = plan(run, ELEMS + 1).digest();
    refused(&answer, Fault::Peer, &format!("party0 proposes program {other}"));
    let ended = owner.follow(Party::P1, by_id(run), &[]).await;
    assert!(ended.state() == RunState::Failed && reason(&ended).contains("party0 proposes"), "{ended:?}");

    // Agreed on once, and then not again; a proposer's deadline does not lengthen party 1's own.
    let run = RunId([3; 16]);
    owner.start_at(Party::P1, run, &gate, ELEMS).await.expect("registered");
    let (_agreed, answer) = propose(&party1, &plan(run, ELEMS)).await;
    assert!(matches!(&answer, PeerMessage::Accept(accept) if accept.run == run), "{answer:?}");
    let (_again, answer) = propose(&party1, &plan(run, ELEMS)).await;
    refused(&answer, Fault::Caller, "at work already");
    let ended = owner.follow(Party::P1, by_id(run), &[]).await;
    assert!(reason(&ended).contains("deadline of 2000 ms"), "{ended:?}");
}

/// Party 1's answer to a proposal.
async fn propose(party1: &Connection, plan: &Plan) -> (Session, PeerMessage) {
    let mut session = party1.open_session().await.expect("party 1 takes a session");
    session.greet(Role::Party0, "the tests").await.expect("it greets");
    session.send(&PeerMessage::Propose(plan.propose())).await.expect("it hears");
    let answer = session.recv().await.expect("it answers");
    (session, answer)
}

fn refused(answer: &PeerMessage, who: Fault, words: &str) {
    let PeerMessage::Refuse { fault, reason, .. } = answer else { panic!("not refused: {answer:?}") };
    assert!(*fault == who && reason.as_str().contains(words), "{answer:?}");
}

#[tokio::test]
async fn an_output_that_is_never_acknowledged_is_dropped_in_time() {
    let hosts =
        start(|name, config| if name == "dealer" { config } else { format!("output_keep_s = 1\n{config}") });
    let owner = Caller::connect(&hosts, "client").await;
    let run = owner.start(&gelu(), ELEMS).await;
    for party in Party::BOTH {
        owner.follow(party, by_id(run), &[RunState::ReadyForInput]).await;
        owner.submit(party, run, &[ONE; ELEMS as usize]).await.expect("its own run");
    }
    for party in Party::BOTH {
        owner.follow(party, by_id(run), &[]).await;
        while !hosts.log(party.role().name()).contains("output share dropped") {
            std::thread::yield_now();
        }
        let gone = owner.fetch(party, by_id(run)).await.expect_err("its time is over");
        assert_eq!(gone.code(), Code::NotFound, "{gone}");
    }
}

#[test]
fn the_program_acknowledges_an_output_when_it_is_on_disk() {
    let hosts = start(|_, config| config);
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 9]);
    let output = hosts.eval(&["--protocol", "onehot", "--json"], "x.npy").output().expect("suf starts");
    expect(&output, 0, &[], "an evaluation");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let id = said["run_id"].as_str().expect("an id");
    let again = hosts.eval(&["--protocol", "onehot", "--run", id], "x.npy").output().expect("suf starts");
    expect(&again, 1, &["acknowledged"], "fetching it once more");
}

/// Daemons with a second client, configured as `change` says.
fn start(change: impl Fn(&str, String) -> String) -> Hosts {
    let hosts = Hosts::start_with(Path::new(PROGRAM), change);
    hosts.issue("client", "other");
    hosts
}

fn reason(run: &Run) -> &str {
    run.failure.as_ref().map_or("", |failure| &failure.reason)
}

fn output_of(command: &mut std::process::Command) -> String {
    let output = command.output().expect("suf starts");
    expect(&output, 0, &[], "listing runs");
    String::from_utf8(output.stdout).expect("text")
}

/// The two names of a run are never the same.
#[test]
fn the_hash_of_a_run_is_not_its_id() {
    let run = RunId([7; 16]);
    assert_ne!(run.public_hash().0, run.0);
    assert_ne!(by_id(run), RunRef { run_id: run.public_hash().0.to_vec().into(), ..RunRef::default() });
    assert!(!format!("{run:?}").contains(&run.reveal()[..8]), "{run:?}");
}
