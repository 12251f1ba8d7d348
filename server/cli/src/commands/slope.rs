//! `suf lab slope`: rounds as a slope.
//!
//! Parties may start up to one delay apart. Then one of them sees a message early and the other late, and their times
//! differ by up to two delays. The mean of both is rounds * delay + a constant, whichever party starts first.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use suf_control::v1::{Fault, Figures, RunState};
use suf_gate::Gate;
use suf_lab::{Host, Lab, LabPlan, Line, NamedProfile};
use suf_link::LinkProfile;
use suf_model::{
    bert::{Compiled, Length, compile},
    builtin,
};
use zeroize::Zeroizing;

use super::{lab::SlopeArgs, progress::Progress};
use crate::{
    client::{Parties, Sink},
    cluster::{Cluster, Placement, Setup},
    error::Error,
    gates,
    model::Model,
    out,
    program::{Values, With},
    report,
    results::Folder,
    runtime,
    runtime::Interrupt,
    slopes::{self, Slope},
    tensor::Tensor,
};

/// Points farther than this from their line, in milliseconds, were disturbed, and are measured again.
const DISTURBED_MS: f64 = 1.0;
/// How often all points are measured at most.
const PASSES: u32 = 4;
/// A rate that every kernel carries, and that short messages do not notice.
const RATE_BPS: u64 = 100_000_000;

/// Runs the command.
pub(crate) fn run(args: &SlopeArgs) -> Result<(), Error> {
    let subjects = subjects(args)?;
    let files = [slopes::FILE].into_iter().chain(report::FILES);
    let _folder = args.out.as_ref().map(|out| Folder::open(out, "suf lab slope", files)).transpose()?;
    // The daemons read the slowest profile: its windows suffice for all.
    let slowest = args.delays_ms.iter().copied().fold(0.0, f64::max);
    let file = tempfile::Builder::new().suffix(".toml").tempfile();
    let mut file = file.map_err(|error| Error::here(Fault::Device, format!("no temporary file: {error}")))?;
    let text = toml::to_string(&profile(slowest)).map_err(Error::usage)?;
    file.write_all(text.as_bytes()).map_err(|error| Error::write(file.path(), error))?;
    let slowest = NamedProfile::find(&file.path().display().to_string()).map_err(Error::usage)?;

    let failed = |error: suf_lab::LabError| Error::lab(&error);
    let mut lab = Lab::up(LabPlan::uniform(slowest.clone())).map_err(failed)?;
    lab.enter(Host::Client).map_err(failed)?;
    let slopes = runtime::block_on(async |interrupt| {
        let setup = Setup {
            link: slowest.name,
            shaped: false,
            backend: "cpu".into(),
            placement: Placement::Lab(Arc::new(Lab::join(lab.name()).map_err(failed)?)),
            model: subjects.iter().find_map(Subject::model),
            checked: false,
        };
        let work = async |cluster: &Cluster| measure(args, &subjects, &mut lab, cluster, interrupt).await;
        Cluster::within(&setup, work).await
    })?;
    let stored = match &args.out {
        Some(folder) => slopes::write(folder, &slopes).and_then(|()| report::again(folder)),
        None => Ok(()),
    };
    // The lines are printed even if a file failed. A failed file is reported even if the lines could not be printed.
    let printed = print(args, &slopes);
    stored.and(printed)
}

/// What is evaluated.
pub(crate) enum Subject {
    /// A gate on a tensor.
    Gate(Gate, Arc<Tensor<'static>>),
    /// A model's program on a text.
    Model {
        /// Its folder, and the text of its plan.
        model: (PathBuf, String),
        compiled: Box<Compiled>,
        inputs: Vec<Values>,
    },
}

impl Subject {
    /// The model that the daemons load.
    fn model(&self) -> Option<(PathBuf, String)> {
        match self {
            Self::Gate(..) => None,
            Self::Model { model, .. } => Some(model.clone()),
        }
    }

    /// Protocol and function; of a model its folder and the number of tokens.
    fn names(&self) -> [String; 2] {
        match self {
            Self::Gate(gate, _) => [gate.protocol().name().to_owned(), gate.name().to_owned()],
            Self::Model { model: (folder, _), compiled, .. } => {
                [folder.display().to_string(), format!("of {} tokens", compiled.length.tokens)]
            }
        }
    }

    fn elements(&self) -> u64 {
        match self {
            Self::Gate(_, tensor) => tensor.elements(),
            Self::Model { compiled, .. } => compiled.program.input_elems(),
        }
    }

    /// Those after the opening of the inputs, which is not timed.
    fn declared_rounds(&self) -> u32 {
        match self {
            Self::Gate(gate, _) => gate.declared().rounds.into(),
            Self::Model { compiled, .. } => compiled.program.rounds().into(),
        }
    }

    async fn run(&self, parties: &Parties) -> Result<[Figures; 2], Error> {
        let outcome = match self {
            Self::Gate(gate, tensor) => parties.evaluate(gate, tensor, None, &mut Unread).await?,
            Self::Model { compiled, inputs, .. } => {
                parties.run_program(&compiled.program, inputs, With::default()).await?.1
            }
        };
        parties.acknowledge(outcome.run).await;
        Ok(outcome.figures)
    }
}

/// What is measured.
///
/// # Errors
/// When there is none of that name, or the delays make no line.
pub(crate) fn subjects(args: &SlopeArgs) -> Result<Vec<Subject>, Error> {
    let mut delays = args.delays_ms.clone();
    delays.sort_by(f64::total_cmp);
    delays.dedup();
    if delays.len() < 3 {
        return Err(Error::usage(
            "give at least three different --delays-ms: two points are always on a line",
        ));
    }
    if let Some(folder) = &args.model {
        return Ok(vec![of_model(folder, args.tokens)?]);
    }
    let file = gates::file(&args.gate)?;
    let with_tensor = |gate: Gate| {
        let tensor = Tensor::Synthetic { elements: args.elements, domain: gate.domain() };
        Subject::Gate(gate, Arc::new(tensor))
    };
    Ok(gates::selected(&file, &args.protocols, None)?.into_iter().map(with_tensor).collect())
}

/// The program of a model on a built-in text.
fn of_model(folder: &Path, tokens: u32) -> Result<Subject, Error> {
    let model = Model::load(folder)?;
    let (plan, _) = model.plan(None)?;
    let length = Length { tokens, batch: 1, padded: false };
    let compiled = compile(&model.bert.config, &model.integers, &plan, length).map_err(Error::usage)?;
    let lines: Vec<_> = builtin::sentences().map(str::to_owned).collect();
    let ids = model.cut(&lines, length)?;
    model.holds(&plan, &ids, false)?;
    let slices: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let inputs = compiled.inputs(&model.bert, &slices).into_iter().map(Zeroizing::new).collect();
    Ok(Subject::Model { model: (folder.to_owned(), plan.to_toml()), compiled: Box::new(compiled), inputs })
}

/// A link of that delay whose queue holds two round trips.
fn profile(delay_ms: f64) -> LinkProfile {
    let mtu = 1500;
    let round_trip_packets = RATE_BPS as f64 / 8.0 * 2.0 * delay_ms / 1e3 / f64::from(mtu);
    LinkProfile {
        rate_bps: RATE_BPS,
        delay_ms,
        limit_packets: 1000 + 2 * round_trip_packets.ceil() as u32,
        mtu,
        jitter_ms: 0.0,
        loss: 0.0,
        pacing: true,
        lanes: 1,
    }
}

async fn measure(
    args: &SlopeArgs,
    subjects: &[Subject],
    lab: &mut Lab,
    cluster: &Cluster,
    interrupt: Interrupt,
) -> Result<Vec<Slope>, Error> {
    let parties = cluster.connect(interrupt).await?;
    let progress = Progress::new((subjects.len() * args.delays_ms.len()) as u64);
    let unknown: Vec<_> = args.delays_ms.iter().map(|delay_ms| (*delay_ms, f64::INFINITY)).collect();
    let mut points = vec![unknown; subjects.len()];
    let mut rounds = vec![0; subjects.len()];
    for pass in 0..PASSES {
        let disturbed: Vec<_> = points.iter().map(|points| is_disturbed(points)).collect();
        for (place, delay_ms) in args.delays_ms.iter().enumerate() {
            if !disturbed.contains(&true) {
                break;
            }
            let named = NamedProfile { name: format!("{delay_ms} ms"), profile: profile(*delay_ms) };
            lab.reshape(LabPlan::uniform(named)).map_err(|error| Error::lab(&error))?;
            for (index, subject) in subjects.iter().enumerate().filter(|(index, _)| disturbed[*index]) {
                progress.doing(&format!("{} at {delay_ms} ms", subject.names().join(" ")));
                let (depth, eval_ms) = least(args, subject, &parties).await?;
                rounds[index] = depth;
                let point = &mut points[index][place].1;
                *point = point.min(eval_ms);
                if pass == 0 {
                    progress.step();
                }
            }
        }
    }
    drop(progress);
    let slope = |(subject, (points, measured_rounds)): (&Subject, (Vec<_>, u32))| {
        let [protocol, gate] = subject.names();
        Slope {
            protocol,
            gate,
            elements: subject.elements(),
            declared_rounds: subject.declared_rounds(),
            measured_rounds,
            line: Line::fit(&points).expect("there are three delays"),
            points,
        }
    };
    Ok(subjects.iter().zip(points.into_iter().zip(rounds)).map(slope).collect())
}

/// Whether the points are not all measured, or do not lie on a line, whatever its slope.
fn is_disturbed(points: &[(f64, f64)]) -> bool {
    points.iter().any(|point| point.1.is_infinite())
        || Line::fit(points).is_none_or(|line| line.residual > DISTURBED_MS)
}

/// Causal depth, and the least of the repeats' evaluation times. One more run goes before them: QUIC learns the new delay.
async fn least(args: &SlopeArgs, subject: &Subject, parties: &Parties) -> Result<(u32, f64), Error> {
    let mut least = f64::INFINITY;
    let mut rounds = 0;
    for number in 0..=args.repeats {
        let [first, second] = subject.run(parties).await?;
        rounds = first.rounds.max(second.rounds);
        if number > 0 {
            least = least.min(f64::midpoint(first.eval_ms, second.eval_ms));
        }
    }
    Ok((rounds, least))
}

fn print(args: &SlopeArgs, slopes: &[Slope]) -> Result<(), Error> {
    if args.json {
        out::json(&slopes)?;
    } else {
        for slope in slopes {
            let Slope { protocol, gate, declared_rounds, measured_rounds, line, .. } = slope;
            out::line(format_args!(
                "{protocol} {gate}: {declared_rounds} rounds declared, {measured_rounds} by causal depth, {:.3} by slope. \
                 Without any delay: {:.2} ms. No point is farther than {:.2} ms from the line.",
                line.slope, line.intercept, line.residual
            ))?;
        }
    }
    let wrong = slopes.iter().find(|slope| !slope.agrees());
    wrong.map_or(Ok(()), |slope| {
        let what = format!(
            "{} has {} rounds by its declaration, {} by causal depth, and {:.3} by slope",
            slope.protocol, slope.declared_rounds, slope.measured_rounds, slope.line.slope
        );
        Err(Error::here(Fault::Bug, what))
    })
}

/// Outputs are judged by `bench` and `eval`.
struct Unread;

impl Sink for Unread {
    fn take(&mut self, _: u32, _: &[i64]) {}

    fn state(&mut self, _: RunState) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_off_their_line_are_measured_again_whatever_its_slope() {
        let line = |slope: f64| [10.0, 30.0, 50.0].map(|delay| (delay, slope * delay + 5.0));
        assert!(!is_disturbed(&line(3.0)) && !is_disturbed(&line(2.9)));
        let [first, mut middle, last] = line(3.0);
        middle.1 += 3.0;
        assert!(is_disturbed(&[first, middle, last]));
        middle.1 = f64::INFINITY;
        assert!(is_disturbed(&[first, middle, last]));
    }
}
