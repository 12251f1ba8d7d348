//! `report.md`, `report.html`, and the figures of a README: all from records, and where there are any from the kernels'.

mod html;
pub(crate) mod models;
mod plots;

use std::{fmt::Write as _, fs, path::Path};

use crate::{
    columns::{self, Column},
    error::Error,
    kernel::KernelRecord,
    published,
    records::{self, Record},
    results::Beside,
    slopes::Slope,
    tables::{self, Style},
};

/// Markers round the figures of gates in a README.
const FIGURES: [&str; 2] = ["<!-- suf report: begin -->", "<!-- suf report: end -->"];
/// Markers round the figures of models.
const MODELS: [&str; 2] = ["<!-- suf report of models: begin -->", "<!-- suf report of models: end -->"];

/// The files of a report.
pub const FILES: [&str; 2] = ["report.md", "report.html"];

/// Writes `report.md` and `report.html` into `folder`.
///
/// # Errors
/// When one cannot be written.
pub(crate) fn write(folder: &Path, records: &[Record], beside: &Beside) -> Result<(), Error> {
    let Beside { costs, slopes } = beside;
    let [path, html] = FILES.map(|name| folder.join(name));
    let (of_models, of_gates): (Vec<_>, Vec<_>) = records.iter().cloned().partition(Record::is_of_model);
    let page =
        html::page(&of_gates, &of_models, slopes, costs).map_err(|error| Error::write(&html, error))?;
    for (path, text) in [(path, markdown(&of_gates, &of_models, slopes, costs)), (html, page)] {
        suf_files::write(&path, text.as_bytes()).map_err(|error| Error::write(&path, error))?;
    }
    Ok(())
}

/// Makes the report in `folder` again from the records there, if there are any.
///
/// # Errors
/// As [`write`], and when the records cannot be read.
pub(crate) fn again(folder: &Path) -> Result<(), Error> {
    let path = folder.join(records::FILE);
    if path.exists() { write(folder, &records::read(&path)?, &Beside::read(folder)) } else { Ok(()) }
}

/// What `suf bench` prints of its records: the summary, and what its reader must know.
pub(crate) fn printed(records: &[Record]) -> String {
    let mut text = format!("{}\n", tables::summary(records, Style::Terminal));
    // Writing to a string cannot fail.
    if records.iter().any(tables::is_split) {
        let _ = writeln!(text, "{}", tables::splits(records, Style::Terminal));
    }
    for note in tables::notes(records) {
        let _ = writeln!(text, "{note}");
    }
    text
}

/// Replaces the text between the markers of the file at `path` by what `suf bench` prints of `records`.
///
/// # Errors
/// As [`into_readme`].
pub(crate) fn printed_into_readme(path: &Path, records: &[Record]) -> Result<(), Error> {
    let (of_models, of_gates): (Vec<_>, Vec<_>) = records.iter().cloned().partition(Record::is_of_model);
    if !of_models.is_empty() {
        between_markers(path, MODELS, &format!("```text\n{}```\n", models::printed(&of_models)))?;
    }
    if of_gates.is_empty() {
        return Ok(());
    }
    between_markers(path, FIGURES, &format!("```text\n{}```\n", printed(&of_gates)))
}

/// Replaces the text between the markers of the file at `path` by the tables of `records` and `costs`.
///
/// # Errors
/// When the file cannot be read or written, or does not have exactly one pair of markers.
pub fn into_readme(path: &Path, records: &[Record], costs: &[KernelRecord]) -> Result<(), Error> {
    let of_gates: Vec<_> = records.iter().filter(|record| !record.is_of_model()).cloned().collect();
    between_markers(path, FIGURES, &tables_in_markdown(&of_gates, costs))
}

fn between_markers(path: &Path, markers: [&str; 2], figures: &str) -> Result<(), Error> {
    let text = fs::read_to_string(path)
        .map_err(|error| Error::usage(format!("cannot read {}: {error}", path.display())))?;
    let replaced = replace(&text, markers, figures).ok_or_else(|| {
        let [begin, end] = markers;
        Error::usage(format!("{} needs one line `{begin}` and one line `{end}` after it", path.display()))
    })?;
    suf_files::write(path, replaced.as_bytes()).map_err(|error| Error::write(path, error))
}

fn replace(text: &str, [begin, end]: [&str; 2], figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    let unique = !rest.contains(begin) && !after.contains(end);
    unique.then(|| format!("{before}{begin}\n{figures}{end}{after}"))
}

/// `report.md`.
fn markdown(records: &[Record], of_models: &[Record], slopes: &[Slope], costs: &[KernelRecord]) -> String {
    let mut text = String::new();
    if !records.is_empty() {
        text = format!("# Measured activations\n\n{}", tables_in_markdown(records, costs));
    }
    for Slope { protocol, gate, declared_rounds, line, .. } in slopes {
        let _ = write!(
            text,
            "\n- {protocol} {gate}: {declared_rounds} rounds declared and by causal depth, {:.3} by slope\n",
            line.slope
        );
    }
    text.push_str(&models::markdown(of_models));
    let records = &[records, of_models].concat()[..];
    let memory = |pick: fn(&Record) -> u64| records.iter().map(pick).max().unwrap_or(0) >> 20;
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n## Where it was measured\n\n- machine: {}\n- parties report: {}\n- versions: {}\n- repeats: {}; times are \
         medians, after one run to warm up\n- peak memory: dealer {} MiB, party {} MiB{}\n- load before: up to {:.2}\n",
        distinct(records, |record| &record.machine),
        distinct(records, |record| &record.hardware),
        distinct(records, |record| &record.version),
        records.iter().map(|record| record.repeats).max().unwrap_or(0),
        memory(|record| record.dealer_peak_bytes),
        memory(|record| record.party_peak_bytes),
        peaks_since(records),
        records.iter().map(|record| record.load).fold(0.0, f64::max),
    );
    text
}

fn tables_in_markdown(records: &[Record], costs: &[KernelRecord]) -> String {
    let mut text = format!(
        "{}\n\n{}",
        tables::figures(records, Style::Markdown),
        meanings("Times are medians of the repeats.", &columns::FIGURES)
    );
    if records.iter().any(tables::is_split) {
        let (note, table) = (tables::SPLIT_NOTE, tables::splits(records, Style::Markdown));
        let _ = write!(text, "\n{note}\n\n{table}\n\n{}", meanings("", &columns::SPLITS));
    }
    if records.iter().any(tables::is_shaped) {
        let _ = write!(
            text,
            "\nSeconds of the whole gate. The original systems, by formula: {}.\n\n{}\n\n{}",
            published::SOURCE,
            tables::links(records, Style::Markdown),
            meanings("", &columns::LINKS)
        );
    }
    text.push('\n');
    for note in tables::notes(records) {
        let _ = writeln!(text, "\\* {note}  ");
    }
    if !costs.is_empty() {
        let (note, table) = (tables::costs_note(costs), tables::costs(costs, Style::Markdown));
        let _ = write!(text, "\nComputing alone. {note}\n\n{table}\n\n{}", meanings("", &columns::COSTS));
    }
    text
}

/// What the columns hold, after `first`: a list in Markdown.
fn meanings(first: &str, columns: &[Column]) -> String {
    let mut text = if first.is_empty() { String::new() } else { format!("{first}\n\n") };
    for (header, meaning) in columns {
        let _ = writeln!(text, "- *{header}*: {meaning}.");
    }
    text
}

/// How the peaks of memory are to be read.
fn peaks_since(records: &[Record]) -> String {
    let of_start = records.iter().filter(|record| record.peaks_since == "start").count();
    match of_start {
        0 => String::new(),
        _ => format!("; those of {of_start} of {} records since the daemons were started", records.len()),
    }
}

/// The different values of a field, in the order of the records.
fn distinct<'a>(records: &'a [Record], field: impl Fn(&'a Record) -> &'a String) -> String {
    let mut values: Vec<&str> = Vec::new();
    for record in records {
        let value = field(record).as_str();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values.join("; ")
}

#[cfg(test)]
mod tests {
    use suf_gate::Protocol;

    use super::*;
    use crate::{kernel::tests::example as cost, records::tests::example};

    #[test]
    fn only_the_text_between_the_markers_is_replaced() {
        let [begin, end] = FIGURES;
        let text = format!("# Name\n\n{begin}\nold\n{end}\n\nmore\n");
        let once = replace(&text, FIGURES, "new\n").unwrap();
        assert_eq!(once, format!("# Name\n\n{begin}\nnew\n{end}\n\nmore\n"));
        assert_eq!(replace(&once, FIGURES, "new\n").unwrap(), once);
        assert!(replace(&text, MODELS, "new\n").is_none());
        assert!(replace(&format!("{text}{text}"), FIGURES, "new").is_none());
    }

    #[test]
    fn a_gpus_time_is_split_in_both_reports() {
        let folder = tempfile::tempdir().unwrap();
        let record = Record { backend: "cuda".into(), processor_mhz: 1980, ..example("onehot", "loopback") };
        write(folder.path(), &[record], &Beside::default()).unwrap();
        for name in ["report.md", "report.html"] {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.contains("on the link") && text.contains("1980, 0"), "{name}");
        }
    }

    #[test]
    fn every_column_of_the_markdown_is_explained() {
        let records =
            [Record { backend: "cuda".into(), ..example("onehot", "loopback") }, example("sigma", "wan")];
        let text = tables_in_markdown(&records, &[cost("gelu", Protocol::Sigma)]);
        let tables: Vec<_> =
            text.lines().zip(text.lines().skip(1)).filter(|(_, rule)| rule.starts_with("|--")).collect();
        assert_eq!(tables.len(), 4, "{text}");
        for (header, _) in tables {
            for column in header.trim_matches('|').split('|').map(str::trim) {
                assert!(text.contains(&format!("- *{column}*: ")), "{column} is not explained in {text}");
            }
        }
    }

    #[test]
    fn both_reports_hold_the_figures_of_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let records = [example("onehot", "loopback"), example("suf-lut", "lan"), example("sigma", "wan")];
        let costs = [cost("gelu", Protocol::Sigma)];
        write(folder.path(), &records, &Beside { costs: costs.into(), slopes: Vec::new() }).unwrap();
        for name in ["report.md", "report.html"] {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.contains("bert-base") && text.contains("80.000"), "{name}");
            assert!(text.contains("1/32"), "{name} explains suf-lut");
            assert!(
                text.contains("300.0") && text.contains("nanoseconds per element"),
                "{name} has the costs"
            );
        }
        let html = fs::read_to_string(folder.path().join("report.html")).unwrap();
        assert!(!html.contains("Where the evaluation's time went"), "a CPU's time is not split");
        assert!(
            html.contains("<svg") && !html.contains("src=\"http"),
            "plots are inside, nothing is fetched"
        );
    }
}
