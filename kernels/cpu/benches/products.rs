//! Rates of products with public weights, in multiply-adds per second: the sizes of MiniLM's feed-forward block at 128 tokens.
#![allow(missing_docs)]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use suf_cpu::CpuBackend;
use suf_gate::{
    Backend, Form, HostValue, NodeId, Part, Party, Program, Ring, SecretBytes, Seed, TensorShape, TwoParties,
    ops::{Input, Linear, Op, Output, Weights},
};

const TOKENS: u32 = 128;

fn linear(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear");
    let backend = CpuBackend::new();
    for (rows, cols) in [(384, 1536), (1536, 384)] {
        let values = (0..rows * cols).map(|at| at as i32 % 16_384 - 8192).collect();
        let weights = Arc::new(Weights::new(rows, cols, values, Vec::new()).expect("a matrix"));
        let shape = TensorShape::new(TOKENS, rows).expect("a shape");
        let program = Program::new([
            (Op::Input(Input::new(shape, Ring::new(64), 26, Form::Masked)), vec![]),
            (Op::Linear(Linear::new(weights, 14)), vec![NodeId(0)]),
            (Op::Output(Output), vec![NodeId(1)]),
        ]);
        let seeds = [1, 2, 3].map(|byte| Seed::new([byte; 32]));
        let parties = TwoParties::new(Arc::new(program.expect("a program")), [7; 16], seeds);
        let job = parties.eval_job(Party::P0, Part::new(NodeId(1), 0));
        let elems = parties.program().elems(Part::new(NodeId(0), 0)) as u64;
        let x: Vec<u64> = (0..elems).map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        group.throughput(Throughput::Elements(elems * u64::from(cols)));
        group.bench_function(format!("{rows} x {cols}"), |b| {
            b.iter(|| {
                let staged = backend.stage(&job, SecretBytes::default().into()).expect("no key");
                let mut eval = staged.begin(vec![HostValue::shared(x.clone())]).expect("an input");
                black_box(eval.finish(&[]).expect("no message"))
            });
        });
    }
}

criterion_group!(benches, linear);
criterion_main!(benches);
