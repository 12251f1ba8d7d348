//! The GPU against the CPU, byte for byte: keys, masks, messages and outputs of every built-in gate.
//!
//! On a machine without a GPU the tests say that they were skipped, and one of them has all others run on a GPU that the host
//! plays; with `SUF_REQUIRE_GPU` set they fail instead.
//! `SUF_DUAL_ELEMS=1,9,1001` names other sizes than [`SIZES`], for checkers under which a full chunk takes minutes.
//! `SUF_DUAL_PTX` has the built-in gates run from the embedded PTX, also where NVRTC is found.

mod host;
// Shared with the CPU's tests, which use all of it.
#[allow(dead_code)]
#[path = "../../cpu/tests/specs/mod.rs"]
mod specs;

use std::{
    env,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;
use host::HostGpu;
use suf_cpu::CpuBackend;
use suf_cuda::{CudaBackend, nvrtc::Compiler};
use suf_gate::{
    Backend, BackendError, DealJob, EvalJob, Gate, Input, Party, Protocol, SecretBytes, Seed, Shape, catalog,
    curve::Curve,
    gatefile::GateFile,
    layout::{R_IN, R_OUT},
    onehot::Onehot,
    ring::WIRE,
};

/// One element, less than a byte of a plane, several warps with a part, a full chunk.
const SIZES: &str = "1,9,1001,65536";

/// Those for a GPU that the host plays, on which a full chunk takes seconds.
const HOST_SIZES: &str = "1,9,1001";

/// The sizes to compare at.
fn sizes() -> Vec<usize> {
    let asked = env::var("SUF_DUAL_ELEMS").unwrap_or_else(|_| SIZES.into());
    asked.split(',').map(|size| size.parse().expect("SUF_DUAL_ELEMS holds numbers of elements")).collect()
}

/// The GPU for built-in gates.
fn gpu() -> Option<CudaBackend> {
    used(if env::var_os("SUF_DUAL_PTX").is_some() { CudaBackend::from_ptx(0) } else { CudaBackend::new(0) })
}

/// The GPU for any gate, which takes NVRTC.
fn gpu_for_any_gate() -> Option<CudaBackend> {
    used(Compiler::find().and_then(|_| CudaBackend::new(0)))
}

fn used(gpu: Result<CudaBackend, BackendError>) -> Option<CudaBackend> {
    match gpu {
        Ok(gpu) => Some(gpu),
        Err(reason) if env::var_os("SUF_REQUIRE_GPU").is_some() => panic!("a GPU is required: {reason}"),
        Err(reason) => {
            eprintln!("SKIPPED, nothing was compared: {reason}");
            None
        }
    }
}

struct Batch {
    gate: Arc<Gate>,
    seeds: [Seed; 2],
    dealer_seed: Seed,
    chunk: u32,
    elems: usize,
}

impl Batch {
    fn new(gate: &Gate, chunk: u32, elems: usize) -> Self {
        let seed = |who: u8| Seed::new(*blake3::hash(&[who, chunk as u8, elems as u8]).as_bytes());
        Self { gate: Arc::new(gate.clone()), seeds: [seed(0), seed(1)], dealer_seed: seed(2), chunk, elems }
    }

    fn deal(&self, backend: &dyn Backend) -> [SecretBytes; 2] {
        let job = DealJob {
            gate: &self.gate,
            batch: [7; 16],
            chunk: self.chunk,
            elems: self.elems,
            party_seeds: &self.seeds,
            dealer_seed: &self.dealer_seed,
        };
        backend.deal(&job).unwrap_or_else(|error| panic!("{}: {error}", self.what()))
    }

    fn job(&self, party: Party) -> EvalJob {
        EvalJob {
            gate: self.gate.clone(),
            batch: [7; 16],
            chunk: self.chunk,
            elems: self.elems,
            party,
            seed: self.seeds[party.index()].clone(),
        }
    }

    fn what(&self) -> String {
        let Self { gate, chunk, elems, .. } = self;
        format!("{} {} {:?}, chunk {chunk}, {elems} elements", gate.protocol(), gate.name(), gate.declared())
    }

    /// The masked wire, or both parties' shares, of the inputs.
    fn inputs(&self, masks: [&[u64]; 2]) -> [Input; 2] {
        let x = match self.gate.shape() {
            Shape::Suf(gate) => specs::inputs(gate.spec(), &mut specs::Random(self.elems as u64), self.elems),
            _ => self.spread_inputs(),
        };
        let x = x.into_iter().map(|x| WIRE.encode(x));
        if self.gate.takes_shares() {
            let (mine, theirs) =
                x.map(|x| (x.rotate_left(17) & WIRE.mask(), WIRE.sub(x, x.rotate_left(17)))).unzip();
            [Input::Shares(mine), Input::Shares(theirs)]
        } else {
            let masks = masks[0].iter().zip(masks[1]).map(|(a, b)| WIRE.add(*a, *b));
            let wire: Vec<u64> = x.zip(masks).map(|(x, r)| WIRE.add(x, r)).collect();
            [Input::Wire(wire.clone()), Input::Wire(wire)]
        }
    }

    /// Inputs over the whole domain, half of them near zero.
    fn spread_inputs(&self) -> Vec<i64> {
        let (low, high) = self.gate.domain();
        let span = high.abs_diff(low) + 1;
        let number = |i: u64| {
            let noise = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let noise = (noise ^ noise >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let noise = noise ^ noise >> 32;
            let range = if i.is_multiple_of(2) { span } else { span.min(1 << 16) };
            (noise % range).cast_signed() + if i.is_multiple_of(2) { low } else { low.max(-(1 << 15)) }
        };
        (0..self.elems as u64).map(number).collect()
    }
}

/// Has the kernels of `gates` compiled, on all cores: one after the other takes minutes.
fn compile(gpu: &CudaBackend, gates: &[Gate]) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(gate) = gates.get(next.fetch_add(1, Ordering::Relaxed)) {
                    drop(Batch::new(gate, 0, 1).deal(gpu));
                }
            });
        }
    });
}

fn assert_bytes(mine: &[u8], theirs: &[u8], what: &str) {
    assert_eq!(mine.len(), theirs.len(), "{what}: length");
    let apart = mine.iter().zip(theirs).filter(|(a, b)| a != b).count();
    if let Some(at) = mine.iter().zip(theirs).position(|(a, b)| a != b) {
        panic!(
            "{what}: {apart} of {} bytes differ, the first at {at}: CPU {:#04x}, GPU {:#04x}",
            mine.len(),
            mine[at],
            theirs[at]
        );
    }
}

/// Deals on both, evaluates both parties on both, in step.
fn compare(gpu: &CudaBackend, batch: &Batch) {
    let what = batch.what();
    let cpu = CpuBackend::new();
    let (keys, gpu_keys) = (batch.deal(&cpu), batch.deal(gpu));
    for (party, (mine, theirs)) in keys.iter().zip(&gpu_keys).enumerate() {
        assert_bytes(mine.expose(), theirs.expose(), &format!("{what}: key of party {party}"));
    }
    let masks = [Party::P0, Party::P1].map(|party| {
        for field in [R_IN, R_OUT] {
            let on = |backend: &dyn Backend| backend.wire_mask(&batch.job(party), field).expect("a mask");
            assert_eq!(on(&cpu), on(gpu), "{what}: mask");
        }
        cpu.wire_mask(&batch.job(party), R_IN).expect("a mask")
    });

    let inputs = batch.inputs([&masks[0], &masks[1]]);
    let start = |backend: &dyn Backend, keys: [SecretBytes; 2]| {
        let mut inputs = inputs.iter();
        let mut keys = keys.into_iter();
        [Party::P0, Party::P1].map(|party| {
            let (key, input) = (keys.next().expect("two keys"), inputs.next().expect("two inputs"));
            let staged = backend.stage(&batch.job(party), key.into()).expect("the key fits");
            staged.begin(input.clone()).expect("the input fits")
        })
    };
    let (mut on_cpu, mut on_gpu) = (start(&cpu, keys), start(gpu, gpu_keys));
    let mut last = [Bytes::new(), Bytes::new()];
    for step in 0..batch.gate.exchanges().len() {
        let mut sent = [Bytes::new(), Bytes::new()];
        for party in 0..2 {
            let incoming = &last[1 - party];
            let mine = on_cpu[party].step(step, incoming).expect("a step on the CPU");
            // One party's from the GPU's kind of memory, given back at once; the other's from the heap.
            let theirs = if party == 0 {
                let mut room = gpu.message_room(incoming.len()).expect("memory for a message");
                room.as_mut().as_mut().copy_from_slice(incoming);
                on_gpu[party].step(step, room.as_ref().as_ref())
            } else {
                on_gpu[party].step(step, incoming)
            };
            let theirs = theirs.expect("a step on the GPU");
            assert_bytes(&mine, &theirs, &format!("{what}: exchange {step} of party {party}"));
            sent[party] = mine;
        }
        last = sent;
    }
    for party in 0..2 {
        let mine = on_cpu[party].finish(&last[1 - party]).expect("an output of the CPU");
        assert!(
            mine == on_gpu[party].finish(&last[1 - party]).expect("an output of the GPU"),
            "{what}: output"
        );
    }
}

/// The built-in gates of a protocol, seeded for either party. A test for each protocol, so that checkers can have them side
/// by side.
fn builtin_gates_agree(protocol: Protocol) {
    let Some(gpu) = gpu() else { return };
    let gates: Vec<_> = catalog::builtin().filter(|gate| gate.protocol() == protocol).collect();
    compile(&gpu, &gates);
    let sizes = sizes();
    for gate in &gates {
        for (chunk, elems) in sizes.iter().flat_map(|elems| [(0, *elems), (1, *elems)]) {
            compare(&gpu, &Batch::new(gate, chunk, elems));
        }
    }
    let (gates, device) = (gates.len(), gpu.info().device);
    println!("{gates} gates of {protocol} on {device} agree with the CPU in chunks of {sizes:?} elements");
}

/// Where there is no GPU: all tests of this file, on one that the host plays.
#[test]
fn the_host_plays_a_gpu_where_there_is_none() {
    if env::var_os("SUF_REQUIRE_GPU").is_some() || CudaBackend::new(0).is_ok() {
        return;
    }
    let host = match HostGpu::build() {
        Ok(host) => host,
        Err(why) => return eprintln!("SKIPPED, the host plays no GPU: {why}"),
    };
    let mut tests = Command::new(env::current_exe().expect("this program has a path"));
    tests
        .envs(host.variables())
        .arg("--nocapture")
        .env("SUF_DUAL_ELEMS", HOST_SIZES)
        .env("SUF_REQUIRE_GPU", "1");
    let output = tests.output().expect("this program starts again");
    let [said, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{said}{errors}");
    println!("{said}");
    for protocol in Protocol::ALL {
        let compared = format!("gates of {protocol} on the host's processor");
        assert!(said.contains(&compared), "'{compared}' is missing in: {said}{errors}");
    }
}

#[test]
fn every_sigma_gate_agrees() {
    builtin_gates_agree(Protocol::Sigma);
}

#[test]
fn every_suf_lut_gate_agrees() {
    builtin_gates_agree(Protocol::SufLut);
}

#[test]
fn every_suf_gate_agrees() {
    builtin_gates_agree(Protocol::Suf);
}

#[test]
fn every_onehot_gate_agrees() {
    builtin_gates_agree(Protocol::Onehot);
}

#[test]
fn every_dpf_gate_agrees() {
    builtin_gates_agree(Protocol::Dpf);
}

/// Windows from the narrowest to the widest, entries of either sign, and digits of every width.
#[test]
fn unusual_shapes_agree() {
    let Some(gpu) = gpu_for_any_gate() else { return };
    let gelu = GateFile::builtin("gelu").expect("a built-in gate").curve;
    let shapes = [(6, &[6u8, 6] as &[u8]), (7, &[3, 4, 5]), (8, &[5, 3]), (11, &[6]), (12, &[7, 7, 7])];
    let gates = shapes.into_iter().flat_map(|(bits, digits)| {
        let residual = (0..1i32 << bits).map(|i| i * 37 % 801 - 400).collect();
        let curve = Curve { window_bits: bits, residual, ..gelu.clone() };
        let onehot = Onehot::new(curve.clone(), digits.to_vec()).expect("a shape");
        let dpf = suf_gate::dpf::Dpf::new(curve, 30).expect("a shape");
        [Shape::Onehot(onehot), Shape::Dpf(dpf)].map(|shape| Gate::new("unusual", shape).expect("a gate"))
    });
    let gates: Vec<_> = gates.collect();
    compile(&gpu, &gates);
    gates.iter().for_each(|gate| compare(&gpu, &Batch::new(gate, 0, 1001)));
}

/// Random specifications: helpers of many comparisons, pieces, tables and terms of every kind.
#[test]
fn specifications_agree() {
    let Some(gpu) = gpu_for_any_gate() else { return };
    let gates: Vec<_> = (0..16).map(|seed| specs::gate(specs::random(&mut specs::Random(seed)))).collect();
    compile(&gpu, &gates);
    for (gate, seed) in gates.iter().zip(0..) {
        println!("specification {seed}: {:?}", gate.declared());
        compare(&gpu, &Batch::new(gate, seed % 2, 1001));
    }
}

/// Gates come from clients: of however many there were, few stay loaded, and none of those in use is unloaded.
#[test]
fn kernels_of_gates_are_given_up_but_not_while_they_are_used() -> Result<(), BackendError> {
    const KEPT: usize = 2;
    let Some(gpu) = used(CudaBackend::keeping(0, KEPT)) else { return Ok(()) };
    let gates: Vec<_> = catalog::builtin().filter(|gate| gate.protocol() == Protocol::SufLut).collect();
    let gates =
        [gates, catalog::builtin().filter(|gate| gate.protocol() == Protocol::Dpf).collect()].concat();
    assert!(gates.len() > 2 * KEPT + 1, "too few gates");

    // One is in evaluation all the time: its kernels are needed once more after all the others.
    let batch = Batch::new(&gates[0], 0, 9);
    let job = batch.job(Party::P0);
    let begin = |backend: &dyn Backend| {
        let [key, _] = batch.deal(backend);
        backend.stage(&job, key.into())?.begin(Input::Shares((0..9).collect()))
    };
    let (mut on_cpu, mut on_gpu) = (begin(&CpuBackend::new())?, begin(&gpu)?);
    for gate in &gates[1..] {
        drop(Batch::new(gate, 0, 1).deal(&gpu));
        assert!(gpu.loaded_gates() <= KEPT + 1, "{} are loaded", gpu.loaded_gates());
    }
    assert_bytes(&on_cpu.step(0, &[])?, &on_gpu.step(0, &[])?, "after all other gates");
    drop(on_gpu);
    // Those that were given up are loaded again.
    gates.iter().for_each(|gate| compare(&gpu, &Batch::new(gate, 1, 9)));
    assert!(gpu.loaded_gates() <= KEPT, "{} are loaded", gpu.loaded_gates());
    Ok(())
}

#[test]
fn misuse_is_an_error() -> Result<(), BackendError> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let gate = catalog::builtin().next().expect("there are gates");
    let batch = Batch::new(&gate, 0, 9);
    assert!(matches!(
        gpu.stage(&batch.job(Party::P0), SecretBytes::zeroed(3).into()),
        Err(BackendError::Misuse(_))
    ));
    let [key, _] = batch.deal(&gpu);
    let staged = gpu.stage(&batch.job(Party::P0), key.into())?;
    assert!(matches!(staged.begin(Input::Wire(vec![0; 8])), Err(BackendError::Misuse(_))));
    assert!(matches!(CudaBackend::new(99), Err(BackendError::Unavailable(_))));
    Ok(())
}
