//! The steps of a BERT: rings and scales, layer by layer. Public weights.

use std::{collections::BTreeMap, sync::Arc};

use suf_gate::{Gate, Shape, gatefile::GateFile, onehot::Onehot, ops::Weights};

use super::{
    Config, Quantised, QuantisedLayer, Residual,
    quantised::{ACTIVATED, ATTENDED, ATTENTION_WEIGHT, GAIN, MEAN, NORMED, RESIDUAL, WEIGHT},
};
use crate::{
    heads::{Group, groups, row_bits},
    plan::{LayerPlan, NormPlan, Plan, PlanError},
    quantise::Integers,
    ranges::Span,
    steps::{Kind, Made, Refusal, StepId, Steps},
};

/// Of queries, keys and values in the products of attention.
const HEAD: u8 = 12;
/// Of scores and of their exponentials.
const SCORE: u8 = 24;
/// Of what the exponentials attend to, and of the reciprocal of their sum.
const ATTEND: u8 = 36;
/// Of that, where it is multiplied.
const ATTEND_KEPT: u8 = 18;
/// Of the reciprocal, where it is multiplied.
const RECIPROCAL_KEPT: u8 = 16;
/// Of a layer norm's input, where it is squared and multiplied.
const NORM_INPUT: u8 = 12;
/// Of the inverse root of a variance.
const ROOT: u8 = 52;
/// Of that, where it is multiplied.
const ROOT_KEPT: u8 = 14;

/// The ring of products and of the norms' results.
const FULL: u8 = 64;
/// The ring of exponentials, what they attend to, and what the activation makes.
const NARROW: u8 = 48;

/// Bits of `onehot`'s digit above the window: the gate is right below 2^(bits + 1). The last one is of two digits.
const DIGITS: [&[u8]; 4] = [&[4], &[5], &[6], &[6, 6]];

/// Tokens of programs that hide a text's length: the text is padded to the next of them.
const BUCKETS: [u32; 6] = [16, 32, 64, 128, 256, 512];

/// Tokens to which a text of `tokens` tokens is padded; none if it is longer than a model of `positions` positions takes.
#[must_use]
pub fn bucket(tokens: u32, positions: u32) -> Option<u32> {
    let buckets = BUCKETS.into_iter().filter(|bucket| *bucket < positions).chain([positions]);
    buckets.into_iter().find(|bucket| *bucket >= tokens)
}

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Tokens of a text, padding counted.
    pub tokens: u32,
    /// Texts that are evaluated together.
    pub batch: u32,
    /// Whether texts are padded, so that their length stays hidden.
    pub padded: bool,
}

/// A model's steps, and what the client has to know of them.
#[derive(Debug)]
pub struct Compiled {
    /// The steps.
    pub steps: Steps,
    /// The matrices that they name.
    pub weights: Vec<Arc<Weights>>,
    /// The steps that take masks, and their groups.
    pub masks: Vec<(StepId, Group)>,
    /// Which program.
    pub length: Length,
}

/// Why there is no program for a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The plan is not one of this model.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Fewer or more tokens than the model takes.
    #[error("the model takes 1 to {most} tokens, not {tokens}")]
    Tokens {
        /// Tokens that were asked for.
        tokens: u32,
        /// Positions of the model.
        most: u32,
    },
    /// A bound that nothing holds.
    #[error("{0}: the plan's range is too wide for this program")]
    Range(#[from] Refusal),
}

/// The steps of the model with these `integers` within the bounds of `plan`.
///
/// # Errors
/// When the plan is another model's, or a ring cannot hold a bound.
pub fn compile(
    config: &Config,
    integers: &Quantised,
    plan: &Plan,
    length: Length,
) -> Result<Compiled, CompileError> {
    plan.suits(integers.digest(), config.layers as usize, config.heads as usize)?;
    if !(1..=config.positions).contains(&length.tokens) {
        return Err(CompileError::Tokens { tokens: length.tokens, most: config.positions });
    }
    let mut compiler = Compiler {
        config: *config,
        made: Compiled { steps: Steps::default(), weights: Vec::new(), masks: Vec::new(), length },
        layer: 0,
    };
    let normed = compiler.normed();
    let mut x = compiler.push("input", Kind::Input, [], normed)?;
    for (at, (layer, plan)) in integers.layers.iter().zip(&plan.layers).enumerate() {
        compiler.layer = at;
        x = compiler.layer(x, layer, plan)?;
    }
    let made = compiler.made_of(x);
    compiler.made.steps.push("output".into(), Kind::Output, [x], made)?;
    Ok(compiler.made)
}

/// The matrices that programs of the model may name within the bounds of `plan`, each once.
///
/// # Errors
/// As for [`compile`].
pub fn weights(
    config: &Config,
    integers: &Quantised,
    plan: &Plan,
) -> Result<Vec<Arc<Weights>>, CompileError> {
    let mut found = BTreeMap::new();
    for padded in [false, true] {
        let length = Length { tokens: config.positions, batch: 1, padded };
        for weights in compile(config, integers, plan, length)?.weights {
            found.insert(*weights.digest(), weights);
        }
    }
    for tokens in 1..config.positions {
        let Integers { rows, cols, values, bias } = ones(tokens);
        let weights = Weights::new(rows as u32, cols as u32, values, bias).map_err(Refusal)?;
        found.insert(*weights.digest(), Arc::new(weights));
    }
    Ok(found.into_values().collect())
}

struct Compiler {
    config: Config,
    made: Compiled,
    layer: usize,
}

impl Compiler {
    fn layer(&mut self, x: StepId, layer: &QuantisedLayer, plan: &LayerPlan) -> Result<StepId, Refusal> {
        let Length { padded, .. } = self.made.length;
        let scores = if padded { &plan.padded } else { &plan.scores };
        let groups = groups(scores, self.config.positions, padded)
            .map_err(|Refusal(why)| Refusal(format!("layer {}: {why}", self.layer)))?;
        let mut attention = None;
        for (at, group) in groups.iter().enumerate() {
            let name = if groups.len() == 1 { String::new() } else { format!(" m={}", group.m) };
            // The bias is added once.
            let made = self.attend(x, layer, plan, group, &name, at == 0)?;
            attention = Some(match attention {
                None => made,
                Some(before) => self.add(&format!("attention sum{name}"), before, made, f64::INFINITY)?,
            });
        }
        let attention = attention.unwrap_or(x);
        let residual =
            self.residual("attention", x, &layer.attention_residual, ATTENDED + ATTENTION_WEIGHT)?;
        let sum = self.add("attention and residual", attention, residual, plan.attention.hidden)?;
        let x = self.norm("attention", sum, &plan.attention)?;

        let up = self.linear("up", x, &layer.up, WEIGHT)?;
        let inner = self.gelu(up, plan)?;
        let down = self.linear("down", inner, &layer.down, WEIGHT)?;
        let residual = self.residual("feed-forward", x, &layer.residual, ACTIVATED + WEIGHT)?;
        let sum = self.add("feed-forward and residual", down, residual, plan.output.hidden)?;
        self.norm("feed-forward", sum, &plan.output)
    }

    /// The heads of one group, up to their product with the weights behind attention.
    fn attend(
        &mut self,
        x: StepId,
        layer: &QuantisedLayer,
        plan: &LayerPlan,
        group: &Group,
        name: &str,
        with_bias: bool,
    ) -> Result<StepId, Refusal> {
        let Length { tokens, batch, padded } = self.made.length;
        let (width, heads) = (self.config.head(), group.heads.len() as u32);
        let columns: Vec<usize> = group
            .heads
            .iter()
            .flat_map(|head| (0..width).map(move |at| head * width as usize + at as usize))
            .collect();
        let mut project = |part: &str, integers: &Integers| {
            self.linear(&format!("{part}{name}"), x, &integers.select_outputs(&columns), WEIGHT)
        };
        let query = project("query", &layer.query)?;
        let key = project("key", &layer.key)?;
        let value = project("value", &layer.value)?;
        let product = NORMED + WEIGHT;
        let query = self.drop(&format!("query{name}"), query, product - HEAD)?;
        let key = self.drop(&format!("key{name}"), key, product - HEAD)?;

        let rows = batch * heads * tokens;
        let scores = |ring: u8| {
            let bound = group.magnitude();
            Made { rows, cols: tokens, ring, frac: SCORE, bound }
        };
        let modulus = SCORE + group.m.ilog2() as u8;
        let mut takes = vec![query, key];
        if padded {
            let mask = self.push(&format!("mask{name}"), Kind::Mask, [], scores(modulus))?;
            self.made.masks.push((mask, group.clone()));
            takes.push(mask);
        }
        let kind = Kind::Scores(group.clone());
        let scores = self.push(&format!("scores{name}"), kind, takes, scores(modulus))?;
        let value = self.open(&format!("value{name}"), value, product - HEAD, NARROW, plan.value)?;
        let exponent =
            Made { rows, cols: 1, ring: group.m.ilog2() as u8 - 1, frac: 0, bound: (group.m / 2).into() };
        let kind = Kind::RowExponent(group.clone());
        let exponent = self.push(&format!("row exponent{name}"), kind, [scores], exponent)?;

        // Sums of a row's exponentials, whose exponent is near the logarithm of the sum of their roots.
        let sums = Span { min: (1.0 - 1.0 / 16.0) * f64::from(-row_bits(tokens)).exp2(), max: 4.125 };
        let exponential = Made { rows, cols: tokens, ring: NARROW, frac: SCORE, bound: sums.max };
        let kind = Kind::Exponential(group.clone());
        let exponential = self.push(&format!("exp2{name}"), kind, [scores, exponent], exponential)?;
        let of_values = self.made_of(value);
        let bound = sums.max * of_values.bound;
        let attended = Made { ring: NARROW, frac: ATTEND, bound, ..of_values };
        let kind = Kind::Attend(group.clone());
        let attended = self.push(&format!("attend{name}"), kind, [exponential, value], attended)?;
        let reciprocal = Made { rows, cols: 1, ring: NARROW, frac: ATTEND, bound: 1.0 / sums.min };
        let ones =
            Integers { rows: tokens as usize, cols: 1, values: vec![1; tokens as usize], bias: Vec::new() };
        let row_sums = self.linear(&format!("row sum{name}"), exponential, &ones, 0)?;
        let kind = Kind::Reciprocal(sums);
        let reciprocal = self.push(&format!("reciprocal{name}"), kind, [row_sums], reciprocal)?;
        let scaled = Made { ring: FULL, frac: ATTEND_KEPT + RECIPROCAL_KEPT, ..of_values };
        let kind = Kind::Scale(ATTEND - ATTEND_KEPT, ATTEND - RECIPROCAL_KEPT);
        let scaled = self.push(&format!("attended{name}"), kind, [attended, reciprocal], scaled)?;
        let scaled =
            self.drop(&format!("attended{name}"), scaled, ATTEND_KEPT + RECIPROCAL_KEPT - ATTENDED)?;
        let weights = layer.attention.select_inputs(&columns);
        let weights = if with_bias { weights } else { weights.without_bias() };
        self.linear(&format!("attention{name}"), scaled, &weights, ATTENTION_WEIGHT)
    }

    /// What goes around a block: gain and bias of the norm before it, the mean subtracted, with `frac` fractional bits.
    fn residual(&mut self, part: &str, x: StepId, residual: &Residual, frac: u8) -> Result<StepId, Refusal> {
        let from = self.made_of(x);
        let largest = residual.gain.iter().map(|gain| f64::from(gain.abs())).fold(0.0, f64::max);
        let bound = from.bound * largest / f64::from(1 << GAIN);
        let gained = Made { frac: RESIDUAL, bound, ..from };
        let gained =
            self.push(&format!("{part} gain"), Kind::Gain(residual.gain.clone(), GAIN), [x], gained)?;
        let mean =
            Integers { rows: residual.mean.len(), cols: 1, values: residual.mean.clone(), bias: Vec::new() };
        let mean = self.linear(&format!("{part} mean"), x, &mean, MEAN)?;
        let mean = self.drop(&format!("{part} mean"), mean, NORMED + MEAN - RESIDUAL)?;
        let of_mean = self.made_of(mean);
        let centred = Made { ring: of_mean.ring, bound: bound + of_mean.bound, ..self.made_of(gained) };
        let centred = self.push(&format!("{part} centred"), Kind::SubtractColumn, [gained, mean], centred)?;
        let made = self.made_of(centred);
        let largest = residual.bias.iter().map(|bias| bias.unsigned_abs()).max().unwrap_or(0) as f64;
        let biased = Made { bound: made.bound + largest / (1u64 << RESIDUAL) as f64, ..made };
        let biased =
            self.push(&format!("{part} bias"), Kind::Bias(residual.bias.clone()), [centred], biased)?;
        self.drop(&format!("{part} residual"), biased, RESIDUAL - frac)
    }

    /// The layer norm of a value whose mean is 0.
    fn norm(&mut self, part: &str, x: StepId, plan: &NormPlan) -> Result<StepId, Refusal> {
        let from = self.made_of(x);
        let drop = from.frac - NORM_INPUT;
        let elems = f64::from(self.config.hidden);
        let sums = Span { min: plan.variance.min * elems, max: plan.variance.max * elems };
        let column = Made { rows: from.rows, cols: 1, ring: FULL, frac: 2 * NORM_INPUT, bound: sums.max };
        let squares = self.push(&format!("{part} squares"), Kind::SquareSum(drop), [x], column)?;
        let root = Made { frac: ROOT, bound: 1.0 / plan.variance.min.sqrt(), ..column };
        let root = self.push(&format!("{part} root"), Kind::InverseRoot(sums), [squares], root)?;
        let kind = Kind::Scale(drop, ROOT - ROOT_KEPT);
        let made = self.normed();
        self.push(&format!("{part} norm"), kind, [x, root], made)
    }

    fn gelu(&mut self, x: StepId, plan: &LayerPlan) -> Result<StepId, Refusal> {
        let from = self.made_of(x);
        let bound = plan.inner.min(from.bound);
        let gate = DIGITS.iter().find_map(|digits| gelu(digits, bound)).ok_or_else(|| {
            Refusal(format!(
                "layer {}: inputs of the activation up to {bound}, which no gate takes",
                self.layer
            ))
        })?;
        let made = Made { ring: NARROW, frac: ACTIVATED, bound, ..from };
        self.push("gelu", Kind::Gate(gate, from.frac - ACTIVATED), [x], made)
    }

    fn linear(&mut self, part: &str, x: StepId, integers: &Integers, frac: u8) -> Result<StepId, Refusal> {
        let from = self.made_of(x);
        let bound = product_bound(integers, frac, &from, self.length_of(x));
        let Integers { rows, cols, values, bias } = integers.clone();
        let weights = Weights::new(rows as u32, cols as u32, values, bias).map_err(Refusal)?;
        let weights = Arc::new(weights);
        self.made.weights.push(Arc::clone(&weights));
        let made = Made { cols: cols as u32, frac: from.frac + frac, bound, ..from };
        self.push(part, Kind::Linear(weights, frac), [x], made)
    }

    fn drop(&mut self, part: &str, x: StepId, bits: u8) -> Result<StepId, Refusal> {
        let from = self.made_of(x);
        let made = Made { ring: from.ring - bits, frac: from.frac - bits, ..from };
        self.push(&format!("{part} drop"), Kind::Drop(bits), [x], made)
    }

    fn open(&mut self, part: &str, x: StepId, drop: u8, ring: u8, bound: f64) -> Result<StepId, Refusal> {
        let from = self.made_of(x);
        let made = Made { ring, frac: from.frac - drop, bound: from.bound.min(bound), ..from };
        self.push(part, Kind::Open(drop), [x], made)
    }

    /// The sum of two values, in the smaller of their rings. `most` is what the plan says of it.
    fn add(&mut self, part: &str, a: StepId, b: StepId, most: f64) -> Result<StepId, Refusal> {
        let [of_a, of_b] = [a, b].map(|step| self.made_of(step));
        let made = Made { ring: of_a.ring.min(of_b.ring), bound: most.min(of_a.bound + of_b.bound), ..of_a };
        self.push(part, Kind::Add, [a, b], made)
    }

    fn push(
        &mut self,
        part: &str,
        kind: Kind,
        takes: impl Into<Vec<StepId>>,
        made: Made,
    ) -> Result<StepId, Refusal> {
        let name = if part == "input" { part.to_owned() } else { format!("layer {} {part}", self.layer) };
        self.made.steps.push(name, kind, takes, made)
    }

    fn made_of(&self, step: StepId) -> Made {
        self.made.steps.get(step).made
    }

    /// A layer norm's result before gain and bias: a row's length is the root of its number of elements, at most.
    fn normed(&self) -> Made {
        let Length { tokens, batch, .. } = self.made.length;
        let Config { hidden, .. } = self.config;
        Made { rows: batch * tokens, cols: hidden, ring: FULL, frac: NORMED, bound: f64::from(hidden).sqrt() }
    }

    /// Largest length of a row; none where it is not known.
    fn length_of(&self, x: StepId) -> Option<f64> {
        let made = self.made_of(x);
        (made == self.normed()).then_some(made.bound)
    }
}

/// What sums a row of so many elements.
fn ones(tokens: u32) -> Integers {
    Integers { rows: tokens as usize, cols: 1, values: vec![1; tokens as usize], bias: Vec::new() }
}

/// Largest absolute value of a product's outputs: by the largest element of the input, and by the length of its rows.
fn product_bound(integers: &Integers, frac: u8, from: &Made, length: Option<f64>) -> f64 {
    let mut sums = vec![(0.0, 0.0); integers.cols];
    for row in integers.values.chunks_exact(integers.cols) {
        for ((sum, squares), weight) in sums.iter_mut().zip(row) {
            let weight = f64::from(weight.abs());
            *sum += weight;
            *squares += weight * weight;
        }
    }
    let unit = (1u64 << frac) as f64;
    let bias_unit = (1u64 << (from.frac + frac)) as f64;
    let biases = integers.bias.iter().map(|bias| bias.unsigned_abs() as f64 / bias_unit);
    let products = sums.into_iter().map(|(sum, squares): (f64, f64)| {
        let by_length = length.map_or(f64::INFINITY, |length| squares.sqrt() * length);
        (sum * from.bound).min(by_length) / unit
    });
    products
        .zip(biases.chain(std::iter::repeat(0.0)))
        .map(|(product, bias)| product + bias)
        .fold(0.0, f64::max)
}

/// GELU under `onehot` with these digits, if it takes absolute values up to `bound`.
fn gelu(digits: &[u8], bound: f64) -> Option<Arc<Gate>> {
    let curve = GateFile::builtin("gelu").ok()?.curve;
    let onehot = Onehot::new(curve, digits.to_vec()).ok()?;
    let (least, most) = onehot.domain();
    let units = bound * f64::from(1 << ACTIVATED);
    if units > most as f64 || -units < least as f64 {
        return None;
    }
    Gate::new("gelu", Shape::Onehot(onehot)).ok().map(Arc::new)
}
