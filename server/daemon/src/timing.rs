//! Clocks of a run: when each phase began, and what the evaluation's time was spent on.

use std::time::{Duration, Instant};

use suf_gate::{Activity, Span};
use suf_party::Phase;

/// Phase starts and computing time of one run.
#[derive(Debug)]
pub(crate) struct Timing {
    entered: Vec<(Phase, Instant)>,
    /// Threads that compute now, and since when there is one.
    threads: usize,
    since: Option<Instant>,
    computing: Vec<Stretch>,
    kernels: Vec<Stretch>,
    copies: Vec<Stretch>,
}

/// From when until when.
type Stretch = (Instant, Instant);

/// What the time from both parties ready to y_hat was spent on, in milliseconds. The four add up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Split {
    /// A kernel ran; on a CPU, a thread computed.
    pub(crate) kernel_ms: f64,
    /// Bytes moved between messages and the device, and no kernel ran.
    pub(crate) copy_ms: f64,
    /// A thread handed work to the device or waited for it, and the device did neither of the above for this run.
    pub(crate) wait_ms: f64,
    /// No thread had work: messages were on the link, or the peer computed.
    pub(crate) link_ms: f64,
}

impl Split {
    /// Everything but the link.
    pub(crate) fn comp_ms(&self) -> f64 {
        self.kernel_ms + self.copy_ms + self.wait_ms
    }
}

impl Timing {
    pub(crate) fn start() -> Self {
        Self {
            entered: Vec::new(),
            threads: 0,
            since: None,
            computing: Vec::new(),
            kernels: Vec::new(),
            copies: Vec::new(),
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        self.entered.push((phase, Instant::now()));
    }

    /// A thread starts or stops work that belongs to the evaluation.
    pub(crate) fn compute(&mut self, starts: bool) {
        let now = Instant::now();
        if starts {
            self.threads += 1;
            self.since.get_or_insert(now);
        } else {
            self.threads -= 1;
            if self.threads == 0 {
                self.computing.extend(self.since.take().map(|since| (since, now)));
            }
        }
    }

    /// What the device did meanwhile.
    pub(crate) fn device(&mut self, spans: &[Span]) {
        for Span { activity, start, end } in spans {
            match activity {
                Activity::Kernel => self.kernels.push((*start, *end)),
                Activity::Copy => self.copies.push((*start, *end)),
            }
        }
    }

    /// From the masked inputs' opening to the last x_hat, in milliseconds; 0 for gates that open nothing.
    pub(crate) fn open_ms(&self) -> f64 {
        self.between(Phase::Opening, Phase::AwaitingPeer).map_or(0.0, length_ms)
    }

    /// From both parties ready to y_hat here, in milliseconds.
    pub(crate) fn eval_ms(&self) -> f64 {
        self.evaluation().map_or(0.0, length_ms)
    }

    /// What [`Timing::eval_ms`] was spent on.
    pub(crate) fn split(&self) -> Split {
        let Some(evaluation) = self.evaluation() else { return Split::default() };
        let covered = |lists: &[&[Stretch]]| covered_ms(evaluation, lists);
        // A stretch that began and did not end belongs to a run that failed.
        let kernels = if self.kernels.is_empty() { &self.computing } else { &self.kernels };
        let kernel_ms = covered(&[kernels]);
        let device_ms = covered(&[kernels, &self.copies]);
        let comp_ms = covered(&[kernels, &self.copies, &self.computing]);
        Split {
            kernel_ms,
            copy_ms: device_ms - kernel_ms,
            wait_ms: comp_ms - device_ms,
            link_ms: length_ms(evaluation) - comp_ms,
        }
    }

    fn evaluation(&self) -> Option<Stretch> {
        self.between(Phase::Evaluating, Phase::Closing)
    }

    fn between(&self, from: Phase, to: Phase) -> Option<Stretch> {
        let at = |phase| self.entered.iter().find(|(entered, _)| *entered == phase).map(|(_, at)| *at);
        Some((at(from)?, at(to)?))
    }
}

/// How much of `whole` lies in at least one stretch of `lists`, in milliseconds.
fn covered_ms(whole: Stretch, lists: &[&[Stretch]]) -> f64 {
    let mut all: Vec<Stretch> = lists.concat();
    all.sort_unstable();
    let mut covered = Duration::ZERO;
    let mut reached = whole.0;
    for (start, end) in all {
        let (start, end) = (start.max(reached), end.min(whole.1));
        covered += end.saturating_duration_since(start);
        reached = reached.max(end);
    }
    ms(covered)
}

fn length_ms((from, to): Stretch) -> f64 {
    ms(to.duration_since(from))
}

/// Milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing() -> (Timing, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |ms| start + Duration::from_millis(ms);
        let mut timing = Timing::start();
        timing.entered = vec![(Phase::Evaluating, at(10)), (Phase::Closing, at(30))];
        (timing, at)
    }

    #[test]
    fn the_parts_add_up() {
        let (mut timing, at) = timing();
        timing.computing = vec![(at(5), at(20)), (at(22), at(26))];
        let span = |activity, start, end| Span { activity, start: at(start), end: at(end) };
        timing.device(&[
            // Before the evaluation, overlapping each other, and a copy under a kernel.
            span(Activity::Kernel, 6, 12),
            span(Activity::Kernel, 11, 14),
            span(Activity::Copy, 13, 16),
            span(Activity::Copy, 23, 24),
        ]);
        let split = timing.split();
        assert_eq!(split, Split { kernel_ms: 4.0, copy_ms: 3.0, wait_ms: 7.0, link_ms: 6.0 });
        assert_eq!(split.comp_ms() + split.link_ms, timing.eval_ms());
    }

    #[test]
    fn without_a_device_of_its_own_computing_is_the_kernels() {
        let (mut timing, at) = timing();
        timing.computing = vec![(at(12), at(20))];
        assert_eq!(timing.split(), Split { kernel_ms: 8.0, copy_ms: 0.0, wait_ms: 0.0, link_ms: 12.0 });
    }

    #[test]
    fn a_run_that_did_not_evaluate_has_no_figures() {
        assert_eq!(Timing::start().split(), Split::default());
    }
}
