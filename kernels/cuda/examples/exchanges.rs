//! Times the exchanges of a gate where messages take no time. Both parties are on the first GPU, with a thread for each
//! party of each tile, and messages are handed over in memory. What a link adds is on top of this.
//!
//! `cargo run --release -p suf-cuda --example exchanges [-- [PROTOCOL...] [ELEMENTS...]]`

#[macro_use]
#[path = "../../gate/examples/output/mod.rs"]
mod output;

use std::{
    env,
    process::ExitCode,
    sync::{Arc, Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use suf_cuda::CudaBackend;
use suf_gate::{
    Activity, Backend, BackendError, Gate, HostValue, NodeId, Part, PartEval, Party, Program, Seed,
    TwoParties, catalog,
};

/// BERT-base, one layer at 128 tokens.
const ELEMS: u64 = 393_216;

/// The function of the published comparison.
const FUNCTION: &str = "gelu";

/// Timed evaluations, after one to warm up.
const REPEATS: usize = 31;

/// One exchange of one party's tile.
#[derive(Clone, Copy, Default)]
struct Times {
    whole: Duration,
    kernel: Duration,
    copies: Duration,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("exchanges: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), BackendError> {
    let (sizes, protocols): (Vec<_>, Vec<_>) =
        env::args().skip(1).partition(|word| word.parse::<u64>().is_ok());
    let elems = sizes.iter().find_map(|size| size.parse().ok()).unwrap_or(ELEMS);
    let wanted = |gate: &Gate| {
        gate.name() == FUNCTION
            && (protocols.is_empty() || protocols.iter().any(|name| name == gate.protocol().name()))
    };
    let gpu = CudaBackend::new(0)?;
    say!("{}, {elems} elements, medians of {REPEATS}", gpu.info().device);
    for gate in catalog::builtin().filter(wanted) {
        time(&gpu, &Arc::new(gate), elems)?;
    }
    Ok(())
}

fn time(gpu: &CudaBackend, gate: &Arc<Gate>, elems: u64) -> Result<(), BackendError> {
    let mut walls = Vec::new();
    let mut steps = vec![Vec::new(); gate.exchanges().len() + 1];
    for repeat in 0..=REPEATS {
        let evals = begin(gpu, gate, elems)?;
        let (wall, times) = evaluate(evals, gate.exchanges().len())?;
        if repeat > 0 {
            walls.push(wall);
            times.iter().for_each(|tile| steps.iter_mut().zip(tile).for_each(|(all, time)| all.push(*time)));
        }
    }
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let (protocol, name, bits) = (gate.protocol(), gate.name(), gate.declared().bits);
    say!("\n{protocol} {name}, {bits} bits/direction: {:.3} ms", ms(median(walls)));
    say!("| exchange | of a tile, us | kernel | copies | rest |\n| --- | --- | --- | --- | --- |");
    for (step, times) in steps.iter().enumerate() {
        let us = |of: fn(&Times) -> Duration| 1e3 * ms(median(times.iter().map(of).collect()));
        let (whole, kernel, copies) = (us(|t| t.whole), us(|t| t.kernel), us(|t| t.copies));
        let name = if step < gate.exchanges().len() { step.to_string() } else { "opening".into() };
        say!("| {name} | {whole:.1} | {kernel:.1} | {copies:.1} | {:.1} |", whole - kernel - copies);
    }
    Ok(())
}

/// All tiles of both parties, keys and inputs in place.
fn begin(
    gpu: &CudaBackend,
    gate: &Arc<Gate>,
    elems: u64,
) -> Result<Vec<[Box<dyn PartEval>; 2]>, BackendError> {
    let program = Program::of_gate(Arc::clone(gate), elems)
        .map_err(|_| BackendError::Misuse("a number of elements that no program takes"))?;
    let batch = TwoParties::new(Arc::new(program), [0; 16], [1, 2, 3].map(|byte| Seed::new([byte; 32])));
    let node = NodeId(1);
    let tile = |tile| {
        let part = Part::new(node, tile);
        let [key_0, key_1] = batch.deal(gpu, part)?;
        let start = |party: Party, key| {
            let job = batch.eval_job(party, part);
            // Times do not depend on it.
            let words = (0..job.elems() as u64).collect();
            gpu.stage(&job, key)?.begin(vec![HostValue::shared(words)])
        };
        Ok([start(Party::P0, key_0)?, start(Party::P1, key_1)?])
    };
    (0..batch.program().node(node).tiles()).map(tile).collect()
}

/// Evaluates all at once: how long until the last output was there, and the exchanges of each.
fn evaluate(
    evals: Vec<[Box<dyn PartEval>; 2]>,
    exchanges: usize,
) -> Result<(Duration, Vec<Vec<Times>>), BackendError> {
    let start = Barrier::new(2 * evals.len());
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for [p0, p1] in evals {
            let ((to_p1, from_p0), (to_p0, from_p1)) = (mpsc::channel(), mpsc::channel());
            for (eval, to, from) in [(p0, to_p1, from_p1), (p1, to_p0, from_p0)] {
                threads.push(scope.spawn(|| {
                    start.wait();
                    let begun = Instant::now();
                    let times = exchange(eval, exchanges, to, from)?;
                    Ok((begun, Instant::now(), times))
                }));
            }
        }
        let mut all = Vec::new();
        for thread in threads {
            all.push(thread.join().expect("no thread panics")?);
        }
        let begun = all.iter().map(|(begun, ..)| *begun).min();
        let ended = all.iter().map(|(_, ended, _)| *ended).max();
        let wall = ended.zip(begun).map_or(Duration::ZERO, |(ended, begun)| ended - begun);
        Ok((wall, all.into_iter().map(|(.., times)| times).collect()))
    })
}

fn exchange(
    mut eval: Box<dyn PartEval>,
    exchanges: usize,
    to: mpsc::Sender<Bytes>,
    from: mpsc::Receiver<Bytes>,
) -> Result<Vec<Times>, BackendError> {
    let gone = || BackendError::Failed("the other party's thread ended".into());
    let mut incoming = Bytes::new();
    let mut times = Vec::with_capacity(exchanges + 1);
    for step in 0..=exchanges {
        let begun = Instant::now();
        if step < exchanges {
            let message = eval.step(step, &incoming)?;
            times.push(spent(&mut *eval, begun));
            to.send(message).map_err(|_| gone())?;
            incoming = from.recv().map_err(|_| gone())?;
        } else {
            eval.finish(&incoming)?;
            times.push(spent(&mut *eval, begun));
        }
    }
    Ok(times)
}

fn spent(eval: &mut dyn PartEval, begun: Instant) -> Times {
    let mut times = Times { whole: begun.elapsed(), ..Times::default() };
    for span in eval.take_spans() {
        let sum = match span.activity {
            Activity::Kernel => &mut times.kernel,
            Activity::Copy => &mut times.copies,
        };
        *sum += span.end - span.start;
    }
    times
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}
