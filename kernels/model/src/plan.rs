//! Plans: how large the values within a model may get. Rings, shapes of gates and the exponential's ranges follow from
//! them. A plan belongs to one model, by the digest of its integers. It is public.
//!
//! Ranges are measured on texts, and a plan adds headroom. What rings hold may be [`RINGS`] times as large. A head's
//! scores may spread [`SCORES`] times as far, and [`SCORE_BITS`] more on both sides. No party can see a value beyond a
//! plan's bounds: the result is then wrong.

use std::fmt::Write as _;

use serde::Deserialize;
use suf_toml::Mistake;

use crate::ranges::{LayerRanges, NormRanges, Ranges, Span};

/// Headroom of hidden values, variances, the activation's inputs and values of heads.
pub const RINGS: f64 = 4.0;

/// Headroom of the width of scores.
pub const SCORES: f64 = 1.1;

/// Headroom of scores on both sides beside that, in bits. Narrow heads spread half as far again when 1500 texts are measured
/// instead of 50, and the least modulus holds many times their width.
pub const SCORE_BITS: f64 = 8.0;

/// The file in a model's folder.
pub const FILE: &str = "plan.toml";

/// The version of the form that is written.
const VERSION: u32 = 1;

/// Where every key is explained.
const EXPLAINED: &str = "config/models/all-minilm-l6-v2.toml";

/// Largest magnitude of a bound: far above every ring.
const MOST: f64 = 1e12;

/// Bounds of the values within a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The architecture.
    pub architecture: String,
    /// The digest of the model's integers.
    pub model: [u8; 32],
    /// Texts on which the ranges were measured.
    pub texts: u64,
    /// Their tokens.
    pub tokens: u64,
    /// The layers, in order.
    pub layers: Vec<LayerPlan>,
}

/// Bounds of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerPlan {
    /// Scores of each head in base 2.
    pub scores: Vec<Span>,
    /// The same with padding.
    pub padded: Vec<Span>,
    /// Largest absolute value of the heads' values.
    pub value: f64,
    /// The norm behind attention.
    pub attention: NormPlan,
    /// Largest absolute input of the activation.
    pub inner: f64,
    /// The norm behind the feed-forward block.
    pub output: NormPlan,
}

/// Bounds of a layer norm's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormPlan {
    /// Largest absolute value, the mean subtracted.
    pub hidden: f64,
    /// Variances of rows.
    pub variance: Span,
}

/// A plan that is not one of this model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Of another model.
    #[error(
        "the plan belongs to the model {plan}, and this model is {model}: make one with `suf model calibrate`"
    )]
    Model {
        /// Digest that the plan names.
        plan: String,
        /// Digest of the model.
        model: String,
    },
    /// Of other sizes.
    #[error("the plan {0}: make one with `suf model calibrate`")]
    Sizes(String),
}

impl Plan {
    /// The plan of a model whose `ranges` were measured.
    #[must_use]
    pub fn new(architecture: &str, model: [u8; 32], ranges: &Ranges) -> Self {
        let layers = ranges.layers.iter().map(LayerPlan::new).collect();
        let Ranges { texts, tokens, .. } = *ranges;
        Self { architecture: architecture.to_owned(), model, texts, tokens, layers }
    }

    /// The plan that is written in `text`.
    ///
    /// # Errors
    /// Which line and key are wrong.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let document: Document = suf_toml::parse(text, EXPLAINED)?;
        let wrong = |key: &str, problem: String| Mistake::of_key(text, &[key], problem);
        if document.version != VERSION {
            let found = document.version;
            return Err(wrong("version", format!("version = {found}; this program reads version {VERSION}")));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if document.architecture.is_empty() || !document.architecture.chars().all(plain) {
            return Err(wrong("architecture", "architecture is no name of letters and digits".into()));
        }
        let model = digest(&document.model)
            .ok_or_else(|| wrong("model", "model is no digest of 64 hexadecimal digits".into()))?;
        let layers = document.layers.into_iter().enumerate().map(|(at, layer)| {
            layer.check().map_err(|problem| wrong("layers", format!("layer {at}: {problem}")))
        });
        Ok(Self {
            architecture: document.architecture,
            model,
            texts: document.texts,
            tokens: document.tokens,
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// Whether this is a plan of the model with this digest, layers and heads.
    ///
    /// # Errors
    /// How it is not.
    pub fn suits(&self, model: &[u8; 32], layers: usize, heads: usize) -> Result<(), PlanError> {
        if self.model != *model {
            return Err(PlanError::Model { plan: hex(&self.model), model: hex(model) });
        }
        if self.layers.len() != layers {
            let found = self.layers.len();
            return Err(PlanError::Sizes(format!("has {found} layers, and the model {layers}")));
        }
        for (at, layer) in self.layers.iter().enumerate() {
            for found in [layer.scores.len(), layer.padded.len()] {
                if found != heads {
                    let problem = format!("has scores of {found} heads in layer {at}, and the model {heads}");
                    return Err(PlanError::Sizes(problem));
                }
            }
        }
        Ok(())
    }

    /// Whether measured ranges are within the plan: with padding, or without it.
    ///
    /// # Errors
    /// The first value that is not, in words.
    pub fn holds(&self, ranges: &Ranges, padded: bool) -> Result<(), String> {
        for (at, (plan, found)) in self.layers.iter().zip(&ranges.layers).enumerate() {
            plan.holds(found, padded).map_err(|problem| format!("layer {at}: {problem}"))?;
        }
        Ok(())
    }

    /// The plan as a file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "# Bounds of the values within a model, made by `suf model calibrate`. {EXPLAINED} explains every key.\n\
             version = {VERSION}\narchitecture = \"{}\"\nmodel = \"{}\"\ntexts = {}\ntokens = {}\n",
            self.architecture,
            hex(&self.model),
            self.texts,
            self.tokens
        );
        for layer in &self.layers {
            layer.write(&mut text);
        }
        text
    }
}

impl LayerPlan {
    fn new(ranges: &LayerRanges) -> Self {
        Self {
            scores: ranges.scores.iter().copied().map(score_bounds).collect(),
            padded: ranges.padded.iter().copied().map(score_bounds).collect(),
            value: above(RINGS * ranges.value.magnitude()),
            attention: NormPlan::new(&ranges.attention),
            inner: above(RINGS * ranges.inner.magnitude()),
            output: NormPlan::new(&ranges.output),
        }
    }

    fn holds(&self, found: &LayerRanges, padded: bool) -> Result<(), String> {
        let scores = if padded { (&self.padded, &found.padded) } else { (&self.scores, &found.scores) };
        for (head, (plan, found)) in scores.0.iter().zip(scores.1).enumerate() {
            within(&format!("scores of head {head}"), *found, *plan)?;
        }
        within("values of heads", found.value, symmetric(self.value))?;
        within("inputs of the activation", found.inner, symmetric(self.inner))?;
        self.attention.holds("attention", &found.attention)?;
        self.output.holds("the feed-forward block", &found.output)
    }

    fn write(&self, text: &mut String) {
        let spans = |spans: &[Span]| {
            let spans: Vec<_> = spans.iter().map(|span| format!("[{}, {}]", span.min, span.max)).collect();
            spans.join(", ")
        };
        let norm = |norm: &NormPlan| {
            let NormPlan { hidden, variance } = norm;
            format!("{{ hidden = {hidden:?}, variance = [{:?}, {:?}] }}", variance.min, variance.max)
        };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n[[layers]]\nscores = [{}]\npadded = [{}]\nvalue = {:?}\nattention = {}\ninner = {:?}\noutput = {}\n",
            spans(&self.scores),
            spans(&self.padded),
            self.value,
            norm(&self.attention),
            self.inner,
            norm(&self.output)
        );
    }
}

impl NormPlan {
    fn holds(&self, what: &str, found: &NormRanges) -> Result<(), String> {
        within(&format!("hidden values behind {what}"), found.hidden, symmetric(self.hidden))?;
        within(&format!("variances behind {what}"), found.variance, self.variance)
    }

    fn new(ranges: &NormRanges) -> Self {
        let NormRanges { hidden, variance } = ranges;
        let variance = Span { min: below(variance.min / RINGS), max: above(variance.max * RINGS) };
        Self { hidden: above(RINGS * hidden.magnitude()), variance }
    }
}

/// From -`most` to `most`.
fn symmetric(most: f64) -> Span {
    Span { min: -most, max: most }
}

fn within(what: &str, found: Span, plan: Span) -> Result<(), String> {
    if found.min >= plan.min && found.max <= plan.max {
        return Ok(());
    }
    Err(format!(
        "{what} lie between {:.4} and {:.4}, and the plan's bounds are {} and {}",
        found.min, found.max, plan.min, plan.max
    ))
}

/// Whole bits around scores, with headroom on both sides.
fn score_bounds(scores: Span) -> Span {
    let beside = scores.width() * (SCORES - 1.0) / 2.0 + SCORE_BITS;
    Span { min: (scores.min - beside).floor(), max: (scores.max + beside).ceil() }
}

/// The next number of two significant digits that is not below `x`.
fn above(x: f64) -> f64 {
    let unit = unit(x);
    decimal((x / unit).ceil(), unit)
}

/// The next one that is not above `x`.
fn below(x: f64) -> f64 {
    let unit = unit(x);
    decimal((x / unit).floor(), unit)
}

/// The power of ten of the second digit of a positive number.
fn unit(x: f64) -> f64 {
    10f64.powi(x.max(f64::MIN_POSITIVE).log10().floor() as i32 - 1)
}

/// `digits` times a power of ten, as it is read from its two digits.
fn decimal(digits: f64, unit: f64) -> f64 {
    if unit < 1.0 { digits / (1.0 / unit).round() } else { digits * unit }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    architecture: String,
    model: String,
    texts: u64,
    tokens: u64,
    layers: Vec<LayerDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerDocument {
    scores: Vec<[f64; 2]>,
    padded: Vec<[f64; 2]>,
    value: f64,
    attention: NormDocument,
    inner: f64,
    output: NormDocument,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NormDocument {
    hidden: f64,
    variance: [f64; 2],
}

impl LayerDocument {
    fn check(self) -> Result<LayerPlan, String> {
        Ok(LayerPlan {
            scores: spans("scores", self.scores)?,
            padded: spans("padded", self.padded)?,
            value: positive("value", self.value)?,
            attention: self.attention.check("attention")?,
            inner: positive("inner", self.inner)?,
            output: self.output.check("output")?,
        })
    }
}

impl NormDocument {
    fn check(self, key: &str) -> Result<NormPlan, String> {
        let variance = ordered(&format!("{key}.variance"), self.variance)?;
        positive(&format!("{key}.variance"), variance.min)?;
        Ok(NormPlan { hidden: positive(&format!("{key}.hidden"), self.hidden)?, variance })
    }
}

fn spans(key: &str, found: Vec<[f64; 2]>) -> Result<Vec<Span>, String> {
    if found.is_empty() {
        return Err(format!("{key} is empty; it has a range of each head"));
    }
    found.into_iter().map(|span| ordered(key, span)).collect()
}

fn ordered(key: &str, [min, max]: [f64; 2]) -> Result<Span, String> {
    if min.abs() <= MOST && max.abs() <= MOST && min <= max {
        return Ok(Span { min, max });
    }
    Err(format!("{key} has [{min}, {max}]; it has to be a range, the smaller number first, within {MOST:e}"))
}

fn positive(key: &str, x: f64) -> Result<f64, String> {
    if x > 0.0 && x <= MOST {
        Ok(x)
    } else {
        Err(format!("{key} is {x}; it has to be above 0, at most {MOST:e}"))
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// A digest in hexadecimal digits.
#[must_use]
pub fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
