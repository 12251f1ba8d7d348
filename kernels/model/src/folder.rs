//! The files of a model's folder, without the disk.

use crate::ModelError;

/// A folder whose files can be read.
pub trait Folder {
    /// The contents of the file at `path` within the folder; none if there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read or has more than `most` bytes, in words. The size is compared before anything is read.
    fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String>;
}

/// Folders in memory, file by file.
impl Folder for std::collections::BTreeMap<String, Vec<u8>> {
    fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        match self.get(path) {
            Some(file) if file.len() as u64 > most => Err(too_large(file.len() as u64, most)),
            file => Ok(file.cloned()),
        }
    }
}

/// The message about a file that is larger than its limit.
#[must_use]
pub fn too_large(bytes: u64, most: u64) -> String {
    format!("it has {bytes} bytes, and at most {most} are read")
}

/// A file that may be missing.
pub(crate) fn optional(folder: &dyn Folder, path: &str, most: u64) -> Result<Option<Vec<u8>>, ModelError> {
    folder.read(path, most).map_err(|problem| {
        ModelError::new(path, problem, "see that it is the model's own file, and its permissions")
    })
}

/// A file that has to be there.
pub(crate) fn required(folder: &dyn Folder, path: &str, most: u64) -> Result<Vec<u8>, ModelError> {
    optional(folder, path, most)?.ok_or_else(|| {
        let advice = "name the folder of a model as Hugging Face has it, with config.json, model.safetensors and \
                      tokenizer.json";
        ModelError::new(path, "there is no such file", advice)
    })
}

/// A limit under which no file is read: only whether the file exists is asked.
pub(crate) const PROBE: u64 = 0;
