//! The feed-forward block of a transformer by real processes: linear, GELU, linear, in one run. Weights are random, or those of
//! MiniLM's first layer where `SUF_MINILM` names its folder. Every wire is an output too, so that each node is compared with its
//! integer function of the values before it.

#[path = "../../kernels/cuda/tests/host/mod.rs"]
mod host;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use host::HostGpu;
use rand::{Rng, SeedableRng, rngs::StdRng};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use suf_control::v1::RunState;
use suf_gate::{
    Curve, Form, Gate, NodeId, Program, Ring, Shape, TensorShape,
    dpf::Dpf,
    gatefile::GateFile,
    onehot::Onehot,
    ops::{Entry, GateOp, Input, Linear, Op, Output, Weights},
    ring::WIRE,
};
use suf_process::{BackendChoice, weights};
use suf_skip::{Need, skip};
use suf_tests::{
    caller::{Caller, by_id},
    processes::{CAPTURE, Hosts, NAMES, check_from_outside},
};
use suf_wire::Party;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// The file of weights, beside the configurations.
const FILE: &str = "block.safetensors";

/// Tokens, and the widths of MiniLM's blocks.
const ROWS: u32 = 128;
const HIDDEN: u32 = 384;
const INNER: u32 = 1536;

/// Fractional bits of the input, and of the weights.
const INPUT_FRAC: u8 = 26;
const WEIGHT_FRAC: u8 = 14;

/// What is dropped of the first product for the gate's 12 fractional bits.
const DROP: u8 = INPUT_FRAC + WEIGHT_FRAC - 12;

const FULL: Ring = Ring::new(64);

/// The test on a GPU, and the variable that says that the host plays it.
const TEST: &str = "a_feed_forward_block_on_a_gpu_is_right_node_by_node";
const PLAYED: &str = "SUF_GPU_IS_PLAYED";

#[tokio::test]
async fn a_feed_forward_block_is_right_node_by_node_at_its_declared_cost() {
    block("cpu").await;
}

#[test]
fn a_feed_forward_block_on_a_gpu_is_right_node_by_node() {
    if BackendChoice::Cuda.backend(0).is_err() && env::var_os(PLAYED).is_none() {
        return on_a_played_gpu();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(block("cuda"));
}

/// Starts this test again, with a GPU that the host plays.
fn on_a_played_gpu() {
    let host = match HostGpu::build() {
        Ok(host) => host,
        Err(why) => return skip(Need::Cxx, format!("no block ran on a GPU: {why}")),
    };
    let mut again = Command::new(env::current_exe().expect("this program has a path"));
    again.envs(host.variables()).args(["--nocapture", "--exact", TEST]).env(PLAYED, "1");
    let output = again.output().expect("this program starts again");
    let [said, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said.contains(&format!("test {TEST} ... ok")), "{said}{errors}");
    println!("{said}{errors}");
}

async fn block(backend: &str) {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM)).logging(CAPTURE);
    fs::write(hosts.folder().join(FILE), file()).expect("a folder that can be written");
    hosts.start_daemons(|_, config| {
        format!(
            "weights = [\"{FILE}\"]\n{}",
            config.replace("backend = \"cpu\"", &format!("backend = \"{backend}\""))
        )
    });
    let client = Caller::connect(&hosts, "client").await;
    for gate in gates() {
        run(&client, &Block::new(gate), backend).await;
    }
    hosts.check_batches(2);
    for name in NAMES {
        let log = hosts.log(name);
        for matrix in ["up", "down"] {
            assert!(log.contains(&format!("name=\"{matrix}\"")), "{name} does not tell its weights: {log}");
        }
    }
    check_from_outside(&[&hosts]);
}

/// GELU for abs(x) < 128 under both protocols.
fn gates() -> [Gate; 2] {
    let curve: Curve = GateFile::builtin("gelu").expect("built in").curve;
    let onehot = Onehot::new(curve.clone(), vec![6]).expect("a shape");
    let dpf = Dpf::new(curve, 15).expect("a shape");
    [Shape::Onehot(onehot), Shape::Dpf(dpf)].map(|shape| Gate::new("gelu", shape).expect("a gate"))
}

/// A block, and its nodes that are compared.
struct Block {
    program: Program,
    gate: Gate,
    up: Arc<Weights>,
    down: Arc<Weights>,
}

impl Block {
    fn new(gate: Gate) -> Self {
        let decoded = weights::decode(&file()).expect("a file of weights");
        let mut weights: BTreeMap<_, _> =
            decoded.into_iter().map(|(name, weights)| (name, Arc::new(weights))).collect();
        let [up, down] = ["up", "down"].map(|name| weights.remove(name).expect("in the file"));
        let shape = TensorShape::new(ROWS, HIDDEN).expect("a tensor");
        let linear = |weights: &Arc<Weights>| Op::Linear(Linear::new(Arc::clone(weights), WEIGHT_FRAC));
        let entry = Entry { ring: FULL, drop: DROP };
        let gelu = GateOp::entering(Arc::new(gate.clone()), entry).expect("the gate takes such a wire");
        let program = Program::new([
            (Op::Input(Input::new(shape, FULL, INPUT_FRAC, Form::Masked)), vec![]),
            (linear(&up), vec![NodeId(0)]),
            (Op::Gate(gelu), vec![NodeId(1)]),
            (linear(&down), vec![NodeId(2)]),
            (Op::Output(Output), vec![NodeId(1)]),
            (Op::Output(Output), vec![NodeId(2)]),
            (Op::Output(Output), vec![NodeId(3)]),
        ]);
        Self { program: program.expect("a program"), gate, up, down }
    }

    /// Compares each node with its function of what the node before made.
    fn check(&self, x: &[i64], made: &[Vec<i64>; 3]) {
        let [inner, activated, out] = made;
        assert!(*inner == product(&self.up, FULL, x), "the first product");
        assert!(*out == product(&self.down, WIRE, activated), "the second product");
        let mut most = 0;
        for (x, y) in inner.iter().zip(activated) {
            most = most.max(x.unsigned_abs());
            let floor = x >> DROP;
            let right = [floor, floor + 1].map(|x| self.gate.reference(x));
            assert!(right.as_flattened().contains(y), "GELU of {x}: {y}, not one of {right:?}");
        }
        assert!(most < 127 << (12 + DROP), "an input of the gate is outside its domain");
        println!("largest input of GELU: {:.1}", most as f64 / f64::from(1 << 20) / f64::from(1 << 20));
    }
}

/// X W + b in `ring`, from the integers.
fn product(weights: &Weights, ring: Ring, x: &[i64]) -> Vec<i64> {
    let cols = weights.cols() as usize;
    let mut out = Vec::new();
    for row in x.chunks_exact(weights.rows() as usize) {
        let mut sums = weights.bias().to_vec();
        for (x, weights) in row.iter().zip(weights.values().chunks_exact(cols)) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = sum.wrapping_add(x.wrapping_mul(i64::from(*weight)));
            }
        }
        out.extend(sums.into_iter().map(|sum| ring.decode(ring.encode(sum))));
    }
    out
}

async fn run(client: &Caller, block: &Block, backend: &str) {
    let program = &block.program;
    let mut rng = StdRng::seed_from_u64(7);
    // Like the outputs of a layer norm: within 3.
    let x: Vec<i64> =
        (0..ROWS * HIDDEN).map(|_| rng.random_range(-(3 << INPUT_FRAC)..3 << INPUT_FRAC)).collect();
    let mine: Vec<u64> = x.iter().map(|_| rng.random()).collect();
    let theirs = x.iter().zip(&mine).map(|(x, mine)| x.cast_unsigned().wrapping_sub(*mine)).collect();
    let run = client.start_program(program).await;
    for party in Party::BOTH {
        client.follow(party, by_id(run), &[RunState::ReadyForInput]).await;
    }
    for (party, share) in Party::BOTH.into_iter().zip([&mine, &theirs]) {
        client.submit_to(party, run, (NodeId(0), FULL), share).await.expect("its own run");
    }
    for party in Party::BOTH {
        let end = client.follow(party, by_id(run), &[]).await;
        assert_eq!(end.state(), RunState::Done, "{party}: {end:?}");
        let figures = end.figures.expect("of a run that is done");
        assert_eq!(figures.backend, backend);
        let (rounds, bits) = (u32::from(program.rounds()), program.message_bits());
        assert_eq!((figures.rounds, figures.bits_sent, figures.bits_received), (rounds, bits, bits));
        assert_eq!(figures.key_bytes, 32 + program.key_bytes(party));
        let gelu = program.node(NodeId(2));
        assert_eq!((rounds, bits), (gelu.rounds().into(), gelu.message_bits()), "products cost a message");
        assert_eq!(program.key_bytes(party), program.node_key_bytes(party, NodeId(2)), "products cost a key");
        let sending = figures.nodes.iter().filter(|node| node.bits_sent > 0);
        let nodes: Vec<_> = sending.map(|node| (node.node, node.bits_sent)).collect();
        assert_eq!(nodes, [(0, u64::from(ROWS * HIDDEN) * 64), (2, bits)], "input and GELU alone send");
        println!(
            "{backend}, {}, {party}: {rounds} rounds, {bits} bits, {} key bytes, open {:.1} ms, eval {:.1} ms",
            gelu.op().def().name(),
            figures.key_bytes,
            figures.open_ms,
            figures.eval_ms
        );
    }
    let mut made = Vec::new();
    for (node, ring) in [(4, FULL), (5, WIRE), (6, WIRE)] {
        let fetch =
            async |party| client.fetch_from(party, by_id(run), (NodeId(node), ring)).await.expect("done");
        let (mine, theirs) = (fetch(Party::P0).await, fetch(Party::P1).await);
        made.push(
            mine.iter().zip(&theirs).map(|(mine, theirs)| ring.decode(ring.add(*mine, *theirs))).collect(),
        );
    }
    let made: [Vec<i64>; 3] = made.try_into().expect("three outputs");
    block.check(&x, &made);
    for party in Party::BOTH {
        client.party(party).acknowledge_output(by_id(run)).await.expect("its own run");
    }
}

/// The weights as a safetensors file of 16-bit matrices `up` and `down` with their biases.
fn file() -> Vec<u8> {
    let [up, down] = match env::var_os("SUF_MINILM") {
        Some(folder) => minilm(&PathBuf::from(folder)),
        None => {
            skip(Need::MiniLm, "no real weights: SUF_MINILM names no folder with MiniLM's model.safetensors");
            random()
        }
    };
    let i16s = |values: &[i16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let i64s = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let bytes = [i16s(&up.0), i64s(&up.1), i16s(&down.0), i64s(&down.1)];
    let (hidden, inner) = (HIDDEN as usize, INNER as usize);
    let shapes = [vec![hidden, inner], vec![inner], vec![inner, hidden], vec![hidden]];
    let types = [Dtype::I16, Dtype::I64, Dtype::I16, Dtype::I64];
    let names = ["up", "up.bias", "down", "down.bias"];
    let views =
        names.into_iter().zip(types).zip(shapes).zip(&bytes).map(|(((name, dtype), shape), bytes)| {
            (name, TensorView::new(dtype, shape, bytes).expect("lengths fit"))
        });
    safetensors::serialize(views, None).expect("a file")
}

/// A matrix, inputs by outputs, and its bias in units of the product.
type Layer = (Vec<i16>, Vec<i64>);

/// Of the size of a trained layer's.
fn random() -> [Layer; 2] {
    let mut rng = StdRng::seed_from_u64(3);
    [(INNER, INPUT_FRAC + WEIGHT_FRAC), (HIDDEN, 12 + WEIGHT_FRAC)].map(|(outputs, frac)| {
        let weights = (0..HIDDEN * INNER).map(|_| rng.random_range(-1600..1600)).collect();
        let bias = (0..outputs).map(|_| rng.random_range(-(1 << frac)..1 << frac)).collect();
        (weights, bias)
    })
}

/// Those of MiniLM's first layer, quantised.
fn minilm(folder: &Path) -> [Layer; 2] {
    let bytes = fs::read(folder.join("model.safetensors")).expect("the model's file");
    let model = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let floats = |name: &str| -> Vec<f64> {
        let names = [name.to_owned(), format!("bert.{name}")];
        let view = names.iter().find_map(|name| model.tensor(name).ok()).expect("a tensor of BERT");
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        view.data().as_chunks().0.iter().map(|word| f64::from(f32::from_le_bytes(*word))).collect()
    };
    [("intermediate", HIDDEN, INNER, INPUT_FRAC), ("output", INNER, HIDDEN, 12)].map(
        |(layer, inputs, outputs, frac)| {
            let matrix = floats(&format!("encoder.layer.0.{layer}.dense.weight"));
            let scale = f64::from(1u32 << WEIGHT_FRAC);
            // The file has a row for each output.
            let transposed = (0..inputs).flat_map(|i| (0..outputs).map(move |o| (o * inputs + i) as usize));
            let weights = transposed.map(|at| (matrix[at] * scale).round_ties_even() as i16).collect();
            let scale = scale * f64::from(1u32 << frac);
            let bias = floats(&format!("encoder.layer.0.{layer}.dense.bias"));
            (weights, bias.iter().map(|bias| (bias * scale).round_ties_even() as i64).collect())
        },
    )
}
