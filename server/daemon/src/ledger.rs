//! The durable log of burnt batches, in redb.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use suf_party::BurnLog;
use suf_wire::BatchId;

use crate::{
    mark::{Mark, Marked},
    store::SPOOL,
};

/// Key: the batch's id. Value: when it was burnt, in milliseconds since the Unix epoch, for people.
const BURNT: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("burnt");

/// One row: the ledger's random name.
const NAME: TableDefinition<'_, (), [u8; 16]> = TableDefinition::new("name");

/// The file of the ledger in the state directory.
pub const FILE: &str = "ledger.redb";

/// The log over a redb file. One process holds it at a time.
#[derive(Debug)]
pub struct RedbLog {
    database: Database,
    name: [u8; 16],
    mark: Mark,
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another daemon has it open.
    #[error(
        "the ledger {0} is in use: another daemon runs on this state directory; stop it, or give this one its own"
    )]
    InUse(String),
    /// The file cannot be opened or made.
    #[error("the ledger {path} cannot be opened: {error}")]
    Open {
        /// The file.
        path: String,
        /// What the database says.
        error: Box<redb::Error>,
    },
    /// The spool folder's mark cannot be used.
    #[error("the ledger's mark in the spool folder {path} cannot be used: {error}")]
    Mark {
        /// The spool folder.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The ledger is older than what it left in the spool folder.
    #[error(
        "the ledger {path} was restored from a backup: it knows {known} burnt batches, but had burnt {burnt}; a forgotten batch could be used twice. Remove the whole state_dir to begin anew with fresh keys"
    )]
    Restored {
        /// The ledger.
        path: String,
        /// Batches that it knows.
        known: u64,
        /// Batches that it had burnt before.
        burnt: u64,
    },
    /// The spool folder belongs to another ledger.
    #[error(
        "the spool folder of the ledger {0} belongs to another ledger: it was copied, or the ledger was replaced. Give each daemon a state_dir of its own; remove the whole of it to begin anew with fresh keys"
    )]
    Foreign(String),
    /// A record could not be made durable.
    #[error("writing failed: {0}")]
    Write(#[source] Box<redb::Error>),
}

impl RedbLog {
    /// Opens or creates the ledger in `state_dir`.
    ///
    /// # Errors
    /// When another process has it, or it cannot be read or written.
    pub fn open(state_dir: &Path) -> Result<Self, LogError> {
        let file = state_dir.join(FILE);
        let path = file.display().to_string();
        let open = |error: redb::Error| LogError::Open { path: path.clone(), error: Box::new(error) };
        let database = Database::create(&file).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => LogError::InUse(path.clone()),
            other => open(other.into()),
        })?;
        let write = database.begin_write().map_err(|error| open(error.into()))?;
        let known = write
            .open_table(BURNT)
            .map_err(|error| open(error.into()))?
            .len()
            .map_err(|error| open(error.into()))?;
        let name = {
            let mut table = write.open_table(NAME).map_err(|error| open(error.into()))?;
            let found = table.get(()).map_err(|error| open(error.into()))?.map(|name| name.value());
            match found {
                Some(name) => name,
                None => {
                    let mut name = [0; 16];
                    aws_lc_rs::rand::fill(&mut name).expect("the operating system gives entropy");
                    table.insert((), name).map_err(|error| open(error.into()))?;
                    name
                }
            }
        };
        write.commit().map_err(|error| open(error.into()))?;

        let spool = state_dir.join(SPOOL);
        let unmarked = |error| LogError::Mark { path: spool.display().to_string(), error };
        let (mark, marked) = Mark::open(&spool).map_err(unmarked)?;
        match marked {
            Some(marked) if marked.ledger != name => return Err(LogError::Foreign(path)),
            Some(Marked { burnt, .. }) if burnt > known => {
                return Err(LogError::Restored { path, known, burnt });
            }
            _ => mark.write(Marked { ledger: name, burnt: known }).map_err(unmarked)?,
        }
        Ok(Self { database, name, mark })
    }

    /// How many batches were burnt.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn burnt(&self) -> Result<u64, LogError> {
        let count =
            || -> Result<u64, redb::Error> { Ok(self.database.begin_read()?.open_table(BURNT)?.len()?) };
        count().map_err(|error| LogError::Write(Box::new(error)))
    }

    fn insert(&self, batch: BatchId) -> Result<bool, redb::Error> {
        let mut write = self.database.begin_write()?;
        // The commit returns after the file system has it.
        write.set_durability(Durability::Immediate)?;
        let (fresh, burnt) = {
            let mut table = write.open_table(BURNT)?;
            // Within a write transaction, of which there is one at a time, the insert itself is the test.
            let fresh = table.insert(batch.0, unix_ms())?.is_none();
            (fresh, table.len()?)
        };
        if fresh {
            write.commit()?;
            // What is burnt is burnt: a mark that cannot be written, on a full disk, says less and forbids nothing.
            if let Err(error) = self.mark.write(Marked { ledger: self.name, burnt }) {
                tracing::warn!(%error, "the ledger's mark in the spool folder stays behind");
            }
        } else {
            write.abort()?;
        }
        Ok(fresh)
    }
}

impl BurnLog for RedbLog {
    type Error = LogError;

    fn record(&self, batch: BatchId) -> Result<bool, LogError> {
        self.insert(batch).map_err(|error| LogError::Write(Box::new(error)))
    }
}

/// Milliseconds since the Unix epoch; 0 on a clock before it, because nothing is decided by it.
pub(crate) fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use suf_party::{Ledger, LedgerError};

    use super::*;

    #[test]
    fn a_batch_burns_once_even_across_restarts() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let batch = BatchId([7; 16]);
        let ledger = Ledger::new(RedbLog::open(dir.path()).expect("opens"));
        assert_eq!(ledger.burn(batch).expect("fresh").id(), batch);
        assert!(matches!(ledger.burn(batch), Err(LedgerError::Burnt(_))));
        drop(ledger);
        let log = RedbLog::open(dir.path()).expect("opens again");
        assert_eq!(log.burnt().expect("readable"), 1);
        assert!(matches!(Ledger::new(log).burn(batch), Err(LedgerError::Burnt(_))));
    }

    #[test]
    fn a_ledger_older_than_its_spool_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (file, backup) = (dir.path().join(FILE), dir.path().join("backup"));
        let log = RedbLog::open(dir.path()).expect("opens");
        log.record(BatchId([1; 16])).expect("burns");
        drop(log);
        std::fs::copy(&file, &backup).expect("a backup");
        let log = RedbLog::open(dir.path()).expect("opens again");
        log.record(BatchId([2; 16])).expect("burns");
        drop(log);
        std::fs::copy(&backup, &file).expect("restored");
        let error = RedbLog::open(dir.path()).expect_err("batch 2 is forgotten");
        assert!(matches!(error, LogError::Restored { known: 1, burnt: 2, .. }), "{error}");
        assert!(error.to_string().contains("Remove the whole state_dir"), "{error}");
    }

    #[test]
    fn a_copied_spool_folder_and_a_replaced_ledger_are_refused() {
        let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        drop(RedbLog::open(here.path()).expect("opens"));
        drop(RedbLog::open(there.path()).expect("opens"));
        let mark = |dir: &tempfile::TempDir| dir.path().join(SPOOL).join(crate::mark::FILE);
        std::fs::copy(mark(&here), mark(&there)).expect("copied");
        assert!(matches!(RedbLog::open(there.path()), Err(LogError::Foreign(_))));
        std::fs::remove_file(here.path().join(FILE)).expect("removed");
        assert!(matches!(RedbLog::open(here.path()), Err(LogError::Foreign(_))));
        // Without either, it is a new ledger.
        std::fs::remove_dir_all(there.path()).expect("removed");
        std::fs::create_dir(there.path()).expect("made");
        RedbLog::open(there.path()).expect("opens");
    }

    #[test]
    fn two_daemons_cannot_share_a_ledger() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let _first = RedbLog::open(dir.path()).expect("opens");
        assert!(matches!(RedbLog::open(dir.path()), Err(LogError::InUse(_))));
    }
}
