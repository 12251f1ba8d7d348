//! The layers: rings and scales, node by node.

use std::fmt::Display;

use suf_gate::{
    Form, NodeId, Protocol, Ring,
    ops::{
        Add, DropBits, Entry, Exp2, Extended, Factors, Function, Gain, GateOp, Heads, Input, Linear, Op,
        Open, Pad, PadOf, Pads, Product, RowExponent, Scale, Scores, SquareSum, SubtractRow, Weights,
    },
};

use super::{
    Length, ones,
    parts::{gelu, product_bound, spline},
};
use crate::{
    bert::{
        Config, Quantised, QuantisedLayer, Residual,
        quantised::{ACTIVATED, ATTENDED, ATTENTION_WEIGHT, GAIN, MEAN, NORMED, RESIDUAL, WEIGHT},
    },
    heads::{Group, groups, row_bits},
    nodes::{Nodes, Refusal, shape},
    plan::{LayerPlan, NormPlan, Plan},
    quantise::Integers,
    ranges::Span,
};

/// Fractional bits of queries, keys and values in the products of attention.
const HEAD: u8 = 12;
/// Fractional bits of scores and of their exponentials.
pub(crate) const SCORE: u8 = 24;
/// Fractional bits of the exponentials times the values, and of the reciprocal of a row sum.
const ATTEND: u8 = SCORE + HEAD;
/// Fractional bits that are kept of the former where it is scaled.
const ATTEND_KEPT: u8 = 18;
/// Fractional bits that are kept of the reciprocal there.
const RECIPROCAL_KEPT: u8 = 16;
/// Fractional bits of what the heads attend to.
pub(super) const SCALED: u8 = ATTEND_KEPT + RECIPROCAL_KEPT;
/// Fractional bits that are kept of a layer norm's input where it is squared and scaled.
const NORM_INPUT: u8 = 12;
/// Fractional bits of the inverse root of a variance.
const ROOT: u8 = 52;
/// Fractional bits that are kept of the inverse root where it scales a row.
const ROOT_KEPT: u8 = 14;

/// The ring of products and of the norms' results.
pub(super) const FULL: Ring = Ring::new(64);
/// The ring of exponentials, what they attend to, and what the activation makes.
const NARROW: Ring = Ring::new(48);

/// A program in the making.
pub(super) struct Compiler {
    pub(super) config: Config,
    pub(super) length: Length,
    /// The protocol of the activation.
    pub(super) activation: Protocol,
    pub(super) nodes: Nodes,
    /// What the inputs of masks add to the scores of padding, in their order.
    pub(super) masks: Vec<i16>,
    /// The layer at which it is.
    pub(super) layer: Option<usize>,
}

/// A wire that is multiplied without its low bits, and the shares of its mask that this takes.
#[derive(Clone, Copy)]
struct Multiplied {
    wire: NodeId,
    extended: Extended,
    quotient: NodeId,
    top: NodeId,
}

impl Compiler {
    /// The input and all layers.
    pub(super) fn program(&mut self, integers: &Quantised, plan: &Plan) -> Result<NodeId, Refusal> {
        let mut x = self.input()?;
        for (at, (layer, plan)) in integers.layers.iter().zip(&plan.layers).enumerate() {
            self.layer = Some(at);
            x = self.layer(x, layer, plan)?;
        }
        Ok(x)
    }

    /// What the client gives.
    pub(super) fn input(&mut self) -> Result<NodeId, Refusal> {
        let Length { tokens, batch, .. } = self.length;
        let rows = shape("input", batch * tokens, self.config.hidden)?;
        let input = Input::new(rows, FULL, NORMED, Form::Masked);
        self.push("input", Op::Input(input), [], self.normed())
    }

    /// The heads that are evaluated together, and what the names of their nodes end with.
    pub(super) fn groups(&self, plan: &LayerPlan) -> Result<Vec<(Group, String)>, Refusal> {
        let Length { padded, .. } = self.length;
        let scores = if padded { &plan.padded } else { &plan.scores };
        let groups =
            groups(scores, self.config.positions, padded).map_err(|Refusal(why)| Refusal(self.name(&why)))?;
        let is_one = groups.len() == 1;
        let named = |group: Group| {
            let suffix = if is_one { String::new() } else { format!(" m={}", group.scores.bits) };
            (group, suffix)
        };
        Ok(groups.into_iter().map(named).collect())
    }

    fn layer(&mut self, x: NodeId, layer: &QuantisedLayer, plan: &LayerPlan) -> Result<NodeId, Refusal> {
        let mut attention = None;
        for (at, (group, suffix)) in self.groups(plan)?.iter().enumerate() {
            // The bias is added once.
            let made = self.attend(x, layer, plan, group, suffix, at == 0)?;
            attention = Some(match attention {
                None => made,
                Some(before) => self.add(&format!("attention sum{suffix}"), before, made, f64::INFINITY)?,
            });
        }
        // A model has a head at least.
        let attention = attention.unwrap_or(x);
        let frac = ATTENDED + ATTENTION_WEIGHT;
        let residual = self.residual("attention", x, &layer.attention_residual, frac)?;
        let sum = self.add("attention and residual", attention, residual, plan.attention.hidden)?;
        let x = self.norm("attention", sum, &plan.attention)?;

        let up = self.linear("up", x, &layer.up, WEIGHT, Some(self.normed()))?;
        let inner = self.gelu(up, plan)?;
        let down = self.linear("down", inner, &layer.down, WEIGHT, None)?;
        let residual = self.residual("feed-forward", x, &layer.residual, ACTIVATED + WEIGHT)?;
        let sum = self.add("feed-forward and residual", down, residual, plan.output.hidden)?;
        self.norm("feed-forward", sum, &plan.output)
    }

    /// The heads of one group, up to their product with the weights behind attention.
    fn attend(
        &mut self,
        x: NodeId,
        layer: &QuantisedLayer,
        plan: &LayerPlan,
        group: &Group,
        suffix: &str,
        with_bias: bool,
    ) -> Result<NodeId, Refusal> {
        let width = self.config.head() as usize;
        let named = |part: &str| format!("{part}{suffix}");
        let columns: Vec<usize> =
            group.heads.iter().flat_map(|head| (0..width).map(move |at| head * width + at)).collect();
        let [query, key, value] = [("query", &layer.query), ("key", &layer.key), ("value", &layer.value)]
            .map(|(part, integers)| {
                self.linear(&named(part), x, &integers.select_outputs(&columns), WEIGHT, Some(self.normed()))
            });
        let scaled = self.attended([query?, key?, value?], plan, group, suffix)?;
        let scaled = self.drop(&named("attended"), scaled, SCALED - ATTENDED)?;
        let weights = layer.attention.select_inputs(&columns);
        let weights = if with_bias { weights } else { weights.without_bias() };
        self.linear(&named("attention"), scaled, &weights, ATTENTION_WEIGHT, None)
    }

    /// What the heads of one group attend to, of their queries, keys and values, with [`SCALED`] fractional bits.
    pub(super) fn attended(
        &mut self,
        [query, key, value]: [NodeId; 3],
        plan: &LayerPlan,
        group: &Group,
        suffix: &str,
    ) -> Result<NodeId, Refusal> {
        let Length { tokens, .. } = self.length;
        let named = |part: &str| format!("{part}{suffix}");
        let heads = Heads { heads: group.heads.len() as u32, tokens };
        let product = NORMED + WEIGHT;
        let query = self.drop(&named("query"), query, product - HEAD)?;
        let key = self.drop(&named("key"), key, product - HEAD)?;
        let scores = self.scores(&named("scores"), [query, key], heads, group)?;

        self.nodes.extends(value)?;
        let bound = self.nodes.bound(value).min(plan.value);
        let open =
            Open::masked(FULL, product - HEAD, NARROW).map_err(|why| self.refused(&named("value"), &why))?;
        let value = self.push(&named("value"), Op::Open(open), [value], bound)?;

        let range = Scores { cols: tokens, ..group.scores };
        let exponent = RowExponent::new(range).map_err(|why| self.refused(&named("row exponent"), &why))?;
        let exponent = self.free(&named("row exponent"), Op::RowExponent(exponent), [scores])?;
        // Sums of a row's exponentials, whose exponent is near the logarithm of the sum of their roots.
        let sums = Span { min: (1.0 - 1.0 / 16.0) * f64::from(-row_bits(tokens)).exp2(), max: 4.125 };
        let exp2 =
            Exp2::new(group.scores.bits, NARROW, SCORE).map_err(|why| self.refused(&named("exp2"), &why))?;
        let exp2 = self.push(&named("exp2"), Op::Exp2(exp2), [scores, exponent], sums.max)?;

        let pads = [("exp2", exp2), ("value", value)].map(|(part, wire)| {
            self.free(
                &named(&format!("{part} mask")),
                Op::Pads(Pads::own(NARROW, NARROW).map_err(|why| self.refused(&named(part), &why))?),
                [wire],
            )
        });
        let [exp2_pad, value_pad] = pads;
        let mix = Product::new(Factors::Mix(heads), [NARROW, NARROW], NARROW)
            .map_err(|why| self.refused(&named("attend"), &why))?;
        let takes = [exp2, value, exp2_pad?, value_pad?];
        let attended = self.push(&named("attend"), Op::Product(mix), takes, sums.max * bound)?;

        let row_sums = self.linear(&named("row sum"), exp2, &ones(tokens), 0, None)?;
        let spline = spline(Function::Reciprocal, NARROW, [SCORE, ATTEND], sums)
            .map_err(|why| self.refused(&named("reciprocal"), &why))?;
        let reciprocal = self.push(&named("reciprocal"), spline, [row_sums], 1.0 / sums.min)?;

        let attended = self.multiplied(&named("attend"), attended, ATTEND - ATTEND_KEPT)?;
        let reciprocal = self.multiplied(&named("reciprocal"), reciprocal, ATTEND - RECIPROCAL_KEPT)?;
        self.scale(&named("attended"), attended, reciprocal, Some(heads), bound)
    }

    /// Q K^T, opened modulo 2^(fractional bits) m: exponents count modulo m.
    fn scores(
        &mut self,
        name: &str,
        factors: [NodeId; 2],
        heads: Heads,
        group: &Group,
    ) -> Result<NodeId, Refusal> {
        let to = Ring::new(SCORE + group.scores.bits.ilog2() as u8);
        let rings = factors.map(|factor| self.nodes.wire(factor).ring);
        let mut takes = factors.to_vec();
        for (factor, part) in factors.into_iter().zip(["query", "key"]) {
            let pad = Pads::dealt(Pad::whole(self.nodes.wire(factor).ring, to));
            takes.push(self.free(&format!("{name} {part} mask"), Op::Pads(pad), [factor])?);
        }
        let product = match group.mask {
            None => Product::new(Factors::Scores(heads), rings, to),
            Some(mask) => {
                let rows = shape(name, self.nodes.wire(factors[0]).shape.rows(), 1)?;
                let input = Op::Input(Input::new(rows, to, SCORE, Form::Shared));
                takes.push(self.free(&format!("{name} padding"), input, [])?);
                self.masks.push(mask);
                Product::masked_scores(heads, rings, to)
            }
        };
        self.free(name, Op::Product(product.map_err(|why| self.refused(name, &why))?), takes)
    }

    /// What goes around a block: gain and bias of the norm before it, the mean subtracted, with `frac` fractional bits.
    fn residual(&mut self, part: &str, x: NodeId, residual: &Residual, frac: u8) -> Result<NodeId, Refusal> {
        let normed = self.normed();
        let largest = |values: &[i64], frac: u8| {
            values.iter().map(|value| value.unsigned_abs()).max().unwrap_or(0) as f64 / (1u64 << frac) as f64
        };
        let gains: Vec<i64> = residual.gain.iter().map(|gain| i64::from(*gain)).collect();
        let bound = normed * largest(&gains, GAIN) + largest(&residual.bias, RESIDUAL);
        let weights = Weights::new(1, gains.len() as u32, residual.gain.clone(), residual.bias.clone());
        let weights = self.nodes.weights(weights.map_err(|why| self.refused(part, &why))?);
        let gained = self.push(&format!("{part} gain"), Op::Gain(Gain::new(weights, GAIN)), [x], bound)?;
        let mean = Integers { rows: gains.len(), cols: 1, values: residual.mean.clone(), bias: Vec::new() };
        let mean = self.linear(&format!("{part} mean"), x, &mean, MEAN, Some(normed))?;
        let mean = self.drop(&format!("{part} mean"), mean, NORMED + MEAN - RESIDUAL)?;
        let bound = bound + self.nodes.bound(mean);
        let centred =
            self.push(&format!("{part} centred"), Op::SubtractRow(SubtractRow), [gained, mean], bound)?;
        self.drop(&format!("{part} residual"), centred, RESIDUAL - frac)
    }

    /// The layer norm of a wire whose mean is 0.
    pub(super) fn norm(&mut self, part: &str, x: NodeId, plan: &NormPlan) -> Result<NodeId, Refusal> {
        let hidden = self.config.hidden;
        let sums = Span { min: plan.variance.min, max: plan.variance.max };
        let sums = Span { min: sums.min * f64::from(hidden), max: sums.max * f64::from(hidden) };
        let x = self.multiplied(part, x, self.nodes.wire(x).frac - NORM_INPUT)?;
        let product = Ring::new(FULL.bits() - x.extended.kept() - 1);
        let pad = Pads::dealt(Pad { of: PadOf::TopQuotient, from: x.extended, to: product });
        let pad = self.free(&format!("{part} wrap and mask"), Op::Pads(pad), [x.wire])?;
        let squares = SquareSum::new(x.extended, FULL).map_err(|why| self.refused(part, &why))?;
        let takes = [x.wire, x.quotient, x.top, pad];
        let squares = self.push(&format!("{part} squares"), Op::SquareSum(squares), takes, sums.max)?;
        let root = spline(Function::InverseSqrt { of: hidden }, FULL, [2 * NORM_INPUT, ROOT], sums)
            .map_err(|why| self.refused(&format!("{part} root"), &why))?;
        let root = self.push(&format!("{part} root"), root, [squares], 1.0 / plan.variance.min.sqrt())?;
        let root = self.multiplied(&format!("{part} root"), root, ROOT - ROOT_KEPT)?;
        self.scale(&format!("{part} norm"), x, root, None, self.normed())
    }

    /// The shares of a wire's mask with which it is multiplied without its `drop` low bits.
    fn multiplied(&mut self, part: &str, wire: NodeId, drop: u8) -> Result<Multiplied, Refusal> {
        self.nodes.extends(wire)?;
        let extended =
            Extended::new(self.nodes.wire(wire).ring, drop).map_err(|why| self.refused(part, &why))?;
        let pad = |of, to| Op::Pads(Pads::dealt(Pad { of, from: extended, to }));
        let quotient = self.free(&format!("{part} mask"), pad(PadOf::Quotient, FULL), [wire])?;
        let wraps = Ring::new(FULL.bits() - extended.kept());
        let top = self.free(&format!("{part} wrap"), pad(PadOf::Top, wraps), [wire])?;
        Ok(Multiplied { wire, extended, quotient, top })
    }

    /// A wire times a value of each row, or of each row and head.
    fn scale(
        &mut self,
        part: &str,
        x: Multiplied,
        row: Multiplied,
        heads: Option<Heads>,
        bound: f64,
    ) -> Result<NodeId, Refusal> {
        let scale =
            Scale::new(x.extended, row.extended, heads, FULL).map_err(|why| self.refused(part, &why))?;
        let takes = [x.wire, row.wire, x.quotient, x.top, row.quotient, row.top];
        self.push(part, Op::Scale(scale), takes, bound)
    }

    pub(super) fn gelu(&mut self, x: NodeId, plan: &LayerPlan) -> Result<NodeId, Refusal> {
        self.nodes.extends(x)?;
        let bound = plan.inner.min(self.nodes.bound(x));
        let gate =
            gelu(self.activation, bound).ok_or_else(|| {
                let protocol = self.activation;
                Refusal(self.name(&format!(
                    "inputs of the activation up to {bound}, which no gate of {protocol} takes"
                )))
            })?;
        let wire = self.nodes.wire(x);
        let entry = Entry { ring: wire.ring, drop: wire.frac - ACTIVATED };
        let gate = GateOp::entering(gate, entry).map_err(|error| Refusal(error.to_string()))?;
        self.push("gelu", Op::Gate(gate), [x], bound)
    }

    /// A product with public weights of `frac` fractional bits. `length` is the largest length of a row of x, where it is known.
    fn linear(
        &mut self,
        part: &str,
        x: NodeId,
        integers: &Integers,
        frac: u8,
        length: Option<f64>,
    ) -> Result<NodeId, Refusal> {
        let bound = product_bound(integers, frac, self.nodes.wire(x).frac, self.nodes.bound(x), length);
        let Integers { rows, cols, values, bias } = integers.clone();
        let weights =
            Weights::new(rows as u32, cols as u32, values, bias).map_err(|why| self.refused(part, &why))?;
        let weights = self.nodes.weights(weights);
        self.push(part, Op::Linear(Linear::new(weights, frac)), [x], bound)
    }

    /// A wire without its low `bits`. One whose elements count modulo its ring stays such a wire.
    pub(super) fn drop(&mut self, part: &str, x: NodeId, bits: u8) -> Result<NodeId, Refusal> {
        let (name, op, bound) = (format!("{part} drop"), Op::Drop(DropBits(bits)), self.nodes.bound(x));
        if bound.is_finite() { self.push(&name, op, [x], bound) } else { self.free(&name, op, [x]) }
    }

    /// The sum of two wires, in the smaller of their rings. `most` is what the plan says of it.
    fn add(&mut self, part: &str, a: NodeId, b: NodeId, most: f64) -> Result<NodeId, Refusal> {
        let bound = most.min(self.nodes.bound(a) + self.nodes.bound(b));
        self.push(part, Op::Add(Add), [a, b], bound)
    }

    pub(super) fn push(
        &mut self,
        part: &str,
        op: Op,
        takes: impl Into<Vec<NodeId>>,
        bound: f64,
    ) -> Result<NodeId, Refusal> {
        let name = self.name(part);
        self.nodes.push(&name, op, takes, bound)
    }

    pub(super) fn free(
        &mut self,
        part: &str,
        op: Op,
        takes: impl Into<Vec<NodeId>>,
    ) -> Result<NodeId, Refusal> {
        let name = self.name(part);
        self.nodes.push_free(&name, op, takes)
    }

    /// Why `part` cannot be made.
    pub(super) fn refused(&self, part: &str, why: &dyn Display) -> Refusal {
        Refusal(format!("{}: {why}", self.name(part)))
    }

    fn name(&self, part: &str) -> String {
        self.layer.map_or_else(|| part.to_owned(), |layer| format!("layer {layer} {part}"))
    }

    /// Bound of a layer norm's result before gain and bias: the length of a row is the root of its number of elements, at most.
    fn normed(&self) -> f64 {
        f64::from(self.config.hidden).sqrt()
    }
}
