//! `report.html`: one file that needs nothing else, readable on a phone and on a desk.

use askama::Template;

use super::{distinct, models, plots};
use crate::{
    columns::{self, headers},
    kernel::KernelRecord,
    published,
    records::Record,
    slopes::Slope,
    tables::{self, LinkFigures},
};

/// The page.
#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    rows: Vec<FigureRow<'a>>,
    models: Vec<ModelPart>,
    links: Vec<LinkRow<'a>>,
    cost_columns: [&'static str; columns::COSTS.len()],
    costs: Vec<Vec<String>>,
    costs_note: String,
    splits: Vec<Vec<String>>,
    split_columns: [&'static str; columns::SPLITS.len()],
    split_note: &'static str,
    charts: Vec<plots::Chart>,
    notes: Vec<String>,
    published: &'static str,
    machine: String,
    hardware: String,
    version: String,
    repeats: u32,
    dealer_mib: u64,
    party_mib: u64,
    peaks_since: String,
    load: String,
}

/// A model's record.
struct ModelPart {
    title: String,
    figures: String,
    /// What its link predicts, and what its end waited for, as far as it says so.
    waits: String,
    waterfall: String,
}

/// A record in the main table.
struct FigureRow<'a> {
    record: &'a Record,
    protocol: String,
    key_bytes: String,
    key_ms: String,
    ship_ms: String,
    eval_ms: String,
    spread: String,
    comp_ms: String,
    comm_ms: String,
    max_err: String,
    rms_err: String,
}

/// A record on a shaped link.
struct LinkRow<'a> {
    record: &'a Record,
    protocol: String,
    figures: LinkFigures,
}

/// The page of `records`, of the lines that were measured with them, and of `costs` where there are any.
pub(super) fn page(
    records: &[Record],
    of_models: &[Record],
    slopes: &[Slope],
    costs: &[KernelRecord],
) -> Result<String, Box<dyn std::error::Error>> {
    let all = [records, of_models].concat();
    let most = |pick: fn(&Record) -> u64| all.iter().map(pick).max().unwrap_or(0) >> 20;
    let page = Page {
        rows: records.iter().map(FigureRow::new).collect(),
        models: of_models.iter().filter_map(ModelPart::new).collect(),
        links: link_rows(records),
        cost_columns: headers(columns::COSTS),
        costs: tables::cost_rows(costs).collect(),
        costs_note: tables::costs_note(costs),
        splits: tables::split_rows(records).collect(),
        split_columns: headers(columns::SPLITS),
        split_note: tables::SPLIT_NOTE,
        charts: plots::charts(records, slopes)?,
        notes: tables::notes(records),
        published: published::SOURCE,
        machine: distinct(&all, |record| &record.machine),
        hardware: distinct(&all, |record| &record.hardware),
        version: distinct(&all, |record| &record.version),
        repeats: all.iter().map(|record| record.repeats).max().unwrap_or(0),
        dealer_mib: most(|record| record.dealer_peak_bytes),
        party_mib: most(|record| record.party_peak_bytes),
        peaks_since: super::peaks_since(&all),
        load: format!("{:.2}", all.iter().map(|record| record.load).fold(0.0, f64::max)),
    };
    Ok(page.render()?)
}

impl ModelPart {
    fn new(record: &Record) -> Option<Self> {
        let model = record.of_model.as_ref()?;
        Some(Self {
            title: format!("{} at {} tokens, {}", record.model, model.tokens, record.link),
            figures: format!(
                "{}. SIGMA by formula: {} rounds, {:.1} MB sent, {:.0} MB of keys.",
                models::line(record),
                model.sigma_rounds,
                model.sigma_sent_bytes as f64 / 1e6,
                model.sigma_key_bytes as f64 / 1e6
            ),
            waits: models::sentences(record),
            waterfall: models::waterfall(record),
        })
    }
}

impl<'a> FigureRow<'a> {
    fn new(record: &'a Record) -> Self {
        let millis = |value: f64| format!("{value:.2}");
        Self {
            record,
            protocol: tables::named(record),
            key_bytes: format!("{:.3}", record.key_bytes_per_elem()),
            key_ms: millis(record.key_ms),
            ship_ms: millis(record.ship_ms),
            eval_ms: millis(record.eval_ms),
            spread: tables::spread(record),
            comp_ms: millis(record.comp_ms),
            comm_ms: millis(record.comm_ms),
            max_err: tables::error(record.max_err),
            rms_err: tables::error(record.rms_err),
        }
    }
}

fn link_rows(records: &[Record]) -> Vec<LinkRow<'_>> {
    let shaped = records.iter().filter(|record| tables::is_shaped(record));
    shaped
        .map(|record| LinkRow {
            record,
            protocol: tables::named(record),
            figures: LinkFigures::of(record, records),
        })
        .collect()
}
