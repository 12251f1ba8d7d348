//! A new folder that appears with all of its files.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    atomic::{folder_of, sync_folder},
    new::Unwritten,
};

/// Permissions of the folder: all may read what is in it.
const MODE: u32 = 0o755;

/// A folder that is being filled. Nothing of it is at its place before [`NewFolder::finish`]; dropping it leaves nothing.
#[derive(Debug)]
pub struct NewFolder {
    target: PathBuf,
    made: TempDir,
}

impl NewFolder {
    /// A new folder for `target`, which must not exist. When this works, its place can be written.
    ///
    /// # Errors
    /// If it exists, or the folder around it takes nothing.
    pub fn begin(target: &Path) -> Result<Self, Unwritten> {
        let unwritten = |source: io::Error| Unwritten { path: target.to_owned(), source };
        if target.symlink_metadata().is_ok() {
            return Err(unwritten(ErrorKind::AlreadyExists.into()));
        }
        let made =
            tempfile::Builder::new().prefix(".suf-").tempdir_in(folder_of(target)).map_err(unwritten)?;
        Ok(Self { target: target.to_owned(), made })
    }

    /// Writes a file; `name` may have folders before it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), Unwritten> {
        let path = self.made.path().join(name);
        let written = fs::create_dir_all(folder_of(&path)).and_then(|()| {
            let mut file = File::create_new(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(|source| Unwritten { path: self.target.join(name), source })
    }

    /// Puts the folder in its place.
    ///
    /// # Errors
    /// If something is there by now, or the system refuses.
    pub fn finish(self) -> Result<(), Unwritten> {
        let Self { target, made } = self;
        let placed = fs::set_permissions(made.path(), Permissions::from_mode(MODE))
            .and_then(|()| fs::rename(made.path(), &target))
            .and_then(|()| sync_folder(&target));
        placed.map_err(|source| Unwritten { path: target, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_folder_appears_whole_and_replaces_none() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("public");
        let mut folder = NewFolder::begin(&target).unwrap();
        folder.add("a", b"1").unwrap();
        folder.add("b/c", b"2").unwrap();
        assert!(!target.exists());
        drop(folder);
        assert_eq!(names(place.path()), [""; 0].map(PathBuf::from));

        let mut folder = NewFolder::begin(&target).unwrap();
        folder.add("a", b"1").unwrap();
        folder.add("b/c", b"2").unwrap();
        folder.finish().unwrap();
        assert_eq!(names(place.path()), std::slice::from_ref(&target));
        assert_eq!(fs::read(target.join("b/c")).unwrap(), b"2");
        let mode = fs::metadata(&target).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, MODE);

        let refused = NewFolder::begin(&target).unwrap_err();
        assert_eq!((refused.path, refused.source.kind()), (target.clone(), ErrorKind::AlreadyExists));
        // One that came in between stays.
        let other = place.path().join("other");
        let mut folder = NewFolder::begin(&other).unwrap();
        folder.add("a", b"1").unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("theirs"), "").unwrap();
        folder.finish().unwrap_err();
        assert_eq!(names(&other), [other.join("theirs")]);
        assert_eq!(names(place.path()).len(), 2);
    }
}
