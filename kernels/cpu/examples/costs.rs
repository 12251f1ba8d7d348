//! Prints what each gate costs on one core: nanoseconds per element, as the median over full chunks and in brackets the
//! least, for the dealer (both parties' keys) and for each step of both roles; and how far that is from the time of the
//! calls of AES that the gate consists of.
//!
//! `cargo run --release -p suf-cpu --example costs [WORD..]`: only gates with all these words in their titles.

use std::{error::Error, hint::black_box, sync::Arc};

use rustix::time::{ClockId, clock_gettime};
use suf_cpu::{CpuBackend, prg::Stream, simd::BLOCK_BYTES};
use suf_gate::{
    Backend, CHUNK_ELEMS, ChunkEval, DealJob, EvalJob, Gate, Input, KeyBytes, Party, Protocol, Role, Seed,
    Shape, Source, catalog,
    gatefile::GateFile,
    layout::{FieldId, R_IN, R_OUT},
    lookup::LEAF_BITS,
    sigma,
};

/// A piece of memory larger than any message.
const SEEN_BYTES: usize = 16 << 20;

/// Chunks measured for each figure.
const CHUNKS: usize = 21;

fn main() -> Result<(), Box<dyn Error>> {
    // In a process that runs for long, freed memory stays with the allocator. This one's begins to keep it once a large
    // piece has come and gone; before, every message would be charged with its page faults.
    drop(black_box(vec![0u8; SEEN_BYTES]));
    let backend = CpuBackend::new();
    let per_call = nanoseconds_per_call();
    println!("{}, {per_call:.2} ns per call of AES; ns per element", backend.info().device);
    let words: Vec<String> = std::env::args().skip(1).collect();
    for gate in gates()? {
        let title = format!("{} {} ({} B)", gate.name(), gate.protocol(), gate.declared().mean_key_bytes());
        if words.iter().all(|word| title.contains(word)) {
            measure(&backend, &title, &Arc::new(gate), per_call)?;
        }
    }
    Ok(())
}

/// The gates of the comparison: GELU and SiLU under every protocol, in every shape.
fn gates() -> Result<Vec<Gate>, Box<dyn Error>> {
    let mut gates = Vec::new();
    for name in ["gelu", "silu"] {
        let file = GateFile::builtin(name)?;
        for protocol in Protocol::ALL {
            let shapes = match protocol {
                Protocol::Onehot => file.onehot.keys().map(|shape| Some(shape.as_str())).collect(),
                _ => vec![None],
            };
            gates.extend(shapes.into_iter().filter_map(|shape| catalog::gate(&file, protocol, shape).ok()));
        }
    }
    Ok(gates)
}

/// Times of one gate: the dealer's, and of either role the steps and the finish.
fn measure(
    backend: &dyn Backend,
    title: &str,
    gate: &Arc<Gate>,
    per_call: f64,
) -> Result<(), Box<dyn Error>> {
    let party_seeds = [Seed::new([1; 32]), Seed::new([2; 32])];
    let dealer_seed = Seed::new([3; 32]);
    let steps = gate.exchanges().len();
    let mut dealing = Vec::new();
    let mut times_of = vec![[Vec::new(), Vec::new()]; steps + 1];
    for _ in 0..CHUNKS {
        let job = DealJob {
            gate,
            batch: [0; 16],
            chunk: 0,
            elems: CHUNK_ELEMS,
            party_seeds: &party_seeds,
            dealer_seed: &dealer_seed,
        };
        let start = cpu_seconds();
        let [key_0, key_1] = backend.deal(&job)?;
        dealing.push(cpu_seconds() - start);

        let begin = |party: Party, key: KeyBytes| -> Result<Box<dyn ChunkEval>, Box<dyn Error>> {
            let job = EvalJob {
                gate: gate.clone(),
                batch: [0; 16],
                chunk: 0,
                elems: CHUNK_ELEMS,
                party,
                seed: party_seeds[party.index()].clone(),
            };
            // Any input costs the same.
            let input: Vec<u64> =
                (0..CHUNK_ELEMS as u64).map(|i| i.wrapping_mul(0x1234_5678_9ABB) >> 16).collect();
            let input = if gate.takes_shares() { Input::Shares(input) } else { Input::Wire(input) };
            Ok(backend.stage(&job, key)?.begin(input)?)
        };
        let mut evals = [begin(Party::P0, key_0.into())?, begin(Party::P1, key_1.into())?];
        let mut received = [Vec::new(), Vec::new()];
        for (step, times) in times_of.iter_mut().enumerate() {
            let mut sent = [Vec::new(), Vec::new()];
            for party in [0, 1] {
                let start = cpu_seconds();
                if step < steps {
                    sent[party] = evals[party].step(step, &received[party])?;
                } else {
                    evals[party].finish(&received[party])?;
                }
                times[party].push(cpu_seconds() - start);
            }
            sent.swap(0, 1);
            received = sent;
        }
    }

    let calls = Calls::of(gate);
    let made = per_element(&mut dealing);
    println!("{title:<28} deal {} {}", figures(&[made]), compared(made, calls.deal, per_call));
    for party in [Party::P0, Party::P1] {
        let (role, calls) = match party.role(0) {
            Role::Seeded => ("seeded", calls.seeded),
            Role::Explicit => ("explicit", calls.explicit),
        };
        let times: Vec<[f64; 2]> =
            times_of.iter_mut().map(|times| per_element(&mut times[party.index()])).collect();
        let sum = times.iter().fold([0.0; 2], |sum, time| [sum[0] + time[0], sum[1] + time[1]]);
        let ratio = compared(sum, calls, per_call);
        println!("{role:>28} eval {} {ratio} = {}", figures(&[sum]), figures(&times));
    }
    Ok(())
}

/// Calls of AES for each element that a gate's definition asks for: its streams and trees, with paths to neighbouring
/// points walked once.
struct Calls {
    /// Both parties' keys.
    deal: u32,
    /// The seeded side's evaluation.
    seeded: u32,
    /// The explicit side's.
    explicit: u32,
}

impl Calls {
    fn of(gate: &Gate) -> Self {
        let shape = gate.key_shape();
        let bits = |filter: &dyn Fn(FieldId, Source) -> bool| -> u32 {
            let fields = shape.fields().iter().enumerate();
            fields
                .filter(|(i, field)| filter(FieldId(*i as u16), field.source))
                .map(|(_, field)| field.width.bits())
                .sum()
        };
        let own = bits(&|_, source| source == Source::Own);
        let once = bits(&|_, source| matches!(source, Source::Shared | Source::Dealer));
        // A party needs the masks of the wire only where it starts from shares, so they are left out here.
        let expanded = |role: Role| {
            bits(&|id, source| {
                matches!(source, Source::Own | Source::Shared)
                    && ![R_IN, R_OUT].contains(&id)
                    && !shape.delivered(id, role)
            })
        };
        let [deal, eval] = tree_calls(gate);
        Self {
            deal: (2 * own + once) / 128 + deal,
            seeded: expanded(Role::Seeded) / 128 + eval,
            explicit: expanded(Role::Explicit) / 128 + eval,
        }
    }
}

/// Calls of the trees alone, to deal and to evaluate. A BGI tree costs the dealer both children of both parties' nodes, a
/// half-tree one call for each.
fn tree_calls(gate: &Gate) -> [u32; 2] {
    let lookup = |bits: u8| {
        let levels = u32::from(bits - LEAF_BITS);
        [4 * levels + 2, (2 << levels) - 2 + (1 << levels)]
    };
    let window = |levels: u32, bits: u8| {
        let height = u32::from(bits.max(LEAF_BITS + 1) - LEAF_BITS);
        // The way down, all nodes under two neighbours, and one block more than the window has.
        [2 * levels + 2, levels - height + 2 * ((1 << height) - 1) + (1 << height) + 1]
    };
    match gate.shape() {
        Shape::Sigma(sigma) => {
            let levels = u32::from(sigma::COMPARE_LEVELS);
            let [deal, eval] = lookup(sigma.clip());
            [4 * levels + 2 + deal, levels + 3 + eval]
        }
        Shape::SufLut(lut) => lookup(lut.bits()),
        Shape::Onehot(_) => [0, 0],
        Shape::Dpf(dpf) => window(dpf.levels().into(), dpf.window_bits()),
        Shape::Suf(suf) => {
            // GELU and SiLU are one window on one tree: all its words are common, and the leaf block's.
            let common = gate.key_shape().fields().iter().filter(|field| field.source == Source::Common);
            let blocks: u32 = common.map(|field| field.width.bits() / 128).sum();
            let entries = suf.spec().parts().table.as_ref().map_or(1, |table| table.values.len());
            window(blocks - 1, entries.ilog2() as u8)
        }
    }
}

/// Nanoseconds of a call of AES in a long stream.
fn nanoseconds_per_call() -> f64 {
    let stream = Stream::new([1; BLOCK_BYTES]);
    // Half of the first-level cache.
    let mut out = vec![0; 1 << 14];
    let calls = (out.len() / BLOCK_BYTES) as f64;
    let mut once = || {
        let start = cpu_seconds();
        (0..64).for_each(|_| stream.fill(0, black_box(&mut out)));
        (cpu_seconds() - start) * 1e9 / 64.0 / calls
    };
    (0..CHUNKS).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// The least time against that of the calls of AES alone.
fn compared([_, least]: [f64; 2], calls: u32, per_call: f64) -> String {
    if calls == 0 {
        return "no AES".into();
    }
    format!("{calls} AES, {:.1} of their time", least / (f64::from(calls) * per_call))
}

/// Time that this thread has spent on a processor: other programs' share of a busy machine does not count.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn figures(times: &[[f64; 2]]) -> String {
    let each: Vec<String> =
        times.iter().map(|[median, least]| format!("{median:6.1} ({least:5.1})")).collect();
    each.join(" + ")
}

/// The median and the least of a chunk's seconds, in nanoseconds per element.
fn per_element(seconds: &mut [f64]) -> [f64; 2] {
    seconds.sort_by(f64::total_cmp);
    [seconds[seconds.len() / 2], seconds[0]].map(|time| time * 1e9 / CHUNK_ELEMS as f64)
}
