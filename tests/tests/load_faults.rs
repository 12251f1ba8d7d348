//! Loads and runs on them in the simulated world with every fault on. Whatever goes wrong: an output that both parties report is
//! right, no mask meets two values, and the next load and the next run work.
//!
//! `SUF_SEEDS=100000 cargo test --release -p suf-tests --test load_faults` runs as many seeds, from `SUF_FIRST_SEED` on.

use std::collections::HashSet;

use suf_gate::Ring;
use suf_tests::{
    inputs::unite_in,
    loads::Sum,
    world::{Faults, Outcome, World},
};
use suf_wire::{BatchId, Digest, LoadName, Party};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 1000;

/// Runs on each load.
const RUNS: usize = 3;

/// Times as many messages and events as a program of one gate has.
const STEPS: f64 = 2.0;

/// Payloads of fewer bytes may be equal by chance.
const LEAST_BYTES: usize = 16;

#[derive(Debug, Default)]
struct Tally {
    loads: [u64; 2],
    runs: [u64; 2],
}

/// A world with one model. Its weights and rows come in equal shares every time, so what is opened of them is equal exactly where
/// masks are.
struct Scene {
    world: World,
    model: Sum,
    weights: [Vec<i64>; 2],
    rows: Vec<i64>,
    opened: HashSet<(Party, Vec<u8>)>,
    salt: u8,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let model = Sum::new(3, 20, 6);
        let (weights, rows) = (model.weights(seed), model.rows(seed));
        let world = World::with_faults(seed, Faults::ALL.over(STEPS));
        Self { world, model, weights, rows, opened: HashSet::new(), salt: 0 }
    }

    /// Whether both parties ended well.
    fn hold(&mut self, outcome: &Outcome) -> bool {
        assert_eq!(self.world.breaches(), [""; 0]);
        for (party, sent) in Party::BOTH.into_iter().zip(&outcome.sent) {
            for frame in sent.iter().filter(|frame| frame.payload.len() >= LEAST_BYTES) {
                assert!(
                    self.opened.insert((party, frame.payload.to_vec())),
                    "{party}: a mask met a value twice"
                );
            }
        }
        outcome.ends.iter().all(Result::is_ok)
    }

    /// A load: its name, and whether both parties ended well. Otherwise one of them may have it.
    fn load(&mut self) -> (LoadName, bool) {
        self.salt += 1;
        let (batch, digest) = (self.world.fresh_batch(), Digest([self.salt; 32]));
        let name = LoadName { digest, batch: None };
        let inputs = self.model.share(&self.model.load, &self.weights, 1);
        let outcome = self.world.run_with(&self.model.load, Some(name), batch, &inputs);
        (LoadName { digest, batch: Some(batch) }, self.hold(&outcome))
    }

    /// A run on a load. Whether both parties ended well, with what is right then.
    fn run(&mut self, load: LoadName, batch: BatchId) -> bool {
        let inputs = self.model.share(&self.model.program, std::slice::from_ref(&self.rows), 9);
        let outcome = self.world.run_with(&self.model.program, Some(load), batch, &inputs);
        let done = self.hold(&outcome);
        if done {
            let made = unite_in(Ring::new(64), &outcome.outputs[0]);
            assert_eq!(made, self.model.right(&self.weights, &self.rows));
        }
        done
    }
}

#[test]
fn simulated_faults_on_loads_reuse_no_mask_and_corrupt_no_output() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().expect("a number"));
    let first = number("SUF_FIRST_SEED").unwrap_or(0);
    let count = number("SUF_SEEDS").unwrap_or(SEEDS);
    let mut tally = Tally::default();
    for seed in first..first + count {
        let lived = std::panic::catch_unwind(|| live(seed));
        let lived = lived.unwrap_or_else(|_| {
            panic!("replay: SUF_FIRST_SEED={seed} SUF_SEEDS=1 cargo test --release -p suf-tests --test load_faults");
        });
        for (all, more) in [(&mut tally.loads, lived.loads), (&mut tally.runs, lived.runs)] {
            all.iter_mut().zip(more).for_each(|(all, more)| *all += more);
        }
    }
    println!("{count} seeds; loads and runs that failed, and that were done: {tally:?}");
    if count >= SEEDS {
        let many = |of: [u64; 2]| of.iter().all(|of| *of > count / 5);
        assert!(many(tally.loads) && many(tally.runs), "the faults are out of balance");
    }
}

/// A load with faults and runs on it, then others without.
fn live(seed: u64) -> Tally {
    let (mut scene, mut tally) = (Scene::new(seed), Tally::default());
    let (load, done) = scene.load();
    tally.loads[usize::from(done)] += 1;
    for _ in 0..RUNS {
        let batch = scene.world.fresh_batch();
        let done = scene.run(load, batch);
        tally.runs[usize::from(done)] += 1;
        // Again with the same keys: after a good run they are burnt at both parties.
        assert!(!(done && scene.run(load, batch)), "burnt keys were used again");
    }
    scene.world.set_faults(Faults::default());
    let (load, done) = scene.load();
    assert!(done, "a load without faults failed after whatever came before");
    for _ in 0..RUNS {
        let batch = scene.world.fresh_batch();
        assert!(scene.run(load, batch), "a run without faults failed after others with");
    }
    tally
}
