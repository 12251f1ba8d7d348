//! One evaluation: from bytes of an array to bytes of an array.

use std::{sync::Arc, time::Duration};

use pyo3::{PyResult, Python};
use serde_json::Value;
use suf_cli::{
    client::{Parties, Sink},
    error::Error,
    evaluation::{candidates, fastest, figures, verdict},
    gates::{self, Definition},
    npy::{Array, Dtype, Form},
    tensor::{Accuracy, Tensor, output_form},
};
use suf_control::v1::RunState;
use suf_gate::{Gate, Protocol, ring::FRAC};

use crate::{attend::Teller, failure::input};

/// Longest deadline of a run, in seconds: a day, the most that a party's configuration admits.
const MOST_DEADLINE_S: f64 = 86_400.0;

/// What is asked for.
pub(crate) struct Asked<'a> {
    gate: &'a str,
    protocol: Option<Protocol>,
    shape: Option<&'a str>,
    deadline: Option<Duration>,
    form: Form,
}

/// Where the outputs are.
pub(crate) enum Written {
    /// In the array that was given for them.
    Out,
    /// Here, in a type that has room for all of them.
    Own {
        /// Little endian.
        bytes: Vec<u8>,
        /// Name of their type.
        dtype: &'static str,
        /// Why the type is not that of the inputs.
        wider: Option<String>,
    },
}

impl<'a> Asked<'a> {
    /// From arguments. `form` is the name of a type, the lengths of the axes, and whether the first index changes fastest.
    ///
    /// # Errors
    /// When there is no such protocol or type.
    pub(crate) fn new(
        py: Python<'_>,
        gate: &'a str,
        protocol: Option<&str>,
        shape: Option<&'a str>,
        deadline: Option<Duration>,
        (dtype, lengths, fortran): (String, Vec<usize>, bool),
    ) -> PyResult<Self> {
        let protocol = protocol.map(str::parse).transpose().map_err(|error| input(py, &error))?;
        let known = Dtype::ALL.into_iter().find(|known| known.name() == dtype);
        let Some(dtype) = known else { return Err(input(py, &format!("{dtype} is no type of a tensor"))) };
        Ok(Self { gate, protocol, shape, deadline, form: Form { shape: lengths, fortran, dtype } })
    }
}

/// A deadline from seconds.
///
/// # Errors
/// When there is no such deadline.
pub(crate) fn deadline(py: Python<'_>, seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let Some(seconds) = seconds else { return Ok(None) };
    // NaN is not in the range.
    if (0.001..=MOST_DEADLINE_S).contains(&seconds) {
        return Ok(Some(Duration::from_secs_f64(seconds)));
    }
    let message = format!("deadline = {seconds}: it is a number of seconds from 0.001 to {MOST_DEADLINE_S}");
    Err(input(py, &message))
}

/// Evaluates the values in `data`. The outputs go to `out` if it is there, whose type has to hold them; returns figures.
pub(crate) async fn evaluate(
    parties: &Parties,
    asked: &Asked<'_>,
    data: &[u8],
    out: Option<&mut [u8]>,
    teller: &Teller,
) -> Result<(Value, Written), Error> {
    let file = gates::file(asked.gate)?;
    let array = Array::borrowed(asked.form.clone(), data).map_err(Error::usage)?;
    let fitting = candidates(&file, asked.protocol, asked.shape, &Arc::new(array), "an array")?;
    let ((gate, tensor), why) = if asked.protocol.is_none() {
        let (chosen, why) = fastest(parties, fitting).await?;
        (chosen, Some(why))
    } else {
        (fitting.into_iter().next().expect("there is at least one"), None)
    };
    let output = match out {
        Some(bytes) => Output::Bytes { bytes, dtype: asked.form.dtype, piece: Vec::new() },
        None => Output::Units(Vec::with_capacity(asked.form.len())),
    };
    let accuracy = Accuracy::default();
    let mut sink = Collect {
        output,
        accuracy,
        gate: &gate,
        file: &file,
        tensor: &tensor,
        done: 0,
        what: "starting",
        teller,
    };
    let outcome = parties.evaluate(&gate, &tensor, asked.deadline, &mut sink).await?;
    parties.acknowledge(outcome.run).await;
    let Collect { output, accuracy, .. } = sink;
    verdict(&accuracy)?;
    let written = match output {
        Output::Bytes { .. } => Written::Out,
        Output::Units(units) => {
            let (form, wider) = output_form(&asked.form, &units);
            let mut bytes = Vec::with_capacity(units.len() * form.dtype.width());
            form.dtype.encode(&units, FRAC, &mut bytes);
            Written::Own { bytes, dtype: form.dtype.name(), wider }
        }
    };
    Ok((figures(&gate, tensor.elements(), &outcome, &accuracy, why.as_deref()), written))
}

/// Where outputs are kept.
enum Output<'a> {
    /// In their place, encoded tile by tile.
    Bytes {
        /// What is left of it.
        bytes: &'a mut [u8],
        dtype: Dtype,
        /// A tile's bytes.
        piece: Vec<u8>,
    },
    /// As they are, until it is known which type holds all of them.
    Units(Vec<i64>),
}

/// Collects the outputs and judges them.
struct Collect<'a> {
    output: Output<'a>,
    accuracy: Accuracy,
    gate: &'a Gate,
    file: &'a Definition,
    tensor: &'a Tensor<'a>,
    done: u64,
    what: &'static str,
    teller: &'a Teller,
}

impl Sink for Collect<'_> {
    fn take(&mut self, tile: u32, values: &[i64]) {
        self.accuracy.add(self.gate, self.file, self.tensor, tile, values);
        match &mut self.output {
            Output::Bytes { bytes, dtype, piece } => {
                piece.clear();
                dtype.encode(values, FRAC, piece);
                let (place, rest) = std::mem::take(bytes).split_at_mut(piece.len());
                place.copy_from_slice(piece);
                *bytes = rest;
            }
            Output::Units(units) => units.extend_from_slice(values),
        }
        self.done += values.len() as u64;
        self.teller.tell(self.done, self.tensor.elements(), self.what);
    }

    fn state(&mut self, state: RunState) {
        self.what = match state {
            RunState::Dealing => "the dealer makes keys",
            RunState::ReadyForInput => "evaluating",
            _ => "starting",
        };
        self.teller.tell(self.done, self.tensor.elements(), self.what);
    }
}
