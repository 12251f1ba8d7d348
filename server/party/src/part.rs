//! One part on its way through its exchanges.

use std::{collections::VecDeque, mem, sync::Arc};

use bytes::Bytes;
use suf_gate::{PartEval, StagedPart, Value};
use suf_wire::Causal;

/// What is known of one part.
#[derive(Default)]
pub(crate) struct PartRun {
    pub(crate) state: State,
    /// Exchanges whose message was sent.
    pub(crate) sent: usize,
    /// Exchanges whose message of the peer arrived.
    pub(crate) received: usize,
    /// Messages of the peer that wait to be used. There are at most two, because the peer needs ours to go on.
    pub(crate) inbox: VecDeque<(Causal, Bytes)>,
    /// The deepest frame that the evaluation has used, or one that its inputs depend on.
    pub(crate) causal: Causal,
    /// What it made.
    pub(crate) made: Option<Made>,
}

/// Where a part stands.
#[derive(Default)]
pub(crate) enum State {
    /// It waits for its key, or for what other nodes make.
    Waiting(Key),
    /// Something is computed on it.
    #[default]
    Computing,
    /// Key and inputs are in one place; it may not begin yet.
    Loaded(Box<dyn PartEval>),
    /// Its message was sent, and the peer's is awaited.
    AwaitingPeer(Box<dyn PartEval>),
    /// It is over.
    Done,
}

/// The key of a part that waits.
pub(crate) enum Key {
    /// It has none.
    None,
    /// It was not asked for.
    Unasked,
    /// It was asked for, and is on its way to its device.
    Asked,
    /// It is where it will be used.
    Staged(Box<dyn StagedPart>),
}

/// A value, until every node that takes it has begun.
pub(crate) struct Made {
    value: Option<Arc<dyn Value>>,
    /// How many more times it will be taken.
    takers: usize,
    /// The deepest frame that it depends on.
    pub(crate) causal: Causal,
}

impl PartRun {
    /// A part that waits.
    pub(crate) fn new(is_keyed: bool) -> Self {
        let key = if is_keyed { Key::Unasked } else { Key::None };
        Self { state: State::Waiting(key), ..Self::default() }
    }

    /// Takes the evaluation to compute on it, if the part is loaded.
    pub(crate) fn take_loaded(&mut self) -> Option<Box<dyn PartEval>> {
        match mem::take(&mut self.state) {
            State::Loaded(eval) => Some(eval),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Takes the evaluation and the peer's next message, if both are here. What the part sends next depends on this message, and
    /// not on one that merely arrived by now.
    pub(crate) fn take_answered(&mut self) -> Option<(Box<dyn PartEval>, Bytes)> {
        match mem::take(&mut self.state) {
            State::AwaitingPeer(eval) => {
                if let Some((depth, incoming)) = self.inbox.pop_front() {
                    self.causal = self.causal.join(depth);
                    return Some((eval, incoming));
                }
                self.state = State::AwaitingPeer(eval);
            }
            other => self.state = other,
        }
        None
    }

    /// Takes the key to compute on it, if it is where it will be used, or there is none.
    pub(crate) fn take_key(&mut self) -> Option<Key> {
        match mem::take(&mut self.state) {
            State::Waiting(key @ (Key::None | Key::Staged(_))) => Some(key),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Marks the key as asked for; false if it was before, or there is none.
    pub(crate) fn ask_key(&mut self) -> bool {
        let is_due = matches!(self.state, State::Waiting(Key::Unasked));
        if is_due {
            self.state = State::Waiting(Key::Asked);
        }
        is_due
    }
}

impl Made {
    /// A value that `takers` parts will take.
    pub(crate) fn new(value: Arc<dyn Value>, takers: usize, causal: Causal) -> Self {
        Self { value: (takers > 0).then_some(value), takers, causal }
    }

    /// Gives the value to one taker. The last taker gets the only reference, and after it there is none.
    pub(crate) fn take(&mut self) -> Option<Arc<dyn Value>> {
        self.takers = self.takers.saturating_sub(1);
        if self.takers == 0 { self.value.take() } else { self.value.clone() }
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::HostValue;

    use super::*;

    #[test]
    fn a_value_is_held_until_its_last_taker_has_it() {
        let value = HostValue::shared(vec![1, 2]);
        let seen = Arc::downgrade(&value);
        let mut made = Made::new(value, 2, Causal::START);
        let first = made.take().expect("there are two takers");
        drop(first);
        assert_eq!(seen.strong_count(), 1);
        let last = made.take().expect("there are two takers");
        assert_eq!(Arc::strong_count(&last), 1, "the last taker is the only holder");
        assert!(made.take().is_none());
        drop(last);
        assert_eq!(seen.strong_count(), 0);
        assert!(Made::new(HostValue::shared(vec![1]), 0, Causal::START).take().is_none());
    }
}
