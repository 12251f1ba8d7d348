//! A gate: a protocol with its function and shape, in a canonical encoding whose digest both parties and the dealer
//! compare before anything secret moves.

use std::{fmt, str::FromStr};

use crate::{
    Cost, Curve, KeyShape, Party, Segment, Side,
    dpf::Dpf,
    limits::{MAX_EXCHANGE_BITS, MAX_EXCHANGE_SEGMENTS, MAX_GATE_BYTES, MAX_KEY_BYTES},
    onehot::Onehot,
    ring::WIRE,
    sigma::Sigma,
    spec::Spec,
    suf::Suf,
    suf_lut::SufLut,
};

const MAGIC: &[u8; 4] = b"sufg";
const VERSION: u8 = 1;

/// The five protocols of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// SIGMA (PETS 2024), reproduced.
    Sigma,
    /// The published SUF benchmark: a table on the low bits.
    SufLut,
    /// FuseFSS proper: operator specifications, compiled.
    Suf,
    /// One-time truth tables on short digits.
    Onehot,
    /// Two rounds from one comparison DPF.
    Dpf,
}

impl Protocol {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 5] = [Self::Sigma, Self::SufLut, Self::Suf, Self::Onehot, Self::Dpf];

    /// The name on the command line and in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sigma => "sigma",
            Self::SufLut => "suf-lut",
            Self::Suf => "suf",
            Self::Onehot => "onehot",
            Self::Dpf => "dpf",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Sigma => 1,
            Self::SufLut => 2,
            Self::Suf => 3,
            Self::Onehot => 4,
            Self::Dpf => 5,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = GateError;

    fn from_str(name: &str) -> Result<Self, GateError> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|protocol| protocol.name()).collect();
            GateError::Unknown { what: "protocol", name: name.into(), known: known.join(", ") }
        })
    }
}

/// What a protocol evaluates, and in which shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// See [`Sigma`].
    Sigma(Sigma),
    /// See [`SufLut`].
    SufLut(SufLut),
    /// See [`Suf`].
    Suf(Suf),
    /// See [`Onehot`].
    Onehot(Onehot),
    /// See [`Dpf`].
    Dpf(Dpf),
}

/// A gate, ready to be dealt and evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    name: String,
    shape: Shape,
    key_shape: KeyShape,
    exchanges: Vec<Vec<Segment>>,
    digest: [u8; 32],
}

/// Why a gate cannot be made or understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// A name that is not known, with those that are.
    #[error("unknown {what} '{name}'; known are {known}")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A shape outside what the protocol supports.
    #[error("{0}")]
    Shape(String),
    /// A canonical encoding that is not one.
    #[error("gate encoding: {0}")]
    Encoding(&'static str),
}

impl Gate {
    /// A gate called `name` (1 to 64 printable ASCII characters).
    ///
    /// # Errors
    /// When the name is not acceptable, the encoding longer than [`MAX_GATE_BYTES`], or a full tile would not fit the messages:
    /// see [`crate::limits`].
    pub fn new(name: &str, shape: Shape) -> Result<Self, GateError> {
        Self::encoded(name, shape).map(|(gate, _)| gate)
    }

    /// The gate and its canonical encoding.
    fn encoded(name: &str, shape: Shape) -> Result<(Self, Vec<u8>), GateError> {
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(GateError::Shape("a gate's name has 1 to 64 printable ASCII characters".into()));
        }
        let (key_shape, exchanges) = match &shape {
            Shape::Sigma(gate) => (gate.key_shape(), gate.exchanges()),
            Shape::SufLut(gate) => (gate.key_shape(), gate.exchanges()),
            Shape::Suf(gate) => (gate.key_shape(), gate.exchanges()),
            Shape::Onehot(gate) => (gate.key_shape(), gate.exchanges()),
            Shape::Dpf(gate) => (gate.key_shape(), gate.exchanges()),
        };
        let mut gate = Self { name: name.into(), shape, key_shape, exchanges, digest: [0; 32] };
        let encoded = gate.encode();
        if encoded.len() > MAX_GATE_BYTES {
            return Err(GateError::Shape(format!(
                "{} bytes describe the gate, the limit is {MAX_GATE_BYTES}",
                encoded.len()
            )));
        }
        fit_messages(&gate.key_shape, &gate.exchanges).map_err(GateError::Shape)?;
        gate.digest = *blake3::hash(&encoded).as_bytes();
        Ok((gate, encoded))
    }

    /// The gate's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match &self.shape {
            Shape::Sigma(_) => Protocol::Sigma,
            Shape::SufLut(_) => Protocol::SufLut,
            Shape::Suf(_) => Protocol::Suf,
            Shape::Onehot(_) => Protocol::Onehot,
            Shape::Dpf(_) => Protocol::Dpf,
        }
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// BLAKE3 of the canonical encoding.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The key's fields.
    #[must_use]
    pub fn key_shape(&self) -> &KeyShape {
        &self.key_shape
    }

    /// The exchanges, in order.
    #[must_use]
    pub fn exchanges(&self) -> &[Vec<Segment>] {
        &self.exchanges
    }

    /// Whether evaluation starts from shares of x instead of the opened x_hat.
    #[must_use]
    pub fn takes_shares(&self) -> bool {
        matches!(self.shape, Shape::SufLut(_))
    }

    /// The declared cost.
    #[must_use]
    pub fn declared(&self) -> Cost {
        match &self.shape {
            Shape::Sigma(gate) => gate.declared(),
            Shape::SufLut(gate) => gate.declared(),
            Shape::Suf(gate) => gate.declared(),
            Shape::Onehot(gate) => gate.declared(),
            Shape::Dpf(gate) => gate.declared(),
        }
    }

    /// Bytes of exchange `step`'s message for a tile of `elems` elements.
    #[must_use]
    pub fn message_bytes(&self, step: usize, elems: usize) -> usize {
        self.exchanges[step].iter().map(|segment| segment.bytes(elems)).sum()
    }

    /// Payload bits that one party sends for a batch of `elems` elements; padding to bytes is not counted. `u64::MAX`
    /// stands for more than that; no batch that is accepted comes near.
    #[must_use]
    pub fn batch_message_bits(&self, elems: u64) -> u64 {
        u64::from(self.declared().bits).saturating_mul(elems)
    }

    /// Bytes of key, without seed and framing, that `party` receives for a batch of `elems` elements. `u64::MAX` as in
    /// [`Gate::batch_message_bits`].
    #[must_use]
    pub fn batch_key_bytes(&self, party: Party, elems: u64) -> u64 {
        self.key_shape.batch_bytes(party, elems)
    }

    /// Smallest and largest input, in units of 2^-12, for which the output is right.
    #[must_use]
    pub fn domain(&self) -> (i64, i64) {
        match &self.shape {
            // The table reads the low bits of anything.
            Shape::SufLut(_) => (-(1 << 47), (1 << 47) - 1),
            Shape::Sigma(gate) => gate.domain(),
            Shape::Suf(gate) => gate.domain(),
            Shape::Onehot(gate) => gate.domain(),
            Shape::Dpf(gate) => gate.domain(),
        }
    }

    /// The outputs that are right for input `x`: one, or the two that unbiased rounding allows.
    #[must_use]
    pub fn reference(&self, x: i64) -> [i64; 2] {
        match &self.shape {
            Shape::Sigma(gate) => [gate.reference(x); 2],
            Shape::SufLut(gate) => [gate.reference(x); 2],
            Shape::Suf(gate) => gate.reference(x),
            Shape::Onehot(gate) => gate.curve().reference(x),
            Shape::Dpf(gate) => gate.curve().reference(x),
        }
    }

    /// The wires that are right for input `x`: as [`Gate::reference`], before the client's last step.
    #[must_use]
    pub fn wire_reference(&self, x: i64) -> [i64; 2] {
        match &self.shape {
            Shape::Suf(gate) => gate.spec().reference(x),
            _ => self.reference(x),
        }
    }

    /// The bits that are rounded away, by a coin that both parties' view of the input decides; none of an exact gate.
    #[must_use]
    pub fn grid(&self) -> Option<u8> {
        match &self.shape {
            Shape::Sigma(_) | Shape::SufLut(_) => None,
            Shape::Suf(gate) => Some(gate.compiled().grid()),
            Shape::Onehot(gate) => Some(gate.curve().shift),
            Shape::Dpf(gate) => Some(gate.curve().shift),
        }
    }

    /// The output whose shares, mod 2^48, are `mine` and `theirs`: what a client does with what both parties return. A
    /// specification's output shift is taken here, where no mask is left.
    #[must_use]
    pub fn output(&self, mine: u64, theirs: u64) -> i64 {
        let y = WIRE.decode(mine.wrapping_add(theirs));
        match &self.shape {
            Shape::Suf(gate) => gate.finish(y),
            _ => y,
        }
    }

    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([VERSION, self.protocol().code(), self.name.len() as u8]);
        out.extend(self.name.as_bytes());
        match &self.shape {
            Shape::Sigma(gate) => {
                out.push(gate.clip());
                out.extend(gate.table().iter().flat_map(|entry| entry.to_le_bytes()));
            }
            Shape::SufLut(gate) => {
                out.push(gate.bits());
                out.extend(gate.table().iter().flat_map(|entry| entry.to_le_bytes()));
            }
            Shape::Suf(gate) => out.extend(gate.spec().encode()),
            Shape::Onehot(gate) => {
                out.push(gate.digits().len() as u8);
                out.extend(gate.digits());
                out.extend(gate.curve().encode());
            }
            Shape::Dpf(gate) => {
                out.push(gate.t_bits());
                out.extend(gate.curve().encode());
            }
        }
        out
    }

    /// Reads a canonical encoding.
    ///
    /// # Errors
    /// When a byte is out of place, the shape is not supported, or the encoding is not the canonical one.
    pub fn decode(bytes: &[u8]) -> Result<Self, GateError> {
        if bytes.len() > MAX_GATE_BYTES {
            return Err(GateError::Encoding("longer than 64 KiB"));
        }
        let mut cursor = Cursor(bytes);
        if cursor.take(4)? != MAGIC {
            return Err(GateError::Encoding("not a gate"));
        }
        if cursor.byte()? != VERSION {
            return Err(GateError::Encoding("another version"));
        }
        let code = cursor.byte()?;
        let name_len = usize::from(cursor.byte()?);
        let name = std::str::from_utf8(cursor.take(name_len)?)
            .map_err(|_| GateError::Encoding("the name is not UTF-8"))?;
        let shape = match Protocol::ALL.into_iter().find(|protocol| protocol.code() == code) {
            Some(Protocol::Sigma) => {
                let clip = cursor.byte()?;
                Shape::Sigma(Sigma::new(clip, cursor.table()?)?)
            }
            Some(Protocol::SufLut) => {
                let bits = cursor.byte()?;
                Shape::SufLut(SufLut::new(bits, cursor.table()?)?)
            }
            Some(Protocol::Suf) => {
                let spec = Spec::decode(std::mem::take(&mut cursor.0))
                    .map_err(|_| GateError::Encoding("the specification is damaged"))?;
                Shape::Suf(Suf::new(spec)?)
            }
            Some(Protocol::Onehot) => {
                let digits = usize::from(cursor.byte()?);
                let digits = cursor.take(digits)?.to_vec();
                Shape::Onehot(Onehot::new(cursor.curve()?, digits)?)
            }
            Some(Protocol::Dpf) => {
                let t_bits = cursor.byte()?;
                Shape::Dpf(Dpf::new(cursor.curve()?, t_bits)?)
            }
            None => return Err(GateError::Encoding("unknown protocol")),
        };
        let (gate, encoded) = Self::encoded(name, shape)?;
        if encoded != bytes {
            return Err(GateError::Encoding("not canonical"));
        }
        Ok(gate)
    }
}

/// Whether the key and each message of a full tile fit the messages that carry them. Other tiles are smaller.
///
/// # Errors
/// What does not fit, in words.
pub(crate) fn fit_messages(key: &KeyShape, exchanges: &[Vec<Segment>]) -> Result<(), String> {
    for (step, segments) in exchanges.iter().enumerate() {
        let bits: u32 = segments.iter().map(|segment| u32::from(segment.bits)).sum();
        if segments.len() > MAX_EXCHANGE_SEGMENTS {
            let count = segments.len();
            return Err(format!("exchange {step} opens {count} values, at most {MAX_EXCHANGE_SEGMENTS} fit"));
        }
        if bits > MAX_EXCHANGE_BITS {
            return Err(format!(
                "exchange {step} opens {bits} bits of each element, at most {MAX_EXCHANGE_BITS} fit"
            ));
        }
    }
    let bits = [Side::Seeded, Side::Explicit].map(|role| key.bits_per_elem(role));
    let largest = bits[0].max(bits[1]);
    if largest > 8 * MAX_KEY_BYTES {
        return Err(format!(
            "the key has {} bytes for each element, at most {MAX_KEY_BYTES} fit",
            largest.div_ceil(8)
        ));
    }
    Ok(())
}

/// Reads a byte string from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], GateError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(GateError::Encoding("cut short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, GateError> {
        Ok(self.take(1)?[0])
    }

    /// All that is left, as entries of four bytes.
    fn table(&mut self) -> Result<Vec<i32>, GateError> {
        let (entries, rest) = std::mem::take(&mut self.0).as_chunks::<4>();
        if !rest.is_empty() {
            return Err(GateError::Encoding("table cut short"));
        }
        Ok(entries.iter().map(|entry| i32::from_le_bytes(*entry)).collect())
    }

    /// All that is left, as a curve.
    fn curve(&mut self) -> Result<Curve, GateError> {
        Curve::decode(std::mem::take(&mut self.0)).map_err(|_| GateError::Encoding("the curve is damaged"))
    }
}

#[cfg(test)]
mod tests;
