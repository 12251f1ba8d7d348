//! `suf embed`: vectors of texts that neither party sees.

use std::{cell::Cell, io::BufWriter, path::PathBuf, time::Duration};

use suf_control::v1::{InfoRequest, Run, RunState};
use suf_files::AtomicFile;
use suf_model::{
    Plan,
    bert::{Compiled, Length, TextBatch, batches, compile},
};
use suf_wire::Party;
use zeroize::Zeroizing;

use super::{
    progress::Progress,
    remote::{IdentityArgs, PartyArgs, deadline, whole},
};
use crate::{
    client::{Parties, place},
    cluster::{Cluster, Placement, Setup},
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
    let tokens: Vec<_> = left.iter().map(|at| texts[*at].clone()).collect();
    let mut work = batches(&tokens, model.bert.config.positions, padded, args.batch);
    work.iter_mut().flat_map(|batch| &mut batch.texts).for_each(|at| *at = left[*at]);
    let mut programs: Vec<(Length, Compiled)> = Vec::new();
    for TextBatch { length, .. } in &work {
        if programs.iter().all(|(known, _)| known != length) {
            let compiled =
                compile(&model.bert.config, &model.integers, &plan, *length).map_err(Error::usage)?;
            programs.push((*length, compiled));
        }
    }
    let output = AtomicFile::create(&args.out).map_err(|error| Error::unwritable(&args.out, &error))?;
    if args.resume {
        out::note(format_args!("vectors of {kept} of {} texts were kept before", texts.len()));
    }
    let job = Embedding { args, model: &model, texts: &texts, work: &work, programs: &programs };
    let evaluated = runtime::block_on(async |interrupt| {
        if let Some(([first, second], identity)) = &remote {
            let parties = Parties::connect([first, second], identity).await?.until(interrupt);
            return job.evaluate(&parties, &mut vectors).await;
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
            Ok(parties) => job.evaluate(&parties, &mut vectors).await,
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

/// What is to be evaluated.
struct Embedding<'a> {
    args: &'a Args,
    model: &'a Model,
    texts: &'a [Vec<u32>],
    work: &'a [TextBatch],
    programs: &'a [(Length, Compiled)],
}

impl Embedding<'_> {
    /// Checks that both parties have loaded the model, before anything secret moves.
    async fn known_to(&self, parties: &Parties) -> Result<(), Error> {
        let own = self.model.integers.digest();
        for party in Party::BOTH {
            let info = parties.party(party).info(InfoRequest {}).await;
            let info = info.map_err(|status| Error::call(place(party), status))?.into_inner();
            if info.models.iter().any(|model| model.digest[..] == own[..]) {
                continue;
            }
            let others =
                info.models.iter().map(|model| format!("{} ({})", model.name, hex::encode(&model.digest)));
            let others: Vec<_> = others.collect();
            return Err(Error::usage(format!(
                "{} has not loaded the model {}; it has: {}. Name the same folder in [[models]] of its configuration",
                place(party),
                hex::encode(own),
                if others.is_empty() { "none".to_owned() } else { others.join(", ") }
            )));
        }
        Ok(())
    }

    /// Adds the vector of each text that is left to `vectors`: also if a later one fails.
    async fn evaluate(&self, parties: &Parties, vectors: &mut Vectors) -> Result<(), Error> {
        self.known_to(parties).await?;
        let progress = Progress::new((self.texts.len() - vectors.len()) as u64);
        let deadline = self.args.deadline.map(|seconds| Duration::from_secs(seconds.into()));
        for TextBatch { length, texts: indices } in self.work {
            progress.doing(&format!("{} of {} tokens", counted(length.batch.into()), length.tokens));
            let (_, compiled) =
                self.programs.iter().find(|(known, _)| known == length).expect("compiled before");
            let ids: Vec<&[u32]> = indices.iter().map(|at| &self.texts[*at][..]).collect();
            let inputs: Vec<_> =
                compiled.inputs(&self.model.bert, &ids).into_iter().map(Zeroizing::new).collect();
            let queued = Cell::new(false);
            let told = |party, run: &Run| {
                if run.state() == RunState::Queued {
                    let waits =
                        format!("{}: the run waits for its turn, at place {}", place(party), run.position);
                    // A line for the first place, and all of them on a terminal.
                    if !queued.replace(true) {
                        progress.line(&waits);
                    }
                    progress.doing(&waits);
                }
            };
            let run = parties.run_program_telling(&compiled.program, &inputs, deadline, told);
            let (outputs, outcome) = run.await?;
            let [output] = &outputs[..] else { unreachable!("a model's program has one output") };
            let made = compiled.vectors(&self.model.bert, &ids, output);
            let made = made.into_iter().map(|row| row.into_iter().map(|x| x as f32).collect());
            vectors.extend(indices.iter().copied().zip(made));
            parties.acknowledge(outcome.run).await;
            indices.iter().for_each(|_| progress.step());
        }
        Ok(())
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
