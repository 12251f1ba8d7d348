//! The canonical encoding: the gates that differ, in the order in which nodes first name them, then the nodes.

mod private;
mod products;

use std::sync::Arc;

use super::{Node, Program, ProgramError, WeightStore};
use crate::{
    Form, Gate, NodeId, Ring, TensorShape,
    limits::{MAX_GATE_BYTES, MAX_GATES, MAX_NODES, MAX_PROGRAM_BYTES},
    ops::{
        Add, DropBits, Entry, Exp2, Function, Gain, GateOp, Input, Keep, Linear, Op, Open, Output,
        RowExponent, Scores, Shift, Spline, SubtractRow, Weights,
    },
};

const MAGIC: &[u8; 4] = b"sufp";
const VERSION: u8 = 1;

const INPUT: u8 = 1;
const OUTPUT: u8 = 2;
const GATE: u8 = 3;
const OPEN: u8 = 4;
const LINEAR: u8 = 5;
const ADD: u8 = 6;
const SHIFT: u8 = 7;
const DROP: u8 = 8;
const SLICE: u8 = 9;
const GAIN: u8 = 10;
const SUBTRACT_ROW: u8 = 11;
const PADS: u8 = 12;
const PRODUCT: u8 = 13;
const SCALE: u8 = 14;
const SQUARE_SUM: u8 = 15;
const ROW_EXPONENT: u8 = 16;
const EXP2: u8 = 17;
const SPLINE: u8 = 18;
const KEEP: u8 = 19;
const PRIVATE: u8 = 20;

const RECIPROCAL: u8 = 0;
const INVERSE_SQRT: u8 = 1;

/// Most wires that a node takes.
const MAX_INPUTS: usize = 16;

impl Program {
    /// Reads a canonical encoding, whose weights are among `weights`.
    ///
    /// # Errors
    /// When a byte is out of place, a node does not fit, weights are not there, or the encoding is not the canonical one.
    pub fn decode(bytes: &[u8], weights: &WeightStore) -> Result<Self, ProgramError> {
        let damaged = |what| Err(ProgramError::Encoding(what));
        if bytes.len() > MAX_PROGRAM_BYTES {
            return damaged("longer than a program may be");
        }
        let mut cursor = Cursor(bytes);
        if cursor.array()? != *MAGIC {
            return damaged("not a program");
        }
        if cursor.array()? != [VERSION] {
            return damaged("another version");
        }
        let count = usize::from(cursor.u16()?);
        if count > MAX_GATES {
            return damaged("too many gates");
        }
        let mut gates = Vec::with_capacity(count);
        for _ in 0..count {
            let length = cursor.u32()? as usize;
            if length > MAX_GATE_BYTES {
                return damaged("a gate is too long");
            }
            gates.push(Arc::new(Gate::decode(cursor.take(length)?)?));
        }
        let count = usize::from(cursor.u16()?);
        if count > MAX_NODES {
            return damaged("too many nodes");
        }
        let nodes = (0..count).map(|_| cursor.node(&gates, weights)).collect::<Result<Vec<_>, _>>()?;
        let made = Self::new(nodes)?;
        // Bytes at the end as well: they are not in what is encoded anew.
        if made.encoded != bytes {
            return damaged("not canonical");
        }
        Ok(made)
    }

    pub(super) fn encode_nodes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        put_u16(&mut out, self.gates.len());
        for gate in &self.gates {
            let encoded = gate.encode();
            out.extend((encoded.len() as u32).to_le_bytes());
            out.extend(encoded);
        }
        put_u16(&mut out, self.nodes.len());
        for Node { op, inputs, .. } in &self.nodes {
            let code = match op {
                Op::Input(_) => INPUT,
                Op::Output(_) => OUTPUT,
                Op::Keep(_) => KEEP,
                Op::Gate(_) => GATE,
                Op::Open(_) => OPEN,
                Op::Linear(_) => LINEAR,
                Op::Add(_) => ADD,
                Op::Shift(_) => SHIFT,
                Op::Drop(_) => DROP,
                Op::Slice(_) => SLICE,
                Op::Gain(_) => GAIN,
                Op::SubtractRow(_) => SUBTRACT_ROW,
                Op::Pads(_) => PADS,
                Op::Product(_) => PRODUCT,
                Op::Private(_) => PRIVATE,
                Op::Scale(_) => SCALE,
                Op::SquareSum(_) => SQUARE_SUM,
                Op::RowExponent(_) => ROW_EXPONENT,
                Op::Exp2(_) => EXP2,
                Op::Spline(_) => SPLINE,
            };
            out.extend([code, inputs.len() as u8]);
            inputs.iter().for_each(|input| put_u16(&mut out, input.index()));
            match op {
                Op::Input(input) => put_input(&mut out, input),
                Op::Output(Output) | Op::Keep(Keep) | Op::Add(Add) | Op::SubtractRow(SubtractRow) => {}
                Op::Gate(op) => {
                    let index = self.gates.iter().position(|known| known == op.gate());
                    put_u16(&mut out, index.expect("every gate is in the list"));
                    let Entry { ring, drop } = op.entry();
                    out.extend([ring.bits(), drop]);
                }
                Op::Open(op) => {
                    out.extend([form_code(op.form()), op.from().bits(), op.dropped(), op.to().bits()]);
                }
                Op::Linear(op) => {
                    out.extend(op.weights().digest());
                    out.push(op.frac());
                }
                Op::Shift(Shift(bits)) | Op::Drop(DropBits(bits)) => out.push(*bits),
                Op::Gain(op) => {
                    out.extend(op.weights().digest());
                    out.push(op.frac());
                }
                Op::Slice(_) | Op::Pads(_) | Op::Product(_) | Op::Scale(_) | Op::SquareSum(_) => {
                    products::put(&mut out, op);
                }
                Op::Private(op) => private::put(&mut out, op),
                Op::RowExponent(op) => {
                    let Scores { bits, cols, low, high, row_low } = *op.scores();
                    out.extend(bits.to_le_bytes());
                    out.extend(cols.to_le_bytes());
                    [low, high, row_low].iter().for_each(|bound| out.extend(bound.to_le_bytes()));
                }
                Op::Exp2(op) => {
                    out.extend(op.bits().to_le_bytes());
                    out.extend([op.to().bits(), op.frac()]);
                }
                Op::Spline(op) => put_spline(&mut out, op),
            }
        }
        out
    }
}

fn put_u16(out: &mut Vec<u8>, value: usize) {
    // Every count and index has a limit far below 2^16.
    out.extend((value as u16).to_le_bytes());
}

fn put_input(out: &mut Vec<u8>, input: &Input) {
    let wire = input.made();
    out.extend(wire.shape.rows().to_le_bytes());
    out.extend(wire.shape.cols().to_le_bytes());
    out.extend([wire.ring.bits(), wire.frac, form_code(wire.form)]);
}

fn put_spline(out: &mut Vec<u8>, spline: &Spline) {
    let pieces = spline.pieces();
    let (code, of) = match pieces.function() {
        Function::Reciprocal => (RECIPROCAL, 0),
        Function::InverseSqrt { of } => (INVERSE_SQRT, of),
    };
    out.push(code);
    out.extend(of.to_le_bytes());
    out.extend([spline.ring().bits(), spline.frac(), spline.to_frac()]);
    out.extend(pieces.low().to_le_bytes());
    out.extend(pieces.high().to_le_bytes());
    // Whoever makes other pieces of them finds another digest.
    out.extend(pieces.digest());
}

fn form_code(form: Form) -> u8 {
    match form {
        Form::Masked => 0,
        Form::Shared => 1,
        Form::Pad => 2,
    }
}

fn form_of(code: u8) -> Result<Form, ProgramError> {
    match code {
        0 => Ok(Form::Masked),
        1 => Ok(Form::Shared),
        _ => Err(ProgramError::Encoding("unknown form of a wire")),
    }
}

fn ring_of(bits: u8) -> Result<Ring, ProgramError> {
    if (1..=64).contains(&bits) {
        Ok(Ring::new(bits))
    } else {
        Err(ProgramError::Encoding("a ring has 1 to 64 bits"))
    }
}

/// Reads a byte string from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ProgramError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(ProgramError::Encoding("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProgramError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ProgramError::Encoding("cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, ProgramError> {
        self.array().map(u16::from_le_bytes)
    }

    fn i16(&mut self) -> Result<i16, ProgramError> {
        self.array().map(i16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ProgramError> {
        self.array().map(u32::from_le_bytes)
    }

    fn node(
        &mut self,
        gates: &[Arc<Gate>],
        weights: &WeightStore,
    ) -> Result<(Op, Vec<NodeId>), ProgramError> {
        let [code, count] = self.array()?;
        if usize::from(count) > MAX_INPUTS {
            return Err(ProgramError::Encoding("a node takes too many wires"));
        }
        let inputs = (0..count).map(|_| self.u16().map(NodeId)).collect::<Result<_, _>>()?;
        let op = match code {
            INPUT => Op::Input(self.input()?),
            OUTPUT => Op::Output(Output),
            KEEP => Op::Keep(Keep),
            GATE => {
                let gate = gates.get(usize::from(self.u16()?));
                let gate = gate.ok_or(ProgramError::Encoding("a gate that there is not"))?;
                let [bits, drop] = self.array()?;
                let entry = Entry { ring: ring_of(bits)?, drop };
                Op::Gate(GateOp::entering(Arc::clone(gate), entry)?)
            }
            OPEN => Op::Open(self.open()?),
            LINEAR => {
                let (weights, frac) = self.weights(weights)?;
                Op::Linear(Linear::new(weights, frac))
            }
            GAIN => {
                let (weights, frac) = self.weights(weights)?;
                Op::Gain(Gain::new(weights, frac))
            }
            ADD => Op::Add(Add),
            SUBTRACT_ROW => Op::SubtractRow(SubtractRow),
            SLICE..=SQUARE_SUM => self.product(code)?,
            SHIFT | DROP => {
                let [bits] = self.array()?;
                if code == SHIFT { Op::Shift(Shift(bits)) } else { Op::Drop(DropBits(bits)) }
            }
            ROW_EXPONENT => Op::RowExponent(self.row_exponent()?),
            EXP2 => {
                let bits = self.u16()?;
                let [ring, frac] = self.array()?;
                let made = Exp2::new(bits, ring_of(ring)?, frac);
                Op::Exp2(made.map_err(|_| ProgramError::Encoding("an exponential that there is not"))?)
            }
            SPLINE => Op::Spline(self.spline()?),
            PRIVATE => Op::Private(self.private()?),
            _ => return Err(ProgramError::Encoding("unknown operation")),
        };
        Ok((op, inputs))
    }

    fn weights(&mut self, weights: &WeightStore) -> Result<(Arc<Weights>, u8), ProgramError> {
        let digest = self.array()?;
        let [frac] = self.array()?;
        let here = weights.get(&digest).map(Arc::clone);
        let missing = || ProgramError::Weights(blake3::Hash::from_bytes(digest).to_hex().to_string());
        Ok((here.ok_or_else(missing)?, frac))
    }

    fn input(&mut self) -> Result<Input, ProgramError> {
        let (rows, cols) = (self.u32()?, self.u32()?);
        let [bits, frac, form] = self.array()?;
        let shape = TensorShape::new(rows, cols)
            .ok_or(ProgramError::Encoding("a tensor is empty or larger than a tensor may be"))?;
        if frac >= bits {
            return Err(ProgramError::Encoding("fewer bits than the ring's are fractional"));
        }
        Ok(Input::new(shape, ring_of(bits)?, frac, form_of(form)?))
    }

    fn row_exponent(&mut self) -> Result<RowExponent, ProgramError> {
        let (bits, cols) = (self.u16()?, self.u32()?);
        let [low, high, row_low] = [self.i16()?, self.i16()?, self.i16()?];
        RowExponent::new(Scores { bits, cols, low, high, row_low })
            .map_err(|_| ProgramError::Encoding("scores that do not fit"))
    }

    fn spline(&mut self) -> Result<Spline, ProgramError> {
        let [code] = self.array()?;
        let function = match (code, self.u32()?) {
            (RECIPROCAL, 0) => Function::Reciprocal,
            (INVERSE_SQRT, of) => Function::InverseSqrt { of },
            _ => return Err(ProgramError::Encoding("unknown function")),
        };
        let [ring, frac, to_frac] = self.array()?;
        let (low, high) = (u64::from_le_bytes(self.array()?), u64::from_le_bytes(self.array()?));
        let made = Spline::new(function, ring_of(ring)?, frac, to_frac, low, high)
            .map_err(|_| ProgramError::Encoding("a function without pieces"))?;
        if self.array()? == made.pieces().digest() {
            Ok(made)
        } else {
            Err(ProgramError::Encoding("other pieces of a function"))
        }
    }

    fn open(&mut self) -> Result<Open, ProgramError> {
        let [form, from, drop, to] = self.array()?;
        let (from, to) = (ring_of(from)?, ring_of(to)?);
        match form_of(form)? {
            Form::Shared if drop == 0 && to == from => Ok(Open::shared(from)),
            Form::Shared | Form::Pad => Err(ProgramError::Encoding("a shared wire is opened as it is")),
            Form::Masked => Open::masked(from, drop, to)
                .map_err(|_| ProgramError::Encoding("no bit is left of an opened wire")),
        }
    }
}
