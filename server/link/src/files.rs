//! Files of certificates and keys: written whole or not at all, and never over one that exists.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::LinkError;
use crate::pem::wrong;

/// Mode of a file for all to read.
pub(crate) const PUBLIC: u32 = 0o644;

/// Mode of a private key's file.
pub(crate) const PRIVATE: u32 = 0o600;

/// New files in one folder, which appear together when they are complete. What was prepared and not put in place goes away.
#[derive(Debug)]
pub(crate) struct NewFiles {
    folder: PathBuf,
    /// Whether the folder was made for them.
    made: bool,
    files: Vec<(PathBuf, NamedTempFile)>,
}

impl NewFiles {
    /// New files `names` in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// If one of them exists, or the folder cannot be made.
    pub(crate) fn begin(folder: &Path, names: &[String]) -> Result<Self, LinkError> {
        for name in names {
            let path = folder.join(name);
            if path.symlink_metadata().is_ok() {
                return Err(exists(&path));
            }
        }
        let made = !folder.exists();
        // Private keys lie there.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| unwritten(folder, &error))?;
        Ok(Self { folder: folder.to_owned(), made, files: Vec::new() })
    }

    /// Prepares a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8], mode: u32) -> Result<(), LinkError> {
        let path = self.folder.join(name);
        let file = prepare(&self.folder, bytes, mode).map_err(|error| unwritten(&path, &error))?;
        self.files.push((path, file));
        Ok(())
    }

    /// Puts all in place.
    ///
    /// # Errors
    /// If one exists by now, or the system refuses; none is there then.
    pub(crate) fn finish(mut self) -> Result<(), LinkError> {
        let mut done = Vec::new();
        for (path, file) in self.files.drain(..) {
            if let Err(error) = file.persist_noclobber(&path) {
                for path in done {
                    // The error that stopped this is the one to tell.
                    let _ = fs::remove_file(path);
                }
                return Err(unwritten(&path, &error.error));
            }
            done.push(path);
        }
        self.made = false;
        sync(&self.folder)
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        self.files.clear();
        if self.made {
            // Not if somebody else has put something there.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Replaces or makes the file `path` in one step.
///
/// # Errors
/// If it cannot be written; the old file is as it was then.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), LinkError> {
    let folder = folder_of(path);
    let file = prepare(folder, bytes, mode).map_err(|error| unwritten(path, &error))?;
    file.persist(path).map_err(|error| unwritten(path, &error.error))?;
    sync(folder)
}

/// Holds the folder's lock file while it lives, so that two changes of one authority do not lose each other.
///
/// # Errors
/// If the file cannot be made or locked.
pub(crate) fn lock(folder: &Path) -> Result<File, LinkError> {
    let path = folder.join("ca.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(PRIVATE).open(&path);
    let file = file.map_err(|error| unwritten(&path, &error))?;
    file.lock().map_err(|error| unwritten(&path, &error))?;
    Ok(file)
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file in `folder` with `bytes`, on the disk.
fn prepare(folder: &Path, bytes: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let private = fs::Permissions::from_mode(PRIVATE);
    let mut file = tempfile::Builder::new().prefix(".new-").permissions(private).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Puts the names in a folder on the disk.
fn sync(folder: &Path) -> Result<(), LinkError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| unwritten(folder, &error))
}

fn exists(path: &Path) -> LinkError {
    wrong(path, "exists already, and nothing was changed; name another folder or file, or remove it first")
}

pub(crate) fn unwritten(path: &Path, error: &io::Error) -> LinkError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        kind @ (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            LinkError::NoSpace { path: path.to_owned(), source: kind.into() }
        }
        _ => wrong(path, format!("cannot be written: {error}")),
    }
}
