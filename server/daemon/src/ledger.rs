//! The durable log of burnt batches, in redb.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use suf_party::BurnLog;
use suf_wire::BatchId;

/// Key: the batch's id. Value: when it was burnt, in milliseconds since the Unix epoch, for people.
const BURNT: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("burnt");

/// The file of the ledger in the state directory.
pub const FILE: &str = "ledger.redb";

/// The log over a redb file. One process holds it at a time.
#[derive(Debug)]
pub struct RedbLog {
    database: Database,
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
        write.open_table(BURNT).map_err(|error| open(error.into()))?;
        write.commit().map_err(|error| open(error.into()))?;
        Ok(Self { database })
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
        let fresh = {
            let mut table = write.open_table(BURNT)?;
            // Within a write transaction, of which there is one at a time, the insert itself is the test.
            table.insert(batch.0, unix_ms())?.is_none()
        };
        if fresh {
            write.commit()?;
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
    fn two_daemons_cannot_share_a_ledger() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let _first = RedbLog::open(dir.path()).expect("opens");
        assert!(matches!(RedbLog::open(dir.path()), Err(LogError::InUse(_))));
    }
}
