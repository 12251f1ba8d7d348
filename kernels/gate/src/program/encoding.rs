//! The canonical encoding: the gates that differ, in the order in which nodes first name them, then the nodes.

use std::sync::Arc;

use super::{Node, Program, ProgramError};
use crate::{
    Form, Gate, NodeId, Ring, TensorShape,
    limits::{MAX_GATE_BYTES, MAX_GATES, MAX_NODES, MAX_PROGRAM_BYTES},
    ops::{Input, Op, Output},
};

const MAGIC: &[u8; 4] = b"sufp";
const VERSION: u8 = 1;

const INPUT: u8 = 1;
const OUTPUT: u8 = 2;
const GATE: u8 = 3;

/// Most wires that a node takes.
const MAX_INPUTS: usize = 16;

impl Program {
    /// Reads a canonical encoding.
    ///
    /// # Errors
    /// When a byte is out of place, a node does not fit, or the encoding is not the canonical one.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProgramError> {
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
        let nodes = (0..count).map(|_| cursor.node(&gates)).collect::<Result<Vec<_>, _>>()?;
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
                Op::Gate(_) => GATE,
            };
            out.extend([code, inputs.len() as u8]);
            inputs.iter().for_each(|input| put_u16(&mut out, input.index()));
            match op {
                Op::Input(input) => put_input(&mut out, input),
                Op::Output(Output) => {}
                Op::Gate(gate) => {
                    let index = self.gates.iter().position(|known| known == gate);
                    put_u16(&mut out, index.expect("every gate is in the list"));
                }
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
    let form = match wire.form {
        Form::Masked => 0,
        Form::Shared => 1,
    };
    out.extend([wire.ring.bits(), wire.frac, form]);
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

    fn u32(&mut self) -> Result<u32, ProgramError> {
        self.array().map(u32::from_le_bytes)
    }

    fn node(&mut self, gates: &[Arc<Gate>]) -> Result<(Op, Vec<NodeId>), ProgramError> {
        let [code, count] = self.array()?;
        if usize::from(count) > MAX_INPUTS {
            return Err(ProgramError::Encoding("a node takes too many wires"));
        }
        let inputs = (0..count).map(|_| self.u16().map(NodeId)).collect::<Result<_, _>>()?;
        let op = match code {
            INPUT => Op::Input(self.input()?),
            OUTPUT => Op::Output(Output),
            GATE => {
                let gate = gates.get(usize::from(self.u16()?));
                Op::Gate(Arc::clone(gate.ok_or(ProgramError::Encoding("a gate that there is not"))?))
            }
            _ => return Err(ProgramError::Encoding("unknown operation")),
        };
        Ok((op, inputs))
    }

    fn input(&mut self) -> Result<Input, ProgramError> {
        let (rows, cols) = (self.u32()?, self.u32()?);
        let [bits, frac, form] = self.array()?;
        let shape = TensorShape::new(rows, cols)
            .ok_or(ProgramError::Encoding("a tensor is empty or larger than a tensor may be"))?;
        if !(1..=64).contains(&bits) || frac >= bits {
            return Err(ProgramError::Encoding("a ring has 1 to 64 bits, of which fewer are fractional"));
        }
        let form = match form {
            0 => Form::Masked,
            1 => Form::Shared,
            _ => return Err(ProgramError::Encoding("unknown form of a wire")),
        };
        Ok(Input::new(shape, Ring::new(bits), frac, form))
    }
}
