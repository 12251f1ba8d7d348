//! The rule of one-time keys: a batch is burnt, durably, before the first byte that depends on its keys leaves.
//!
//! A batch is of one of two classes. The keys of most are of no use after their run. The masks of a load stay in use: for the
//! matrices that it opened, which have one digest for ever.

use suf_wire::{BatchId, Digest};

/// What a batch is burnt for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A run.
    Run,
    /// A run that makes the load with this digest. Its masks are bound to that.
    Load(Digest),
    /// A run that takes the matrices of a load.
    On {
        /// The load.
        load: Digest,
        /// The batch under which it was made.
        batch: BatchId,
    },
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// It is there from now on.
    New,
    /// The batch was there already.
    Burnt,
    /// The load's batch is bound to another digest, or to none. Nothing was recorded.
    Unbound,
}

/// Durable memory of burnt batches.
pub trait BurnLog {
    /// Why the log cannot be written.
    type Error: std::error::Error;

    /// Records `batch` and returns only once the record survives a crash. Uniqueness is the log's own constraint, not a look
    /// before the write. What a load is bound to is recorded and compared in the same transaction.
    ///
    /// # Errors
    /// When the record may not have become durable.
    fn record(&self, batch: BatchId, purpose: Purpose) -> Result<Record, Self::Error>;
}

/// Evidence that a batch was burnt, once, by this process. Only [`Ledger::burn`] makes one, and it cannot be copied.
#[derive(Debug)]
pub struct BurntBatch(BatchId);

impl BurntBatch {
    /// Which batch.
    #[must_use]
    pub fn id(&self) -> BatchId {
        self.0
    }
}

/// The ledger over a durable log.
#[derive(Debug)]
pub struct Ledger<L>(L);

/// Why a batch may not be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError<E> {
    /// It was used before.
    #[error("batch {0} is burnt already: its keys must never be used again")]
    Burnt(BatchId),
    /// The load is not the one that its batch was burnt for.
    #[error("batch {batch} was not burnt for the load {load}: its masks must not meet other matrices")]
    Unbound {
        /// The batch of the load.
        batch: BatchId,
        /// The digest that it is not bound to.
        load: Digest,
    },
    /// The log cannot be trusted to remember.
    #[error("the ledger cannot record batch {batch}: {error}")]
    Log {
        /// The batch.
        batch: BatchId,
        /// The log's error.
        error: E,
    },
}

impl<L: BurnLog> Ledger<L> {
    /// A ledger over `log`.
    pub fn new(log: L) -> Self {
        Self(log)
    }

    /// The log, to look at.
    pub fn log(&self) -> &L {
        &self.0
    }

    /// Burns `batch` for `purpose`.
    ///
    /// # Errors
    /// When it is burnt already or the record may not be durable; its keys must not be used then. When a load that the run takes
    /// is not what its batch was burnt for.
    pub fn burn(&self, batch: BatchId, purpose: Purpose) -> Result<BurntBatch, LedgerError<L::Error>> {
        match (self.0.record(batch, purpose), purpose) {
            (Ok(Record::New), _) => Ok(BurntBatch(batch)),
            (Ok(Record::Unbound), Purpose::On { load, batch }) => Err(LedgerError::Unbound { batch, load }),
            (Ok(Record::Burnt | Record::Unbound), _) => Err(LedgerError::Burnt(batch)),
            (Err(error), _) => Err(LedgerError::Log { batch, error }),
        }
    }
}
