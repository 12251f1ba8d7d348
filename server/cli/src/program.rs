//! A run of a whole program as a client. Each input is split into two random shares, and each party is sent its own.
//! The output shares are added.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use suf_control::{
    limits::ELEMENTS_PER_MESSAGE,
    shares,
    v1::{self, InputPart, LoadTerms, StartRunRequest, TensorHeader, input_part},
};
use suf_gate::{NodeId, Program, Ring};
use suf_wire::{Party, RunId};
use zeroize::Zeroizing;

use crate::{
    client::{Outcome, OutputShares, Parties, malformed, os_random, place},
    error::Error,
    loads::LoadDigest,
};

/// A tensor that a program takes, in units of its wire.
pub type Values = Zeroizing<Vec<i64>>;

/// What a program is run with, beside its inputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct With<'a> {
    /// Ends the run at the parties; none leaves that to their own limit.
    pub deadline: Option<Duration>,
    /// The load whose matrices the program takes.
    pub load: Option<&'a LoadDigest>,
    /// What the owner says of the model that the program loads.
    pub terms: Option<&'a LoadTerms>,
}

impl Parties {
    /// Runs `program` on `inputs`, in the order of its input nodes; the values of its outputs, in the order of their nodes. The parties
    /// keep their output shares until [`Parties::acknowledge`].
    ///
    /// # Errors
    /// When the run fails; the message names who is at fault. A run that fails here, or is interrupted, is ended at both parties.
    ///
    /// # Panics
    /// If there is not a tensor of the right size for each input.
    pub async fn run_program(
        &self,
        program: &Program,
        inputs: &[Values],
        with: With<'_>,
    ) -> Result<(Vec<Values>, Outcome), Error> {
        self.run_program_telling(program, inputs, with, |_, _| ()).await
    }

    /// The same; `told` hears of each state of the run at each party, while it waits for its turn and for its keys. The next input is
    /// asked for when the one before has been sent.
    ///
    /// # Errors
    /// As [`Parties::run_program`].
    ///
    /// # Panics
    /// As there.
    pub async fn run_program_telling(
        &self,
        program: &Program,
        inputs: impl IntoIterator<Item: AsRef<[i64]>>,
        with: With<'_>,
        told: impl Fn(Party, &v1::Run),
    ) -> Result<(Vec<Values>, Outcome), Error> {
        self.run_program_after(program, inputs, with, told, async |_| Ok(())).await
    }

    /// The same; the inputs are sent after `ready`, which is given the batch of keys when both parties have its first segment.
    pub(crate) async fn run_program_after(
        &self,
        program: &Program,
        inputs: impl IntoIterator<Item: AsRef<[i64]>>,
        with: With<'_>,
        told: impl Fn(Party, &v1::Run),
        ready: impl AsyncFnOnce(Bytes) -> Result<(), Error>,
    ) -> Result<(Vec<Values>, Outcome), Error> {
        let With { deadline, load, terms } = with;
        let run = RunId(os_random()?);
        let request = StartRunRequest {
            program: Bytes::copy_from_slice(program.encoded()),
            run_id: Bytes::copy_from_slice(&run.0),
            deadline_ms: deadline.map_or(0, |limit| u32::try_from(limit.as_millis()).unwrap_or(u32::MAX)),
            load: load.map_or_else(Bytes::new, |digest| Bytes::copy_from_slice(digest)),
            terms: terms.cloned(),
            ..StartRunRequest::default()
        };
        self.ending_at_both(run, async {
            self.start(request).await?;
            // Held until the end: a party gives up a run whose client has no call open.
            let (mut first, mut second) = tokio::try_join!(
                self.wait_for_keys(Party::P0, run, |now| told(Party::P0, now)),
                self.wait_for_keys(Party::P1, run, |now| told(Party::P1, now))
            )?;
            ready(first.batch_id.clone()).await?;
            let mut inputs = inputs.into_iter();
            for node in program.inputs() {
                let values = inputs.next().expect("a tensor for each input");
                let (ring, values) = (ring_of(program, node), values.as_ref());
                assert_eq!(program.node(node).shape().elems(), values.len() as u64, "a tensor of its size");
                let [first, second] = split(ring, values)?;
                tokio::try_join!(
                    self.submit_share(Party::P0, run, node, ring, first),
                    self.submit_share(Party::P1, run, node, ring, second)
                )?;
            }
            // Of a program without outputs, that is all there is to wait for.
            if program.outputs().next().is_none() {
                tokio::try_join!(first.done(), second.done())?;
            }
            let mut outputs = Vec::new();
            for node in program.outputs() {
                outputs.push(self.fetch_output(program, run, node).await?);
            }
            Ok((outputs, self.outcome(run).await?))
        })
        .await
    }

    async fn submit_share(
        &self,
        party: Party,
        run: RunId,
        node: NodeId,
        ring: Ring,
        share: Zeroizing<Vec<u64>>,
    ) -> Result<(), Error> {
        let elements = share.len() as u64;
        let header = TensorHeader { run_id: Bytes::copy_from_slice(&run.0), elements, node: node.0.into() };
        let messages = share.len().div_ceil(ELEMENTS_PER_MESSAGE);
        let share = Arc::new(share);
        let tiles = (0..messages).map(move |at| {
            let start = at * ELEMENTS_PER_MESSAGE;
            let end = share.len().min(start + ELEMENTS_PER_MESSAGE);
            input_part::Part::Shares(shares::pack(ring.bits(), &share[start..end]))
        });
        let parts = std::iter::once(input_part::Part::Header(header)).chain(tiles);
        let parts = parts.map(|part| InputPart { part: Some(part) });
        let reply = self.party(party).submit_input(tokio_stream::iter(parts)).await;
        let taken = reply.map_err(|status| Error::call(place(party), status))?.into_inner().elements;
        if taken == elements {
            Ok(())
        } else {
            Err(malformed(&format!("{taken} elements taken where {elements} were sent")))
        }
    }

    async fn fetch_output(&self, program: &Program, run: RunId, node: NodeId) -> Result<Values, Error> {
        let ring = ring_of(program, node);
        let elements = program.node(node).shape().elems();
        let open = |party| OutputShares::open(self.party(party), party, run, (node, ring), elements);
        let (mut first, mut second) = tokio::try_join!(open(Party::P0), open(Party::P1))?;
        let all = elements as usize;
        let (mine, theirs) = tokio::try_join!(first.next(all), second.next(all))?;
        tokio::try_join!(first.end(), second.end())?;
        let values = mine.iter().zip(&theirs).map(|(a, b)| ring.decode(ring.add(*a, *b)));
        Ok(Zeroizing::new(values.collect()))
    }
}

/// The ring of an input's wire, or of the wire that an output takes.
fn ring_of(program: &Program, node: NodeId) -> Ring {
    let node = program.node(node);
    let taken = || node.inputs().first().and_then(|input| program.node(*input).ring());
    // A program's outputs take wires: it was refused otherwise.
    node.ring().or_else(taken).unwrap_or(Ring::new(64))
}

/// Two shares of `values`, of which each alone is random.
fn split(ring: Ring, values: &[i64]) -> Result<[Zeroizing<Vec<u64>>; 2], Error> {
    let seed = Zeroizing::new(os_random::<32>()?);
    let mut bytes = Zeroizing::new(vec![0; 8 * values.len()]);
    blake3::Hasher::new_keyed(&seed).finalize_xof().fill(&mut bytes);
    let random = bytes.as_chunks().0.iter().map(|word| ring.reduce(u64::from_le_bytes(*word)));
    let mine: Zeroizing<Vec<u64>> = Zeroizing::new(random.collect());
    let theirs = values.iter().zip(mine.iter()).map(|(value, mine)| ring.sub(ring.encode(*value), *mine));
    let theirs = Zeroizing::new(theirs.collect());
    Ok([mine, theirs])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_differ_each_time() {
        for ring in [64, 48, 33].map(Ring::new) {
            let values = vec![0, -1, 1, 12345, -(1 << (ring.bits() - 1)), (1 << (ring.bits() - 2))];
            let [first, second] = split(ring, &values).expect("entropy");
            for ((a, b), value) in first.iter().zip(second.iter()).zip(&values) {
                assert_eq!(ring.decode(ring.add(*a, *b)), *value);
            }
            let [again, _] = split(ring, &values).expect("entropy");
            assert_ne!(first, again);
        }
    }
}
