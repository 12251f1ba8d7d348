//! Keys between their arrival and their only use: in memory or in spool files, where the run's reservation says.
//!
//! A spool file is sealed, part by part, with AES-256-GCM under a key that exists in this process's memory alone. The
//! tag protects its integrity. After a crash the file is noise. The files are removed when their batch ends, and at
//! the next start.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;
use suf_process::KeyMemory;
use suf_wire::{BatchId, Part};

use crate::{
    budget::Reservation,
    mark,
    reservation::{KeyReservation, SpoolReservation},
};

/// Folder of the spool files in the state directory.
pub const SPOOL: &str = "spool";

/// Bytes of the seal of a part's key in a spool file: the tag of AES-256-GCM.
pub(crate) const SEAL_BYTES: u64 = 16;

/// Where batches are kept.
#[derive(Debug)]
pub struct KeyStore {
    spool: PathBuf,
}

/// One batch's keys.
#[derive(Debug)]
pub struct BatchStore {
    batch: BatchId,
    place: Storage,
}

/// Fields of a place are dropped in their order: what they reserve is given back last.
#[derive(Debug)]
enum Storage {
    Memory(
        Mutex<HashMap<Part, Bytes>>,
        #[expect(dead_code, reason = "held until the keys are gone")] Reservation,
    ),
    Spool(Spool, SpoolReservation),
}

/// Why a key cannot be stored or fetched.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The spool folder or a file in it cannot be used.
    #[error("the key spool {path} cannot be {what}: {error}; free space there, or raise key_memory_mb")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// A key read back is not what was written.
    #[error("the key of {part} in the key spool {path} was changed on disk")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Whose key.
        part: Part,
    },
    /// A key was fetched before, or never came.
    #[error("the key of {0} is not in the store: it is fetched once")]
    Absent(Part),
}

impl KeyStore {
    /// A store with its spool in `state_dir`. Spool files of an earlier process are removed: their key died with it.
    ///
    /// # Errors
    /// When the spool folder cannot be made or emptied.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let spool = state_dir.join(SPOOL);
        let failed = |what| {
            let path = spool.clone();
            move |error| StoreError::Io { path, what, error }
        };
        fs::create_dir_all(&spool).map_err(failed("made"))?;
        for entry in fs::read_dir(&spool).map_err(failed("read"))? {
            let file = entry.map_err(failed("read"))?.path();
            if file.ends_with(mark::FILE) {
                continue;
            }
            fs::remove_file(file).map_err(failed("emptied"))?;
        }
        Ok(Self { spool })
    }

    /// The folder of the spool files.
    pub(crate) fn folder(&self) -> &Path {
        &self.spool
    }

    /// A place for `batch`, where it has room.
    ///
    /// # Errors
    /// When a spool file is needed and cannot be made.
    pub(crate) fn batch(
        &self,
        batch: BatchId,
        reservation: KeyReservation,
    ) -> Result<BatchStore, StoreError> {
        let place = match reservation {
            KeyReservation::Memory(reserved) => Storage::Memory(Mutex::default(), reserved),
            KeyReservation::Spool(reservation) => {
                Storage::Spool(Spool::create(&self.spool, batch)?, reservation)
            }
        };
        Ok(BatchStore { batch, place })
    }
}

impl BatchStore {
    /// Keeps the key of `part`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put(&self, part: Part, bytes: Bytes) -> Result<(), StoreError> {
        match &self.place {
            Storage::Memory(keys, _) => {
                keys.lock().unwrap_or_else(PoisonError::into_inner).insert(part, bytes);
                Ok(())
            }
            Storage::Spool(spool, reservation) => {
                reservation.wrote(bytes.len() as u64 + SEAL_BYTES);
                spool.put(self.batch, part, &bytes)
            }
        }
    }

    /// Gives the key of `part` out, once.
    ///
    /// # Errors
    /// When it is not there, was given out before, or was damaged.
    pub fn take(&self, part: Part) -> Result<Bytes, StoreError> {
        match &self.place {
            Storage::Memory(keys, _) => keys
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&part)
                .ok_or(StoreError::Absent(part)),
            Storage::Spool(spool, _) => spool.take(self.batch, part),
        }
    }

    /// Whether the batch is in a spool file.
    #[must_use]
    pub fn is_spooled(&self) -> bool {
        matches!(self.place, Storage::Spool(..))
    }
}

struct Spool {
    path: PathBuf,
    file: File,
    key: LessSafeKey,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    end: u64,
    keys: HashMap<Part, (u64, usize)>,
}

impl Spool {
    fn create(folder: &Path, batch: BatchId) -> Result<Self, StoreError> {
        let path = folder.join(batch.to_string());
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| StoreError::Io { path: path.clone(), what: "made", error })?;
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).expect("the operating system gives entropy");
        let key = UnboundKey::new(&AES_256_GCM, &secret).expect("32 bytes are a key");
        secret.fill(0);
        std::hint::black_box(&secret);
        Ok(Self { path, file, key: LessSafeKey::new(key), index: Mutex::default() })
    }

    fn put(&self, batch: BatchId, part: Part, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |what| move |error| StoreError::Io { path: self.path.clone(), what, error };
        let mut sealed = KeyMemory::zeroed(bytes.len()).map_err(failed("written"))?;
        sealed.as_mut().copy_from_slice(bytes);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(part), Aad::from(batch.0), sealed.as_mut())
            .expect("a key is far below the cipher's limit");
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let start = index.end;
        let after = start + bytes.len() as u64;
        self.file.write_all_at(sealed.as_ref(), start).map_err(failed("written"))?;
        self.file.write_all_at(tag.as_ref(), after).map_err(failed("written"))?;
        index.end = after + SEAL_BYTES;
        index.keys.insert(part, (start, bytes.len()));
        Ok(())
    }

    fn take(&self, batch: BatchId, part: Part) -> Result<Bytes, StoreError> {
        let place = self.index.lock().unwrap_or_else(PoisonError::into_inner).keys.remove(&part);
        let (start, len) = place.ok_or(StoreError::Absent(part))?;
        let failed = |error| StoreError::Io { path: self.path.clone(), what: "read", error };
        let mut sealed = KeyMemory::zeroed(len + SEAL_BYTES as usize).map_err(failed)?;
        self.file.read_exact_at(sealed.as_mut(), start).map_err(failed)?;
        let opened = self
            .key
            .open_in_place(nonce(part), Aad::from(batch.0), sealed.as_mut())
            .map_err(|_| StoreError::Damaged { path: self.path.clone(), part })?
            .len();
        let mut bytes = Bytes::from_owner(sealed);
        bytes.truncate(opened);
        Ok(bytes)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a spool file stays behind; it holds no plain keys");
        }
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Unique under the spool's key, which serves one batch.
fn nonce(part: Part) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..4].copy_from_slice(&part.tile.to_le_bytes());
    bytes[4..6].copy_from_slice(&part.node.0.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use suf_wire::NodeId;

    use super::*;
    use crate::reservation::{self, Budgets};

    const BATCH: BatchId = BatchId([7; 16]);

    fn part(node: u16, tile: u32) -> Part {
        Part::new(NodeId(node), tile)
    }

    /// A store, and what its batches reserve: keys in memory up to `limit` bytes.
    fn store(limit: u64) -> (tempfile::TempDir, KeyStore, Budgets) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = KeyStore::open(dir.path()).expect("opens");
        let budgets = reservation::tests::with_key_memory(limit, dir.path());
        (dir, store, budgets)
    }

    #[test]
    fn both_places_give_each_key_back_once() {
        for (limit, spooled) in [(100, false), (5, true)] {
            let (_dir, store, budgets) = store(limit);
            let reservation = reservation::tests::key_reservation(&budgets, 6);
            let batch = store.batch(BATCH, reservation).expect("a place");
            assert_eq!(batch.is_spooled(), spooled);
            let keys = [(part(1, 0), b"one"), (part(1, 1), b"two"), (part(2, 0), b"six")];
            for (part, key) in keys {
                batch.put(part, Bytes::from_static(key)).expect("kept");
            }
            for (part, key) in keys.into_iter().rev() {
                assert_eq!(batch.take(part).expect("there"), &key[..]);
                assert!(matches!(batch.take(part), Err(StoreError::Absent(absent)) if absent == part));
            }
        }
    }

    #[test]
    fn room_is_given_back_with_the_batch() {
        for (limit, in_use) in [(10, [0, 10, 0]), (0, [0, 0, 10])] {
            let (_dir, store, budgets) = store(limit);
            let reservation = reservation::tests::key_reservation(&budgets, 10);
            let batch = store.batch(BATCH, reservation).expect("a place");
            assert_eq!(reservation::tests::in_use(&budgets), in_use);
            drop(batch);
            assert_eq!(reservation::tests::in_use(&budgets), [0, 0, 0]);
        }
    }

    #[test]
    fn the_spool_holds_no_plain_key_and_notices_damage() {
        let (dir, store, budgets) = store(0);
        let batch = store.batch(BATCH, reservation::tests::key_reservation(&budgets, 64)).expect("a place");
        batch.put(part(1, 0), Bytes::from(vec![0x5a; 64])).expect("kept");
        let path = dir.path().join(SPOOL).join(BATCH.to_string());
        let mut bytes = fs::read(&path).expect("the spool file");
        assert!(!bytes.windows(8).any(|window| window == [0x5a; 8]));
        bytes[10] ^= 1;
        fs::write(&path, &bytes).expect("damaged");
        let damaged = part(1, 0);
        let read = batch.take(damaged);
        assert!(matches!(read, Err(StoreError::Damaged { part, .. }) if part == damaged));
        drop(batch);
        assert!(!path.exists());
    }

    #[test]
    fn leftovers_are_removed_at_the_start() {
        let (dir, store, budgets) = store(0);
        std::mem::forget(
            store.batch(BATCH, reservation::tests::key_reservation(&budgets, 1)).expect("a place"),
        );
        KeyStore::open(dir.path()).expect("opens");
        assert_eq!(fs::read_dir(dir.path().join(SPOOL)).expect("readable").count(), 0);
    }
}
