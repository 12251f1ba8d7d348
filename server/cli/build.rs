//! Puts version and commit into the program, so that every record says what it was measured with.

use std::{path::Path, process::Command};

fn main() {
    let package = std::env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    // Outside a work tree (a source archive) the version stands alone.
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).map(|commit| format!("+{}", commit.trim()));
    println!("cargo::rustc-env=SUF_VERSION={package}{}", commit.unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        let log = log.trim();
        if Path::new(log).exists() {
            println!("cargo::rerun-if-changed={log}");
        }
    }
}
