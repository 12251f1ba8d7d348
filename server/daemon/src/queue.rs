//! Whose turn it is: runs of models compute a few at a time, in the order in which they came.
//!
//! Party 0 decides the order. A run takes a place there before it is proposed, and party 1 gives it one of its own when the proposal
//! comes. Whatever holds a place at party 1 holds one at party 0, so that neither waits for the other in a circle.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// The places of a party, and who waits for one.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    /// Changes when somebody leaves.
    news: watch::Sender<()>,
}

#[derive(Debug)]
struct Inner {
    free: usize,
    /// Tickets by number: the first is the next.
    waiting: VecDeque<u64>,
    next: u64,
}

/// A run that waits. Dropping it gives its turn up.
#[derive(Debug)]
pub(crate) struct Ticket {
    queue: Arc<Queue>,
    number: u64,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Queue>);

/// What a waiting run hears.
#[derive(Debug)]
pub(crate) enum Turn {
    /// So many runs are before it.
    Ahead(u16),
    /// It may begin.
    Place(Place),
}

impl Queue {
    /// With so many places.
    pub(crate) fn new(places: u16) -> Arc<Self> {
        let inner = Inner { free: places.into(), waiting: VecDeque::new(), next: 0 };
        Arc::new(Self { inner: Mutex::new(inner), news: watch::Sender::default() })
    }

    /// Takes a ticket.
    pub(crate) fn enter(self: &Arc<Self>) -> Ticket {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.waiting.push_back(number);
        Ticket { queue: Arc::clone(self), number }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// How it stands now.
    pub(crate) fn now(&self) -> Turn {
        let mut inner = self.queue.lock();
        let before = inner.waiting.iter().take_while(|number| **number != self.number).count();
        if before >= inner.free {
            return Turn::Ahead(u16::try_from(before - inner.free).unwrap_or(u16::MAX));
        }
        inner.waiting.retain(|number| *number != self.number);
        inner.free -= 1;
        Turn::Place(Place(Arc::clone(&self.queue)))
    }

    /// Returns when it stands otherwise than `told`.
    pub(crate) async fn after(&self, told: Option<u16>) -> Turn {
        let mut news = self.queue.news.subscribe();
        loop {
            match self.now() {
                Turn::Ahead(ahead) if Some(ahead) == told => {}
                turn => return turn,
            }
            news.changed().await.expect("the queue holds the sender");
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.lock().waiting.retain(|number| *number != self.number);
        self.queue.news.send_replace(());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().free += 1;
        self.0.news.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(ticket: &Ticket) -> u16 {
        match ticket.now() {
            Turn::Ahead(ahead) => ahead,
            Turn::Place(_) => panic!("it has a place"),
        }
    }

    fn place(ticket: &Ticket) -> Place {
        match ticket.now() {
            Turn::Place(place) => place,
            Turn::Ahead(ahead) => panic!("{ahead} are before it"),
        }
    }

    #[test]
    fn places_go_to_those_who_came_first() {
        let queue = Queue::new(2);
        let tickets = [(); 5].map(|()| queue.enter());
        let [first, second, third, fourth, fifth] = &tickets;
        let held = [place(second), place(first)];
        assert_eq!([third, fourth, fifth].map(ahead), [0, 1, 2]);
        drop(held);
        // The fourth may not overtake the third by more than the places allow.
        assert_eq!(ahead(fifth), 0);
        let _held = [place(fourth), place(third)];
        assert_eq!(ahead(fifth), 0);
    }

    #[test]
    fn who_leaves_makes_room() {
        let queue = Queue::new(1);
        let [first, second, third] = [(); 3].map(|()| queue.enter());
        let held = place(&first);
        drop(first);
        assert_eq!([&second, &third].map(ahead), [0, 1]);
        drop(second);
        assert_eq!(ahead(&third), 0);
        drop(held);
        let _held = place(&third);
        assert_eq!(queue.lock().waiting.len(), 0);
    }

    #[tokio::test]
    async fn who_waits_hears_of_each_change() {
        let queue = Queue::new(1);
        let [first, second, third] = [(); 3].map(|()| queue.enter());
        let held = place(&first);
        assert!(matches!(third.after(None).await, Turn::Ahead(1)));
        let later = async |work: Box<dyn FnOnce()>| {
            tokio::task::yield_now().await;
            work();
        };
        let (heard, ()) = tokio::join!(third.after(Some(1)), later(Box::new(|| drop(second))));
        assert!(matches!(heard, Turn::Ahead(0)), "{heard:?}");
        let (heard, ()) = tokio::join!(third.after(Some(0)), later(Box::new(|| drop(held))));
        assert!(matches!(heard, Turn::Place(_)), "{heard:?}");
    }
}
