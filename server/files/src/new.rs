//! New files that appear together, and never over one that exists.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::atomic::{sync_folder, with_mode};

/// A file or folder that cannot be written.
#[derive(Debug)]
pub struct Unwritten {
    /// Which.
    pub path: PathBuf,
    /// Why; of kind `AlreadyExists` if it is there.
    pub source: io::Error,
}

/// New files in one folder, which appear together when they are complete. What was prepared and not put in place goes away.
#[derive(Debug)]
pub struct NewFiles {
    folder: PathBuf,
    /// Whether the folder was made for them.
    made: bool,
    files: Vec<(PathBuf, NamedTempFile)>,
}

impl NewFiles {
    /// New files `names` in `folder`, which is made for its owner alone if it is not there.
    ///
    /// # Errors
    /// If one of them exists, or the folder cannot be made.
    pub fn begin(folder: &Path, names: &[String]) -> Result<Self, Unwritten> {
        for name in names {
            let path = folder.join(name);
            if path.symlink_metadata().is_ok() {
                return Err(Unwritten { path, source: ErrorKind::AlreadyExists.into() });
            }
        }
        let made = !folder.exists();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| Unwritten { path: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned(), made, files: Vec::new() })
    }

    /// Prepares a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, name: &str, bytes: &[u8], mode: u32) -> Result<(), Unwritten> {
        let path = self.folder.join(name);
        let prepared = with_mode(&path, Some(mode)).and_then(|mut file| {
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            Ok(file)
        });
        match prepared {
            Ok(file) => {
                self.files.push((path, file));
                Ok(())
            }
            Err(source) => Err(Unwritten { path, source }),
        }
    }

    /// Puts all in place.
    ///
    /// # Errors
    /// If one exists by now, or the system refuses; none is there then.
    pub fn finish(mut self) -> Result<(), Unwritten> {
        let mut done = Vec::new();
        for (path, file) in self.files.drain(..) {
            if let Err(error) = file.persist_noclobber(&path) {
                for path in done {
                    // The error that stopped this is the one to tell.
                    let _ = fs::remove_file(path);
                }
                return Err(Unwritten { path, source: error.error });
            }
            done.push(path);
        }
        self.made = false;
        let Some(path) = done.first() else { return Ok(()) };
        sync_folder(path).map_err(|source| Unwritten { path: self.folder.clone(), source })
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        self.files.clear();
        if self.made {
            // Not if another process has put something there.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn new_files_appear_together_and_replace_none() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("pki");
        let names = ["a.key".to_owned(), "a.pem".to_owned()];
        // Not finished: nothing is left, the folder neither.
        let mut files = NewFiles::begin(&folder, &names).unwrap();
        files.add("a.key", b"secret", crate::PRIVATE).unwrap();
        assert!(!folder.join("a.key").exists());
        drop(files);
        assert!(!folder.exists());

        let mut files = NewFiles::begin(&folder, &names).unwrap();
        files.add("a.key", b"secret", crate::PRIVATE).unwrap();
        files.add("a.pem", b"public", crate::PUBLIC).unwrap();
        files.finish().unwrap();
        let mode = |name: &str| {
            fs::metadata(folder.join(name)).map(|file| file.permissions().mode() & 0o777).unwrap()
        };
        assert_eq!((mode("a.key"), mode("a.pem")), (0o600, 0o644));
        assert_eq!(fs::read(folder.join("a.key")).unwrap(), b"secret");

        let refused = NewFiles::begin(&folder, &names[1..]).unwrap_err();
        assert_eq!(refused.path, folder.join("a.pem"));
        // One that came in between: neither is put in place.
        let names = ["b.key".to_owned(), "b.pem".to_owned()];
        let mut files = NewFiles::begin(&folder, &names).unwrap();
        files.add("b.key", b"secret", crate::PRIVATE).unwrap();
        files.add("b.pem", b"public", crate::PUBLIC).unwrap();
        fs::write(folder.join("b.pem"), "another's").unwrap();
        let refused = files.finish().unwrap_err();
        assert_eq!((refused.path, refused.source.kind()), (folder.join("b.pem"), ErrorKind::AlreadyExists));
        assert!(!folder.join("b.key").exists());
        assert_eq!(fs::read(folder.join("b.pem")).unwrap(), b"another's");
    }
}
