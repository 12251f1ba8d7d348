//! Input tensors in fixed point: encoded from a file, or made up for a benchmark. Encoded tile by tile, so that a file's
//! values are in memory once, as they stand there, and a benchmark's not at all.

use std::{io::Write, sync::Arc};

use suf_gate::{Gate, TILE_ELEMS, TensorShape, Tiles, ring::FRAC};

use crate::{
    error::Error,
    gates::Definition,
    npy::{self, Array, Form, Format},
};

/// One unit of the fixed-point encoding as a real number's inverse: 2^12.
const UNITS: f64 = (1_u32 << FRAC) as f64;

/// Of this many synthetic values one is a boundary value.
const BOUNDARY_EVERY: usize = 64;

/// Standard deviation of synthetic values, as that of real transformer activations within a factor of 2.
const DEVIATION: f64 = 2.0;

/// A tensor of fixed-point values, by tile.
#[derive(Debug)]
pub enum Tensor<'a> {
    /// In memory, in the order of their file; all values count towards the error figures.
    Held {
        /// The values, which all are in the gate's domain.
        values: Arc<Array<'a>>,
        /// Number of values: those of the file again and again, or cut.
        elements: u64,
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

impl<'a> Tensor<'a> {
    /// Takes `array` for `gate`: floats are rounded to multiples of 2^-12, integers are taken as they are.
    ///
    /// # Errors
    /// When a value is NaN, infinite or outside the gate's domain, with the index of the first in the file.
    pub fn encode(array: &Arc<Array<'a>>, gate: &Gate, source: String) -> Result<Self, Error> {
        let (min, max) = gate.domain();
        let elements = array.form().len();
        for first in (0..elements).step_by(TILE_ELEMS) {
            let units = units(array, first..elements.min(first + TILE_ELEMS));
            // NaN fails both comparisons.
            if let Some(at) = units.iter().position(|x| !(*x >= min as f64 && *x <= max as f64)) {
                return Err(refused(array, first + at, gate));
            }
        }
        Ok(Self::Held { values: array.clone(), elements: elements as u64, source })
    }

    /// The same values again and again, up to `elements`, or cut to it.
    #[must_use]
    pub fn resized(self, elements: u64) -> Self {
        match self {
            Self::Held { values, source, .. } => Self::Held { values, elements, source },
            Self::Synthetic { domain, .. } => Self::Synthetic { elements, domain },
        }
    }

    /// Number of values.
    #[must_use]
    pub fn elements(&self) -> u64 {
        match self {
            Self::Held { elements, .. } | Self::Synthetic { elements, .. } => *elements,
        }
    }

    /// Its shape as an input of a program: one column.
    ///
    /// # Panics
    /// Without elements or with more than a run may have; files and command lines with such tensors are refused.
    #[must_use]
    pub fn shape(&self) -> TensorShape {
        TensorShape::flat(self.elements()).expect("a tensor has 1 to 10^8 elements")
    }

    /// Its tiles.
    #[must_use]
    pub fn tiles(&self) -> Tiles {
        let shape = self.shape();
        shape.tiles_of(shape.rows_per_tile())
    }

    /// The values of tile `tile`.
    #[must_use]
    pub fn tile(&self, tile: u32) -> Vec<i64> {
        let elems = self.tiles().elems(tile);
        match self {
            Self::Held { values, .. } => repeated(values, tile as usize * TILE_ELEMS, elems),
            Self::Synthetic { domain, .. } => synthetic(tile, elems, *domain),
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

/// How integers in the file `name` are taken: as fixed point if `fixed` says so. int64 is without it too, and the line for
/// people says that; of other integers it is as likely that they are meant as numbers.
///
/// # Errors
/// When it is not said how they are to be taken, or `fixed` is said of floats.
pub fn integers(form: &Form, fixed: bool, name: &str) -> Result<Option<String>, Error> {
    let dtype = form.dtype.name();
    let one = 1_u64 << FRAC;
    match (form.dtype.is_integer(), fixed) {
        (false, false) | (true, true) => Ok(None),
        (false, true) => {
            Err(Error::usage(format!("{name} is {dtype}, and --fixed is for integers: leave it out")))
        }
        (true, false) if form.dtype == npy::Dtype::I64 => Ok(Some(format!(
            "{name} is int64: it is taken as fixed point with {FRAC} fractional bits ({one} is 1.0), and so is the output. \
             Add --fixed to confirm that; save plain numbers with array.astype('float64')"
        ))),
        (true, false) => Err(Error::usage(format!(
            "{name} is {dtype}: add --fixed if its integers are fixed point with {FRAC} fractional bits ({one} is 1.0); if they \
             are plain numbers, save array.astype('float64')"
        ))),
    }
}

/// The form of the output `units` of a tensor that was read in `input`'s. It has the same type and shape. Where a value
/// is beyond the type's range, the type is wider, and a line says so.
#[must_use]
pub fn output_form(input: &Form, units: &[i64]) -> (Form, Option<String>) {
    let dtype = input.dtype;
    let Some(beyond) = units.iter().find(|y| !dtype.holds(**y, FRAC)) else {
        return (input.clone(), None);
    };
    let wide = dtype.widened();
    let value = if dtype.is_integer() { beyond.to_string() } else { (*beyond as f64 / UNITS).to_string() };
    let line = format!("the output is {}: {value} is beyond the range of {}", wide.name(), dtype.name());
    (Form { dtype: wide, ..input.clone() }, Some(line))
}

/// Writes `units` in `form`, whose type has to hold them, a piece at a time.
///
/// # Errors
/// Those of `out`.
pub fn write_output(out: impl Write, format: Format, form: &Form, units: &[i64]) -> std::io::Result<()> {
    npy::write_to(out, format, form, |out| {
        let mut piece = Vec::with_capacity(TILE_ELEMS * form.dtype.width());
        units.chunks(TILE_ELEMS).try_for_each(|units| {
            piece.clear();
            form.dtype.encode(units, FRAC, &mut piece);
            out.write_all(&piece)
        })
    })
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
    /// Compares tile `tile` of the outputs `y` with what `gate` allows for the inputs.
    pub fn add(&mut self, gate: &Gate, file: &Definition, tensor: &Tensor<'_>, tile: u32, y: &[i64]) {
        for (index, (x, y)) in tensor.tile(tile).into_iter().zip(y).enumerate() {
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

/// Values of `array` in units of 2^-12, rounded: floats are real numbers, integers are such units.
fn units(array: &Array<'_>, places: std::ops::Range<usize>) -> Vec<f64> {
    let mut values = array.reals(places);
    if !array.form().dtype.is_integer() {
        values.iter_mut().for_each(|x| *x = (*x * UNITS).round_ties_even());
    }
    values
}

/// `elems` values from place `first` on of an endless repetition of `array`.
fn repeated(array: &Array<'_>, first: usize, elems: usize) -> Vec<i64> {
    let period = array.form().len();
    let mut values = Vec::with_capacity(elems);
    while values.len() < elems {
        let left = elems - values.len();
        if let Some(start) = values.len().checked_sub(period) {
            values.extend_from_within(start..start + left.min(period));
        } else {
            let at = (first + values.len()) % period;
            // Within the domain, which `encode` has checked, hence exact.
            let read = units(array, at..period.min(at + left));
            values.extend(read.into_iter().map(|x| x as i64));
        }
    }
    values
}

/// The refusal of the value at place `at` of a tensor.
fn refused(array: &Array<'_>, at: usize, gate: &Gate) -> Error {
    let (min, max) = gate.domain();
    let index = array.form().index(at);
    let value = array.text(at);
    let real = |units: i64| units as f64 / UNITS;
    let takes = if array.form().dtype.is_integer() {
        format!("{min} to {max} in units of 2^-{FRAC}, which is {} to {}", real(min), real(max))
    } else {
        format!("{} to {}", real(min), real(max))
    };
    Error::usage(format!(
        "the value at index {index:?} is {value}; {} {} takes {takes}. Nothing was sent.",
        gate.protocol(),
        gate.name(),
    ))
}

const fn is_boundary(index: usize) -> bool {
    index % BOUNDARY_EVERY == BOUNDARY_EVERY - 1
}

fn synthetic(tile: u32, elems: usize, domain: (i64, i64)) -> Vec<i64> {
    let mut random = Random::new(tile);
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
    fn new(tile: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("suf bench inputs v1");
        hasher.update(&tile.to_le_bytes());
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
    use crate::{gates, npy::Dtype};

    fn gelu() -> (Definition, Gate) {
        let file = gates::file("gelu").unwrap();
        let gate = gates::gate(&file, Protocol::Onehot, None).unwrap();
        (file, gate)
    }

    fn floats(shape: &[usize], dtype: Dtype, values: &[f64]) -> Arc<Array<'static>> {
        let form = Form { shape: shape.to_vec(), fortran: false, dtype };
        let bytes: Vec<u8> = match dtype {
            Dtype::F32 => values.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        let mut file = Vec::new();
        npy::write_to(&mut file, Format::Npy, &form, |out| out.write_all(&bytes)).unwrap();
        npy::read_from(&file, npy::Reading::default()).unwrap().into()
    }

    fn integers_of(dtype: Dtype, values: &[i64]) -> Arc<Array<'static>> {
        Array::of_units(Form { shape: vec![values.len()], fortran: false, dtype }, values, FRAC).into()
    }

    #[test]
    fn floats_are_rounded_to_the_nearest_unit_and_come_back() {
        let (_, gate) = gelu();
        let input = floats(&[2, 2], Dtype::F64, &[0.5, -1.0 / 4096.0, 1.4 / 4096.0, -8191.0]);
        let tensor = Tensor::encode(&input, &gate, "test".into()).unwrap();
        assert_eq!(tensor.tile(0), [2048, -1, 1, -8191 * 4096]);
        let (form, line) = output_form(input.form(), &tensor.tile(0));
        assert_eq!((&form, line), (input.form(), None));
        let mut file = Vec::new();
        write_output(&mut file, Format::Npy, &form, &tensor.tile(0)).unwrap();
        let output = npy::read_from(&file, npy::Reading::default()).unwrap();
        assert_eq!(output.reals(0..4), [0.5, -1.0 / 4096.0, 1.0 / 4096.0, -8191.0]);
    }

    #[test]
    fn the_first_value_that_is_refused_is_named_by_its_index() {
        let (_, gate) = gelu();
        for bad in [f64::NAN, f64::INFINITY, -f64::INFINITY, 8193.0, -1e30] {
            let input = floats(&[2, 3], Dtype::F32, &[0.0, 1.0, 2.0, 3.0, bad, bad]);
            let message = Tensor::encode(&input, &gate, "test".into()).unwrap_err().to_string();
            assert!(message.contains("[1, 1]"), "{message}");
        }
        let (min, max) = gate.domain();
        for value in [min, max] {
            assert!(Tensor::encode(&integers_of(Dtype::I64, &[value]), &gate, String::new()).is_ok());
        }
        for value in [min - 1, max + 1, i64::MIN, i64::MAX] {
            let error =
                Tensor::encode(&integers_of(Dtype::I64, &[0, value]), &gate, String::new()).unwrap_err();
            assert!(error.to_string().contains(&format!("[1] is {value}")), "{error}");
        }
        // All bits set: as unsigned, beyond the signed numbers.
        let error = Tensor::encode(&integers_of(Dtype::U64, &[0, -1]), &gate, String::new()).unwrap_err();
        assert!(error.to_string().contains("[1] is 18446744073709551615"), "{error}");
    }

    #[test]
    fn it_is_said_how_integers_are_taken_and_what_to_do() {
        let said = |dtype, fixed| integers(integers_of(dtype, &[1]).form(), fixed, "x.npy");
        let line = said(Dtype::I64, false).unwrap().unwrap();
        assert!(line.contains("fixed point") && line.contains("4096 is 1.0"), "{line}");
        assert_eq!(said(Dtype::I64, true).unwrap(), None);
        let message = said(Dtype::I32, false).unwrap_err().to_string();
        assert!(message.contains("--fixed") && message.contains("4096 is 1.0"), "{message}");
        assert!(message.contains("astype('float64')"), "{message}");
        assert_eq!(said(Dtype::I32, true).unwrap(), None);
        let float = floats(&[1], Dtype::F32, &[1.0]);
        assert_eq!(integers(float.form(), false, "x.npy").unwrap(), None);
        assert!(integers(float.form(), true, "x.npy").is_err());
    }

    #[test]
    fn an_output_beyond_its_type_widens_it() {
        for (dtype, units, wide) in [
            (Dtype::F16, 65_536 << 12, Dtype::F32),
            (Dtype::I16, 32_768, Dtype::I64),
            (Dtype::U32, -1, Dtype::I64),
        ] {
            let form = Form { shape: vec![2], fortran: true, dtype };
            assert_eq!(output_form(&form, &[0, 1]), (form.clone(), None));
            let (widened, line) = output_form(&form, &[0, units]);
            assert_eq!(widened, Form { dtype: wide, ..form });
            assert!(line.unwrap().contains(wide.name()));
        }
    }

    #[test]
    fn synthetic_values_are_reproducible_within_the_domain_and_normal() {
        let (_, gate) = gelu();
        let tensor = Tensor::Synthetic { elements: 70_000, domain: gate.domain() };
        let (first, second) = (tensor.tile(0), tensor.tile(1));
        assert_eq!((first.len(), second.len()), (65_536, 70_000 - 65_536));
        assert_eq!(tensor.tile(0), first);
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
        let held = |values: &[i64]| Tensor::Held {
            values: integers_of(Dtype::I64, values),
            elements: values.len() as u64,
            source: String::new(),
        };
        assert_eq!(held(&[1, 2, 3]).resized(7).tile(0), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(held(&[1, 2, 3]).resized(2).tile(0), [1, 2]);
        // 65536 is one more than a multiple of 3.
        assert_eq!(held(&[1, 2, 3]).resized(65_540).tile(1), [2, 3, 1, 2]);
    }

    #[test]
    fn right_outputs_are_not_wrong_and_wrong_ones_are_counted() {
        let (file, gate) = gelu();
        let values = integers_of(Dtype::I64, &[-5000, 64, 100_000]);
        let tensor = Tensor::encode(&values, &gate, String::new()).unwrap();
        let right: Vec<_> = tensor.tile(0).iter().map(|x| gate.reference(*x)[0]).collect();
        let mut accuracy = Accuracy::default();
        accuracy.add(&gate, &file, &tensor, 0, &right);
        assert_eq!(accuracy.wrong(), 0);
        assert!(accuracy.max_err() < 0.0079 && accuracy.rms_err() <= accuracy.max_err());
        accuracy.add(&gate, &file, &tensor, 0, &[right[0], right[1] + 7, right[2]]);
        assert_eq!((accuracy.wrong(), accuracy.first_wrong()), (1, Some((64, right[1] + 7))));
    }
}
