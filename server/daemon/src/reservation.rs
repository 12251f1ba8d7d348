//! What a run may hold of its party: shares and keys in memory, keys in the spool. A run reserves what it needs before anything is
//! dealt.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use suf_wire::Party;

use crate::{
    budget::{Budget, Limits, Refusal, Reservation, Words},
    need::Need,
    ownership::Owner,
};

/// The disk that the spool is on.
#[derive(Debug)]
struct Disk {
    folder: PathBuf,
    /// Bytes that spool files hold: part of what is reserved, and no longer free.
    written: Arc<AtomicU64>,
}

impl Disk {
    /// Bytes that this user may still write, as the system says.
    fn free(&self) -> io::Result<u64> {
        Space::of(&self.folder).map(|space| space.free)
    }
}

/// What a disk has room for, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    /// What this user may still write.
    pub(crate) free: u64,
    /// All of it.
    pub(crate) size: u64,
}

impl Space {
    /// Of the disk that `folder` is on, as the system says.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Self { free: bytes(disk.f_bavail), size: bytes(disk.f_blocks) })
    }
}

/// Bytes of the spool that a batch may write.
#[derive(Debug)]
pub(crate) struct SpoolReservation {
    _reserved: Reservation,
    /// Bytes that all batches have written.
    written: Arc<AtomicU64>,
    /// Bytes that this batch has written.
    own: AtomicU64,
}

impl SpoolReservation {
    /// Notes that `bytes` were written.
    pub(crate) fn wrote(&self, bytes: u64) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for SpoolReservation {
    fn drop(&mut self) {
        self.written.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// What is reserved for the keys of a run, and where.
#[derive(Debug)]
pub(crate) enum KeyReservation {
    /// In memory.
    Memory(Reservation),
    /// In a sealed file.
    Spool(SpoolReservation),
}

/// What a run holds until it is over.
#[derive(Debug)]
pub(crate) struct RunReservation {
    /// For its shares, and for what is computed from them.
    pub(crate) shares: Reservation,
    /// For its keys.
    pub(crate) keys: KeyReservation,
}

/// The budgets of a party.
#[derive(Debug)]
pub(crate) struct Budgets {
    me: Party,
    shares: Arc<Budget>,
    keys: Arc<Budget>,
    spool: Arc<Budget>,
    disk: Disk,
}

impl Budgets {
    /// Of party `me`, whose spool is on the disk of `folder`.
    pub(crate) fn new(me: Party, limits: Limits, folder: &Path) -> Self {
        let shares =
            Words { what: "the shares", key: "share_memory_mb", client_key: "client_share_memory_mb" };
        let keys = Words { what: "the keys", key: "key_memory_mb", client_key: "client_key_memory_mb" };
        let spool = Words { what: "the keys", key: "spool_mb", client_key: "client_spool_mb" };
        Self {
            me,
            shares: Budget::new(shares, limits.shares),
            keys: Budget::new(keys, limits.keys),
            spool: Budget::new(spool, limits.spool),
            disk: Disk { folder: folder.to_owned(), written: Arc::default() },
        }
    }

    /// Reserves what a run of `client` needs: memory for its shares, and memory for its keys or, where they do not fit, disk.
    ///
    /// # Errors
    /// Which budget has too little left, and what is asked of it.
    pub(crate) fn admit(&self, client: Owner, need: &Need) -> Result<RunReservation, Refusal> {
        let keys = self.key_reservation(client, need.keys, need.seals)?;
        let loaded = match keys {
            KeyReservation::Memory(_) => 0,
            KeyReservation::Spool(_) => need.loaded,
        };
        let shares = self.shares.reserve(self.me, client, need.shares + loaded)?;
        Ok(RunReservation { shares, keys })
    }

    /// Reserves `bytes` of keys, which have `seals` bytes more in the spool.
    fn key_reservation(&self, client: Owner, bytes: u64, seals: u64) -> Result<KeyReservation, Refusal> {
        match self.keys.reserve(self.me, client, bytes) {
            Ok(reserved) => Ok(KeyReservation::Memory(reserved)),
            Err(_) => self.spool_room(client, bytes.saturating_add(seals)).map(KeyReservation::Spool),
        }
    }

    fn spool_room(&self, client: Owner, bytes: u64) -> Result<SpoolReservation, Refusal> {
        let me = self.me;
        let reserved = self.spool.reserve(me, client, bytes)?;
        let free = self.disk.free().map_err(|error| Refusal::Unknown { me, error: error.to_string() })?;
        // What other batches have reserved and not yet written is not free.
        let written = self.disk.written.load(Ordering::Relaxed);
        let promised = (self.spool.in_use() - bytes).saturating_sub(written);
        let free = free.saturating_sub(promised);
        if bytes > free {
            return Err(Refusal::Disk { me, asked: bytes, free });
        }
        Ok(SpoolReservation {
            _reserved: reserved,
            written: Arc::clone(&self.disk.written),
            own: AtomicU64::new(0),
        })
    }

    /// What is in use of shares, keys and spool.
    pub(crate) fn kinds(&self) -> [&Budget; 3] {
        [&self.shares, &self.keys, &self.spool]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use suf_control::failure::CallFailure;
    use suf_gate::{Program, Protocol, catalog, gatefile::GateFile};
    use suf_wire::Fault;
    use tonic::Code;

    use super::*;
    use crate::budget::{
        Bounds,
        tests::{bounds, client},
    };

    const MOST: u64 = 100_000_000;

    /// What `elems` elements of `onehot` need.
    fn need(elems: u64) -> Need {
        let file = GateFile::builtin("gelu").expect("built in");
        let gate = catalog::gate(&file, Protocol::Onehot, None).expect("in the file");
        Need::of(&Program::of_gate(Arc::new(gate), elems).expect("of a size"), Party::P0)
    }

    fn budgets(shares: Bounds, keys: Bounds, spool: Bounds) -> (tempfile::TempDir, Budgets) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let budgets = Budgets::new(Party::P0, Limits { shares, keys, spool }, folder.path());
        (folder, budgets)
    }

    /// Bytes of shares, keys and spool.
    pub(crate) fn in_use(budgets: &Budgets) -> [u64; 3] {
        budgets.kinds().map(Budget::in_use)
    }

    /// Budgets with so many bytes for keys in memory and enough of all else; the spool is in `folder`.
    pub(crate) fn with_key_memory(bytes: u64, folder: &Path) -> Budgets {
        let roomy = bounds(1 << 30, 1 << 30);
        let limits = Limits { shares: roomy, keys: bounds(bytes, bytes), spool: roomy };
        Budgets::new(Party::P0, limits, folder)
    }

    /// What a run holds that needs nothing.
    pub(crate) fn no_reservation() -> RunReservation {
        let words = Words { what: "bytes", key: "k", client_key: "c" };
        let nothing =
            || Budget::new(words, bounds(0, 0)).reserve(Party::P0, client("one"), 0).expect("no bytes");
        RunReservation { shares: nothing(), keys: KeyReservation::Memory(nothing()) }
    }

    /// Reserves `bytes` of keys.
    pub(crate) fn key_reservation(budgets: &Budgets, bytes: u64) -> KeyReservation {
        budgets.key_reservation(client("one"), bytes, 0).expect("room")
    }

    #[test]
    fn a_run_holds_what_it_needs_and_gives_all_of_it_back() {
        let roomy = bounds(1 << 30, 1 << 30);
        let (_folder, budgets) = budgets(roomy, roomy, roomy);
        let need = need(1000);
        let reservation = budgets.admit(client("one"), &need).expect("room");
        assert_eq!(in_use(&budgets), [116_000, need.keys, 0]);
        let RunReservation { mut shares, keys } = reservation;
        drop(keys);
        shares.shrink_to(need.outputs);
        assert_eq!(in_use(&budgets), [8000, 0, 0]);
        drop(shares);
        assert_eq!(in_use(&budgets), [0, 0, 0]);
        assert!(budgets.shares.knows_nobody(), "clients without bytes are forgotten");
    }

    #[test]
    fn one_clients_bytes_leave_room_for_another() {
        let roomy = bounds(1 << 30, 1 << 30);
        let (_folder, budgets) = budgets(bounds(300_000, 120_000), roomy, roomy);
        let need = need(1000);
        let admit = |name| budgets.admit(client(name), &need);
        let held = admit("one").expect("room");
        let refused = admit("one").expect_err("no room for a second").to_string();
        assert!(
            refused.contains("client_share_memory_mb") && refused.contains("for this client"),
            "{refused}"
        );
        let _other = admit("another").expect("room for another");
        let refused = admit("a third").expect_err("no room for a third").to_string();
        assert!(refused.contains("raise share_memory_mb"), "{refused}");
        assert_eq!(in_use(&budgets), [232_000, 2 * need.keys, 0], "a refused run holds nothing");
        drop(held);
        admit("one").expect("room again");
    }

    #[test]
    fn keys_that_do_not_fit_in_memory_go_to_the_spool_and_then_nowhere() {
        let roomy = bounds(1 << 30, 1 << 30);
        let need = need(70_000);
        let (keys, sealed) = (need.keys, need.keys + need.seals);
        let (_folder, budgets) = budgets(roomy, bounds(2 * keys, keys), bounds(sealed, sealed));
        let admit = |name| budgets.admit(client(name), &need);
        let first = admit("one").expect("room");
        assert!(matches!(first.keys, KeyReservation::Memory(_)));
        let second = admit("one").expect("room");
        assert_eq!(second.shares.bytes() - first.shares.bytes(), need.loaded);
        let KeyReservation::Spool(spool) = &second.keys else { panic!("no more memory for this client") };
        spool.wrote(sealed);
        assert!(matches!(admit("another").expect("room").keys, KeyReservation::Memory(_)));
        let refused = admit("one").expect_err("neither memory nor spool");
        assert_eq!(refused.fault(), Fault::Caller);
        assert!(refused.to_string().contains("client_spool_mb"), "{refused}");
        drop((first, second));
        assert_eq!((in_use(&budgets), budgets.disk.written.load(Ordering::Relaxed)), ([0, 0, 0], 0));
    }

    #[test]
    fn a_batch_larger_than_the_free_disk_is_refused_before_it_is_dealt() {
        let endless = bounds(u64::MAX, u64::MAX);
        let (_folder, budgets) = budgets(endless, bounds(0, 0), endless);
        let refused = budgets.spool_room(client("one"), 1 << 62).expect_err("no disk is that large");
        assert_eq!(refused.fault(), Fault::Device);
        assert!(refused.to_string().contains("has space for"), "{refused}");
        // What others have reserved is not free either, though nothing is written yet.
        let free = budgets.disk.free().expect("a disk");
        let _half = budgets.spool_room(client("one"), free / 8 * 5).expect("room");
        let refused = budgets.spool_room(client("another"), free / 8 * 5).expect_err("not twice");
        assert!(matches!(refused, Refusal::Disk { .. }), "{refused}");
        assert_eq!(CallFailure::from(refused).code, Code::ResourceExhausted);
    }

    #[test]
    fn sixteen_clients_of_the_largest_size_are_refused_and_one_is_not_by_default() {
        let limits = crate::config::tests::good().limits(None);
        let folder = tempfile::tempdir().expect("a temporary folder");
        // What the disk has free is another question.
        let limits = Limits { keys: limits.spool, ..limits };
        let budgets = Budgets::new(Party::P0, limits, folder.path());
        let need = need(MOST);
        let admitted: Vec<_> = (0..16)
            .map(|number| budgets.admit(client(&format!("client {number}")), &need))
            .map_while(Result::ok)
            .collect();
        assert!((1..=4).contains(&admitted.len()), "{} admitted", admitted.len());
        drop(admitted);
        assert_eq!(in_use(&budgets), [0, 0, 0]);
    }
}
