//! A model's owner loads its private weights at both parties: a run of the load program, whose inputs are the matrices.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use suf_control::v1::{Fault, LoadTerms};
use suf_gate::Program;
use suf_model::{
    Plan,
    bert::{ACTIVATIONS, CompileError, Config, Length, buckets, compile_private_with, load_program},
};
use zeroize::Zeroizing;

use crate::{
    client::{Outcome, Parties, os_random},
    error::Error,
    loads::LoadDigest,
    model::Model,
    program::{Values, With},
};

/// Most texts that `suf embed` evaluates together.
pub const MOST_TEXTS: u32 = 256;

/// Most programs that a party keeps the digests of for one load.
const MOST_PROGRAMS: usize = 4096;

/// Most certificates of clients that it keeps for one load.
const MOST_CLIENTS: usize = 256;

/// Most characters of a model's name.
const MOST_NAME: usize = 64;

/// A load that was not begun yet.
#[derive(Debug)]
pub struct Loading<'a> {
    model: &'a Model,
    program: Arc<Program>,
    digest: LoadDigest,
    terms: LoadTerms,
}

/// A load that both parties have.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it is called in requests.
    pub digest: LoadDigest,
    /// Bytes that each party sent to the other.
    pub load_bytes: u64,
    /// From the start of the run to its end, in milliseconds.
    pub load_ms: f64,
    /// The run.
    pub outcome: Outcome,
}

impl<'a> Loading<'a> {
    /// Loads `model` as `name`. Clients may run its programs of `lengths` within the bounds of `plan`, and no other. They are those
    /// whose certificates have these SHA-256, or all if there is none.
    ///
    /// # Errors
    /// When a name, a program or a number is beyond what parties take.
    pub fn new(
        model: &'a Model,
        plan: &Plan,
        name: &str,
        lengths: &[Length],
        clients: &[[u8; 32]],
    ) -> Result<Self, Error> {
        let characters = name.chars().count();
        if !(1..=MOST_NAME).contains(&characters) {
            return Err(Error::usage(format!(
                "the name of a model has 1 to {MOST_NAME} characters, not {characters}: give another one with --name"
            )));
        }
        if clients.len() > MOST_CLIENTS {
            return Err(Error::usage(format!(
                "{} certificates of clients are named, and a load has {MOST_CLIENTS} at most; without any, every client may use it",
                clients.len()
            )));
        }
        let program = load_program(&model.bert.config).map_err(Error::usage)?;
        let programs = programs(&model.bert.config, plan, lengths)?;
        let digest = salted(model.integers.digest())?;
        let bytes =
            |digests: &[[u8; 32]]| digests.iter().map(|digest| Bytes::copy_from_slice(digest)).collect();
        let terms = LoadTerms {
            name: name.to_owned(),
            digest: Bytes::copy_from_slice(&digest),
            programs: bytes(&programs),
            clients: bytes(clients),
        };
        Ok(Self { model, program, digest, terms })
    }

    /// What the load will be called in requests.
    #[must_use]
    pub fn digest(&self) -> &LoadDigest {
        &self.digest
    }

    /// The load program.
    #[must_use]
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// How many programs clients may run.
    #[must_use]
    pub fn programs(&self) -> usize {
        self.terms.programs.len()
    }

    /// How many matrices there are.
    #[must_use]
    pub fn matrices(&self) -> u64 {
        self.program.inputs().count() as u64
    }

    /// Shares the matrices with both parties, who open them under masks and keep them. `step` is called before each.
    ///
    /// # Errors
    /// When the run fails; the message names who is at fault. What was loaded of it is wiped then.
    pub async fn load(&self, parties: &Parties, step: impl Fn()) -> Result<Loaded, Error> {
        let begin = Instant::now();
        let matrices = self.model.integers.matrices().inspect(|_| step()).map(Values::new);
        let with = With { terms: Some(&self.terms), ..With::default() };
        let run = parties.run_program_telling(&self.program, matrices, with, |_, _| ());
        let (_, outcome) = run.await?;
        let load_ms = begin.elapsed().as_secs_f64() * 1e3;
        Ok(Loaded { digest: self.digest, load_bytes: self.sent(&outcome)?, load_ms, outcome })
    }

    /// What each party sent, as both measured it.
    fn sent(&self, outcome: &Outcome) -> Result<u64, Error> {
        let declared: u64 = self.program.inputs().map(|input| self.program.node(input).message_bits()).sum();
        let measured = outcome.figures.each_ref().map(|figures| {
            let opened: u64 = figures.nodes.iter().map(|node| node.bits_sent).sum();
            (opened, &figures.transcript)
        });
        let [first, second] = &measured;
        if first != second || first.0 != declared {
            return Err(Error::here(
                Fault::Bug,
                format!(
                    "loading took {} and {} bits of messages, declared are {declared}, or the parties saw different messages",
                    first.0, second.0
                ),
            ));
        }
        Ok(declared.div_ceil(8))
    }
}

/// The lengths of programs that clients of a load will ask for. These are all buckets, and exact ones of `tokens` tokens. Each is for
/// 1 text, 2, 4, and so on.
#[must_use]
pub fn lengths(config: &Config, tokens: &[u32]) -> Vec<Length> {
    let padded = buckets(config.positions).map(|tokens| (tokens, true));
    let exact = tokens.iter().map(|tokens| (*tokens, false));
    let batches = (0..=MOST_TEXTS.ilog2()).map(|bits| 1 << bits);
    padded
        .chain(exact)
        .flat_map(|(tokens, padded)| batches.clone().map(move |batch| Length { tokens, batch, padded }))
        .collect()
}

/// Digests of the programs of these lengths, under each protocol of the activation. Left out are those of many texts that no program
/// can hold, and the second protocol where it does not take the plan's bounds.
fn programs(config: &Config, plan: &Plan, lengths: &[Length]) -> Result<Vec<[u8; 32]>, Error> {
    let mut digests = Vec::new();
    for length in lengths {
        for (at, protocol) in ACTIVATIONS.into_iter().enumerate() {
            match compile_private_with(config, &plan.model, plan, *length, protocol) {
                Ok(compiled) => digests.push(*compiled.program.digest()),
                Err(CompileError::Range(_) | CompileError::Program(_)) if length.batch > 1 || at > 0 => {}
                Err(error) => return Err(Error::usage(error)),
            }
        }
    }
    if digests.len() > MOST_PROGRAMS {
        return Err(Error::usage(format!(
            "{} programs are named, and a load has {MOST_PROGRAMS} at most: name fewer lengths with --tokens",
            digests.len()
        )));
    }
    Ok(digests)
}

/// A digest of the weights that nobody can confirm a guess by: the salt is forgotten.
fn salted(weights: &[u8; 32]) -> Result<LoadDigest, Error> {
    let salt = Zeroizing::new(os_random::<32>()?);
    let mut hasher = blake3::Hasher::new_derive_key("suf/v1/load");
    hasher.update(&salt[..]);
    hasher.update(weights);
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_loads_of_one_model_have_different_digests() {
        assert_ne!(salted(&[1; 32]).expect("entropy"), salted(&[1; 32]).expect("entropy"));
    }

    #[test]
    fn clients_may_run_all_buckets_and_the_exact_lengths_that_were_named() {
        let config = Config {
            hidden: 8,
            inner: 16,
            heads: 2,
            layers: 1,
            positions: 40,
            vocabulary: 9,
            types: 1,
            epsilon: 1e-12,
        };
        let found = lengths(&config, &[7]);
        let singles: Vec<_> = found
            .iter()
            .filter(|length| length.batch == 1)
            .map(|length| (length.tokens, length.padded))
            .collect();
        assert_eq!(singles, [(16, true), (32, true), (40, true), (7, false)]);
        assert_eq!(found.iter().map(|length| length.batch).max(), Some(MOST_TEXTS));
        assert_eq!(found.len(), 4 * 9);
    }
}
