//! A call as Python sees it: the work runs on a thread of its own, without the interpreter's lock. The calling thread waits for it,
//! hears signals, and tells of progress.

use std::{
    panic::resume_unwind,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use pyo3::{Bound, PyAny, PyErr, PyResult, Python, pyclass, pymethods, types::PyAnyMethods};
use suf_cli::{error::Error, runtime::Interrupt};

use crate::failure::{interrupted, raised};

/// How often the interpreter is asked for signals. A person does not notice it, and the two parties have the rest of a second
/// to answer.
const SIGNALS: Duration = Duration::from_millis(50);

/// Ends the call to which it was given.
#[pyclass(frozen, module = "suf._suf")]
#[derive(Debug, Default)]
pub(crate) struct Stop(Interrupt);

#[pymethods]
impl Stop {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Ends the call, now or as soon as it begins.
    fn send(&self) {
        self.0.send();
    }
}

impl Stop {
    /// What the work listens to.
    pub(crate) fn interrupt(&self) -> Interrupt {
        self.0.clone()
    }
}

/// How far a call is.
#[derive(Debug)]
struct Told {
    done: u64,
    all: u64,
    what: String,
}

/// Tells how far a call is.
#[derive(Debug)]
pub(crate) struct Teller {
    sender: Sender<Told>,
    /// Whether anybody wants to hear it.
    wanted: bool,
}

impl Teller {
    /// `done` of `all` is finished, and `what` is being done.
    pub(crate) fn tell(&self, done: u64, all: u64, what: &str) {
        if self.wanted {
            // The receiver lives as long as the call.
            let _ = self.sender.send(Told { done, all, what: what.to_owned() });
        }
    }
}

/// Carries out `work`, which ends when `interrupt` comes. A signal whose handler raises sends it, and so does an exception of
/// `progress`; the call then ends with that exception. Its cause is what became of the work.
///
/// # Errors
/// The exception for the error of `work`, or as said.
pub(crate) fn attend<T: Send>(
    py: Python<'_>,
    interrupt: &Interrupt,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Teller) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let progress = progress.map(|function| function.clone().unbind());
    let (worked, raise) = py.detach(|| {
        let (sender, told) = channel();
        let teller = Teller { sender, wanted: progress.is_some() };
        thread::scope(|scope| {
            let worker = scope.spawn(move || work(&teller));
            let raise = listen(&told, interrupt, |told| {
                Python::attach(|py| match &progress {
                    Some(function) => function.bind(py).call1((told.done, told.all, told.what)).map(drop),
                    None => Ok(()),
                })
            });
            (worker.join().unwrap_or_else(|panic| resume_unwind(panic)), raise)
        })
    });
    match (worked, raise) {
        (Ok(made), None) => Ok(made),
        (Err(error), None) if interrupt.has_come() => Err(interrupted(py, &error)),
        (Err(error), None) => Err(raised(py, &error)),
        (worked, Some(raise)) => {
            if let Err(error) = worked {
                raise.set_cause(py, Some(interrupted(py, &error)));
            }
            Err(raise)
        }
    }
}

/// Carries out `work` on a thread that is left alone when a signal's handler raises. What it makes then is dropped there.
///
/// # Errors
/// As [`attend`].
pub(crate) fn attend_start<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> PyResult<T> {
    let (sender, made) = channel();
    thread::spawn(move || {
        // An error gives the value back, whose end is its drop.
        drop(sender.send(work()));
    });
    let (worked, raise) = py.detach(move || {
        let mut worked = None;
        let raise = listen(&made, &Interrupt::default(), |made| {
            worked = Some(made);
            Ok(())
        });
        (worked, raise)
    });
    match (worked, raise) {
        (_, Some(raise)) => Err(raise),
        (Some(Ok(made)), None) => Ok(made),
        (Some(Err(error)), None) => Err(raised(py, &error)),
        (None, None) => resume_unwind(Box::new("the thread that starts the daemons panicked")),
    }
}

/// Takes what comes until the sender is gone, and hears signals meanwhile. The first exception of either sends `interrupt`.
fn listen<T>(
    source: &Receiver<T>,
    interrupt: &Interrupt,
    mut take: impl FnMut(T) -> PyResult<()>,
) -> Option<PyErr> {
    let mut raise = None;
    loop {
        let taken = match source.recv_timeout(SIGNALS) {
            Ok(_) if raise.is_some() => Ok(()),
            Ok(news) => take(news),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => return raise,
        };
        if raise.is_none()
            && let Err(error) = taken.and_then(|()| Python::attach(|py| py.check_signals()))
        {
            interrupt.send();
            raise = Some(error);
        }
    }
}
