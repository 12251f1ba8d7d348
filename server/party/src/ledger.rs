//! The rule of one-time keys: a batch is burnt, durably, before the first byte that depends on its keys leaves.

use suf_wire::BatchId;

/// Durable memory of burnt batches.
pub trait BurnLog {
    /// Why the log cannot be written.
    type Error: std::error::Error;

    /// Records `batch` and returns only once the record survives a crash. False if it was there already: uniqueness is
    /// the log's own constraint, not a look before the write.
    ///
    /// # Errors
    /// When the record may not have become durable.
    fn record(&self, batch: BatchId) -> Result<bool, Self::Error>;
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

    /// Burns `batch`.
    ///
    /// # Errors
    /// When it is burnt already or the record may not be durable; its keys must not be used then.
    pub fn burn(&self, batch: BatchId) -> Result<BurntBatch, LedgerError<L::Error>> {
        match self.0.record(batch) {
            Ok(true) => Ok(BurntBatch(batch)),
            Ok(false) => Err(LedgerError::Burnt(batch)),
            Err(error) => Err(LedgerError::Log { batch, error }),
        }
    }
}
