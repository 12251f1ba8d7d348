//! Private weights, by real processes: a model is loaded once, and programs that its owner named run on it.

use std::path::Path;

use suf_control::v1::ListLoadsRequest;
use suf_tests::{caller::Caller, loads::Sum, processes::Hosts};
use suf_wire::Party;

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
        let listed = client.party(party).list_loads(ListLoadsRequest {}).await.expect("a list").into_inner();
        let found = listed.loads.iter().map(|load| (&load.name[..], load.bytes, load.load_bytes, load.runs));
        let due = [(3, 120_400), (2, 287), (1, 18)]
            .map(|(id, elems): (u8, u64)| (format!("model {id}"), 8 * elems, 8 * elems, 3));
        assert!(
            found.eq(due.iter().map(|(name, a, b, runs)| (&name[..], *a, *b, *runs))),
            "{:?}",
            listed.loads
        );
    }
    hosts.check_batches(12);
}
