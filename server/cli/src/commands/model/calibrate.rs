//! `suf model calibrate`: how large the values within a model get, as a plan.

use std::{io::Write, path::PathBuf, sync::Mutex};

use suf_files::AtomicFile;
use suf_model::{
    Plan,
    bert::{Length, bucket, compile},
};

use crate::{
    commands::progress::Progress,
    error::Error,
    model::{Model, counted, texts},
    out,
};

/// Measure ranges on texts, and write a plan: bounds with headroom, from which rings and shapes follow.
///
/// Each text is evaluated in 64-bit floats on this machine, alone and padded. Nothing is sent. A plan is public: it says how large
/// values within the model get, and nothing of a single text. Take texts like those that will be evaluated.
///
/// Hidden values, variances, inputs of the activation and values of heads may be 4 times as large as measured. Scores may spread 1.1
/// times as far, and 8 bits more on both sides. What is beyond that is evaluated wrongly, and no party can see it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf model calibrate all-MiniLM-L6-v2 --input texts.txt --out plan.toml
  suf model check all-MiniLM-L6-v2 --plan plan.toml")]
pub(crate) struct Args {
    /// The model's folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Texts, one a line.
    #[arg(long, value_name = "FILE", alias = "inputs")]
    input: PathBuf,
    /// Where the plan goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let model = Model::load(&args.folder)?;
    let texts = texts(&args.input)?;
    let tokens = model.tokens(&texts, false)?;
    let file = AtomicFile::create(&args.out).map_err(|error| Error::unwritable(&args.out, &error))?;
    let progress = Mutex::new(Progress::new(tokens.len() as u64));
    let ranges = model.measure(&tokens, || {
        progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).step();
    });
    drop(progress);
    let plan = model.plan_of(&ranges);
    let longest = tokens.iter().map(Vec::len).max().unwrap_or(1) as u32;
    compiles(&model, &plan, longest)?;
    let mut file = file;
    let written = file.write_all(plan.to_toml().as_bytes()).and_then(|()| file.commit());
    written.map_err(|error| Error::write(&args.out, error))?;
    out::note(format_args!(
        "{}: bounds from {} with {} tokens, the longest of {longest}",
        args.out.display(),
        counted(plan.texts),
        plan.tokens
    ));
    Ok(())
}

/// A plan whose ranges no program holds is not written.
fn compiles(model: &Model, plan: &Plan, longest: u32) -> Result<(), Error> {
    let config = &model.bert.config;
    let padded = bucket(longest, config.positions).unwrap_or(config.positions);
    for length in [
        Length { tokens: longest, batch: 1, padded: false },
        Length { tokens: padded, batch: 1, padded: true },
    ] {
        compile(config, &model.integers, plan, length)
            .map_err(|error| Error::usage(format!("{error}; no plan was written: leave the text out")))?;
    }
    Ok(())
}
