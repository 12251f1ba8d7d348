//! What must hold for a process to be ready.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

/// How often each check looks. With [`LIMIT`], what is wrong is told within 10 s, though a link takes 6 s to notice a loss.
const PERIOD: Duration = Duration::from_secs(2);

/// How long a look may take before that itself is what is wrong.
const LIMIT: Duration = Duration::from_secs(2);

/// What is wrong, and what to do about it. Everybody who reaches the admin address reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// What the operator should do.
    pub advice: String,
}

/// What a check found.
pub type Found = Result<(), Problem>;

type Looking = Pin<Box<dyn Future<Output = Found> + Send>>;

/// One thing that must hold.
pub struct Check {
    name: &'static str,
    look: Box<dyn Fn() -> Looking + Send + Sync>,
}

/// All checks of a process, and what each found last. Clones share them. The looking ends with the last clone.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    states: Arc<[State]>,
    _tasks: JoinSet<()>,
}

/// What a check found last.
struct State {
    name: &'static str,
    found: Mutex<Found>,
}

impl Problem {
    /// What is wrong, and what to do.
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.advice)
    }
}

impl Check {
    /// A check called `name`, a short word, which looks with `look`.
    pub fn new<F>(name: &'static str, look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Found> + Send + 'static,
    {
        Self { name, look: Box::new(move || Box::pin(look())) }
    }

    /// A check whose `look` waits for a disk or a device, on a thread of its own.
    pub fn blocking(name: &'static str, look: impl Fn() -> Found + Send + Sync + 'static) -> Self {
        let look = Arc::new(look);
        Self::new(name, move || {
            let look = Arc::clone(&look);
            async move {
                tokio::task::spawn_blocking(move || look()).await.unwrap_or_else(|error| {
                    Err(Problem::new(format!("the check itself failed: {error}"), "report this as a defect"))
                })
            }
        })
    }
}

impl Health {
    /// Looks with each of `checks` now, and every two seconds from then on. Until a check has looked, it has not passed. Must be
    /// called within a tokio runtime.
    #[must_use]
    pub fn watch(checks: Vec<Check>) -> Self {
        let state = |check: &Check| State { name: check.name, found: Mutex::new(Err(not_looked())) };
        let states: Arc<[State]> = checks.iter().map(state).collect();
        let mut tasks = JoinSet::new();
        for (number, check) in checks.into_iter().enumerate() {
            let states = Arc::clone(&states);
            tasks.spawn(async move { states[number].keep(&check).await });
        }
        Self(Arc::new(Inner { states, _tasks: tasks }))
    }

    /// What each check found last, in the order in which they were given.
    #[must_use]
    pub fn found(&self) -> Vec<(&'static str, Found)> {
        self.0.states.iter().map(|state| (state.name, state.now())).collect()
    }

    /// Whether all checks have passed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.states.iter().all(|state| state.now().is_ok())
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.found()).finish()
    }
}

impl State {
    fn now(&self) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what was found, and tells the log of a change.
    fn note(&self, found: Found) {
        let mut last = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == found {
            return;
        }
        match &found {
            Err(problem) if last.is_ok() || *last == Err(not_looked()) => {
                tracing::warn!(check = self.name, %problem, "not ready");
            }
            Ok(()) if *last != Err(not_looked()) => tracing::info!(check = self.name, "ready again"),
            _ => {}
        }
        *last = found;
    }

    /// Looks again and again. One look ends before the next begins, so that a disk that hangs does not fill up all threads.
    async fn keep(&self, check: &Check) {
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            let mut looking = (check.look)();
            loop {
                match timeout(LIMIT, &mut looking).await {
                    Ok(found) => {
                        self.note(found);
                        break;
                    }
                    Err(_) => self.note(Err(Problem::new(
                        format!("the check did not end within {} s", LIMIT.as_secs()),
                        "see the host's load and its kernel log",
                    ))),
                }
            }
        }
    }
}

fn not_looked() -> Problem {
    Problem::new("was not looked at yet", "ask again in some seconds")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_wrong_is_told_within_a_period_and_so_is_its_end() {
        let good = Arc::new(AtomicBool::new(true));
        let looked = Arc::clone(&good);
        let check = Check::new("thing", move || {
            let good = looked.load(Ordering::Relaxed);
            async move { if good { Ok(()) } else { Err(Problem::new("it is gone", "bring it back")) } }
        });
        let always = Check::new("other", || async { Ok(()) });
        let health = Health::watch(vec![check, always]);
        assert!(!health.is_ready(), "nothing was looked at");
        pass(1).await;
        assert!(health.is_ready());
        good.store(false, Ordering::Relaxed);
        pass(2).await;
        assert!(!health.is_ready());
        assert_eq!(health.found()[0], ("thing", Err(Problem::new("it is gone", "bring it back"))));
        assert_eq!(health.found()[1], ("other", Ok(())));
        good.store(true, Ordering::Relaxed);
        pass(2).await;
        assert!(health.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_a_problem_until_it_ends_and_begins_no_second_one() {
        let (go_on, gate) = tokio::sync::watch::channel(false);
        let looks = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&looks);
        let check = Check::new("disk", move || {
            *counted.lock().expect("whole") += 1;
            let mut gate = gate.clone();
            async move {
                gate.wait_for(|open| *open).await.expect("the sender lives");
                Ok(())
            }
        });
        let health = Health::watch(vec![check]);
        pass(9).await;
        let (_, found) = health.found().remove(0);
        assert!(found.expect_err("it hangs").what.contains("did not end"));
        assert_eq!(*looks.lock().expect("whole"), 1);
        go_on.send_replace(true);
        pass(1).await;
        assert!(health.is_ready());
    }
}
