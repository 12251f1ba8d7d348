//! Threads that carry out the runs' computing.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
};

use suf_gate::Backend;
use suf_party::{Done, Failure, Work};
use suf_process::hardening::scrub_stack;
use suf_wire::Fault;

/// What a worker does, on its own thread.
type Job = Box<dyn FnOnce(&dyn Backend) + Send>;

/// A pool of threads over one backend. Dropping it lets the queue run out.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    queue: mpsc::Sender<Job>,
}

impl Workers {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(crate) fn start(backend: &Arc<dyn Backend>, threads: usize) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for index in 0..threads {
            let (backend, jobs) = (Arc::clone(backend), Arc::clone(&jobs));
            thread::Builder::new().name(format!("work-{index}")).spawn(move || {
                loop {
                    // The lock is held while waiting, so exactly one idle thread waits for the next job.
                    let job = jobs.lock().expect("no holder panics").recv();
                    let Ok(job) = job else { return };
                    job(&*backend);
                    scrub_stack();
                }
            })?;
        }
        Ok(Self { queue })
    }

    /// Queues `job`.
    pub(crate) fn submit(&self, job: impl FnOnce(&dyn Backend) + Send + 'static) {
        let sent = self.queue.send(Box::new(job));
        assert!(sent.is_ok(), "the workers live as long as a handle to their queue");
    }
}

/// A panic in a kernel ends one run, not the daemon.
pub(crate) fn carry_out(work: Work, backend: &dyn Backend) -> Result<Done, Failure> {
    let name = work.name();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.run(backend)))
        .unwrap_or_else(|_| Err(Failure::new(Fault::Bug, format!("computing '{name}' panicked"))))
}
