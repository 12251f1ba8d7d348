//! Input tensors in fixed point: encoded from a file, or made up for a benchmark. Read chunk by chunk, so that a
//! benchmark of 10^8 elements holds none of them.

use suf_gate::{CHUNK_ELEMS, Gate, layout::chunk_elems, ring::FRAC};

use crate::{
    error::Error,
    gates::Definition,
    npy::{Array, Values},
};

/// One unit of the fixed-point encoding as a real number's inverse: 2^12.
const UNITS: f64 = (1_u32 << FRAC) as f64;

/// Of this many synthetic values one is a boundary value.
const BOUNDARY_EVERY: usize = 64;

/// Standard deviation of synthetic values, as that of real transformer activations within a factor of 2.
const DEVIATION: f64 = 2.0;

/// A tensor of fixed-point values, by chunk.
#[derive(Debug)]
pub enum Tensor {
    /// In memory; all values count towards the error figures.
    Held {
        /// The values.
        values: Vec<i64>,
        /// Where they come from, for the record.
        source: String,
    },
    /// Pseudo-random from a fixed seed: N(0, 2^2) clamped to the domain, and one boundary value in 64.
    Synthetic {
        /// Number of values.
        elements: u64,
        /// Smallest and largest value.
        domain: (i64, i64),
    },
}

impl Tensor {
    /// Encodes `array` for `gate`: floats are rounded to multiples of 2^-12, int64 is taken as it is.
    ///
    /// # Errors
    /// When a value is NaN, infinite or outside the gate's domain, with the index of the first.
    pub fn encode(array: &Array, gate: &Gate, source: String) -> Result<Self, Error> {
        let values = match &array.values {
            Values::F32(values) => encode(values.iter().map(|x| f64::from(*x)), gate, &array.shape)?,
            Values::F64(values) => encode(values.iter().copied(), gate, &array.shape)?,
            Values::I64(values) => {
                let (min, max) = gate.domain();
                match values.iter().position(|x| !(min..=max).contains(x)) {
                    None => values.clone(),
                    Some(at) => return Err(refused(at, &array.shape, &values[at].to_string(), gate)),
                }
            }
        };
        Ok(Self::Held { values, source })
    }

    /// The same values again and again, up to `elements`, or cut to it.
    #[must_use]
    pub fn resized(self, elements: u64) -> Self {
        match self {
            Self::Held { values, source } => {
                let length = usize::try_from(elements).expect("10^8 fits an address");
                Self::Held { values: values.into_iter().cycle_to(length), source }
            }
            Self::Synthetic { domain, .. } => Self::Synthetic { elements, domain },
        }
    }

    /// Number of values.
    #[must_use]
    pub fn elements(&self) -> u64 {
        match self {
            Self::Held { values, .. } => values.len() as u64,
            Self::Synthetic { elements, .. } => *elements,
        }
    }

    /// The values of chunk `chunk`.
    #[must_use]
    pub fn chunk(&self, chunk: u32) -> Vec<i64> {
        let elems = chunk_elems(self.elements(), chunk);
        match self {
            Self::Held { values, .. } => {
                let first = chunk as usize * CHUNK_ELEMS;
                values[first..first + elems].to_vec()
            }
            Self::Synthetic { domain, .. } => synthetic(chunk, elems, *domain),
        }
    }

    /// Whether value `index` counts towards the error figures; all count towards `wrong`.
    #[must_use]
    pub fn counts(&self, index: usize) -> bool {
        match self {
            Self::Held { .. } => true,
            Self::Synthetic { .. } => !is_boundary(index),
        }
    }

    /// What the values are, for the record.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Held { source, .. } => source.clone(),
            Self::Synthetic { .. } => format!(
                "N(0, {DEVIATION}^2), fixed seed; one value in {BOUNDARY_EVERY} is at a boundary or uniform over \
                 the domain and counts for `wrong` only"
            ),
        }
    }
}

/// Cycles a finite list to a length.
trait CycleTo {
    fn cycle_to(self, length: usize) -> Vec<i64>;
}

impl CycleTo for std::vec::IntoIter<i64> {
    fn cycle_to(self, length: usize) -> Vec<i64> {
        let mut values: Vec<_> = self.collect();
        let period = values.len();
        values.truncate(length);
        while values.len() < length {
            let more = (length - values.len()).min(period);
            values.extend_from_within(..more);
        }
        values
    }
}

/// Decodes fixed-point values to the element type and shape of `like`.
#[must_use]
pub fn decode(values: Vec<i64>, like: &Array) -> Array {
    let values = match like.values {
        Values::F32(_) => Values::F32(values.iter().map(|y| (*y as f64 / UNITS) as f32).collect()),
        Values::F64(_) => Values::F64(values.iter().map(|y| *y as f64 / UNITS).collect()),
        Values::I64(_) => Values::I64(values),
    };
    Array { shape: like.shape.clone(), values }
}

/// Outputs compared with the protocol's definition and with the real function.
#[derive(Debug, Clone, Default)]
pub struct Accuracy {
    wrong: u64,
    first_wrong: Option<(i64, i64)>,
    counted: u64,
    without_reference: u64,
    max: f64,
    squares: f64,
    sum: f64,
}

impl Accuracy {
    /// Compares chunk `chunk` of the outputs `y` with what `gate` allows for the inputs.
    pub fn add(&mut self, gate: &Gate, file: &Definition, tensor: &Tensor, chunk: u32, y: &[i64]) {
        for (index, (x, y)) in tensor.chunk(chunk).into_iter().zip(y).enumerate() {
            if !gate.reference(x).contains(y) {
                self.wrong += 1;
                self.first_wrong.get_or_insert((x, *y));
            }
            if !tensor.counts(index) {
                continue;
            }
            let Some(exact) = file.exact(x) else {
                self.without_reference += 1;
                continue;
            };
            let error = *y as f64 / UNITS - exact;
            self.counted += 1;
            self.max = self.max.max(error.abs());
            self.squares += error * error;
            self.sum += error;
        }
    }

    /// Outputs that the protocol's definition does not allow.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.wrong
    }

    /// Input and output of the first wrong value, in units of 2^-12.
    #[must_use]
    pub fn first_wrong(&self) -> Option<(i64, i64)> {
        self.first_wrong
    }

    /// Values where the real function has none: they count towards `wrong` alone.
    #[must_use]
    pub fn without_reference(&self) -> u64 {
        self.without_reference
    }

    /// Largest error against the real function.
    #[must_use]
    pub fn max_err(&self) -> f64 {
        self.max
    }

    /// Root mean square error.
    #[must_use]
    pub fn rms_err(&self) -> f64 {
        if self.counted == 0 { 0.0 } else { (self.squares / self.counted as f64).sqrt() }
    }

    /// Mean error: the bias.
    #[must_use]
    pub fn mean_err(&self) -> f64 {
        if self.counted == 0 { 0.0 } else { self.sum / self.counted as f64 }
    }
}

fn encode(
    values: impl ExactSizeIterator<Item = f64>,
    gate: &Gate,
    shape: &[usize],
) -> Result<Vec<i64>, Error> {
    let (min, max) = gate.domain();
    let mut encoded = Vec::with_capacity(values.len());
    for (at, x) in values.enumerate() {
        let units = (x * UNITS).round_ties_even();
        // NaN fails both comparisons.
        if !(units >= min as f64 && units <= max as f64) {
            return Err(refused(at, shape, &x.to_string(), gate));
        }
        encoded.push(units as i64);
    }
    Ok(encoded)
}

/// The refusal of value `at` (counted in C order) of a tensor.
fn refused(at: usize, shape: &[usize], value: &str, gate: &Gate) -> Error {
    let mut index = vec![0; shape.len()];
    let mut rest = at;
    for (place, length) in index.iter_mut().zip(shape).rev() {
        *place = rest % length;
        rest /= length;
    }
    let (min, max) = gate.domain();
    Error::usage(format!(
        "the value at index {index:?} is {value}; {} {} takes {} to {} (in units of 2^-12: {min} to {max}). \
         Nothing was sent.",
        gate.protocol(),
        gate.name(),
        min as f64 / UNITS,
        max as f64 / UNITS,
    ))
}

const fn is_boundary(index: usize) -> bool {
    index % BOUNDARY_EVERY == BOUNDARY_EVERY - 1
}

fn synthetic(chunk: u32, elems: usize, domain: (i64, i64)) -> Vec<i64> {
    let mut random = Random::new(chunk);
    let edges = boundary_values(domain);
    (0..elems)
        .map(|index| {
            if !is_boundary(index) {
                return ((random.normal() * DEVIATION * UNITS) as i64).clamp(domain.0, domain.1);
            }
            let place = index / BOUNDARY_EVERY;
            match edges.get(place / 2 % edges.len()) {
                Some(edge) if place.is_multiple_of(2) => *edge,
                _ => random.uniform(domain),
            }
        })
        .collect()
}

/// Both ends of the domain and both sides of every power of two: of the window's edges, of each digit's carry and of 0.
fn boundary_values((min, max): (i64, i64)) -> Vec<i64> {
    let powers = (0..47).map(|bit| 1_i64 << bit).flat_map(|power| [power, -power]);
    let near = powers.chain([0]).flat_map(|value| [-64, -1, 0, 1, 63].map(|offset| value + offset));
    let mut values: Vec<_> =
        near.filter(|x| (min..=max).contains(x)).chain([min, min + 1, max - 1, max]).collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// Reproducible pseudo-random numbers: benchmark inputs are no secret.
struct Random {
    stream: blake3::OutputReader,
    spare: Option<f64>,
}

impl Random {
    fn new(chunk: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("suf bench inputs v1");
        hasher.update(&chunk.to_le_bytes());
        Self { stream: hasher.finalize_xof(), spare: None }
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.stream.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Uniform over (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958), two at a time.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * self.unit().ln()).sqrt();
        let (sine, cosine) = (self.unit() * std::f64::consts::TAU).sin_cos();
        self.spare = Some(radius * sine);
        radius * cosine
    }

    /// Uniform over the range, up to a bias of its length / 2^64.
    fn uniform(&mut self, (min, max): (i64, i64)) -> i64 {
        let length = max.abs_diff(min) + 1;
        min + ((u128::from(self.next()) * u128::from(length)) >> 64) as i64
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::Protocol;

    use super::*;
    use crate::gates;

    fn gelu() -> (Definition, Gate) {
        let file = gates::file("gelu").unwrap();
        let gate = gates::gate(&file, Protocol::Onehot, None).unwrap();
        (file, gate)
    }

    fn array(shape: Vec<usize>, values: Values) -> Array {
        Array { shape, values }
    }

    #[test]
    fn floats_are_rounded_to_the_nearest_unit_and_come_back() {
        let (_, gate) = gelu();
        let input = array(vec![2, 2], Values::F64(vec![0.5, -1.0 / 4096.0, 1.4 / 4096.0, -8191.0]));
        let tensor = Tensor::encode(&input, &gate, "test".into()).unwrap();
        assert_eq!(tensor.chunk(0), [2048, -1, 1, -8191 * 4096]);
        assert_eq!(
            decode(tensor.chunk(0), &input).values,
            Values::F64(vec![0.5, -1.0 / 4096.0, 1.0 / 4096.0, -8191.0])
        );
    }

    #[test]
    fn the_first_value_that_is_refused_is_named_by_its_index() {
        let (_, gate) = gelu();
        for bad in [f32::NAN, f32::INFINITY, -f32::INFINITY, 8193.0, -1e30] {
            let input = array(vec![2, 3], Values::F32(vec![0.0, 1.0, 2.0, 3.0, bad, bad]));
            let message = Tensor::encode(&input, &gate, "test".into()).unwrap_err().to_string();
            assert!(message.contains("[1, 1]"), "{message}");
        }
        let (min, max) = gate.domain();
        for value in [min, max] {
            assert!(Tensor::encode(&array(vec![1], Values::I64(vec![value])), &gate, String::new()).is_ok());
        }
        for value in [min - 1, max + 1, i64::MIN, i64::MAX] {
            assert!(Tensor::encode(&array(vec![1], Values::I64(vec![value])), &gate, String::new()).is_err());
        }
    }

    #[test]
    fn synthetic_values_are_reproducible_within_the_domain_and_normal() {
        let (_, gate) = gelu();
        let tensor = Tensor::Synthetic { elements: 70_000, domain: gate.domain() };
        let (first, second) = (tensor.chunk(0), tensor.chunk(1));
        assert_eq!((first.len(), second.len()), (65_536, 70_000 - 65_536));
        assert_eq!(tensor.chunk(0), first);
        assert_ne!(first[..second.len()], second[..]);
        let (min, max) = gate.domain();
        assert!(first.iter().all(|x| (min..=max).contains(x)));
        assert!([min, max, 0, -1, 1 << 14, -(1 << 14) - 1].iter().all(|edge| first.contains(edge)));
        let normal: Vec<f64> = (0..first.len())
            .filter(|index| tensor.counts(*index))
            .map(|index| first[index] as f64 / UNITS)
            .collect();
        let mean = normal.iter().sum::<f64>() / normal.len() as f64;
        let variance = normal.iter().map(|x| x * x).sum::<f64>() / normal.len() as f64;
        assert!(mean.abs() < 0.05 && (variance.sqrt() - DEVIATION).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn files_are_repeated_or_cut_to_the_row() {
        let held = |values| Tensor::Held { values, source: String::new() };
        assert_eq!(held(vec![1, 2, 3]).resized(7).chunk(0), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(held(vec![1, 2, 3]).resized(2).chunk(0), [1, 2]);
    }

    #[test]
    fn right_outputs_are_not_wrong_and_wrong_ones_are_counted() {
        let (file, gate) = gelu();
        let tensor = Tensor::Held { values: vec![-5000, 64, 100_000], source: String::new() };
        let right: Vec<_> = tensor.chunk(0).iter().map(|x| gate.reference(*x)[0]).collect();
        let mut accuracy = Accuracy::default();
        accuracy.add(&gate, &file, &tensor, 0, &right);
        assert_eq!(accuracy.wrong(), 0);
        assert!(accuracy.max_err() < 0.0079 && accuracy.rms_err() <= accuracy.max_err());
        accuracy.add(&gate, &file, &tensor, 0, &[right[0], right[1] + 7, right[2]]);
        assert_eq!((accuracy.wrong(), accuracy.first_wrong()), (1, Some((64, right[1] + 7))));
    }
}
