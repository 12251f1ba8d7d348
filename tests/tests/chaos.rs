//! The world with every fault on. Whatever goes wrong: an output that both parties report is right, no key is used twice, no
//! run hangs, and the next run works.
//!
//! `SUF_SEEDS=100000 cargo test --release -p suf-tests --test chaos` runs as many seeds, from `SUF_FIRST_SEED` on;
//! `SUF_SEED=17 ...` replays one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_gate::{Gate, Program, Protocol, TILE_ELEMS, catalog, ops::GateOp};
use suf_tests::{
    programs::{Case, Kind, Whole, hold},
    world::{Faults, How, Outcome, Strike, Strikes, World, operation},
};
use suf_wire::{BatchId, Party};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 2000;

/// Programs by what they are made of.
const GROUPS: [&str; 5] =
    ["one gate", "two gates in a row", "two gates side by side", "many operations", "the tiny BERT"];

/// Seeds of a thousand whose program is one of many operations, and the tiny BERT.
const OPERATIONS: u32 = 100;
const BERTS: u32 = 20;

/// How often a run of such a program is struck in a node that is drawn among all its nodes.
const STRUCK: f64 = 0.5;

/// Seeds from which on a fault has struck every operation.
const MANY_SEEDS: u64 = 20_000;

/// Times as many messages and events as a program of one gate has.
const OPERATIONS_STEPS: f64 = 4.0;
const BERT_STEPS: f64 = 150.0;

#[derive(Default)]
struct Tally {
    groups: [Group; GROUPS.len()],
    split: u64,
    unequal: u64,
    /// Operations in which runs were struck.
    strikes: Strikes,
}

/// Seeds and runs of a group of programs.
#[derive(Clone, Copy, Default)]
struct Group {
    seeds: u64,
    done: u64,
    failed: u64,
}

/// All programs of any seed.
struct Programs {
    gates: Vec<Arc<Gate>>,
    operations: Vec<Whole>,
    bert: Whole,
}

impl Programs {
    /// The operations of all of them.
    fn names(&self) -> BTreeSet<String> {
        let wholes = self.operations.iter().chain([&self.bert]);
        let names = |whole: &Whole| {
            let program = Arc::clone(&whole.program);
            program.nodes().map(|(id, _)| operation(&program, id)).collect::<Vec<_>>()
        };
        wholes.flat_map(names).collect()
    }
}

/// What a seed runs.
enum Tried<'a> {
    Gates(Case),
    Whole(&'a Whole),
}

impl Tried<'_> {
    fn program(&self) -> &Arc<Program> {
        match self {
            Self::Gates(case) => &case.program,
            Self::Whole(whole) => &whole.program,
        }
    }

    fn share(&self, seed: u64) -> Vec<[Vec<u64>; 2]> {
        match self {
            Self::Gates(case) => Case::share(&case.inputs(seed), 1),
            Self::Whole(whole) => whole.share(seed),
        }
    }

    /// Whether what both parties report is right.
    fn check(&self, seed: u64, batch: BatchId, outcome: &Outcome) -> Result<(), String> {
        match self {
            Self::Gates(case) => case.check(&case.inputs(seed), &outcome.outputs),
            Self::Whole(whole) => {
                let seeds = outcome.seeds.clone().ok_or("a run without keys")?;
                hold(&whole.program, (batch.0, seeds), &whole.share(seed), &outcome.outputs)
            }
        }
    }
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
    let entered = gates.iter().filter(|gate| gate.protocol() != Protocol::SufLut);
    let operations = entered.map(|gate| Whole::operations(GateOp::new(Arc::clone(gate)))).collect();
    let programs = Programs { operations, bert: Whole::bert(), gates };
    let mut tally = Tally::default();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| live(seed, &programs));
        let lived = outcome.unwrap_or_else(|_| {
            panic!("replay: SUF_SEED={seed} cargo test --release -p suf-tests --test chaos");
        });
        tally.add(&lived);
    }
    println!(
        "{count} seeds: {} runs were known to one party only. {} batches had unequal public parts.",
        tally.split, tally.unequal
    );
    for (name, Group { seeds, done, failed }) in GROUPS.iter().zip(tally.groups) {
        println!("{seeds} seeds of {name}: {done} runs done, {failed} failed");
    }
    println!("operations in which a device, a process or a message was lost: {:?}", tally.strikes);
    if count > 100 {
        // Faults that never strike, or always, test nothing.
        let sum = |of: fn(&Group) -> u64| tally.groups.iter().map(of).sum::<u64>();
        let (done, failed) = (sum(|group| group.done), sum(|group| group.failed));
        assert!(done > count / 10 && failed > count / 10, "the faults are out of balance");
        assert!(
            tally.groups[..Kind::ALL.len()].iter().all(|group| group.seeds > count / 10),
            "the programs are out of balance"
        );
    }
    if count >= SEEDS {
        let both = |group: &Group| group.failed > group.seeds / 5 && group.done > group.seeds;
        assert!(tally.groups.iter().all(both), "the faults of a program are out of balance");
        assert!(tally.unequal > 0, "no batch had unequal public parts");
    }
    if count >= MANY_SEEDS {
        for name in programs.names() {
            assert!(tally.strikes.contains_key(&name), "no fault struck the operation {name}");
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        for (all, more) in self.groups.iter_mut().zip(other.groups) {
            all.seeds += more.seeds;
            all.done += more.done;
            all.failed += more.failed;
        }
        self.split += other.split;
        self.unequal += other.unequal;
        for (name, often) in &other.strikes {
            *self.strikes.entry(name.clone()).or_default() += often;
        }
    }
}

/// The program of a seed, its group, and how many times as many steps as one gate it has.
fn choose<'a>(rng: &mut StdRng, programs: &'a Programs) -> (usize, Tried<'a>, f64) {
    match rng.random_range(0..1000) {
        0..BERTS => (Kind::ALL.len() + 1, Tried::Whole(&programs.bert), BERT_STEPS),
        at if at < BERTS + OPERATIONS => {
            let whole = &programs.operations[rng.random_range(0..programs.operations.len())];
            (Kind::ALL.len(), Tried::Whole(whole), OPERATIONS_STEPS)
        }
        _ => {
            let gate = &programs.gates[rng.random_range(0..programs.gates.len())];
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
            (at, Tried::Gates(case), 1.0)
        }
    }
}

/// A fault in a node of `program`, of an operation that is drawn among all: at either party, of any kind that the node has.
fn strike(rng: &mut StdRng, program: &Program) -> Strike {
    let mut nodes = BTreeMap::<_, Vec<_>>::new();
    for (id, node) in program.nodes() {
        nodes.entry(operation(program, id)).or_default().push((id, node));
    }
    let of_one = nodes.values().nth(rng.random_range(0..nodes.len())).expect("one of them");
    let (id, node) = of_one[rng.random_range(0..of_one.len())];
    let how = match rng.random_range(0..3) {
        0 => How::Device,
        1 if node.exchanges() > 0 => How::Link,
        _ => How::Crash,
    };
    Strike { party: Party::BOTH[rng.random_range(0..2)], node: id, how }
}

/// A run with faults, perhaps another with the same keys, and one without faults.
fn live(seed: u64, programs: &Programs) -> Tally {
    let mut rng = StdRng::seed_from_u64(seed);
    let (at, tried, steps) = choose(&mut rng, programs);
    let faults = match &tried {
        // Nothing else: in a long program, the chosen fault would hardly ever come first.
        Tried::Whole(whole) if rng.random_bool(STRUCK) => {
            Faults { strike: Some(strike(&mut rng, &whole.program)), ..Faults::default() }
        }
        _ => Faults::ALL.over(steps),
    };
    let mut world = World::with_faults(seed, faults);
    let mut tally = Tally::default();
    tally.groups[at].seeds += 1;
    let batch = world.fresh_batch();
    let mut attempt = |world: &mut World, batch| attempt(world, &tried, batch, seed, (&mut tally, at));
    attempt(&mut world, batch);

    if rng.random_bool(0.3) {
        // A proposer that wants the same keys again, after a restart or out of malice.
        let burnt = Party::BOTH.map(|party| world.has_burnt(party, batch));
        let ended = attempt(&mut world, batch);
        assert!(!(ended && burnt != [false; 2]), "burnt keys were used again");
    }

    world.set_faults(Faults::default());
    let batch = world.fresh_batch();
    assert!(attempt(&mut world, batch), "a run without faults failed after runs with");
    tally.strikes = world.strikes().clone();
    tally
}

/// One run, held against the oracles. Whether both parties ended well.
fn attempt(
    world: &mut World,
    tried: &Tried<'_>,
    batch: BatchId,
    seed: u64,
    (tally, at): (&mut Tally, usize),
) -> bool {
    let outcome = world.run(tried.program(), batch, &tried.share(seed));
    assert_eq!(world.breaches(), [""; 0]);
    if outcome.unequal.is_some() {
        assert!(outcome.ends.iter().all(Result::is_err), "unequal keys passed unseen");
        tally.unequal += 1;
    }
    match &outcome.ends {
        [Ok(first), Ok(second)] => {
            assert_eq!(first.measured.transcript, second.measured.transcript);
            assert_eq!(tried.check(seed, batch, &outcome), Ok(()));
            tally.groups[at].done += 1;
            return true;
        }
        [Err(_), Err(_)] => tally.groups[at].failed += 1,
        // The last message of the one was lost: the other knows that it does not know.
        _ => tally.split += 1,
    }
    false
}
