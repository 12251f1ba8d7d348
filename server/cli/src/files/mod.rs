//! How files are written: whole or not at all.
//!
//! [`AtomicFile`] writes to a temporary file in the folder of its target, and renames it over the target when all bytes are
//! on the disk. A full disk, a kill or a loss of power leaves the earlier file as it was. [`FolderLock`] keeps a second
//! process out of a folder of results.

mod atomic;
mod lock;

pub(crate) use atomic::{AtomicFile, check, finish, write};
pub(crate) use lock::{FolderLock, Taken};
