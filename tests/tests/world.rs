//! A whole run, dealer and both parties, in virtual time.

use std::{collections::BTreeSet, sync::Arc};

use suf_gate::{
    Gate, NodeId, Program, Protocol, Ring, TILE_ELEMS, catalog,
    ops::{GateOp, Op},
};
use suf_party::{Breach, WINDOW};
use suf_tests::{
    inputs::unite_in,
    loads::Sum,
    programs::{Case, Kind, Whole, hold},
    world::{Faults, Outcome, World},
};
use suf_wire::{BatchId, DataFrame, Digest, Fault, LoadName, Party};

/// Every gate, at sizes that are not round.
const SIZES: [usize; 4] = [1, 9, 1001, 65537];

fn gates(names: &[&str]) -> impl Iterator<Item = Arc<Gate>> {
    catalog::builtin().filter(move |gate| names.contains(&gate.name())).map(Arc::new)
}

fn onehot() -> Arc<Gate> {
    gates(&["gelu"]).find(|gate| gate.protocol() == Protocol::Onehot).expect("built in")
}

fn check(kind: Kind, gate: &Arc<Gate>, elems: usize, seed: u64) -> Option<Outcome> {
    let case = Case::new(kind, gate, elems)?;
    let what = format!("{kind:?} {} {} with {elems} elements, seed {seed}", gate.protocol(), gate.name());
    let rounds = kind.size()[1] * u16::from(gate.declared().rounds);
    Some(check_case(&case, rounds, seed, &what))
}

/// Runs `case` without faults, and holds it against everything that is declared.
fn check_case(case: &Case, rounds: u16, seed: u64, what: &str) -> Outcome {
    let x = case.inputs(seed);
    let (_, outcome) = run(&case.program, &Case::share(&x, seed), rounds, seed, what);
    case.check(&x, &outcome.outputs).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    outcome
}

/// Runs `program` without faults, and holds the figures against what is declared.
fn run(
    program: &Arc<Program>,
    inputs: &[[Vec<u64>; 2]],
    rounds: u16,
    seed: u64,
    what: &str,
) -> (BatchId, Outcome) {
    let mut world = World::new(seed);
    let batch = world.fresh_batch();
    let outcome = world.run(program, batch, inputs);
    assert_eq!(world.breaches(), [""; 0], "{what}");
    for (me, end) in Party::BOTH.into_iter().zip(&outcome.ends) {
        let summary = end.as_ref().unwrap_or_else(|failure| panic!("{what}: {failure}"));
        assert_eq!(summary.measured.rounds, rounds, "{what}");
        assert_eq!(summary.measured.bits_sent, program.message_bits(), "{what}");
        assert_eq!(summary.key_bytes, 32 + program.key_bytes(me), "{what}");
        let declared = program.nodes().filter(|(_, node)| node.exchanges() > 0);
        let declared = declared.map(|(id, node)| (id, node.message_bits(), node.message_bits()));
        let measured = summary.measured.nodes.iter();
        assert!(measured.map(|node| (node.node, node.bits_sent, node.bits_received)).eq(declared), "{what}");
    }
    (batch, outcome)
}

/// Runs of a whole program under other seeds each.
const WHOLE_SEEDS: u64 = 5;

#[test]
fn programs_of_all_operations_give_what_these_define() {
    let gates = gates(&["gelu"]).filter(|gate| gate.protocol() != Protocol::SufLut);
    let mut wholes: Vec<_> = gates.map(|gate| Whole::operations(GateOp::new(gate))).collect();
    wholes.push(Whole::bert());
    let mut seen = BTreeSet::new();
    for (at, whole) in wholes.iter().enumerate() {
        let program = &whole.program;
        seen.extend(program.nodes().map(|(_, node)| operation(node.op())));
        for seed in 0..WHOLE_SEEDS {
            let (what, inputs) = (format!("program {at}, seed {seed}"), whole.share(seed));
            let (batch, outcome) = run(program, &inputs, program.rounds(), seed, &what);
            let seeds = outcome.seeds.expect("keys were dealt");
            hold(program, (batch.0, seeds), &inputs, &outcome.outputs)
                .unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        }
    }
    let model = Sum::new(4, 30, 7);
    for program in [&model.load, &model.program] {
        seen.extend(program.nodes().map(|(_, node)| operation(node.op())));
    }
    assert!(seen.into_iter().eq(0..OPERATIONS), "operations that no program has");
}

/// Number of operations that parties evaluate.
const OPERATIONS: u8 = 20;

#[test]
fn runs_on_loads_give_what_the_loaded_matrices_define() {
    let model = Sum::new(9, 300, 400);
    let what = "a load of two matrices, one of two tiles and more";
    let mut world = World::new(7);
    let mut names = Vec::new();
    for (salt, weights) in [(1, model.weights(1)), (2, model.weights(2))] {
        let batch = world.fresh_batch();
        let name = LoadName { digest: Digest([salt; 32]), batch: None };
        let outcome = world.run_with(&model.load, Some(name), batch, &model.share(&model.load, &weights, 1));
        for end in &outcome.ends {
            let summary = end.as_ref().unwrap_or_else(|failure| panic!("{what}: {failure}"));
            assert_eq!((summary.measured.rounds, summary.key_bytes), (0, 32));
        }
        names.push((LoadName { batch: Some(batch), ..name }, weights));
    }
    for seed in 0..3 {
        for (name, weights) in &names {
            let (batch, x) = (world.fresh_batch(), model.rows(seed));
            let inputs = model.share(&model.program, std::slice::from_ref(&x), seed);
            let outcome = world.run_with(&model.program, Some(*name), batch, &inputs);
            assert!(outcome.ends.iter().all(Result::is_ok), "{:?}", outcome.ends);
            assert_eq!(unite_in(Ring::new(64), &outcome.outputs[0]), model.right(weights, &x), "{name:?}");
        }
    }
    assert_eq!(world.breaches(), [""; 0]);
    // Another digest under the same batch: the ledger of either party knows what the batch is bound to.
    let (name, _) = &names[0];
    let swapped = LoadName { digest: Digest([2; 32]), ..*name };
    let (batch, inputs) = (world.fresh_batch(), model.share(&model.program, &[model.rows(1)], 1));
    let outcome = world.run_with(&model.program, Some(swapped), batch, &inputs);
    for end in &outcome.ends {
        let failure = end.as_ref().expect_err("it is bound to another");
        assert!(failure.reason.contains("was not burnt for the load"), "{failure}");
    }
    assert!(Party::BOTH.iter().all(|party| !world.has_burnt(*party, batch)), "nothing is burnt for it");
}

/// A number of an operation, so that one that is added is missed.
fn operation(op: &Op) -> u8 {
    match op {
        Op::Input(_) => 0,
        Op::Output(_) => 1,
        Op::Gate(_) => 2,
        Op::Open(_) => 3,
        Op::Linear(_) => 4,
        Op::Add(_) => 5,
        Op::Shift(_) => 6,
        Op::Drop(_) => 7,
        Op::Slice(_) => 8,
        Op::Gain(_) => 9,
        Op::SubtractRow(_) => 10,
        Op::Pads(_) => 11,
        Op::Product(_) => 12,
        Op::Scale(_) => 13,
        Op::SquareSum(_) => 14,
        Op::RowExponent(_) => 15,
        Op::Exp2(_) => 16,
        Op::Spline(_) => 17,
        Op::Keep(_) => 18,
        Op::Private(_) => 19,
    }
}

#[test]
fn every_gelu_and_silu_gate_is_right_at_odd_and_full_sizes() {
    for gate in gates(&["gelu", "silu"]) {
        for elems in SIZES {
            check(Kind::Single, &gate, elems, elems as u64);
        }
    }
}

#[test]
fn every_built_in_gate_is_right() {
    for gate in catalog::builtin().map(Arc::new) {
        check(Kind::Single, &gate, 1001, 3);
    }
}

#[test]
fn programs_of_two_gates_are_right() {
    let mut in_a_row = 0;
    for gate in gates(&["gelu", "silu"]) {
        for elems in SIZES {
            check(Kind::SideBySide, &gate, elems, elems as u64).expect("every gate stands beside another");
            in_a_row += usize::from(check(Kind::InARow, &gate, elems, elems as u64).is_some());
        }
    }
    assert!(in_a_row >= 40, "only {in_a_row} programs of gates in a row");
}

/// Nodes share the window: here each has one part. In a row, a part's key is there long before its input.
#[test]
fn more_nodes_than_the_window_holds() {
    let nodes = WINDOW as u16 + 8;
    let rounds = u16::from(onehot().declared().rounds);
    for (grid, depth) in [([nodes, 1], 1), ([1, nodes], nodes), ([7, 7], 7)] {
        let case = Case::grid(grid, &onehot(), 5).expect("a program");
        for seed in 1..=4 {
            check_case(&case, depth * rounds, seed, &format!("{grid:?}, seed {seed}"));
        }
    }
    let shares = gates(&["gelu"]).find(|gate| gate.takes_shares()).expect("built in");
    let case = Case::grid([nodes, 1], &shares, 5).expect("a program");
    check_case(&case, shares.declared().rounds.into(), 1, "inputs that are not opened");
}

#[test]
fn a_wire_may_be_taken_often_and_a_program_need_not_compute() {
    let rounds = u16::from(onehot().declared().rounds);
    for elems in [1, 1001, 65537] {
        check_case(&Case::with_many_takers(&onehot(), elems), 2 * rounds, 1, "many takers");
        let plain = Case::without_gates(&onehot(), elems);
        assert_eq!(plain.program.keyed_parts().count(), 0);
        check_case(&plain, 0, 1, "no gates");
    }
}

#[test]
fn more_tiles_than_the_window_holds() {
    let elems = (WINDOW as usize + 3) * TILE_ELEMS + 5;
    // Over other numbers of lanes.
    for seed in 1..=3 {
        check(Kind::Single, &onehot(), elems, seed);
    }
    // The window ends within the second node.
    check(Kind::InARow, &onehot(), (WINDOW as usize / 2 + 3) * TILE_ELEMS + 5, 4);
    check(Kind::SideBySide, &onehot(), (WINDOW as usize / 2 + 3) * TILE_ELEMS + 5, 5);
}

/// The second gate's messages depend on all of the first one's, and on no more; gates side by side do not depend on each other.
#[test]
fn depth_follows_the_wires() {
    let rounds = u16::from(onehot().declared().rounds);
    let depths = |kind, node: u16| {
        let outcome = check(kind, &onehot(), 9, 1).expect("a program");
        let frames: Vec<_> =
            outcome.sent[0].iter().filter(|frame| frame.part.node == NodeId(node)).cloned().collect();
        frames.iter().map(|frame| frame.depth.depth()).collect::<Vec<_>>()
    };
    let counted = |from| (from..from + rounds).collect::<Vec<_>>();
    assert_eq!(depths(Kind::InARow, 0), [1], "an input's opening depends on nothing");
    assert_eq!(depths(Kind::InARow, 1), counted(1));
    assert_eq!(depths(Kind::InARow, 2), counted(1 + rounds));
    assert_eq!(depths(Kind::SideBySide, 2), counted(1));
    assert_eq!(depths(Kind::SideBySide, 3), counted(1));
}

/// Elements for which each of two nodes has a segment of its own.
const TWO_SEGMENTS: usize = 7 * TILE_ELEMS;

#[test]
fn segments_of_keys_are_announced_and_evaluated_in_order() {
    for (seed, kind) in [(1, Kind::InARow), (2, Kind::SideBySide)] {
        let case = Case::new(kind, &onehot(), TWO_SEGMENTS).expect("a program");
        assert_eq!(case.program.segments(), 2);
        // The world sees whoever sends a frame of a segment before both said that they are ready for it.
        check(kind, &onehot(), TWO_SEGMENTS, seed);
    }
}

#[test]
fn a_dealer_that_gives_unequal_public_parts_is_named_before_the_first_exchange() {
    let mut caught = 0;
    for gate in gates(&["gelu", "silu"]) {
        for seed in 0..20 {
            let what = format!("{} {}, seed {seed}", gate.protocol(), gate.name());
            let kind = [Kind::Single, Kind::SideBySide][seed as usize % 2];
            let case = Case::new(kind, &gate, 9).expect("a program");
            let outcome = lied_to(&case, seed);
            // Only onehot has no part that both parties hold in equal bytes.
            assert_eq!(outcome.unequal.is_some(), gate.protocol() != Protocol::Onehot, "{what}");
            if outcome.unequal.is_none() {
                assert!(outcome.ends.iter().all(Result::is_ok), "{what}");
                continue;
            }
            is_caught(&case, &outcome, &what);
            caught += 1;
        }
    }
    assert!(caught >= 100, "only {caught} runs had unequal keys");
}

/// The first segment is evaluated, and nothing of the second.
#[test]
fn unequal_public_parts_of_a_later_segment_are_seen_before_its_first_exchange() {
    let gate = gates(&["gelu"]).find(|gate| gate.protocol() == Protocol::Dpf).expect("built in");
    let case = Case::new(Kind::InARow, &gate, 2 * TILE_ELEMS).expect("a program");
    assert_eq!(case.program.segments(), 2);
    let mut caught = [0; 2];
    for seed in 0..8 {
        let outcome = lied_to(&case, seed);
        is_caught(&case, &outcome, &format!("seed {seed}"));
        caught[usize::from(outcome.unequal.expect("dpf has public parts"))] += 1;
    }
    assert!(caught.iter().all(|count| *count > 0), "segments that were wrong: {caught:?}");
}

fn lied_to(case: &Case, seed: u64) -> Outcome {
    let mut world = World::with_faults(seed, Faults { unequal: 1.0, ..Faults::default() });
    let batch = world.fresh_batch();
    let outcome = world.run(&case.program, batch, &Case::share(&case.inputs(seed), seed));
    assert_eq!(world.breaches(), [""; 0]);
    outcome
}

fn is_caught(case: &Case, outcome: &Outcome, what: &str) {
    let wrong = outcome.unequal.expect("the dealer lied");
    for end in &outcome.ends {
        let failure = end.as_ref().expect_err(what);
        assert_eq!(failure.fault, Fault::Dealer, "{what}: {failure}");
    }
    let named = |end: &Result<_, suf_party::RunFailure>| {
        let breach = end.as_ref().err().and_then(|failure| failure.breach.as_ref());
        matches!(breach, Some(Breach::UnequalKeys { segment, .. }) if *segment == wrong)
    };
    assert!(outcome.ends.iter().any(named), "{what}: {:?}", outcome.ends);
    let of_wrong = |frame: &&DataFrame| {
        let node = frame.part.node;
        !case.program.node(node).is_input() && case.program.segment_of(node) >= wrong
    };
    assert_eq!(outcome.sent.iter().flatten().filter(of_wrong).count(), 0, "{what}");
}

#[test]
fn a_lost_device_ends_its_partys_run_and_not_the_party() {
    let mut lost = 0;
    for gate in gates(&["gelu"]) {
        for seed in 0..20 {
            let what = format!("{} {}, seed {seed}", gate.protocol(), gate.name());
            let mut world = World::with_faults(seed, Faults { device: 0.1, ..Faults::default() });
            let case = Case::new(Kind::Single, &gate, 9).expect("a program");
            let x = case.inputs(seed);
            let run = |world: &mut World| {
                let batch = world.fresh_batch();
                world.run(&case.program, batch, &Case::share(&x, seed)).ends
            };
            let ends = run(&mut world);
            let faults: Vec<Fault> = ends.iter().filter_map(|end| Some(end.as_ref().err()?.fault)).collect();
            if !faults.is_empty() {
                assert!(faults.contains(&Fault::Device), "{what}: {ends:?}");
                assert!(
                    faults.iter().all(|fault| [Fault::Device, Fault::Peer].contains(fault)),
                    "{what}: {ends:?}"
                );
                lost += 1;
            }
            world.set_faults(Faults::default());
            assert!(run(&mut world).iter().all(Result::is_ok), "{what}: the next run");
            assert_eq!(world.breaches(), [""; 0], "{what}");
        }
    }
    assert!(lost >= 40, "only {lost} runs lost a device");
}

#[test]
fn a_seed_decides_outputs_frames_and_time() {
    let case = Case::new(Kind::InARow, &onehot(), 1001).expect("a program");
    let run = |seed| {
        let mut world = World::new(seed);
        let batch = world.fresh_batch();
        world.run(&case.program, batch, &Case::share(&case.inputs(1), 1))
    };
    let (first, again, other) = (run(1), run(1), run(2));
    assert_eq!(first.outputs, again.outputs);
    assert_eq!(first.elapsed_us, again.elapsed_us);
    assert_eq!(first.sent, again.sent);
    assert_ne!(first.sent, other.sent);
}
