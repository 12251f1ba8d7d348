//! The real functions that gates approximate: built in, an expression, or samples.
//!
//! All transcendental functions come from `libm`, which is plain Rust arithmetic: the same input gives the same `f64`
//! on every machine. So two machines that build a [`Curve`](crate::curve::Curve) from the same activation get the same
//! table.

use std::fmt;
use std::str::FromStr;

use exmex::{BinOp, Express, FlatEx, MakeOperators, Operator};

/// Longest expression accepted, in bytes: a formula that fits a line of a gate file, and a bound on the parser's recursion.
pub const MAX_EXPRESSION_BYTES: usize = 512;

/// Most samples accepted for one function: the widest window has 2^14 grid points.
pub const MAX_SAMPLES: usize = 1 << 16;

/// Why something is not a function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActivationError {
    /// The name is none of the built-in functions.
    #[error("no built-in function is called `{name}`; there are: {}", Builtin::names())]
    UnknownName {
        /// The name as given.
        name: String,
    },
    /// The expression does not parse.
    #[error("expression does not parse: {reason}")]
    Expression {
        /// The parser's own words.
        reason: String,
    },
    /// The expression has a variable other than `x`.
    #[error("the only variable of an expression is `x`, this one also has `{name}`")]
    Variable {
        /// The stray variable.
        name: String,
    },
    /// The sample list cannot be interpolated.
    #[error("samples cannot be used: {reason}")]
    Samples {
        /// What is wrong with them.
        reason: &'static str,
    },
}

/// A real function of one real variable.
#[derive(Debug, Clone)]
pub enum Activation {
    /// One of the functions this crate knows by name.
    Builtin(Builtin),
    /// A formula in `x`.
    Expression(Expression),
    /// Values on a grid, linear in between.
    Samples(Samples),
}

impl Activation {
    /// Value at `x`. May be infinite or NaN where the function has no value; [`Curve::build`](crate::curve::Curve::build)
    /// turns that into an error.
    #[must_use]
    pub fn eval(&self, x: f64) -> f64 {
        match self {
            Self::Builtin(function) => function.eval(x),
            Self::Expression(expression) => expression.eval(x),
            Self::Samples(samples) => samples.eval(x),
        }
    }
}

impl From<Builtin> for Activation {
    fn from(function: Builtin) -> Self {
        Self::Builtin(function)
    }
}

/// The activations known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// max(x, 0).
    Relu,
    /// x * Phi(x) with the exact Gaussian distribution function, not the tanh approximation (Hendrycks and Gimpel 2016).
    Gelu,
    /// x / (1 + e^-x), also called swish.
    Silu,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// ln(1 + e^x).
    Softplus,
    /// x for x >= 0, e^x - 1 below (alpha = 1).
    Elu,
    /// x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019).
    HardSwish,
    /// The error function.
    Erf,
}

impl Builtin {
    /// All of them, in the order in which they are listed to users.
    pub const ALL: [Self; 9] = [
        Self::Relu,
        Self::Gelu,
        Self::Silu,
        Self::Sigmoid,
        Self::Tanh,
        Self::Softplus,
        Self::Elu,
        Self::HardSwish,
        Self::Erf,
    ];

    /// The name in gate files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
            Self::Elu => "elu",
            Self::HardSwish => "hard-swish",
            Self::Erf => "erf",
        }
    }

    /// Value at `x`; finite for every finite `x`.
    #[must_use]
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Gelu => x * 0.5 * (1.0 + libm::erf(x / std::f64::consts::SQRT_2)),
            // The clip keeps e^-x finite; beyond it the quotient is 0 in any case.
            Self::Silu => x / (1.0 + libm::exp(-x.clamp(-700.0, 700.0))),
            Self::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Self::Tanh => libm::tanh(x),
            // max(x, 0) + ln(1 + e^-|x|) does not overflow.
            Self::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
            Self::Elu if x >= 0.0 => x,
            Self::Elu => libm::expm1(x),
            Self::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::Erf => libm::erf(x),
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl FromStr for Builtin {
    type Err = ActivationError;

    fn from_str(name: &str) -> Result<Self, ActivationError> {
        Self::ALL
            .into_iter()
            .find(|function| function.name() == name)
            .ok_or_else(|| ActivationError::UnknownName { name: name.to_owned() })
    }
}

/// A formula in `x`. It has `+ - * / ^`, parentheses and `pi`. Functions: `abs exp ln sqrt sin cos sinh cosh tanh atan
/// erf sigmoid relu`.
///
/// A sign binds tighter than a power: `-x^2` is (-x)^2. Write `-(x^2)` for the other.
#[derive(Clone)]
pub struct Expression {
    text: String,
    // Boxed: it keeps its small vectors inline, 20 kB of them.
    tree: Box<FlatEx<f64, Functions>>,
}

impl Expression {
    /// Parses a formula.
    ///
    /// # Errors
    /// [`ActivationError::Expression`] for a syntax error or a text that is empty or too long;
    /// [`ActivationError::Variable`] for a variable other than `x`.
    pub fn parse(text: &str) -> Result<Self, ActivationError> {
        if text.len() > MAX_EXPRESSION_BYTES {
            let reason = format!("{} bytes, the limit is {MAX_EXPRESSION_BYTES}", text.len());
            return Err(ActivationError::Expression { reason });
        }
        let tree = FlatEx::<f64, Functions>::parse(text)
            .map_err(|e| ActivationError::Expression { reason: e.to_string() })?;
        if let Some(name) = tree.var_names().iter().find(|name| *name != "x") {
            return Err(ActivationError::Variable { name: name.clone() });
        }
        Ok(Self { text: text.to_owned(), tree: Box::new(tree) })
    }

    /// Value at `x`.
    #[must_use]
    pub fn eval(&self, x: f64) -> f64 {
        // A constant has no variable; the only failure left is a wrong variable count, which parse() excluded.
        let variables = &[x][..self.tree.var_names().len()];
        self.tree.eval(variables).unwrap_or(f64::NAN)
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.text)
    }
}

/// The operators of an [`Expression`]: exmex's defaults call the platform's `libm`, these call the crate's.
#[derive(Debug, Clone)]
struct Functions;

impl MakeOperators<f64> for Functions {
    fn make<'a>() -> Vec<Operator<'a, f64>> {
        let binary = |apply, prio, is_commutative| BinOp { apply, prio, is_commutative };
        vec![
            Operator::make_bin("^", binary(libm::pow, 4, false)),
            Operator::make_bin("*", binary(|a, b| a * b, 2, true)),
            Operator::make_bin("/", binary(|a, b| a / b, 3, false)),
            Operator::make_bin_unary("+", binary(|a, b| a + b, 0, true), |a| a),
            Operator::make_bin_unary("-", binary(|a, b| a - b, 1, false), |a| -a),
            Operator::make_unary("abs", f64::abs),
            Operator::make_unary("exp", libm::exp),
            Operator::make_unary("ln", libm::log),
            Operator::make_unary("sqrt", libm::sqrt),
            Operator::make_unary("sin", libm::sin),
            Operator::make_unary("cos", libm::cos),
            Operator::make_unary("sinh", libm::sinh),
            Operator::make_unary("cosh", libm::cosh),
            Operator::make_unary("tanh", libm::tanh),
            Operator::make_unary("atan", libm::atan),
            Operator::make_unary("erf", libm::erf),
            Operator::make_unary("sigmoid", |x| Builtin::Sigmoid.eval(x)),
            Operator::make_unary("relu", |x| Builtin::Relu.eval(x)),
            Operator::make_constant("pi", std::f64::consts::PI),
        ]
    }
}

/// A function given by its values at `start`, `start + step`, ...; linear between them, and the first and last pieces
/// continue beyond the ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    start: f64,
    step: f64,
    values: Vec<f64>,
}

impl Samples {
    /// Takes the values at `start + i * step`.
    ///
    /// # Errors
    /// [`ActivationError::Samples`] for fewer than two or too many values, a step that is not positive, or anything not finite.
    pub fn new(start: f64, step: f64, values: Vec<f64>) -> Result<Self, ActivationError> {
        let fail = |reason| Err(ActivationError::Samples { reason });
        if values.len() < 2 {
            return fail("at least two are needed");
        }
        if values.len() > MAX_SAMPLES {
            return fail("more than 65536 of them");
        }
        if !(step.is_finite() && step > 0.0) {
            return fail("the step must be a positive number");
        }
        if !start.is_finite() || values.iter().any(|v| !v.is_finite()) {
            return fail("NaN or infinity among them");
        }
        Ok(Self { start, step, values })
    }

    /// Number of values, and the first and last x that has one.
    #[must_use]
    pub fn extent(&self) -> (usize, f64, f64) {
        let steps = (self.values.len() - 1) as f64;
        (self.values.len(), self.start, self.start + steps * self.step)
    }

    /// Value at `x`.
    #[must_use]
    pub fn eval(&self, x: f64) -> f64 {
        let position = (x - self.start) / self.step;
        // The cast saturates, NaN goes to 0: the index is in range for every x.
        let i = (position.floor().max(0.0) as usize).min(self.values.len() - 2);
        let (low, high) = (self.values[i], self.values[i + 1]);
        low + (high - low) * (position - i as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtins_have_known_values() {
        let close =
            |f: Builtin, x: f64, y: f64| assert!((f.eval(x) - y).abs() < 1e-12, "{f:?}({x}) = {}", f.eval(x));
        close(Builtin::Relu, -3.0, 0.0);
        close(Builtin::Gelu, 1.0, 0.841_344_746_068_543);
        close(Builtin::Silu, 1.0, 0.731_058_578_630_004_9);
        close(Builtin::Sigmoid, 0.0, 0.5);
        close(Builtin::Tanh, 1.0, 0.761_594_155_955_764_9);
        close(Builtin::Softplus, 0.0, std::f64::consts::LN_2);
        close(Builtin::Elu, -1.0, -0.632_120_558_828_557_7);
        close(Builtin::HardSwish, 1.0, 2.0 / 3.0);
        close(Builtin::Erf, 0.5, 0.520_499_877_813_046_5);
        for f in Builtin::ALL {
            assert!(f.eval(1e300).is_finite() && f.eval(-1e300).is_finite(), "{f:?}");
            assert_eq!(f.name().parse::<Builtin>(), Ok(f));
        }
        assert!("gelo".parse::<Builtin>().unwrap_err().to_string().contains("gelu"));
    }

    #[test]
    fn expressions_follow_the_usual_precedence() {
        let eval = |text: &str, x| Expression::parse(text).unwrap().eval(x);
        assert_eq!(eval("1 + 2*x^2", 3.0), 19.0);
        assert_eq!(eval("8 - 3 - x", 2.0), 3.0);
        assert_eq!(eval("x / 2 / 2", 8.0), 2.0);
        assert_eq!(eval("(x + 3) * 2", 1.0), 8.0);
        assert_eq!(eval("4.5", 1.0), 4.5);
        assert_eq!(eval("exp(0) + erf(0) + relu(-x)", 1.0), 1.0);
        let mish = |x: f64| x * x.exp().ln_1p().tanh();
        assert!((eval("x*tanh(ln(1+exp(x)))", 1.3) - mish(1.3)).abs() < 1e-12);
    }

    #[test]
    fn hostile_expressions_are_errors() {
        for text in ["", "x +", "((x)", "foo(x)", "y", "x y", "x * z", "1..2", &"(".repeat(600)] {
            assert!(Expression::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Expression::parse("x*y").unwrap_err(), ActivationError::Variable { name: "y".into() });
    }

    #[test]
    fn samples_interpolate_and_continue() {
        let s = Samples::new(-1.0, 0.5, vec![0.0, 0.0, 1.0, 3.0]).unwrap();
        assert_eq!(s.extent(), (4, -1.0, 0.5));
        assert_eq!(s.eval(-0.25), 0.5);
        assert_eq!(s.eval(0.0), 1.0);
        assert_eq!(s.eval(-5.0), 0.0);
        assert_eq!(s.eval(1.0), 5.0);
        assert!(Samples::new(0.0, 0.0, vec![1.0, 2.0]).is_err());
        assert!(Samples::new(0.0, 1.0, vec![1.0]).is_err());
        assert!(Samples::new(0.0, 1.0, vec![1.0, f64::NAN]).is_err());
    }
}
