//! Folders that go away with the process that made them.
//!
//! A process that is killed removes nothing. Its folder stays, and its lock goes: the next process that makes such a folder removes
//! those whose locks are free.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{fs::statfs, process::geteuid};
use tempfile::TempDir;

use crate::lock::{FILE, FolderLock, Taken};

/// How the names of these folders begin. Nothing else that programs leave in such places does.
const PREFIX: &str = "suf-local-";

/// The place in memory, on systems that have it.
const MEMORY: &str = "/dev/shm";

/// What a file system in memory says that it is (`statfs(2)`).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The ending of private keys' files.
const KEY: &str = "key";

/// Folders that are tried: another process may remove one that is not locked yet.
const TRIES: u32 = 100;

/// A folder for this process and its children. It is removed with everything in it when the value is dropped, and by another
/// process if this one is killed.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    _lock: FolderLock,
}

impl Scratch {
    /// A folder in the system's place for temporary files. Removes those of processes that are gone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> io::Result<Self> {
        Self::new_in(&env::temp_dir())
    }

    /// A folder in memory: what lies there reaches a disk only by swapping. None where the system has no such place. None also
    /// where the user names a place for temporary files (`TMPDIR`), which is used then.
    #[must_use]
    pub fn in_memory() -> Option<Self> {
        let named = env::var_os("TMPDIR").is_some_and(|folder| !folder.is_empty());
        let is_memory = !named && statfs(MEMORY).is_ok_and(|place| place.f_type == TMPFS_MAGIC);
        is_memory.then(|| Self::new_in(Path::new(MEMORY)).ok()).flatten()
    }

    fn new_in(place: &Path) -> io::Result<Self> {
        sweep(place);
        for _ in 0..TRIES {
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
            match FolderLock::take(folder.path(), &format!("process {}", std::process::id())) {
                // A process may have removed the file before it was locked.
                Ok(lock) if lock.is_in(folder.path()) => return Ok(Self { folder, _lock: lock }),
                Ok(_) | Err(Taken::By(_)) => {}
                Err(Taken::Unusable(error)) if error.kind() == ErrorKind::NotFound => {}
                Err(Taken::Unusable(error)) => return Err(error),
            }
        }
        Err(io::Error::new(ErrorKind::ResourceBusy, "another process removes what is made there"))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The rest goes with the folder.
        wipe_keys(self.path());
    }
}

/// Removes the folders in `place` that this user's processes have left. What another process removes, too, is not missed.
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
            && entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw());
        if is_ours {
            remove_if_left(&entry.path());
        }
    }
}

/// Removes `folder` if no process has its lock.
fn remove_if_left(folder: &Path) {
    let lock_path = folder.join(FILE);
    match OpenOptions::new().write(true).open(&lock_path) {
        // A file system without locks does not say whose it is, so that what is there stays.
        Ok(lock) if lock.try_lock().is_ok() => {
            wipe_keys(folder);
            // The lock is the last to go: a folder that could not be emptied is tried again by the next.
            let emptied = entries(folder).into_iter().filter(|path| *path != lock_path).all(|path| {
                let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
                if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }.is_ok()
            });
            if emptied {
                let _ = fs::remove_file(lock_path).and_then(|()| fs::remove_dir(folder));
            }
        }
        Ok(_) => {}
        // Its process was killed before it had the lock, or has just begun: it makes another one then. One that is not empty stays.
        Err(_) => {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Overwrites private keys: in memory that is the end of them. Best effort, as removing them is.
fn wipe_keys(folder: &Path) {
    for path in entries(folder) {
        let Ok(found) = path.symlink_metadata() else { continue };
        if found.is_dir() {
            wipe_keys(&path);
        } else if found.is_file() && path.extension().is_some_and(|ending| ending == KEY) {
            let _ = wipe(&path, found.len());
        }
    }
}

fn wipe(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(&vec![0; usize::try_from(bytes).unwrap_or(0)])?;
    file.sync_data()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<PathBuf> {
        let mut names = entries(folder);
        names.sort();
        names
    }

    #[test]
    fn a_folder_whose_process_is_gone_is_removed_by_the_next_and_one_in_use_is_not() {
        let place = tempfile::tempdir().unwrap();
        let used = Scratch::new_in(place.path()).unwrap();
        fs::write(used.path().join("used"), "").unwrap();
        // As a kill leaves them: everything is there, and the lock is free; or not even the lock was made.
        let left = place.path().join(format!("{PREFIX}left"));
        fs::create_dir_all(left.join("pki")).unwrap();
        for file in [FILE, "dealer.log", "pki/dealer.key"] {
            fs::write(left.join(file), "secret").unwrap();
        }
        fs::create_dir(place.path().join(format!("{PREFIX}begun"))).unwrap();
        // What is not ours stays: other names, and what others have put into a folder of ours.
        let others = ["suf-else", "suf-local-others"].map(|name| place.path().join(name));
        for folder in &others {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("a.key"), "theirs").unwrap();
        }
        let next = Scratch::new_in(place.path()).unwrap();
        let mut expected = vec![used.path().to_owned(), next.path().to_owned()];
        expected.extend(others.clone());
        expected.sort();
        assert_eq!(names(place.path()), expected);
        assert_eq!(fs::read(others[1].join("a.key")).unwrap(), b"theirs");
        assert!(used.path().join("used").exists());
        drop((used, next));
        assert_eq!(names(place.path()).len(), others.len(), "and those in use go with their values");
    }

    #[test]
    fn a_private_key_is_overwritten_before_it_goes() {
        let place = tempfile::tempdir().unwrap();
        let scratch = Scratch::new_in(place.path()).unwrap();
        fs::create_dir(scratch.path().join("pki")).unwrap();
        let key = scratch.path().join("pki/client.key");
        fs::write(&key, "secret").unwrap();
        // Another name for the same file shows what becomes of its bytes.
        fs::hard_link(&key, place.path().join("same")).unwrap();
        drop(scratch);
        assert_eq!(fs::read(place.path().join("same")).unwrap(), [0; 6]);
    }

    #[test]
    fn many_at_once_have_folders_of_their_own() {
        let place = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let made: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..20 {
                            let scratch = Scratch::new_in(place.path()).unwrap();
                            fs::write(scratch.path().join("a"), "").unwrap();
                            assert!(scratch.path().join("a").exists());
                        }
                    })
                })
                .collect();
            made.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert!(names(place.path()).is_empty());
    }
}
