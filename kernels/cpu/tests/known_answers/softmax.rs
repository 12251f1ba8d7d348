//! Exponentials, comparison keys and pieces against `tests/vectors/softmax.json`, which `make_softmax.py` there makes without this
//! code.

use serde::Deserialize;
use suf_gate::{
    Party, Ring,
    dcf::{self, Dealt, Keys, LibraryHash, Payload, Point, Points},
    ops::{Function, Spline},
    prg::FixedKeys,
    rotation::{self, FRACTION, Half, Rotation, mantissa, mersenne::Number},
};

use super::{FixedAnswer, HexBytes};

#[derive(Deserialize)]
struct Answers {
    fixed_keys: FixedAnswer,
    /// Precision, fraction, mantissa.
    mantissas: Vec<(u32, u64, u64)>,
    exponentials: Vec<Exponential>,
    comparisons: Vec<Comparison>,
    splines: Vec<Pieces>,
}

#[derive(Deserialize)]
struct Exponential {
    bits: u32,
    precision: u32,
    offset: u32,
    masks: Vec<u64>,
    x_hat: Vec<u64>,
    seeded: HexBytes,
    explicit: HexBytes,
    /// Of the party with the seeded share, and of the other.
    row_sums: [HexBytes; 2],
    dropped: u32,
    truncated: [Vec<u64>; 2],
}

#[derive(Deserialize)]
struct Comparison {
    bits: usize,
    depths: Vec<usize>,
    points: HexBytes,
    payloads: HexBytes,
    roots: [HexBytes; 2],
    node_words: HexBytes,
    payload_words: HexBytes,
    y: HexBytes,
    /// Party by party, for each row those after each of the depths.
    shares: [HexBytes; 2],
}

#[derive(Deserialize)]
struct Pieces {
    name: String,
    of: u32,
    frac: u8,
    to_frac: u8,
    low: u64,
    high: u64,
    pieces: usize,
    first: HexBytes,
    last: HexBytes,
}

fn answers() -> Answers {
    serde_json::from_str(include_str!("../../../../tests/vectors/softmax.json")).expect("the vectors parse")
}

fn words(bytes: &HexBytes) -> Vec<u64> {
    bytes.0.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

#[test]
fn mantissas() {
    for (precision, fraction, expected) in answers().mantissas {
        assert_eq!(mantissa::mantissa(precision, fraction, FRACTION), expected, "{precision} {fraction}");
    }
}

fn exponential<const L: usize>(answer: &Exponential) {
    let Exponential { bits, precision, offset, .. } = *answer;
    let rotation = Rotation { bits, fraction: FRACTION, precision, offset };
    let mut explicit = answer.seeded.0.clone();
    rotation::deal::<u64, L>(&rotation, answer.masks.iter().copied(), &mut explicit);
    assert_eq!(explicit, answer.explicit.0, "shares, m = {bits}");
    let table = mantissa::table(precision, FRACTION);
    for (party, shares) in [&answer.seeded, &answer.explicit].into_iter().enumerate() {
        let sum = rotation::row_sum::<u64, L>(&rotation, &table, &shares.0, answer.x_hat.iter().copied())
            .canonical();
        let mut bytes = vec![0; Number::<u64, L>::BYTES];
        sum.write(&mut bytes);
        assert_eq!(bytes, answer.row_sums[party].0, "sum, m = {bits}");
        let half = [Half::Upper, Half::Lower][party];
        let elements = shares.0.chunks_exact(Number::<u64, L>::BYTES).zip(&answer.x_hat);
        for ((share, x_hat), expected) in elements.zip(&answer.truncated[party]) {
            let found = rotation::truncated::<u64, L>(&rotation, &table, answer.dropped, half, share, *x_hat);
            assert_eq!(found, *expected, "truncated, m = {bits}");
        }
    }
}

#[test]
fn exponentials() {
    for answer in answers().exponentials {
        match answer.bits {
            64 => exponential::<1>(&answer),
            128 => exponential::<2>(&answer),
            256 => exponential::<4>(&answer),
            512 => exponential::<8>(&answer),
            _ => exponential::<16>(&answer),
        }
    }
}

/// y as the value that thresholds are subtracted from; the thresholds 1 and up let comparisons end.
struct Values<'a> {
    answer: &'a Comparison,
    y: Vec<u64>,
}

impl Points for Values<'_> {
    fn bits(&self) -> usize {
        self.answer.bits
    }

    fn depths(&self) -> &[usize] {
        &self.answer.depths
    }

    fn write(&self, row: usize, points: &mut [u64]) -> usize {
        // Every point is y: then they ascend, whatever the thresholds are.
        let y = &self.y[row * self.bits().div_ceil(64)..][..self.bits().div_ceil(64)];
        points.chunks_exact_mut(y.len()).for_each(|point| point.copy_from_slice(y));
        self.answer.depths.len()
    }
}

fn comparison<P: Payload>(answer: &Comparison, fixed: &FixedKeys) {
    let hash = LibraryHash::new(fixed);
    let (bits, rows) = (answer.bits, answer.roots[0].0.len() / 16);
    let payloads: Vec<P> = answer.payloads.0.chunks_exact(P::BYTES).map(P::read).collect();
    let (mut nodes, mut words_of_payloads) =
        (vec![0; answer.node_words.0.len()], vec![0; answer.payload_words.0.len()]);
    let mut out = Dealt { nodes: &mut nodes, payloads: &mut words_of_payloads };
    let roots = answer.roots.each_ref().map(|roots| &roots.0[..]);
    dcf::deal(&hash, (bits, bits), roots, &words(&answer.points), &payloads, &mut out);
    assert_eq!(nodes, answer.node_words.0, "words of nodes, {bits} bits");
    assert_eq!(words_of_payloads, answer.payload_words.0, "words of payloads, {bits} bits");
    for party in Party::BOTH {
        let keys = Keys {
            party,
            levels: bits,
            roots: &answer.roots[party.index()].0,
            nodes: &nodes,
            payloads: &words_of_payloads,
        };
        let expected: Vec<P> = answer.shares[party.index()].0.chunks_exact(P::BYTES).map(P::read).collect();
        let mut seen = 0;
        let values = Values { answer, y: words(&answer.y) };
        dcf::evaluate(&hash, &keys, &values, |row, point, depth, share: P| {
            let place = answer.depths.iter().position(|other| *other == depth).expect("a depth of theirs");
            assert_eq!(share, expected[row * answer.depths.len() + place], "{bits} bits, row {row}, {depth}");
            seen += usize::from(point == Point::Value);
        });
        assert_eq!(seen, rows * answer.depths.len());
    }
}

#[test]
fn comparisons() {
    let answers = answers();
    let fixed = FixedKeys { node: answers.fixed_keys.node, leaf: answers.fixed_keys.leaf };
    for answer in &answers.comparisons {
        match answer.payloads.0.len() / (answer.roots[0].0.len() / 16) {
            1 => comparison::<u8>(answer, &fixed),
            2 => comparison::<u16>(answer, &fixed),
            _ => comparison::<[u64; 2]>(answer, &fixed),
        }
    }
}

#[test]
fn pieces_of_splines() {
    for answer in answers().splines {
        let function =
            if answer.of == 0 { Function::Reciprocal } else { Function::InverseSqrt { of: answer.of } };
        let ring = Ring::new(64);
        let spline = Spline::new(function, ring, answer.frac, answer.to_frac, answer.low, answer.high);
        let spline = spline.expect("they fit");
        let bytes: Vec<u8> = spline
            .pieces()
            .pieces()
            .iter()
            .flat_map(|piece| {
                [piece.from.to_le_bytes(), piece.slope.to_le_bytes(), piece.offset.to_le_bytes()].concat()
            })
            .collect();
        assert_eq!(bytes.len(), 24 * answer.pieces, "{}", answer.name);
        assert_eq!(bytes[..answer.first.0.len()], answer.first.0, "{}", answer.name);
        assert!(bytes.ends_with(&answer.last.0), "{}", answer.name);
    }
}
