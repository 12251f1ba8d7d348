//! One kind of bytes that runs may hold: a bound in all and one for each client. What is reserved is given back by dropping the
//! reservation.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use suf_control::failure::CallFailure;
use suf_wire::{Fault, Party};
use tonic::Code;

use crate::ownership::Owner;

const MIB: u64 = 1 << 20;

/// Bounds of one kind of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub all: u64,
    /// For each client.
    pub client: u64,
}

/// All bounds of a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bounds of shares in memory.
    pub shares: Bounds,
    /// Bounds of keys in memory.
    pub keys: Bounds,
    /// Bounds of keys on the disk.
    pub spool: Bounds,
}

/// One kind of bytes, and what is in use of it.
#[derive(Debug)]
pub(crate) struct Budget {
    /// What the bytes are for, and the keys of the configuration that bound them.
    words: Words,
    bounds: Bounds,
    used: Mutex<Used>,
}

/// What a kind of bytes is called in refusals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) what: &'static str,
    pub(crate) key: &'static str,
    pub(crate) client_key: &'static str,
}

#[derive(Debug, Default)]
struct Used {
    all: u64,
    clients: HashMap<Owner, u64>,
}

/// Bytes that are accounted for until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    client: Owner,
    bytes: u64,
}

/// Why a run has no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// A budget has too little left.
    #[error(
        "{what} of this run need {} MiB, but at {me} {} MiB of {key} = {}{whose} are free. Wait for other runs to end and \
         their outputs to be fetched, take fewer elements, or raise {key} there",
        .asked.div_ceil(MIB), free / MIB, bound / MIB
    )]
    Full {
        /// The party.
        me: Party,
        /// What the bytes are for.
        what: &'static str,
        /// The key of the configuration.
        key: &'static str,
        /// Of this client or of all.
        whose: &'static str,
        /// Bytes.
        asked: u64,
        /// Bytes.
        free: u64,
        /// Bytes.
        bound: u64,
    },
    /// The disk has too little left.
    #[error(
        "the keys of this run need {} MiB in the key spool, but the disk of {me}'s state_dir has space for {} \
         MiB. Free space there, take fewer elements, or raise key_memory_mb",
        .asked.div_ceil(MIB), free / MIB
    )]
    Disk {
        /// The party.
        me: Party,
        /// Bytes.
        asked: u64,
        /// Bytes that neither are used nor belong to other runs.
        free: u64,
    },
    /// The disk does not say what it has.
    #[error("the space for keys in {me}'s state_dir is not known: {error}; see that the folder is there")]
    Unknown {
        /// The party.
        me: Party,
        /// What the system says.
        error: String,
    },
}

impl Budget {
    pub(crate) fn new(words: Words, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { words, bounds, used: Mutex::default() })
    }

    /// Bytes for `client`, if both bounds have room for them.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        me: Party,
        client: Owner,
        bytes: u64,
    ) -> Result<Reservation, Refusal> {
        let mut used = self.used();
        let own = used.clients.get(&client).copied().unwrap_or(0);
        let Words { what, key, client_key } = self.words;
        for (used, bound, key, whose) in
            [(own, self.bounds.client, client_key, " for this client"), (used.all, self.bounds.all, key, "")]
        {
            let free = bound.saturating_sub(used);
            if bytes > free {
                return Err(Refusal::Full { me, what, key, whose, asked: bytes, free, bound });
            }
        }
        // Neither sum wraps: each is at most its bound.
        used.all += bytes;
        *used.clients.entry(client).or_default() += bytes;
        Ok(Reservation { budget: Arc::clone(self), client, bytes })
    }

    /// Bytes in use.
    pub(crate) fn in_use(&self) -> u64 {
        self.used().all
    }

    /// The bound on bytes in use, in all.
    pub(crate) fn bound(&self) -> u64 {
        self.bounds.all
    }

    fn give_back(&self, client: &Owner, bytes: u64) {
        let mut used = self.used();
        used.all -= bytes;
        if let Some(own) = used.clients.get_mut(client) {
            *own -= bytes;
            if *own == 0 {
                used.clients.remove(client);
            }
        }
    }

    /// Whether no client is remembered.
    #[cfg(test)]
    pub(crate) fn knows_nobody(&self) -> bool {
        self.used().clients.is_empty()
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Sums are whole whatever happened to their last user.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps `bytes` of it at most, and gives the rest back.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.budget.give_back(&self.client, surplus);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(&self.client, self.bytes);
    }
}

impl Refusal {
    /// The side that has to act.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Full { .. } => Fault::Caller,
            Self::Disk { .. } | Self::Unknown { .. } => Fault::Device,
        }
    }
}

impl From<Refusal> for CallFailure {
    fn from(refusal: Refusal) -> Self {
        let fault = suf_process::at_fault(refusal.fault());
        Self::new(fault, refusal.to_string()).with_code(Code::ResourceExhausted)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn bounds(all: u64, client: u64) -> Bounds {
        Bounds { all, client }
    }

    pub(crate) fn client(name: &str) -> Owner {
        Owner::of(name.as_bytes())
    }

    #[test]
    fn no_sum_of_sizes_wraps() {
        let endless = bounds(u64::MAX, u64::MAX);
        let words = Words { what: "bytes", key: "k", client_key: "c" };
        let budget = Budget::new(words, endless);
        let all = budget.reserve(Party::P0, client("one"), u64::MAX).expect("all there is");
        for bytes in [1, u64::MAX] {
            let refused = budget.reserve(Party::P0, client("another"), bytes).expect_err("nothing is left");
            assert!(matches!(refused, Refusal::Full { free: 0, .. }), "{refused}");
        }
        drop(all);
        assert_eq!(budget.in_use(), 0);
    }

    #[test]
    fn many_threads_never_hold_more_than_the_budget() {
        let words = Words { what: "bytes", key: "k", client_key: "c" };
        let budget = Budget::new(words, bounds(1000, 400));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let budget = &budget;
                scope.spawn(move || {
                    for bytes in (0..2000).map(|round| round % 300) {
                        let held = budget.reserve(Party::P0, client(&format!("{}", thread / 2)), bytes);
                        let used = budget.used();
                        assert!(used.all <= 1000 && used.clients.values().all(|own| *own <= 400));
                        drop(used);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(budget.in_use(), 0);
    }
}
