//! A party's comparisons in whole models, in rows: reciprocals of MiniLM's row sums, and its row exponents, at 128 tokens.
#![allow(missing_docs)]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use suf_cpu::CpuBackend;
use suf_gate::{
    Backend, Form, HostValue, KeyBytes, NodeId, Part, Program, Ring, Seed, TensorShape, TwoParties,
    ops::{Input, Op, Output, RowExponent, Scores, Spline, spline::Function},
};

/// Rows: those of eleven heads.
const ROWS: u32 = 11 * 128;

fn program(cols: u32, ring: Ring, frac: u8, op: Op) -> TwoParties {
    let shape = TensorShape::new(ROWS, cols).expect("a shape");
    let program = Program::new([
        (Op::Input(Input::new(shape, ring, frac, Form::Masked)), vec![]),
        (op, vec![NodeId(0)]),
        (Op::Output(Output), vec![NodeId(1)]),
    ]);
    let seeds = [1, 2, 3].map(|byte| Seed::new([byte; 32]));
    TwoParties::new(Arc::new(program.expect("a program")), [7; 16], seeds)
}

fn measure(c: &mut Criterion, name: &str, parties: &TwoParties, value: impl Fn(u64) -> u64) {
    let backend = CpuBackend::new();
    let mut group = c.benchmark_group("comparisons");
    group.throughput(Throughput::Elements(ROWS.into()));
    group.bench_function(name, |b| {
        b.iter_with_setup(
            || {
                let parts =
                    (0..parties.program().node(NodeId(1)).tiles()).map(|tile| Part::new(NodeId(1), tile));
                parts
                    .map(|part| {
                        let keys = backend.deal(&parties.deal_job(part)).expect("keys").map(KeyBytes::from);
                        let rows = parties.program().node(NodeId(1)).cut().rows(part.tile);
                        let cols = u64::from(parties.program().node(NodeId(0)).shape().cols());
                        let elems = u64::from(rows.start) * cols..u64::from(rows.end) * cols;
                        let input = || vec![HostValue::shared(elems.clone().map(&value).collect::<Vec<_>>())];
                        parties.begin([&backend; 2], part, keys, [input(), input()]).expect("it begins")
                    })
                    .collect::<Vec<_>>()
            },
            |runs| {
                for mut run in runs {
                    for _ in 0..parties.program().node(NodeId(1)).exchanges() {
                        run.send(suf_gate::Party::P0).expect("a message");
                        run.send(suf_gate::Party::P1).expect("a message");
                        run.deliver();
                    }
                    black_box(run.finish_one(suf_gate::Party::P0).expect("a value"));
                }
            },
        );
    });
}

fn comparisons(c: &mut Criterion) {
    let mixed = |at: u64| at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
    let reciprocal =
        Spline::new(Function::Reciprocal, Ring::new(48), 24, 36, (1 << 17) - (1 << 13), 33 << 21);
    let reciprocal = program(1, Ring::new(48), 24, Op::Spline(reciprocal.expect("a spline")));
    measure(c, "reciprocals", &reciprocal, mixed);
    let scores = Scores { bits: 256, cols: 128, low: -60, high: 60, row_low: -40 };
    let exponent = Op::RowExponent(RowExponent::new(scores).expect("they fit"));
    measure(c, "row exponents", &program(128, Ring::new(32), 24, exponent), mixed);
}

criterion_group!(benches, comparisons);
criterion_main!(benches);
