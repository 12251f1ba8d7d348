//! `suf model load`: private weights at both parties.

use std::path::{Path, PathBuf};

use serde_json::json;
use suf_control::v1::Fault;
use suf_files::{NewFolder, Unwritten};
use suf_link::read_certificate;
use suf_model::{Plan, bert::public_files};
use suf_wire::Role;

use crate::{
    client::Parties,
    commands::{
        progress::Progress,
        remote::{BothParties, whole},
    },
    error::{Error, named_once},
    loading::{Loaded, Loading, lengths},
    model::Model,
    out, runtime,
};

/// Load a model's private weights at both parties. Nobody but its owner, who calls this, has them in the clear.
///
/// This machine turns the weights into integers, splits each into two random shares, and sends each party its own. The parties keep the
/// weights under masks of which each knows its share alone. Clients then evaluate texts with `suf embed --weights private`, as often as
/// they like. The load is gone when a party or the dealer is restarted, or after `suf model drop`: then load the model again. A load of
/// yours that has the same name is dropped then.
///
/// The parties run only the programs that this command names: another one could give its client the weights. They follow from the model's
/// sizes and its plan. There is one for each bucket and each length of --tokens, for 1, 2, 4, ... 256 texts together. Each is there
/// under both protocols of the activation.
///
/// Public stay: sizes, plan, tokenizer, embeddings, and gain and bias of the last norm. --public writes them to a folder for clients.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf model load my-model --public my-model-public \\
    --party0 10.0.0.1:7101 --party1 10.0.0.2:7201 --identity pki/model.pem
  suf model load my-model --name mine --clients alice.pem,bob.pem --tokens 32,128 \\
    --party0 10.0.0.1:7101 --party1 10.0.0.2:7201 --identity pki/model.pem")]
pub(crate) struct Args {
    /// The model's folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    parties: BothParties,
    /// What people call the model [default: its folder's name].
    #[arg(long)]
    name: Option<String>,
    /// The plan, which becomes public [default: DIR/plan.toml, or one that is part of this program, or from built-in sentences].
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// A new folder for clients: what is public of the model.
    #[arg(long, value_name = "NEW_DIR")]
    public: Option<PathBuf>,
    /// Numbers of tokens of exact programs that clients may run, beside those of all buckets.
    #[arg(long, value_delimiter = ',', value_parser = whole(1_u32, 1 << 16))]
    tokens: Vec<u32>,
    /// Certificates of the clients that may use the model [default: every client].
    #[arg(long, value_delimiter = ',', value_name = "PEM")]
    clients: Vec<PathBuf>,
    /// Print what was loaded, as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    named_once("--tokens", &args.tokens)?;
    let [first, second] = args.parties.parties.both()?;
    let identity = args.parties.identity.load()?;
    let clients = args.clients.iter().map(|path| client(path)).collect::<Result<Vec<_>, _>>()?;
    let model = Model::load(&args.folder)?;
    let (plan, _) = model.plan(args.plan.as_deref())?;
    let name = args.name.as_deref().unwrap_or(model.name());
    let lengths = lengths(&model.bert.config, &args.tokens);
    let loading = Loading::new(&model, &plan, name, &lengths, &clients)?;
    // Whole before anything is sent, so that a full disk is found now.
    let public =
        args.public.as_deref().map(|path| public_folder(path, &model, &plan, &loading)).transpose()?;
    let progress = Progress::new(loading.matrices());
    progress.doing("waiting for both parties");
    let step = || {
        progress.doing("sharing the matrices");
        progress.step();
    };
    let (loaded, replaced) = runtime::block_on(async |interrupt| {
        let parties = Parties::connect([&first, &second], &identity).await?.until(interrupt);
        let loaded = loading.load(&parties, step).await?;
        let replaced = parties.replace(name, &loaded.digest).await?;
        Ok((loaded, replaced))
    })?;
    drop(progress);
    let placed = public.map_or(Ok(()), |folder| folder.finish().map_err(unplaced));
    // It is told even if the folder failed: the model is loaded.
    let printed = print(args, name, &loading, &loaded, replaced);
    placed.and(printed)
}

/// The SHA-256 of a client's certificate.
fn client(path: &Path) -> Result<[u8; 32], Error> {
    match read_certificate(path).map_err(Error::usage)? {
        (Role::Client, digest) => Ok(digest),
        (other, _) => Err(Error::usage(format!(
            "--clients: {} is the certificate of a {other}, and clients alone evaluate texts: name a client's",
            path.display()
        ))),
    }
}

/// The folder for clients, all but put in its place. Its plan has the name of the load, which says nothing of the weights.
fn public_folder(path: &Path, model: &Model, plan: &Plan, loading: &Loading<'_>) -> Result<NewFolder, Error> {
    let unwritable = |Unwritten { path, source }: Unwritten| Error::unwritable(&path, &source);
    let files = public_files(model.folder(), plan, *loading.digest()).map_err(Error::usage)?;
    let mut folder = NewFolder::begin(path).map_err(unwritable)?;
    for (name, bytes) in &files {
        folder.add(name, bytes).map_err(unwritable)?;
    }
    Ok(folder)
}

/// The model is loaded, and clients do not have their folder.
fn unplaced(Unwritten { path, source }: Unwritten) -> Error {
    Error::here(
        Fault::Device,
        format!(
            "the model is loaded, but {} cannot be written: {source}; load it again with another folder as --public",
            path.display()
        ),
    )
}

fn print(
    args: &Args,
    name: &str,
    loading: &Loading<'_>,
    loaded: &Loaded,
    replaced: usize,
) -> Result<(), Error> {
    let digest = hex::encode(loaded.digest);
    if args.json {
        return out::json(&json!({
            "name": name,
            "digest": digest,
            "program_digest": hex::encode(loading.program().digest()),
            "programs": loading.programs(),
            "clients": args.clients.len(),
            "load_bytes": loaded.load_bytes,
            "load_ms": loaded.load_ms,
            "public": args.public,
            "replaced": replaced,
            "run_id": loaded.outcome.run.reveal(),
        }));
    }
    let clients = match args.clients.len() {
        0 => "every client".to_owned(),
        1 => "1 client".to_owned(),
        more => format!("{more} clients"),
    };
    out::line(format_args!(
        "{name} is loaded at both parties: {:.1} MB per direction in {:.1} s, {} programs for {clients}",
        loaded.load_bytes as f64 / 1e6,
        loaded.load_ms / 1e3,
        loading.programs()
    ))?;
    out::line(format_args!("digest {digest}"))?;
    if replaced > 0 {
        out::line(format_args!("it takes the place of an earlier load, which is dropped"))?;
    }
    if let Some(public) = &args.public {
        out::line(format_args!("{}: what clients need", public.display()))?;
    }
    Ok(())
}
