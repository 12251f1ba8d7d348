//! Whether the time of the kernels depends on secrets. Welch's t-test compares a class of fixed secrets with a class of
//! random ones, interleaved at random. See Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?", DATE
//! 2017.
//!
//! `cargo bench -p suf-cpu --bench constant_time`, on a quiet machine; `SUF_SAMPLES=100000` for more power, `SUF_ONLY=spline` for the
//! operations with that word in their names. A |t| above 10 is a leak, and the exit status is 1; above 4.5 it deserves more samples. A comparison that ends at the first difference
//! is measured along, and must be caught. Both classes go through the same preparation right before they are timed, so
//! that caches are in the same state. Times are not asserted in CI: a shared machine decides them.
#![allow(missing_docs)]

#[macro_use]
#[path = "../../gate/examples/output/mod.rs"]
mod output;

#[path = "../examples/operations/mod.rs"]
mod operations;

use std::{hint::black_box, process::ExitCode, sync::Arc, time::Instant};

use suf_cpu::CpuBackend;
use suf_gate::{
    Backend, EvalJob, Form, HostValue, KeyBytes, NodeId, Part, Party, Program, Protocol, SecretBytes, Seed,
    TwoParties, Value, catalog, gatefile::GateFile, ops::Heads, ring::WIRE,
};

/// The opening of the input, and the gate.
const OPENING: Part = Part::new(NodeId(0), 0);
const GATE: Part = Part::new(NodeId(1), 0);

/// Elements of a measured tile: a few of the widest vector blocks, so that a call takes microseconds.
const ELEMS: usize = 256;

/// Samples of both classes together.
const SAMPLES: usize = 20_000;

/// Above this, the distributions differ.
const LEAK: f64 = 10.0;

/// Shares of the fastest samples that are compared, besides all of them: what interrupts hit hides small differences.
const CROPS: [f64; 5] = [0.5, 0.75, 0.9, 0.99, 1.0];

fn main() -> ExitCode {
    let samples = std::env::var("SUF_SAMPLES").map_or(SAMPLES, |count| count.parse().expect("a number"));
    let backend = CpuBackend::new();
    say!("{}, {samples} samples of {ELEMS} elements", backend.info().device);
    say!("{:40} {:>10} {:>8}", "operation", "median ns", "max |t|");
    let mut leaks = 0;
    let file = GateFile::builtin("gelu").expect("gelu is built in");
    for protocol in Protocol::ALL {
        let Ok(gate) = catalog::gate(&file, protocol, None) else { continue };
        let program = Program::of_gate(Arc::new(gate), ELEMS as u64).expect("few elements");
        let program = Arc::new(program);
        let deal = |parties: &TwoParties| {
            black_box(parties.deal(&backend, GATE).expect("the processor deals"));
        };
        leaks += usize::from(report(
            &format!("{protocol} deal"),
            samples,
            |secrets| secrets.parties(&program),
            deal,
        ));
        for party in Party::BOTH {
            let prepare = |secrets: Secrets| {
                let parties = secrets.parties(&program);
                let [first, second] = parties.deal(&backend, GATE).expect("the processor deals");
                let key = if party == Party::P0 { first } else { second };
                let incoming = secrets.public.messages(&program, GATE);
                (parties.eval_job(party, GATE), key, secrets.input(&program), incoming)
            };
            let name = format!("{protocol} evaluate {party:?}");
            leaks += usize::from(report_owned(&name, samples, prepare, |(job, key, input, incoming)| {
                evaluate(&backend, &job, key, vec![input], &incoming)
            }));
        }
        if program.node(OPENING.node).exchanges() == 0 {
            continue;
        }
        let prepare = |secrets: Secrets| {
            let job = secrets.parties(&program).eval_job(Party::P0, OPENING);
            let incoming = secrets.public.messages(&program, OPENING);
            (job, HostValue::shared(secrets.shares), incoming)
        };
        leaks +=
            usize::from(report_owned("opening of an input", samples, prepare, |(job, input, incoming)| {
                evaluate(&backend, &job, SecretBytes::default().into(), vec![input], &incoming)
            }));
    }
    let heads = Heads { heads: 2, tokens: 4 };
    for program in
        [operations::products(ELEMS as u32 / 32, heads, 4), operations::softmax(ELEMS as u32 / 16, 16)]
    {
        let program = Arc::new(program);
        for (id, node) in program.nodes() {
            if node.is_keyed() || node.exchanges() > 0 && !node.is_input() {
                leaks += operation(&backend, samples, &program, Part::new(id, 0));
            }
        }
    }
    let fixed = Secrets::fixed();
    let caught = report(
        "(a comparison that leaks)",
        samples,
        |secrets| secrets,
        |secrets| {
            // As a table: a compiler may not know that all seeds are one.
            let pairs = fixed.seeds.iter().zip(&secrets.seeds).cycle().take(64);
            black_box(pairs.take_while(|(a, b)| black_box(a) == black_box(b)).count());
        },
    );
    if !caught {
        say!("the test has no power here: it did not see the comparison that leaks");
    }
    if leaks > 0 {
        say!("{leaks} operations depend on secrets");
    }
    if leaks > 0 || !caught { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Dealing, if it has keys, and evaluating a part; the number of leaks.
fn operation(backend: &CpuBackend, samples: usize, program: &Arc<Program>, part: Part) -> usize {
    let node = program.node(part.node);
    let name = format!("{} {}", part.node, node.op().def().name());
    let mut leaks = 0;
    if node.is_keyed() {
        let deal = |parties: &TwoParties| {
            black_box(parties.deal(backend, part).expect("the processor deals"));
        };
        leaks +=
            usize::from(report(&format!("{name} deal"), samples, |secrets| secrets.parties(program), deal));
    }
    for party in Party::BOTH {
        let prepare = |secrets: Secrets| {
            let parties = secrets.parties(program);
            let [first, second] = parties.deal(backend, part).expect("the processor deals");
            let key = if party == Party::P0 { first } else { second };
            let inputs = secrets.inputs(program, part);
            (parties.eval_job(party, part), key, inputs, secrets.public.messages(program, part))
        };
        let name = format!("{name} evaluate {party:?}");
        leaks += usize::from(report_owned(&name, samples, prepare, |(job, key, inputs, incoming)| {
            evaluate(backend, &job, key, inputs, &incoming)
        }));
    }
    leaks
}

/// All that an operation must not show.
struct Secrets {
    /// Of party 0, party 1 and the dealer.
    seeds: [[u8; 32]; 3],
    shares: Vec<u64>,
    /// Where what is public comes from: random in both classes, as in a run.
    public: Draw,
}

impl Secrets {
    fn fixed() -> Self {
        Self { seeds: [[1; 32], [2; 32], [3; 32]], shares: vec![0; ELEMS], public: Draw(0) }
    }

    /// Fixed or random ones, made by the same work.
    fn of_class(random: bool, draw: &mut Draw) -> Self {
        let mut drawn = Self {
            seeds: [draw.seed(), draw.seed(), draw.seed()],
            shares: draw.elements(),
            public: Draw(draw.next()),
        };
        let fixed = Self::fixed();
        let keep = if random { u64::MAX } else { 0 };
        for (drawn, fixed) in drawn.seeds.as_flattened_mut().iter_mut().zip(fixed.seeds.as_flattened()) {
            *drawn = (*drawn & keep as u8) | (*fixed & !keep as u8);
        }
        for (drawn, fixed) in drawn.shares.iter_mut().zip(&fixed.shares) {
            *drawn = (*drawn & keep) | (*fixed & !keep);
        }
        drawn
    }

    fn parties(&self, program: &Arc<Program>) -> TwoParties {
        TwoParties::new(Arc::clone(program), [0; 16], self.seeds.map(Seed::new))
    }

    /// What a part takes of each wire: this party's shares, which are secret, or the public wire.
    fn inputs(&self, program: &Program, part: Part) -> Vec<Arc<dyn Value>> {
        let mut draw = self.public.clone();
        let taken = program.node(part.node).inputs().iter().map(|input| {
            let wire = program.node(*input).wire().expect("what is taken is a wire");
            let elems = program.elems(Part { node: *input, ..part });
            let element = |i: usize| match wire.form {
                Form::Shared | Form::Pad => self.shares[i % ELEMS],
                Form::Masked => draw.next(),
            };
            HostValue::shared((0..elems).map(element).map(|x| wire.ring.reduce(x)).collect())
        });
        taken.collect()
    }

    /// Shares, which are secret, where the gate takes those, and else the public wire.
    fn input(&self, program: &Program) -> Arc<dyn Value> {
        let wire = program.node(OPENING.node).wire().expect("an input makes a wire");
        HostValue::shared(match wire.form {
            Form::Shared | Form::Pad => self.shares.clone(),
            Form::Masked => self.public.clone().elements(),
        })
    }
}

/// All steps. The peer's messages are random, as they are in a run: so is what both open.
fn evaluate(
    backend: &CpuBackend,
    job: &EvalJob,
    key: KeyBytes,
    inputs: Vec<Arc<dyn Value>>,
    incoming: &[Vec<u8>],
) {
    let staged = backend.stage(job, key).expect("the key fits");
    let mut eval = staged.begin(inputs).expect("the input fits");
    let mut last: &[u8] = &[];
    for (step, next) in incoming.iter().enumerate() {
        black_box(eval.step(step, last).expect("a step"));
        last = next;
    }
    black_box(eval.finish(last).expect("an output"));
}

fn report<T>(name: &str, samples: usize, prepare: impl Fn(Secrets) -> T, operation: impl Fn(&T)) -> bool {
    report_owned(name, samples, prepare, |prepared| operation(&prepared))
}

/// Times `operation` on both classes, prints a row, and says whether they differ.
fn report_owned<T>(
    name: &str,
    samples: usize,
    prepare: impl Fn(Secrets) -> T,
    operation: impl Fn(T),
) -> bool {
    // The comparison that leaks shows the power of whatever is measured.
    let is_asked = |only: String| name.contains(&only) || name.contains("leaks");
    if !std::env::var("SUF_ONLY").map_or(true, is_asked) {
        return false;
    }
    let mut draw = Draw(0x9E37_79B9_7F4A_7C15);
    let mut times = Vec::with_capacity(samples);
    // A twentieth more, to warm up.
    for sample in 0..samples + samples / 20 {
        let random = draw.next() >> 63 == 1;
        let prepared = prepare(Secrets::of_class(random, &mut draw));
        let begun = Instant::now();
        operation(black_box(prepared));
        let elapsed = begun.elapsed().as_nanos() as f64;
        if sample >= samples / 20 {
            times.push((elapsed, random));
        }
    }
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let largest = CROPS
        .map(|share| welch(&times[..(share * times.len() as f64) as usize]).abs())
        .into_iter()
        .fold(0.0, f64::max);
    let leaks = largest > LEAK;
    say!("{name:40} {:>10} {largest:>8.2}{}", times[times.len() / 2].0, if leaks { "  differs" } else { "" });
    leaks
}

/// Welch's t between the two classes of `times`.
fn welch(times: &[(f64, bool)]) -> f64 {
    let moments = |class: bool| {
        let of_class = || times.iter().filter(|(_, random)| *random == class).map(|(time, _)| *time);
        let count = of_class().count() as f64;
        let mean = of_class().sum::<f64>() / count;
        let variance = of_class().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean_0, error_0), (mean_1, error_1)) = (moments(false), moments(true));
    (mean_0 - mean_1) / (error_0 + error_1).sqrt()
}

/// SplitMix64: what it draws is no secret outside this test.
#[derive(Clone)]
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn elements(&mut self) -> Vec<u64> {
        (0..ELEMS).map(|_| WIRE.reduce(self.next())).collect()
    }

    /// A message of each exchange. There is no padding: the elements fill whole bytes at every width.
    fn messages(&self, program: &Program, part: Part) -> Vec<Vec<u8>> {
        let mut draw = self.clone();
        let exchanges = 0..program.node(part.node).exchanges();
        exchanges
            .map(|step| {
                let bytes = program.message_bytes(part, step).expect("an exchange of the part");
                (0..bytes).map(|_| draw.next() as u8).collect()
            })
            .collect()
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        for part in seed.chunks_exact_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes());
        }
        seed
    }
}
