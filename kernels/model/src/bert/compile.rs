//! The programs of a BERT, with public and with private weights.

mod layers;
mod parts;
mod private;

use std::{collections::BTreeMap, sync::Arc};

use suf_gate::{
    NodeId, Program, ProgramError, Protocol,
    ops::{Op, Output, Weights},
};

use self::layers::Compiler;
pub(super) use self::layers::SCORE;
use super::{Config, Quantised};
use crate::{
    nodes::{About, Finished, Nodes, Refusal},
    plan::{Plan, PlanError},
    quantise::Integers,
};

/// Tokens of programs that hide a text's length: the text is padded to the next of them.
const BUCKETS: [u32; 6] = [16, 32, 64, 128, 256, MOST_TOKENS];

/// Most tokens of a program whose weights are a load's: daemons have what sums its rows.
pub const MOST_TOKENS: u32 = 512;

/// Tokens to which a text of `tokens` tokens is padded; none if it is longer than a model of `positions` positions takes.
#[must_use]
pub fn bucket(tokens: u32, positions: u32) -> Option<u32> {
    buckets(positions).find(|bucket| *bucket >= tokens)
}

/// Tokens of the programs that hide a text's length, of a model of `positions` positions.
pub fn buckets(positions: u32) -> impl Iterator<Item = u32> {
    BUCKETS.into_iter().filter(move |bucket| *bucket < positions).chain([positions])
}

/// The protocols of the activation: the first one ships fewer bytes of keys, the second takes fewer rounds.
pub const ACTIVATIONS: [Protocol; 2] = [Protocol::Onehot, Protocol::Dpf];

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

/// A model's program, and what the client has to know of it.
#[derive(Debug)]
pub struct Compiled {
    /// The program.
    pub program: Arc<Program>,
    /// Names and bounds of its nodes, in order.
    pub about: Vec<About>,
    /// The matrices that it names.
    pub weights: Vec<Arc<Weights>>,
    /// What each mask's input adds to the scores of padding, in whole bits; in the order of these inputs.
    pub masks: Vec<i16>,
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
    /// A limit of programs.
    #[error("{0}: take fewer tokens or a smaller batch")]
    Program(#[from] ProgramError),
}

/// The program of the model with these `integers` within the bounds of `plan`.
///
/// # Errors
/// When the plan is another model's, a ring cannot hold a bound, or the program is too large.
pub fn compile(
    config: &Config,
    integers: &Quantised,
    plan: &Plan,
    length: Length,
) -> Result<Compiled, CompileError> {
    compile_with(config, integers, plan, length, Protocol::Onehot)
}

/// As [`compile`], with the activation under `activation`, one of [`ACTIVATIONS`].
///
/// # Errors
/// As for [`compile`], and when that protocol takes no values as large as the plan's bounds.
pub fn compile_with(
    config: &Config,
    integers: &Quantised,
    plan: &Plan,
    length: Length,
    activation: Protocol,
) -> Result<Compiled, CompileError> {
    let of_model = Nodes::sharing(&integers.shared);
    let mut compiler = Compiler::new(config, plan, integers.digest(), length, of_model)?;
    compiler.activation = activation;
    let x = compiler.program(integers, plan)?;
    compiler.finish(x)
}

/// The program of a model with these sizes whose weights are a load's: see [`super::load_program`]. Its bounds are those of `plan`
/// alone, so whoever has the model's public part makes the same program. `model` is the name that the plan has for the model.
///
/// # Errors
/// As for [`compile`].
pub fn compile_private(
    config: &Config,
    model: &[u8; 32],
    plan: &Plan,
    length: Length,
) -> Result<Compiled, CompileError> {
    compile_private_with(config, model, plan, length, Protocol::Onehot)
}

/// As [`compile_private`], with the activation under `activation`, one of [`ACTIVATIONS`].
///
/// # Errors
/// As for [`compile_with`].
pub fn compile_private_with(
    config: &Config,
    model: &[u8; 32],
    plan: &Plan,
    length: Length,
    activation: Protocol,
) -> Result<Compiled, CompileError> {
    let mut compiler = Compiler::new(config, plan, model, length, Nodes::default())?;
    compiler.activation = activation;
    let x = compiler.private_program(plan)?;
    compiler.finish(x)
}

impl Compiler {
    /// No node yet of the program of `model`.
    fn new(
        config: &Config,
        plan: &Plan,
        model: &[u8; 32],
        length: Length,
        nodes: Nodes,
    ) -> Result<Self, CompileError> {
        plan.suits(model, config.layers as usize, config.heads as usize)?;
        if !(1..=config.positions).contains(&length.tokens) {
            return Err(CompileError::Tokens { tokens: length.tokens, most: config.positions });
        }
        let activation = Protocol::Onehot;
        Ok(Self { config: *config, length, activation, nodes, masks: Vec::new(), layer: None })
    }

    /// The program that gives `x` to the client.
    fn finish(self, x: NodeId) -> Result<Compiled, CompileError> {
        let Self { mut nodes, masks, length, .. } = self;
        nodes.push_free("output", Op::Output(Output), [x])?;
        let Finished { program, about, weights } = nodes.finish()?;
        Ok(Compiled { program: Arc::new(program), about, weights, masks, length })
    }
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
    for weights in row_sums(config.positions)? {
        found.insert(*weights.digest(), weights);
    }
    Ok(found.into_values().collect())
}

/// The matrices that programs of a model with private weights may name, of `most` tokens at most: those that sum the elements of a
/// row.
///
/// # Errors
/// When a limit is exceeded.
pub fn row_sums(most: u32) -> Result<Vec<Arc<Weights>>, CompileError> {
    let of = |tokens| {
        let Integers { rows, cols, values, bias } = ones(tokens);
        Ok(Arc::new(Weights::new(rows as u32, cols as u32, values, bias).map_err(Refusal)?))
    };
    (1..=most).map(of).collect()
}

/// What sums a row of so many elements.
fn ones(tokens: u32) -> Integers {
    Integers { rows: tokens as usize, cols: 1, values: vec![1; tokens as usize], bias: Vec::new() }
}
