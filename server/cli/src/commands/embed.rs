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
    cluster::{Cluster, Setup},
    embedding::{Embedding, Source, Watch, Weights},
    error::Error,
    loading::{Loading, MOST_TEXTS},
    model::{Model, PublicPart, counted, texts},
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
    --party0 10.0.0.1:7101 --party1 10.0.0.2:7201 --identity pki/client.pem
  suf embed --weights private --model my-model-public --input texts.txt --out v.npy")]
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
    /// Who knows the weights: public, both parties and the dealer; private, nobody but the owner, who has loaded them with
    /// `suf model load`. DIR is then the folder that the owner gives to clients.
    #[arg(long, default_value = "public", value_parser = ["public", "private"])]
    weights: String,
    /// With private weights: name or digest of the loaded model [default: the one that DIR was written for, or the only one of its sizes].
    #[arg(long, value_name = "NAME")]
    load: Option<String>,
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
    #[arg(long, default_value_t = 1, value_parser = whole(1_u32, MOST_TEXTS))]
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
    let is_private = args.weights == "private";
    if args.load.is_some() && (args.local || !is_private) {
        return Err(Error::usage(
            "--load goes with --weights private and with parties that have loaded a model",
        ));
    }
    let remote = if args.local { None } else { Some((args.parties.both()?, args.identity.load()?)) };
    // Everything that can be refused is refused before a process is started or a byte sent.
    let held = Held::load(args, is_private && !args.local)?;
    let texts = args.input.as_deref().map_or_else(|| Ok(args.texts.clone()), texts)?;
    let texts = held.tokens(&texts, args.truncate)?;
    let padded = args.length.as_deref().unwrap_or(if args.local { "exact" } else { "bucket" }) == "bucket";
    held.holds(&texts, padded)?;
    let source = held.source(is_private, args.load.as_deref());
    let of = digest(&source, padded, &texts);
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
    let job = Embedding::new(source, &texts, &left, padded, args.batch, activation)?;
    let loading = held.loading(&job, is_private)?;
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
        let own = Setup::loopback();
        let model = (!is_private).then(|| (args.model.clone(), source.plan.to_toml()));
        let setup = Setup { backend: args.backend.clone().unwrap_or(own.backend), model, ..own };
        Cluster::within(&setup, async |cluster| {
            if let Some(loading) = &loading {
                watch.doing("loading the weights");
                loading.load(&cluster.connect_as_owner(interrupt.clone()).await?, || ()).await?;
            }
            let parties = cluster.connect(interrupt).await?;
            job.evaluate(&parties, deadline, &mut watch).await
        })
        .await
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

/// What this machine has of the model.
enum Held {
    /// All of it, and a plan.
    Whole(Model, Plan),
    /// What its owner gives to clients.
    Part(PublicPart),
}

impl Held {
    fn load(args: &Args, is_part: bool) -> Result<Self, Error> {
        let plan = args.plan.as_deref();
        if is_part {
            return PublicPart::load(&args.model, plan).map(Self::Part);
        }
        let model = Model::load(&args.model)?;
        let (plan, _) = model.plan(plan)?;
        Ok(Self::Whole(model, plan))
    }

    fn tokens(&self, texts: &[String], truncate: bool) -> Result<Vec<Vec<u32>>, Error> {
        match self {
            Self::Whole(model, _) => model.tokens(texts, truncate),
            Self::Part(part) => part.tokens(texts, truncate),
        }
    }

    /// Whether the values of each text stay within the plan, as far as this machine can know: without the weights it cannot.
    fn holds(&self, texts: &[Vec<u32>], padded: bool) -> Result<(), Error> {
        match self {
            Self::Whole(model, plan) => model.holds(plan, texts, padded),
            Self::Part(_) => Ok(()),
        }
    }

    fn source<'a>(&'a self, is_private: bool, load: Option<&'a str>) -> Source<'a> {
        match self {
            Self::Whole(model, plan) if is_private => {
                let weights = Weights::Private { load: Some(model.name()) };
                Source { weights, ..Source::public(model, plan) }
            }
            Self::Whole(model, plan) => Source::public(model, plan),
            Self::Part(PublicPart { public, plan }) => {
                Source { ends: public.into(), plan, weights: Weights::Private { load } }
            }
        }
    }

    /// What local daemons load before texts are evaluated: private weights.
    fn loading(&self, job: &Embedding<'_>, is_private: bool) -> Result<Option<Loading<'_>>, Error> {
        let Self::Whole(model, plan) = self else { return Ok(None) };
        let lengths: Vec<_> = job.lengths().collect();
        is_private.then(|| Loading::new(model, plan, model.name(), &lengths, &[])).transpose()
    }
}

/// What vectors depend on: the model, the plan, whether texts are padded, and their tokens.
fn digest(source: &Source<'_>, padded: bool, texts: &[Vec<u32>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("suf/v1/embed");
    match source.weights {
        Weights::Public(integers) => hasher.update(integers.digest()),
        // The plan has the name that the owner gave to the model.
        Weights::Private { .. } => hasher.update(b"private"),
    };
    hasher.update(blake3::hash(source.plan.to_toml().as_bytes()).as_bytes());
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
