//! Clocks of a run: when each phase began, and what the evaluation's time was spent on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use suf_gate::{Activity, Span};
use suf_party::Phase;
use suf_wire::{NodeId, Part};

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
    /// What was done for each part, keys put in place and wiped aside.
    works: Vec<(Part, Stretch)>,
}

/// The clocks of a run that is over.
#[derive(Debug)]
pub(crate) struct Clocks {
    /// When each phase began, in order.
    pub(crate) phases: Vec<(Phase, Instant)>,
    /// What was done for each part, and when.
    pub(crate) works: Vec<(Part, Stretch)>,
}

/// Clocks of a node, in milliseconds since the opening of the inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NodeTime {
    /// Time in which a thread worked on the node.
    pub(crate) comp_ms: f64,
    /// When the first work on it began.
    pub(crate) begin_ms: f64,
    /// When the last work on it ended.
    pub(crate) end_ms: f64,
}

/// From when until when.
pub(crate) type Stretch = (Instant, Instant);

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
            works: Vec::new(),
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        self.entered.push((phase, Instant::now()));
    }

    /// A thread starts work that belongs to the evaluation.
    pub(crate) fn compute(&mut self, now: Instant) {
        self.threads += 1;
        self.since.get_or_insert(now);
    }

    /// A thread stops such work.
    pub(crate) fn computed(&mut self, now: Instant) {
        self.threads -= 1;
        if self.threads == 0 {
            self.computing.extend(self.since.take().map(|since| (since, now)));
        }
    }

    /// A thread evaluated a part during `stretch`, or did something else for the run.
    pub(crate) fn worked(&mut self, part: Option<Part>, stretch: Stretch) {
        self.works.extend(part.map(|part| (part, stretch)));
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

    /// From the opening of the inputs to y_hat here, in milliseconds.
    pub(crate) fn run_ms(&self) -> f64 {
        self.whole().map_or(0.0, length_ms)
    }

    /// The clocks of each node that was worked on.
    pub(crate) fn nodes(&self) -> BTreeMap<NodeId, NodeTime> {
        let Some((opened, _)) = self.whole() else { return BTreeMap::new() };
        let mut stretches: BTreeMap<NodeId, Vec<Stretch>> = BTreeMap::new();
        for (part, stretch) in &self.works {
            stretches.entry(part.node).or_default().push(*stretch);
        }
        let time = |stretches: Vec<Stretch>| {
            let begin = stretches.iter().map(|stretch| stretch.0).min().unwrap_or(opened);
            let end = stretches.iter().map(|stretch| stretch.1).max().unwrap_or(opened);
            NodeTime {
                comp_ms: covered_ms((begin, end), &[&stretches]),
                begin_ms: ms(begin.saturating_duration_since(opened)),
                end_ms: ms(end.saturating_duration_since(opened)),
            }
        };
        stretches.into_iter().map(|(node, stretches)| (node, time(stretches))).collect()
    }

    /// Node, tile, first and last microsecond of each work, by the monotonic clock that all processes of a machine share.
    pub(crate) fn spans_us(&self) -> Vec<[u64; 4]> {
        let at = shared_us();
        let span =
            |(part, (from, to)): &(Part, Stretch)| [part.node.0.into(), part.tile.into(), at(*from), at(*to)];
        self.works.iter().map(span).collect()
    }

    /// What there is for a trace. Threads that are at work still end their work afterwards.
    pub(crate) fn take_clocks(&mut self) -> Clocks {
        Clocks { phases: std::mem::take(&mut self.entered), works: std::mem::take(&mut self.works) }
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

    /// From the opening of the inputs on; where there is nothing to open, from when both parties are ready.
    fn whole(&self) -> Option<Stretch> {
        let opens = self.between(Phase::Opening, Phase::Closing);
        opens.or_else(|| self.evaluation())
    }

    fn evaluation(&self) -> Option<Stretch> {
        self.between(Phase::Evaluating, Phase::Closing)
    }

    fn between(&self, from: Phase, to: Phase) -> Option<Stretch> {
        let at = |phase| self.entered.iter().find(|(entered, _)| *entered == phase).map(|(_, at)| *at);
        Some((at(from)?, at(to)?))
    }
}

/// What makes of a moment in the past its microsecond by the monotonic clock that all processes of a machine share.
pub(crate) fn shared_us() -> impl Fn(Instant) -> u64 {
    let (now, clock) = (Instant::now(), clock_gettime(ClockId::Monotonic));
    let now_us = (clock.tv_sec * 1_000_000 + clock.tv_nsec / 1000).cast_unsigned();
    move |moment| now_us.saturating_sub((now - moment).as_micros() as u64)
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
