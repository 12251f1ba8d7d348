//! `suf report`: the tables, exports, plots and README figures from records that were made before.

use std::path::PathBuf;

use crate::{
    error::Error,
    exports, records, report,
    results::{Beside, Folder},
    slopes,
};

/// Make the exports and the report again from records, and put their figures into a README.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The records of `suf bench`. Those of `suf bench kernel`, kernel.jsonl, are taken from the same folder if they are there.
    #[arg(long, default_value = "results/records.jsonl", value_name = "JSONL")]
    from: PathBuf,
    /// Folder for the files [default: that of the records].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace the figures between the markers `<!-- suf report: begin -->` and `<!-- suf report: end -->` of this file, and
    /// write nothing else.
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    readme: Option<PathBuf>,
    /// Between the markers: only what `suf bench` prints, as a block of text.
    #[arg(long, requires = "readme")]
    short: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let records = records::read(&args.from)?;
    if records.is_empty() {
        return Err(Error::usage(format!("{} holds no record", args.from.display())));
    }
    let source = args.from.parent().map(PathBuf::from).unwrap_or_default();
    let Beside { costs, slopes } = Beside::read(&source);
    if let Some(readme) = &args.readme {
        if args.short {
            return report::printed_into_readme(readme, &records);
        }
        return report::into_readme(readme, &records, &costs);
    }
    let folder = args.out.clone().unwrap_or_else(|| source.clone());
    let _folder = Folder::open(&folder, "suf report", exports::FILES.into_iter().chain(report::FILES))?;
    exports::write(&folder, &records)?;
    // Slopes are drawn in the report of their own folder.
    let slopes = if folder == source { slopes } else { slopes::beside(&folder) };
    report::write(&folder, &records, &Beside { costs, slopes })
}
