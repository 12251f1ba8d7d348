//! The mark that a ledger leaves in the spool folder: which ledger it is, and how many batches it has burnt. A ledger that
//! knows less than its mark was restored from a backup; a mark of another ledger came with a copied spool folder. Either
//! way the daemon does not start, because it cannot know what was burnt in between.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// The mark's file in the spool folder.
pub(crate) const FILE: &str = "ledger-mark";

/// 16 bytes of the ledger's name, 8 of the count, little endian.
const BYTES: usize = 24;

/// The mark, open for writing.
#[derive(Debug)]
pub(crate) struct Mark(File);

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    /// The ledger's random name.
    pub(crate) ledger: [u8; 16],
    /// Batches that it has burnt.
    pub(crate) burnt: u64,
}

impl Mark {
    /// Opens or makes the mark in `spool`; what it says, unless it is new.
    pub(crate) fn open(spool: &Path) -> io::Result<(Self, Option<Marked>)> {
        fs::create_dir_all(spool)?;
        let path = spool.join(FILE);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let marked = said(&file)?;
        Ok((Self(file), marked))
    }

    /// What the mark in `spool` says, if there is one that says something.
    pub(crate) fn read(spool: &Path) -> io::Result<Option<Marked>> {
        match File::open(spool.join(FILE)) {
            Ok(file) => said(&file),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the mark. It needs not survive the end of power: an older mark only notices less.
    pub(crate) fn write(&self, marked: Marked) -> io::Result<()> {
        let mut bytes = [0; BYTES];
        bytes[..16].copy_from_slice(&marked.ledger);
        bytes[16..].copy_from_slice(&marked.burnt.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

/// What a mark's file says; nothing after a crash between making and writing it.
fn said(file: &File) -> io::Result<Option<Marked>> {
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    let mut bytes = [0; BYTES];
    file.read_exact_at(&mut bytes, 0)?;
    let (ledger, burnt) = bytes.split_at(16);
    Ok(Some(Marked {
        ledger: ledger.try_into().expect("16 bytes"),
        burnt: u64::from_le_bytes(burnt.try_into().expect("8 bytes")),
    }))
}
