//! Curves against the cleartext definition, their encoding, and what is refused.

use super::*;
use crate::activation::{Builtin, Expression, Samples};

fn fit(function: Builtin) -> Curve {
    Curve::fit(&function.into(), 12, 6, None, None, None).unwrap()
}

#[test]
fn automatic_choices_are_the_known_windows_and_lines() {
    let gelu = fit(Builtin::Gelu);
    assert_eq!((gelu.window_bits, gelu.mask_bits()), (9, 12));
    assert_eq!((gelu.left, gelu.right), (Line::ZERO, Line::IDENTITY));
    let silu = fit(Builtin::Silu);
    assert_eq!((silu.window_bits, silu.mask_bits()), (10, 13));
    assert_eq!((silu.left, silu.right), (Line::ZERO, Line::IDENTITY));
    let one = Line { slope: 0, intercept: 4096 };
    let minus_one = Line { slope: 0, intercept: -4096 };
    assert_eq!((fit(Builtin::Tanh).left, fit(Builtin::Tanh).right), (minus_one, one));
    assert_eq!((fit(Builtin::Sigmoid).left, fit(Builtin::Sigmoid).right), (Line::ZERO, one));
    assert_eq!((fit(Builtin::Elu).left, fit(Builtin::Elu).right), (minus_one, Line::IDENTITY));
    for function in Builtin::ALL {
        let curve = fit(function);
        assert!(curve.mask_bits() <= MAX_MASK_BITS, "{function:?}");
        let a = curve.accuracy(&function.into()).unwrap();
        assert!(a.max_outside <= a.max_inside && a.rms_normal <= a.max_inside, "{function:?}: {a:?}");
    }
}

#[test]
fn gelu_and_silu_are_relu_minus_a_rounded_even_function() {
    for (function, half) in [(Builtin::Gelu, 256_i64), (Builtin::Silu, 512)] {
        let curve = fit(function);
        for x in -half * 64 - 300..half * 64 + 300 {
            let t = x >> 6;
            let allowed = [t, if x & 63 == 0 { t } else { t + 1 }].map(|t| {
                let real = t as f64 / 64.0;
                let delta = (4096.0 * (real.max(0.0) - function.eval(real))).round_ties_even() as i64;
                let window = if (-half..half).contains(&t) { delta } else { 0 };
                (if t >= 0 { x } else { 0 }) - window
            });
            assert_eq!(curve.reference(x), allowed, "{function:?} at {x}");
        }
        assert_eq!(curve.reference(1 << 33), [1 << 33; 2]);
        assert_eq!(curve.reference(-(1 << 33)), [0; 2]);
    }
}

#[test]
fn predicted_errors_of_gelu_are_near_those_of_a_prototype() {
    let a = fit(Builtin::Gelu).accuracy(&Builtin::Gelu.into()).unwrap();
    assert!(a.max_inside <= 0.0079, "{a:?}");
    // A prototype's sample had 0.00105, and a mean of 1e-5.
    assert!((a.rms_normal - 0.00105).abs() < 2e-5, "{a:?}");
    assert!(a.mean_normal.abs() < 2e-5, "{a:?}");
}

#[test]
fn formulas_and_samples_give_the_same_table_as_the_built_in() {
    let silu = fit(Builtin::Silu);
    let formula = Activation::Expression(Expression::parse("x / (1 + exp(-x))").unwrap());
    let curve = Curve::fit(&formula, 12, 6, None, None, None).unwrap();
    assert_eq!((&curve.residual, curve.left, curve.right), (&silu.residual, silu.left, silu.right));
    let grid = (-1024..=1024).map(|t| Builtin::Silu.eval(f64::from(t) / 64.0)).collect();
    let samples = Activation::Samples(Samples::new(-16.0, 1.0 / 64.0, grid).unwrap());
    let curve = Curve::build(&samples, 12, 6, 10, Line::ZERO, Line::IDENTITY).unwrap();
    assert_eq!(curve.residual, silu.residual);
}

#[test]
fn what_is_not_a_curve_is_refused_with_its_reason() {
    let expression = |text| Activation::Expression(Expression::parse(text).unwrap());
    let fit = |text| Curve::fit(&expression(text), 12, 6, None, None, None).unwrap_err();
    assert!(matches!(fit("x^2"), CurveError::NoLine { .. }));
    assert!(matches!(fit("x * 1.5"), CurveError::NoLine { .. }));
    assert!(matches!(fit("sin(100 * x) + x"), CurveError::NoLine { .. } | CurveError::NoWindow { .. }));
    assert!(matches!(fit("x / x"), CurveError::NotFinite { .. }));
    assert!(matches!(fit("exp(0 - x^2) * 100"), CurveError::ResidualTooLarge { .. }));
    let gelu = Builtin::Gelu.into();
    let build =
        |frac, shift, bits| Curve::build(&gelu, frac, shift, bits, Line::ZERO, Line::IDENTITY).unwrap_err();
    assert!(matches!(build(12, 13, 9), CurveError::Range { what: "shift", .. }));
    assert!(matches!(build(12, 6, 15), CurveError::Range { what: "window_bits", .. }));
    assert!(matches!(build(25, 6, 9), CurveError::Range { what: "frac", .. }));
    assert!(Curve::fit(&gelu, 12, 6, None, None, None).unwrap().named("Ge Lu").is_err());
}

#[test]
fn the_encoding_is_canonical() {
    for function in Builtin::ALL {
        let curve = fit(function);
        let bytes = curve.encode();
        assert_eq!(Curve::decode(&bytes).unwrap(), curve);
        assert!(Curve::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(Curve::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        for i in 0..bytes.len().min(64) {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[i] ^= 1 << bit;
                if let Ok(decoded) = Curve::decode(&other) {
                    assert_eq!(decoded.encode(), other, "byte {i} bit {bit}");
                }
            }
        }
    }
    assert!(Curve::decode(&[]).is_err());
}
