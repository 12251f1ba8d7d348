//! The durable log of burnt batches, in redb.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use suf_party::{BurnLog, Purpose, Record};
use suf_wire::BatchId;

use crate::{
    mark::{Mark, Marked},
    store::SPOOL,
};

/// Key: the batch's id. Value: when it was burnt, in milliseconds since the Unix epoch, for people.
const BURNT: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("burnt");

/// Batches whose masks stay in use, each for one load. Key: the batch's id. Value: the load's digest, which never changes.
const LOADS: TableDefinition<'_, [u8; 16], [u8; 32]> = TableDefinition::new("loads");

/// One row: the ledger's random name.
const NAME: TableDefinition<'_, (), [u8; 16]> = TableDefinition::new("name");

/// The file of the ledger in the state directory.
pub const FILE: &str = "ledger.redb";

/// Bytes that a check writes: a block of the disk.
const PROBE_BYTES: usize = 4096;

/// The log over a redb file. One process holds it at a time.
#[derive(Debug)]
pub struct RedbLog {
    file: PathBuf,
    name: [u8; 16],
    mark: Mark,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None after an error: redb takes nothing more then, such as when there is space again, before the file is opened anew.
    database: Option<Database>,
    /// Batches that it knows.
    known: u64,
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
        let (database, name, known) = open(&file)?;
        let spool = state_dir.join(SPOOL);
        let unmarked = |error| LogError::Mark { path: spool.display().to_string(), error };
        let (mark, marked) = Mark::open(&spool).map_err(unmarked)?;
        if let Some(marked) = marked {
            check(&file, (name, known), (marked.ledger, marked.burnt))?;
        }
        mark.write(Marked { ledger: name, burnt: known }).map_err(unmarked)?;
        Ok(Self { file, name, mark, state: Mutex::new(State { database: Some(database), known }) })
    }

    /// Checks the ledger in `state_dir` as [`RedbLog::open`] does, and makes no file. Returns the number of its batches, or
    /// none if there is no ledger yet.
    ///
    /// # Errors
    /// As there.
    pub fn examine(state_dir: &Path) -> Result<Option<u64>, LogError> {
        let (file, spool) = (state_dir.join(FILE), state_dir.join(SPOOL));
        let marked = Mark::read(&spool);
        let marked = marked.map_err(|error| LogError::Mark { path: spool.display().to_string(), error })?;
        if !file.exists() {
            // A new ledger would not be the one that left the mark.
            return marked.map_or(Ok(None), |_| Err(LogError::Foreign(file.display().to_string())));
        }
        let (_, name, known) = open(&file)?;
        if let Some(marked) = marked {
            check(&file, (name, known), (marked.ledger, marked.burnt))?;
        }
        Ok(Some(known))
    }

    /// How many batches were burnt.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn burnt(&self) -> Result<u64, LogError> {
        self.with(|database| Ok(database.begin_read()?.open_table(BURNT)?.len()?))
    }

    /// Whether a record could be written now: the ledger is open, or can be opened anew, and its disk takes a block. The block goes to
    /// a file without a name, and the ledger stays as it is.
    ///
    /// # Errors
    /// When it cannot be opened or its disk cannot be written.
    pub fn check(&self) -> Result<(), LogError> {
        self.with(|_| Ok(()))?;
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let written = tempfile::tempfile_in(folder).and_then(|mut file| file.write_all(&[0; PROBE_BYTES]));
        written.map_err(|error| LogError::Write(Box::new(error.into())))
    }

    /// Lets `work` use the database, opened anew if need be.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, LogError> {
        // The state is whole whatever a panicking thread was doing: without a database it is opened anew.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match state.database.take() {
            Some(database) => database,
            None => {
                let (database, name, known) = open(&self.file)?;
                check(&self.file, (name, known), (self.name, state.known))?;
                tracing::info!(ledger = %self.file.display(), known, "the ledger is open again");
                state.known = known;
                database
            }
        };
        let done = work(&database).map_err(|error| LogError::Write(Box::new(error)))?;
        state.database = Some(database);
        Ok(done)
    }
}

/// Opens or creates the ledger in `file`: its database, its name, and how many batches it knows.
fn open(file: &Path) -> Result<(Database, [u8; 16], u64), LogError> {
    let path = || file.display().to_string();
    let read = || -> Result<_, redb::Error> {
        let database = Database::create(file)?;
        let write = database.begin_write()?;
        let known = write.open_table(BURNT)?.len()?;
        let name = {
            let mut table = write.open_table(NAME)?;
            let found = table.get(())?.map(|name| name.value());
            match found {
                Some(name) => name,
                None => {
                    let mut name = [0; 16];
                    aws_lc_rs::rand::fill(&mut name).expect("the operating system gives entropy");
                    table.insert((), name)?;
                    name
                }
            }
        };
        write.commit()?;
        Ok((database, name, known))
    };
    read().map_err(|error| match error {
        redb::Error::DatabaseAlreadyOpen => LogError::InUse(path()),
        other => LogError::Open { path: path(), error: Box::new(other) },
    })
}

/// Whether the ledger that was opened is the one that was expected, and knows all that it had burnt.
fn check(
    file: &Path,
    (name, known): ([u8; 16], u64),
    (expected, burnt): ([u8; 16], u64),
) -> Result<(), LogError> {
    let path = file.display().to_string();
    if name != expected {
        return Err(LogError::Foreign(path));
    }
    if known < burnt {
        return Err(LogError::Restored { path, known, burnt });
    }
    Ok(())
}

/// What became of the record of `batch`, and how many batches the ledger knows now. Durable when it returns.
fn insert(database: &Database, batch: BatchId, purpose: Purpose) -> Result<(Record, u64), redb::Error> {
    let mut write = database.begin_write()?;
    // The commit returns after the file system has it.
    write.set_durability(Durability::Immediate)?;
    let (record, known) = {
        let mut burnt = write.open_table(BURNT)?;
        let mut loads = write.open_table(LOADS)?;
        // Within a write transaction, of which there is one at a time, the insert itself is the test.
        let fresh = burnt.insert(batch.0, unix_ms())?.is_none();
        let bound = match purpose {
            Purpose::Run => true,
            Purpose::Load(digest) => loads.insert(batch.0, digest.0)?.is_none(),
            Purpose::On { load, batch } => loads.get(batch.0)?.is_some_and(|digest| digest.value() == load.0),
        };
        let record = match (fresh, bound) {
            (false, _) => Record::Burnt,
            (true, false) => Record::Unbound,
            (true, true) => Record::New,
        };
        (record, burnt.len()?)
    };
    if record == Record::New {
        write.commit()?
    } else {
        write.abort()?
    }
    Ok((record, known))
}

impl BurnLog for RedbLog {
    type Error = LogError;

    fn record(&self, batch: BatchId, purpose: Purpose) -> Result<Record, LogError> {
        let (record, known) = self.with(|database| insert(database, batch, purpose))?;
        if record != Record::New {
            return Ok(record);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Another batch may have been recorded meanwhile.
        state.known = state.known.max(known);
        // What is burnt is burnt: a mark that cannot be written, on a full disk, says less and forbids nothing.
        if let Err(error) = self.mark.write(Marked { ledger: self.name, burnt: state.known }) {
            tracing::warn!(%error, "the ledger's mark in the spool folder stays behind");
        }
        Ok(record)
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
    use suf_wire::Digest;

    use super::*;

    #[test]
    fn a_batch_burns_once_even_across_restarts() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let batch = BatchId([7; 16]);
        let ledger = Ledger::new(RedbLog::open(dir.path()).expect("opens"));
        assert_eq!(ledger.burn(batch, Purpose::Run).expect("fresh").id(), batch);
        assert!(matches!(ledger.burn(batch, Purpose::Run), Err(LedgerError::Burnt(_))));
        drop(ledger);
        let log = RedbLog::open(dir.path()).expect("opens again");
        assert_eq!(log.burnt().expect("readable"), 1);
        assert!(matches!(Ledger::new(log).burn(batch, Purpose::Run), Err(LedgerError::Burnt(_))));
    }

    #[test]
    fn a_batch_of_a_load_is_bound_to_one_digest_even_across_restarts() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let [load, other, run] = [1, 2, 3].map(|id| BatchId([id; 16]));
        let [ours, theirs] = [7, 8].map(|id| Digest([id; 32]));
        let ledger = Ledger::new(RedbLog::open(dir.path()).expect("opens"));
        ledger.burn(load, Purpose::Load(ours)).expect("fresh");
        ledger.burn(other, Purpose::Run).expect("fresh");
        drop(ledger);
        let ledger = Ledger::new(RedbLog::open(dir.path()).expect("opens again"));
        // The masks of a load never meet other matrices, and a run's keys are no masks of a load.
        for (batch, purpose) in [
            (load, Purpose::Load(theirs)),
            (load, Purpose::Load(ours)),
            (load, Purpose::Run),
            (other, Purpose::Load(ours)),
        ] {
            assert!(matches!(ledger.burn(batch, purpose), Err(LedgerError::Burnt(_))), "{batch} {purpose:?}");
        }
        for (load, batch) in [(theirs, load), (ours, other), (ours, run)] {
            let refused = ledger.burn(run, Purpose::On { load, batch });
            assert!(matches!(refused, Err(LedgerError::Unbound { .. })), "{load} {batch}");
        }
        // As often as there are fresh batches.
        for id in 3..6 {
            let purpose = Purpose::On { load: ours, batch: load };
            assert_eq!(ledger.burn(BatchId([id; 16]), purpose).expect("bound").id(), BatchId([id; 16]));
        }
    }

    /// The file says how it is written.
    const OF_BEFORE: &str = include_str!("ledger/version-201a622.txt");

    /// Puts the files of [`OF_BEFORE`] where a party has them.
    fn restore(state_dir: &Path) {
        let spool = state_dir.join(SPOOL);
        std::fs::create_dir_all(&spool).expect("made");
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for line in OF_BEFORE.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<_> = line.split(' ').collect();
            if let ["file", name, length] = words[..] {
                let folder = if name == FILE { state_dir } else { &spool };
                files.push((folder.join(name), vec![0; length.parse().expect("a length")]));
                continue;
            }
            let (_, bytes) = files.last_mut().expect("a file comes first");
            let at = usize::from_str_radix(words[0], 16).expect("a place");
            let digits = words[1].as_bytes().as_chunks::<2>().0.iter();
            let byte = |digits| u8::from_str_radix(std::str::from_utf8(digits).expect("ASCII"), 16);
            let piece: Vec<u8> = digits.map(|digits| byte(digits).expect("a byte")).collect();
            let times = words.get(2).map_or(1, |times| times.parse().expect("a number"));
            let piece = piece.repeat(times);
            bytes[at..at + piece.len()].copy_from_slice(&piece);
        }
        files.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("written"));
    }

    #[test]
    fn a_ledger_of_before_programs_opens_with_its_batches_burnt() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        restore(dir.path());
        assert_eq!(RedbLog::examine(dir.path()).expect("readable"), Some(3));
        let ledger = Ledger::new(RedbLog::open(dir.path()).expect("opens"));
        for batch in 1..=3 {
            assert!(
                matches!(ledger.burn(BatchId([batch; 16]), Purpose::Run), Err(LedgerError::Burnt(_))),
                "{batch}"
            );
        }
        ledger.burn(BatchId([4; 16]), Purpose::Run).expect("fresh");
    }

    #[test]
    fn a_ledger_older_than_its_spool_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (file, backup) = (dir.path().join(FILE), dir.path().join("backup"));
        let log = RedbLog::open(dir.path()).expect("opens");
        log.record(BatchId([1; 16]), Purpose::Run).expect("burns");
        drop(log);
        std::fs::copy(&file, &backup).expect("a backup");
        let log = RedbLog::open(dir.path()).expect("opens again");
        log.record(BatchId([2; 16]), Purpose::Run).expect("burns");
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
