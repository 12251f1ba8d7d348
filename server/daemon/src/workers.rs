//! Threads that carry out the runs' computing.

use std::{
    collections::VecDeque,
    fmt, hint,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use suf_gate::Backend;
use suf_party::{Done, RunFailure, Work};
use suf_process::hardening::scrub_stack;
use suf_wire::Fault;

/// What a worker does, on its own thread; whether another job is near.
type Task = Box<dyn FnOnce(&dyn Backend) -> bool + Send>;

/// A pool of threads over one backend. Dropping it lets the queue run out.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

/// How long a thread that has just worked looks for its next job before it sleeps. Between two exchanges there is about
/// that much time, and waking a thread takes a good part of it.
const LOOKS: Duration = Duration::from_micros(200);

/// Threads of a pool that can afford to look: with fewer cores, the link's thread needs the one that they would look on.
const MANY: usize = 8;

/// Jobs that wait, in order. Each that comes wakes one thread, so that those that come together begin together.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
    /// Jobs in the queue, for those who look.
    waiting: AtomicUsize,
    /// Threads that look.
    looking: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Task>,
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
                    let more = job(&*backend);
                    scrub_stack();
                    if more && threads >= MANY {
                        shared.look();
                    }
                }
            })?;
        }
        Ok(workers)
    }

    /// Queues `job`, which says whether another is near.
    pub(crate) fn submit(&self, job: impl FnOnce(&dyn Backend) -> bool + Send + 'static) {
        let mut queue = self.shared.lock();
        queue.jobs.push_back(Box::new(job));
        let waiting = queue.jobs.len();
        self.shared.waiting.store(waiting, Ordering::Release);
        // A spinning worker re-checks the queue under the lock, so no wake-up is lost.
        let found = waiting <= self.shared.looking.load(Ordering::Acquire);
        drop(queue);
        if !found {
            self.shared.news.notify_one();
        }
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
    fn next(&self) -> Option<Task> {
        let waiting = |queue: &mut Queue| queue.jobs.is_empty() && !queue.closed;
        let mut queue = self.news.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        let job = queue.jobs.pop_front();
        self.waiting.store(queue.jobs.len(), Ordering::Release);
        job
    }

    /// Returns when there may be a job, or after a while.
    fn look(&self) {
        self.looking.fetch_add(1, Ordering::AcqRel);
        let until = Instant::now() + LOOKS;
        while self.waiting.load(Ordering::Acquire) == 0 && Instant::now() < until {
            hint::spin_loop();
        }
        self.looking.fetch_sub(1, Ordering::AcqRel);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} jobs wait", self.lock().jobs.len())
    }
}

/// A panic in a kernel ends one run, not the daemon.
pub(crate) fn carry_out(work: Work, backend: &dyn Backend) -> Result<Done, RunFailure> {
    let name = work.name();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.run(backend)))
        .unwrap_or_else(|_| Err(RunFailure::new(Fault::Bug, format!("computing '{name}' panicked"))))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use suf_process::BackendChoice;

    use super::*;

    /// Jobs that come one by one and all at once, to few threads and to as many as look for them.
    #[test]
    fn every_job_is_done() {
        for threads in [1, MANY] {
            let backend = BackendChoice::Cpu.backend(0).expect("a CPU");
            let workers = Workers::start(&backend, threads).expect("threads");
            let (done, results) = mpsc::channel();
            let submit = |number: usize| {
                let done = done.clone();
                workers.submit(move |_| {
                    done.send(number).expect("the test waits");
                    true
                });
            };
            for number in 0..100 {
                submit(number);
                assert_eq!(results.recv(), Ok(number));
            }
            (0..100).for_each(submit);
            let mut all: Vec<_> = results.iter().take(100).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..100));
        }
    }

    #[test]
    fn the_queue_runs_out_after_the_pool_is_dropped() {
        let backend = BackendChoice::Cpu.backend(0).expect("a CPU");
        let workers = Workers::start(&backend, 1).expect("threads");
        let (done, results) = mpsc::channel();
        (0..10).for_each(|number| {
            let done = done.clone();
            workers.submit(move |_| {
                done.send(number).expect("the test waits");
                true
            });
        });
        drop((workers, done));
        assert!(results.iter().eq(0..10));
    }
}
