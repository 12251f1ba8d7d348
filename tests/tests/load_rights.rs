//! Who may load a model, use it, list it and drop it. All is decided before anything secret moves, and nobody reads weights.

use std::path::Path;

use bytes::Bytes;
use suf_control::v1::{LoadTerms, StartRunRequest};
use suf_gate::{NodeId, Program, Ring};
use suf_tests::{
    caller::{Caller, by_hash, by_id, gelu},
    loads::{Sum, fingerprint, fresh, request},
    processes::{Hosts, NAMES},
};
use suf_wire::Party;
use tonic::Code;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Checks that `party` refuses `request` of `caller` with `code` and all of `words`.
async fn is_refused(caller: &Caller, party: Party, request: StartRunRequest, code: Code, words: &str) {
    let refused = caller.party(party).start_run(request).await.expect_err(words);
    assert_eq!(refused.code(), code, "{words}: {refused}");
    assert!(refused.message().contains(words), "{words} is missing in: {refused}");
}

#[tokio::test]
async fn who_loads_and_what_is_loaded_is_decided_before_anything_moves() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    hosts.issue("model", "rival");
    let connect = async |name| Caller::connect(&hosts, name).await;
    let (owner, rival, client) = (connect("model").await, connect("rival").await, connect("client").await);
    let model = Sum::new(2, 5, 3);
    let good = || model.terms("ours", 1);
    let load = |terms| StartRunRequest { terms, ..request(&model.load, fresh()) };
    let on = |salt: u8| StartRunRequest { load: vec![salt; 32].into(), ..request(&model.program, fresh()) };

    // By role.
    let denied = Code::PermissionDenied;
    for party in Party::BOTH {
        is_refused(&client, party, load(Some(good())), denied, "a certificate of role model").await;
        is_refused(&client, party, load(None), denied, "a certificate of role model").await;
        let both = StartRunRequest { load: vec![1; 32].into(), ..load(None) };
        is_refused(&client, party, both, denied, "a certificate of role model").await;
        is_refused(&owner, party, load(None), denied, "the terms of a load").await;
        is_refused(&owner, party, on(1), denied, "starts no other run").await;
        let both = StartRunRequest { load: vec![2; 32].into(), ..load(Some(good())) };
        is_refused(&owner, party, both, denied, "starts no other run").await;
        let other = StartRunRequest { terms: Some(good()), ..request(&model.program, fresh()) };
        is_refused(&owner, party, other, denied, "no load program").await;
        let gate = Program::of_gate(gelu(), 9).expect("a program");
        let gate = StartRunRequest { terms: Some(good()), ..request(&gate, fresh()) };
        is_refused(&owner, party, gate, denied, "no load program").await;
        for name in ["operator", "observer"] {
            let caller = connect(name).await;
            is_refused(&caller, party, load(Some(good())), denied, "role client or model").await;
        }
    }

    // By the terms.
    let wrong = Code::InvalidArgument;
    let many = |count| vec![Bytes::from(vec![7; 32]); count];
    for (terms, words) in [
        (LoadTerms { name: String::new(), ..good() }, "1 to 64 characters"),
        (LoadTerms { name: "x".repeat(65), ..good() }, "1 to 64 characters"),
        (LoadTerms { name: "a\nb".into(), ..good() }, "no control characters"),
        (LoadTerms { digest: vec![1; 31].into(), ..good() }, "32 bytes, not 31"),
        (LoadTerms { digest: vec![0; 32].into(), ..good() }, "not zero"),
        (LoadTerms { programs: vec![], ..good() }, "1 to 4096 programs"),
        (LoadTerms { programs: many(4097), ..good() }, "1 to 4096 programs"),
        (LoadTerms { programs: vec![vec![1; 33].into()], ..good() }, "32 bytes, not 33"),
        (LoadTerms { clients: many(257), ..good() }, "at most 256 clients"),
        (LoadTerms { clients: vec![vec![].into()], ..good() }, "32 bytes, not 0"),
    ] {
        is_refused(&owner, Party::P0, load(Some(terms)), wrong, words).await;
    }
    let most =
        LoadTerms { programs: many(4096), clients: many(256), name: "ä".repeat(64), ..model.terms("", 9) };
    owner.load(&model, most, &model.weights(9)).await.expect("at the limits");

    // By what is there.
    owner.load(&model, good(), &model.weights(1)).await.expect("it is loaded");
    for caller in [&owner, &rival] {
        for party in Party::BOTH {
            let again = load(Some(model.terms("another name", 1)));
            is_refused(caller, party, again, Code::AlreadyExists, "a load with this digest").await;
        }
    }
    for party in Party::BOTH {
        let same_name = load(Some(model.terms("ours", 2)));
        is_refused(&rival, party, same_name, Code::AlreadyExists, "the name ours belongs to another owner")
            .await;
    }
    owner.load(&model, model.terms("ours", 2), &model.weights(2)).await.expect("its own name");
    for salt in [1, 2] {
        client.is_right(&model, salt, &model.weights(salt.into()), 5).await.expect("each is what it was");
    }
}

#[tokio::test]
async fn only_the_programs_and_clients_that_the_owner_named_get_at_a_load() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    hosts.issue("client", "other");
    hosts.issue("model", "rival");
    let connect = async |name| Caller::connect(&hosts, name).await;
    let (owner, client, other) = (connect("model").await, connect("client").await, connect("other").await);
    let (model, larger) = (Sum::new(2, 5, 3), Sum::new(2, 6, 3));
    let more_rows = Sum::new(3, 5, 3);
    let weights = model.weights(1);
    let clients = vec![fingerprint(&hosts, "client").into()];
    let terms = LoadTerms { clients, ..model.terms("ours", 1) };
    owner.load(&model, terms, &weights).await.expect("it is loaded");
    owner.load(&larger, larger.terms("theirs", 2), &larger.weights(2)).await.expect("it is loaded");

    let on = |program: &Program, load: &[u8]| StartRunRequest {
        load: load.to_vec().into(),
        ..request(program, fresh())
    };
    let (wrong, denied, unknown) = (Code::InvalidArgument, Code::PermissionDenied, Code::NotFound);
    for party in Party::BOTH {
        is_refused(&client, party, on(&model.program, &[]), wrong, "names no load").await;
        is_refused(&client, party, on(&model.program, &[1; 16]), wrong, "32 bytes, not 16").await;
        is_refused(&client, party, on(&model.program, &[3; 32]), unknown, "no such load").await;
        is_refused(&client, party, on(&more_rows.program, &[1; 32]), denied, "did not name this program")
            .await;
        is_refused(&client, party, on(&model.program, &[2; 32]), wrong, "another model's").await;
        let gate = Program::of_gate(gelu(), 9).expect("a program");
        is_refused(&client, party, on(&gate, &[1; 32]), wrong, "takes no loaded weights").await;
        // Who may not use it learns nothing of it: the answer is that about one that never was.
        let answer = async |program: &Program, digest: u8| {
            let refused =
                other.party(party).start_run(on(program, &[digest; 32])).await.expect_err("refused");
            (refused.code(), refused.message().to_owned())
        };
        let never = answer(&model.program, 3).await;
        assert_eq!(never.0, unknown);
        assert_eq!(answer(&model.program, 1).await, never);
        assert_eq!(answer(&more_rows.program, 1).await, never);
    }
    client.is_right(&model, 1, &weights, 3).await.expect("a client that the owner named");
    other.is_right(&larger, 2, &larger.weights(2), 3).await.expect("every client may");
}

/// Everybody but the owner tries to read the weights; what they get is not theirs, or says nothing.
#[tokio::test]
async fn nobody_reads_the_weights_by_programs_loads_listings_or_logs() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    hosts.issue("model", "rival");
    hosts.issue("client", "other");
    let model = Sum::new(2, 5, 3);
    // As a row that picks out a row of W: what a free choice of program would give.
    let reader = Sum::new(5, 5, 3);
    let owner = Caller::connect(&hosts, "model").await;
    let weights = model.weights(1);
    let run = fresh();
    let clients = vec![fingerprint(&hosts, "client").into()];
    let terms = LoadTerms { clients, ..model.terms("secret name", 1) };
    let start = StartRunRequest { terms: Some(terms), ..request(&model.load, run) };
    owner.start_request(&start).await.expect("it starts");
    owner.feed(&model.load, run, &weights).await.expect("it is loaded");

    for (name, role) in [
        ("rival", "model"),
        ("other", "client"),
        ("client", "client"),
        ("observer", "observer"),
        ("operator", "operator"),
    ] {
        let caller = Caller::connect(&hosts, name).await;
        for party in Party::BOTH {
            let what = format!("{name} at {party}");
            let mut calls = caller.party(party);
            // A program of their own.
            let own = StartRunRequest { load: vec![1; 32].into(), ..request(&reader.program, fresh()) };
            let refused = calls.start_run(own).await.expect_err(&what);
            let code = if name == "other" { Code::NotFound } else { Code::PermissionDenied };
            assert_eq!(refused.code(), code, "{what}: {refused}");
            // A second load in the place of the first, with terms of their own.
            let terms =
                LoadTerms { programs: vec![reader.program.digest().to_vec().into()], ..model.terms("x", 1) };
            let second = StartRunRequest { terms: Some(terms), ..request(&model.load, fresh()) };
            let refused = calls.start_run(second).await.expect_err(&what);
            let code = if role == "model" { Code::AlreadyExists } else { Code::PermissionDenied };
            assert_eq!(refused.code(), code, "{what}: {refused}");
            // The run that loaded it: its input and its output.
            for reference in [by_id(run), by_hash(run.public_hash())] {
                assert!(caller.fetch(party, reference).await.is_err(), "{what}");
            }
            assert!(
                caller.submit_to(party, run, (NodeId(0), Ring::new(64)), &[0; 15]).await.is_err(),
                "{what}"
            );
            // To drop it is for its owner and for the host.
            if name != "operator" {
                assert!(caller.drop_load(party, 1).await.is_err(), "{what}");
            }
            // Listings: who may not use it does not see it, and nobody sees more than sizes.
            let seen = caller.loads(party).await;
            let is_for = matches!(name, "client" | "observer" | "operator");
            assert_eq!(seen.len(), usize::from(is_for), "{what}");
            let runs = caller.list(party, false).await;
            assert_eq!(runs.len(), usize::from(matches!(name, "observer" | "operator")), "{what}");
            assert!(runs.iter().all(|run| run.run_id.is_empty()), "{what}");
        }
    }
    // The owner itself has no run but of loads.
    let own = StartRunRequest { load: vec![1; 32].into(), ..request(&reader.program, fresh()) };
    assert_eq!(owner.start_request(&own).await.expect_err("no run").code(), Code::PermissionDenied);
    assert!(owner.fetch(Party::P0, by_id(run)).await.is_err(), "a load has no output");

    let client = Caller::connect(&hosts, "client").await;
    client.is_right(&model, 1, &weights, 3).await.expect("who may, does");
    for name in NAMES {
        let log = hosts.log(name);
        assert!(!log.contains("secret name"), "{name} logs the name of a model: {log}");
        assert!(!log.contains(&run.reveal()), "{name} logs the id of a run");
        let loud = weights.iter().flatten().filter(|weight| weight.abs() > 1 << 10);
        for weight in loud {
            assert!(!log.contains(&weight.to_string()), "{name} logs a weight: {log}");
        }
    }
}
