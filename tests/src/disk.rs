//! A small file system, for tests of full disks.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A file system of a few MiB in a temporary folder, until it is dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// One of `mib` MiB; none where this process may not mount one.
    ///
    /// # Panics
    /// When there is no temporary folder.
    #[must_use]
    pub fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let size = format!("size={mib}m");
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        output.is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }

    /// Leaves no room on it; the file that takes the room is returned.
    ///
    /// # Panics
    /// When no file can be made.
    #[must_use]
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).expect("writable");
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A mount that stays keeps its folder; the next boot removes both.
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
