//! `suf eval`: a client with a tensor in a file.

use std::{io::BufWriter, path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;
use suf_control::v1::RunState;
use suf_files::AtomicFile;
use suf_gate::{Gate, Protocol};
use suf_wire::RunId;

use super::{
    progress::Progress,
    remote::{IdentityArgs, PartyArgs, deadline, run_id},
    tensors::TensorArgs,
};
use crate::{
    client::{Outcome, Parties, Sink},
    cluster::{Cluster, Setup},
    error::Error,
    evaluation::{self, Candidate},
    gates::{self, Definition},
    npy::{self, Array, Format},
    out, runtime,
    tensor::{Accuracy, Tensor, output_form, write_output},
};

/// Evaluate a gate on a tensor: split it, send each party its share, add the output shares.
///
/// Floats are encoded with 12 fractional bits, and the output has their type and shape. Integers are fixed point, and so is
/// the output: int64 always, other integers with --fixed. An output beyond the range of its type is written in a wider one.
/// NaN, infinity and values outside the gate's domain are refused, and nothing is sent.
///
/// An activation of your own is one file, on this machine alone: parties and dealer are sent what it says when the run is
/// started. `suf describe FILE` shows what it costs and how exact it is beforehand.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf eval --local --protocol onehot --gate my-activation.toml --inputs x.npy --outputs y.npy
  suf eval --local --spec my-specification.toml --inputs x.npy --outputs y.npy
  suf eval --local --protocol onehot --gate gelu --inputs x.npy --outputs y.npy
  suf eval --auto --gate silu --inputs x.npy --outputs y.npy \\
    --party0 10.0.0.1:7101 --party1 10.0.0.2:7201 --identity pki/client.pem")]
pub(crate) struct Args {
    /// Protocol.
    #[arg(long, required_unless_present_any = ["auto", "spec"], conflicts_with = "auto")]
    protocol: Option<Protocol>,
    /// Take the protocol that is fastest on the links as measured, and say why.
    #[arg(long)]
    auto: bool,
    /// Gate: a built-in name, or the path of a gate file or operator specification.
    #[arg(long, required_unless_present = "spec")]
    gate: Option<String>,
    /// Operator specification, which protocol suf evaluates.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["gate", "shape"])]
    spec: Option<PathBuf>,
    /// Shape of the protocol, as the gate file names it.
    #[arg(long)]
    shape: Option<String>,
    /// The tensor: a .npy file, or .npz with one array, of floats or integers; a pipe, or - for standard input.
    #[arg(long, value_name = "NPY")]
    inputs: PathBuf,
    #[command(flatten)]
    tensor: TensorArgs,
    /// Where the output goes: a file, which is replaced when all of it is there, or a pipe such as /dev/stdout. It is .npz
    /// if it ends so, else .npy.
    #[arg(long, value_name = "NPY")]
    outputs: PathBuf,
    /// Start a dealer and two parties on this machine, for this evaluation only.
    #[arg(long, conflicts_with_all = ["party0", "party1", "identity", "key", "ca"])]
    local: bool,
    /// What computes, with --local: auto, cpu or cuda [default: auto].
    #[arg(long, value_parser = ["auto", "cpu", "cuda"])]
    backend: Option<String>,
    #[command(flatten)]
    parties: PartyArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Feed a run that `suf run` has started with the same certificate, instead of starting one. A run that has its output
    /// already is only fetched.
    #[arg(long, value_name = "ID", value_parser = run_id, conflicts_with_all = ["local", "auto"])]
    run: Option<RunId>,
    /// End the run after this many seconds, if it has not ended before.
    #[arg(long, value_name = "SECONDS", value_parser = deadline(), conflicts_with = "run")]
    deadline: Option<u32>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    // clap does not ask for what an option requires if something else contradicts that.
    if args.backend.is_some() && !args.local {
        return Err(Error::usage(
            "--backend goes with --local: a party computes with what its own configuration says",
        ));
    }
    let remote = if args.local { None } else { Some((args.parties.both()?, args.identity.load()?)) };
    let file = definition(args)?;
    // Everything that can be refused is refused before a process is started or a byte sent.
    let input = args.tensor.read(&args.inputs)?;
    let candidates = candidates(args, &file, &input)?;
    let output =
        AtomicFile::create(&args.outputs).map_err(|error| Error::unwritable(&args.outputs, &error))?;
    let bytes = (input.form().dtype.width() * input.form().len()) as u64;
    output.reserve(bytes).map_err(|error| Error::unwritable(&args.outputs, &error))?;
    runtime::block_on(async |interrupt| {
        if let Some(([first, second], identity)) = &remote {
            let parties = Parties::connect([first, second], identity).await?.until(interrupt);
            return evaluate(args, &file, input, candidates, output, &parties).await;
        }
        let own = Setup::loopback();
        let setup = Setup { backend: args.backend.clone().unwrap_or(own.backend), ..own };
        Cluster::within(&setup, async |cluster| {
            let parties = cluster.connect(interrupt).await?;
            evaluate(args, &file, input, candidates, output, &parties).await
        })
        .await
    })
}

fn definition(args: &Args) -> Result<Definition, Error> {
    match (&args.gate, &args.spec) {
        (Some(gate), _) => gates::file(gate),
        (None, Some(path)) => gates::spec(path),
        (None, None) => unreachable!("the command line asks for one of them"),
    }
}

/// The gates to choose from, each with the tensor encoded for it.
fn candidates<'a>(
    args: &Args,
    file: &Definition,
    input: &Arc<Array<'a>>,
) -> Result<Vec<Candidate<'a>>, Error> {
    let only = args.spec.as_ref().filter(|_| !args.auto).map(|_| Protocol::Suf);
    let protocol = args.protocol.or(only);
    evaluation::candidates(file, protocol, args.shape.as_deref(), input, &npy::name(&args.inputs))
}

async fn evaluate(
    args: &Args,
    file: &Definition,
    input: Arc<Array<'_>>,
    mut candidates: Vec<Candidate<'_>>,
    target: AtomicFile,
    parties: &Parties,
) -> Result<(), Error> {
    let ((gate, tensor), why) = if args.auto {
        let (chosen, why) = evaluation::fastest(parties, candidates).await?;
        (chosen, Some(why))
    } else {
        (candidates.swap_remove(0), None)
    };
    let progress = Progress::new(u64::from(tensor.tiles().count()));
    if let (Some(why), false) = (&why, args.json) {
        progress.line(&format!("{}: {why}", gate.protocol()));
    }
    let mut sink = Collect {
        output: Vec::with_capacity(input.form().len()),
        accuracy: Accuracy::default(),
        gate: &gate,
        file,
        tensor: &tensor,
        progress: &progress,
    };
    let outcome = match args.run {
        Some(run) => parties.evaluate_started(run, &gate, &tensor, &mut sink).await?,
        None => {
            let deadline = args.deadline.map(|seconds| Duration::from_secs(seconds.into()));
            parties.evaluate(&gate, &tensor, deadline, &mut sink).await?
        }
    };
    let Collect { output, accuracy, .. } = sink;
    drop(progress);
    let (form, wider) = output_form(input.form(), &output);
    let mut buffered = BufWriter::new(target);
    write_output(&mut buffered, Format::of(&args.outputs), &form, &output)
        .and_then(|()| suf_files::finish(buffered))
        .map_err(|error| Error::write(&args.outputs, error))?;
    parties.acknowledge(outcome.run).await;
    wider.into_iter().for_each(out::note);
    print(args, &gate, tensor.elements(), &outcome, &accuracy, why.as_deref())?;
    evaluation::verdict(&accuracy)
}

fn print(
    args: &Args,
    gate: &Gate,
    elements: u64,
    outcome: &Outcome,
    accuracy: &Accuracy,
    why: Option<&str>,
) -> Result<(), Error> {
    // A tensor that goes to standard output has it alone.
    let taken = out::is_stdout(&args.outputs);
    let say = |text: String| {
        if taken {
            out::note(text);
            return Ok(());
        }
        out::line(text).map(|_| ())
    };
    let ([first, second], slower) = (&outcome.figures, outcome.slower());
    if args.json {
        let mut figures = evaluation::figures(gate, elements, outcome, accuracy, why);
        figures["outputs"] = json!(args.outputs);
        return say(format!("{figures:#}"));
    }
    say(format!(
        "{} {} on {} elements: {} rounds, {:.3} ms ({:.3} computing), {} and {} key bytes",
        gate.protocol(),
        gate.name(),
        elements,
        first.rounds,
        slower.eval_ms,
        slower.comp_ms,
        first.key_bytes,
        second.key_bytes
    ))?;
    say(format!(
        "error against the real function: max {:.6}, rms {:.6}, mean {:.2e}",
        accuracy.max_err(),
        accuracy.rms_err(),
        accuracy.mean_err()
    ))?;
    if accuracy.without_reference() > 0 {
        let count = accuracy.without_reference();
        say(format!("{count} values have no error: the function has no value there"))?;
    }
    if let Some(caveat) = gates::caveat(gate) {
        say(caveat)?;
    }
    say(args.outputs.display().to_string())
}

/// Collects the output and judges it.
struct Collect<'a> {
    output: Vec<i64>,
    accuracy: Accuracy,
    gate: &'a Gate,
    file: &'a Definition,
    tensor: &'a Tensor<'a>,
    progress: &'a Progress,
}

impl Sink for Collect<'_> {
    fn take(&mut self, tile: u32, values: &[i64]) {
        self.accuracy.add(self.gate, self.file, self.tensor, tile, values);
        self.output.extend_from_slice(values);
        self.progress.step();
    }

    fn state(&mut self, state: RunState) {
        self.progress.doing(match state {
            RunState::Dealing => "the dealer makes keys",
            RunState::ReadyForInput => "evaluating",
            _ => "starting",
        });
    }
}
