//! Vectors of texts: which texts are evaluated together, and one run after another.

use std::{cell::Cell, time::Duration};

use suf_control::v1::{InfoRequest, Run, RunState};
use suf_gate::Protocol;
use suf_model::{
    Plan,
    bert::{Compiled, Length, TextBatch, batches, compile_with},
};
use suf_wire::Party;
use zeroize::Zeroizing;

use crate::{
    choose::Activation,
    client::{Outcome, Parties, place},
    error::Error,
    evaluation,
    model::{Model, counted},
};

/// What is to be evaluated.
#[derive(Debug)]
pub struct Embedding<'a> {
    model: &'a Model,
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
    /// When the model's program cannot hold the bounds of `plan`.
    ///
    /// # Panics
    /// When an index is none of a text's, or a text has more tokens than the model has positions.
    pub fn new(
        model: &'a Model,
        plan: &Plan,
        texts: &'a [Vec<u32>],
        left: &[usize],
        padded: bool,
        batch: u32,
        activation: Activation,
    ) -> Result<Self, Error> {
        let tokens: Vec<_> = left.iter().map(|at| texts[*at].clone()).collect();
        let mut work = batches(&tokens, model.bert.config.positions, padded, batch);
        work.iter_mut().flat_map(|batch| &mut batch.texts).for_each(|at| *at = left[*at]);
        let mut programs: Vec<Programs> = Vec::new();
        for TextBatch { length, .. } in &work {
            if programs.iter().all(|(known, _)| known != length) {
                let compiled = activation.candidates().into_iter().map(|protocol| {
                    compile_with(&model.bert.config, &model.integers, plan, *length, protocol)
                        .map(|compiled| (protocol, compiled))
                        .map_err(Error::usage)
                });
                programs.push((*length, compiled.collect::<Result<_, _>>()?));
            }
        }
        Ok(Self { model, texts, work, programs })
    }

    /// Checks that both parties have loaded the model, before anything secret moves.
    async fn known_to(&self, parties: &Parties) -> Result<(), Error> {
        let own = self.model.integers.digest();
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
        Ok(())
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
        self.known_to(parties).await?;
        let mut chosen = Vec::new();
        for TextBatch { length, texts: indices } in &self.work {
            watch.doing(&format!("{} of {} tokens", counted(length.batch.into()), length.tokens));
            let compiled = self.chosen(*length, parties, &mut chosen, watch).await?;
            let ids: Vec<&[u32]> = indices.iter().map(|at| &self.texts[*at][..]).collect();
            let inputs: Vec<_> =
                compiled.inputs(&self.model.bert, &ids).into_iter().map(Zeroizing::new).collect();
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
            let run = parties.run_program_telling(&compiled.program, &inputs, deadline, told);
            let (outputs, outcome) = run.await?;
            let [output] = &outputs[..] else { unreachable!("a model's program has one output") };
            let made = compiled.vectors(&self.model.bert, &ids, output);
            let made = made.into_iter().map(|row| row.into_iter().map(|x| x as f32).collect());
            watch.done(&outcome, indices.iter().copied().zip(made).collect());
            parties.acknowledge(outcome.run).await;
        }
        Ok(())
    }
}
