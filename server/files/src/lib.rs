//! How files are written: whole or not at all.
//!
//! [`AtomicFile`] writes to a temporary file in the folder of its target, and renames it over the target when all bytes are
//! on the disk. A full disk, a kill or a loss of power leaves the earlier file as it was. [`NewFiles`] are several that appear
//! together, and replace none; so is a [`NewFolder`]. [`FolderLock`] keeps a second process out of a folder of results. A [`Scratch`] folder goes away
//! with the process that made it, however that ends.

mod atomic;
mod folder;
mod lock;
mod new;
mod scratch;

pub use atomic::{AtomicFile, check, finish, folder_of, write, write_with_mode};
pub use folder::NewFolder;
pub use lock::{FolderLock, Taken, wait_for};
pub use new::{NewFiles, Unwritten};
pub use scratch::Scratch;

/// Mode of a file for all to read.
pub const PUBLIC: u32 = 0o644;

/// Mode of a private key's file.
pub const PRIVATE: u32 = 0o600;
