//! The tiny model: its folder on the disk, its programs, and what must come out of them.

use std::{fs, path::Path, sync::Arc};

use suf_gate::{Program, Ring};
use suf_model::{
    Plan,
    bert::{Bert, Compiled, Length, Quantised, Reference, TYPE, compile},
    plan,
    ranges::Ranges,
};

use crate::tiny;

/// Columns of its vectors.
pub const HIDDEN: usize = tiny::HIDDEN;

/// Least cosine between a vector and the reference in floats.
const COSINE: f64 = 0.9998;

/// The model, and a plan for texts like [`TEXTS`].
#[derive(Debug)]
pub struct Tiny {
    files: tiny::Files,
    bert: Bert,
    integers: Quantised,
    plan: Plan,
}

/// Texts within the plan. Their tokens are letters.
pub const TEXTS: [&str; 5] =
    ["a", "hello world", "the quick brown fox", "jumps over the lazy dog", "zz zz zz zz zz zz"];

/// A program of the model, for a text.
#[derive(Debug)]
pub struct Task {
    compiled: Compiled,
    ids: Vec<u32>,
}

impl Tiny {
    /// The model.
    #[must_use]
    pub fn load() -> Self {
        Self::of(tiny::folder())
    }

    /// The same with another weight in its last layer, and so with other digests.
    ///
    /// # Panics
    /// Never: it is a model.
    #[must_use]
    pub fn other() -> Self {
        let mut tensors = tiny::tensors();
        let name = format!("encoder.layer.{}.intermediate.dense.weight", tiny::LAYERS - 1);
        tensors.get_mut(&name).expect("every layer has it").1[0] += 0.5;
        let mut files = tiny::folder();
        files.insert("model.safetensors".into(), tiny::safetensors(&tensors));
        Self::of(files)
    }

    /// Writes a folder of the same to `folder`, with `weight` as an element of the tensor `name`. It may be none that is supported.
    ///
    /// # Panics
    /// When there is no such tensor, or the folder is not writable.
    pub fn write_with(&self, folder: &Path, name: &str, weight: f32) {
        let mut tensors = tiny::tensors();
        tensors.get_mut(name).expect("a tensor of the model").1[5] = weight;
        self.write(folder);
        let file = folder.join("model.safetensors");
        fs::write(file, tiny::safetensors(&tensors)).expect("the folder is writable");
    }

    fn of(files: tiny::Files) -> Self {
        let bert = Bert::load(&files).expect("a model");
        let integers = Quantised::new(&bert).expect("its weights are small");
        let reference = Reference::new(&bert);
        let mut ranges = Ranges::none(tiny::LAYERS, tiny::HEADS);
        for text in TEXTS {
            let ids = bert.tokens.encode(text, tiny::POSITIONS).expect("a text");
            reference.measure(&ids, tiny::POSITIONS, &mut ranges);
        }
        let plan = Plan::new(TYPE, *integers.digest(), &ranges);
        Self { files, bert, integers, plan }
    }

    /// Writes the folder of the model, with its plan, to `folder`.
    ///
    /// # Panics
    /// When the folder is not writable.
    pub fn write(&self, folder: &Path) {
        for (name, bytes) in &self.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder is writable");
            fs::write(path, bytes).expect("the folder is writable");
        }
        fs::write(folder.join(plan::FILE), self.plan.to_toml()).expect("the folder is writable");
    }

    /// The model's digest in digits.
    #[must_use]
    pub fn digest(&self) -> String {
        plan::hex(self.integers.digest())
    }

    /// The program for `text`, padded to `tokens` tokens.
    ///
    /// # Panics
    /// When the text does not fit.
    #[must_use]
    pub fn task(&self, text: &str, tokens: u32) -> Task {
        let ids = self.bert.tokens.encode(text, tiny::POSITIONS).expect("a text");
        let length = Length { tokens, batch: 1, padded: true };
        let compiled = compile(&self.bert.config, &self.integers, &self.plan, length).expect("a program");
        Task { compiled, ids }
    }

    /// The values of a task's inputs.
    #[must_use]
    pub fn inputs(&self, task: &Task) -> Vec<Vec<i64>> {
        task.compiled.inputs(&self.bert, &[&task.ids])
    }

    /// Whether the output of a task's program is the vector of its text.
    ///
    /// # Errors
    /// When it is not, in words.
    pub fn check(&self, task: &Task, output: &[i64]) -> Result<(), String> {
        let [vector] = &task.compiled.vectors(&self.bert, &[&task.ids], output)[..] else {
            return Err("more than a vector came out".into());
        };
        close(vector, &Reference::new(&self.bert).embed(&task.ids))
    }

    /// Whether `vector` is the vector of `text`.
    ///
    /// # Errors
    /// When it is not, in words.
    ///
    /// # Panics
    /// When the text does not fit.
    pub fn check_text(&self, text: &str, vector: &[f64]) -> Result<(), String> {
        let ids = self.bert.tokens.encode(text, tiny::POSITIONS).expect("a text");
        close(vector, &Reference::new(&self.bert).embed(&ids)).map_err(|error| format!("{text}: {error}"))
    }
}

impl Task {
    /// The program.
    #[must_use]
    pub fn program(&self) -> &Arc<Program> {
        &self.compiled.program
    }

    /// The ring of its output.
    ///
    /// # Panics
    /// Never: the program has one.
    #[must_use]
    pub fn output_ring(&self) -> Ring {
        let program = self.program();
        let output = program.outputs().next().expect("a program has an output");
        program.node(program.node(output).inputs()[0]).ring().expect("an output takes a wire")
    }
}

/// Both have length 1.
fn close(a: &[f64], b: &[f64]) -> Result<(), String> {
    let cosine: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    if cosine >= COSINE { Ok(()) } else { Err(format!("cosine {cosine}")) }
}

/// The rows of a file of `count` vectors of the tiny model, float32.
///
/// # Panics
/// When it is another file.
#[must_use]
pub fn vectors(path: &Path, count: usize) -> Vec<Vec<f64>> {
    rows(path, count, HIDDEN)
}

/// The rows of a file of `count` vectors of `cols` elements, float32.
///
/// # Panics
/// When it is another file.
#[must_use]
pub fn rows(path: &Path, count: usize, cols: usize) -> Vec<Vec<f64>> {
    let array = fs::read(path).expect("vectors");
    let (header, data) = array.split_at(array.len() - 4 * count * cols);
    let header = String::from_utf8_lossy(header);
    assert!(header.contains("'descr': '<f4'") && header.contains(&format!("({count}, {cols})")), "{header}");
    let values = data.as_chunks().0.iter().map(|word| f64::from(f32::from_le_bytes(*word)));
    values.collect::<Vec<_>>().chunks_exact(cols).map(<[f64]>::to_vec).collect()
}
