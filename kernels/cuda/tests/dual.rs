//! The GPU against the CPU, byte for byte: keys, masks, messages and values of programs of every built-in gate.
//!
//! On a machine without a GPU the tests skip, and one of them runs all others on an emulated GPU. With `SUF_REQUIRE=gpu` they
//! fail instead. `SUF_DUAL_ELEMS=1,9,1001` names other sizes than [`SIZES`], for checkers under which a full tile takes
//! minutes. `SUF_DUAL_PTX` has the built-in gates run from the embedded PTX, also where NVRTC is found.

#[path = "../../cpu/tests/blocks/mod.rs"]
mod blocks;
mod dual_backend;
mod dual_programs;
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

use dual_backend::{DualBackend, assert_bytes};
use host::HostGpu;
use suf_cpu::CpuBackend;
use suf_cuda::{CudaBackend, nvrtc::Compiler};
use suf_gate::{
    Backend, BackendError, Form, Gate, HostValue, NodeId, Part, Party, Program, Protocol, SecretBytes, Seed,
    Shape, Side, TensorShape, TwoParties, catalog,
    curve::Curve,
    gatefile::GateFile,
    onehot::Onehot,
    ops::{Input, Op, Output},
    ring::{FRAC, WIRE},
};
use suf_skip::{Need, REQUIRE, is_required, skip};

/// One element, less than a byte of a plane, several warps with a part, a full tile.
const SIZES: &str = "1,9,1001,65536";

/// Those for a GPU that the host plays, on which a full tile takes seconds.
const HOST_SIZES: &str = "1,9,1001";

/// The sizes to compare at.
fn sizes() -> Vec<usize> {
    let asked = env::var("SUF_DUAL_ELEMS").unwrap_or_else(|_| SIZES.into());
    asked.split(',').map(|size| size.parse().expect("SUF_DUAL_ELEMS holds numbers of elements")).collect()
}

/// The GPU for built-in gates.
fn gpu() -> Option<Arc<CudaBackend>> {
    used(if env::var_os("SUF_DUAL_PTX").is_some() { CudaBackend::from_ptx(0) } else { CudaBackend::new(0) })
}

/// The GPU for any gate, which takes NVRTC.
fn gpu_for_any_gate() -> Option<Arc<CudaBackend>> {
    used(Compiler::find().and_then(|_| CudaBackend::new(0)))
}

fn used(gpu: Result<CudaBackend, BackendError>) -> Option<Arc<CudaBackend>> {
    match gpu {
        Ok(gpu) => Some(Arc::new(gpu)),
        Err(reason) => {
            skip(Need::Gpu, format!("nothing was compared with a GPU: {reason}"));
            None
        }
    }
}

/// A program in which a gate has two nodes: sides alternate, so that each party is on either side.
struct Twice {
    gate: Arc<Gate>,
    elems: usize,
    batch: TwoParties,
}

impl Twice {
    /// The first node of the gate.
    const GATE: NodeId = NodeId(1);
    /// The second one, of the same size.
    const AGAIN: NodeId = NodeId(4);

    fn new(gate: &Gate, elems: usize) -> Self {
        let gate = Arc::new(gate.clone());
        let shape = TensorShape::flat(elems as u64).expect("a size within the limits");
        let form = if gate.takes_shares() { Form::Shared } else { Form::Masked };
        let input = || (Op::Input(Input::new(shape, WIRE, FRAC, form)), vec![]);
        let nodes = [
            input(),
            (Op::gate(Arc::clone(&gate)), vec![NodeId(0)]),
            (Op::Output(Output), vec![Self::GATE]),
            input(),
            (Op::gate(Arc::clone(&gate)), vec![NodeId(3)]),
            (Op::Output(Output), vec![Self::AGAIN]),
        ];
        let program = Program::new(nodes).expect("a program");
        let seeds = [0, 1, 2].map(|who: u8| Seed::new(*blake3::hash(&[who, elems as u8]).as_bytes()));
        let batch = TwoParties::new(Arc::new(program), [7; 16], seeds);
        let sides = [Self::GATE, Self::AGAIN].map(|node| batch.program().side(Party::P0, Part::new(node, 0)));
        assert_eq!(sides, [Side::Seeded, Side::Explicit], "the second node's sides are the other way round");
        Self { gate, elems, batch }
    }

    /// The only tile of the gate's first node.
    const fn part() -> Part {
        Part::new(Self::GATE, 0)
    }

    fn what(&self) -> String {
        let Self { gate, elems, .. } = self;
        format!("{} {} {:?}, {elems} elements", gate.protocol(), gate.name(), gate.declared())
    }

    /// Inputs where the gate's output is right.
    fn inputs(&self) -> Vec<i64> {
        match self.gate.shape() {
            Shape::Suf(gate) => specs::inputs(gate.spec(), &mut specs::Random(self.elems as u64), self.elems),
            _ => self.spread_inputs(),
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

    /// Deals and evaluates on both backends, in step; what comes out is right.
    fn compare(&self, dual: &DualBackend) {
        let (what, x) = (self.what(), self.inputs());
        let split = |x: &i64| {
            let x = WIRE.encode(*x);
            (x.rotate_left(17) & WIRE.mask(), WIRE.sub(x, x.rotate_left(17)))
        };
        let (mine, theirs) = x.iter().map(split).unzip();
        let shares = [mine, theirs];
        let transcript = self.batch.run(dual, [dual, dual], &[shares.clone(), shares]);
        let transcript = transcript.unwrap_or_else(|error| panic!("{what}: {error}"));
        for output in self.batch.program().outputs() {
            let [mine, theirs] = transcript.value(self.batch.program(), output);
            for ((x, mine), theirs) in x.iter().zip(mine).zip(theirs) {
                let (y, allowed) = (self.gate.output(mine, theirs), self.gate.reference(*x));
                assert!(allowed.contains(&y), "{what}: {y} for {x}, where {allowed:?} are right");
            }
        }
        // Equal gates in one batch have nothing in common but what they compute.
        let [first, second] = [Self::GATE, Self::AGAIN].map(|node| &transcript.keys[&Part::new(node, 0)]);
        for (first, second) in first.iter().zip(second).filter(|(first, _)| first.len() >= 16) {
            assert!(first.expose() != second.expose(), "{what}: equal keys of two nodes");
        }
    }
}

/// The GPU, compared with the CPU.
fn dual(gpu: &Arc<CudaBackend>) -> DualBackend {
    DualBackend::new(Arc::new(CpuBackend::new()), Arc::clone(gpu) as _)
}

/// Has the kernels of `gates` compiled, on all cores: one after the other takes minutes.
fn compile(gpu: &CudaBackend, gates: &[Gate]) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(gate) = gates.get(next.fetch_add(1, Ordering::Relaxed)) {
                    deal_one(gpu, gate);
                }
            });
        }
    });
}

/// Deals keys of one element.
fn deal_one(gpu: &CudaBackend, gate: &Gate) {
    drop(Twice::new(gate, 1).batch.deal(gpu, Twice::part()).expect("keys of one element"));
}

/// The built-in gates of a protocol, each party on either side. A test for each protocol, so that checkers can have them side
/// by side.
fn builtin_gates_agree(protocol: Protocol) {
    let Some(gpu) = gpu() else { return };
    let gates: Vec<_> = catalog::builtin().filter(|gate| gate.protocol() == protocol).collect();
    compile(&gpu, &gates);
    let sizes = sizes();
    for gate in &gates {
        for elems in &sizes {
            Twice::new(gate, *elems).compare(&dual(&gpu));
        }
    }
    let (gates, device) = (gates.len(), gpu.info().device);
    println!("{gates} gates of {protocol} on {device} agree with the CPU in tiles of {sizes:?} elements");
}

/// Where there is no GPU: all tests of this file, on one that the host plays.
#[test]
fn the_host_plays_a_gpu_where_there_is_none() {
    if is_required(Need::Gpu) || CudaBackend::new(0).is_ok() {
        return;
    }
    let host = match HostGpu::build() {
        Ok(host) => host,
        Err(why) => return skip(Need::Cxx, format!("no GPU was emulated: {why}")),
    };
    let required = [env::var(REQUIRE).unwrap_or_default(), Need::Gpu.to_string()].join(",");
    let mut tests = Command::new(env::current_exe().expect("this program has a path"));
    tests.envs(host.variables()).arg("--nocapture").env("SUF_DUAL_ELEMS", HOST_SIZES).env(REQUIRE, required);
    let output = tests.output().expect("this program starts again");
    let [said, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{said}{errors}");
    println!("{said}");
    for protocol in Protocol::ALL {
        let compared = format!("gates of {protocol} on the host's processor");
        assert!(said.contains(&compared), "'{compared}' is missing in: {said}{errors}");
    }
    let compared = "programs of mixed operations on the host's processor";
    assert!(said.contains(compared), "'{compared}' is missing in: {said}{errors}");
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
    gates.iter().for_each(|gate| Twice::new(gate, 1001).compare(&dual(&gpu)));
}

/// Random specifications: helpers of many comparisons, pieces, tables and terms of every kind.
#[test]
fn specifications_agree() {
    let Some(gpu) = gpu_for_any_gate() else { return };
    let gates: Vec<_> = (0..16).map(|seed| specs::gate(specs::random(&mut specs::Random(seed)))).collect();
    compile(&gpu, &gates);
    for (gate, seed) in gates.iter().zip(0..) {
        println!("specification {seed}: {:?}", gate.declared());
        Twice::new(gate, 1001).compare(&dual(&gpu));
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
    let held = Twice::new(&gates[0], 9);
    let job = held.batch.eval_job(Party::P0, Twice::part());
    let begin = |backend: &dyn Backend| {
        let [key, _] = held.batch.deal(backend, Twice::part())?;
        backend.stage(&job, key)?.begin(vec![HostValue::shared((0..9).collect())])
    };
    let (mut on_cpu, mut on_gpu) = (begin(&CpuBackend::new())?, begin(&*gpu)?);
    for gate in &gates[1..] {
        deal_one(&gpu, gate);
        assert!(gpu.loaded_gates() <= KEPT + 1, "{} are loaded", gpu.loaded_gates());
    }
    assert_bytes(&on_cpu.step(0, &[])?, &on_gpu.step(0, &[])?, "after all other gates");
    drop(on_gpu);
    // Those that were given up are loaded again.
    gates.iter().for_each(|gate| Twice::new(gate, 9).compare(&dual(&gpu)));
    assert!(gpu.loaded_gates() <= KEPT, "{} are loaded", gpu.loaded_gates());
    Ok(())
}

fn misused<T>(result: Result<T, BackendError>) {
    let error = result.err().expect("it is misused");
    assert!(matches!(error, BackendError::Misuse(_)), "{error}");
}

#[test]
fn misuse_is_an_error() -> Result<(), BackendError> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let gate = catalog::builtin().next().expect("there are gates");
    let Twice { batch, .. } = Twice::new(&gate, 9);
    let job = |part| batch.eval_job(Party::P0, part);
    misused(gpu.stage(&job(Twice::part()), SecretBytes::zeroed(3).into()));
    misused(gpu.stage(&job(Part::new(Twice::GATE, 1)), SecretBytes::default().into()));
    misused(gpu.deal(&batch.deal_job(Part::new(Twice::GATE, 1))));
    let no_keys = gpu.deal(&batch.deal_job(Part::new(NodeId(0), 0)))?;
    assert!(no_keys.iter().all(|key| key.expose().is_empty()), "an input has no key");
    let [key, _] = batch.deal(&*gpu, Twice::part())?;
    let begun = |words: &[usize]| {
        let inputs = words.iter().map(|elems| HostValue::shared(vec![0; *elems])).collect();
        gpu.stage(&job(Twice::part()), key.clone())?.begin(inputs)
    };
    for inputs in [&[8][..], &[], &[9, 9]] {
        misused(begun(inputs));
    }
    let mut eval = begun(&[9])?;
    misused(eval.step(1, &[]));
    assert!(matches!(CudaBackend::new(99), Err(BackendError::Unavailable(_))));
    Ok(())
}
