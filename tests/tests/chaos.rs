//! The world with every fault on. Whatever goes wrong: an output that both parties report is right, no key is used twice, no
//! run hangs, and the next run works.
//!
//! `SUF_SEEDS=100000 cargo test --release -p suf-tests --test chaos` runs as many seeds, from `SUF_FIRST_SEED` on;
//! `SUF_SEED=17 ...` replays one.

use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_gate::{Gate, catalog};
use suf_tests::{
    inputs,
    world::{Faults, World},
};
use suf_wire::PartyId;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 2000;

#[derive(Default)]
struct Tally {
    done: u64,
    failed: u64,
    split: u64,
    unequal: u64,
}

#[test]
fn nothing_that_goes_wrong_reveals_or_corrupts() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().expect("a number"));
    let seeds = match number("SUF_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("SUF_FIRST_SEED").unwrap_or(0);
            first..first + number("SUF_SEEDS").unwrap_or(SEEDS)
        }
    };
    let gates: Vec<Gate> = catalog::builtin().filter(|gate| gate.name() == "gelu").collect();
    let mut tally = Tally::default();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| live(seed, &gates));
        let lived = outcome.unwrap_or_else(|_| {
            panic!("replay: SUF_SEED={seed} cargo test --release -p suf-tests --test chaos");
        });
        tally.done += lived.done;
        tally.failed += lived.failed;
        tally.split += lived.split;
        tally.unequal += lived.unequal;
    }
    println!(
        "{count} seeds: {} runs done, {} failed, {} known to one party only; {} batches with unequal public parts",
        tally.done, tally.failed, tally.split, tally.unequal
    );
    if count > 100 {
        // Faults that never strike, or always, test nothing.
        assert!(
            tally.done > count / 10 && tally.failed > count / 10 && tally.unequal > 0,
            "the faults are out of balance"
        );
    }
}

/// A run with faults, perhaps another with the same keys, and one without faults.
fn live(seed: u64, gates: &[Gate]) -> Tally {
    let mut rng = StdRng::seed_from_u64(seed);
    let gate = &gates[rng.random_range(0..gates.len())];
    let elems = match rng.random_range(0..200) {
        // More than one chunk, now and then.
        0 => suf_gate::CHUNK_ELEMS + 1,
        1..50 => 1,
        _ => rng.random_range(2..100),
    };
    let x = inputs::awkward(gate, elems, seed);
    let mut world = World::with_faults(seed, Faults::ALL);
    let mut tally = Tally::default();
    let batch = world.fresh_batch();
    attempt(&mut world, gate, batch, &x, &mut tally);

    if rng.random_bool(0.3) {
        // A proposer that wants the same keys again, after a restart or out of malice.
        let burnt = PartyId::BOTH.map(|party| world.has_burnt(party, batch));
        let ended = attempt(&mut world, gate, batch, &x, &mut tally);
        assert!(!(ended && burnt != [false; 2]), "burnt keys were used again");
    }

    world.set_faults(Faults::default());
    let batch = world.fresh_batch();
    assert!(attempt(&mut world, gate, batch, &x, &mut tally), "a run without faults failed after runs with");
    tally
}

/// One run, held against the oracles. Whether both parties ended well.
fn attempt(world: &mut World, gate: &Gate, batch: suf_wire::BatchId, x: &[i64], tally: &mut Tally) -> bool {
    let outcome = world.run(gate.clone(), batch, inputs::share(x, 1));
    assert_eq!(world.breaches(), [""; 0]);
    if outcome.unequal {
        assert!(outcome.ends.iter().all(Result::is_err), "unequal keys passed unseen");
        tally.unequal += 1;
    }
    match &outcome.ends {
        [Ok(first), Ok(second)] => {
            assert_eq!(first.measured.transcript, second.measured.transcript);
            for (x, y) in x.iter().zip(inputs::unite(&outcome.outputs)) {
                assert!(gate.reference(*x).contains(&y), "x = {x} gives {y}");
            }
            tally.done += 1;
            return true;
        }
        [Err(_), Err(_)] => tally.failed += 1,
        // The last message of the one was lost: the other knows that it does not know.
        _ => tally.split += 1,
    }
    false
}
