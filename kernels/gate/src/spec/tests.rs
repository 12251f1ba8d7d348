//! The data model: files, encodings, reference, what is refused, and what decoding takes.

use super::formula::Regions;
use super::sums::Sums;
use super::*;
use crate::activation::Builtin;

const HARD_SWISH: &str = include_str!("../../../../config/specs/hard-swish-quadratic.toml");

const ALL_KEYS: &str = r#"
name = "everything"
frac = 12
domain_bits = 20
grid = 2
low_bits = 4

[[helper]]
name = "near"
formula = "x >= -64 and x < 64"

[[helper]]
name = "odd"
formula = "not near xor (low < 3 or low >= 12)"

[[piece]]
until = 8
polynomial = [1, 2]

[[piece]]
polynomial = [3, 4, 5, 6]

[table]
start = -8
values = [3, 1, -4]

[[term]]
polynomial = [7, -1]

[[term]]
when = "odd"
pieces = -2

[[term]]
when = "near"
table = 5
"#;

#[test]
fn the_function_that_is_approximated_is_known_by_name_or_formula() {
    let with = |line: &str| {
        let text = HARD_SWISH.replace("function = \"hard-swish\"", line);
        SpecFile::parse("f.toml", &text)
    };
    let value = |file: SpecFile| file.activation.map(|function| function.eval(1.5));
    assert_eq!(value(with("function = \"hard-swish\"").unwrap()), Some(1.5 * 4.5 / 6.0));
    assert_eq!(value(with("expression = \"2 * x\"").unwrap()), Some(3.0));
    assert_eq!(value(with("").unwrap()), None);
    for wrong in ["function = \"hard-swush\"", "expression = \"y\"", "function = \"erf\"\nexpression = \"x\""]
    {
        let error = with(wrong).unwrap_err();
        assert!(error.line > 5 && error.column > 10, "{error}");
    }
}

#[test]
fn a_file_is_the_specification_it_describes() {
    let file = SpecFile::parse("all.toml", ALL_KEYS).unwrap();
    assert_eq!((file.name.as_str(), file.frac), ("everything", 12));
    let near = |t: i64| (-16..16).contains(&t);
    let table = |t: i64| *[3, 1, -4].get(usize::try_from(t + 2).unwrap_or(9)).unwrap_or(&0);
    for x in -200..200_i64 {
        for (t, y) in [x >> 2, (x + 3) >> 2].into_iter().zip(file.spec.reference(x)) {
            let odd = !near(t) ^ (x & 15 < 3 || x & 15 >= 12);
            let piece = if t < 2 { 1 + 2 * x } else { 3 + 4 * x + 5 * x * x + 6 * x * x * x };
            let expected = 7 - x - 2 * i64::from(odd) * piece + 5 * i64::from(near(t)) * table(t);
            assert_eq!(y, expected, "x = {x}, t = {t}");
        }
    }
}

#[test]
fn a_quadratic_hard_swish_is_one() {
    let file = SpecFile::parse("hard-swish-quadratic.toml", HARD_SWISH).unwrap();
    for x in (-40_000..40_000).step_by(7) {
        let [y, same] = file.spec.reference(x);
        assert_eq!(y, same, "the grid is exact");
        let y = file.spec.finish(y) as f64 / 4096.0;
        let exact = Builtin::HardSwish.eval(x as f64 / 4096.0);
        assert!((y - exact).abs() < 9.0 * (683.0 / 4096.0 - 1.0 / 6.0) + 1.0 / 4096.0, "x = {x}");
    }
}

#[test]
fn a_curve_and_its_specification_agree() {
    for function in Builtin::ALL {
        let curve = Curve::fit(&function.into(), 12, 6, None, None, None).unwrap();
        let spec = Spec::from_curve(&curve, 30).unwrap();
        for x in (-70_000..70_000).step_by(13).chain([(1 << 34) - 1, -(1 << 34), -1, 0, 1]) {
            assert_eq!(spec.reference(x), curve.reference(x), "{function:?} at {x}");
        }
    }
    let gelu = Curve::fit(&Builtin::Gelu.into(), 12, 6, None, None, None).unwrap();
    assert!(Spec::from_curve(&gelu, 10).is_err(), "the window does not fit");
    assert!(Spec::from_curve(&gelu, 43).is_err(), "beyond the ring");
}

#[test]
fn file_errors_point_at_the_place() {
    let place = |from: &str, to: &str| {
        assert!(ALL_KEYS.contains(from), "{from}");
        let e = SpecFile::parse("f.toml", &ALL_KEYS.replacen(from, to, 1)).unwrap_err();
        (e.line, e.column, e.message)
    };
    let line_of = |text: &str| ALL_KEYS[..ALL_KEYS.find(text).unwrap()].matches('\n').count() + 1;
    assert_eq!(place("domain_bits = 20", "domain_bits = 7").0, line_of("domain_bits"));
    assert_eq!(place("grid", "gird").0, line_of("grid"));
    assert_eq!(place("x < 64", "x < 63").0, line_of("[[helper]]"), "off the grid");
    let (line, column, message) = place("x < 64", "y < 64");
    assert_eq!((line, column), (line_of("x < 64"), 25), "{message}");
    assert_eq!(place("low < 3", "low < 17").0, line_of("name = \"odd\"") - 1);
    assert_eq!(place("not near", "not far").1, 16);
    assert_eq!(place("(low", "low").1, 45);
    assert_eq!(place("until = 8\n", "").0, line_of("[[piece]]"));
    assert_eq!(place("until = 8", "until = 9").0, line_of("polynomial = [3, 4") - 1);
    assert_eq!(place("[3, 4, 5, 6]", "[3, 4, 5, 6, 7]").0, line_of("polynomial = [3, 4") - 1);
    assert_eq!(place("start = -8", "start = -7").0, line_of("[table]"));
    assert_eq!(place("-4]", "4194304]").0, line_of("[table]"));
    assert_eq!(place("when = \"odd\"", "when = \"even\"").0, line_of("when = \"odd\""));
    assert_eq!(place("pieces = -2", "").0, line_of("when = \"odd\"") - 1);
}

#[test]
fn the_encoding_is_canonical_and_strict() {
    for text in [ALL_KEYS, HARD_SWISH] {
        let spec = SpecFile::parse("f.toml", text).unwrap().spec;
        let bytes = spec.encode();
        assert_eq!(Spec::decode(&bytes).unwrap(), spec);
        for len in 0..bytes.len() {
            assert!(Spec::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        assert!(Spec::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[i] ^= 1 << bit;
                if let Ok(decoded) = Spec::decode(&other) {
                    assert_eq!(decoded.encode(), other, "byte {i} bit {bit}");
                }
            }
        }
    }
}

/// Alternating comparisons of x and of its low bits, `each` of both.
fn wide(each: i64, low_bits: u8) -> Formula {
    let leaf =
        |i: i64| Formula::Below(i).xor(Formula::LowBelow(1 + (i.unsigned_abs() % ((1 << low_bits) - 1))));
    (1..each).fold(leaf(0), |sum, i| sum.xor(leaf(i)))
}

fn switched(helpers: Vec<Formula>, terms: impl Iterator<Item = usize>) -> SpecParts {
    let named = |(i, formula)| Helper { name: format!("h{i}"), formula };
    SpecParts {
        domain_bits: 20,
        grid: 0,
        low_bits: 8,
        output_shift: 0,
        helpers: helpers.into_iter().enumerate().map(named).collect(),
        pieces: None,
        table: None,
        terms: terms.map(|h| Term { when: Some(h), value: Value::Fixed(vec![1]) }).collect(),
    }
}

#[test]
fn regions_of_many_comparisons_say_what_the_formula_says() {
    for each in [1, 31, 32, 33, 64] {
        let formula = wide(each, 8);
        let mut work = 0;
        let regions = Regions::of(&formula, &mut work);
        let (rows, words) = (each as u64 + 1, (each as u64 + 1).div_ceil(64));
        assert_eq!(work, formula.nodes() as u64 * rows * words, "{each} of each");
        for (x, low) in (-3..each + 3).flat_map(|x| (0..each.unsigned_abs() + 3).map(move |low| (x, low))) {
            let row = regions.thresholds.iter().filter(|threshold| x >= **threshold).count();
            let column = regions.lows.iter().filter(|bound| low >= **bound).count();
            assert_eq!(
                regions.values[row][column],
                formula.eval(x, low),
                "{each} of each, x = {x}, low {low}"
            );
        }
    }
}

#[test]
fn a_helper_is_evaluated_once_however_many_terms_it_switches() {
    let helper = || Formula::Below(0).and(Formula::Below(-5).not()).xor(Formula::LowBelow(3));
    let work = |terms: usize| {
        let parts = switched(vec![helper()], std::iter::repeat_n(0, terms));
        Sums::of(&parts).expect("it compiles").work
    };
    assert_eq!(work(1), 6 * 3);
    assert_eq!(work(MAX_TERMS), work(1));
    assert_eq!(work(0), 0, "a helper that switches nothing");
}

#[test]
fn what_decoding_takes_is_bounded() {
    // As much as a helper may have, without a comparison too many: every node is evaluated on 9 rows.
    let eight = (1..8).fold(Formula::Below(0), |sum, i| sum.xor(Formula::Below(i)));
    let full = (0..15).fold(eight.clone(), |sum, _| sum.and(eight.clone()));
    assert_eq!(full.nodes(), formula::MAX_NODES - 1);
    let largest = switched(vec![full; MAX_HELPERS], 0..MAX_HELPERS);
    let work = Sums::of(&largest).expect("within the limit").work;
    assert_eq!(work, 9 * (MAX_HELPERS * (formula::MAX_NODES - 1)) as u64);
    assert!(work < MAX_WORK);

    // As much as 64 KiB can describe: refused at the limit, or a helper later.
    let parts = switched(vec![wide(64, 8); 40], 0..40);
    assert!(encoding::encode(&parts).len() < crate::limits::MAX_GATE_BYTES);
    let error = Sums::of(&parts).expect_err("beyond the limit");
    assert!(matches!(error, SpecError::TooManyInputs { .. }), "{error}");
    // The same with comparisons that cancel each other out, so that none is left over.
    let nothing = |formula: Formula| formula.clone().xor(formula);
    let parts = switched(vec![nothing(wide(31, 8)); MAX_HELPERS], 0..MAX_HELPERS);
    let one = Sums::of(&switched(vec![nothing(wide(31, 8))], 0..1)).expect("it compiles").work;
    assert!(one * MAX_HELPERS as u64 > MAX_WORK);
    let error = Sums::of(&parts).expect_err("beyond the limit");
    assert!(matches!(&error, SpecError::TooMuchWork { .. }), "{error}");
    assert!(error.to_string().contains("leave out comparisons"), "{error}");
}
