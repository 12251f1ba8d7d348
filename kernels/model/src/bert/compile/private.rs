//! The layers with private weights. The matrices are a load's, so a product is opened, which takes a round. There are four in a
//! layer: one for queries, keys and values, one behind attention, two in the feed-forward block. Gains are private as well, so a
//! residual is a term of the sum that it is added to. Bounds are the plan's. Where it has none, elements count modulo a ring.

use std::ops::Range;

use suf_gate::{
    Mask, NodeId, Ring,
    ops::{
        Op, Pad, Pads, SubtractRow,
        private::{Chosen, Factor, Left, Private, Term},
    },
};

use super::layers::{Compiler, FULL, SCALED};
use crate::{
    bert::{
        load::{Part, load_program},
        quantised::{ACTIVATED, MEAN, NORMED, RESIDUAL, WEIGHT},
    },
    heads::Group,
    nodes::Refusal,
    plan::{LayerPlan, NormPlan, Plan},
};

/// Fractional bits of the weights behind attention, and of attention's result before them: together those of a residual.
const ATTENDED: u8 = RESIDUAL - crate::bert::quantised::ATTENTION_WEIGHT;
/// The ring in which the feed-forward block and its residual are summed.
const DOWN: Ring = Ring::new(55);
/// Fractional bits of the inputs of the norm behind attention, and of the one behind the feed-forward block.
const NORM_INPUTS: [u8; 2] = [34, 26];

/// A wire that is multiplied, and the parties' shares of its mask.
#[derive(Clone, Copy)]
struct Multiplied {
    wire: NodeId,
    pad: NodeId,
}

/// A sum in the making.
#[derive(Default)]
struct Sum {
    wires: Vec<Multiplied>,
    terms: Vec<Term>,
}

impl Compiler {
    /// The input and all layers.
    pub(super) fn private_program(&mut self, plan: &Plan) -> Result<NodeId, Refusal> {
        let load = *load_program(&self.config)?.digest();
        let mut x = self.input()?;
        for (at, plan) in plan.layers.iter().enumerate() {
            self.layer = Some(at);
            x = self.private_layer(x, at, plan, load)?;
        }
        Ok(x)
    }

    fn private_layer(
        &mut self,
        x: NodeId,
        at: usize,
        plan: &LayerPlan,
        load: [u8; 32],
    ) -> Result<NodeId, Refusal> {
        let of = |part: Part| (at, part);
        let masked = self.multiplied_whole("input", x)?;
        let mut sum = Sum::default();
        for (group, suffix) in self.groups(plan)? {
            let columns = self.columns(&group)?;
            let product = NORMED + WEIGHT;
            let mut project = |part: &str, matrix, bias, bound| {
                let mut sum = Sum::default();
                self.rows(&mut sum, of(matrix), None, Some(&columns), masked, 0)?;
                self.summand(&mut sum, of(bias), Some(&columns))?;
                self.sum(&format!("{part}{suffix}"), sum, load, (FULL, product), bound)
            };
            let query = project("query", Part::Query, Part::QueryBias, None)?;
            let key = project("key", Part::Key, Part::KeyBias, None)?;
            let value = project("value", Part::Value, Part::ValueBias, Some(plan.value))?;
            let attended = self.attended([query, key, value], plan, &group, &suffix)?;
            let attended = self.drop(&format!("attended{suffix}"), attended, SCALED - ATTENDED)?;
            let attended = self.multiplied_whole(&format!("attended{suffix}"), attended)?;
            self.rows(&mut sum, of(Part::Attention), Some(&columns), None, attended, 0)?;
        }
        self.elements(&mut sum, of(Part::AttentionGain), masked)?;
        self.summand(&mut sum, of(Part::AttentionBias), None)?;
        let ring = Ring::new(FULL.bits() - (SCALED - ATTENDED));
        let sum = self.sum("attention and residual", sum, load, (ring, RESIDUAL), None)?;
        let mean = self.mean("attention", of(Part::AttentionMean), masked, load)?;
        let x = self.centred_norm("attention", [sum, mean], &plan.attention, NORM_INPUTS[0])?;

        let masked = self.multiplied_whole("feed-forward", x)?;
        let mut up = Sum::default();
        self.rows(&mut up, of(Part::Up), None, None, masked, 0)?;
        self.summand(&mut up, of(Part::UpBias), None)?;
        let up = self.sum("up", up, load, (FULL, NORMED + WEIGHT), Some(plan.inner))?;
        let inner = self.gelu(up, plan)?;
        let inner = self.multiplied_whole("gelu", inner)?;
        let mut sum = Sum::default();
        self.rows(&mut sum, of(Part::Down), None, None, inner, RESIDUAL - ACTIVATED - WEIGHT)?;
        self.elements(&mut sum, of(Part::Gain), masked)?;
        self.summand(&mut sum, of(Part::Bias), None)?;
        let sum = self.sum("feed-forward and residual", sum, load, (DOWN, RESIDUAL), None)?;
        let mean = self.mean("feed-forward", of(Part::Mean), masked, load)?;
        self.centred_norm("feed-forward", [sum, mean], &plan.output, NORM_INPUTS[1])
    }

    /// What is subtracted from each row of a residual.
    fn mean(
        &mut self,
        part: &str,
        matrix: (usize, Part),
        x: Multiplied,
        load: [u8; 32],
    ) -> Result<NodeId, Refusal> {
        let name = format!("{part} mean");
        let mut sum = Sum::default();
        self.rows(&mut sum, matrix, None, None, x, 0)?;
        let mean = self.sum(&name, sum, load, (FULL, NORMED + MEAN), None)?;
        self.drop(&name, mean, NORMED + MEAN - RESIDUAL)
    }

    /// The layer norm of rows minus their means, of `frac` fractional bits.
    fn centred_norm(
        &mut self,
        part: &str,
        [sum, mean]: [NodeId; 2],
        plan: &NormPlan,
        frac: u8,
    ) -> Result<NodeId, Refusal> {
        let centred = format!("{part} centred");
        let centred = self.push(&centred, Op::SubtractRow(SubtractRow), [sum, mean], plan.hidden)?;
        let dropped = self.drop(&format!("{part} residual"), centred, RESIDUAL - frac)?;
        self.norm(part, dropped, plan)
    }

    /// A wire with shares of its whole mask: the parties' own, unless bits of it were dropped.
    fn multiplied_whole(&mut self, part: &str, wire: NodeId) -> Result<Multiplied, Refusal> {
        let of = self.nodes.wire(wire);
        let pads = if of.mask == Mask::Dropped {
            Pads::dealt(Pad::whole(of.ring, of.ring))
        } else {
            Pads::own(of.ring, of.ring).map_err(|why| self.refused(part, &why))?
        };
        let pad = self.free(&format!("{part} mask"), Op::Pads(pads), [wire])?;
        Ok(Multiplied { wire, pad })
    }

    /// The columns of a group's heads.
    fn columns(&self, group: &Group) -> Result<Chosen, Refusal> {
        let width = self.config.head();
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for head in group.heads.iter().map(|head| *head as u32) {
            match ranges.last_mut() {
                Some(last) if last.end == head * width => last.end += width,
                _ => ranges.push(head * width..(head + 1) * width),
            }
        }
        Chosen::new(ranges).map_err(|why| self.refused("heads", &why))
    }

    /// Adds the product of a wire, shifted by `shift` bits, with chosen rows and columns of a matrix.
    fn rows(
        &self,
        sum: &mut Sum,
        matrix: (usize, Part),
        rows: Option<&Chosen>,
        cols: Option<&Chosen>,
        x: Multiplied,
        shift: u8,
    ) -> Result<(), Refusal> {
        let left = Left { ring: self.nodes.wire(x.wire).ring, shift };
        sum.wires.push(x);
        self.term(sum, matrix, [rows, cols], Factor::Rows(left))
    }

    /// Adds each element of a wire times a factor of its column.
    fn elements(&self, sum: &mut Sum, matrix: (usize, Part), x: Multiplied) -> Result<(), Refusal> {
        let left = Left { ring: self.nodes.wire(x.wire).ring, shift: 0 };
        sum.wires.push(x);
        self.term(sum, matrix, [None, None], Factor::Elements(left))
    }

    /// Adds chosen columns of a row.
    fn summand(&self, sum: &mut Sum, matrix: (usize, Part), cols: Option<&Chosen>) -> Result<(), Refusal> {
        self.term(sum, matrix, [None, cols], Factor::One)
    }

    fn term(
        &self,
        sum: &mut Sum,
        (layer, part): (usize, Part),
        [rows, cols]: [Option<&Chosen>; 2],
        factor: Factor,
    ) -> Result<(), Refusal> {
        let matrix = part.matrix(&self.config, layer)?;
        let or_all = |chosen: Option<&Chosen>, count| chosen.cloned().unwrap_or_else(|| Chosen::all(count));
        let rows = or_all(rows, matrix.shape.rows());
        let cols = or_all(cols, matrix.shape.cols());
        sum.terms.push(Term { matrix, rows, cols, factor });
        Ok(())
    }

    /// A sum, opened in a ring with fractional bits. Without a `bound` its elements count modulo the ring.
    fn sum(
        &mut self,
        name: &str,
        sum: Sum,
        load: [u8; 32],
        (to, frac): (Ring, u8),
        bound: Option<f64>,
    ) -> Result<NodeId, Refusal> {
        let Sum { wires, terms } = sum;
        let op = Private::new(load, terms, to, frac).map_err(|why| self.refused(name, &why))?;
        let wires_then_pads = wires.iter().map(|x| x.wire).chain(wires.iter().map(|x| x.pad));
        let takes: Vec<NodeId> = wires_then_pads.collect();
        match bound {
            Some(bound) => self.push(name, Op::Private(op), takes, bound),
            None => self.free(name, Op::Private(op), takes),
        }
    }
}
