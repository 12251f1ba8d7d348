//! Signals: the first SIGTERM or SIGINT ends runs cleanly, the second ends the process at once; SIGHUP has the certificate
//! read anew.

use std::{io, process, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A shell reports 128 + n for a process ended by signal n. A process that ends itself on a second signal
/// reports the same.
const SIGNAL_STATUS_BASE: i32 = 128;

/// A token that the first SIGTERM or SIGINT cancels. A second signal exits the process on the spot, with status
/// 128 + its number. Must be called inside a tokio runtime.
pub fn on_signals() -> io::Result<CancellationToken> {
    let signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let token = CancellationToken::new();
    tokio::spawn(obey(signals, token.clone(), |status| process::exit(status)));
    Ok(token)
}

/// A day: how often a daemon looks at what changes by the day.
const DAY: Duration = Duration::from_secs(86_400);

/// Calls `reload` on every SIGHUP, and `daily` once a day. Must be called inside a tokio runtime.
pub fn on_hangup(reload: impl Fn() + Send + 'static, daily: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut days = tokio::time::interval_at(tokio::time::Instant::now() + DAY, DAY);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = hangup.recv() => reload(),
                _ = days.tick() => daily(),
            }
        }
    });
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// The kind of the next signal; never, if the runtime is ending.
    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            Some(()) = self.terminate.recv() => SignalKind::terminate(),
            Some(()) = self.interrupt.recv() => SignalKind::interrupt(),
            else => std::future::pending().await,
        }
    }
}

async fn obey(mut signals: Signals, token: CancellationToken, exit: impl FnOnce(i32)) {
    signals.next().await;
    tracing::info!("shutting down: ending runs; a second signal exits at once");
    token.cancel();
    let kind = signals.next().await;
    tracing::warn!("second signal: exiting at once");
    exit(SIGNAL_STATUS_BASE + kind.as_raw_value());
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_is_graceful_and_the_second_is_not() {
        let signals = Signals {
            terminate: signal(SignalKind::terminate()).unwrap(),
            interrupt: signal(SignalKind::interrupt()).unwrap(),
        };
        let token = CancellationToken::new();
        let (exited, status) = tokio::sync::oneshot::channel();
        tokio::spawn(obey(signals, token.clone(), |status| exited.send(status).unwrap()));
        kill_process(getpid(), Number::TERM).unwrap();
        token.cancelled().await;
        kill_process(getpid(), Number::INT).unwrap();
        assert_eq!(status.await.unwrap(), 128 + 2);
    }
}
