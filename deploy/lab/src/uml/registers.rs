//! Processors with AMX have more vector registers than user-mode Linux before 6.13 knows, and it dies at boot there.
//!
//! A small library, loaded before the C library, gives the host the registers that the kernel leaves out. It is compiled
//! where it is needed. A kernel that knows all registers is served as without it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const SOURCE: &str = include_str!("registers.c");

/// What a processor with more registers than 6.1 knows calls itself.
const FLAG: &str = "amx_tile";

/// Whether this processor has AMX.
pub(super) fn has_amx() -> bool {
    let said = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    said.lines().any(|line| line.starts_with("flags") && line.split(' ').any(|flag| flag == FLAG))
}

/// The library, built in `folder`; none if there is no compiler, and a newer kernel does without.
pub(super) fn library(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("registers.c"), folder.join("registers.so"));
    fs::write(&source, SOURCE).ok()?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let compiled = compiler.output().is_ok_and(|output| output.status.success());
    compiled.then_some(library)
}
