//! How long the largest gate descriptions take to decode: `cargo run --release -p suf-gate --example decode`.

#[macro_use]
mod output;

use std::time::Instant;

use suf_gate::{
    Gate, Shape,
    limits::MAX_GATE_BYTES,
    spec::{
        Formula, Helper, MAX_HELPERS, MAX_PIECES, MAX_TABLE, MAX_TERMS, Pieces, Spec, SpecParts, Table, Term,
        Value,
    },
    suf::Suf,
};

const REPEATS: usize = 101;

fn plain() -> SpecParts {
    SpecParts {
        domain_bits: 20,
        grid: 0,
        low_bits: 10,
        output_shift: 0,
        helpers: Vec::new(),
        pieces: None,
        table: None,
        terms: Vec::new(),
    }
}

/// `count` helpers, each of so many comparisons of x and of the low bits, all but one of which cancel each other out.
fn helpers(count: usize, comparisons: i64) -> Vec<Helper> {
    let leaf = |i: i64| Formula::Below(i).xor(Formula::LowBelow(1 + i.unsigned_abs()));
    let sum = (1..comparisons).fold(leaf(0), |sum, i| sum.xor(leaf(i)));
    let formula = |i: usize| sum.clone().xor(sum.clone()).xor(Formula::Below(i as i64));
    (0..count).map(|i| Helper { name: format!("h{i}"), formula: formula(i) }).collect()
}

fn switched(values: impl Iterator<Item = Value>) -> Vec<Term> {
    values.enumerate().map(|(i, value)| Term { when: Some(i), value }).collect()
}

fn main() {
    let fixed = |i: i64| Value::Fixed(vec![i, 1, 2, 3]);
    let cases = [
        (
            "helpers at the limit of work",
            SpecParts { helpers: helpers(30, 31), terms: switched((0..30).map(fixed)), ..plain() },
        ),
        (
            "helpers beyond it, refused",
            SpecParts {
                helpers: helpers(MAX_HELPERS.min(40), 31),
                terms: switched((0..40).map(fixed)),
                ..plain()
            },
        ),
        (
            "one helper, as many terms as there may be",
            SpecParts {
                helpers: helpers(1, 31),
                terms: (0..MAX_TERMS as i64).map(|i| Term { when: Some(0), value: fixed(i) }).collect(),
                ..plain()
            },
        ),
        (
            "as many pieces as there may be, and a table",
            SpecParts {
                pieces: Some(Pieces {
                    cuts: (1..MAX_PIECES as i64).collect(),
                    polynomials: (0..MAX_PIECES as i64).map(|i| vec![i, 1, 2, 3]).collect(),
                }),
                table: Some(Table { start: 0, values: (0..MAX_TABLE as i32).collect() }),
                terms: vec![
                    Term { when: None, value: Value::Pieces(1) },
                    Term { when: None, value: Value::Table(1) },
                ],
                ..plain()
            },
        ),
    ];
    for (what, parts) in cases {
        let spec = Spec::new(parts).expect("within the limits");
        // What is refused has the same description.
        let description = match Suf::new(spec.clone()).and_then(|suf| Gate::new("worst", Shape::Suf(suf))) {
            Ok(gate) => gate.encode(),
            Err(error) => {
                say!("{what}: {error}");
                [&b"sufg\x01\x03\x05worst"[..], &spec.encode()].concat()
            }
        };
        assert!(description.len() <= MAX_GATE_BYTES);
        let mut times_ms: Vec<f64> = (0..REPEATS)
            .map(|_| {
                let begun = Instant::now();
                let decoded = Gate::decode(&description);
                let took_ms = begun.elapsed().as_secs_f64() * 1e3;
                drop(decoded);
                took_ms
            })
            .collect();
        times_ms.sort_by(f64::total_cmp);
        say!("{what}: {} bytes, {:.3} ms", description.len(), times_ms[REPEATS / 2]);
    }
}
