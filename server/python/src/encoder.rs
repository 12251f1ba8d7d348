//! A sentence encoder: a model's folder, and vectors of texts.

use std::{cell::Cell, path::PathBuf};

use numpy::PyArray1;
use pyo3::{Bound, PyAny, PyRef, PyResult, Python, pyclass, pymethods};
use serde_json::{Value, json};
use suf_cli::{
    choose::Activation,
    client::Outcome,
    embedding::{Embedding, Source, Watch},
    error::Error,
    evaluation,
    model::Model as Loaded,
    runtime::Interrupt,
};
use suf_gate::Protocol;
use suf_model::{
    Plan,
    bert::{batches, compile},
};
use suf_wire::Party;

use crate::{
    attend::{Stop, Teller, attend},
    client::Client,
    evaluate::deadline,
};

/// Keys of one run at a party, at most: more texts together save few rounds, and take memory that a party may not have.
const MOST_KEY_BYTES: u64 = 1 << 30;

/// The protocol of the activation whose keys have fewer bytes.
const ONEHOT: Activation = Activation::Fixed(Protocol::Onehot);

/// A model, and bounds of the values in it.
#[pyclass(frozen, module = "suf._suf")]
pub(crate) struct Model {
    path: PathBuf,
    loaded: Loaded,
    plan: Plan,
}

#[pymethods]
impl Model {
    /// Reads the model in the folder at `path`. Without `plan`, a file, it takes the plan that `suf embed` takes.
    #[new]
    fn new(py: Python<'_>, path: PathBuf, plan: Option<PathBuf>) -> PyResult<Self> {
        let (loaded, plan) = attend(py, &Interrupt::default(), None, |_| {
            let loaded = Loaded::load(&path)?;
            let (plan, _) = loaded.plan(plan.as_deref())?;
            Ok((loaded, plan))
        })?;
        Ok(Self { path, loaded, plan })
    }

    /// The folder, and the text of the plan.
    #[getter]
    fn setup(&self) -> (PathBuf, String) {
        (self.path.clone(), self.plan.to_toml())
    }

    /// Elements of a vector.
    #[getter]
    fn dimension(&self) -> u32 {
        self.loaded.bert.config.hidden
    }

    /// Most tokens of a text.
    #[getter]
    fn positions(&self) -> u32 {
        self.loaded.bert.config.positions
    }

    /// Vectors of `texts`, row by row, and the figures of each run as JSON.
    #[expect(clippy::too_many_arguments, reason = "the package alone calls it")]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        client: PyRef<'_, Client>,
        texts: Vec<String>,
        batch: u32,
        padded: Option<bool>,
        truncate: bool,
        deadline_s: Option<f64>,
        stop: PyRef<'_, Stop>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyArray1<f32>>, String)> {
        let deadline = deadline(py, deadline_s)?;
        let call = client.begin(py, &stop)?;
        let padded = padded.unwrap_or(!call.is_local());
        let made = attend(py, &call.interrupt, progress.as_ref(), |teller| {
            let all = texts.len() as u64;
            let texts = self.loaded.tokens(&texts, truncate)?;
            teller.tell(0, all, "checking the plan's bounds");
            self.loaded.holds_while(&self.plan, &texts, padded, || !call.interrupt.has_come())?;
            let mut rows = Rows {
                vectors: vec![Vec::new(); texts.len()],
                runs: Vec::new(),
                done: Cell::new(0),
                all,
                teller,
            };
            for (most, left) in self.groups(&texts, padded, batch)? {
                let source = Source::public(&self.loaded, &self.plan);
                let job = Embedding::new(source, &texts, &left, padded, most, ONEHOT)?;
                call.run(async |parties| job.evaluate(parties, deadline, &mut rows).await)?;
            }
            Ok((rows.vectors.concat(), Value::from(rows.runs).to_string()))
        });
        let (vectors, runs) = made?;
        Ok((PyArray1::from_vec(py, vectors), runs))
    }
}

impl Model {
    /// The indices of texts of one length each, and how many of them go together. These are at most `batch`, and their keys at
    /// most [`MOST_KEY_BYTES`].
    fn groups(&self, texts: &[Vec<u32>], padded: bool, batch: u32) -> Result<Vec<(u32, Vec<usize>)>, Error> {
        let config = &self.loaded.bert.config;
        let mut groups: Vec<(u32, u32, Vec<usize>)> = Vec::new();
        for single in batches(texts, config.positions, padded, 1) {
            match groups.last_mut() {
                Some((tokens, _, of_length)) if *tokens == single.length.tokens => {
                    of_length.extend(single.texts);
                }
                _ => {
                    let program = compile(config, &self.loaded.integers, &self.plan, single.length);
                    let keys = program.map_err(Error::usage)?.program.key_bytes(Party::P0);
                    let most = (MOST_KEY_BYTES / keys.max(1)).clamp(1, batch.into()) as u32;
                    groups.push((single.length.tokens, most, single.texts));
                }
            }
        }
        Ok(groups.into_iter().map(|(_, most, of_length)| (most, of_length)).collect())
    }
}

/// Keeps vectors and figures, and tells how far it is.
struct Rows<'a> {
    vectors: Vec<Vec<f32>>,
    runs: Vec<Value>,
    done: Cell<u64>,
    all: u64,
    teller: &'a Teller,
}

impl Watch for Rows<'_> {
    fn doing(&self, what: &str) {
        self.teller.tell(self.done.get(), self.all, what);
    }

    fn line(&self, line: &str) {
        self.doing(line);
    }

    fn done(&mut self, outcome: &Outcome, vectors: Vec<(usize, Vec<f32>)>) {
        self.done.set(self.done.get() + vectors.len() as u64);
        self.runs.push(figures(outcome, vectors.len()));
        for (at, vector) in vectors {
            self.vectors[at] = vector;
        }
        self.teller.tell(self.done.get(), self.all, "evaluated");
    }
}

/// The figures of one run.
fn figures(outcome: &Outcome, texts: usize) -> Value {
    let mut figures = evaluation::costs(outcome);
    figures["texts"] = json!(texts);
    figures
}
