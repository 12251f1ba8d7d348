//! Vectors of texts by a dealer and two parties in one thread, compared with the reference in 64-bit floats. Prints the
//! cosine of both vectors, and how long a text takes. The folder of a model is the argument, `bucket` where lengths
//! are to be hidden, and `private` where weights are: then they are loaded first. Standard input has a text on each line.

#[macro_use]
#[path = "../../gate/examples/output/mod.rs"]
mod output;

#[path = "disk/mod.rs"]
mod disk;

use std::{
    env,
    io::{self, BufRead},
    sync::Arc,
    time::Instant,
};

use disk::Disk;
use suf_cpu::CpuBackend;
use suf_gate::{Backend, Seed, TwoParties, two_parties::Loaded};
use suf_model::{
    bert::{Bert, Config, Quantised, Reference, TextBatch, batches, compile, compile_private, load_program},
    builtin,
};

/// Runs the load program on the model's matrices.
fn load(
    backend: &dyn Backend,
    config: &Config,
    integers: &Quantised,
) -> Result<Loaded, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let world = TwoParties::new(load_program(config)?, [8; 16], [4, 5, 6].map(|byte| Seed::new([byte; 32])));
    let zeros =
        |values: Vec<i64>| [vec![0; values.len()], values.into_iter().map(i64::cast_unsigned).collect()];
    let inputs: Vec<_> = integers.matrices().map(zeros).collect();
    let transcript = world.run(backend, [backend, backend], &inputs)?;
    say!("loaded in {:.2} s", start.elapsed().as_secs_f64());
    Ok(world.loaded(&transcript))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args_os().skip(1);
    let folder = arguments.next().ok_or("the folder of a model is due")?;
    let options: Vec<_> = arguments.collect();
    let [padded, private] = ["bucket", "private"].map(|option| options.iter().any(|given| given == option));
    let model = Bert::load(&Disk(folder.into()))?;
    let integers = Quantised::new(&model)?;
    let plan = builtin::plan(integers.digest()).ok_or("a model that is known is due")?;
    let reference = Reference::new(&model);
    let backend = CpuBackend::new();
    let texts: Vec<String> = io::stdin().lock().lines().collect::<Result<_, _>>()?;
    let tokens = texts.iter().map(|text| model.tokens.encode_cut(text, model.config.positions as usize));
    let tokens: Vec<_> = tokens.collect::<Result<_, _>>()?;
    let load = private.then(|| load(&backend, &model.config, &integers)).transpose()?;
    let mut cosines = Vec::new();
    for TextBatch { length, texts: indices } in batches(&tokens, model.config.positions, padded, 1) {
        let compiled = if private {
            compile_private(&model.config, integers.digest(), &plan, length)?
        } else {
            compile(&model.config, &integers, &plan, length)?
        };
        let ids = &tokens[indices[0]][..];
        let start = Instant::now();
        let seeds = [1, 2, 3].map(|byte| Seed::new([byte; 32]));
        let mut world = TwoParties::new(Arc::clone(&compiled.program), [7; 16], seeds);
        if let Some(load) = &load {
            world = world.with_load(load.clone());
        }
        let zeros = |values: Vec<i64>, ring: suf_gate::Ring| {
            [vec![0; values.len()], values.into_iter().map(|x| ring.encode(x)).collect()]
        };
        let inputs = compiled.program.inputs().zip(compiled.inputs(&model, &[ids]));
        let inputs: Vec<_> = inputs
            .map(|(node, values)| zeros(values, compiled.program.node(node).ring().expect("a wire")))
            .collect();
        let transcript = world.run(&backend, [&backend, &backend], &inputs)?;
        let node = compiled.program.outputs().next().ok_or("a program has an output")?;
        let ring = compiled.program.node(compiled.program.node(node).inputs()[0]).ring().ok_or("a wire")?;
        let [first, second] = transcript.value(&compiled.program, node);
        let output: Vec<i64> =
            first.iter().zip(&second).map(|(a, b)| ring.decode(ring.add(*a, *b))).collect();
        let took = start.elapsed().as_secs_f64();
        let made = compiled.vectors(&model, &[ids], &output);
        let expected = reference.embed(ids);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = dot(&made[0], &expected) / (dot(&made[0], &made[0]) * dot(&expected, &expected)).sqrt();
        say!("{cosine:.7} {} tokens, {took:.2} s: {:.60}", ids.len(), texts[indices[0]]);
        cosines.push(cosine);
    }
    let worst = cosines.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    say!("{} texts: worst {worst:.7}, mean {mean:.7}", cosines.len());
    Ok(())
}
