//! A whole run, dealer and both parties, in virtual time.

use std::sync::Arc;

use suf_gate::{Gate, Protocol, catalog};
use suf_party::{Event, Phase, Plan, Run};
use suf_tests::{
    inputs,
    world::{Faults, World},
};
use suf_wire::{Accept, BatchId, DataFrame, Fault, PartyId, PeerMessage, RunId};

/// Every gate, at sizes that are not round.
const SIZES: [usize; 4] = [1, 9, 1001, 65537];

fn check(gate: &Gate, elems: usize, seed: u64) {
    let what = format!("{} {} with {elems} elements, seed {seed}", gate.protocol(), gate.name());
    let x = inputs::awkward(gate, elems, seed);
    let mut world = World::new(seed);
    let batch = world.fresh_batch();
    let outcome = world.run(gate.clone(), batch, inputs::share(&x, seed));
    assert_eq!(world.breaches(), [""; 0], "{what}");
    for end in &outcome.ends {
        let summary = end.as_ref().unwrap_or_else(|failure| panic!("{what}: {failure}"));
        assert_eq!(summary.measured.rounds, gate.declared().rounds, "{what}");
        assert_eq!(summary.measured.bits_sent, gate.batch_message_bits(elems as u64), "{what}");
    }
    for (x, y) in x.iter().zip(inputs::unite(&outcome.outputs)) {
        let right = gate.reference(*x);
        assert!(right.contains(&y), "{what}: x = {x} gives {y}, right are {right:?}");
    }
}

#[test]
fn every_gate_is_right_at_every_size() {
    for gate in catalog::builtin().filter(|gate| ["gelu", "silu"].contains(&gate.name())) {
        for elems in SIZES {
            check(&gate, elems, elems as u64);
        }
    }
}

#[test]
fn every_other_activation_is_right() {
    for gate in catalog::builtin() {
        check(&gate, 1001, 3);
    }
}

#[test]
fn more_chunks_than_the_window_holds() {
    let gate = catalog::builtin().find(|gate| gate.name() == "gelu").expect("built in");
    let elems = (suf_party::WINDOW as usize + 3) * suf_gate::CHUNK_ELEMS + 5;
    // Over other numbers of lanes.
    (1..=3).for_each(|seed| check(&gate, elems, seed));
}

/// Each lane keeps an order of its own: a party that has its keys and its input early sends over all of them, while its acceptance
/// is still on the first.
#[test]
fn an_opening_may_overtake_the_acceptance() {
    let gate = catalog::builtin().find(|gate| !gate.takes_shares()).expect("there are such gates");
    let (run, batch, elems) = (RunId([1; 16]), BatchId([2; 16]), 9);
    let plan = Plan { run, batch, elems, gate: Arc::new(gate), deadline_ms: 1, me: PartyId::P0 };
    let digest = plan.digest();
    let mut party = Run::propose(plan);
    let bytes = party.expected_frame(DataFrame::OPEN, 0).expect("it may come");
    let bits = 8 * bytes as u64;
    for message in [
        PeerMessage::Frame(DataFrame::new(DataFrame::OPEN, 0, bits, vec![0; bytes].into())),
        PeerMessage::Accept(Accept { run, digest, batch, elems }),
    ] {
        party.handle(Event::Peer(message));
    }
    assert_eq!(party.phase(), Phase::Dealing);
    assert!(party.expected_frame(DataFrame::OPEN, 0).is_err(), "the opening came");
}

#[test]
fn a_dealer_that_gives_unequal_public_parts_is_named_before_the_first_exchange() {
    let mut caught = 0;
    for gate in catalog::builtin().filter(|gate| ["gelu", "silu"].contains(&gate.name())) {
        for seed in 0..20 {
            let what = format!("{} {}, seed {seed}", gate.protocol(), gate.name());
            let mut world = World::with_faults(seed, Faults { unequal: 1.0, ..Faults::default() });
            let x = inputs::awkward(&gate, 9, seed);
            let batch = world.fresh_batch();
            let outcome = world.run(gate.clone(), batch, inputs::share(&x, seed));
            // Only onehot has no part that both parties hold in equal bytes.
            assert_eq!(outcome.unequal, gate.protocol() != Protocol::Onehot, "{what}");
            if !outcome.unequal {
                assert!(outcome.ends.iter().all(Result::is_ok), "{what}");
                continue;
            }
            for end in &outcome.ends {
                let failure = end.as_ref().expect_err(&what);
                assert_eq!(failure.fault, Fault::Dealer, "{what}: {failure}");
                assert!(failure.reason.contains("unequal public parts"), "{what}: {failure}");
            }
            let exchanges = outcome.sent.iter().flatten().filter(|frame| frame.step != DataFrame::OPEN);
            assert_eq!(exchanges.count(), 0, "{what}");
            caught += 1;
        }
    }
    assert!(caught >= 100, "only {caught} runs had unequal keys");
}

#[test]
fn a_lost_device_ends_its_partys_run_and_not_the_party() {
    let mut lost = 0;
    for gate in catalog::builtin().filter(|gate| gate.name() == "gelu") {
        for seed in 0..20 {
            let what = format!("{} {}, seed {seed}", gate.protocol(), gate.name());
            let mut world = World::with_faults(seed, Faults { device: 0.1, ..Faults::default() });
            let x = inputs::awkward(&gate, 9, seed);
            let run = |world: &mut World| {
                let batch = world.fresh_batch();
                world.run(gate.clone(), batch, inputs::share(&x, seed)).ends
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
fn a_seed_decides_everything() {
    let gate = catalog::builtin().find(|gate| gate.name() == "gelu").expect("built in");
    let x = inputs::awkward(&gate, 1001, 1);
    let run = |seed| {
        let mut world = World::new(seed);
        let batch = world.fresh_batch();
        world.run(gate.clone(), batch, inputs::share(&x, 1))
    };
    let (first, again, other) = (run(1), run(1), run(2));
    assert_eq!(first.outputs, again.outputs);
    assert_eq!(first.elapsed_us, again.elapsed_us);
    assert_eq!(first.sent, again.sent);
    assert_ne!(first.sent, other.sent);
}
