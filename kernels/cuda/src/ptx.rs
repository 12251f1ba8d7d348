//! PTX of the built-in gates, made ahead for machines without NVRTC. It is made with the oldest NVRTC whose driver is used, so
//! that every driver that is used takes it, by `examples/ptx.rs`.
//!
//! PTX is found by the hash of the source that it was made of, so that PTX of another source than today's is never used. The
//! archive is, in brotli: the number of sources (4 bytes; numbers are little-endian), then an entry for each, then all PTX in
//! that order. An entry is the source's BLAKE3 (32 bytes) and the length of its PTX (4 bytes). Kernels of one protocol are
//! alike, hence one stream for all. It is unpacked as far as what is looked for, each time: that takes less than the driver's
//! work on it, and keeps no memory.

use std::{
    collections::HashSet,
    ffi::CString,
    io::{self, Read},
};

use brotli_decompressor::Decompressor;
use suf_gate::{BackendError, catalog};

use crate::{backend::base_source, gates::Plan, ops};

/// The NVRTC that the PTX is made with.
pub const NVRTC: (i32, i32) = (12, 8);

/// The compute capability that the PTX is made for, as 10 * major + minor; later ones take it as well.
pub const SM: u32 = 80;

static ARCHIVE: &[u8] = include_bytes!("../ptx/builtin.ptx.br");

/// Most bytes that are unpacked, six times what there are.
const MOST_BYTES: u64 = 64 << 20;

/// Bytes that are unpacked at a time.
const BUFFER_BYTES: usize = 1 << 16;

/// A source's name.
type Hash = [u8; 32];

/// All sources that the archive is made of, each once: that which gates share, and those of the built-in gates.
#[must_use]
pub fn sources() -> Vec<String> {
    let gates = catalog::builtin().filter_map(|gate| Plan::of(&gate).ok()).map(|plan| plan.source);
    let mut seen = HashSet::new();
    [base_source(), ops::source()]
        .into_iter()
        .chain(gates)
        .map(|source| source.text().to_owned())
        .filter(|text| seen.insert(hash(text)))
        .collect()
}

/// The archive of sources and their PTX, before compression.
#[must_use]
pub fn pack(made: &[(String, String)]) -> Vec<u8> {
    // No length is beyond 4 bytes: it is far below what is unpacked.
    let mut archive = (made.len() as u32).to_le_bytes().to_vec();
    for (source, ptx) in made {
        archive.extend(hash(source));
        archive.extend((ptx.len() as u32).to_le_bytes());
    }
    made.iter().for_each(|(_, ptx)| archive.extend(ptx.as_bytes()));
    archive
}

/// The PTX of `source`, if that is embedded.
pub(crate) fn find(source: &str) -> Result<Option<CString>, BackendError> {
    Unpacked::new(Decompressor::new(ARCHIVE, BUFFER_BYTES))
        .and_then(|archive| archive.find(source))
        .map_err(|error| BackendError::Failed(format!("the embedded PTX: {error}")))
}

fn hash(source: &str) -> Hash {
    *blake3::hash(source.as_bytes()).as_bytes()
}

/// An archive, unpacked up to its first PTX.
struct Unpacked<R> {
    /// Each source and the length of its PTX.
    index: Vec<(Hash, u32)>,
    rest: io::Take<R>,
}

impl<R: Read> Unpacked<R> {
    fn new(archive: R) -> io::Result<Self> {
        let mut rest = archive.take(MOST_BYTES);
        let count = number(&mut rest)?;
        let row = |_| {
            let mut hash = Hash::default();
            rest.read_exact(&mut hash)?;
            Ok((hash, number(&mut rest)?))
        };
        let index = (0..count).map(row).collect::<io::Result<_>>()?;
        Ok(Self { index, rest })
    }

    fn find(mut self, source: &str) -> io::Result<Option<CString>> {
        let hash = hash(source);
        let Some(at) = self.index.iter().position(|(of, _)| *of == hash) else { return Ok(None) };
        let before = self.index[..at].iter().map(|(_, len)| u64::from(*len)).sum();
        io::copy(&mut self.rest.by_ref().take(before), &mut io::sink())?;
        Ok(Some(CString::new(self.next(self.index[at].1)?)?))
    }

    /// The next `len` bytes of PTX.
    fn next(&mut self, len: u32) -> io::Result<Vec<u8>> {
        let mut ptx = Vec::new();
        self.rest.by_ref().take(len.into()).read_to_end(&mut ptx)?;
        if ptx.len() == len as usize { Ok(ptx) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn number(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const COMMAND: &str = "make it anew: SUF_NVRTC_DIR=DIRECTORY cargo run --release -p suf-cuda --example ptx, with NVRTC \
                           12.8 in the directory (docs/gpu.md, \"Without NVRTC\")";

    fn unpacked() -> HashMap<Hash, String> {
        let mut archive = Unpacked::new(Decompressor::new(ARCHIVE, BUFFER_BYTES)).expect("an archive");
        let mut all = HashMap::new();
        for (hash, len) in archive.index.clone() {
            let ptx =
                String::from_utf8(archive.next(len).expect("the archive is whole")).expect("PTX is text");
            assert!(all.insert(hash, ptx).is_none(), "a source stands twice in the archive; {COMMAND}");
        }
        assert_eq!(archive.rest.read(&mut [0]).expect("the end"), 0, "bytes after the last PTX; {COMMAND}");
        all
    }

    #[test]
    fn the_archive_holds_the_sources_that_there_are() {
        let held: HashSet<Hash> = unpacked().into_keys().collect();
        let due: HashSet<Hash> = sources().iter().map(|source| hash(source)).collect();
        let (missing, outdated) = (due.difference(&held).count(), held.difference(&due).count());
        assert!(
            missing == 0 && outdated == 0,
            "the embedded PTX lacks {missing} of {} sources and has {outdated} of which there is no source; {COMMAND}",
            due.len()
        );
    }

    #[test]
    fn an_entry_has_its_kernels_in_the_language_of_the_oldest_driver() {
        let all = unpacked();
        let gates = catalog::builtin().filter_map(|gate| Plan::of(&gate).ok());
        let mut kernels = vec![(base_source(), vec!["streams"])];
        kernels.extend(gates.map(|plan| {
            let names = plan.deal.iter().chain(&plan.steps).map(|task| task.name).collect();
            (plan.source, names)
        }));
        for (source, names) in kernels {
            let ptx =
                all.get(&hash(source.text())).unwrap_or_else(|| panic!("a source is not there; {COMMAND}"));
            // CUDA 12.8 is the first with PTX 8.7, and knows none later.
            for part in [".version 8.7\n", ".target sm_80\n"] {
                assert!(ptx.contains(part), "the PTX of {names:?} is not of {part}; {COMMAND}");
            }
            for name in names {
                assert!(ptx.contains(&format!(".entry {name}(")), "the PTX has no {name}; {COMMAND}");
            }
        }
    }

    /// Files of the project are smaller than 1 MiB.
    #[test]
    fn the_archive_is_small() {
        assert!(ARCHIVE.len() < 1 << 20, "the embedded PTX has {} bytes", ARCHIVE.len());
    }

    #[test]
    fn what_is_packed_is_found_and_an_archive_that_ends_early_is_an_error() {
        let made = [("a", "PTX of a"), ("b", ""), ("c", "of c")];
        let whole = pack(&made.map(|(source, ptx)| (source.to_owned(), ptx.to_owned())));
        let find = |archive: &[u8], source| Unpacked::new(archive)?.find(source);
        for (source, ptx) in made {
            assert_eq!(find(&whole, source).expect("whole"), Some(CString::new(ptx).expect("no zero byte")));
        }
        assert_eq!(find(&whole, "d").expect("whole"), None);
        for len in 0..whole.len() {
            assert!(find(&whole[..len], "c").is_err(), "{len} bytes of {}", whole.len());
        }
    }
}
