//! Private weights: loaded by a run of the load program, and then used.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use suf_cpu::CpuBackend;
use suf_gate::{
    NodeId, Part, Party, Program, Seed, TwoParties,
    load::{Dealt, Kept, LoadId},
    ops::{Op, private::LOADED},
    two_parties::Loaded,
};
use suf_model::{
    Plan,
    bert::{
        Bert, Compiled, Config, Length, Quantised, TextBatch, batches, compile, compile_private,
        load_program, row_sums,
    },
    builtin,
};
use suf_skip::{Need, skip};

use super::{Model, Seen, assert_seen, disk::Disk, model, shares, tiny};

/// The batch of the load, and the seeds of the parties.
const BATCH: [u8; 16] = [8; 16];

fn seeds() -> [Seed; 3] {
    [11, 12, 13].map(|byte| Seed::new([byte; 32]))
}

/// Runs the load program on shares of the model's matrices.
fn loaded(config: &Config, integers: &Quantised) -> Loaded {
    let world = TwoParties::new(load_program(config).expect("a program"), BATCH, seeds());
    let inputs: Vec<_> = integers.matrices().map(|values| shares(LOADED, &values)).collect();
    let backend = CpuBackend::new();
    let transcript = world.run(&backend, [&backend, &backend], &inputs).expect("a run");
    world.loaded(&transcript)
}

/// What such a run leaves, made at once: matrices of a real model are large.
fn kept(config: &Config, integers: &Quantised) -> Loaded {
    let program = load_program(config).expect("a program");
    let world = TwoParties::new(Arc::clone(&program), BATCH, seeds());
    let id = || LoadId { program: Arc::clone(&program), batch: BATCH };
    let backend = CpuBackend::new();
    let mut opened = BTreeMap::new();
    for ((keep, input), values) in program.results().zip(program.inputs()).zip(integers.matrices()) {
        let mut rest = &values[..];
        let tiles = (0..program.node(input).tiles()).map(|tile| {
            let mask = backend.mask(&world, Part::new(input, tile));
            let (values, after) = rest.split_at(mask.len());
            rest = after;
            values.iter().zip(&mask).map(|(x, r)| LOADED.add(LOADED.encode(*x), *r)).collect()
        });
        opened.insert(keep, tiles.collect::<Vec<Vec<u64>>>());
    }
    let [first, second, _] = seeds();
    let kept = |seed: &Seed| Arc::new(Kept::new(id(), seed.clone(), opened.clone()));
    Loaded { kept: [kept(&first), kept(&second)], dealt: Arc::new(Dealt::new(id(), [first, second])) }
}

/// Runs a batch on a load, and compares vectors and nodes.
fn assert_right_on(load: &Loaded, loaded: &[Vec<i64>], model: &Bert, compiled: &Compiled, ids: &[&[u32]]) {
    let seeds = [1, 2, 3].map(|byte| Seed::new([byte; 32]));
    let world = TwoParties::new(Arc::clone(&compiled.program), [7; 16], seeds).with_load(load.clone());
    let seen = Seen { loaded: loaded.to_vec(), ..Seen::of(world, compiled, model, ids) };
    assert_seen(&seen, model, compiled, ids);
}

#[test]
fn vectors_with_private_weights_are_those_of_the_reference_and_every_node_is_right() {
    let Model { bert, integers, plan, texts } = model();
    let load = loaded(&bert.config, &integers);
    let matrices: Vec<_> = integers.matrices().collect();
    let at_once = kept(&bert.config, &integers);
    for party in Party::BOTH.map(Party::index) {
        for input in load_program(&bert.config).expect("a program").inputs() {
            assert_eq!(load.kept[party].matrix(input), at_once.kept[party].matrix(input), "{input}");
        }
    }
    for (padded, most) in [(false, 1), (false, 4), (true, 1), (true, 4)] {
        for TextBatch { length, texts: indices } in batches(&texts, tiny::POSITIONS as u32, padded, most) {
            let compiled =
                compile_private(&bert.config, integers.digest(), &plan, length).expect("a program");
            let ids: Vec<&[u32]> = indices.iter().map(|at| &texts[*at][..]).collect();
            assert_right_on(&load, &matrices, &bert, &compiled, &ids);
        }
    }
}

#[test]
fn vectors_of_the_real_model_with_private_weights_are_those_of_the_reference() {
    let Some(folder) = std::env::var_os("SUF_MINILM") else {
        return skip(Need::MiniLm, "no real model: SUF_MINILM names no folder with MiniLM");
    };
    let model = Bert::load(&Disk(folder.into())).expect("a model");
    let integers = Quantised::new(&model).expect("its weights are small");
    let plan = builtin::plan(integers.digest()).expect("a plan is part of the program");
    let load = kept(&model.config, &integers);
    let matrices: Vec<_> = integers.matrices().collect();
    for (text, padded) in [("The quick brown fox jumps over the lazy dog.", false), ("[PAD] [MASK]", true)] {
        let ids = model.tokens.encode(text, 512).expect("a text");
        let batches = batches(std::slice::from_ref(&ids), model.config.positions, padded, 1);
        let length = batches[0].length;
        let compiled = compile_private(&model.config, integers.digest(), &plan, length).expect("a program");
        assert_right_on(&load, &matrices, &model, &compiled, &[&ids]);
    }
}

/// MiniLM's sizes and plan: all that its program follows from.
fn minilm() -> (Config, Plan) {
    let plan = include_str!("../../../../config/models/all-minilm-l6-v2.toml");
    let config = Config {
        hidden: 384,
        inner: 1536,
        heads: 12,
        layers: 6,
        positions: 512,
        vocabulary: 30522,
        types: 2,
        epsilon: 1e-12,
    };
    (config, Plan::parse(plan).expect("a plan"))
}

fn program(tokens: u32, padded: bool) -> Arc<Program> {
    let (config, plan) = minilm();
    let length = Length { tokens, batch: 1, padded };
    compile_private(&config, &plan.model, &plan, length).expect("a program").program
}

/// One round opens the input, and each layer takes 19.
#[test]
fn a_layer_with_private_weights_takes_nineteen_rounds() {
    for (tokens, padded) in [(3, false), (16, true), (128, false)] {
        assert_eq!(program(tokens, padded).rounds(), 19 * 6, "{tokens} tokens");
    }
}

/// What is opened, and what is shipped, beside the program with public weights: product by product.
#[test]
fn private_weights_of_minilm_cost_what_their_products_cost() {
    let (Config { hidden, inner, layers, .. }, _) = minilm();
    for tokens in [32, 128] {
        let program = program(tokens, false);
        let [rows, elems, wide] = [1, hidden, inner].map(|cols| u64::from(tokens * cols));
        // Queries, keys, values; what stands behind attention, and behind the activation; the means of two residuals.
        let opened = 64 * (3 * elems + wide) + (54 + 55) * elems + 2 * 64 * rows;
        let sums: Vec<_> = program.nodes().filter(|(_, node)| matches!(node.op(), Op::Private(_))).collect();
        let bits: u64 = sums.iter().map(|(_, node)| node.message_bits()).sum();
        let keys: u64 = sums.iter().map(|(_, node)| node.declared().explicit_key_bits).sum();
        assert_eq!([bits, keys], [u64::from(layers) * opened; 2], "{tokens} tokens");
        // Of the masks of their wires, the parties have all but those of what the heads attend to.
        let pads: BTreeSet<_> = sums.iter().flat_map(|(_, node)| node.inputs()).copied().collect();
        let shipped =
            pads.iter().map(|pad| program.node(*pad)).filter(|node| matches!(node.op(), Op::Pads(_)));
        let shipped: u64 = shipped.map(|pad| pad.declared().explicit_key_bits).sum();
        assert_eq!(shipped, u64::from(layers) * 54 * elems, "{tokens} tokens");
    }
}

/// Only the sizes and the plan are in a program: with other weights of the same plan it is the same.
#[test]
fn a_program_and_its_load_program_say_nothing_of_the_weights() {
    let Model { bert, integers, plan, .. } = model();
    let length = Length { tokens: 16, batch: 1, padded: false };
    let compiled = compile_private(&bert.config, integers.digest(), &plan, length).expect("a program");
    let named = Plan { model: [7; 32], ..plan.clone() };
    let again = compile_private(&bert.config, &[7; 32], &named, length).expect("a program");
    assert_eq!(compiled.program.digest(), again.program.digest());
    let public = compile(&bert.config, &integers, &plan, length).expect("a program");
    assert_ne!(compiled.program.digest(), public.program.digest());
    assert_eq!(public.program.load(), None);
    let load = load_program(&bert.config).expect("a program");
    assert_eq!(compiled.program.load(), Some(load.digest()));
    // The matrices that it names sum the elements of a row, whose number is public.
    let known = row_sums(bert.config.positions).expect("they fit");
    assert!(compiled.weights.iter().all(|weights| known.contains(weights)));
    let other = compile_private(&bert.config, &[8; 32], &plan, length);
    assert!(other.is_err_and(|error| error.to_string().contains("the plan belongs to the model")));
}

#[test]
fn each_matrix_is_an_input_of_the_load_program() {
    let Model { bert, integers, .. } = model();
    let load = load_program(&bert.config).expect("a program");
    let shapes = load.inputs().map(|input| load.node(input).shape().elems());
    assert!(shapes.eq(integers.matrices().map(|values| values.len() as u64)));
    assert_eq!(load.inputs().count(), 16 * tiny::LAYERS);
    assert!(load.results().zip(load.inputs()).all(|(keep, input)| load.node(keep).inputs() == [input]));
    assert_eq!(load.node(NodeId(0)).shape().elems(), (tiny::HIDDEN * tiny::HIDDEN) as u64);
}
