//! A run is cancelled while a node computes that takes seconds: at once, and without a trace.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use safetensors::{Dtype, tensor::TensorView};
use suf_cli::client::Parties;
use suf_control::v1::RunState;
use suf_gate::{
    Form, NodeId, Program, Ring, TensorShape,
    ops::{Input, Linear, Op, Output},
};
use suf_link::Identity;
use suf_process::weights;
use suf_tests::{
    caller::{Caller, by_id, gelu},
    holdings::nothing_in_use,
    inputs,
    processes::Hosts,
};
use suf_wire::Party;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// The matrix: inputs and outputs.
const SIDE: u32 = 4096;

/// Rows of the input, hence 2^34 products of numbers of 64 bits.
const ROWS: u32 = 1024;

const RING: Ring = Ring::new(64);

const FILE: &str = "large.safetensors";

/// The file of the matrix, in 8 bits.
fn file() -> Vec<u8> {
    let bytes: Vec<u8> = (0..SIDE * SIDE).map(|at| (at % 251) as u8).collect();
    let view = TensorView::new(Dtype::I8, vec![SIDE as usize; 2], &bytes).expect("lengths fit");
    safetensors::serialize(BTreeMap::from([("large", view)]), None).expect("a file")
}

#[tokio::test]
async fn a_run_is_cancelled_at_both_parties_while_a_large_product_computes() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    let bytes = file();
    fs::write(hosts.folder().join(FILE), &bytes).expect("the folder is writable");
    hosts.start_daemons(|_, config| format!("weights = [\"{FILE}\"]\n{config}"));
    let (_, matrix) = weights::decode(&bytes).expect("a file of weights").remove(0);
    let shape = TensorShape::new(ROWS, SIDE).expect("a tensor");
    let program = Program::new([
        (Op::Input(Input::new(shape, RING, 0, Form::Masked)), vec![]),
        (Op::Linear(Linear::new(Arc::new(matrix), 0)), vec![NodeId(0)]),
        (Op::Output(Output), vec![NodeId(1)]),
    ]);
    let program = program.expect("a program");
    let client = Caller::connect(&hosts, "client").await;
    let run = client.start_program(&program).await;
    for party in Party::BOTH {
        client.follow(party, by_id(run), &[RunState::ReadyForInput]).await;
    }
    let shares = inputs::share_in(RING, &vec![1; shape.elems() as usize], 1);
    for (party, share) in Party::BOTH.into_iter().zip(&shares) {
        client.submit_to(party, run, (NodeId(0), RING), share).await.expect("its own run");
    }
    let now = client.follow(Party::P0, by_id(run), &[RunState::Evaluating]).await;
    assert_eq!(now.state(), RunState::Evaluating, "{now:?}");

    // A client of the program gives each party less than a second.
    let identity = Identity::load_from(&hosts.folder().join("pki"), "client").expect("a certificate");
    let [first, second] = ["party0", "party1"].map(|name| hosts.control_url(name));
    let parties = Parties::connect([&first, &second], &identity).await.expect("they answer");
    let ended = parties.cancel(run).await;
    for (party, ended) in Party::BOTH.into_iter().zip(ended) {
        let state = ended.expect("within the limit");
        // The other party may have heard of it first.
        assert!(matches!(state, RunState::Cancelled | RunState::Failed), "{party}: {state:?}");
    }
    nothing_in_use(&client).await;
    let next = client.start(&gelu(), 9).await;
    for party in Party::BOTH {
        client.follow(party, by_id(next), &[RunState::ReadyForInput]).await;
        client.submit(party, next, &[1 << 12; 9]).await.expect("its own run");
    }
    for party in Party::BOTH {
        assert_eq!(client.follow(party, by_id(next), &[]).await.state(), RunState::Done);
    }
}
