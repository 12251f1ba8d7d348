//! A folder on the disk.

use std::{fs, path::PathBuf};

use suf_model::{Folder, folder::too_large};

/// A folder.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Folder for Disk {
    fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let path = self.0.join(path);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > most => Err(too_large(metadata.len(), most)),
            Ok(_) => fs::read(&path).map(Some).map_err(|error| error.to_string()),
            Err(_) => Ok(None),
        }
    }
}
