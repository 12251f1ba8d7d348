//! Users, and what is whose.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

/// A user without rights: "nobody" on most systems, and nobody's on the others.
pub const NOBODY: u32 = 65_534;

/// This process's user.
///
/// # Panics
/// When there is no /proc.
#[must_use]
pub fn own_uid() -> u32 {
    fs::metadata("/proc/self").expect("a process").uid()
}

/// Gives `folder` to the user without rights, with a copy of `program`, whose path it returns.
///
/// # Panics
/// When this is not root.
#[must_use]
pub fn hand_over(program: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join("suf");
    // A process of its own copies the file. A child that another test forks meanwhile would inherit the file, open for
    // writing. A file that is open for writing cannot be executed.
    let copied = Command::new("cp").args([program, &copy]).status().expect("cp runs");
    assert!(copied.success(), "{} cannot be copied", program.display());
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("changes the mode");
    for path in files(folder).into_iter().chain([folder.join("pki"), folder.to_owned()]) {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("root gives away");
    }
    copy
}

/// All files under `folder`.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
