//! `suf bench`: the main job. Three real processes, every protocol on every model row, on every link.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use suf_control::v1::{Batch, BatchState, Fault, ListBatchesRequest, RunState, dealer_client::DealerClient};
use suf_gate::{Gate, Protocol};
use suf_lab::Lab;
use suf_link::{LinkKind, LinkProfile};
use suf_wire::BatchId;
use tonic::transport::Channel;

use super::{
    kernel, model_bench,
    progress::Progress,
    remote::{elements, whole},
    tensors::TensorArgs,
};
use crate::{
    client::{Parties, Sink},
    cluster::{Cluster, LOOPBACK, Placement, Setup},
    error::{Error, named_once},
    exports, gates,
    gates::Definition,
    jsonl,
    models::Models,
    npy, out, provenance,
    records::{self, Record, RecordRow},
    report,
    results::{Beside, Folder},
    runtime,
    runtime::Interrupt,
    samples::Sample,
    tables,
    tensor::{Accuracy, Tensor},
    witness::Witness,
};

/// How often the dealer is asked for a batch whose last acknowledgement is still on its way to it. Each asking takes a
/// round trip on loopback, the acknowledgement one of the shaped link: 80 ms at most.
const BATCH_QUERIES: u32 = 10_000;

/// How often the dealer is asked whether all keys have arrived.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Measure protocols on the activations of transformer models, with a dealer and two parties on this machine.
///
/// They call each other over IPv4, at 127.0.0.1 or the addresses of `suf lab`. Daemons of your own take IPv6 as well.
///
/// Writes records.jsonl, compare_activation_fair.csv and .json, report.md and report.html. One run warms up before the
/// measured ones; times are medians.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  suf bench
  suf bench kernel
  suf bench model all-MiniLM-L6-v2
  suf bench --protocols onehot --models bert-base,llama7b --repeats 9 --json
  suf bench --elements 10000000 --gate gelu --protocols onehot
  suf bench --links loopback,lan,wan --inputs activations.npy")]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// Protocols: sigma, suf-lut, suf, onehot, dpf [default: all that evaluate the gate].
    #[arg(long, value_delimiter = ',')]
    protocols: Vec<Protocol>,
    /// Model rows: bert-base, bert-large, gpt2, llama7b, or those of --models-file [default: all].
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["elements", "gate"])]
    models: Vec<String>,
    /// Model rows of your own, written as config/models.toml, which is built in.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["elements", "gate"])]
    models_file: Option<PathBuf>,
    /// Sequence length of the model rows.
    #[arg(long, default_value_t = 128, value_parser = whole(1_u64, 65536),
        conflicts_with_all = ["elements", "gate"])]
    seq: u64,
    /// One tensor of this many elements, instead of model rows [default: as many as --inputs has].
    #[arg(long, requires = "gate", value_parser = elements())]
    elements: Option<u64>,
    /// The gate of --elements: a built-in name, or the path of a gate file or operator specification.
    #[arg(long)]
    gate: Option<String>,
    /// Shape of the protocols that have several, as the gate file names it.
    #[arg(long)]
    shape: Option<String>,
    /// Measured runs of each row.
    #[arg(long, default_value_t = 5, value_parser = whole(1_u32, 1000))]
    repeats: u32,
    /// Links: loopback, or profiles that the parties emulate. Built in are lan, wan, metro and intercontinental. Others are
    /// paths, such as config/links/lan.toml [default: loopback; within `suf lab`, its link].
    #[arg(long, value_delimiter = ',')]
    links: Vec<String>,
    /// What computes.
    #[arg(long, default_value = "auto", value_parser = ["auto", "cpu", "cuda"])]
    backend: String,
    /// Values for the inputs, repeated or cut to each row's size [default: N(0, 2^2) and boundary values].
    #[arg(long, value_name = "NPY")]
    inputs: Option<PathBuf>,
    #[command(flatten)]
    tensor: TensorArgs,
    /// Folder for the results.
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Print the records as JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// What can be measured alone.
#[derive(clap::Subcommand)]
enum Part {
    Kernel(kernel::Args),
    Model(Box<model_bench::Args>),
}

/// One tensor under one protocol.
struct Case {
    model: String,
    seq: u64,
    gate_count: u32,
    file: Arc<Definition>,
    gate: Gate,
    tensor: Arc<Tensor<'static>>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    match &args.part {
        Some(Part::Kernel(args)) => return kernel::run(args),
        Some(Part::Model(args)) => return model_bench::run(args),
        None => {}
    }
    let jobs = jobs(args)?;
    let links = setups(&args.links, &args.backend)?;
    // Before anything is measured: the folder is ours, its files can be written, and what stands there is read.
    let files = [records::FILE].into_iter().chain(exports::FILES).chain(report::FILES);
    let _folder = Folder::open(&args.out, "suf bench", files)?;
    let (beside, of_models) = (Beside::read(&args.out), records::beside(&args.out, Record::is_of_model));
    let progress = Progress::new(jobs.len() as u64 * links.len() as u64 * (u64::from(args.repeats) + 1));
    progress.line(&format!("suf {} on {}", provenance::version(), provenance::machine()));

    let mut records = Vec::new();
    let result = runtime::block_on(async |interrupt| {
        for link in &links {
            measure_link(args, link, &jobs, &progress, &interrupt, &mut records).await?;
        }
        Ok(())
    });
    drop(progress);
    // What was measured before a failure is kept.
    let order = |record: &Record| {
        jobs.iter().position(|job| job.model == record.model && job.gate.protocol().name() == record.protocol)
    };
    records.sort_by_key(order);
    if !records.is_empty() {
        let stored = store(args, &records, of_models, &beside);
        // The tables are printed even if a file failed. A failed file is reported even if the tables could not be printed.
        let printed = print(args, &records);
        stored.and(printed)?;
    }
    result?;
    let wrong: u64 = records.iter().map(|record| record.wrong).sum();
    if wrong > 0 {
        let what = format!(
            "{wrong} outputs are wrong by their protocol's own definition; see `wrong` in the records"
        );
        return Err(Error::here(Fault::Bug, what));
    }
    Ok(())
}

/// Writes the files; records that their folder does not take are saved elsewhere.
fn store(args: &Args, records: &[Record], of_models: Vec<Record>, beside: &Beside) -> Result<(), Error> {
    let all = [records.to_vec(), of_models].concat();
    records::write(&args.out.join(records::FILE), &all).inspect_err(|_| jsonl::rescue(records))?;
    exports::write(&args.out, records)?;
    report::write(&args.out, &all, beside)
}

fn print(args: &Args, records: &[Record]) -> Result<(), Error> {
    if args.json {
        return out::json(&records);
    }
    out::raw(report::printed(records).as_bytes())?;
    out::line(format!("All figures, and what each column means: {}", args.out.join("report.md").display()))?;
    out::line(format!("The same with plots: {}", args.out.join("report.html").display()))?;
    out::line("A whole model, from text to vector: suf bench model DIR")?;
    Ok(())
}

/// Every row under every protocol, with everything refused that can be refused before a process starts.
fn jobs(args: &Args) -> Result<Vec<Case>, Error> {
    let input = match &args.inputs {
        None => None,
        Some(path) => Some((npy::name(path), args.tensor.read(path)?)),
    };
    let mut jobs = Vec::new();
    for (model, gate_name, seq, gate_count, elements) in
        rows(args, input.as_ref().map(|(_, array)| array.form()))?
    {
        let file = Arc::new(gates::file(&gate_name)?);
        let gates = gates::selected(&file, &args.protocols, args.shape.as_deref())?;
        if gates.is_empty() {
            return Err(Error::usage(format!("no protocol evaluates {gate_name} in this shape")));
        }
        for gate in gates {
            let tensor = match &input {
                None => Tensor::Synthetic { elements, domain: gate.domain() },
                Some((name, array)) => Tensor::encode(array, &gate, name.clone())?.resized(elements),
            };
            let (model, file, tensor) = (model.clone(), file.clone(), Arc::new(tensor));
            jobs.push(Case { model, seq, gate_count, file, gate, tensor });
        }
    }
    Ok(jobs)
}

/// Model, gate, sequence length, gates in an inference, elements.
type Size = (String, String, u64, u32, u64);

fn rows(args: &Args, input: Option<&npy::Form>) -> Result<Vec<Size>, Error> {
    if let Some(gate) = &args.gate {
        let elements = args.elements.or_else(|| input.map(|form| form.len() as u64));
        let elements = elements.ok_or_else(|| Error::usage("give --elements N (or --inputs) with --gate"))?;
        return Ok(vec![("custom".to_owned(), gate.clone(), 0, 1, elements)]);
    }
    named_once("--models", &args.models)?;
    let models = match &args.models_file {
        Some(path) => Models::read(path)?,
        None => Models::built_in(),
    };
    let names = if args.models.is_empty() { models.names() } else { args.models.clone() };
    names
        .into_iter()
        .map(|name| {
            let model = models.find(&name)?;
            let elements = args.seq.saturating_mul(model.width);
            if elements > suf_gate::limits::MAX_ELEMS {
                return Err(Error::usage(format!(
                    "{name} at --seq {} has {elements} elements; a batch holds at most {}",
                    args.seq,
                    suf_gate::limits::MAX_ELEMS
                )));
            }
            Ok((name, model.gate.clone(), args.seq, model.layers, elements))
        })
        .collect()
}

/// The links of these names, each with what the processes are told.
pub(super) fn setups(links: &[String], backend: &str) -> Result<Vec<Setup>, Error> {
    let lab = Lab::of_environment().map_err(|error| Error::lab(&error))?;
    if let Some(lab) = lab {
        if !links.is_empty() {
            return Err(Error::usage("a lab has one link, its own: leave --links out"));
        }
        let link = lab.plan().peer.name.clone();
        let placement = Placement::Lab(Arc::new(lab));
        return Ok(vec![Setup {
            link,
            shaped: false,
            backend: backend.to_owned(),
            placement,
            model: None,
            checked: false,
        }]);
    }
    named_once("--links", links)?;
    let default = [LOOPBACK.to_owned()];
    let named = if links.is_empty() { &default[..] } else { links };
    named
        .iter()
        .map(|link| {
            let unread = |error| {
                Error::usage(format!("--links: {link}: the file cannot be read: {error}; see its path"))
            };
            let is_path = link.contains(['/', '.']);
            let path = is_path.then(|| fs::canonicalize(link).map_err(unread)).transpose()?;
            let checked = match &path {
                Some(path) => LinkProfile::load(path),
                None => LinkProfile::built_in(link),
            };
            checked.map_err(Error::usage)?;
            // The processes run in another folder.
            let link = match path {
                Some(path) => path.into_os_string().into_string().map_err(|path| {
                    let path = path.display();
                    Error::usage(format!("{path} is no UTF-8, and a configuration cannot name it: rename it"))
                })?,
                None => link.clone(),
            };
            let shaped = link != LOOPBACK;
            Ok(Setup {
                link,
                shaped,
                backend: backend.to_owned(),
                placement: Placement::Loopback,
                model: None,
                checked: false,
            })
        })
        .collect()
}

async fn measure_link(
    args: &Args,
    setup: &Setup,
    jobs: &[Case],
    progress: &Progress,
    interrupt: &Interrupt,
    records: &mut Vec<Record>,
) -> Result<(), Error> {
    progress.doing(&format!("{}: starting a dealer and two parties", setup.link));
    Cluster::within(setup, async |cluster| {
        let parties = cluster.connect(interrupt.clone()).await?;
        measure_all(args, setup, jobs, &parties, cluster, progress, records).await
    })
    .await
}

async fn measure_all(
    args: &Args,
    setup: &Setup,
    jobs: &[Case],
    parties: &Parties,
    cluster: &Cluster,
    progress: &Progress,
    records: &mut Vec<Record>,
) -> Result<(), Error> {
    let mut dealer = cluster.dealer().await?;
    let before = match &setup.placement {
        Placement::Lab(lab) => Some((lab, Witness::read(lab, parties).await?)),
        Placement::Loopback => None,
    };
    for job in jobs {
        let record = measure(args, setup, job, parties, &mut dealer, cluster, progress).await?;
        progress.line(&tables::line(&record));
        records.push(record);
    }
    if let Some((lab, before)) = before {
        for line in Witness::read(lab, parties).await?.agree(&before)? {
            progress.line(&line);
        }
    }
    Ok(())
}

async fn measure(
    args: &Args,
    setup: &Setup,
    job: &Case,
    parties: &Parties,
    dealer: &mut DealerClient<Channel>,
    cluster: &Cluster,
    progress: &Progress,
) -> Result<Record, Error> {
    let load = provenance::load();
    let of_row = cluster.forget_peaks();
    let mut accuracy = Accuracy::default();
    let mut samples = Vec::new();
    // Number 0 warms up: its outputs are judged, its times are not kept.
    for number in 0..=args.repeats {
        let name = format!("{} {} {}", setup.link, job.model, job.gate.protocol());
        progress.doing(&match number {
            0 => format!("{name}: warming up"),
            _ => format!("{name}: {number} of {}", args.repeats),
        });
        let mut judge = Judge { accuracy: &mut accuracy, job };
        let outcome = parties.evaluate(&job.gate, &job.tensor, None, &mut judge).await?;
        parties.acknowledge(outcome.run).await;
        let batch = batch(dealer, outcome.batch).await?;
        let sample = Sample::new(&job.gate, job.tensor.elements(), outcome, batch)?;
        if number > 0 {
            samples.push(sample);
        }
        progress.step();
    }
    let row = RecordRow {
        model: &job.model,
        seq: job.seq,
        gate_count: job.gate_count,
        link: &setup.link,
        gate: &job.gate,
        tensor: &job.tensor,
    };
    let mut record = Record::new(row, &samples, &accuracy, cluster.peak_memory(of_row), load);
    if let Placement::Lab(_) = setup.placement {
        // The parties see a network; only who shaped it knows.
        record.link_kind = LinkKind::Netem.to_string();
    }
    Ok(record)
}

/// What the dealer measured for a batch.
pub(super) async fn batch(dealer: &mut DealerClient<Channel>, id: BatchId) -> Result<Batch, Error> {
    for _ in 0..BATCH_QUERIES {
        let reply = dealer.list_batches(ListBatchesRequest { limit: 4 }).await;
        let batches = reply.map_err(|status| Error::call("dealer", status))?.into_inner().batches;
        let found = batches.into_iter().find(|batch| batch.batch_id[..] == id.0);
        match found {
            Some(batch) if batch.state() == BatchState::Dealing => {}
            Some(batch) => return Ok(batch),
            None => break,
        }
    }
    Err(Error::here(Fault::Dealer, format!("it has no figures for batch {id}, which both parties have used")))
}

/// Waits until both parties have all keys of a batch: what an evaluation takes does not depend on the dealer then.
pub(super) async fn delivered(dealer: &mut DealerClient<Channel>, id: &[u8]) -> Result<(), Error> {
    loop {
        let reply = dealer.list_batches(ListBatchesRequest { limit: 4 }).await;
        let batches = reply.map_err(|status| Error::call("dealer", status))?.into_inner().batches;
        match batches.into_iter().find(|batch| batch.batch_id[..] == *id) {
            Some(batch) if batch.state() == BatchState::Dealing => tokio::time::sleep(ASK_AGAIN).await,
            // A batch that failed ends the run, which says why.
            _ => return Ok(()),
        }
    }
}

/// Judges the outputs as they arrive.
struct Judge<'a> {
    accuracy: &'a mut Accuracy,
    job: &'a Case,
}

impl Sink for Judge<'_> {
    fn take(&mut self, tile: u32, values: &[i64]) {
        self.accuracy.add(&self.job.gate, &self.job.file, &self.job.tensor, tile, values);
    }

    fn state(&mut self, _: RunState) {}
}
