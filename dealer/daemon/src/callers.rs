//! The parties' connections: a bounded number of each.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use suf_link::Connection;
use suf_wire::Party;

/// Connections of one party at once. It uses one, and more while those that it lost in a crash are still taken for alive,
/// which takes seconds of silence. With the link's 64 streams each, both parties together have at most 512 requests. So
/// the 1024 places for waiting requests are never full, and neither party can take them from the other.
pub(crate) const CONNECTIONS_PER_PARTY: usize = 4;

/// The connections that are open, of either party, the oldest first.
#[derive(Default)]
pub(crate) struct Callers([Mutex<VecDeque<Connection>>; 2]);

impl Callers {
    /// Connections of `party` that are open.
    pub(crate) fn open(&self, party: Party) -> usize {
        let open = self.0[party.index()].lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter(|connection| connection.ended().is_none()).count()
    }

    /// Takes `connection` in. A party that has too many loses its oldest: the newest is the one that it uses.
    pub(crate) fn admit(&self, party: Party, connection: &Connection) {
        // A list of connections is whole whatever happened to its last user.
        let mut open = self.0[party.index()].lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| connection.ended().is_none());
        if open.len() >= CONNECTIONS_PER_PARTY
            && let Some(oldest) = open.pop_front()
        {
            tracing::warn!(%party, remote = %oldest.remote(), "closed: it has {CONNECTIONS_PER_PARTY} newer connections");
            oldest.close(&format!("{party} has {CONNECTIONS_PER_PARTY} newer connections"));
        }
        open.push_back(connection.clone());
    }
}
