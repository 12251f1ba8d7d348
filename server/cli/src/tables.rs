//! Records as tables: the same on the terminal and in Markdown.

use std::collections::BTreeSet;

use comfy_table::{CellAlignment, Table, presets};
use suf_gate::TILE_ELEMS;

use crate::{
    columns::{self, headers},
    gates,
    kernel::{AesCalls, KernelRecord, second},
    published,
    records::{Record, quartiles},
};

/// Where a table will be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// On a terminal, with rules.
    Terminal,
    /// In a Markdown file, as GitHub reads it.
    Markdown,
}

/// The figures that `suf bench` prints, one row per record.
pub(crate) fn summary(records: &[Record], style: Style) -> Table {
    table(
        style,
        &headers(columns::SUMMARY),
        3,
        records.iter().map(|record| {
            vec![
                record.model.clone(),
                named(record),
                record.link.clone(),
                format!("{:.2}", record.eval_ms),
                spread(record),
                format!("{:.3}", record.key_bytes_per_elem()),
                format!("{}", record.bits_per_elem),
                record.eval_rounds.to_string(),
                record.wrong.to_string(),
            ]
        }),
    )
}

/// The quartiles of a record's `eval_ms`.
pub(crate) fn spread(record: &Record) -> String {
    let [first, third] = quartiles(&record.eval_ms_samples);
    format!("{first:.2} to {third:.2}")
}

/// All figures of the records, one row per record.
pub(crate) fn figures(records: &[Record], style: Style) -> Table {
    table(
        style,
        &headers(columns::FIGURES),
        4,
        records.iter().map(|record| {
            vec![
                record.model.clone(),
                record.gate.clone(),
                named(record),
                record.link.clone(),
                record.gate_elems.to_string(),
                format!("{:.3}", record.key_bytes_per_elem()),
                format!("{:.2}", record.key_ms),
                format!("{:.2}", record.ship_ms),
                format!("{:.2}", record.eval_ms),
                spread(record),
                format!("{:.2}", record.comp_ms),
                format!("{:.2}", record.comm_ms),
                record.eval_rounds.to_string(),
                format!("{}", record.bits_per_elem),
                error(record.max_err),
                error(record.rms_err),
                record.wrong.to_string(),
            ]
        }),
    )
}

/// What the evaluation's time was spent on, where the parties have a GPU.
pub(crate) fn splits(records: &[Record], style: Style) -> Table {
    table(style, &headers(columns::SPLITS), 3, split_rows(records))
}

/// The rows of [`splits`].
pub(crate) fn split_rows(records: &[Record]) -> impl Iterator<Item = Vec<String>> {
    records.iter().filter(|record| is_split(record)).map(|record| {
        let millis = |value: f64| format!("{value:.2}");
        vec![
            record.model.clone(),
            named(record),
            record.link.clone(),
            millis(record.eval_ms),
            millis(record.kernel_ms),
            millis(record.copy_ms),
            millis(record.wait_ms),
            millis(record.comm_ms),
            format!("{}, {}", record.processor_mhz, record.memory_mhz),
        ]
    })
}

/// Whether the record's computing is split further: a CPU's is all kernels.
pub(crate) fn is_split(record: &Record) -> bool {
    record.backend == "cuda"
}

/// What stands above [`splits`].
pub(crate) const SPLIT_NOTE: &str = "Parts of the evaluation's time on a GPU, in milliseconds. Kernels and copies are timed by the card's clock.";

/// Measured seconds on shaped links beside the projection from the same row's loopback record, and the published
/// projection of the original systems.
pub(crate) fn links(records: &[Record], style: Style) -> Table {
    table(
        style,
        &headers(columns::LINKS),
        3,
        records.iter().filter(|record| is_shaped(record)).map(|record| {
            let LinkFigures { measured, projected, limit, published } = LinkFigures::of(record, records);
            let link = format!("{} ({})", record.link, record.link_kind);
            vec![record.model.clone(), named(record), link, measured, projected, limit, published]
        }),
    )
}

/// Whether the record's link has a delay and a rate that are set.
pub(crate) fn is_shaped(record: &Record) -> bool {
    record.link != "loopback"
}

/// Seconds of a record on a shaped link, written out; empty where there is no such figure.
pub(crate) struct LinkFigures {
    /// The whole gate.
    pub(crate) measured: String,
    /// The published formula on the loopback record's computation, for the two links that it has.
    pub(crate) projected: String,
    /// See [`limit_s`].
    pub(crate) limit: String,
    /// What was published for the original system, likewise.
    pub(crate) published: String,
}

impl LinkFigures {
    /// The figures of `record`, one of `records`.
    pub(crate) fn of(record: &Record, records: &[Record]) -> Self {
        let base = base_of(records, record);
        let published = published::find(&record.model, &record.protocol);
        let pick = |lan: f64, wan: f64| match record.link.as_str() {
            "lan" => seconds(lan),
            "wan" => seconds(wan),
            _ => String::new(),
        };
        Self {
            measured: seconds(record.eval_ms / 1e3),
            projected: pick(base.lan_proj_s, base.wan_proj_s),
            limit: limit_s(record).map_or_else(String::new, seconds),
            published: published.map_or_else(String::new, |row| pick(row.lan_s, row.wan_s)),
        }
    }
}

/// The least time that the link and the computation allow. It is half a round trip for each round, the bits of one
/// direction at the link's rate, and the computation.
pub(crate) fn limit_s(record: &Record) -> Option<f64> {
    let profile = suf_link::LinkProfile::find(&record.link).ok()?;
    let delay_s = profile.delay_ms / 1e3 * f64::from(record.eval_rounds);
    let bits_s = record.sent_bytes as f64 * 8.0 / profile.rate_bps as f64;
    Some(delay_s + bits_s + record.comp_ms / 1e3)
}

/// The record of the same row on loopback, whose computation is undisturbed by an emulated link, or the record itself.
pub(crate) fn base_of<'a>(records: &'a [Record], record: &'a Record) -> &'a Record {
    let same = |other: &&Record| {
        (&other.model, &other.protocol, &other.shape, other.gate_elems, other.link.as_str())
            == (&record.model, &record.protocol, &record.shape, record.gate_elems, "loopback")
    };
    records.iter().find(same).unwrap_or(record)
}

/// What computing costs on one core, one row per record.
pub(crate) fn costs(records: &[KernelRecord], style: Style) -> Table {
    table(style, &headers(columns::COSTS), 2, cost_rows(records))
}

/// The rows of [`costs`].
pub(crate) fn cost_rows(records: &[KernelRecord]) -> impl Iterator<Item = Vec<String>> {
    let over = |ns: f64, limit: Option<f64>| match limit {
        Some(limit) if limit > 0.0 => format!("{:.1}", ns / limit),
        _ => String::new(),
    };
    records.iter().map(move |record| {
        let calls = |pick: fn(AesCalls) -> String| record.aes_calls.map(pick).unwrap_or_default();
        vec![
            record.gate.clone(),
            kernel_name(record),
            format!("{:.3}", record.key_bytes_per_elem),
            format!("{:.1}", record.deal_ns),
            calls(|calls| calls.deal.to_string()),
            over(record.deal_ns, record.deal_limit_ns()),
            format!("{:.1}", record.eval_ns_seeded),
            format!("{:.1}", record.eval_ns_explicit),
            format!("{:.1}", record.eval_ns()),
            calls(|calls| match (calls.eval_seeded, calls.eval_explicit) {
                (seeded, explicit) if seeded == explicit => seeded.to_string(),
                (seeded, explicit) => format!("{seeded}, {explicit}"),
            }),
            over(record.eval_ns(), record.eval_limit_ns()),
        ]
    })
}

/// Where [`costs`] were measured, and what their limit is.
pub(crate) fn costs_note(records: &[KernelRecord]) -> String {
    let hardware: BTreeSet<_> = records.iter().map(|record| record.hardware.as_str()).collect();
    let aes: BTreeSet<_> = records.iter().map(|record| format!("{:.2}", record.aes_ns)).collect();
    format!(
        "One core of {}, nanoseconds per element, medians of {} tiles of {} elements. The limit is the calls of AES at {} ns \
         each, as measured in a long stream.",
        hardware.into_iter().collect::<Vec<_>>().join(", "),
        records.iter().map(|record| record.samples).max().unwrap_or(0),
        TILE_ELEMS,
        aes.into_iter().collect::<Vec<_>>().join(", ")
    )
}

/// The evaluation step by step, one row per step.
pub(crate) fn steps(records: &[KernelRecord], style: Style) -> Table {
    let header = ["gate", "protocol", "step", "opens", "ns, seeded", "explicit"];
    let rows = records.iter().flat_map(|record| {
        record.steps.iter().zip(1..).map(|(step, number)| {
            vec![
                record.gate.clone(),
                kernel_name(record),
                number.to_string(),
                step.opens.clone(),
                format!("{:.1}", step.ns_seeded),
                format!("{:.1}", step.ns_explicit),
            ]
        })
    });
    table(style, &header, 4, rows)
}

/// The published second table's rows.
pub(crate) fn second(rows: &[second::SecondRow], style: Style) -> Table {
    let header = [
        "model",
        "gate",
        "elements",
        "table",
        "suf pred B",
        "suf lut B",
        "suf key B",
        "suf key ms",
        "suf eval ms",
        "sigma key B",
        "sigma key ms",
        "sigma eval ms",
    ];
    table(
        style,
        &header,
        2,
        rows.iter().map(|row| {
            let sigma =
                |figure: fn(&second::Sigma) -> String| row.sigma.as_ref().map(figure).unwrap_or_default();
            vec![
                row.model.clone(),
                row.gate.clone(),
                row.elems.to_string(),
                row.intervals.to_string(),
                row.pred_bytes.to_string(),
                row.lut_bytes.to_string(),
                row.key_bytes().to_string(),
                format!("{:.3}", row.key_ms),
                format!("{:.3}", row.eval_ms),
                sigma(|sigma| sigma.key_bytes.to_string()),
                sigma(|sigma| format!("{:.1}", sigma.key_ms)),
                sigma(|sigma| format!("{:.1}", sigma.eval_ms)),
            ]
        }),
    )
}

fn kernel_name(record: &KernelRecord) -> String {
    protocol_name(&record.protocol, &record.shape)
}

/// What a reader of the tables must know.
pub(crate) fn notes(records: &[Record]) -> Vec<String> {
    let mut notes = BTreeSet::new();
    for record in records.iter().filter(|record| record.protocol == "suf-lut") {
        let gate =
            gates::file(&record.gate).and_then(|file| gates::gate(&file, suf_gate::Protocol::SufLut, None));
        let caveat = match gate.map(|gate| gates::caveat(&gate)) {
            Ok(Some(caveat)) => caveat,
            // Of a user's file, which need not be there any more.
            _ => "suf-lut is a table on the low bits of x, right only near 0".to_owned(),
        };
        notes.insert(format!("{}: {caveat}.", record.gate));
    }
    for record in records {
        if let Some(count @ 1..) = record.without_reference {
            notes.insert(format!(
                "{} {}: {count} values have no error, because the function has no value there.",
                record.gate, record.protocol
            ));
        }
    }
    let mut notes: Vec<_> = notes.into_iter().collect();
    if records.iter().any(|record| record.link_kind == "shaped") {
        notes
            .push("shaped: delay and rate are emulated in the parties' sockets, not by tc netem.".to_owned());
    }
    notes.extend(unsaid(records));
    let inputs: BTreeSet<_> = records.iter().map(|record| record.inputs.as_str()).collect();
    notes.extend(inputs.into_iter().map(|inputs| format!("inputs: {inputs}.")));
    notes
}

/// What records of older versions do not say.
fn unsaid(records: &[Record]) -> Vec<String> {
    let count = |is_unsaid: fn(&Record) -> bool| records.iter().filter(|record| is_unsaid(record)).count();
    let fields = [
        ("what each node cost", count(|record| record.nodes.is_empty())),
        (
            "for how many values the function has none",
            count(|record| record.without_reference.is_none() && !record.is_of_model()),
        ),
    ];
    let unsaid = fields.into_iter().filter_map(|(what, count)| {
        let of = format!("{count} of {} records", records.len());
        (count > 0).then(|| format!("{of}, made by an older version, do not say {what}."))
    });
    unsaid.collect()
}

/// One record in one line.
pub(crate) fn line(record: &Record) -> String {
    format!(
        "{} {} {} {}: eval {:.2} ms ({:.2} computing), keys {:.2} ms + {:.2} ms shipping, {:.3} B/elem, {} rounds, {} wrong",
        record.link,
        record.model,
        record.gate,
        named(record),
        record.eval_ms,
        record.comp_ms,
        record.key_ms,
        record.ship_ms,
        record.key_bytes_per_elem(),
        record.eval_rounds,
        record.wrong
    )
}

/// The protocol with its shape, and a mark where it computes something else.
pub(crate) fn named(record: &Record) -> String {
    protocol_name(&record.protocol, &record.shape)
}

fn protocol_name(protocol: &str, shape: &str) -> String {
    match (protocol, shape) {
        ("suf-lut", _) => "suf-lut *".to_owned(),
        (protocol, "") => protocol.to_owned(),
        (protocol, shape) => format!("{protocol} {shape}"),
    }
}

/// A table whose columns from `numbers` on are numbers.
pub(crate) fn table(
    style: Style,
    header: &[&str],
    numbers: usize,
    rows: impl Iterator<Item = Vec<String>>,
) -> Table {
    let mut table = Table::new();
    table.load_style(match style {
        Style::Terminal => presets::UTF8_FULL_CONDENSED,
        Style::Markdown => presets::ASCII_MARKDOWN,
    });
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(crate) fn error(value: f64) -> String {
    if value < 100.0 { format!("{value:.5}") } else { format!("{value:.2e}") }
}

pub(crate) fn seconds(value: f64) -> String {
    format!("{value:.4}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::example;

    #[test]
    fn the_published_row_is_marked_and_explained() {
        let records = [example("suf-lut", "loopback"), example("onehot", "lan")];
        let table = figures(&records, Style::Markdown).to_string();
        assert!(table.contains("suf-lut *") && table.starts_with("| model"), "{table}");
        assert!(notes(&records)[0].contains("|x| < 1/32"));
        let own = [Record { gate: "my-own".into(), ..example("suf-lut", "loopback") }];
        assert!(notes(&own)[0].starts_with("my-own: suf-lut is a table"), "{:?}", notes(&own));
    }

    #[test]
    fn the_summary_has_the_quartiles_of_the_repeats() {
        let record = Record { eval_ms_samples: vec![3.0, 1.0, 2.0, 5.0, 4.0], ..example("onehot", "lan") };
        let table = summary(&[record], Style::Markdown).to_string();
        assert!(table.contains("2.00 to 4.00"), "{table}");
    }

    #[test]
    fn the_limit_is_rounds_bits_and_computation() {
        let record = example("onehot", "lan");
        let limit = limit_s(&record).unwrap();
        assert!((limit - (3.0 * 0.5e-3 + 8_625.0 * 8.0 / 8e9 + 5e-3)).abs() < 1e-9, "{limit}");
        assert!(limit_s(&example("onehot", "loopback")).is_some(), "loopback has a profile too");
    }

    #[test]
    fn projections_come_from_the_loopback_record() {
        let slow = Record { lan_proj_s: 9.0, ..example("onehot", "lan") };
        let records = [slow, example("onehot", "loopback")];
        assert!(base_of(&records, &records[0]).lan_proj_s < 1.0);
    }
}
