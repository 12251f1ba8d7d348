//! How the kernel of an exchange signals completion: through a word in the host's memory. A waiting processor polls it without
//! the driver. The driver's calls take a lock of the whole process each, and would be most of an exchange's time.

use std::{
    hint,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use suf_gate::BackendError;

/// How long a kernel is waited for without asking the driver.
const PATIENCE: Duration = Duration::from_micros(200);

/// How often the driver is asked after that, in case that the kernel has failed.
const BETWEEN: Duration = Duration::from_micros(50);

/// Looks between two at the clock.
const LOOKS: usize = 32;

/// Says that the kernel of an exchange has ended, and when it ran. `cu/prelude.cuh` has the same structure. It lies in
/// memory that the GPU writes to at any time, hence the atomics.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Completion {
    /// When the kernel began, by the GPU's clock.
    start_ns: AtomicU64,
    /// When it had written everything.
    end_ns: AtomicU64,
    /// Exchanges whose kernels are done; written last.
    exchanges: AtomicU64,
}

/// Room for [`Completion`]: a processor's line that nothing else is in, and the one that is fetched along with it.
pub(crate) const COMPLETION_BYTES: usize = 128;

/// When a kernel ran, by the host's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    /// From when.
    pub(crate) start: Instant,
    /// Until when: the host has seen it.
    pub(crate) end: Instant,
}

impl Completion {
    /// Waits until the kernel after which `exchanges` exchanges are made is done. Then it touches memory no more, and what it
    /// wrote to the host's memory can be read. Where that takes long, `is_idle` asks the driver whether all that was queued
    /// is done.
    pub(crate) fn wait(
        &self,
        exchanges: u64,
        is_idle: impl Fn() -> Result<bool, BackendError>,
    ) -> Result<Ran, BackendError> {
        let begun = Instant::now();
        let mut ask_after = PATIENCE;
        loop {
            for _ in 0..LOOKS {
                if self.has(exchanges) {
                    return Ok(self.ran());
                }
                hint::spin_loop();
            }
            let waited = begun.elapsed();
            if waited < PATIENCE {
                continue;
            }
            // The GPU is busy with others' kernels, whose threads may want this processor.
            thread::yield_now();
            if waited < ask_after {
                continue;
            }
            if is_idle()? {
                // It may have ended since the last look.
                let silent = || BackendError::Failed("a kernel ended and did not say so".into());
                return self.has(exchanges).then(|| self.ran()).ok_or_else(silent);
            }
            ask_after = begun.elapsed() + BETWEEN;
        }
    }

    fn has(&self, exchanges: u64) -> bool {
        self.exchanges.load(Ordering::Acquire) == exchanges
    }

    /// The GPU's clock is not set by the host's: what lies between two of its times is all that it tells.
    fn ran(&self) -> Ran {
        let [start, end] = [&self.start_ns, &self.end_ns].map(|ns| ns.load(Ordering::Relaxed));
        let (took, end) = (Duration::from_nanos(end.saturating_sub(start)), Instant::now());
        Ran { start: end.checked_sub(took).unwrap_or(end), end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_ends_the_wait() {
        let completion = Completion::default();
        let ran = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(5 * PATIENCE);
                completion.start_ns.store(1_000, Ordering::Relaxed);
                completion.end_ns.store(9_000, Ordering::Relaxed);
                completion.exchanges.store(3, Ordering::Release);
            });
            completion.wait(3, || Ok(false)).expect("the kernel ends")
        });
        assert_eq!(ran.end - ran.start, Duration::from_micros(8));
    }

    #[test]
    fn a_silent_or_failed_kernel_is_an_error() {
        let completion = Completion::default();
        let failed = |result| matches!(result, Err(BackendError::Failed(_)));
        assert!(failed(completion.wait(1, || Ok(true))));
        let lost = completion.wait(1, || Err(BackendError::Lost("it fell off the bus".into())));
        assert!(matches!(lost, Err(BackendError::Lost(_))));
        completion.exchanges.store(1, Ordering::Release);
        assert!(completion.wait(1, || Ok(true)).is_ok());
        // That is the exchange before.
        assert!(failed(completion.wait(2, || Ok(true))));
    }
}
