//! Gate files: a function, its fixed-point curve, and the shapes in which the protocols evaluate it, as TOML.
//!
//! `config/gates/gelu.toml` explains every key. The files of that folder are part of the program, so that their gates
//! are known by name everywhere. A user's own file has the same form.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::activation::{Activation, Builtin, Expression, Samples};
use crate::curve::{Curve, Line};
use crate::ring::FRAC;
use crate::text::{FileError, Text};

/// N, the bits of the rounded input, where a file does not say: SIGMA's domain at shift 6.
pub const DEFAULT_DOMAIN_BITS: u8 = 30;

/// Bounds of N: the window and two bits must fit, and x with its mask must not leave the 48-bit ring.
const DOMAIN_BITS: Range<u8> = 8..43;

/// Where every key is explained.
const EXPLAINED: &str = "config/gates/gelu.toml";

/// Name of the `onehot` shape used where none is asked for.
pub const DEFAULT_SHAPE: &str = "default";

/// The gates that are part of the program: name and text.
const EMBEDDED: [(&str, &str); 10] = [
    ("gelu", include_str!("../../../config/gates/gelu.toml")),
    ("silu", include_str!("../../../config/gates/silu.toml")),
    ("relu", include_str!("../../../config/gates/relu.toml")),
    ("sigmoid", include_str!("../../../config/gates/sigmoid.toml")),
    ("tanh", include_str!("../../../config/gates/tanh.toml")),
    ("softplus", include_str!("../../../config/gates/softplus.toml")),
    ("elu", include_str!("../../../config/gates/elu.toml")),
    ("hard-swish", include_str!("../../../config/gates/hard-swish.toml")),
    ("erf", include_str!("../../../config/gates/erf.toml")),
    ("mish", include_str!("../../../config/gates/mish.toml")),
];

/// A parsed gate file.
#[derive(Debug, Clone)]
pub struct GateFile {
    /// The real function.
    pub activation: Activation,
    /// Its fixed-point form; carries the name.
    pub curve: Curve,
    /// Digit widths of `onehot` by shape name; has [`DEFAULT_SHAPE`].
    pub onehot: BTreeMap<String, Vec<u8>>,
    /// N of `suf`: right for |x| < 2^(N + shift - 2) units of 2^-frac.
    pub suf_domain_bits: u8,
    /// N of `dpf`, likewise.
    pub dpf_domain_bits: u8,
    /// log2 of the table's entries in `suf-lut`; none where the gate has no such row.
    pub suf_lut_bits: Option<u8>,
    /// Bits of SIGMA's clipped input; none where the gate has no such row.
    pub sigma_clip_bits: Option<u8>,
}

impl GateFile {
    /// Parses the text of a gate file; `file` names it in errors.
    ///
    /// # Errors
    /// [`FileError`] with line and column: bad TOML, an unknown or missing key, a value out of range, a function that has
    /// no curve.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        let source = Text { file, text };
        source.parse::<Document>(EXPLAINED)?.check(&source)
    }

    /// The embedded gate of that name.
    ///
    /// # Errors
    /// [`FileError`] that lists the names there are.
    pub fn builtin(name: &str) -> Result<Self, FileError> {
        match EMBEDDED.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::parse(&format!("config/gates/{name}.toml"), text),
            None => {
                let names = Self::builtin_names().collect::<Vec<_>>().join(", ");
                let message =
                    format!("no gate is called `{name}`; there are: {names}, or the path of a gate file");
                Err(FileError { file: name.to_owned(), line: 1, column: 1, message })
            }
        }
    }

    /// Names of the embedded gates.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().map(|(name, _)| *name)
    }

    /// The gate's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.curve.name
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: Spanned<String>,
    function: Option<Spanned<String>>,
    expression: Option<Spanned<String>>,
    samples: Option<Spanned<SamplesTable>>,
    frac: Spanned<u8>,
    shift: Spanned<u8>,
    window_bits: Option<Spanned<u8>>,
    left: Option<Spanned<LineTable>>,
    right: Option<Spanned<LineTable>>,
    onehot: Spanned<BTreeMap<String, Spanned<Vec<u8>>>>,
    suf: Option<DomainTable>,
    dpf: Option<DomainTable>,
    #[serde(rename = "suf-lut")]
    suf_lut: Option<SufLutTable>,
    sigma: Option<SigmaTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SamplesTable {
    start: f64,
    step: f64,
    values: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineTable {
    slope: i64,
    intercept: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DomainTable {
    domain_bits: Spanned<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SufLutTable {
    bits: Spanned<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SigmaTable {
    clip_bits: Spanned<u8>,
}

impl Document {
    fn check(self, source: &Text<'_>) -> Result<GateFile, FileError> {
        let (activation, place) = self.activation(source)?;
        let frac = *self.frac.get_ref();
        if frac != FRAC {
            let message = format!("frac = {frac}, but inputs and outputs have {FRAC} fractional bits");
            return Err(source.at(&self.frac, message));
        }
        let line = |table: &Option<Spanned<LineTable>>| {
            table.as_ref().map(|table| line_of(table, frac, source)).transpose()
        };
        let (left, right) = (line(&self.left)?, line(&self.right)?);
        let window_bits = self.window_bits.as_ref().map(|bits| *bits.get_ref());
        let curve = Curve::fit(&activation, frac, *self.shift.get_ref(), window_bits, left, right)
            .map_err(|e| source.error(place, e.to_string()))?
            .named(self.name.get_ref())
            .map_err(|e| source.at(&self.name, e))?;

        let domain = |table: &Option<DomainTable>| match table {
            Some(table) => in_range(&table.domain_bits, "domain_bits", &DOMAIN_BITS, source),
            None => Ok(DEFAULT_DOMAIN_BITS),
        };
        let (suf_domain_bits, dpf_domain_bits) = (domain(&self.suf)?, domain(&self.dpf)?);
        for (table, bits) in [(&self.suf, suf_domain_bits), (&self.dpf, dpf_domain_bits)] {
            if bits < curve.window_bits + 2 {
                let place = table.as_ref().map_or(0, |table| table.domain_bits.span().start);
                return Err(source.error(
                    place,
                    format!(
                        "domain_bits = {bits} leaves no room for the window of {} bits",
                        curve.window_bits
                    ),
                ));
            }
        }
        let suf_lut_bits =
            self.suf_lut.as_ref().map(|t| in_range(&t.bits, "bits", &(8..11), source)).transpose()?;
        let sigma_clip_bits =
            self.sigma.as_ref().map(|t| in_range(&t.clip_bits, "clip_bits", &(8..11), source)).transpose()?;
        Ok(GateFile {
            onehot: self.shapes(source)?,
            activation,
            curve,
            suf_domain_bits,
            dpf_domain_bits,
            suf_lut_bits,
            sigma_clip_bits,
        })
    }

    /// The function, and the byte offset where it is given.
    fn activation(&self, source: &Text<'_>) -> Result<(Activation, usize), FileError> {
        match (&self.function, &self.expression, &self.samples) {
            (Some(name), None, None) => {
                let function: Builtin = name.get_ref().parse().map_err(|e| source.at(name, e))?;
                Ok((function.into(), name.span().start))
            }
            (None, Some(text), None) => {
                let expression = Expression::parse(text.get_ref()).map_err(|e| source.at(text, e))?;
                Ok((Activation::Expression(expression), text.span().start))
            }
            (None, None, Some(table)) => {
                let SamplesTable { start, step, values } = table.get_ref();
                let samples = Samples::new(*start, *step, values.clone()).map_err(|e| source.at(table, e))?;
                Ok((Activation::Samples(samples), table.span().start))
            }
            _ => Err(source.at(&self.name, "give exactly one of `function`, `expression` and `samples`")),
        }
    }

    fn shapes(&self, source: &Text<'_>) -> Result<BTreeMap<String, Vec<u8>>, FileError> {
        let shapes = self.onehot.get_ref();
        if !shapes.contains_key(DEFAULT_SHAPE) {
            return Err(source.at(&self.onehot, format!("[onehot] has no shape called `{DEFAULT_SHAPE}`")));
        }
        shapes
            .iter()
            .map(|(name, digits)| {
                // The protocol's own constructor judges the widths; here only what no protocol could mean.
                if digits.get_ref().len() > 8 || digits.get_ref().iter().any(|bits| !(1..=16).contains(bits))
                {
                    return Err(source.at(digits, "at most 8 digits of 1 to 16 bits each"));
                }
                Ok((name.clone(), digits.get_ref().clone()))
            })
            .collect()
    }
}

/// A line in units of 2^-`frac`; the ranges are the curve's to check.
fn line_of(table: &Spanned<LineTable>, frac: u8, source: &Text<'_>) -> Result<Line, FileError> {
    let LineTable { slope, intercept } = *table.get_ref();
    let units = (intercept * (1_u64 << frac.min(crate::curve::MAX_FRAC)) as f64).round_ties_even();
    if !units.is_finite() {
        return Err(source.at(table, "the intercept is not finite"));
    }
    // Saturates; the range check follows.
    Ok(Line { slope, intercept: units as i64 })
}

fn in_range(value: &Spanned<u8>, key: &str, range: &Range<u8>, source: &Text<'_>) -> Result<u8, FileError> {
    let v = *value.get_ref();
    if range.contains(&v) {
        Ok(v)
    } else {
        Err(source.at(value, format!("{key} = {v} is outside {}..={}", range.start, range.end - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str =
        "name = \"g\"\nfunction = \"gelu\"\nfrac = 12\nshift = 6\n[onehot]\ndefault = [6, 6]\n";

    #[test]
    fn every_embedded_gate_is_a_gate_of_its_name() {
        for name in GateFile::builtin_names() {
            let gate = GateFile::builtin(name).unwrap();
            assert_eq!(gate.name(), name);
            assert!(gate.onehot.contains_key(DEFAULT_SHAPE));
            let accuracy = gate.curve.accuracy(&gate.activation).unwrap();
            // The steepest correction is erf's, 2 / sqrt(pi) at 0, over a grid step; half a unit for the table's rounding.
            let bound = 2.0 / std::f64::consts::PI.sqrt() / 64.0 + 0.5 / 4096.0;
            assert!(accuracy.max_inside < bound && accuracy.max_outside < bound, "{name}: {accuracy:?}");
        }
    }

    #[test]
    fn what_is_left_out_is_what_is_written_in_gelu() {
        let written = GateFile::builtin("gelu").unwrap();
        let found = GateFile::parse("small", SMALL).unwrap();
        assert_eq!(written.curve.encode()[2 + 4..], found.curve.encode()[2 + 1..]);
        assert_eq!(found.suf_domain_bits, written.suf_domain_bits);
    }

    #[test]
    fn errors_point_at_the_place() {
        let position = |text: &str| {
            let e = GateFile::parse("f.toml", text).unwrap_err();
            assert!(e.to_string().starts_with("f.toml:"), "{e}");
            (e.line, e.column, e.message)
        };
        let replaced = |from: &str, to: &str| position(&SMALL.replace(from, to));
        assert_eq!(replaced("\"gelu\"", "\"gelo\"").0, 2);
        for frac in [10, 99] {
            assert_eq!(replaced("frac = 12", &format!("frac = {frac}")).0, 3, "the wire has 12");
        }
        assert_eq!(
            replaced("shift = 6", "shift = 60").0,
            2,
            "the curve's own complaints point at the function"
        );
        assert_eq!(replaced("shift", "shfit").0, 4);
        assert_eq!(replaced("\"g\"", "\"G\"").1, 8);
        assert_eq!(replaced("[6, 6]", "[6, 60]").0, 6);
        assert_eq!(replaced("default", "other").0, 5);
        assert_eq!(replaced("function = \"gelu\"", "expression = \"x +\"").0, 2);
        assert_eq!(replaced("function = \"gelu\"", "").0, 1);
        assert_eq!(replaced("function", "expression = \"x\"\nfunction").0, 1);
        assert!(replaced("[onehot]", "[suf]\ndomain_bits = 7\n[onehot]").2.contains("domain_bits"));
        assert_eq!(replaced("[onehot]", "left = { slope = 0.5, intercept = 0 }\n[onehot]").0, 5);
        assert!(position("name = ").2.len() > 5);
        assert!(GateFile::builtin("gelo").unwrap_err().to_string().contains("gelu"));
    }

    #[test]
    fn samples_make_a_gate() {
        let text = SMALL.replace(
            "function = \"gelu\"",
            "samples = { start = -1.0, step = 1.0, values = [0.0, 0.5, 2.0] }\nleft = { slope = 0, intercept = -0.5 }\n\
             right = { slope = 2, intercept = 0.25 }\nwindow_bits = 6",
        );
        let gate = GateFile::parse("s", &text).unwrap();
        assert_eq!((gate.curve.left.intercept, gate.curve.right.slope), (-2048, 2));
    }
}
