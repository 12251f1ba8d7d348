//! `compare_activation.csv` and `.json`: the published second table, in its own columns and keys. Its SUF is
//! one mask per tensor, computed and not sent; SIGMA beside it is the protocol, of which only the
//! computation is timed.

use std::{hint::black_box, path::Path};

use serde::Serialize;
use serde_json::json;
use suf_cpu::costs::cpu_seconds;
use suf_gate::{Gate, Party, Protocol, Shape, ring::WIRE};

use super::{
    KernelRecord,
    one_mask::{HELPERS, Key, OneMask},
};
use crate::{
    error::Error,
    exports::{Object, millis, ratio, write_csv, write_json},
    gates,
    models::{Model, Models},
    records::median,
};

/// What must stand beside these figures wherever they are printed.
pub const LABEL: &str = "one mask per tensor: insecure, compute only";

/// Degree of the published SUF's polynomials: constants.
const DEGREE: u32 = 0;

/// One model row. Times are medians on one core, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecondRow {
    /// Model row.
    pub model: String,
    /// Name of the function.
    pub gate: String,
    /// Sequence length.
    pub seq: u64,
    /// Elements of the tensor.
    pub elems: u64,
    /// Gates of this size in one inference.
    pub count: u32,
    /// Entries of the table.
    pub intervals: u64,
    /// One party's key of the helper bits.
    pub pred_bytes: u64,
    /// One party's share of the table.
    pub lut_bytes: u64,
    /// Making the helpers' keys, both parties'.
    pub pred_ms: f64,
    /// Making the shares of the table.
    pub lut_ms: f64,
    /// Making both.
    pub key_ms: f64,
    /// One party's evaluation of the tensor.
    pub eval_ms: f64,
    /// SIGMA on the same tensor, where it was measured.
    pub sigma: Option<Sigma>,
}

/// SIGMA's side of a row: one core's computation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sigma {
    /// Key bytes of one party.
    pub key_bytes: u64,
    /// Making both parties' keys.
    pub key_ms: f64,
    /// Payload bytes that one party sends and receives.
    pub eval_bytes: u64,
    /// One party's evaluation.
    pub eval_ms: f64,
}

/// A row for every model at sequence length `seq` whose gate has a published table. The one-mask kernel is timed here, over
/// `samples` after one to warm up. SIGMA's figures are those of `records`.
///
/// # Errors
/// When the system gives no entropy.
pub fn measure(seq: u64, samples: usize, records: &[KernelRecord]) -> Result<Vec<SecondRow>, Error> {
    let mut rows = Vec::new();
    for (name, model) in Models::built_in() {
        let file = gates::file(&model.gate)?;
        if let Ok(gate) = gates::gate(&file, Protocol::SufLut, None) {
            let sigma = gates::gate(&file, Protocol::Sigma, None).ok();
            rows.push(SecondRow::measure(name, &model, seq, &gate, sigma.as_ref(), samples, records));
        }
    }
    rows.into_iter().collect()
}

/// The files of this table.
pub const FILES: [&str; 2] = ["compare_activation.csv", "compare_activation.json"];

/// Writes `compare_activation.csv` and `.json` into `folder`.
///
/// # Errors
/// When one cannot be written.
pub fn write(folder: &Path, rows: &[SecondRow]) -> Result<(), Error> {
    let path = folder.join(FILES[0]);
    let cells: Vec<_> = rows.iter().map(SecondRow::csv).collect();
    write_csv(&path, &cells)?;
    let objects: Vec<_> = rows.iter().map(SecondRow::json).collect();
    write_json(&folder.join(FILES[1]), &objects)
}

impl SecondRow {
    fn measure(
        name: String,
        model: &Model,
        seq: u64,
        gate: &Gate,
        sigma: Option<&Gate>,
        samples: usize,
        records: &[KernelRecord],
    ) -> Result<Self, Error> {
        let Shape::SufLut(lut) = gate.shape() else { unreachable!("the gate was made for suf-lut") };
        let elems = seq * model.width;
        let kernel = OneMask::new(lut.table());
        let mut failure = None;
        let mut random = |out: &mut [u8]| {
            if let Err(error) = getrandom::fill(out) {
                failure.get_or_insert(error);
            }
        };
        let mut mask = [0; 8];
        random(&mut mask);
        let r = u64::from_le_bytes(mask);
        // Any input costs the same.
        let x_hat: Vec<u64> = (0..elems).map(|i| WIRE.reduce(i.wrapping_mul(0x1234_5678_9ABB))).collect();
        let [mut pred, mut lut_times, mut keys, mut evals] = [const { Vec::new() }; 4];
        let mut bytes = (0, 0);
        for sample in 0..=samples {
            let start = cpu_seconds();
            let [helpers, _] = black_box(kernel.deal_helpers(r, &mut random));
            let middle = cpu_seconds();
            let [table, _] = black_box(kernel.deal_table(r, &mut random));
            let end = cpu_seconds();
            let key = Key::new(helpers, table);
            bytes = (key.helper_bytes() as u64, key.table_bytes() as u64);
            let begin = cpu_seconds();
            black_box(kernel.eval(0, &key, black_box(&x_hat)));
            let done = cpu_seconds();
            if sample > 0 {
                let times = [middle - start, end - middle, end - start, done - begin];
                for (series, seconds) in
                    [&mut pred, &mut lut_times, &mut keys, &mut evals].into_iter().zip(times)
                {
                    series.push(seconds * 1e3);
                }
            }
        }
        if let Some(error) = failure {
            let reason = format!("the system gives no entropy: {error}");
            return Err(Error::here(suf_control::v1::Fault::Device, reason));
        }
        Ok(Self {
            model: name,
            gate: gate.name().to_owned(),
            seq,
            elems,
            count: model.layers,
            intervals: lut.table().len() as u64,
            pred_bytes: bytes.0,
            lut_bytes: bytes.1,
            pred_ms: median(&pred),
            lut_ms: median(&lut_times),
            key_ms: median(&keys),
            eval_ms: median(&evals),
            sigma: sigma.and_then(|sigma| Sigma::of(sigma, elems, records)),
        })
    }

    /// One party's whole key.
    #[must_use]
    pub fn key_bytes(&self) -> u64 {
        self.pred_bytes + self.lut_bytes
    }

    /// Columns and values of the CSV: the published ones, and the label.
    fn csv(&self) -> Vec<(String, String)> {
        let sigma = |figure: fn(&Sigma) -> String| self.sigma.as_ref().map(figure).unwrap_or_default();
        let over = |figure: fn(&Sigma) -> f64, ours: f64| {
            self.sigma.as_ref().map(|sigma| ratio((figure(sigma), ours))).unwrap_or_default()
        };
        [
            ("model", self.model.clone()),
            ("gate", self.gate.clone()),
            ("seq", self.seq.to_string()),
            ("gate_elems", self.elems.to_string()),
            ("gate_count", self.count.to_string()),
            ("suf_intervals", self.intervals.to_string()),
            ("suf_degree", DEGREE.to_string()),
            ("suf_helpers", HELPERS.to_string()),
            ("suf_pred_bytes", self.pred_bytes.to_string()),
            ("suf_lut_bytes", self.lut_bytes.to_string()),
            ("suf_key_bytes", self.key_bytes().to_string()),
            ("suf_key_ms", millis(self.key_ms)),
            ("suf_eval_ms", millis(self.eval_ms)),
            ("sigma_key_bytes", sigma(|sigma| sigma.key_bytes.to_string())),
            ("sigma_key_ms", sigma(|sigma| millis(sigma.key_ms))),
            ("sigma_eval_bytes", sigma(|sigma| sigma.eval_bytes.to_string())),
            ("sigma_eval_ms", sigma(|sigma| millis(sigma.eval_ms))),
            ("key_bytes_x", over(|sigma| sigma.key_bytes as f64, self.key_bytes() as f64)),
            ("key_ms_x", over(|sigma| sigma.key_ms, self.key_ms)),
            ("eval_ms_x", over(|sigma| sigma.eval_ms, self.eval_ms)),
            ("eval_bytes_x", over(|sigma| sigma.eval_bytes as f64, 0.0)),
            ("note", LABEL.to_owned()),
        ]
        .map(|(column, value)| (column.to_owned(), value))
        .into()
    }

    /// Keys and values of the JSON object: the published ones, and the label.
    fn json(&self) -> Object {
        let count = u64::from(self.count);
        let total = |one: f64| one * f64::from(self.count);
        let whole = |figure: fn(&Sigma) -> u64| json!(self.sigma.as_ref().map(figure));
        let whole_total =
            |figure: fn(&Sigma) -> u64| json!(self.sigma.as_ref().map(|sigma| figure(sigma) * count));
        let real = |figure: fn(&Sigma) -> f64| json!(self.sigma.as_ref().map(figure));
        let real_total =
            |figure: fn(&Sigma) -> f64| json!(self.sigma.as_ref().map(|sigma| total(figure(sigma))));
        Object::new([
            ("model", json!(self.model)),
            ("gate", json!(self.gate)),
            ("seq", json!(self.seq)),
            ("gate_elems", json!(self.elems)),
            ("gate_count", json!(self.count)),
            ("suf_intervals", json!(self.intervals)),
            ("suf_degree", json!(DEGREE)),
            ("suf_helpers", json!(HELPERS)),
            ("suf_pred_bytes", json!(self.pred_bytes)),
            ("suf_lut_bytes", json!(self.lut_bytes)),
            ("suf_per_gate_key_bytes", json!(self.key_bytes())),
            ("suf_total_key_bytes", json!(self.key_bytes() * count)),
            ("suf_pred_ms", json!(self.pred_ms)),
            ("suf_lut_ms", json!(self.lut_ms)),
            ("suf_per_gate_key_ms", json!(self.key_ms)),
            ("suf_total_key_ms", json!(total(self.key_ms))),
            ("suf_per_gate_eval_ms", json!(self.eval_ms)),
            ("suf_total_eval_ms", json!(total(self.eval_ms))),
            ("suf_per_gate_eval_bytes", json!(0)),
            ("suf_total_eval_bytes", json!(0)),
            ("sigma_per_gate_key_bytes", whole(|sigma| sigma.key_bytes)),
            ("sigma_total_key_bytes", whole_total(|sigma| sigma.key_bytes)),
            ("sigma_per_gate_key_ms", real(|sigma| sigma.key_ms)),
            ("sigma_total_key_ms", real_total(|sigma| sigma.key_ms)),
            ("sigma_per_gate_eval_ms", real(|sigma| sigma.eval_ms)),
            ("sigma_total_eval_ms", real_total(|sigma| sigma.eval_ms)),
            ("sigma_per_gate_eval_bytes", whole(|sigma| sigma.eval_bytes)),
            ("sigma_total_eval_bytes", whole_total(|sigma| sigma.eval_bytes)),
            ("note", json!(LABEL)),
        ])
    }
}

impl Sigma {
    /// From the record of `gate`, if it was measured.
    fn of(gate: &Gate, elems: u64, records: &[KernelRecord]) -> Option<Self> {
        let record =
            records.iter().find(|record| record.protocol == "sigma" && record.gate == gate.name())?;
        let millis = |ns: f64| ns * elems as f64 / 1e6;
        Some(Self {
            key_bytes: gate.batch_key_bytes(Party::P0, elems),
            key_ms: millis(record.deal_ns),
            eval_bytes: (2 * gate.batch_message_bits(elems)).div_ceil(8),
            eval_ms: millis(record.eval_ns()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::kernel::tests::example;

    /// Columns of the published CSV.
    const PUBLISHED_COLUMNS: &str = "model,gate,seq,gate_elems,gate_count,suf_intervals,suf_degree,suf_helpers,\
        suf_pred_bytes,suf_lut_bytes,suf_key_bytes,suf_key_ms,suf_eval_ms,sigma_key_bytes,sigma_key_ms,\
        sigma_eval_bytes,sigma_eval_ms,key_bytes_x,key_ms_x,eval_ms_x,eval_bytes_x";

    #[test]
    fn columns_and_keys_are_the_published_ones_and_the_label() {
        let records = [example("gelu", Protocol::Sigma)];
        let rows = measure(1, 1, &records).unwrap();
        let columns: Vec<_> = rows[0].csv().into_iter().map(|(column, _)| column).collect();
        assert_eq!(columns.join(","), format!("{PUBLISHED_COLUMNS},note"));
        let published: Vec<Value> = serde_json::from_str(crate::published::SECOND_JSON).unwrap();
        let keys: BTreeSet<&str> = published[0].as_object().unwrap().keys().map(String::as_str).collect();
        let object = rows[0].json();
        let ours: BTreeSet<&str> = object.keys().filter(|key| *key != "note").collect();
        assert_eq!(ours, keys);
    }

    #[test]
    fn sigma_is_there_where_it_was_measured() {
        let rows = measure(1, 1, &[example("gelu", Protocol::Sigma)]).unwrap();
        for row in rows {
            let sigma = row.csv().into_iter().find(|(column, _)| column == "sigma_key_ms").unwrap().1;
            assert_eq!(row.sigma.is_some(), row.gate == "gelu", "{}", row.model);
            assert_eq!(sigma.is_empty(), row.gate != "gelu", "{}", row.model);
            if let Some(sigma) = row.sigma {
                assert!((sigma.key_ms - 300.0 * row.elems as f64 / 1e6).abs() < 1e-9);
                assert_eq!(sigma.eval_bytes, row.elems * 139 / 4);
            }
        }
    }
}
