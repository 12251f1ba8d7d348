//! What a burst of messages tells of the link's rate.

use std::time::Instant;

/// Transfers of fewer bytes measure the delay, not the rate.
pub(crate) const LEAST_MEASURED_BYTES: u64 = 1_000_000;

/// The rate at which a burst of messages arrives.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// When the first one was complete, and the last.
    between: Option<(Instant, Instant)>,
    /// Bytes of all messages but the first: they were on the way in that time.
    bytes: u64,
}

impl Arrivals {
    /// A message of `bytes` was complete at `now`.
    pub(crate) fn add(&mut self, bytes: usize, now: Instant) {
        match &mut self.between {
            None => self.between = Some((now, now)),
            Some((_, last)) => {
                *last = now;
                self.bytes += bytes as u64;
            }
        }
    }

    /// Bits per second; none where there was too little to tell.
    pub(crate) fn rate_bps(&self) -> Option<f64> {
        let (first, last) = self.between?;
        let seconds = last.duration_since(first).as_secs_f64();
        (self.bytes >= LEAST_MEASURED_BYTES && seconds > 0.0).then(|| self.bytes as f64 * 8.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_is_that_of_what_followed_the_first_message() {
        let (start, mut arrivals) = (Instant::now(), Arrivals::default());
        assert_eq!(arrivals.rate_bps(), None);
        arrivals.add(9_000_000, start);
        assert_eq!(arrivals.rate_bps(), None, "how long the first was under way is not known");
        for milliseconds in [4, 8] {
            arrivals.add(1_000_000, start + Duration::from_millis(milliseconds));
        }
        assert_eq!(arrivals.rate_bps(), Some(2e9));
    }

    #[test]
    fn few_bytes_tell_no_rate() {
        let (start, mut arrivals) = (Instant::now(), Arrivals::default());
        arrivals.add(1, start);
        arrivals.add(LEAST_MEASURED_BYTES as usize - 1, start + Duration::from_millis(1));
        assert_eq!(arrivals.rate_bps(), None);
    }
}
