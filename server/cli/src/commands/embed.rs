//! `suf embed`: vectors of texts that neither party sees.

use std::{io::BufWriter, path::PathBuf, time::Duration};

use suf_files::AtomicFile;
use suf_model::Plan;

use super::{
    progress::Progress,
    remote::{IdentityArgs, PartyArgs, deadline, whole},
};
use crate::{
    choose::Activation,
    client::{Outcome, Parties},
    cluster::{Cluster, Placement, Setup},
    embedding::{Embedding, Watch},
    error::Error,
    model::{Model, counted, texts},
    npy::{self, Dtype, Form, Format},
    out,
    partial::{Partial, Vectors},
    runtime,
};

/// Vectors of texts, by two parties that see neither text nor vector.
///
/// This machine cuts a text into tokens, looks up their embeddings and normalises them. It also evaluates the text in floats: values
/// beyond the plan's bounds would come out wrong, and no party could see that. The parties evaluate the layers on shares.
/// This machine adds the output shares, and pools and normalises as the model's folder says.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf embed --local --model all-MiniLM-L6-v2 --out v.npy \"A text.\" \"Another one.\"
  suf embed --model all-MiniLM-L6-v2 --input texts.txt --out v.npy \\
    --party0 10.0.0.1:7101 --party1 10.0.0.2:7201 --identity pki/client.pem")]
pub(crate) struct Args {
    /// The model's folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Texts.
    #[arg(value_name = "TEXT", required_unless_present = "input", conflicts_with = "input")]
    texts: Vec<String>,
    /// A file of texts, one a line.
    #[arg(long, value_name = "FILE", alias = "inputs")]
    input: Option<PathBuf>,
    /// Where the vectors go: float32, a row for each text; .npz if it ends so, else .npy.
    #[arg(long, value_name = "NPY")]
    out: PathBuf,
    /// Start a dealer and two parties on this machine, for these texts only.
    #[arg(long, conflicts_with_all = ["party0", "party1", "identity", "key", "ca"])]
    local: bool,
    /// What computes, with --local: auto, cpu or cuda [default: auto].
    #[arg(long, value_parser = ["auto", "cpu", "cuda"])]
    backend: Option<String>,
    #[command(flatten)]
    parties: PartyArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Who knows the weights: both parties and the dealer.
    #[arg(long, default_value = "public", value_parser = ["public"])]
    weights: String,
    /// The plan [default: DIR/plan.toml, or one that is part of this program, or from built-in sentences].
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Whether a text's number of tokens is public, or hidden by padding [default: exact with --local, else bucket].
    #[arg(long, value_parser = ["exact", "bucket"])]
    length: Option<String>,
    /// Protocol of the activation: onehot ships fewer bytes of keys, and dpf takes fewer rounds. auto takes the one that is faster on
    /// the links as measured, and says why [default: onehot with --local, else auto].
    #[arg(long, value_parser = Activation::NAMES)]
    activation: Option<String>,
    /// Take the vectors that an earlier call with the same texts has kept in OUT.partial.npz, and evaluate the other texts.
    #[arg(long)]
    resume: bool,
    /// Cut texts that are too long, instead of refusing them.
    #[arg(long)]
    truncate: bool,
    /// Texts that are evaluated together, at most.
    #[arg(long, default_value_t = 1, value_parser = whole(1_u32, 256))]
    batch: u32,
    /// End a run after this many seconds, if it has not ended before.
    #[arg(long, value_name = "SECONDS", value_parser = deadline())]
    deadline: Option<u32>,
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
    // Everything that can be refused is refused before a process is started or a byte sent.
    let model = Model::load(&args.model)?;
    let texts = args.input.as_deref().map_or_else(|| Ok(args.texts.clone()), texts)?;
    let texts = model.tokens(&texts, args.truncate)?;
    let (plan, _) = model.plan(args.plan.as_deref())?;
    let padded = args.length.as_deref().unwrap_or(if args.local { "exact" } else { "bucket" }) == "bucket";
    model.holds(&plan, &texts, padded)?;
    let of = digest(&model, &plan, padded, &texts);
    let partial = Partial::beside(&args.out, of, texts.len());
    let mut vectors = match &partial {
        Some(partial) if args.resume => partial.read()?,
        None if args.resume => {
            return Err(Error::usage(
                "--resume goes with a file as --out: nothing is kept beside a pipe or a device",
            ));
        }
        _ => Vectors::new(),
    };
    let kept = vectors.len();
    let left: Vec<usize> = (0..texts.len()).filter(|at| !vectors.contains_key(at)).collect();
    let activation = args.activation.as_deref().unwrap_or(if args.local { "onehot" } else { "auto" });
    let activation = Activation::named(activation);
    let job = Embedding::new(&model, &plan, &texts, &left, padded, args.batch, activation)?;
    let output = AtomicFile::create(&args.out).map_err(|error| Error::unwritable(&args.out, &error))?;
    if args.resume {
        out::note(format_args!("vectors of {kept} of {} texts were kept before", texts.len()));
    }
    let deadline = args.deadline.map(|seconds| Duration::from_secs(seconds.into()));
    let evaluated = runtime::block_on(async |interrupt| {
        let progress = Progress::new(left.len() as u64);
        let mut watch = Kept { vectors: &mut vectors, progress };
        if let Some(([first, second], identity)) = &remote {
            let parties = Parties::connect([first, second], identity).await?.until(interrupt);
            return job.evaluate(&parties, deadline, &mut watch).await;
        }
        let setup = Setup {
            link: "loopback".into(),
            shaped: false,
            backend: args.backend.clone().unwrap_or_else(|| "auto".into()),
            placement: Placement::Loopback,
            model: Some((args.model.clone(), plan.to_toml())),
            checked: false,
        };
        let mut cluster = Cluster::start(&setup)?;
        let result = match cluster.connect(interrupt).await {
            Ok(parties) => job.evaluate(&parties, deadline, &mut watch).await,
            Err(error) => Err(error),
        };
        let result = result.map_err(|error| cluster.explain(error));
        cluster.stop().await;
        result
    });
    let written = evaluated.and_then(|()| write(args, output, &vectors));
    match (&written, partial) {
        (Err(_), Some(partial)) if vectors.len() > kept => match partial.write(&vectors) {
            Ok(()) => out::note(format_args!(
                "vectors of {} of {} texts are kept in {}: the same call with --resume evaluates the others",
                vectors.len(),
                texts.len(),
                partial.path().display()
            )),
            Err(error) => out::note(error),
        },
        (Ok(()), Some(partial)) if args.resume => return partial.remove(),
        _ => {}
    }
    written
}

/// What vectors depend on: the model, the plan, whether texts are padded, and their tokens.
fn digest(model: &Model, plan: &Plan, padded: bool, texts: &[Vec<u32>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("suf/v1/embed");
    hasher.update(model.integers.digest());
    hasher.update(blake3::hash(plan.to_toml().as_bytes()).as_bytes());
    hasher.update(&[u8::from(padded)]);
    for ids in texts {
        hasher.update(&(ids.len() as u64).to_le_bytes());
        ids.iter().for_each(|id| _ = hasher.update(&id.to_le_bytes()));
    }
    *hasher.finalize().as_bytes()
}

/// Keeps the vectors, and shows how far it is.
struct Kept<'a> {
    vectors: &'a mut Vectors,
    progress: Progress,
}

impl Watch for Kept<'_> {
    fn doing(&self, what: &str) {
        self.progress.doing(what);
    }

    fn line(&self, line: &str) {
        self.progress.line(line);
    }

    fn done(&mut self, _: &Outcome, vectors: Vec<(usize, Vec<f32>)>) {
        vectors.iter().for_each(|_| self.progress.step());
        self.vectors.extend(vectors);
    }
}

fn write(args: &Args, target: AtomicFile, vectors: &Vectors) -> Result<(), Error> {
    let shape = vec![vectors.len(), vectors.values().next().map_or(0, Vec::len)];
    let form = Form { shape, fortran: false, dtype: Dtype::F32 };
    let mut buffered = BufWriter::new(target);
    let written = npy::write_to(&mut buffered, Format::of(&args.out), &form, |out| {
        vectors.values().flatten().try_for_each(|x| out.write_all(&x.to_le_bytes()))
    });
    written.and_then(|()| suf_files::finish(buffered)).map_err(|error| Error::write(&args.out, error))?;
    out::note(format_args!("{}: vectors of {}", args.out.display(), counted(vectors.len() as u64)));
    Ok(())
}
