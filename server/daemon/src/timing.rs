//! Clocks of a run: when each phase began, and how much of the evaluation was computing.

use std::time::{Duration, Instant};

use suf_party::Phase;

/// Phase starts and computing time of one run.
#[derive(Debug)]
pub(crate) struct Timing {
    entered: Vec<(Phase, Instant)>,
    computing: Busy,
}

/// The time during which at least one thread computed.
#[derive(Debug, Default)]
struct Busy {
    threads: usize,
    since: Option<Instant>,
    total: Duration,
}

impl Timing {
    pub(crate) fn start() -> Self {
        Self { entered: Vec::new(), computing: Busy::default() }
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        self.entered.push((phase, Instant::now()));
    }

    /// A thread starts or stops work that belongs to the evaluation.
    pub(crate) fn compute(&mut self, starts: bool) {
        let now = Instant::now();
        if starts {
            self.computing.threads += 1;
            self.computing.since.get_or_insert(now);
        } else {
            self.computing.threads -= 1;
            if self.computing.threads == 0 {
                let since = self.computing.since.take();
                self.computing.total += since.map_or(Duration::ZERO, |since| now - since);
            }
        }
    }

    /// From the masked inputs' opening to the last x_hat, in milliseconds; 0 for gates that open nothing.
    pub(crate) fn open_ms(&self) -> f64 {
        self.between(Phase::Opening, Phase::AwaitingPeer)
    }

    /// From both parties ready to y_hat here, in milliseconds.
    pub(crate) fn eval_ms(&self) -> f64 {
        self.between(Phase::Evaluating, Phase::Closing)
    }

    /// The part of [`Timing::eval_ms`] in which something was computed.
    pub(crate) fn comp_ms(&self) -> f64 {
        ms(self.computing.total)
    }

    fn between(&self, from: Phase, to: Phase) -> f64 {
        let at = |phase| self.entered.iter().find(|(entered, _)| *entered == phase).map(|(_, at)| *at);
        match (at(from), at(to)) {
            (Some(from), Some(to)) => ms(to.duration_since(from)),
            _ => 0.0,
        }
    }
}

/// Milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
