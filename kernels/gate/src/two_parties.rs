//! A dealer and two parties in one thread: what tests, vectors and benchmarks of kernels run programs with. No link, no
//! clock, no ledger; messages go from one evaluation to the other in memory.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::{
    Backend, BackendError, DealJob, EvalJob, HostValue, KeyBytes, Part, PartEval, Party, Program,
    SecretBytes, Seed, Value,
    load::{Dealt, Kept, LoadId},
    ops::MaskCache,
};

/// One batch of a program, with all that its dealer knows.
#[derive(Clone, Debug)]
pub struct TwoParties {
    program: Arc<Program>,
    batch: [u8; 16],
    party_seeds: [Seed; 2],
    dealer_seed: Seed,
    masks: Arc<MaskCache>,
    load: Option<Loaded>,
}

/// A load, at the dealer and at both parties.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The dealer's.
    pub dealt: Arc<Dealt>,
    /// Each party's.
    pub kept: [Arc<Kept>; 2],
}

/// What both parties had in the end, each array by party.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The keys of each part.
    pub keys: BTreeMap<Part, [KeyBytes; 2]>,
    /// The messages of each exchange.
    pub messages: BTreeMap<(Part, usize), [Bytes; 2]>,
    /// What each part made.
    pub values: BTreeMap<Part, [Vec<u64>; 2]>,
}

impl TwoParties {
    /// The batch `batch` of `program` under three seeds: party 0's, party 1's, the dealer's. Keys that anybody relies on come
    /// from the dealer's process, whose seeds are the operating system's entropy.
    #[must_use]
    pub fn new(program: Arc<Program>, batch: [u8; 16], seeds: [Seed; 3]) -> Self {
        let [first, second, dealer_seed] = seeds;
        Self { program, batch, party_seeds: [first, second], dealer_seed, masks: Arc::default(), load: None }
    }

    /// The same for a program that takes the matrices of `load`.
    #[must_use]
    pub fn with_load(self, load: Loaded) -> Self {
        Self { load: Some(load), ..self }
    }

    /// What is kept after a load program was run with this batch.
    ///
    /// # Panics
    /// When `transcript` is not of that run.
    #[must_use]
    pub fn loaded(&self, transcript: &Transcript) -> Loaded {
        let load = || LoadId { program: Arc::clone(&self.program), batch: self.batch };
        let kept = Party::BOTH.map(|party| {
            let tiles = |id| (0..self.program.node(id).tiles()).map(move |tile| Part::new(id, tile));
            let values = |id| tiles(id).map(|part| transcript.values[&part][party.index()].clone()).collect();
            let matrices = self.program.results().map(|id| (id, values(id))).collect();
            Arc::new(Kept::new(load(), self.party_seeds[party.index()].clone(), matrices))
        });
        Loaded { dealt: Arc::new(Dealt::new(load(), self.party_seeds.clone())), kept }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// What the dealer does for `part`.
    #[must_use]
    pub fn deal_job(&self, part: Part) -> DealJob<'_> {
        DealJob {
            program: &self.program,
            batch: self.batch,
            part,
            party_seeds: &self.party_seeds,
            dealer_seed: &self.dealer_seed,
            masks: &self.masks,
            load: self.load.as_ref().map(|load| &*load.dealt),
        }
    }

    /// What `party` does for `part`.
    #[must_use]
    pub fn eval_job(&self, party: Party, part: Part) -> EvalJob {
        let seed = self.party_seeds[party.index()].clone();
        let load = self.load.as_ref().map(|load| Arc::clone(&load.kept[party.index()]));
        EvalJob { program: Arc::clone(&self.program), batch: self.batch, part, party, seed, load }
    }

    /// Both parties' keys of `part`; empty where the node has none.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn deal(&self, backend: &dyn Backend, part: Part) -> Result<[KeyBytes; 2], BackendError> {
        if self.program.node(part.node).is_keyed() {
            return Ok(backend.deal(&self.deal_job(part))?.map(KeyBytes::from));
        }
        Ok([(); 2].map(|()| SecretBytes::default().into()))
    }

    /// Takes both parties to the start of `part`.
    ///
    /// # Errors
    /// When a backend fails.
    pub fn begin(
        &self,
        backends: [&dyn Backend; 2],
        part: Part,
        keys: [KeyBytes; 2],
        inputs: [Vec<Arc<dyn Value>>; 2],
    ) -> Result<PartRun, BackendError> {
        let begin = |party: Party, key, inputs| {
            backends[party.index()].stage(&self.eval_job(party, part), key)?.begin(inputs)
        };
        let ([key_0, key_1], [inputs_0, inputs_1]) = (keys, inputs);
        let evals = [begin(Party::P0, key_0, inputs_0)?, begin(Party::P1, key_1, inputs_1)?];
        Ok(PartRun { evals, step: 0, sent: Default::default(), received: Default::default() })
    }

    /// Runs the whole program: `dealer` makes the keys, `parties` evaluate. `inputs` has, for each node `input`, both parties'
    /// shares of the tensor.
    ///
    /// # Errors
    /// When a backend fails.
    ///
    /// # Panics
    /// If there are not as many shares as the inputs have elements.
    pub fn run(
        &self,
        dealer: &dyn Backend,
        parties: [&dyn Backend; 2],
        inputs: &[[Vec<u64>; 2]],
    ) -> Result<Transcript, BackendError> {
        let mut transcript = Transcript::default();
        let mut shares: BTreeMap<_, _> = self.program.inputs().zip(inputs).collect();
        assert_eq!(shares.len(), self.program.inputs().count(), "shares for each input");
        let mut offsets = BTreeMap::new();
        for part in self.program.parts() {
            let node = self.program.node(part.node);
            let keys = self.deal(dealer, part)?;
            transcript.keys.insert(part, keys.clone());
            let taken: [Vec<Arc<dyn Value>>; 2] = std::array::from_fn(|party| {
                if let Some(shares) = shares.get_mut(&part.node) {
                    let start = *offsets.get(&part.node).unwrap_or(&0);
                    let tile = shares[party][start..][..self.program.elems(part)].to_vec();
                    return vec![HostValue::shared(tile)];
                }
                let taken = self.program.taken(part).flat_map(|taken| taken.parts());
                taken.map(|tile| HostValue::shared(transcript.values[&tile][party].clone())).collect()
            });
            *offsets.entry(part.node).or_default() += self.program.elems(part);
            let mut run = self.begin(parties, part, keys, taken)?;
            for step in 0..node.exchanges() {
                transcript.messages.insert((part, step), run.exchange()?);
            }
            transcript.values.insert(part, run.finish()?);
        }
        Ok(transcript)
    }
}

/// Both parties in the middle of a part.
pub struct PartRun {
    evals: [Box<dyn PartEval>; 2],
    step: usize,
    sent: [Bytes; 2],
    received: [Bytes; 2],
}

impl PartRun {
    /// Has `party` make its message of the exchange that is due.
    ///
    /// # Errors
    /// When its backend fails.
    pub fn send(&mut self, party: Party) -> Result<(), BackendError> {
        let received = &self.received[party.index()];
        self.sent[party.index()] = self.evals[party.index()].step(self.step, received)?;
        Ok(())
    }

    /// Gives each party the other's message.
    pub fn deliver(&mut self) {
        let [mine, theirs] = std::mem::take(&mut self.sent);
        self.received = [theirs, mine];
        self.step += 1;
    }

    /// A whole exchange; returns the message of each party.
    ///
    /// # Errors
    /// When a backend fails.
    pub fn exchange(&mut self) -> Result<[Bytes; 2], BackendError> {
        self.send(Party::P0)?;
        self.send(Party::P1)?;
        let sent = self.sent.clone();
        self.deliver();
        Ok(sent)
    }

    /// Has `party` end the part.
    ///
    /// # Errors
    /// When its backend fails.
    pub fn finish_one(&mut self, party: Party) -> Result<Arc<dyn Value>, BackendError> {
        self.evals[party.index()].finish(&self.received[party.index()])
    }

    /// Ends the part; returns what it made at each party.
    ///
    /// # Errors
    /// When a backend fails.
    pub fn finish(mut self) -> Result<[Vec<u64>; 2], BackendError> {
        Ok([self.finish_one(Party::P0)?.words()?, self.finish_one(Party::P1)?.words()?])
    }
}

impl std::fmt::Debug for PartRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PartRun(exchange {})", self.step)
    }
}

impl Transcript {
    /// The values of all tiles of a node, one after another, at each party.
    #[must_use]
    pub fn value(&self, program: &Program, node: crate::NodeId) -> [Vec<u64>; 2] {
        let tiles = (0..program.node(node).tiles()).map(|tile| &self.values[&Part { node, tile }]);
        tiles.fold(Default::default(), |[mut first, mut second]: [Vec<u64>; 2], [tile_0, tile_1]| {
            first.extend(tile_0);
            second.extend(tile_1);
            [first, second]
        })
    }
}
