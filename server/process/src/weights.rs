//! Quantised weights from safetensors files and models that a configuration names. Parties and the dealer load the same ones: a
//! program names them by their digests, so that other weights are found before anything is dealt.
//!
//! A matrix is a tensor of two dimensions, inputs by outputs, of 8-, 16- or 32-bit integers. The tensor `NAME.bias`, of one
//! dimension and 32- or 64-bit integers, is the bias of the matrix `NAME`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use suf_gate::{WeightStore, ops::Weights};

use crate::model::{LoadedModel, ModelEntry};

/// Memory of weights in MiB, where a configuration does not say: models of 250 million weights.
#[must_use]
pub const fn default_memory_mb() -> u64 {
    1024
}

/// Longest file: the weights of a model with a thousand million parameters in 32 bits, twice over.
const MOST_BYTES: u64 = 8 << 30;

/// What stands behind a matrix's name in that of its bias.
const BIAS: &str = ".bias";

/// What a configuration's weights and models came to.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The weights that programs may name.
    pub store: Arc<WeightStore>,
    /// The models, in order.
    pub models: Vec<LoadedModel>,
}

/// The weights of all `files` and `models`, which take `memory_mb` MiB at most.
///
/// # Errors
/// The first file that cannot be read, or holds what is no quantised weight: which file and tensor, and what is expected. A model that
/// cannot be read or has no plan. Less memory than they take.
pub fn load(files: &[PathBuf], models: &[ModelEntry], memory_mb: u64) -> Result<Loaded, String> {
    let mut store = WeightStore::default();
    for path in files {
        for (name, weights) in
            read(path).map_err(|problem| format!("weights: {}: {problem}", path.display()))?
        {
            tracing::info!(
                file = %path.display(), name, bytes = weights.bytes(),
                digest = %suf_wire::Digest(*weights.digest()), "weights loaded"
            );
            store.add(Arc::new(weights));
        }
    }
    let models: Vec<_> = models.iter().map(|entry| entry.load(&mut store)).collect::<Result<_, _>>()?;
    let bytes: usize = store.all().map(|weights| weights.bytes()).sum();
    let due = (bytes as u64).div_ceil(1 << 20);
    if due > memory_mb {
        return Err(format!(
            "model_memory_mb = {memory_mb}, but the weights of `models` and `weights` take {due} MiB: raise it to that"
        ));
    }
    Ok(Loaded { store: Arc::new(store), models })
}

/// How much there is, for people.
#[must_use]
pub fn described(loaded: &Loaded) -> String {
    let all = loaded.store.all();
    let (count, bytes) = all.fold((0, 0), |(count, bytes), weights| (count + 1, bytes + weights.bytes()));
    let models = loaded.models.iter().map(|LoadedModel { name, digest, bytes, .. }| {
        format!("; the model {name} with {} MiB and the digest {}", bytes >> 20, suf_wire::Digest(*digest))
    });
    let models: String = models.collect();
    format!("{count} matrices that programs may name, {} MiB{models}", bytes >> 20)
}

fn read(path: &Path) -> Result<Vec<(String, Weights)>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MOST_BYTES {
        return Err(format!("{length} bytes, at most {MOST_BYTES} are read"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    decode(&bytes)
}

/// The matrices of a safetensors file, with their names.
///
/// # Errors
/// What is wrong with it, in words.
pub fn decode(bytes: &[u8]) -> Result<Vec<(String, Weights)>, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("it is no safetensors file, or damaged ({error}): make it anew"))?;
    // The library gives them in no order.
    let mut names = file.names();
    names.sort_unstable();
    let mut found = Vec::new();
    for name in names {
        let Ok(view) = file.tensor(name) else { continue };
        if let Some(matrix) = name.strip_suffix(BIAS) {
            if file.tensor(matrix).is_err() {
                return Err(format!("tensor {name} is the bias of {matrix}, which is not there"));
            }
            continue;
        }
        let [rows, cols] = view.shape() else {
            return Err(format!("tensor {name} has {} dimensions, but a matrix has 2", view.shape().len()));
        };
        let size = |size: &usize| u32::try_from(*size).map_err(|_| format!("tensor {name} is too large"));
        let values = matrix_values(name, &view)?;
        let bias = match file.tensor(&format!("{name}{BIAS}")) {
            Ok(view) => bias_values(name, &view)?,
            Err(_) => Vec::new(),
        };
        let weights = Weights::new(size(rows)?, size(cols)?, values, bias);
        found.push((name.to_owned(), weights.map_err(|problem| format!("tensor {name}: {problem}"))?));
    }
    if found.is_empty() { Err("it holds no matrix".into()) } else { Ok(found) }
}

fn matrix_values(name: &str, view: &TensorView<'_>) -> Result<Vec<i32>, String> {
    let data = view.data();
    match view.dtype() {
        Dtype::I8 => Ok(data.iter().map(|byte| byte.cast_signed().into()).collect()),
        Dtype::I16 => Ok(data.as_chunks().0.iter().map(|word| i16::from_le_bytes(*word).into()).collect()),
        Dtype::I32 => Ok(data.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word)).collect()),
        other => {
            Err(format!("tensor {name} is of type {other:?}, but quantised weights are of I8, I16 or I32"))
        }
    }
}

fn bias_values(name: &str, view: &TensorView<'_>) -> Result<Vec<i64>, String> {
    let data = view.data();
    match (view.dtype(), view.shape()) {
        (_, shape) if shape.len() != 1 => {
            Err(format!("the bias of {name} has {} dimensions, not 1", shape.len()))
        }
        (Dtype::I32, _) => {
            Ok(data.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word).into()).collect())
        }
        (Dtype::I64, _) => Ok(data.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word)).collect()),
        (other, _) => Err(format!("the bias of {name} is of type {other:?}, but a bias is of I32 or I64")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
        let views: BTreeMap<_, _> = tensors
            .iter()
            .map(|(name, dtype, shape, data)| {
                (*name, TensorView::new(*dtype, shape.to_vec(), data).expect("lengths fit"))
            })
            .collect();
        safetensors::serialize(views, None).expect("a file")
    }

    #[test]
    fn matrices_of_every_width_are_read_with_their_biases() {
        let wide: Vec<u8> = [1i32, -2, 70_000, 3].iter().flat_map(|x| x.to_le_bytes()).collect();
        let bias: Vec<u8> = [-1i64, 1 << 40].iter().flat_map(|x| x.to_le_bytes()).collect();
        let bytes = file(&[
            ("narrow", Dtype::I8, &[1, 2], vec![0xFF, 2]),
            ("middle", Dtype::I16, &[2, 1], vec![0xFE, 0xFF, 1, 0]),
            ("wide", Dtype::I32, &[2, 2], wide),
            ("wide.bias", Dtype::I64, &[2], bias),
        ]);
        let found: BTreeMap<_, _> = decode(&bytes).expect("a file of weights").into_iter().collect();
        assert_eq!(found["narrow"].values(), [-1, 2]);
        assert_eq!(found["middle"].values(), [-2, 1]);
        assert_eq!(
            (found["wide"].values(), found["wide"].bias()),
            (&[1, -2, 70_000, 3][..], &[-1, 1 << 40][..])
        );
    }

    #[test]
    fn whatever_is_no_quantised_weight_is_refused_by_name() {
        let float = vec![0; 8];
        for (tensors, reason) in [
            (vec![("w", Dtype::F32, &[1usize, 2][..], float.clone())], "tensor w is of type F32"),
            (vec![("w", Dtype::I32, &[2][..], float.clone())], "tensor w has 1 dimensions"),
            (vec![("w.bias", Dtype::I32, &[2][..], float.clone())], "the bias of w, which is not there"),
            (
                vec![
                    ("w", Dtype::I32, &[1, 2][..], float.clone()),
                    ("w.bias", Dtype::I32, &[1][..], vec![0; 4]),
                ],
                "2 outputs have as many biases",
            ),
            (vec![], "no matrix"),
        ] {
            let error = decode(&file(&tensors)).expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
        let whole = file(&[("w", Dtype::I32, &[1, 2], float)]);
        for end in 0..whole.len() {
            assert!(decode(&whole[..end]).is_err(), "{end} bytes");
        }
    }
}
