//! Vectors of the texts that were finished before the others failed: kept beside the file to which all of them were to go.
//!
//! The file is an archive of three arrays. `texts` has the indices of the finished texts, and `vectors` a row for each. `of` is a
//! digest of what was asked for: another call takes vectors of the same texts, model and plan only.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{BufWriter, ErrorKind},
    path::{Path, PathBuf},
};

use suf_files::AtomicFile;

use crate::{
    error::Error,
    npy::{self, Array, Dtype, Form},
};

/// What stands behind the name of the output.
const ENDING: &str = ".partial.npz";

const TEXTS: &str = "texts";
const VECTORS: &str = "vectors";
const OF: &str = "of";

/// Vectors by the indices of their texts.
pub(crate) type Vectors = BTreeMap<usize, Vec<f32>>;

/// The place of finished vectors.
pub(crate) struct Partial {
    path: PathBuf,
    of: [u8; 32],
    texts: usize,
}

impl Partial {
    /// Beside `out`, for `texts` texts and what else `of` is a digest of. None where `out` is a pipe or a device.
    pub(crate) fn beside(out: &Path, of: [u8; 32], texts: usize) -> Option<Self> {
        if fs::metadata(out).is_ok_and(|found| !found.is_file()) {
            return None;
        }
        let mut path = OsString::from(out);
        path.push(ENDING);
        Some(Self { path: path.into(), of, texts })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `vectors`.
    ///
    /// # Errors
    /// When they cannot be written; what was there stays.
    pub(crate) fn write(&self, vectors: &Vectors) -> Result<(), Error> {
        let of_shape = |shape: &[usize], dtype| Form { shape: shape.to_vec(), fortran: false, dtype };
        let indices: Vec<u8> = vectors.keys().flat_map(|at| (*at as u64).to_le_bytes()).collect();
        let rows: Vec<u8> = vectors.values().flatten().flat_map(|x| x.to_le_bytes()).collect();
        let width = vectors.values().next().map_or(0, Vec::len);
        let arrays = [
            (TEXTS, of_shape(&[vectors.len()], Dtype::U64), &indices[..]),
            (VECTORS, of_shape(&[vectors.len(), width], Dtype::F32), &rows[..]),
            (OF, of_shape(&[self.of.len()], Dtype::U8), &self.of[..]),
        ];
        let target = AtomicFile::create(&self.path).map_err(|error| Error::unwritable(&self.path, &error))?;
        let mut buffered = BufWriter::new(target);
        npy::write_arrays(&mut buffered, &arrays)
            .and_then(|()| suf_files::finish(buffered))
            .map_err(|error| Error::write(&self.path, error))
    }

    /// The vectors that an earlier call has kept; none if there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or is of other texts, another model or another plan.
    pub(crate) fn read(&self) -> Result<Vectors, Error> {
        let name = self.path.display();
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vectors::new()),
            _ => {}
        }
        let arrays = npy::read_arrays(&self.path, 3)
            .map_err(|error| Error::usage(format!("{name}: {error}; leave --resume out")))?;
        self.taken(&arrays).map_err(|problem| Error::usage(format!("{name}: {problem}; leave --resume out")))
    }

    fn taken(&self, arrays: &BTreeMap<String, Array<'_>>) -> Result<Vectors, String> {
        let array = |name: &str, dtype| {
            let found = arrays.get(name).filter(|array| array.form().dtype == dtype);
            found.ok_or_else(|| format!("it has no array {name:?} of type {}", Dtype::name(dtype)))
        };
        if *array(OF, Dtype::U8)?.data() != self.of {
            return Err("it is of other texts, another model, another plan or another --length".into());
        }
        let (texts, vectors) = (array(TEXTS, Dtype::U64)?, array(VECTORS, Dtype::F32)?);
        let [rows, width] = vectors.form().shape[..] else { return Err("its vectors are no matrix".into()) };
        let indices: Vec<usize> =
            texts.data().as_chunks().0.iter().map(|word| u64::from_le_bytes(*word) as usize).collect();
        if indices.len() != rows || indices.iter().any(|at| *at >= self.texts) {
            return Err("its texts and vectors do not fit".into());
        }
        let values: Vec<f32> =
            vectors.data().as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect();
        Ok(indices.into_iter().zip(values.chunks_exact(width).map(<[f32]>::to_vec)).collect())
    }

    /// Removes the file.
    ///
    /// # Errors
    /// When it is there and stays.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::write(&self.path, error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_back_for_the_same_call_and_for_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("v.npy");
        let partial = Partial::beside(&out, [7; 32], 5).expect("no file yet");
        assert_eq!(partial.path(), folder.path().join("v.npy.partial.npz"));
        assert_eq!(partial.read().expect("none"), Vectors::new());
        let vectors = Vectors::from([(1, vec![0.5, -1.0, 2.0]), (4, vec![0.0, 3.0, f32::MIN_POSITIVE])]);
        partial.write(&vectors).expect("it is writable");
        assert_eq!(partial.read().expect("of the same call"), vectors);
        for (other, words) in [
            (Partial::beside(&out, [8; 32], 5), "other texts"),
            (Partial::beside(&out, [7; 32], 4), "do not fit"),
        ] {
            let said = other.expect("the same place").read().expect_err(words).to_string();
            assert!(said.contains(words) && said.contains("leave --resume out"), "{said}");
        }
        let whole = fs::read(partial.path()).expect("a file");
        fs::write(partial.path(), &whole[..whole.len() / 2]).expect("it is writable");
        assert!(partial.read().expect_err("half a file").to_string().contains("damaged"));
        partial.remove().expect("it is ours");
        partial.remove().expect("it is gone already");
        assert!(Partial::beside(Path::new("/dev/null"), [7; 32], 5).is_none());
    }
}
