//! The folder of a model on the disk.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use suf_model::{Folder, folder::too_large};

/// A folder.
#[derive(Clone, Debug)]
pub struct ModelFolder(PathBuf);

impl ModelFolder {
    /// The folder at `path`.
    ///
    /// # Errors
    /// When there is none, in words.
    pub fn open(path: &Path) -> Result<Self, String> {
        match path.metadata() {
            Ok(found) if found.is_dir() => Ok(Self(path.to_owned())),
            Ok(_) => Err(format!("{} is a file; name the folder of a model", path.display())),
            Err(error) => Err(format!("there is no folder {}: {error}", path.display())),
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Folder for ModelFolder {
    fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let mut file = match File::open(self.0.join(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let found = file.metadata().map_err(|error| error.to_string())?;
        if !found.is_file() {
            return Err("it is no file".into());
        }
        if found.len() > most {
            return Err(too_large(found.len(), most));
        }
        let mut bytes = Vec::with_capacity(found.len() as usize);
        // A file that grows meanwhile is cut at its length.
        let read = Read::by_ref(&mut file).take(found.len()).read_to_end(&mut bytes);
        read.map_err(|error| error.to_string())?;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_read_under_their_limit() {
        let disk = tempfile::tempdir().expect("a folder");
        fs::write(disk.path().join("a"), [7; 9]).expect("a file");
        fs::create_dir(disk.path().join("b")).expect("a folder");
        let folder = ModelFolder::open(disk.path()).expect("it is there");
        assert_eq!(folder.read("a", 9), Ok(Some(vec![7; 9])));
        assert_eq!(folder.read("none", 9), Ok(None));
        assert_eq!(folder.read("a", 8), Err("it has 9 bytes, and at most 8 are read".into()));
        assert_eq!(folder.read("b", 9), Err("it is no file".into()));
        assert!(ModelFolder::open(&disk.path().join("a")).is_err_and(|error| error.contains("is a file")));
        let missing = ModelFolder::open(&disk.path().join("c")).expect_err("it is not there");
        assert!(missing.contains("there is no folder"), "{missing}");
    }
}
