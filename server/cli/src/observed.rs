//! What both parties of a benchmark made of each part of a run, and whether it is right, node by node.
//!
//! The parties write it to the standard output that they inherit from this process, which started them. Nobody else learns
//! the seeds of both.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read},
    sync::{Arc, mpsc},
    time::Duration,
};

use serde::Deserialize;
use suf_control::v1::Fault;
use suf_cpu::CpuBackend;
use suf_gate::{
    NodeId, Part, Program, Seed, TwoParties,
    check::{self, NodeCheck, Observed},
    layout::FieldId,
};
use suf_wire::{Party, RunId};

use crate::{error::Error, model::in_parallel, program::Values};

/// How long a party may take to tell what it made, after the run has ended.
const REPORT_TIMEOUT: Duration = Duration::from_secs(60);

/// What one party tells of a run.
pub(crate) struct Report {
    run: [u8; 16],
    batch: [u8; 16],
    seed: Seed,
    made: BTreeMap<Part, Vec<u64>>,
    /// What it worked on, and when; the works of a part in their order.
    works: Vec<Worked>,
    /// When messages of the other party came.
    arrivals: Vec<Arrival>,
}

/// What one party tells of a run's times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// What it worked on, and when; the works of a part in their order.
    pub(crate) works: &'a [Worked],
    /// When messages of the other party came.
    pub(crate) arrivals: &'a [Arrival],
}

/// One work of a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worked {
    /// The part that it belongs to.
    pub(crate) part: Part,
    /// Its first and last microsecond, by the monotonic clock that both parties share.
    pub(crate) from_us: u64,
    pub(crate) to_us: u64,
}

/// A message that came to a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The part that it belongs to.
    pub(crate) part: Part,
    /// Which of the part's exchanges.
    pub(crate) step: u8,
    /// The microsecond in which all of it was there, by the same clock.
    pub(crate) at_us: u64,
}

/// The line before a report's values.
#[derive(Deserialize)]
struct Head {
    run: [u8; 16],
    batch: [u8; 16],
    seed: [u8; 32],
    parts: Vec<[u64; 3]>,
    spans: Vec<[u64; 4]>,
    arrivals: Vec<[u64; 4]>,
}

/// The reports of one party, as they come.
#[derive(Debug)]
pub(crate) struct Reports(mpsc::Receiver<Report>);

impl Reports {
    /// Those that come after the first line of `output`, which goes to `first`. The output is read to its end, so that the
    /// process never waits.
    pub(crate) fn after_first_line(output: impl Read + Send + 'static) -> (mpsc::Receiver<String>, Self) {
        let (to_line, line) = mpsc::channel();
        let (to_reports, reports) = mpsc::channel();
        std::thread::spawn(move || {
            let mut output = BufReader::with_capacity(1 << 20, output);
            let mut first = String::new();
            if output.read_line(&mut first).is_ok_and(|bytes| bytes > 0) {
                // A receiver may have given up, here and below.
                let _ = to_line.send(first.trim_end().to_owned());
            }
            while let Ok(Some(report)) = Report::read(&mut output) {
                let _ = to_reports.send(report);
            }
            let _ = io::copy(&mut output, &mut io::sink());
        });
        (line, Self(reports))
    }

    /// That of `run`. Those of earlier runs are dropped.
    ///
    /// # Errors
    /// When it does not come.
    fn of(&self, run: RunId, party: Party) -> Result<Report, Error> {
        loop {
            let report = self.0.recv_timeout(REPORT_TIMEOUT).map_err(|_| {
                Error::here(
                    Fault::Bug,
                    format!("{party} did not tell what it made of each node; see its log"),
                )
            })?;
            if report.run == run.public_hash().0 {
                return Ok(report);
            }
        }
    }
}

impl Report {
    /// The next one; none at the end of the output.
    fn read(output: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = Vec::new();
        if output.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let Head { run, batch, seed, parts, spans, arrivals } = serde_json::from_slice(&line)?;
        let mut made = BTreeMap::new();
        for [node, tile, words] in parts {
            let mut bytes = vec![0; 8 * words as usize];
            output.read_exact(&mut bytes)?;
            let words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
            made.insert(part(node, tile)?, words);
        }
        let worked = |[node, tile, from_us, to_us]: [u64; 4]| {
            Ok::<_, io::Error>(Worked { part: part(node, tile)?, from_us, to_us })
        };
        let works = spans.into_iter().map(worked).collect::<io::Result<_>>()?;
        let arrived = |[node, tile, step, at_us]: [u64; 4]| {
            let step = u8::try_from(step).map_err(io::Error::other)?;
            Ok::<_, io::Error>(Arrival { part: part(node, tile)?, step, at_us })
        };
        let arrivals = arrivals.into_iter().map(arrived).collect::<io::Result<_>>()?;
        Ok(Some(Self { run, batch, seed: Seed::new(seed), made, works, arrivals }))
    }
}

fn part(node: u64, tile: u64) -> io::Result<Part> {
    let numbers = u16::try_from(node).ok().zip(u32::try_from(tile).ok());
    let (node, tile) = numbers.ok_or_else(|| io::Error::other("no part of a program"))?;
    Ok(Part::new(NodeId(node), tile))
}

/// A run, as a checker sees it.
pub(crate) struct Run {
    parties: TwoParties,
    reports: [Report; 2],
    backend: CpuBackend,
    /// The matrices of the owner of private weights, in the order of the load program's inputs.
    loaded: Arc<Vec<Values>>,
}

impl Run {
    /// What both parties tell of the run.
    ///
    /// # Errors
    /// When one does not, or they tell of different batches.
    pub(crate) fn of(program: &Arc<Program>, run: RunId, parties: [&Reports; 2]) -> Result<Self, Error> {
        let [first, second] = parties;
        let reports = [first.of(run, Party::P0)?, second.of(run, Party::P1)?];
        if reports[0].batch != reports[1].batch {
            return Err(Error::here(Fault::Bug, "the parties used different batches for one run"));
        }
        let [first, second] = reports.each_ref().map(|report| report.seed.clone());
        // Only the parties' seeds make masks; the dealer's makes keys, which the checker does not look at.
        let seeds = [first, second, Seed::new([0; 32])];
        let parties = TwoParties::new(Arc::clone(program), reports[0].batch, seeds);
        Ok(Self { parties, reports, backend: CpuBackend::new(), loaded: Arc::default() })
    }

    /// The same on a loaded model with these matrices, in the order of the load program's inputs.
    pub(crate) fn with_loaded(mut self, matrices: &Arc<Vec<Values>>) -> Self {
        self.loaded = Arc::clone(matrices);
        self
    }

    /// Compares each node with its integer function, and what the parties opened of the inputs with `inputs`.
    pub(crate) fn check(&self, inputs: &[impl AsRef<[i64]> + Sync]) -> Vec<NodeCheck> {
        let program = self.parties.program();
        let mut found =
            in_parallel(program.nodes().count(), |at| check::check_node(program, NodeId(at as u16), self));
        for (node, given) in program.inputs().zip(inputs) {
            let taken = check::in_the_clear(program, node, self);
            let given = given.as_ref();
            let differing = taken.iter().zip(given).filter(|(taken, given)| taken != given).count();
            found[node.index()].wrong += (differing + taken.len().abs_diff(given.len())) as u64;
        }
        found
    }

    /// What each party tells of its times.
    pub(crate) fn told(&self) -> [Told<'_>; 2] {
        self.reports.each_ref().map(|report| Told { works: &report.works, arrivals: &report.arrivals })
    }
}

impl Observed for Run {
    fn made(&self, part: Part) -> [&[u64]; 2] {
        self.reports.each_ref().map(|report| report.made.get(&part).map(Vec::as_slice).unwrap_or_default())
    }

    fn mask(&self, part: Part) -> Vec<u64> {
        self.backend.mask(&self.parties, part)
    }

    fn loaded(&self, input: NodeId) -> &[i64] {
        self.loaded.get(input.index()).map(|matrix| &matrix[..]).unwrap_or_default()
    }

    fn streams(&self, part: Part, field: FieldId, bytes: usize) -> [Vec<u8>; 2] {
        self.backend.streams(&self.parties, part, field, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_is_written_and_half_of_one_is_none() {
        let mut bytes = b"{\"ready\": 1}\n".to_vec();
        let seed: Vec<u8> = (0..32).collect();
        let head = serde_json::json!({ "run": vec![1; 16], "batch": vec![2; 16], "seed": seed,
            "parts": [[0, 0, 2], [3, 1, 1]], "spans": [[3, 1, 10, 20]], "arrivals": [[3, 1, 2, 15]] });
        bytes.extend(format!("{head}\n").into_bytes());
        for word in [5u64, 6, u64::MAX] {
            bytes.extend(word.to_le_bytes());
        }
        let whole = bytes.len();
        bytes.extend_from_within(13..whole - 1);
        let (line, Reports(reports)) = Reports::after_first_line(io::Cursor::new(bytes));
        assert_eq!(line.recv().unwrap(), "{\"ready\": 1}");
        let report = reports.recv().unwrap();
        assert_eq!((report.run, report.batch), ([1; 16], [2; 16]));
        assert_eq!(report.made[&Part::new(NodeId(0), 0)], [5, 6]);
        assert_eq!(report.made[&Part::new(NodeId(3), 1)], [u64::MAX]);
        let works = [Worked { part: Part::new(NodeId(3), 1), from_us: 10, to_us: 20 }];
        assert_eq!((&report.works[..], report.seed.expose()[31]), (&works[..], 31));
        assert_eq!(report.arrivals, [Arrival { part: Part::new(NodeId(3), 1), step: 2, at_us: 15 }]);
        assert!(reports.recv().is_err(), "half a report");
    }
}
