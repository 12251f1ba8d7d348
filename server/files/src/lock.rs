//! One writer to a folder.

use std::{
    fs::{File, Metadata, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::Unwritten;

/// The file that is locked. It stays in the folder: removing it would let two processes lock two files of one name.
pub(crate) const FILE: &str = ".suf-lock";

/// What is read of a holder's words, in bytes: they are one line.
const MOST_WORDS: u64 = 200;

/// The right to write into a folder, until it is dropped or the process ends, however that ends.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
}

/// Why a folder is not ours.
#[derive(Debug)]
pub enum Taken {
    /// By another process; what it said of itself.
    By(String),
    /// It cannot be locked at all.
    Unusable(io::Error),
}

impl FolderLock {
    /// Takes `folder`, which exists. `who` says who we are, in one line, to the next one who asks.
    ///
    /// # Errors
    /// When another process has it, or no file can be made there.
    pub fn take(folder: &Path, who: &str) -> Result<Self, Taken> {
        let path = folder.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // A link there might lead to a file that is not ours to shorten.
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(Taken::Unusable)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let mut words = Vec::new();
                // What cannot be read is as good as nothing: the lock is what counts.
                let _ = file.take(MOST_WORDS).read_to_end(&mut words);
                let words = String::from_utf8_lossy(&words).trim().replace(char::is_control, " ");
                return Err(Taken::By(if words.is_empty() { "another process".into() } else { words }));
            }
            // A file system without locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Taken::Unusable(error)),
            Ok(()) => {}
        }
        // The words are for people; a full disk takes none, and the lock holds all the same.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(who.as_bytes()));
        Ok(Self { file })
    }

    /// Whether the file that is locked is the one in `folder`, and not one that was removed from there.
    pub(crate) fn is_in(&self, folder: &Path) -> bool {
        let same = |own: Metadata, there: Metadata| (own.dev(), own.ino()) == (there.dev(), there.ino());
        match (self.file.metadata(), folder.join(FILE).symlink_metadata()) {
            (Ok(own), Ok(there)) => same(own, there),
            _ => false,
        }
    }
}

/// Holds the lock on the file `path`, which is made for it, while the result lives. Waits for it: for changes that take no time.
///
/// # Errors
/// If the file cannot be made or locked.
pub fn wait_for(path: PathBuf) -> Result<File, Unwritten> {
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(crate::PRIVATE).open(&path);
    match opened.and_then(|file| file.lock().map(|()| file)) {
        Ok(file) => Ok(file),
        Err(source) => Err(Unwritten { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_writer_at_a_time_who_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path(), "suf bench (process 1)").unwrap();
        match FolderLock::take(folder.path(), "suf bench (process 2)") {
            Err(Taken::By(who)) => assert_eq!(who, "suf bench (process 1)"),
            other => panic!("{other:?}"),
        }
        drop(first);
        FolderLock::take(folder.path(), "suf bench (process 3)").unwrap();
        assert!(matches!(FolderLock::take(&folder.path().join("none"), ""), Err(Taken::Unusable(_))));
    }
}
