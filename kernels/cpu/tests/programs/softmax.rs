//! Softmax's operations on the processor: row exponents, exponentials and splines, each node against its integer function and
//! all together against real numbers.

use crate::blocks::{
    assert_right, numbers, observed, parties, shares,
    softmax::{FRAC, OUT, ones, rows_of, score_ring, softmax, widest},
};
use suf_cpu::{CpuBackend, simd::Level};
use suf_gate::{
    Form, NodeId, Part, Party, Program, ProgramError, Ring, TensorShape, TwoParties, WeightStore, check,
    ops::{
        DropBits, Exp2, Function, Input, Op, Output, RowExponent, Scores, Spline, row_exponent::MODULI,
        spline::cut_of,
    },
};

#[test]
fn every_modulus_is_right_over_its_whole_range() {
    for (bits, cols) in [(128, 8), (256, 1), (256, 7), (256, 128), (512, 31), (1024, 16)] {
        let scores = widest(bits, cols);
        let (rows, program) = (45, softmax(45, scores));
        let x = rows_of(rows, &scores);
        for salt in 0..6 {
            let inputs = [shares(score_ring(bits), &x)];
            assert_right(&CpuBackend::new(), &parties(program.clone(), salt), &inputs);
        }
    }
}

/// E / (its row's sum) is softmax in base 2, and the sums lie where the next spline takes them.
#[test]
fn softmax_is_that_of_real_numbers() {
    let scores = Scores { bits: 256, cols: 50, low: -60, high: 33, row_low: -60 };
    let (rows, cols) = (40, 50);
    let x = rows_of(rows, &scores);
    let batch = parties(softmax(rows, scores), 1);
    let backend = CpuBackend::new();
    let run = batch.run(&backend, [&backend, &backend], &[shares(score_ring(256), &x)]).expect("it runs");
    let output = |node| {
        let [mine, theirs] = run.value(batch.program(), NodeId(node));
        mine.into_iter().zip(theirs).map(|(mine, theirs)| OUT.decode(OUT.add(mine, theirs)) as f64)
    };
    let e: Vec<f64> = output(5).map(|e| e / 2f64.powi(24)).collect();
    let rho: Vec<f64> = output(6).map(|rho| rho / 2f64.powi(36)).collect();
    for ((e, rho), x) in e.chunks(cols).zip(rho).zip(x.chunks(cols)) {
        let sum: f64 = e.iter().sum();
        assert!((15.0 / 16.0 / cols as f64..4.125).contains(&sum), "{sum}");
        assert!((rho * sum - 1.0).abs() < 1.0 / 2048.0);
        let most = x.iter().max().expect("scores");
        let real: Vec<f64> = x.iter().map(|x| ((x - most) as f64 / 2f64.powi(24)).exp2()).collect();
        let all: f64 = real.iter().sum();
        for (e, real) in e.iter().zip(real) {
            assert!((e * rho - real / all).abs() < 1e-3 * (real / all) + 4e-7 * cols as f64, "{e} {real}");
        }
    }
}

/// In a bucket, masked scores are far below: rows have a score that is not.
#[test]
fn rows_with_masked_scores_take_fewer_levels() {
    let whole = Scores { bits: 256, cols: 16, low: -120, high: 20, row_low: -120 };
    let scores = Scores { row_low: -30, ..whole };
    assert_eq!(whole.levels() - scores.levels(), 45);
    let x: Vec<i64> = rows_of(30, &Scores { low: -30, ..scores })
        .chunks(16)
        .flat_map(|row| row[..9].iter().copied().chain([-120 << FRAC; 7]).collect::<Vec<_>>())
        .collect();
    assert_right(&CpuBackend::new(), &parties(softmax(30, scores), 2), &[shares(score_ring(256), &x)]);
}

#[test]
fn several_tiles_and_wider_rings_are_right() {
    let scores = Scores { bits: 256, cols: 700, low: -50, high: 40, row_low: -50 };
    let program = softmax(200, scores);
    assert_eq!([1, 2, 4].map(|node| program.node(NodeId(node)).tiles()), [3; 3]);
    let x = rows_of(200, &scores);
    assert_right(&CpuBackend::new(), &parties(program, 1), &[shares(score_ring(256), &x)]);

    // Only the low bits of a wider ring count.
    let (ring, cols) = (Ring::new(60), 5);
    let scores = Scores { bits: 128, cols, low: -9, high: 9, row_low: -9 };
    let shape = TensorShape::new(20, cols).expect("a tensor");
    let program = Program::new([
        (Op::Input(Input::new(shape, ring, 13, Form::Masked)), vec![]),
        (Op::RowExponent(RowExponent::new(scores).expect("they fit")), vec![NodeId(0)]),
        (Op::Exp2(Exp2::new(128, Ring::new(20), 12).expect("a modulus")), vec![NodeId(0), NodeId(1)]),
        (Op::Output(Output), vec![NodeId(2)]),
    ]);
    let x: Vec<i64> = rows_of(20, &scores).iter().map(|x| x >> 11).collect();
    assert_right(&CpuBackend::new(), &parties(program.expect("a program"), 1), &[shares(ring, &x)]);
}

/// A spline alone, at every end of a piece and beside it, under many masks.
#[test]
fn splines_are_right_at_the_ends_of_their_pieces() {
    let square_root = Function::InverseSqrt { of: 384 };
    for (function, bits, to_frac, low, high) in [
        (Function::Reciprocal, 48, 36, (1 << 17) - (1 << 13), 33 << 21),
        (Function::Reciprocal, 64, 30, 512, 5000),
        (square_root, 64, 52, 161_061_273, 3_350_074_490_880),
        (square_root, 61, 40, 1 << 30, (1 << 30) + 1),
    ] {
        let ring = Ring::new(bits);
        let spline = Spline::new(function, ring, 24, to_frac, low, high).expect("pieces");
        let ends = spline.pieces().pieces().iter().map(|piece| piece.from).chain([high]);
        let near = |end: u64| {
            let cut = 1i64 << cut_of(end);
            [-cut, -1, 0, 1, cut - 1].map(|by| end as i64 + by)
        };
        let mut x: Vec<i64> = ends.flat_map(near).collect();
        x.extend(numbers(3).map(|number| (low + number % (high - low)) as i64).take(500));
        x.retain(|x| (low..high).contains(&x.cast_unsigned()));
        let shape = TensorShape::new(1, x.len() as u32).expect("a tensor");
        let program = Program::new([
            (Op::Input(Input::new(shape, ring, 24, Form::Masked)), vec![]),
            (Op::Spline(spline), vec![NodeId(0)]),
            (Op::Output(Output), vec![NodeId(1)]),
        ])
        .expect("a program");
        for salt in 0..3 {
            assert_right(&CpuBackend::new(), &parties(program.clone(), salt), &[shares(ring, &x)]);
        }
    }
}

#[test]
fn what_is_outside_its_range_is_found() {
    let scores = Scores { bits: 128, cols: 4, low: -10, high: 10, row_low: -2 };
    let batch = parties(softmax(4, scores), 1);
    let of = |scores: [i64; 4]| scores.map(|score| score << FRAC);
    let x = [of([0; 4]), of([11, 0, 0, 0]), of([0, 0, -11, 0]), of([-3, -4, -5, -6])].concat();
    let backend = CpuBackend::new();
    let run = batch.run(&backend, [&backend, &backend], &[shares(score_ring(128), &x)]).expect("it runs");
    let found = check::check(batch.program(), &observed(&batch, &run, &[]));
    assert_eq!((found[1].out_of_range, found[1].wrong), (3, 0));
}

#[test]
fn a_changed_value_is_found() {
    let scores = Scores { bits: 128, cols: 6, low: -10, high: 10, row_low: -10 };
    let batch = parties(softmax(9, scores), 1);
    let x = rows_of(9, &scores);
    let backend = CpuBackend::new();
    let run = batch.run(&backend, [&backend, &backend], &[shares(score_ring(128), &x)]).expect("it runs");
    assert!(check::check(batch.program(), &observed(&batch, &run, &[])).iter().all(|node| node.wrong == 0));
    for node in [1, 2, 4] {
        let part = Part::new(NodeId(node), 0);
        let mut changed =
            batch.run(&backend, [&backend, &backend], &[shares(score_ring(128), &x)]).expect("it runs");
        changed.values.get_mut(&part).expect("it was made").iter_mut().for_each(|value| value[3] ^= 1);
        assert!(
            check::check(batch.program(), &observed(&batch, &changed, &[])).iter().any(|node| node.wrong > 0)
        );
    }
}

#[test]
fn levels_agree_to_the_bit() {
    for bits in [128, 1024] {
        let scores = widest(bits, 9);
        let x = rows_of(33, &scores);
        let batch = parties(softmax(33, scores), 3);
        let run = |level| {
            let backend = CpuBackend::at(level);
            batch.run(&backend, [&backend, &backend], &[shares(score_ring(bits), &x)]).expect("it runs")
        };
        let expected = run(Level::Portable);
        for level in Level::ALL.into_iter().filter(|level| level.supported()) {
            let found = run(level);
            assert!(found.messages == expected.messages && found.values == expected.values, "{level}");
            for (part, keys) in &found.keys {
                let same = keys.iter().zip(&expected.keys[part]).all(|(a, b)| a.expose() == b.expose());
                assert!(same, "{part}, {level}");
            }
        }
    }
}

/// The declared cost is the layout's, to the bit, and less than model.md's plan where ranges are narrower than m.
#[test]
fn declared_costs_are_those_of_keys_and_messages() {
    let scores = Scores { bits: 256, cols: 128, low: -32, high: 32, row_low: -32 };
    let rows = 70;
    let program = softmax(rows, scores);
    let batch = parties(program.clone(), 1);
    let x = rows_of(rows, &scores);
    let backend = CpuBackend::new();
    let run = batch.run(&backend, [&backend, &backend], &[shares(score_ring(256), &x)]).expect("it runs");
    let rows = u64::from(rows);
    for (node, rounds, bits, seeded, explicit) in [
        (1, 2, rows * (128 + 7), rows * 17 * 48, rows * (17 * 48 + 128 * 16)),
        (2, 1, rows * 128 * 48, 0, rows * 128 * 32),
        (4, 1, rows * 48, rows * 32 * 19, rows * 32 * 19),
    ] {
        let id = NodeId(node);
        let declared = program.node(id).op().def().declared(program.node_counts(id));
        assert_eq!((u64::from(declared.rounds), declared.bits), (rounds, bits), "node {node}");
        assert_eq!([declared.seeded_key_bits, declared.explicit_key_bits], [8 * seeded, 8 * explicit]);
        let part = Part::new(id, 0);
        let keys = run.keys[&part].each_ref().map(|key| key.len() as u64);
        let by_side = match program.side(Party::P0, part) {
            suf_gate::Side::Seeded => keys,
            suf_gate::Side::Explicit => [keys[1], keys[0]],
        };
        assert_eq!(by_side, [seeded, explicit], "node {node}");
        let sent: usize = (0..rounds as usize).map(|step| run.messages[&(part, step)][0].len()).sum();
        assert_eq!(sent as u64, bits.div_ceil(8), "node {node}");
    }
    // Key exponents for all of m / 2 would take 9 m + 16 bytes.
    assert!(17 * scores.levels() < 9 * 256 + 16);
}

#[test]
fn programs_are_encoded_and_decoded() {
    let mut store = WeightStore::default();
    store.add(ones(8));
    for bits in MODULI {
        let program = softmax(3, widest(bits, 8));
        let encoded = program.encoded();
        assert_eq!(&Program::decode(encoded, &store).expect("its own encoding"), &program);
        for at in 0..encoded.len() {
            assert!(Program::decode(&encoded[..at], &store).is_err());
            let mut changed = encoded.to_vec();
            changed[at] ^= 0xFF;
            if let Ok(other) = Program::decode(&changed, &store) {
                assert_ne!(other.digest(), program.digest(), "byte {at} means nothing");
            }
        }
    }
}

#[test]
fn wires_that_do_not_fit_are_refused() {
    let scores = Scores { bits: 256, cols: 8, low: -50, high: 40, row_low: -50 };
    let shape = |rows, cols| TensorShape::new(rows, cols).expect("a tensor");
    let input = |shape, ring, frac, form| (Op::Input(Input::new(shape, ring, frac, form)), vec![]);
    let exponent = || (Op::RowExponent(RowExponent::new(scores).expect("they fit")), vec![NodeId(0)]);
    let exp2 = |inputs: &[u16]| {
        let op = Op::Exp2(Exp2::new(256, OUT, FRAC).expect("a modulus"));
        (op, inputs.iter().copied().map(NodeId).collect())
    };
    let spline = |inputs: &[u16]| {
        let op = Spline::new(Function::Reciprocal, OUT, FRAC, 36, 1 << 17, 1 << 26).expect("pieces");
        (Op::Spline(op), inputs.iter().copied().map(NodeId).collect())
    };
    let masked = || input(shape(4, 8), score_ring(256), FRAC, Form::Masked);
    let refused = [
        (vec![input(shape(4, 8), score_ring(256), FRAC, Form::Shared), exponent()], "a masked wire"),
        (vec![input(shape(4, 8), Ring::new(31), FRAC, Form::Masked), exponent()], "a masked wire"),
        (vec![input(shape(4, 8), score_ring(256), 12, Form::Masked), exponent()], "a masked wire"),
        (vec![input(shape(4, 9), score_ring(256), FRAC, Form::Masked), exponent()], "rows of 8 scores"),
        (vec![masked(), exp2(&[0])], "not 1 wires"),
        (vec![masked(), exp2(&[0, 0])], "a masked exponent of 7 bits"),
        (vec![input(shape(4, 8), OUT, FRAC, Form::Shared), spline(&[0])], "a masked wire of 48 bits"),
        (vec![input(shape(4, 8), OUT, 23, Form::Masked), spline(&[0])], "24 of them fractional"),
        (
            vec![
                input(shape(4, 8), Ring::new(50), 26, Form::Masked),
                (Op::Drop(DropBits(2)), vec![NodeId(0)]),
                spline(&[1]),
            ],
            "put `open` before it",
        ),
    ];
    for (nodes, reason) in refused {
        let error = Program::new(nodes).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let far = Scores { low: -150, high: -100, row_low: -150, ..scores };
    let nodes = [masked(), (Op::RowExponent(RowExponent::new(far).expect("they fit")), vec![NodeId(0)])];
    assert!(matches!(Program::new(nodes), Err(ProgramError::Node { .. })), "the ring ends at -128");
    assert!(RowExponent::new(Scores { low: -150, ..scores }).is_err());
    assert!(Exp2::new(200, OUT, FRAC).is_err() && Exp2::new(256, Ring::new(27), FRAC).is_err());
    assert!(Exp2::new(256, OUT, 31).is_err());
    assert!(Spline::new(Function::Reciprocal, OUT, 48, 36, 1 << 17, 1 << 26).is_err());
}

/// Two equal softmaxes in one program have neither a mask nor a key in common.
#[test]
fn equal_nodes_share_no_block_of_a_key() {
    let scores = Scores { bits: 128, cols: 8, low: -8, high: 8, row_low: -8 };
    let exponent = || (Op::RowExponent(RowExponent::new(scores).expect("they fit")), vec![NodeId(0)]);
    let exp2 = |k| (Op::Exp2(Exp2::new(128, OUT, FRAC).expect("a modulus")), vec![NodeId(0), NodeId(k)]);
    let shape = TensorShape::new(16, 8).expect("a tensor");
    let program = Program::new([
        (Op::Input(Input::new(shape, score_ring(128), FRAC, Form::Masked)), vec![]),
        exponent(),
        exponent(),
        exp2(1),
        exp2(2),
        (Op::Output(Output), vec![NodeId(3)]),
        (Op::Output(Output), vec![NodeId(4)]),
    ]);
    let batch: TwoParties = parties(program.expect("a program"), 1);
    let mut blocks = std::collections::HashSet::new();
    for part in batch.program().keyed_parts() {
        // Common words stand in both keys: those of the longer one are enough.
        let keys = batch.deal(&CpuBackend::new(), part).expect("the processor deals");
        let longest = keys.into_iter().max_by_key(suf_gate::KeyBytes::len).expect("two keys");
        assert!(longest.expose().as_chunks::<16>().0.iter().all(|block| blocks.insert(*block)), "{part}");
    }
}
