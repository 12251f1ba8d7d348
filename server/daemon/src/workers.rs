//! Threads that carry out the runs' computing.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use suf_gate::Backend;
use suf_party::{Done, Failure, Work};
use suf_process::hardening::scrub_stack;
use suf_wire::Fault;

/// What a worker does, on its own thread.
type Job = Box<dyn FnOnce(&dyn Backend) + Send>;

/// A pool of threads over one backend. Dropping it lets the queue run out.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

/// Jobs that wait, in order. Each that comes wakes one thread, so that those that come together begin together.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Workers {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(crate) fn start(backend: &Arc<dyn Backend>, threads: usize) -> std::io::Result<Self> {
        let workers = Self { shared: Arc::default() };
        for index in 0..threads {
            let (backend, shared) = (Arc::clone(backend), Arc::clone(&workers.shared));
            thread::Builder::new().name(format!("work-{index}")).spawn(move || {
                while let Some(job) = shared.next() {
                    job(&*backend);
                    scrub_stack();
                }
            })?;
        }
        Ok(workers)
    }

    /// Queues `job`.
    pub(crate) fn submit(&self, job: impl FnOnce(&dyn Backend) + Send + 'static) {
        self.shared.lock().jobs.push_back(Box::new(job));
        self.shared.news.notify_one();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.news.notify_all();
    }
}

impl Shared {
    /// The next job; none when there will be no more.
    fn next(&self) -> Option<Job> {
        let waiting = |queue: &mut Queue| queue.jobs.is_empty() && !queue.closed;
        let mut queue = self.news.wait_while(self.lock(), waiting).expect("no holder panics");
        queue.jobs.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder panics")
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} jobs wait", self.lock().jobs.len())
    }
}

/// A panic in a kernel ends one run, not the daemon.
pub(crate) fn carry_out(work: Work, backend: &dyn Backend) -> Result<Done, Failure> {
    let name = work.name();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.run(backend)))
        .unwrap_or_else(|_| Err(Failure::new(Fault::Bug, format!("computing '{name}' panicked"))))
}
