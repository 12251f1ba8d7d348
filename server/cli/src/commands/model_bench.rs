//! `suf bench model`: a whole model between two parties, every node checked and measured.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use suf_control::v1::{Fault, dealer_client::DealerClient};
use suf_cpu::costs::Rates;
use suf_gate::{Protocol, check::NodeCheck};
use suf_link::LinkKind;
use suf_model::{
    Plan,
    bert::{Compiled, Length, Reference},
    builtin,
};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::{bench, progress::Progress, remote::whole};
use crate::{
    choose::Activation,
    client::Parties,
    cluster::{Cluster, Placement, Setup},
    critical,
    embedding::{Source, Weights},
    error::{Error, named_once},
    evaluation, jsonl,
    loading::{Loaded, Loading},
    model::{Model, texts},
    model_records::{Found, ModelRow},
    observed::Run,
    out,
    predicted::{self, is_loopback},
    program::{Values, With},
    provenance,
    records::{self, Record},
    report,
    results::{Beside, Folder},
    runtime,
    runtime::Interrupt,
    samples::Sample,
    trace::Trace,
    witness::Witness,
};

/// Numbers of tokens that are measured if nothing is said of them.
const TOKENS: [u32; 2] = [32, 128];

/// Samples of each rate of a core; the best one counts.
const RATE_SAMPLES: usize = 9;

/// Measure a whole model with a dealer and two parties on this machine: rounds, bytes, keys and time of each node.
///
/// The parties tell this process what they make of each node, and it compares every element with the node's integer function.
/// Vectors are compared with those of the same weights in 64-bit floats. Beside them stands what SIGMA costs, by its formulas.
///
/// Writes records.jsonl, report.md and report.html with a waterfall. One run warms up before the measured ones; times are
/// medians, and begin with the opening of the inputs.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf bench model all-MiniLM-L6-v2
  suf bench model all-MiniLM-L6-v2 --tokens 128 --repeats 9 --trace trace.json
  suf bench model all-MiniLM-L6-v2 --weights private
  suf bench model all-MiniLM-L6-v2 --tokens 128 --links lan,wan,metro
  suf lab wan -- suf bench model all-MiniLM-L6-v2 --tokens 32 --length bucket
  suf bench model all-MiniLM-L6-v2 --tokens 32 --batch 8 --inputs texts.txt --json")]
pub(crate) struct Args {
    /// The model's folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Tokens of a text, those at its ends counted [default: 32,128, as far as the model takes so many].
    #[arg(long, value_delimiter = ',', value_parser = whole(1_u32, 1 << 16))]
    tokens: Vec<u32>,
    /// Texts that are evaluated together.
    #[arg(long, default_value_t = 1, value_parser = whole(1_u32, 1 << 10))]
    batch: u32,
    /// Whether a text's number of tokens is public, or hidden by padding. In a bucket, a text fills three quarters.
    #[arg(long, default_value = "exact", value_parser = ["exact", "bucket"])]
    length: String,
    /// Who knows the weights: public, both parties and the dealer; private, nobody but this process, which loads them first.
    #[arg(long, default_value = "public", value_parser = ["public", "private"])]
    weights: String,
    /// Protocol of the activation: onehot ships fewer bytes of keys, and dpf takes fewer rounds. auto takes the one that is faster on
    /// each link as measured. The record says why.
    #[arg(long, default_value = "onehot", value_parser = Activation::NAMES)]
    activation: String,
    /// The plan [default: DIR/plan.toml, or one that is part of this program, or from built-in sentences].
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Links: loopback, or profiles that the parties emulate, as for `suf bench`. Loopback is measured first in any case, for what
    /// the others predict [default: loopback; within `suf lab`, its link too].
    #[arg(long, value_delimiter = ',')]
    links: Vec<String>,
    /// What computes.
    #[arg(long, default_value = "auto", value_parser = ["auto", "cpu", "cuda"])]
    backend: String,
    /// Measured runs of each row.
    #[arg(long, default_value_t = 5, value_parser = whole(1_u32, 1000))]
    repeats: u32,
    /// Texts, one a line. They are joined and cut to the number of tokens [default: sentences that are built in].
    #[arg(long, value_name = "FILE", alias = "input")]
    inputs: Option<PathBuf>,
    /// What both parties worked on in the last repeat of each row, on one time line, in the Chrome trace format.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Folder for the results.
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Print the records as JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// The programs of one length, and what goes in and should come out.
struct ModelCase {
    /// One for each protocol of the activation that may be chosen.
    programs: Vec<(Protocol, Compiled)>,
    /// Tokens of each text.
    ids: Vec<Vec<u32>>,
    inputs: Arc<Vec<Values>>,
    /// The vector of each text, in 64-bit floats.
    expected: Vec<Vec<f64>>,
}

/// All that is measured.
struct Bench<'a> {
    args: &'a Args,
    model: &'a Model,
    bounds: &'a Plan,
    /// Of private weights.
    matrices: Option<Arc<Vec<Values>>>,
    plan: String,
    texts: String,
    jobs: Vec<ModelCase>,
    progress: Progress,
    /// How many links are measured.
    links: usize,
    /// What a core of this machine does at best.
    rates: Rates,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let model = Model::load(&args.folder)?;
    let (plan, origin) = model.plan(args.plan.as_deref())?;
    let is_private = args.weights == "private";
    let source = if is_private {
        Source { weights: Weights::Private { load: None }, ..Source::public(&model, &plan) }
    } else {
        Source::public(&model, &plan)
    };
    let (lines, texts) = match &args.inputs {
        Some(path) => (texts(path)?, path.display().to_string()),
        None => (builtin::sentences().map(str::to_owned).collect(), "built-in sentences".to_owned()),
    };
    let jobs = tokens(args, &model)?
        .into_iter()
        .map(|tokens| {
            let length = Length { tokens, batch: args.batch, padded: args.length == "bucket" };
            let compiled = source.programs(length, Activation::named(&args.activation))?;
            let ids = model.cut(&lines, length)?;
            model.holds(&plan, &ids, length.padded)?;
            Ok(ModelCase::new(&model, compiled, ids))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let mut setups = predicted::beside_loopback(bench::setups(&args.links, &args.backend)?);
    for setup in &mut setups {
        setup.model = (!is_private).then(|| (args.folder.clone(), plan.to_toml()));
        setup.checked = true;
    }
    // Before anything is measured: the folder is ours, its files can be written, and what stands there is read.
    let files = [records::FILE].into_iter().chain(report::FILES);
    let _folder = Folder::open(&args.out, "suf bench model", files)?;
    if let Some(path) = &args.trace {
        suf_files::check(path).map_err(|error| Error::unwritable(path, &error))?;
    }
    let (beside, of_gates) =
        (Beside::read(&args.out), records::beside(&args.out, |record| !record.is_of_model()));
    // With a choice of protocols, all of them are measured on loopback if other links follow.
    let choices = jobs.first().map_or(1, |job| job.programs.len());
    let rows = jobs.len() * (setups.len() + if setups.len() > 1 { choices - 1 } else { 0 });
    let steps = rows as u64 * (u64::from(args.repeats) + 1);
    let matrices = is_private.then(|| Arc::new(model.integers.matrices().map(Zeroizing::new).collect()));
    let bench = Bench {
        args,
        model: &model,
        bounds: &plan,
        matrices,
        plan: origin,
        texts,
        jobs,
        progress: Progress::new(steps),
        links: setups.len(),
        rates: Rates::measure(RATE_SAMPLES),
    };
    bench.progress.line(&format!("suf {} on {}", provenance::version(), provenance::machine()));

    let (mut found, mut trace) = (Vec::new(), Trace::default());
    let result = runtime::block_on(async |interrupt| {
        for setup in &setups {
            bench.measure_link(setup, &interrupt, &mut found, &mut trace).await?;
        }
        Ok(())
    });
    drop(bench.progress);
    // What was measured before a failure is kept.
    if !found.is_empty() {
        let all = [of_gates, found.clone()].concat();
        let stored = records::write(&args.out.join(records::FILE), &all)
            .inspect_err(|_| jsonl::rescue(&found))
            .and_then(|()| report::write(&args.out, &all, &beside))
            .and_then(|()| args.trace.as_ref().map_or(Ok(()), |path| trace.write(path)));
        // The tables are printed even if a file failed. A failed file is reported even if the tables could not be printed.
        let printed = print(args, &found);
        stored.and(printed)?;
    }
    result?;
    verdict(&found)
}

/// Nodes that are not what their definition says.
fn verdict(records: &[Record]) -> Result<(), Error> {
    let nodes = records.iter().flat_map(|record| &record.nodes);
    for node in nodes {
        if node.wrong > 0 || node.out_of_range > 0 {
            return Err(Error::here(
                Fault::Bug,
                format!(
                    "{}: {} elements are wrong by the node's own definition, and {} out of its range; see `nodes` in the \
                     records",
                    node.name, node.wrong, node.out_of_range
                ),
            ));
        }
    }
    Ok(())
}

fn print(args: &Args, records: &[Record]) -> Result<(), Error> {
    if args.json {
        return out::json(&records);
    }
    out::raw(report::models::printed(records).as_bytes())?;
    out::line(format!("Each node, and what each column means: {}", args.out.join("report.md").display()))?;
    out::line(format!("The same with a waterfall: {}", args.out.join("report.html").display()))?;
    if let Some(path) = &args.trace {
        out::line(format!("The time line, for Perfetto or chrome://tracing: {}", path.display()))?;
    }
    Ok(())
}

/// The numbers of tokens that are measured.
fn tokens(args: &Args, model: &Model) -> Result<Vec<u32>, Error> {
    let most = model.bert.config.positions;
    named_once("--tokens", &args.tokens.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    if !args.tokens.is_empty() {
        return Ok(args.tokens.clone());
    }
    let fitting: Vec<_> = TOKENS.into_iter().filter(|tokens| *tokens <= most).collect();
    Ok(if fitting.is_empty() { vec![most] } else { fitting })
}

/// Runs take the matrices of the load, if there is one.
fn on(loaded: Option<&Loaded>) -> With<'_> {
    With { load: loaded.map(|loaded| &loaded.digest), ..With::default() }
}

/// Compares each node of a run with its integer function. On another thread: the connections to the daemons want answers meanwhile.
async fn checked(run: Run, given: &Arc<Vec<Values>>) -> Result<(Vec<NodeCheck>, Run), Error> {
    let given = Arc::clone(given);
    let checked = tokio::task::spawn_blocking(move || (run.check(&given), run));
    checked.await.map_err(|error| Error::here(Fault::Bug, error.to_string()))
}

impl ModelCase {
    fn new(model: &Model, programs: Vec<(Protocol, Compiled)>, ids: Vec<Vec<u32>>) -> Self {
        let slices: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        // The same for each protocol.
        let (_, compiled) = &programs[0];
        let inputs = compiled.inputs(&model.bert, &slices).into_iter().map(Zeroizing::new).collect();
        let reference = Reference::new(&model.bert);
        let expected = slices.iter().map(|ids| reference.embed(ids)).collect();
        Self { programs, ids, inputs: Arc::new(inputs), expected }
    }
}

impl Bench<'_> {
    async fn measure_link(
        &self,
        setup: &Setup,
        interrupt: &Interrupt,
        records: &mut Vec<Record>,
        trace: &mut Trace,
    ) -> Result<(), Error> {
        self.progress.doing(&format!("{}: starting a dealer and two parties", setup.link));
        Cluster::within(setup, async |cluster| {
            let loaded = self.load(setup, cluster, interrupt).await?;
            let parties = cluster.connect(interrupt.clone()).await?;
            self.measure_all(setup, &parties, (cluster, loaded.as_ref()), records, trace).await
        })
        .await
    }

    /// Loads private weights, and compares what the parties opened of them.
    async fn load(
        &self,
        setup: &Setup,
        cluster: &Cluster,
        interrupt: &Interrupt,
    ) -> Result<Option<Loaded>, Error> {
        let Some(matrices) = &self.matrices else { return Ok(None) };
        self.progress.doing(&format!("{}: loading the weights", setup.link));
        let lengths: Vec<_> = self.jobs.iter().map(|job| job.programs[0].1.length).collect();
        let loading = Loading::new(self.model, self.bounds, self.model.name(), &lengths, &[])?;
        let loaded = loading.load(&cluster.connect_as_owner(interrupt.clone()).await?, || ()).await?;
        let run = Run::of(loading.program(), loaded.outcome.run, cluster.reports())?;
        let (checks, _) = checked(run, matrices).await?;
        match checks.iter().map(|check| check.wrong).sum::<u64>() {
            0 => Ok(Some(loaded)),
            wrong => {
                Err(Error::here(Fault::Bug, format!("{wrong} elements of the loaded matrices are wrong")))
            }
        }
    }

    async fn measure_all(
        &self,
        setup: &Setup,
        parties: &Parties,
        (cluster, loaded): (&Cluster, Option<&Loaded>),
        records: &mut Vec<Record>,
        trace: &mut Trace,
    ) -> Result<(), Error> {
        let mut dealer = cluster.dealer().await?;
        let before = match &setup.placement {
            Placement::Lab(lab) => Some((lab, Witness::read(lab, parties).await?)),
            Placement::Loopback => None,
        };
        for job in &self.jobs {
            for (compiled, why) in self.chosen(setup, job, parties, loaded).await? {
                let case = (job, compiled);
                let at = (cluster, loaded);
                let mut record = self.measure(setup, case, parties, &mut dealer, at, trace).await?;
                predicted::predict(&mut record, setup, records)?;
                if let Some(of_model) = &mut record.of_model {
                    of_model.why = why;
                }
                self.progress.line(&report::models::line(&record));
                records.push(record);
            }
        }
        if let Some((lab, before)) = before {
            for line in Witness::read(lab, parties).await?.agree(&before)? {
                self.progress.line(&line);
            }
        }
        Ok(())
    }

    /// The programs that are measured on a link: that of the protocol that is fastest on it, and why. A run before the choice lets the
    /// parties measure the link. On loopback all are measured if other links follow, since their times are compared with it.
    async fn chosen<'a>(
        &self,
        setup: &Setup,
        job: &'a ModelCase,
        parties: &Parties,
        loaded: Option<&Loaded>,
    ) -> Result<Vec<(&'a Compiled, Option<String>)>, Error> {
        let all = job.programs.iter();
        if job.programs.len() == 1 || (is_loopback(setup) && self.links > 1) {
            return Ok(all.map(|(_, compiled)| (compiled, None)).collect());
        }
        self.progress.doing(&format!("{}: measuring the link", setup.link));
        let program = &job.programs[0].1.program;
        let (_, outcome) = parties.run_program(program, &job.inputs, on(loaded)).await?;
        parties.acknowledge(outcome.run).await;
        let candidates: Vec<_> = all.map(|(protocol, compiled)| (*protocol, &*compiled.program)).collect();
        let chosen = evaluation::measured(parties).await?.choose_program(&candidates);
        let (protocol, why) = chosen.expect("there is more than one candidate");
        self.progress.line(&format!("{}: {protocol} for the activation: {why}", setup.link));
        let program = job.programs.iter().find(|(other, _)| *other == protocol);
        Ok(program.map(|(_, compiled)| (compiled, Some(why))).into_iter().collect())
    }

    async fn measure(
        &self,
        setup: &Setup,
        (job, compiled): (&ModelCase, &Compiled),
        parties: &Parties,
        dealer: &mut DealerClient<Channel>,
        (cluster, loaded): (&Cluster, Option<&Loaded>),
        trace: &mut Trace,
    ) -> Result<Record, Error> {
        let ModelCase { ids, inputs, expected, .. } = job;
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let load = provenance::load();
        let of_row = cluster.forget_peaks();
        let (mut found, mut samples) = (Found::default(), Vec::new());
        // Number 0 warms up: its outputs are judged, its times are not kept.
        for number in 0..=self.args.repeats {
            let name = format!("{} {} tokens", setup.link, compiled.length.tokens);
            self.progress.doing(&match number {
                0 => format!("{name}: warming up"),
                _ => format!("{name}: {number} of {}", self.args.repeats),
            });
            let keys = async |batch: Bytes| bench::delivered(&mut *dealer, &batch).await;
            let with = on(loaded);
            let run = parties.run_program_after(&compiled.program, inputs.iter(), with, |_, _| (), keys);
            let (outputs, outcome) = run.await?;
            parties.acknowledge(outcome.run).await;
            let mut run = Run::of(&compiled.program, outcome.run, cluster.reports())?;
            if let Some(matrices) = &self.matrices {
                run = run.with_loaded(matrices);
            }
            let (checks, run) = checked(run, inputs).await?;
            found.add_nodes(&checks);
            let [output] = &outputs[..] else { unreachable!("a model's program has one output") };
            let vectors = compiled.vectors(&self.model.bert, &ids, output);
            vectors.iter().zip(expected).for_each(|(made, expected)| found.add_vector(made, expected));
            if number == self.args.repeats {
                let about = |part: suf_wire::Part| compiled.about[part.node.index()].name.clone();
                trace.add(&name, run.told().map(|told| told.works), about);
            }
            let batch = bench::batch(dealer, outcome.batch).await?;
            let mut sample = Sample::of_program(&compiled.program, outcome, batch)?;
            let [first, second] = run.told();
            sample.paths = [[first, second], [second, first]]
                .map(|[own, peer]| critical::path(&compiled.program, own, peer));
            if number > 0 {
                samples.push(sample);
            }
            self.progress.step();
        }
        let row = ModelRow {
            name: self.model.name(),
            config: &self.model.bert.config,
            digest: self.model.integers.digest(),
            compiled,
            plan: &self.plan,
            texts: &self.texts,
            link: &setup.link,
            rates: &self.rates,
            loaded,
        };
        let mut record = Record::of_program(&row, &samples, &found, cluster.peak_memory(of_row), load);
        if let Placement::Lab(_) = setup.placement {
            // The parties see a network; only who shaped it knows.
            record.link_kind = LinkKind::Netem.to_string();
        }
        Ok(record)
    }
}
