//! Two parties and a dealer in one process, through the backend's trait alone.

use std::sync::Arc;

use bytes::Bytes;
use suf_cpu::{CpuBackend, simd::Level};
use suf_gate::{
    Backend, DealJob, EvalJob, Gate, Input, Party, SecretBytes, Seed,
    layout::{R_IN, R_OUT, chunk_count, chunk_elems},
    ring::WIRE,
};

/// A batch's identity and seeds.
pub(crate) struct Batch {
    pub(crate) gate: Arc<Gate>,
    pub(crate) id: [u8; 16],
    pub(crate) party_seeds: [Seed; 2],
    pub(crate) dealer_seed: Seed,
}

impl Batch {
    /// Fixed seeds that differ with `salt`.
    pub(crate) fn new(gate: &Gate, salt: u8) -> Self {
        let seed = |who: u8| Seed::new(*blake3::hash(&[who, salt]).as_bytes());
        Self {
            gate: Arc::new(gate.clone()),
            id: [salt; 16],
            party_seeds: [seed(0), seed(1)],
            dealer_seed: seed(2),
        }
    }

    pub(crate) fn deal(&self, backend: &dyn Backend, chunk: u32, elems: usize) -> [SecretBytes; 2] {
        let job = DealJob {
            gate: &self.gate,
            batch: self.id,
            chunk,
            elems,
            party_seeds: &self.party_seeds,
            dealer_seed: &self.dealer_seed,
        };
        backend.deal(&job).expect("the processor deals")
    }

    pub(crate) fn job(&self, party: Party, chunk: u32, elems: usize) -> EvalJob {
        let seed = self.party_seeds[party.index()].clone();
        EvalJob { gate: self.gate.clone(), batch: self.id, chunk, elems, party, seed }
    }

    /// Both parties' shares of a wire mask, added.
    pub(crate) fn mask(
        &self,
        backend: &dyn Backend,
        field: suf_gate::layout::FieldId,
        chunk: u32,
        elems: usize,
    ) -> Vec<u64> {
        let [a, b] = [Party::P0, Party::P1]
            .map(|party| backend.wire_mask(&self.job(party, chunk, elems), field).expect("a mask"));
        a.iter().zip(&b).map(|(a, b)| WIRE.add(*a, *b)).collect()
    }
}

/// What happened in one chunk.
pub(crate) struct Transcript {
    /// Party by party, the messages of all exchanges.
    pub(crate) messages: [Vec<Vec<u8>>; 2],
    /// The outputs in the clear.
    pub(crate) outputs: Vec<i64>,
}

/// Evaluates one chunk on inputs in the clear; `levels` are those of party 0, party 1 and the dealer.
pub(crate) fn run_chunk(batch: &Batch, levels: [Level; 3], chunk: u32, inputs: &[i64]) -> Transcript {
    let [backends_0, backends_1, dealer] = levels.map(CpuBackend::at);
    let backends = [backends_0, backends_1];
    let elems = inputs.len();
    let keys = batch.deal(&dealer, chunk, elems);
    let r_in = batch.mask(&dealer, R_IN, chunk, elems);
    let r_out = batch.mask(&dealer, R_OUT, chunk, elems);

    let input = |party: Party| {
        let encoded = inputs.iter().map(|x| WIRE.encode(*x));
        if batch.gate.takes_shares() {
            // Any two summands will do.
            let noise = |i: usize| (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
            Input::Shares(match party {
                Party::P0 => (0..elems).map(noise).collect(),
                Party::P1 => encoded.enumerate().map(|(i, x)| WIRE.sub(x, noise(i))).collect(),
            })
        } else {
            Input::Wire(encoded.zip(&r_in).map(|(x, r)| WIRE.add(x, *r)).collect())
        }
    };
    let mut keys = keys.into_iter();
    let mut evals = [Party::P0, Party::P1].map(|party| {
        let key = keys.next().expect("a key for each party");
        let job = batch.job(party, chunk, elems);
        let staged = backends[party.index()].stage(&job, key.into()).expect("the key fits");
        staged.begin(input(party)).expect("the input fits")
    });

    let mut messages = [Vec::new(), Vec::new()];
    let mut last = [Bytes::new(), Bytes::new()];
    for step in 0..batch.gate.exchanges().len() {
        let sent = [0, 1].map(|i| evals[i].step(step, &last[1 - i]).expect("a step"));
        for (i, message) in sent.iter().enumerate() {
            assert_eq!(message.len(), batch.gate.message_bytes(step, elems), "exchange {step}");
            messages[i].push(message.to_vec());
        }
        last = sent;
    }
    let y_hat = [0, 1].map(|i| evals[i].finish(&last[1 - i]).expect("an output"));
    assert_eq!(y_hat[0], y_hat[1], "both parties open the same output");
    let outputs = y_hat[0].iter().zip(&r_out).map(|(y, r)| batch.gate.output(*y, WIRE.sub(0, *r))).collect();
    Transcript { messages, outputs }
}

/// Evaluates a batch of any size at the fastest level; the outputs in the clear.
pub(crate) fn run(gate: &Gate, salt: u8, inputs: &[i64]) -> Vec<i64> {
    let batch = Batch::new(gate, salt);
    let elems = inputs.len() as u64;
    let mut outputs = Vec::with_capacity(inputs.len());
    for chunk in 0..chunk_count(elems) {
        let rest = &inputs[outputs.len()..];
        let inputs = &rest[..chunk_elems(elems, chunk)];
        outputs.extend(run_chunk(&batch, [Level::best(); 3], chunk, inputs).outputs);
    }
    outputs
}

/// Chi-square test of the bytes against the uniform distribution.
pub(crate) fn assert_uniform(bytes: &[u8], what: &str) {
    let mut counts = [0u64; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let expected = bytes.len() as f64 / 256.0;
    let chi: f64 = counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    // 255 degrees of freedom, standard deviation 22.6: six of them on either side.
    assert!((120.0..390.0).contains(&chi), "{what}: {chi}");
}
