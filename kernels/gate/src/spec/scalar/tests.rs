//! Compiled against reference on random specifications, every rewrite on its own, and the declared cost.

use proptest::prelude::*;

use super::super::dpf::{self, Blake3Prg};
use super::super::formula::Regions;
use super::super::{Formula, Helper, Pieces, Spec, SpecParts, Table, Term, Value};
use super::deal::masked_rows;
use super::*;
use crate::activation::Builtin;
use crate::curve::Curve;
use crate::layout::Source;

/// A stream from a test's seed.
fn stream(seed: u64) -> impl Entropy {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    move |out: &mut [u8]| reader.fill(out)
}

/// Deals, evaluates, checks the messages' shapes, and returns y_hat - r_out.
fn run(spec: &CompiledSpec, x: i64, r: u64, entropy: &mut impl Entropy) -> i64 {
    let (r, r_out) = (WIRE.reduce(r), entropy.bits(48));
    let keys = deal(spec, &Blake3Prg, r, r_out, entropy);
    assert_eq!(WIRE.add(keys[0].r_in(), keys[1].r_in()), r);
    assert_eq!(WIRE.add(keys[0].r_out(), keys[1].r_out()), r_out);
    let x_hat = WIRE.add(WIRE.encode(x), r);
    let mut evals = [0, 1].map(|b| Eval::new(spec, &Blake3Prg, &keys[b], x_hat));
    let mut last = 0;
    for segments in spec.exchanges() {
        let messages = [evals[0].message(), evals[1].message()];
        assert_eq!(messages[0].len(), segments.len());
        let opened = open(&segments, [&messages[0], &messages[1]]);
        last = opened[0];
        evals.iter_mut().for_each(|eval| eval.receive(opened.clone()));
    }
    WIRE.decode(WIRE.sub(last, r_out))
}

/// Inputs around everything where a specification changes, and the ends of its domain.
fn inputs(spec: &Spec, entropy: &mut impl Entropy) -> Vec<i64> {
    let parts = spec.parts();
    let (first, last) = spec.domain();
    let thresholds = parts.helpers.iter().flat_map(|h| h.formula.thresholds());
    let cuts = parts.pieces.iter().flat_map(|p| p.cuts.clone());
    let edges = parts.table.iter().flat_map(|t| [t.start, t.start + ((t.values.len() as i64) << parts.grid)]);
    let places: Vec<i64> = thresholds.chain(cuts).chain(edges).chain([0]).collect();
    let mut out: Vec<i64> = places.iter().flat_map(|p| [p - 1, *p, p + 1]).collect();
    out.extend([first, last]);
    out.extend(
        (0..4).map(|_| (entropy.bits(47).cast_signed() % last) * if entropy.bits(1) == 0 { 1 } else { -1 }),
    );
    out.into_iter().filter(|x| (first..=last).contains(x)).collect()
}

/// The compiled form is one of the reference's two outputs, for masks at the borders of the ring and random ones.
fn agrees(spec: &Spec, seed: u64) {
    let compiled = CompiledSpec::new(spec).unwrap();
    let mut entropy = stream(seed);
    let parts = spec.parts();
    for x in inputs(spec, &mut entropy) {
        let edge = 1_u64 << (parts.domain_bits - 1 + parts.grid).min(47);
        for r in [0, WIRE.mask(), edge, edge - 1, x.unsigned_abs(), entropy.bits(48), entropy.bits(48)] {
            let y = run(&compiled, x, r, &mut entropy);
            // Which of the two is decided by the mask's low bits.
            let x_hat = WIRE.add(WIRE.encode(x), WIRE.reduce(r));
            let domain = Ring::new(parts.domain_bits);
            let t = domain.decode(domain.sub(x_hat >> parts.grid, WIRE.reduce(r) >> parts.grid));
            assert_eq!(y, spec.value(x, t), "x = {x}, r = {r}, t = {t}, {:?}", compiled.exchanges());
            assert!(spec.reference(x).contains(&y));
        }
    }
}

fn curve(function: Builtin) -> Curve {
    Curve::fit(&function.into(), 12, 6, None, None, None).unwrap()
}

#[test]
fn gelu_and_silu_take_two_rounds_and_less_than_sigma() {
    for (function, bits, sigma_bytes, sigma_bits) in
        [(Builtin::Gelu, 61, 575.375, 139), (Builtin::Silu, 62, 615.375, 141)]
    {
        let compiled = CompiledSpec::new(&Spec::from_curve(&curve(function), 30).unwrap()).unwrap();
        let cost = compiled.cost();
        assert_eq!((cost.rounds, cost.bits), (2, bits));
        // 22 levels and a leaf block for both; five ring elements for one of them.
        assert_eq!((cost.seeded_key_bits / 8, cost.explicit_key_bits / 8), (23 * 16, 23 * 16 + 30));
        assert!(cost.mean_key_bytes() < sigma_bytes && cost.bits < sigma_bits);
    }
}

#[test]
fn curves_compile_to_themselves() {
    for (seed, function) in (0..).zip([Builtin::Gelu, Builtin::Tanh, Builtin::Relu]) {
        agrees(&Spec::from_curve(&curve(function), 30).unwrap(), seed);
    }
}

#[test]
fn keys_have_the_declared_shape_and_do_not_print() {
    let mut entropy = stream(7);
    for spec in [Spec::from_curve(&curve(Builtin::Silu), 30).unwrap(), example()] {
        let compiled = CompiledSpec::new(&spec).unwrap();
        for r in [0, 1 << 47, entropy.bits(48)] {
            let keys = deal(&compiled, &Blake3Prg, r, 0, &mut entropy);
            for (part, field) in compiled.parts() {
                let id = compiled.field(*part).unwrap();
                assert_eq!(compiled.key_shape().field(id), field);
                let planes = matches!(field.width, crate::layout::Width::Planes(_));
                let held = if field.source == Source::Dealer { 0 } else { field.width.bits() as usize };
                // One byte per plane for a single element.
                let expected = if planes { held } else { held / 8 };
                for key in &keys {
                    assert_eq!(key.bytes(&compiled, *part).len(), expected, "{part:?}");
                }
                if field.source == Source::Common {
                    assert_eq!(keys[0].bytes(&compiled, *part), keys[1].bytes(&compiled, *part));
                }
            }
            assert!(!format!("{:?}", keys[0]).contains("root"));
        }
    }
}

/// One specification with everything: low comparisons, a gated table, gated pieces, a helper of four comparisons.
fn example() -> Spec {
    let below = Formula::Below;
    let inside = below(64).and(below(-64).not());
    Spec::new(SpecParts {
        domain_bits: 20,
        grid: 2,
        low_bits: 9,
        output_shift: 0,
        helpers: vec![
            Helper { name: "inside".into(), formula: inside.clone() },
            Helper {
                name: "mixed".into(),
                formula: inside.xor(Formula::LowBelow(300).and(Formula::LowBelow(5).not())),
            },
            Helper { name: "left".into(), formula: below(-4) },
        ],
        pieces: Some(Pieces {
            cuts: vec![-40, 0, 8, 400],
            polynomials: vec![vec![1], vec![2, -3], vec![0, 0, 5], vec![-7, 0, 0, 1], vec![11]],
        }),
        table: Some(Table { start: -80, values: (0..50).map(|i| 1000 - 77 * i).collect() }),
        terms: vec![
            Term { when: Some(0), value: Value::Table(3) },
            Term { when: Some(1), value: Value::Pieces(-1) },
            Term { when: None, value: Value::Pieces(2) },
            Term { when: Some(2), value: Value::Fixed(vec![5, 6, 7, 8]) },
            Term { when: None, value: Value::Table(1) },
        ],
    })
    .unwrap()
}

#[test]
fn a_specification_with_everything_takes_three_rounds() {
    let compiled = CompiledSpec::new(&example()).unwrap();
    assert_eq!(compiled.cost().rounds, 3);
    assert!(compiled.pieces().is_some() && compiled.table().is_some() && compiled.has_low_tree());
    agrees(&example(), 1);
}

#[test]
fn few_pieces_become_gates_and_many_a_lookup() {
    let pieces = |n: i64| {
        Spec::new(SpecParts {
            domain_bits: 16,
            grid: 0,
            low_bits: 0,
            output_shift: 0,
            helpers: Vec::new(),
            pieces: Some(Pieces {
                cuts: (1..n).map(|i| 100 * i - 300).collect(),
                polynomials: (0..n).map(|i| vec![i, -i, i * i]).collect(),
            }),
            table: None,
            terms: vec![Term { when: None, value: Value::Pieces(3) }],
        })
        .unwrap()
    };
    let compiled = |n| CompiledSpec::new(&pieces(n)).unwrap();
    assert!(compiled(3).pieces().is_none());
    assert_eq!(compiled(3).comparisons().len(), 2);
    assert!(compiled(20).pieces().is_some());
    assert_eq!(compiled(20).comparisons().len(), 0);
    for n in [1, 2, 3, 20] {
        agrees(&pieces(n), n.unsigned_abs());
        assert_eq!(compiled(n).cost().rounds, if n == 1 { 1 } else { 2 });
    }
}

#[test]
fn helpers_are_reduced_to_what_they_depend_on() {
    let spec = |formula: Formula, value| {
        Spec::new(SpecParts {
            domain_bits: 16,
            grid: 0,
            low_bits: 4,
            output_shift: 0,
            helpers: vec![Helper { name: "h".into(), formula }],
            pieces: None,
            table: Some(Table { start: -8, values: vec![5; 16] }),
            terms: vec![Term { when: Some(0), value }],
        })
        .unwrap()
    };
    let shape = |formula: Formula, value: Value| {
        let compiled = CompiledSpec::new(&spec(formula.clone(), value.clone())).unwrap();
        agrees(&spec(formula, value), 3);
        (compiled.comparisons().len(), compiled.helper_count(), compiled.cost().rounds)
    };
    let (below, low) = (Formula::Below, Formula::LowBelow);
    let line = || Value::Fixed(vec![1, 1]);
    assert_eq!(shape(below(3).and(below(9)), line()), (1, 0, 2), "the wider one never decides");
    assert_eq!(shape(below(3).or(below(3).not()), line()), (0, 0, 1), "always");
    assert_eq!(shape(below(3).xor(below(3)), line()), (0, 0, 1), "never");
    assert_eq!(shape(below(3).not(), line()), (1, 0, 2), "a negation is a sign");
    assert_eq!(shape(below(3).and(low(7)), line()), (2, 1, 3));
    assert_eq!(shape(below(8).and(below(-8).not()), Value::Table(1)), (0, 0, 2), "the table's own window");
    assert_eq!(shape(below(-8), Value::Table(1)), (0, 0, 1), "beside the window");
    assert_eq!(shape(below(7), Value::Table(1)), (1, 0, 2));
    let many = |n: i64| (1..n).fold(below(0), |f, i| f.xor(below(i)));
    assert_eq!(shape(many(8), line()), (8, 1, 3));
    assert!(matches!(
        CompiledSpec::new(&spec(many(9), line())),
        Err(super::super::SpecError::TooManyInputs { .. })
    ));
}

#[test]
fn interval_signs_follow_from_the_two_low_bits() {
    for n in 0..300_u64 {
        assert_eq!(sign_share(Party::P0, n + 1) ^ sign_share(Party::P1, n), 1);
        assert_eq!(sign_share(Party::P0, n) ^ sign_share(Party::P1, n + 1), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn point_functions_are_one_at_alpha(bits in 1_u8..16, alpha: u64, x: u64, seed: u64) {
        let (alpha, mut entropy) = (low(alpha, bits), stream(seed));
        let mut root = || Block::from(entropy.bits(64)) << 64 | Block::from(entropy.bits(64));
        let (keys, leaf_0) = dpf::deal(&Blake3Prg, bits, alpha, [root(), root()]);
        prop_assert_eq!(keys[0].leaf(&Blake3Prg, alpha), leaf_0);
        for x in [low(x, bits), alpha, alpha ^ 1, low(alpha + 1, bits), 0, (1 << bits) - 1] {
            let x = low(x, bits);
            let [leaf, below] = [DpfKey::leaf, DpfKey::below]
                .map(|f| f(&keys[0], &Blake3Prg, x) ^ f(&keys[1], &Blake3Prg, x));
            prop_assert_eq!(leaf, u64::from(x == alpha));
            prop_assert_eq!(below, u64::from(alpha < x));
        }
        let all = keys.each_ref().map(|key| key.below(&Blake3Prg, 1 << bits));
        prop_assert_eq!(all[0] ^ all[1], 1);
    }

    #[test]
    fn truth_tables_move_with_their_masks(truth in prop::collection::vec(any::<bool>(), 16), masks in prop::collection::vec(0_u64..2, 4)) {
        let shift = masks.iter().enumerate().fold(0, |sum, (i, mask)| sum | (*mask as usize) << i);
        let rows = masked_rows(&truth, &masks);
        for (i, row) in rows.iter().enumerate() {
            prop_assert_eq!(*row == 1, truth[i ^ shift]);
        }
    }

    #[test]
    fn signed_entries_survive_a_narrow_mask(k in 3_u8..25, entry: i64, mask: u64) {
        let half = 1_i64 << (k - 2);
        let (entry, a) = (entry % half, low(mask, k));
        let m = low(entry.cast_unsigned().wrapping_add(a).wrapping_add(half.cast_unsigned()), k);
        let carry = (m >> (k - 1) ^ 1) * (a >> (k - 1));
        prop_assert_eq!(m.cast_signed() - half - a.cast_signed() + ((carry << k).cast_signed()), entry);
    }

    #[test]
    fn a_comparison_is_two_top_bits_and_a_borrow(bits in 8_u8..49, t: i64, threshold: i64, rho: u64) {
        let (bound, ring) = (1_i64 << (bits - 2), Ring::new(bits));
        let (t, threshold, rho) = (t % bound, threshold % bound, ring.reduce(rho));
        let u = ring.sub(ring.add(ring.encode(t), rho), ring.encode(threshold));
        let borrow = u64::from(low(u, bits - 1) < low(rho, bits - 1));
        prop_assert_eq!(u >> (bits - 1) ^ rho >> (bits - 1) ^ borrow, u64::from(t < threshold));
    }

    #[test]
    fn a_low_comparison_is_a_cyclic_interval(bits in 1_u8..25, x: u64, bound: u64, rho: u64) {
        let (x, rho) = (low(x, bits), low(rho, bits));
        let bound = 1 + bound % ((1_u64 << bits) - 1).max(1);
        let u = low(x + rho, bits);
        let interval = (rho <= u) ^ (rho <= low(u.wrapping_sub(bound), bits)) ^ (u < bound);
        prop_assert_eq!(interval, x < bound);
    }

    #[test]
    fn regions_say_what_the_formula_says(formula in formulas(40, 3, 5), t in -50_i64..50, low in 0_u64..32) {
        let regions = Regions::of(&formula, &mut 0);
        let (x, below) = (t << 3, |n: &i64| (t << 3) < *n);
        let bits = regions.thresholds.iter().map(below).chain(regions.lows.iter().map(|n| low < *n));
        let row = bits.enumerate().fold(0, |row, (i, bit)| row | usize::from(bit) << i);
        let value = formula.eval(x, low);
        prop_assert_eq!(regions.truth_table()[row], value);
        prop_assert!(regions.constant_on(x, x + 8).is_none_or(|constant| constant == value));
        prop_assert_eq!(regions.complement().truth_table()[row], !value);
    }

    #[test]
    fn polynomials_shift(c in prop::collection::vec(any::<u64>(), 1..5), x: u64, r: u64) {
        let powers = |k: u8| (0..k).fold(1_u64, |p, _| p.wrapping_mul(r.wrapping_neg()));
        let direct = c.iter().rev().fold(0_u64, |sum, c| sum.wrapping_mul(x).wrapping_add(*c));
        prop_assert_eq!(shifted(x.wrapping_add(r), &c, powers, |_| 0), direct);
    }

    #[test]
    fn compiled_is_reference_on_random_specifications(spec in specifications(), seed: u64) {
        agrees(&spec, seed);
    }

    #[test]
    fn encodings_round_trip_on_random_specifications(spec in specifications()) {
        prop_assert_eq!(Spec::decode(&spec.encode()).unwrap(), spec);
    }
}

fn formulas(domain: i64, grid: u8, low_bits: u8) -> impl Strategy<Value = Formula> {
    let leaf = prop_oneof![
        3 => (-domain..domain).prop_map(move |t| Formula::Below(t << grid)),
        1 => (1..1_u64 << low_bits).prop_map(Formula::LowBelow),
    ];
    leaf.prop_recursive(3, 6, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(Formula::not),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.or(b)),
            (inner.clone(), inner).prop_map(|(a, b)| a.xor(b)),
        ]
    })
}

fn specifications() -> impl Strategy<Value = Spec> {
    (10_u8..20, 0_u8..5, 1_u8..10).prop_flat_map(|(domain_bits, grid, low_bits)| {
        // Thresholds near each other and 0, so that regions are hit; the domain's ends are among the inputs anyway.
        let near = 1_i64 << (domain_bits - 4);
        let coefficient = -(1_i64 << 40)..1_i64 << 40;
        let polynomial = prop::collection::vec(coefficient.clone(), 1..5);
        let pieces =
            (prop::collection::btree_set(-near..near, 0..7), prop::collection::vec(polynomial.clone(), 7))
                .prop_map(move |(cuts, mut polynomials)| {
                    polynomials.truncate(cuts.len() + 1);
                    polynomials.resize(cuts.len() + 1, vec![0]);
                    Pieces { cuts: cuts.into_iter().map(|cut| cut << grid).collect(), polynomials }
                });
        let table = (-near..near, prop::collection::vec(-4_000_000..4_000_000, 1..40))
            .prop_map(move |(start, values)| Table { start: start << grid, values });
        let value = prop_oneof![
            polynomial.prop_map(Value::Fixed),
            coefficient.clone().prop_map(Value::Pieces),
            coefficient.prop_map(Value::Table),
        ];
        let terms = prop::collection::vec((prop::option::of(0_usize..3), value), 1..6);
        let helpers = prop::collection::vec(formulas(near, grid, low_bits), 3);
        (pieces, table, helpers, terms).prop_map(move |(pieces, table, helpers, terms)| {
            let name = |i| ["a", "b", "c"][i];
            let helpers = helpers.into_iter().enumerate();
            let parts = SpecParts {
                domain_bits,
                grid,
                low_bits,
                output_shift: 0,
                helpers: helpers.map(|(i, formula)| Helper { name: name(i).to_owned(), formula }).collect(),
                pieces: Some(pieces),
                table: Some(table),
                terms: terms.into_iter().map(|(when, value)| Term { when, value }).collect(),
            };
            Spec::new(parts).expect("all within limits")
        })
    })
}
