//! Private weights, by real processes: a model is loaded once, and programs that its owner named run on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use suf_control::v1::{InfoRequest, RunState, StartRunRequest};
use suf_tests::{
    caller::{Caller, by_id, gelu},
    loads::{Sum, fresh, request},
    processes::{CAPTURE, Hosts, NAMES, check_from_outside},
};
use suf_wire::Party;
use tonic::Code;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

#[tokio::test]
async fn runs_on_loaded_models_are_right() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let (owner, client) = (Caller::connect(&hosts, "model").await, Caller::connect(&hosts, "client").await);
    for (salt, [rows, inner, made]) in (1..).zip([[2, 5, 3], [33, 40, 7], [9, 300, 400]]) {
        let model = Sum::new(rows, inner, made);
        let weights = model.weights(salt.into());
        let ends = owner.load(&model, model.terms(&format!("model {salt}"), salt), &weights).await;
        for (party, end) in Party::BOTH.into_iter().zip(ends.expect("it is loaded")) {
            assert_eq!(end.load[..], [salt; 32]);
            let figures = end.figures.expect("of a run that is done");
            assert_eq!((figures.rounds, figures.bits_sent, figures.key_bytes), (0, 0, 32), "{party}");
        }
        for seed in 0..3 {
            client.is_right(&model, salt, &weights, seed).await.expect("it runs");
        }
    }
    for party in Party::BOTH {
        let loads = client.loads(party).await;
        let found = loads.iter().map(|load| (&load.name[..], load.bytes, load.load_bytes, load.runs));
        let due = [(3, 120_400), (2, 287), (1, 18)]
            .map(|(id, elems): (u8, u64)| (format!("model {id}"), 8 * elems, 8 * elems, 3));
        assert!(found.eq(due.iter().map(|(name, a, b, runs)| (&name[..], *a, *b, *runs))), "{:?}", loads);
    }
    hosts.check_batches(12);
}

/// The loads that `caller` sees at `party`: the first byte of each digest, newest first.
async fn listed(caller: &Caller, party: Party) -> Vec<u8> {
    caller.loads(party).await.iter().map(|load| load.digest[0]).collect()
}

/// Bytes of shares in memory at `party`.
async fn share_memory(caller: &Caller, party: Party) -> u64 {
    let info = caller.party(party).info(InfoRequest {}).await.expect("an answer").into_inner();
    info.share_memory.expect("a budget").in_use_bytes
}

#[tokio::test]
async fn a_load_that_is_dropped_ends_its_runs_gives_its_memory_back_and_others_go_on() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let connect = async |name| Caller::connect(&hosts, name).await;
    let (owner, client, operator) =
        (connect("model").await, connect("client").await, connect("operator").await);
    let model = Sum::new(2, 50, 30);
    for salt in [1, 2, 3] {
        let terms = model.terms(&format!("model {salt}"), salt);
        owner.load(&model, terms, &model.weights(salt.into())).await.expect("it is loaded");
    }
    let kept = 8 * (50 * 30 + 30);
    for party in Party::BOTH {
        assert_eq!(share_memory(&operator, party).await, 3 * kept, "{party}");
    }

    // In the middle of a run, by its owner, and at one party alone.
    let start = StartRunRequest { load: vec![1; 32].into(), ..request(&model.program, fresh()) };
    let run = client.start_request(&start).await.expect("it starts");
    for party in Party::BOTH {
        client.follow(party, by_id(run), &[RunState::ReadyForInput]).await;
    }
    let dropped = owner.drop_load(Party::P1, 1).await.expect("its own");
    assert_eq!((dropped.active_runs, dropped.runs, dropped.bytes), (1, 1, kept));
    for (party, state) in [(Party::P1, RunState::Cancelled), (Party::P0, RunState::Failed)] {
        let end = client.follow(party, by_id(run), &[]).await;
        assert_eq!(end.state(), state, "{end:?}");
        let reason = end.failure.expect("why").reason;
        assert!(reason.contains("the model that it uses was dropped"), "{reason}");
    }
    assert_eq!(share_memory(&operator, Party::P1).await, 2 * kept);
    // Loaded at one party alone: it is of no use, and shown where it is.
    let alone = client.is_right(&model, 1, &model.weights(1), 1).await.expect_err("dropped at party 1");
    assert!(alone.contains("no such load for this certificate at party1"), "{alone}");
    assert_eq!(listed(&owner, Party::P0).await, [3, 2, 1]);
    assert_eq!(listed(&owner, Party::P1).await, [3, 2]);
    owner.drop_load(Party::P0, 1).await.expect("its own");
    let again = owner.drop_load(Party::P0, 1).await.expect_err("it is gone");
    assert_eq!(again.code(), Code::NotFound, "{again}");

    // By an operator of each host.
    for party in Party::BOTH {
        operator.drop_load(party, 2).await.expect("any");
    }
    client.is_right(&model, 3, &model.weights(3), 4).await.expect("the third goes on");
    let gone = client.is_right(&model, 2, &model.weights(2), 1).await.expect_err("dropped");
    assert!(gone.contains("no such load"), "{gone}");
    let again = model.terms("again", 2);
    owner.load(&model, again, &model.weights(2)).await.expect("the digest is free again");
    client.is_right(&model, 2, &model.weights(2), 4).await.expect("it runs");
    for party in Party::BOTH {
        // Outputs that wait to be fetched count too.
        assert!(share_memory(&operator, party).await >= 2 * kept, "{party}");
        for salt in [2, 3] {
            owner.drop_load(party, salt).await.expect("its own");
        }
        assert_eq!(listed(&operator, party).await, [0; 0]);
        assert!(share_memory(&operator, party).await < kept, "{party}");
    }
}

#[tokio::test]
async fn after_a_restart_of_any_of_the_three_a_model_is_loaded_again_and_the_error_says_so() {
    let mut hosts = Hosts::start(Path::new(PROGRAM));
    let model = Sum::new(2, 5, 3);
    let weights = model.weights(1);
    for (salt, victim) in (1..).zip(NAMES) {
        let (owner, client) =
            (Caller::connect(&hosts, "model").await, Caller::connect(&hosts, "client").await);
        owner.load(&model, model.terms("ours", salt), &weights).await.expect("it is loaded");
        client.is_right(&model, salt, &weights, 1).await.expect("it runs");
        hosts.kill(victim);
        hosts.restart(victim);
        let (owner, client) =
            (Caller::connect(&hosts, "model").await, Caller::connect(&hosts, "client").await);
        let words = match victim {
            "dealer" => "the dealer has no load".to_owned(),
            party => format!("no such load for this certificate at {party}"),
        };
        let refused = runs_again(&client, &model, salt, &weights).await.expect_err("it was restarted");
        assert!(refused.contains(&words) && refused.contains("load the model again"), "{victim}: {refused}");
        // What needs no load goes on.
        let gate = gelu();
        let run = client.start(&gate, 9).await;
        client.follow(Party::P0, by_id(run), &[RunState::ReadyForInput]).await;
        client.party(Party::P0).cancel_run(by_id(run)).await.expect("its own run");
        client.follow(Party::P1, by_id(run), &[]).await;

        for party in Party::BOTH {
            let was_there = owner.drop_load(party, salt).await.is_ok();
            assert_eq!(was_there, party.role().name() != victim, "{victim} at {party}");
        }
        owner.load(&model, model.terms("ours", salt + 100), &weights).await.expect("the next load works");
        client.is_right(&model, salt + 100, &weights, 2).await.expect("and so do its runs");
    }
}

/// A run, as soon as the parties have found each other again after a restart.
async fn runs_again(client: &Caller, model: &Sum, salt: u8, weights: &[Vec<i64>; 2]) -> Result<(), String> {
    loop {
        match client.is_right(model, salt, weights, 1).await {
            Err(error) if error.contains("dead") || error.contains("is gone") => {}
            other => return other,
        }
    }
}

/// What a party's log says of `what`, by the fields that are asked for.
fn captured<const N: usize>(log: &str, what: &str, fields: [&str; N]) -> Vec<[String; N]> {
    let mark = format!("suf_server::captured: {what} ");
    let lines = log.lines().filter_map(|line| line.split_once(&mark)).map(|(_, rest)| rest);
    let value = |line: &str, field: &str| {
        let found = line.split(' ').find_map(|word| word.strip_prefix(field)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {field} in {line}")).trim_matches('"').to_owned()
    };
    lines.map(|line| fields.map(|field| value(line, field))).collect()
}

/// What the parties open is told by their logs. Equal values in equal shares would be opened equally under equal masks.
#[tokio::test]
async fn runs_on_a_load_share_its_masks_and_no_other_and_two_loads_of_a_model_share_none() {
    const RUNS: usize = 10;
    let mut hosts = Hosts::prepare(Path::new(PROGRAM)).logging(CAPTURE);
    hosts.start_daemons(|_, config| config);
    let (owner, client) = (Caller::connect(&hosts, "model").await, Caller::connect(&hosts, "client").await);
    let model = Sum::new(2, 300, 400);
    let weights = model.weights(1);
    for salt in [1, 2] {
        let terms = model.terms(&format!("model {salt}"), salt);
        owner.load(&model, terms, &weights).await.expect("it is loaded");
        for _ in 0..RUNS {
            client.is_right(&model, salt, &weights, 7).await.expect("it runs");
        }
    }
    for name in &NAMES[1..] {
        let log = hosts.log(name);
        // Three tiles of W and b, and in each run X and the sum.
        let sent = captured(&log, "sent", ["batch", "node", "tile", "hash"]);
        assert_eq!(sent.len(), 2 * (3 + 2 * RUNS), "{name}");
        let hashes: BTreeSet<_> = sent.iter().map(|[.., hash]| hash).collect();
        assert_eq!(hashes.len(), sent.len(), "{name}: no mask met the same value twice");
        let batches: BTreeSet<_> = sent.iter().map(|[batch, ..]| batch).collect();
        assert_eq!(batches.len(), 2 * (1 + RUNS), "{name}");

        // Of both matrices, when they are loaded and in each run.
        let kept = captured(&log, "kept", ["load", "matrix", "hash"]);
        assert_eq!(kept.len(), 2 * 2 * (1 + RUNS), "{name}");
        let mut opened = BTreeMap::<_, BTreeSet<_>>::new();
        for [load, matrix, hash] in &kept {
            opened.entry((load, matrix)).or_default().insert(hash);
        }
        assert_eq!(opened.len(), 4, "{name}: two matrices of two loads");
        assert!(opened.values().all(|hashes| hashes.len() == 1), "{name}: W_hat changed");
        assert_eq!(
            opened.values().flatten().collect::<BTreeSet<_>>().len(),
            4,
            "{name}: two loads share a mask"
        );
    }
    check_from_outside(&[&hosts]);
}
