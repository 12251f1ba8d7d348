//! The loads whose masks the dealer keeps: both parties' seeds of each, by its batch, in memory alone.
//!
//! A load is kept once both parties have stored their seeds. It is wiped when a party drops it. A party that starts has no load,
//! so none that it had a part in is of any use.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use suf_gate::load::Dealt;
use suf_wire::{BatchId, Fault};
use tokio::sync::watch;

use crate::requester::BatchFailure;

/// All loads.
#[derive(Debug)]
pub(crate) struct Loads {
    most: usize,
    inner: Mutex<HashMap<BatchId, State>>,
    /// Changes when a load is there, or is not going to be.
    news: watch::Sender<()>,
}

enum State {
    /// The parties have yet to store their seeds.
    Making,
    Kept(Arc<Dealt>),
}

/// The place of a load in the making. Dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Place {
    loads: Arc<Loads>,
    batch: BatchId,
}

impl Loads {
    /// No load yet, and places for `most`.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inner: Mutex::default(), news: watch::Sender::default() })
    }

    /// A place for the load that `batch` makes.
    pub(crate) fn begin(self: &Arc<Self>, batch: BatchId) -> Result<Place, BatchFailure> {
        let mut inner = self.lock();
        if inner.len() >= self.most {
            let reason = format!(
                "the dealer keeps {} loads already: drop models that nobody uses (`suf model drop`), or raise max_loads there",
                self.most
            );
            return Err(BatchFailure::new(Fault::Caller, reason));
        }
        inner.insert(batch, State::Making);
        Ok(Place { loads: Arc::clone(self), batch })
    }

    /// The load of `batch`, waiting for it while it is in the making: its parties may have heard of each other's success before.
    pub(crate) async fn get(&self, batch: BatchId) -> Option<Arc<Dealt>> {
        let mut news = self.news.subscribe();
        loop {
            match self.lock().get(&batch) {
                None => return None,
                Some(State::Kept(dealt)) => return Some(Arc::clone(dealt)),
                Some(State::Making) => {}
            }
            news.changed().await.expect("the loads hold the sender");
        }
    }

    /// Wipes the load of `batch`, or all of them: how many.
    pub(crate) fn forget(&self, batch: Option<BatchId>) -> usize {
        let mut inner = self.lock();
        let before = inner.len();
        match batch {
            Some(batch) => drop(inner.remove(&batch)),
            None => inner.clear(),
        }
        let forgotten = before - inner.len();
        drop(inner);
        self.news.send_replace(());
        forgotten
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BatchId, State>> {
        // The map is whole after each step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Keeps the load, unless a party has dropped it meanwhile.
    pub(crate) fn keep(self, dealt: Dealt) {
        if let Some(state) = self.loads.lock().get_mut(&self.batch) {
            *state = State::Kept(Arc::new(dealt));
        }
        self.loads.news.send_replace(());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.loads.lock();
        if matches!(inner.get(&self.batch), Some(State::Making)) {
            inner.remove(&self.batch);
        }
        drop(inner);
        self.loads.news.send_replace(());
    }
}

/// Never a seed.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Making => "Making",
            Self::Kept(_) => "Kept",
        })
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::{
        Form, NodeId, Program, Seed, TensorShape,
        load::LoadId,
        ops::{Input, Keep, Op, private::LOADED},
    };

    use super::*;

    fn dealt(batch: BatchId) -> Dealt {
        let shape = TensorShape::new(2, 3).expect("a matrix");
        let input = (Op::Input(Input::new(shape, LOADED, 9, Form::Masked)), vec![]);
        let program = Program::new([input, (Op::Keep(Keep), vec![NodeId(0)])]).expect("a load program");
        let load = LoadId { program: Arc::new(program), batch: batch.0 };
        Dealt::new(load, [Seed::new([1; 32]), Seed::new([2; 32])])
    }

    #[tokio::test]
    async fn a_load_is_kept_until_a_party_drops_it_and_places_are_few() {
        let loads = Loads::new(2);
        let [first, second, third] = [1, 2, 3].map(|id| BatchId([id; 16]));
        let (one, two) = (loads.begin(first).expect("room"), loads.begin(second).expect("room"));
        let full = loads.begin(third).expect_err("two at most");
        assert!(full.reason.contains("max_loads"), "{full}");
        drop(two);
        assert!(loads.get(second).await.is_none(), "a load that failed is not there");
        // Who asks while it is in the making hears of its end.
        let (found, ()) = tokio::join!(loads.get(first), async { one.keep(dealt(first)) });
        assert_eq!(found.expect("it is kept").load().batch, first.0);
        // Dropped by a party before it is whole.
        let making = loads.begin(third).expect("room again");
        assert_eq!(loads.forget(Some(third)), 1);
        making.keep(dealt(third));
        assert!(loads.get(third).await.is_none());
        assert_eq!((loads.forget(Some(third)), loads.forget(None)), (0, 1));
        assert!(loads.get(first).await.is_none());
    }
}
