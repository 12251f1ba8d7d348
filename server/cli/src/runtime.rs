//! Running a command: one thread for its calls, and an orderly end on a signal.

use std::{
    fs,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use suf_control::v1::Fault;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// How long a command may take after a signal to end what it has started elsewhere. The calls to both parties have a second,
/// the rest is for their results.
const GRACE: Duration = Duration::from_secs(2);

/// Tells work that a signal came, or that its caller wants it to end. Clones are of one signal.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    came: CancellationToken,
    open: Arc<AtomicUsize>,
}

/// Something that was started elsewhere and has to be ended there: a signal leaves time for that.
#[derive(Debug)]
pub struct Open(Arc<AtomicUsize>);

impl Interrupt {
    /// Ends the work as a signal does.
    pub fn send(&self) {
        self.came.cancel();
    }

    /// Whether a signal came.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.came.is_cancelled()
    }

    /// Returns when a signal came.
    pub async fn came(&self) {
        self.came.cancelled().await;
    }

    /// From now on, until the value is dropped, a signal does not end the work at once: the work ends itself.
    #[must_use]
    pub fn open(&self) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(&self.open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs `work` to its end, or until SIGINT, SIGTERM or SIGHUP. Either way everything that it owns is dropped, child processes
/// and temporary folders included. Work with something open elsewhere has [`GRACE`] to end that first. A signal that was
/// ignored when the process started, as `nohup` does, stays ignored.
///
/// # Errors
/// Its own error, or that it was interrupted.
pub(crate) fn block_on<T, W>(work: impl FnOnce(Interrupt) -> W) -> Result<T, Error>
where
    W: Future<Output = Result<T, Error>>,
{
    let failed = |error: std::io::Error| Error::here(Fault::Device, format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(failed)?;
        let interrupt = Interrupt::default();
        let mut work = pin!(until(&interrupt, work(interrupt.clone())));
        tokio::select! {
            result = &mut work => return result,
            () = signals.next() => interrupt.send(),
        }
        work.await
    })
}

/// Runs `work` to its end, or until `interrupt` comes. Work with something open elsewhere has [`GRACE`] to end that first; other
/// work is dropped at once.
///
/// # Errors
/// Its own error, or that it was interrupted.
pub async fn until<T>(
    interrupt: &Interrupt,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut work = pin!(work);
    tokio::select! {
        result = &mut work => return result,
        () = interrupt.came() => {}
    }
    if interrupt.open.load(Ordering::Relaxed) > 0
        && let Ok(result) = tokio::time::timeout(GRACE, work).await
    {
        return result;
    }
    Err(Error::here(Fault::Caller, "interrupted; what it started on this machine is ended"))
}

/// The signals that end a command.
struct Signals(Vec<Signal>);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let ignored = ignored_signals();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let heard = kinds.into_iter().filter(|kind| ignored >> (kind.as_raw_value() - 1) & 1 == 0);
        heard.map(signal).collect::<Result<_, _>>().map(Self)
    }

    /// Returns at the next signal.
    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

/// One bit for each signal that this process ignores, signal 1 lowest; none where the system does not tell.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
