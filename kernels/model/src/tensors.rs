//! Float tensors of a safetensors file. 16-bit floats become 32-bit ones, which hold them exactly.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use crate::{Folder, ModelError, folder};

/// The file.
pub const FILE: &str = "model.safetensors";

/// Most bytes of the file's header, and of tensors that a model has beside those that are used.
const MOST_BESIDE: u64 = 64 << 20;

/// Files that hold a model's weights in another form, and what to do.
const OTHER_FORMS: [&str; 2] = ["model.safetensors.index.json", "pytorch_model.bin"];

/// A matrix, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// The elements.
    pub values: Vec<f32>,
}

impl Matrix {
    /// Row `row`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }
}

/// The bytes of a folder's safetensors file. `parameters` is the number of weights that the configuration speaks of: a file is
/// not read if it is more than twice as large.
///
/// # Errors
/// When the file is missing, cannot be read, or is too large.
pub fn read(folder: &dyn Folder, parameters: u64) -> Result<Vec<u8>, ModelError> {
    let most = 2 * 4 * parameters + MOST_BESIDE;
    if let Some(bytes) = folder::optional(folder, FILE, most)? {
        return Ok(bytes);
    }
    for other in OTHER_FORMS {
        // Any error about the other file shows that it exists.
        if !matches!(folder.read(other, folder::PROBE), Ok(None)) {
            let advice = format!("save the model as one {FILE}, as save_pretrained of transformers does");
            return Err(ModelError::new(FILE, format!("there is no such file beside {other}"), advice));
        }
    }
    folder::required(folder, FILE, most)
}

/// The tensors of a file.
pub struct Tensors<'a> {
    file: SafeTensors<'a>,
    prefix: &'static str,
}

impl<'a> Tensors<'a> {
    /// The tensors of the file's `bytes`. Their names may begin with one of `prefixes`: with that under which `probe` is found.
    ///
    /// # Errors
    /// When it is no safetensors file, or `probe` is not in it.
    pub fn parse(bytes: &'a [u8], probe: &str, prefixes: &[&'static str]) -> Result<Self, ModelError> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| {
            ModelError::damaged(FILE, format!("it is no safetensors file, or damaged ({error})"))
        })?;
        let found = prefixes.iter().find(|prefix| file.tensor(&format!("{prefix}{probe}")).is_ok());
        let prefix = found.ok_or_else(|| missing(probe))?;
        Ok(Self { file, prefix })
    }

    /// The matrix `name` of `rows` rows of `cols` elements.
    ///
    /// # Errors
    /// When it is missing, has another shape or type, or a value that is not finite.
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, ModelError> {
        Ok(Matrix { rows, cols, values: self.values(name, &[rows, cols])? })
    }

    /// The vector `name` of `len` elements.
    ///
    /// # Errors
    /// As for [`Tensors::matrix`].
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        self.values(name, &[len])
    }

    /// A file of the tensors `names` alone, as they are in this one.
    ///
    /// # Errors
    /// When one is missing.
    pub fn choose(&self, names: impl IntoIterator<Item = String>) -> Result<Vec<u8>, ModelError> {
        let view = |name: String| {
            let name = format!("{}{name}", self.prefix);
            let view = self.file.tensor(&name).map_err(|_| missing(&name))?;
            Ok((name, view))
        };
        let views = names.into_iter().map(view).collect::<Result<Vec<_>, ModelError>>()?;
        safetensors::serialize(views, None).map_err(|error| ModelError::damaged(FILE, error.to_string()))
    }

    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let name = format!("{}{name}", self.prefix);
        let view = self.file.tensor(&name).map_err(|_| missing(&name))?;
        if view.shape() != shape {
            let problem =
                format!("tensor {name} has the shape {:?}, and config.json says {shape:?}", view.shape());
            return Err(ModelError::damaged(FILE, problem));
        }
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|half| f16::from_le_bytes(*half).to_f32()).collect(),
            Dtype::BF16 => {
                data.as_chunks().0.iter().map(|half| bf16::from_le_bytes(*half).to_f32()).collect()
            }
            other => {
                let problem = format!("tensor {name} is of type {other:?}, and F32, F16 or BF16 are read");
                return Err(ModelError::new(FILE, problem, "save the model in one of these types"));
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                let problem = format!("tensor {name} has {} as element {at}, which is no number", values[at]);
                Err(ModelError::damaged(FILE, problem))
            }
            None => Ok(values),
        }
    }
}

fn missing(name: &str) -> ModelError {
    ModelError::damaged(FILE, format!("there is no tensor {name}"))
}
