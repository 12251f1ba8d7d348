//! A party's side of a row exponent.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{BETA, COUNT_CW, NODE_CW, PRECISION, ROOT, RowExponent, SUM_MASK, powers::Powers, words};
use crate::{
    BackendError, EvalJob, HostValue, KeyBytes, PartEval, Party, Ring, Span, StagedPart, Value,
    dcf::{self, Keys, Payload, Point, TreeHash},
    ops::{
        Op,
        fields::{FieldBytes, field_bytes},
        host::EvalHost,
    },
    packing,
    rotation::{self, FRACTION, mantissa, mersenne::Number},
};

/// The mantissas of all fractions.
static MANTISSAS: LazyLock<Vec<u16>> = LazyLock::new(|| mantissa::table(PRECISION, FRACTION));

/// A tile at one party.
pub(in crate::ops) fn stage(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let Op::RowExponent(op) = job.node().op() else { unreachable!("asked of row exponents alone") };
    let field = |id| field_bytes(job, key, host, id);
    Ok(Box::new(Evaluation {
        op: op.clone(),
        hash: host.loops().tree_hash(&job.domain().fixed_keys()),
        beta: field(BETA)?,
        sum_mask: field(SUM_MASK)?,
        root: field(ROOT)?,
        node_words: field(NODE_CW)?,
        count_words: field(COUNT_CW)?,
        mask: host.mask(job.part)?,
        state: State::Waiting,
        job: job.clone(),
    }))
}

struct Evaluation {
    op: RowExponent,
    job: EvalJob,
    hash: Box<dyn TreeHash + Send>,
    beta: FieldBytes,
    sum_mask: FieldBytes,
    root: FieldBytes,
    node_words: FieldBytes,
    count_words: FieldBytes,
    /// This party's share of the mask of k / 2.
    mask: Zeroizing<Vec<u64>>,
    state: State,
}

/// What this party has, by the exchange that is due.
enum State {
    Waiting,
    /// x_hat of the scores.
    Scores(Vec<u64>),
    /// Its shares of the sums under their masks, L words for each row.
    Sums(Zeroizing<Vec<u64>>),
    /// Its shares of k / 2 under its mask.
    Exponents(Vec<u64>),
    Done,
}

const OUT_OF_TURN: BackendError =
    BackendError::Misuse("a message out of turn or of another length than the exponent's");

impl StagedPart for Evaluation {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        self.state = State::Scores(self.job.only_input(inputs)?);
        Ok(self)
    }
}

impl PartEval for Evaluation {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        let bits = self.op.scores.sum_bits();
        match (step, std::mem::replace(&mut self.state, State::Done)) {
            (0, State::Scores(scores)) if incoming.is_empty() => {
                let sums = words!(bits => L, self.sums::<L>(&scores));
                let message = columns(&sums, bits / 64);
                self.state = State::Sums(sums);
                Ok(message.into())
            }
            (1, State::Sums(mut sums)) if incoming.len() == 8 * sums.len() => {
                words!(bits => L, open_sums::<L>(&mut sums, incoming));
                // Opened, they are no secret any more.
                let sums = std::mem::take(&mut *sums);
                let shares = match self.op.scores.count_bytes() {
                    1 => self.exponents::<u8>(sums),
                    _ => self.exponents::<u16>(sums),
                };
                let message = packing::pack(self.op.to(), &shares);
                self.state = State::Exponents(shares);
                Ok(message.into())
            }
            (_, state) => {
                self.state = state;
                Err(OUT_OF_TURN)
            }
        }
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        let ring = self.op.to();
        match std::mem::replace(&mut self.state, State::Done) {
            State::Exponents(mut opened) if incoming.len() == packing::packed_bytes(ring, opened.len()) => {
                packing::add_packed(ring, incoming, &mut opened);
                Ok(HostValue::shared(opened))
            }
            state => {
                self.state = state;
                Err(OUT_OF_TURN)
            }
        }
    }

    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    fn is_prompt(&self) -> bool {
        false
    }
}

impl Evaluation {
    /// This party's shares of the sums of rows under their masks.
    fn sums<const L: usize>(&self, scores: &[u64]) -> Zeroizing<Vec<u64>> {
        let wire = self.job.program.node(self.job.node().inputs()[0]).wire().expect("it was checked");
        let (cols, drop) = (wire.shape.cols() as usize, RowExponent::dropped(wire.frac));
        let rotation = self.op.rotation();
        let width = Number::<u64, L>::BYTES;
        let mut sums = Zeroizing::new(Vec::with_capacity(scores.len() / cols * L));
        let rows = scores.chunks_exact(cols).zip(self.beta.expose().chunks_exact(cols * width));
        for ((row, shares), mask) in rows.zip(self.sum_mask.expose().chunks_exact(width)) {
            let halves = row.iter().map(|x_hat| x_hat >> drop);
            let sum = rotation::row_sum::<u64, L>(&rotation, &MANTISSAS, shares, halves);
            sums.extend_from_slice(&sum.plus(Number::read(mask)).canonical().0);
        }
        sums
    }

    /// This party's shares of k / 2 under its mask, from the opened sums.
    fn exponents<C: Payload + Into<u64>>(&self, sums: Vec<u64>) -> Vec<u64> {
        let (scores, ring) = (&self.op.scores, self.op.to());
        let thresholds = scores.thresholds();
        let powers = Powers::new(scores.sum_bits(), sums, thresholds.clone());
        let keys = Keys {
            party: self.job.party,
            levels: scores.levels(),
            roots: self.root.expose(),
            nodes: self.node_words.expose(),
            payloads: self.count_words.expose(),
        };
        let mut ending = vec![0u64; scores.levels() + 1];
        dcf::Points::depths(&powers).iter().for_each(|depth| ending[*depth] += 1);
        // 1[v < 2^i] is the difference of two comparisons and of a public bit; the thresholds that v reaches are the others.
        let mut counts: Vec<u64> = self.mask.to_vec();
        dcf::evaluate(&*self.hash, &keys, &powers, |row, point, depth, share: C| {
            let share = share.into();
            counts[row] = match point {
                Point::Value => counts[row].wrapping_add(share.wrapping_mul(ending[depth])),
                Point::Threshold(_) => counts[row].wrapping_sub(share),
            };
        });
        if self.job.party == Party::P0 {
            let base = (scores.least() as u64).wrapping_sub(i64::from(scores.bias()).cast_unsigned());
            for (row, count) in counts.iter_mut().enumerate() {
                // Of the public bits, 1[v_hat >= 2^i] count.
                *count = count.wrapping_add(base).wrapping_add(powers.at_most(row) as u64);
            }
        }
        reduce(ring, &mut counts);
        counts
    }
}

fn reduce(ring: Ring, numbers: &mut [u64]) {
    numbers.iter_mut().for_each(|number| *number = ring.reduce(*number));
}

/// The words 0 of all rows, then the words 1, and so on: the segments of the message.
fn columns(sums: &[u64], words: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(8 * sums.len());
    for word in 0..words {
        sums.iter().skip(word).step_by(words).for_each(|sum| message.extend(sum.to_le_bytes()));
    }
    message
}

/// Opens the sums of rows.
fn open_sums<const L: usize>(sums: &mut [u64], incoming: &[u8]) {
    let rows = sums.len() / L;
    for (row, sum) in sums.as_chunks_mut::<L>().0.iter_mut().enumerate() {
        let theirs = Number(std::array::from_fn(|word| {
            let bytes = incoming[8 * (word * rows + row)..].first_chunk().expect("a word for each row");
            u64::from_le_bytes(*bytes)
        }));
        *sum = Number(*sum).plus(theirs).canonical().0;
    }
}
