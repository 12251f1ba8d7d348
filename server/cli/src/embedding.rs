//! Vectors of texts: which texts are evaluated together, and one run after another.

use std::{cell::Cell, time::Duration};

use suf_control::v1::{InfoRequest, Run, RunState};
use suf_gate::Protocol;
use suf_model::{
    Plan,
    bert::{
        CompileError, Compiled, Ends, Length, Quantised, TextBatch, batches, compile_private_with,
        compile_with, load_program,
    },
};
use suf_wire::Party;
use zeroize::Zeroizing;

use crate::{
    choose::Activation,
    client::{Outcome, Parties, place},
    error::Error,
    evaluation,
    loads::{LoadDigest, Search},
    model::{Model, counted},
    program::With,
};

/// A model, as its client has it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// What makes inputs of texts, and vectors of outputs.
    pub ends: Ends<'a>,
    /// Bounds of the values in it.
    pub plan: &'a Plan,
    /// Who knows the weights.
    pub weights: Weights<'a>,
}

/// Who knows a model's weights.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// Everybody: client, parties and dealer.
    Public(&'a Quantised),
    /// Their owner, who has loaded them at the parties.
    Private {
        /// Name or digest of the load; none: that of the client's folder, or the only one.
        load: Option<&'a str>,
    },
}

impl<'a> Source<'a> {
    /// A model whose weights everybody knows.
    #[must_use]
    pub fn public(model: &'a Model, plan: &'a Plan) -> Self {
        Self { ends: (&model.bert).into(), plan, weights: Weights::Public(&model.integers) }
    }

    /// The model's program of this length, with the activation under `protocol`.
    ///
    /// # Errors
    /// When a ring cannot hold a bound of the plan, or the program is too large.
    pub fn compile(&self, length: Length, protocol: Protocol) -> Result<Compiled, CompileError> {
        let Self { ends, plan, weights } = self;
        match weights {
            Weights::Public(integers) => compile_with(ends.config, integers, plan, length, protocol),
            Weights::Private { .. } => compile_private_with(ends.config, &plan.model, plan, length, protocol),
        }
    }

    /// The programs to choose from, one for each protocol of the activation; one at least.
    ///
    /// # Errors
    /// As for [`Self::compile`].
    pub fn programs(
        &self,
        length: Length,
        activation: Activation,
    ) -> Result<Vec<(Protocol, Compiled)>, Error> {
        let compiled = activation.candidates().into_iter().map(|protocol| {
            let compiled = self.compile(length, protocol).map_err(Error::usage)?;
            Ok((protocol, compiled))
        });
        compiled.collect()
    }
}

/// What is to be evaluated.
#[derive(Debug)]
pub struct Embedding<'a> {
    source: Source<'a>,
    texts: &'a [Vec<u32>],
    work: Vec<TextBatch>,
    programs: Vec<Programs>,
}

/// The programs of one length, one for each protocol of the activation that may be chosen.
type Programs = (Length, Vec<(Protocol, Compiled)>);

/// Who is told how far it is.
pub trait Watch {
    /// What is being done.
    fn doing(&self, what: &str);
    /// A line that stays.
    fn line(&self, line: &str);
    /// A run has ended well. `vectors` are those of its texts, by the texts' indices.
    fn done(&mut self, outcome: &Outcome, vectors: Vec<(usize, Vec<f32>)>);
}

impl<'a> Embedding<'a> {
    /// Evaluates those of `texts`, given by their tokens, whose indices are in `left`. At most `batch` of them go together, with
    /// the activation under `activation`.
    ///
    /// # Errors
    /// When the model's program cannot hold the bounds of its plan.
    ///
    /// # Panics
    /// When an index is none of a text's, or a text has more tokens than the model has positions.
    pub fn new(
        source: Source<'a>,
        texts: &'a [Vec<u32>],
        left: &[usize],
        padded: bool,
        batch: u32,
        activation: Activation,
    ) -> Result<Self, Error> {
        let tokens: Vec<_> = left.iter().map(|at| texts[*at].clone()).collect();
        let mut work = batches(&tokens, source.ends.config.positions, padded, batch);
        work.iter_mut().flat_map(|batch| &mut batch.texts).for_each(|at| *at = left[*at]);
        let mut programs: Vec<Programs> = Vec::new();
        for TextBatch { length, .. } in &work {
            if programs.iter().all(|(known, _)| known != length) {
                programs.push((*length, source.programs(*length, activation)?));
            }
        }
        Ok(Self { source, texts, work, programs })
    }

    /// The lengths of the programs that evaluate the texts.
    pub fn lengths(&self) -> impl Iterator<Item = Length> {
        self.programs.iter().map(|(length, _)| *length)
    }

    /// Checks that both parties have loaded the model, before anything secret moves. Of private weights, which load it is.
    async fn known_to(&self, parties: &Parties, watch: &impl Watch) -> Result<Option<LoadDigest>, Error> {
        let own = match self.source.weights {
            Weights::Public(integers) => integers.digest(),
            Weights::Private { load } => {
                let program = load_program(self.source.ends.config).map_err(Error::usage)?;
                let of_folder = &self.source.plan.model;
                let search = Search { program: program.digest(), of_folder, called: load };
                let (digest, note) = search.choose(&parties.loads().await?)?;
                note.iter().for_each(|note| watch.line(note));
                return Ok(Some(digest));
            }
        };
        for party in Party::BOTH {
            let info = parties.party(party).info(InfoRequest {}).await;
            let info = info.map_err(|status| Error::call(place(party), status))?.into_inner();
            if info.models.iter().any(|model| model.digest[..] == own[..]) {
                continue;
            }
            let others =
                info.models.iter().map(|model| format!("{} ({})", model.name, hex::encode(&model.digest)));
            let others: Vec<_> = others.collect();
            return Err(Error::usage(format!(
                "{} has not loaded the model {}; it has: {}. Name the same folder in [[models]] of its configuration",
                place(party),
                hex::encode(own),
                if others.is_empty() { "none".to_owned() } else { others.join(", ") }
            )));
        }
        Ok(None)
    }

    /// The program of a length. Where there is a choice, it is made by the links as party 0 has measured them so far. `watch` is told why
    /// when it is another one than `before`.
    async fn chosen(
        &self,
        length: Length,
        parties: &Parties,
        before: &mut Vec<(Length, Protocol)>,
        watch: &mut impl Watch,
    ) -> Result<&Compiled, Error> {
        let (_, compiled) =
            self.programs.iter().find(|(known, _)| *known == length).expect("compiled before");
        let [_, _, ..] = &compiled[..] else { return Ok(&compiled[0].1) };
        let candidates: Vec<_> =
            compiled.iter().map(|(protocol, compiled)| (*protocol, &*compiled.program)).collect();
        let chosen = evaluation::measured(parties).await?.choose_program(&candidates);
        let (protocol, why) = chosen.expect("there are candidates");
        if !before.contains(&(length, protocol)) {
            before.retain(|(other, _)| *other != length);
            before.push((length, protocol));
            let texts = counted(length.batch.into());
            watch.line(&format!("{texts} of {} tokens: {protocol} for the activation: {why}", length.tokens));
        }
        let program = compiled.iter().find(|(other, _)| *other == protocol);
        Ok(&program.expect("it is a candidate").1)
    }

    /// Evaluates the texts, and hands `watch` the vectors of each run: also if a later one fails. `deadline` is that of each run.
    ///
    /// # Errors
    /// When a party has not loaded the model, or a run fails.
    ///
    /// # Panics
    /// Never: a program of this model has one output.
    pub async fn evaluate(
        &self,
        parties: &Parties,
        deadline: Option<Duration>,
        watch: &mut impl Watch,
    ) -> Result<(), Error> {
        let load = self.known_to(parties, watch).await?;
        let mut chosen = Vec::new();
        for TextBatch { length, texts: indices } in &self.work {
            watch.doing(&format!("{} of {} tokens", counted(length.batch.into()), length.tokens));
            let compiled = self.chosen(*length, parties, &mut chosen, watch).await?;
            let ids: Vec<&[u32]> = indices.iter().map(|at| &self.texts[*at][..]).collect();
            let inputs: Vec<_> =
                compiled.inputs(self.source.ends, &ids).into_iter().map(Zeroizing::new).collect();
            let with = With { deadline, load: load.as_ref(), terms: None };
            let queued = Cell::new(false);
            let told = |party, run: &Run| {
                if run.state() == RunState::Queued {
                    let waits =
                        format!("{}: the run waits for its turn, at place {}", place(party), run.position);
                    // A line for the first place, and all of them on a terminal.
                    if !queued.replace(true) {
                        watch.line(&waits);
                    }
                    watch.doing(&waits);
                }
            };
            let run = parties.run_program_telling(&compiled.program, &inputs, with, told);
            let (outputs, outcome) = run.await?;
            let [output] = &outputs[..] else { unreachable!("a model's program has one output") };
            let made = compiled.vectors(self.source.ends, &ids, output);
            let made = made.into_iter().map(|row| row.into_iter().map(|x| x as f32).collect());
            watch.done(&outcome, indices.iter().copied().zip(made).collect());
            parties.acknowledge(outcome.run).await;
        }
        Ok(())
    }
}
