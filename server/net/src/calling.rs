//! Calling one of several addresses: the first that answers is used.

use std::{fmt, net::SocketAddr, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

/// How long an address is tried before the next is tried beside it: the "connection attempt delay" of RFC 8305, section 5.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Every address that was tried, with the reason why it did not answer, in the order of their failures.
#[derive(Debug, Clone)]
pub struct Tried<E>(pub Vec<(SocketAddr, E)>);

impl<E: fmt::Display> fmt::Display for Tried<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}

/// Calls `addresses` in their order. The next is called when one fails, or beside it after 250 ms. Gives the first success;
/// attempts that are still under way are dropped.
///
/// # Errors
/// Every address with its error, when none answers.
pub async fn first_to_answer<T, E, F>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, Tried<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failed = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            let outcome = attempt(address);
            running.push(async move { (address, outcome.await) });
        }
        tokio::select! {
            ended = running.next() => match ended {
                Some((_, Ok(answered))) => return Ok(answered),
                Some((address, Err(error))) => failed.push((address, error)),
                None => return Err(Tried(failed)),
            },
            () = sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::*;

    fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_delays_the_next_by_a_quarter_of_a_second() {
        let begun = Instant::now();
        let answered = first_to_answer(addresses(&[1, 2]), |address| async move {
            if address.port() == 1 {
                std::future::pending::<()>().await;
            }
            Ok::<_, String>(address.port())
        });
        assert_eq!(answered.await.expect("the second answers"), 2);
        assert_eq!(begun.elapsed(), ATTEMPT_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_address_delays_nobody_and_every_failure_is_named() {
        let begun = Instant::now();
        let order = RefCell::new(Vec::new());
        let tried = first_to_answer(addresses(&[1, 2, 3]), |address| {
            order.borrow_mut().push(address.port());
            async move { Err::<(), _>(format!("refused by {}", address.port())) }
        });
        let tried = tried.await.expect_err("none answers");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(*order.borrow(), [1, 2, 3]);
        let said = tried.to_string();
        assert_eq!(said, "127.0.0.1:1: refused by 1; 127.0.0.1:2: refused by 2; 127.0.0.1:3: refused by 3");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_success_wins_whoever_was_called_first() {
        let answered = first_to_answer(addresses(&[1, 2]), |address| async move {
            let takes = if address.port() == 1 { 2 * ATTEMPT_DELAY } else { ATTEMPT_DELAY / 2 };
            sleep(takes).await;
            Ok::<_, String>(address.port())
        });
        assert_eq!(answered.await.expect("both answer"), 2);
    }
}
