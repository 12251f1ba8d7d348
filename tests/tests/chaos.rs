//! The world with every fault on. Whatever goes wrong: an output that both parties report is right, no key is used twice, no
//! run hangs, and the next run works.
//!
//! `SUF_SEEDS=100000 cargo test --release -p suf-tests --test chaos` runs as many seeds, from `SUF_FIRST_SEED` on;
//! `SUF_SEED=17 ...` replays one.

use std::sync::Arc;

use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_gate::{Gate, TILE_ELEMS, catalog};
use suf_tests::{
    programs::{Case, Kind},
    world::{Faults, World},
};
use suf_wire::{BatchId, Party};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 2000;

#[derive(Default)]
struct Tally {
    done: u64,
    failed: u64,
    split: u64,
    unequal: u64,
    /// Seeds by kind of program.
    kinds: [u64; Kind::ALL.len()],
}

#[test]
fn simulated_faults_reuse_no_key_and_corrupt_no_output() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().expect("a number"));
    let seeds = match number("SUF_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("SUF_FIRST_SEED").unwrap_or(0);
            first..first + number("SUF_SEEDS").unwrap_or(SEEDS)
        }
    };
    let gates: Vec<_> = catalog::builtin().filter(|gate| gate.name() == "gelu").map(Arc::new).collect();
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
        tally.kinds.iter_mut().zip(lived.kinds).for_each(|(all, more)| *all += more);
    }
    println!(
        "{count} seeds: {} runs done, {} failed, {} known to one party only. {} batches had unequal public parts. \
         {:?} programs had one gate, two in a row, two side by side",
        tally.done, tally.failed, tally.split, tally.unequal, tally.kinds
    );
    if count > 100 {
        // Faults that never strike, or always, test nothing.
        assert!(
            tally.done > count / 10 && tally.failed > count / 10 && tally.unequal > 0,
            "the faults are out of balance"
        );
        assert!(tally.kinds.iter().all(|kind| *kind > count / 10), "the programs are out of balance");
    }
}

/// A run with faults, perhaps another with the same keys, and one without faults.
fn live(seed: u64, gates: &[Arc<Gate>]) -> Tally {
    let mut rng = StdRng::seed_from_u64(seed);
    let gate = &gates[rng.random_range(0..gates.len())];
    let elems = match rng.random_range(0..200) {
        // More than one tile, now and then.
        0 => TILE_ELEMS + 1,
        1..50 => 1,
        _ => rng.random_range(2..100),
    };
    let at = rng.random_range(0..Kind::ALL.len());
    let (at, case) = match Case::new(Kind::ALL[at], gate, elems) {
        Some(case) => (at, case),
        None => (0, Case::new(Kind::Single, gate, elems).expect("every gate stands alone")),
    };
    let mut world = World::with_faults(seed, Faults::ALL);
    let mut tally = Tally::default();
    tally.kinds[at] += 1;
    let batch = world.fresh_batch();
    attempt(&mut world, &case, batch, seed, &mut tally);

    if rng.random_bool(0.3) {
        // A proposer that wants the same keys again, after a restart or out of malice.
        let burnt = Party::BOTH.map(|party| world.has_burnt(party, batch));
        let ended = attempt(&mut world, &case, batch, seed, &mut tally);
        assert!(!(ended && burnt != [false; 2]), "burnt keys were used again");
    }

    world.set_faults(Faults::default());
    let batch = world.fresh_batch();
    assert!(
        attempt(&mut world, &case, batch, seed, &mut tally),
        "a run without faults failed after runs with"
    );
    tally
}

/// One run, held against the oracles. Whether both parties ended well.
fn attempt(world: &mut World, case: &Case, batch: BatchId, seed: u64, tally: &mut Tally) -> bool {
    let x = case.inputs(seed);
    let outcome = world.run(&case.program, batch, &Case::share(&x, 1));
    assert_eq!(world.breaches(), [""; 0]);
    if outcome.unequal.is_some() {
        assert!(outcome.ends.iter().all(Result::is_err), "unequal keys passed unseen");
        tally.unequal += 1;
    }
    match &outcome.ends {
        [Ok(first), Ok(second)] => {
            assert_eq!(first.measured.transcript, second.measured.transcript);
            assert_eq!(case.check(&x, &outcome.outputs), Ok(()));
            tally.done += 1;
            return true;
        }
        [Err(_), Err(_)] => tally.failed += 1,
        // The last message of the one was lost: the other knows that it does not know.
        _ => tally.split += 1,
    }
    false
}
