//! Writes a manual page for `suf` and for each of its commands: `cargo run --release -p suf-cli --example manpages -- FOLDER`.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("give the folder for the pages"))?;
    fs::create_dir_all(&folder)?;
    clap_mangen::generate_to(suf_cli::command(), folder)
}
