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

use suf_gate::{Gate, Party, Role, layout};
use suf_party::WINDOW;
use suf_wire::PartyId;

use crate::{
    budget::{Budget, Limits, Refusal, Reservation, Words},
    ownership::Owner,
    store::SEAL_BYTES,
};

/// Bytes for each element while a run is at work: 8 of its share, which the run replaces step by step by x_hat, y_hat and the
/// output share; and 6 in each direction of the input's opening, which may all wait for a slow link.
const RUNNING_BYTES_PER_ELEMENT: u64 = 20;

/// Bytes for each element of the chunks in flight: what a backend keeps of an evaluation, and its messages in both directions.
const IN_FLIGHT_BYTES_PER_ELEMENT: u64 = 96;

/// Chunks of a spooled batch whose keys are in memory: those in flight, and some that are being wiped.
const LOADED_CHUNKS: u32 = WINDOW + 4;

/// Bytes for each element of an output share that waits to be fetched.
const OUTPUT_BYTES_PER_ELEMENT: u64 = 8;

/// Bytes of the key of a full chunk, at the party that gets more.
fn largest_chunk_bytes(gate: &Gate) -> u64 {
    let bytes =
        [Role::Seeded, Role::Explicit].map(|role| gate.key_shape().chunk_bytes(role, layout::CHUNK_ELEMS));
    bytes[0].max(bytes[1]) as u64
}

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
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Bytes of the spool that a batch may write.
#[derive(Debug)]
pub(crate) struct SpoolRoom {
    _reserved: Reservation,
    /// Of all batches.
    written: Arc<AtomicU64>,
    /// Of this one.
    own: AtomicU64,
}

impl SpoolRoom {
    /// Notes that `bytes` were written.
    pub(crate) fn wrote(&self, bytes: u64) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for SpoolRoom {
    fn drop(&mut self) {
        self.written.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// Where the keys of a run will be, and the room for them.
#[derive(Debug)]
pub(crate) enum KeyRoom {
    /// In memory.
    Memory(Reservation),
    /// In a sealed file.
    Spool(SpoolRoom),
}

/// What a run holds until it is over.
#[derive(Debug)]
pub(crate) struct Room {
    /// For its shares, and for what is computed from them.
    pub(crate) shares: Reservation,
    /// For its keys.
    pub(crate) keys: KeyRoom,
}

/// The budgets of a party.
#[derive(Debug)]
pub(crate) struct Budgets {
    me: PartyId,
    shares: Arc<Budget>,
    keys: Arc<Budget>,
    spool: Arc<Budget>,
    disk: Disk,
}

impl Budgets {
    /// Of party `me`, whose spool is on the disk of `folder`.
    pub(crate) fn new(me: PartyId, limits: Limits, folder: &Path) -> Self {
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

    /// Room for a run of `client` with `elems` elements of `gate`: for its shares in memory, and for its keys in memory or, where
    /// they do not fit, on disk.
    ///
    /// # Errors
    /// Which budget has too little left, and what is asked of it.
    pub(crate) fn admit(&self, client: Owner, gate: &Gate, elems: u64) -> Result<Room, Refusal> {
        let party = match self.me {
            PartyId::P0 => Party::P0,
            PartyId::P1 => Party::P1,
        };
        let chunks = layout::chunk_count(elems);
        let bytes = gate.batch_key_bytes(party, elems);
        let keys = self.key_room(client, bytes, u64::from(chunks) * SEAL_BYTES)?;
        let in_flight = elems.min(u64::from(WINDOW) * layout::CHUNK_ELEMS as u64);
        let loaded = match keys {
            KeyRoom::Memory(_) => 0,
            KeyRoom::Spool(_) => u64::from(chunks.min(LOADED_CHUNKS)) * largest_chunk_bytes(gate),
        };
        let shares = elems.saturating_mul(RUNNING_BYTES_PER_ELEMENT);
        let shares = shares.saturating_add(in_flight * IN_FLIGHT_BYTES_PER_ELEMENT).saturating_add(loaded);
        let shares = self.shares.reserve(self.me, client, shares)?;
        Ok(Room { shares, keys })
    }

    /// Room for `bytes` of keys, which have `seals` bytes more in the spool.
    fn key_room(&self, client: Owner, bytes: u64, seals: u64) -> Result<KeyRoom, Refusal> {
        match self.keys.reserve(self.me, client, bytes) {
            Ok(reserved) => Ok(KeyRoom::Memory(reserved)),
            Err(_) => self.spool_room(client, bytes.saturating_add(seals)).map(KeyRoom::Spool),
        }
    }

    fn spool_room(&self, client: Owner, bytes: u64) -> Result<SpoolRoom, Refusal> {
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
        Ok(SpoolRoom { _reserved: reserved, written: Arc::clone(&self.disk.written), own: AtomicU64::new(0) })
    }

    /// What is in use of shares, keys and spool.
    pub(crate) fn kinds(&self) -> [&Budget; 3] {
        [&self.shares, &self.keys, &self.spool]
    }
}

/// Bytes that the output share of `elems` elements takes until it is fetched.
pub(crate) fn output_bytes(elems: u64) -> u64 {
    elems.saturating_mul(OUTPUT_BYTES_PER_ELEMENT)
}

#[cfg(test)]
pub(crate) mod tests {
    use suf_control::failure::Failure;
    use suf_gate::{Protocol, catalog, gatefile::GateFile};
    use suf_wire::Fault;
    use tonic::Code;

    use super::*;
    use crate::budget::{
        Bounds,
        tests::{bounds, client},
    };

    const MOST: u64 = 100_000_000;

    fn gate(protocol: Protocol) -> Gate {
        let file = GateFile::builtin("gelu").expect("built in");
        catalog::gate(&file, protocol, None).expect("in the file")
    }

    fn budgets(shares: Bounds, keys: Bounds, spool: Bounds) -> (tempfile::TempDir, Budgets) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let budgets = Budgets::new(PartyId::P0, Limits { shares, keys, spool }, folder.path());
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
        Budgets::new(PartyId::P0, limits, folder)
    }

    /// What a run holds that needs nothing.
    pub(crate) fn no_room() -> Room {
        let words = Words { what: "bytes", key: "k", client_key: "c" };
        let nothing =
            || Budget::new(words, bounds(0, 0)).reserve(PartyId::P0, client("one"), 0).expect("no bytes");
        Room { shares: nothing(), keys: KeyRoom::Memory(nothing()) }
    }

    /// Room for `bytes` of keys.
    pub(crate) fn key_room(budgets: &Budgets, bytes: u64) -> KeyRoom {
        budgets.key_room(client("one"), bytes, 0).expect("room")
    }

    #[test]
    fn a_run_holds_what_it_needs_and_gives_all_of_it_back() {
        let roomy = bounds(1 << 30, 1 << 30);
        let (_folder, budgets) = budgets(roomy, roomy, roomy);
        let gate = gate(Protocol::Onehot);
        let keys = gate.batch_key_bytes(Party::P0, 1000);
        let room = budgets.admit(client("one"), &gate, 1000).expect("room");
        assert_eq!(in_use(&budgets), [116_000, keys, 0]);
        let Room { mut shares, keys } = room;
        drop(keys);
        shares.shrink_to(output_bytes(1000));
        assert_eq!(in_use(&budgets), [8000, 0, 0]);
        drop(shares);
        assert_eq!(in_use(&budgets), [0, 0, 0]);
        assert!(budgets.shares.knows_nobody(), "clients without bytes are forgotten");
    }

    #[test]
    fn one_clients_bytes_leave_room_for_another() {
        let roomy = bounds(1 << 30, 1 << 30);
        let (_folder, budgets) = budgets(bounds(300_000, 120_000), roomy, roomy);
        let gate = gate(Protocol::Onehot);
        let admit = |name| budgets.admit(client(name), &gate, 1000);
        let held = admit("one").expect("room");
        let refused = admit("one").expect_err("no room for a second").to_string();
        assert!(
            refused.contains("client_share_memory_mb") && refused.contains("for this client"),
            "{refused}"
        );
        let _other = admit("another").expect("room for another");
        let refused = admit("a third").expect_err("no room for a third").to_string();
        assert!(refused.contains("raise share_memory_mb"), "{refused}");
        let keys = gate.batch_key_bytes(Party::P0, 1000);
        assert_eq!(in_use(&budgets), [232_000, 2 * keys, 0], "a refused run holds nothing");
        drop(held);
        admit("one").expect("room again");
    }

    #[test]
    fn keys_that_do_not_fit_in_memory_go_to_the_spool_and_then_nowhere() {
        let roomy = bounds(1 << 30, 1 << 30);
        let gate = gate(Protocol::Onehot);
        let keys = gate.batch_key_bytes(Party::P0, 70_000);
        let sealed = keys + 2 * SEAL_BYTES;
        let (_folder, budgets) = budgets(roomy, bounds(2 * keys, keys), bounds(sealed, sealed));
        let admit = |name| budgets.admit(client(name), &gate, 70_000);
        let first = admit("one").expect("room");
        assert!(matches!(first.keys, KeyRoom::Memory(_)));
        let second = admit("one").expect("room");
        assert_eq!(second.shares.bytes() - first.shares.bytes(), 2 * largest_chunk_bytes(&gate));
        let KeyRoom::Spool(spool) = &second.keys else { panic!("no more memory for this client") };
        spool.wrote(sealed);
        assert!(matches!(admit("another").expect("room").keys, KeyRoom::Memory(_)));
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
        assert_eq!(Failure::from(refused).code, Code::ResourceExhausted);
    }

    #[test]
    fn sixteen_clients_of_the_largest_size_are_refused_and_one_is_not_by_default() {
        let limits = crate::config::tests::good().limits(None);
        let folder = tempfile::tempdir().expect("a temporary folder");
        // What the disk has free is another question.
        let limits = Limits { keys: limits.spool, ..limits };
        let budgets = Budgets::new(PartyId::P0, limits, folder.path());
        let gate = gate(Protocol::Onehot);
        let admitted: Vec<_> = (0..16)
            .map(|number| budgets.admit(client(&format!("client {number}")), &gate, MOST))
            .map_while(Result::ok)
            .collect();
        assert!((1..=4).contains(&admitted.len()), "{} admitted", admitted.len());
        drop(admitted);
        assert_eq!(in_use(&budgets), [0, 0, 0]);
    }
}
