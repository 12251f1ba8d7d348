//! Programs of several nodes by real processes. They are described whole over the control API and give right results.
//! Each node costs what it declares, and keys come in segments.

use std::{path::Path, sync::Arc};

use suf_control::v1::{DescribeRequest, Gate, RunState, StartRunRequest};
use suf_gate::{NodeId, Program, Protocol, Ring, TILE_ELEMS, catalog, gatefile::GateFile};
use suf_tests::{
    caller::{Caller, by_id, gelu},
    processes::{CAPTURE, Hosts, check_from_outside, loopback_with_lanes},
    programs::{Case, Kind},
};
use suf_wire::{Party, RunId};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Two tiles, the second of which is short and does not end on a byte of planes.
const ELEMS: usize = TILE_ELEMS + 1003;

/// Elements of which one gate's keys fill a segment.
const MANY: usize = 6 * TILE_ELEMS + 9;

#[tokio::test]
async fn programs_are_right_and_each_node_costs_what_it_declares() {
    let hosts = start(3);
    let client = Caller::connect(&hosts, "client").await;
    let file = GateFile::builtin("gelu").expect("built in");
    let mut runs = 0;
    for protocol in [Protocol::Onehot, Protocol::SufLut, Protocol::Dpf] {
        let gate = Arc::new(catalog::gate(&file, protocol, None).expect("in the file"));
        for kind in Kind::ALL {
            if let Some(case) = Case::new(kind, &gate, ELEMS) {
                run(&client, &case, runs).await;
                runs += 1;
            }
        }
    }
    assert_eq!(runs, 8, "two gates of suf-lut are not in a row");
    hosts.check_batches(8);
    check_from_outside(&[&hosts]);
}

#[tokio::test]
async fn programs_whose_keys_come_in_segments_are_right() {
    let hosts = start(1);
    let client = Caller::connect(&hosts, "client").await;
    for kind in [Kind::InARow, Kind::SideBySide] {
        let case = Case::new(kind, &gelu(), MANY).expect("onehot takes a masked wire");
        assert_eq!(case.program.segments(), 2, "{kind:?}");
        run(&client, &case, 5).await;
    }
    check_from_outside(&[&hosts]);
}

/// Runs `case` and compares outputs and figures of both parties.
async fn run(client: &Caller, case: &Case, seed: u64) {
    let (program, x) = (&*case.program, case.inputs(seed));
    let run = client.start_program(program).await;
    for party in Party::BOTH {
        client.follow(party, by_id(run), &[RunState::ReadyForInput]).await;
    }
    for (node, shares) in program.inputs().zip(Case::share(&x, seed)) {
        let ring = program.node(node).ring().expect("an input makes a wire");
        for (party, share) in Party::BOTH.into_iter().zip(&shares) {
            let taken = client.submit_to(party, run, (node, ring), share).await.expect("its own run");
            assert_eq!(taken, share.len() as u64);
        }
    }
    for party in Party::BOTH {
        let end = client.follow(party, by_id(run), &[]).await;
        assert_eq!(end.state(), RunState::Done, "{party}: {end:?}");
        assert_eq!(end.program_digest[..], program.digest()[..]);
        assert_eq!(end.elements, program.input_elems());
        let figures = end.figures.expect("of a run that is done");
        let (rounds, bits) = (u32::from(program.rounds()), program.message_bits());
        assert_eq!((figures.rounds, figures.bits_sent, figures.bits_received), (rounds, bits, bits));
        assert_eq!((figures.declared_rounds, figures.declared_bits), (rounds, bits));
        assert_eq!(figures.key_bytes, 32 + program.key_bytes(party));
        let measured = figures.nodes.iter();
        let measured = measured.map(|node| (node.node, &node.name[..], node.bits_sent, node.key_bytes));
        let declared: Vec<_> = program
            .nodes()
            .filter(|(_, node)| !node.is_output())
            .map(|(id, node)| {
                let keys = program.node_key_bytes(party, id);
                (u32::from(id.0), node.op().def().name(), node.message_bits(), keys)
            })
            .collect();
        let declared = declared.iter().map(|(id, name, bits, keys)| (*id, &name[..], *bits, *keys));
        assert!(measured.eq(declared), "{party}: {:?}", figures.nodes);
        assert!(figures.run_ms >= figures.eval_ms, "{party}: the opening of the inputs takes time");
        assert!(figures.nodes.iter().all(|node| node.bits_sent == node.bits_received), "{:?}", figures.nodes);
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

#[tokio::test]
async fn what_describes_no_program_or_no_tensor_of_it_is_refused_in_words() {
    let hosts = start(1);
    let client = Caller::connect(&hosts, "client").await;
    let gate = gelu();
    let described = Some(Gate { description: gate.encode().into(), ..Gate::default() });
    let whole = Program::of_gate(Arc::clone(&gate), 9).expect("of a size").encoded().to_vec();
    let mut cut = whole.clone();
    cut.pop();
    for (gate, elements, program, words) in [
        (None, 0, vec![], "neither gate nor program"),
        (described.clone(), 9, whole.clone(), "both a gate and a program"),
        (described.clone(), 0, vec![], "the tensor is empty"),
        (described.clone(), 1 << 40, vec![], "takes at most 100000000"),
        (None, 0, cut, "program encoding: cut short"),
    ] {
        let run_id = vec![7; 16].into();
        let program = program.into();
        let request = StartRunRequest { gate, elements, program, run_id, ..StartRunRequest::default() };
        let refused = client.party(Party::P0).start_run(request).await.expect_err(words);
        assert!(refused.message().contains(words), "{refused}");
    }

    // A gate by itself and the program of that gate are the same run.
    let of_gate = DescribeRequest { gate: described, elements: 9, ..DescribeRequest::default() };
    let of_program = DescribeRequest { program: whole.into(), ..DescribeRequest::default() };
    let mut party = client.party(Party::P0);
    let of_gate = party.describe(of_gate).await.expect("an answer").into_inner();
    assert_eq!(of_gate, party.describe(of_program).await.expect("an answer").into_inner());
    assert!(of_gate.accepted && of_gate.key_bytes_p1 > 0, "{of_gate:?}");

    let case = Case::new(Kind::SideBySide, &gate, 9).expect("a program");
    let run = client.start_program(&case.program).await;
    client.follow(Party::P0, by_id(run), &[RunState::ReadyForInput]).await;
    let to = async |node, run: RunId, share: &[u64]| {
        let submitted = client.submit_to(Party::P0, run, (NodeId(node), Ring::new(48)), share).await;
        submitted.expect_err("refused").message().to_owned()
    };
    let words = to(4, run, &[1; 9]).await;
    assert!(words.contains("node 4 is no input") && words.contains("it has input 0, 1"), "{words}");
    let words = to(1, run, &[1; 8]).await;
    assert!(words.contains("8 elements announced, the run has 9"), "{words}");
    let fetched = client.fetch(Party::P0, by_id(run)).await.expect_err("there are two outputs");
    assert!(fetched.message().contains("it has output 4, 5"), "{fetched}");
}

/// Daemons whose connections have `lanes` lanes.
fn start(lanes: usize) -> Hosts {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM)).logging(CAPTURE);
    let link = loopback_with_lanes(hosts.folder(), lanes);
    hosts.start_daemons(|name, config| match name {
        "dealer" => config.replace("link = \"loopback\"", &link),
        _ => format!("{link}\n{config}"),
    });
    hosts
}
