//! `compare_activation_fair.csv` and `.json` have the published comparison's own columns and keys for `sigma` and
//! `suf` (its SUF is our `suf-lut`). The same follows for `onehot`, and the published projection beside the measured
//! seconds. Columns of what was not run are empty.

use std::{collections::BTreeSet, path::Path};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use crate::{error::Error, records::Record};

/// Prefix of the columns, and the protocol that fills them.
const SYSTEMS: [(&str, &str); 3] = [("sigma", "sigma"), ("suf", "suf-lut"), ("onehot", "onehot")];

/// The files of the comparison.
pub const FILES: [&str; 2] = ["compare_activation_fair.csv", "compare_activation_fair.json"];

/// Writes both files into `folder`.
///
/// # Errors
/// When one cannot be written.
pub fn write(folder: &Path, records: &[Record]) -> Result<(), Error> {
    let rows = rows(records);
    let cells: Vec<_> = rows.iter().map(ModelRow::csv).collect();
    write_csv(&folder.join(FILES[0]), &cells)?;
    let objects: Vec<_> = rows.iter().map(ModelRow::json).collect();
    write_json(&folder.join(FILES[1]), &objects)
}

/// Writes `value` as JSON over several lines.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::write(path, error))?;
    suf_files::write(path, (text + "\n").as_bytes()).map_err(|error| Error::write(path, error))
}

/// Writes rows of columns with values; all have the same columns.
pub(crate) fn write_csv(path: &Path, rows: &[Vec<(String, String)>]) -> Result<(), Error> {
    let in_memory = || -> Result<Vec<u8>, csv::Error> {
        let mut out = csv::Writer::from_writer(Vec::new());
        if let Some(first) = rows.first() {
            out.write_record(first.iter().map(|(column, _)| column))?;
        }
        for row in rows {
            out.write_record(row.iter().map(|(_, value)| value))?;
        }
        out.into_inner().map_err(|error| error.into_error().into())
    };
    let text = in_memory().map_err(|error| Error::write(path, error))?;
    suf_files::write(path, &text).map_err(|error| Error::write(path, error))
}

/// One model's records.
struct ModelRow<'a> {
    any: &'a Record,
    systems: [System<'a>; 3],
}

/// One protocol's records in a row.
#[derive(Default)]
struct System<'a> {
    /// Measured on loopback, or on the first link there is.
    base: Option<&'a Record>,
    lan: Option<&'a Record>,
    wan: Option<&'a Record>,
}

/// One row for each model and gate, in the order of the records.
fn rows(records: &[Record]) -> Vec<ModelRow<'_>> {
    let mut seen = BTreeSet::new();
    let firsts =
        records.iter().filter(|record| seen.insert((&record.model, &record.gate, record.gate_elems)));
    firsts
        .map(|any| {
            let of = |protocol: &str| {
                let mut own = records.iter().filter(|record| {
                    record.protocol == protocol
                        && (&record.model, &record.gate, record.gate_elems)
                            == (&any.model, &any.gate, any.gate_elems)
                });
                let on = |link: &str| own.clone().find(|record| record.link == link);
                let (lan, wan, loopback) = (on("lan"), on("wan"), on("loopback"));
                System { base: loopback.or_else(|| own.next()), lan, wan }
            };
            ModelRow { any, systems: SYSTEMS.map(|(_, protocol)| of(protocol)) }
        })
        .collect()
}

impl System<'_> {
    fn figure<T>(&self, figure: impl Fn(&Record) -> T) -> Option<T> {
        self.base.map(figure)
    }

    fn lan_s(&self) -> Option<f64> {
        self.lan.map(|record| record.eval_ms / 1e3)
    }

    fn wan_s(&self) -> Option<f64> {
        self.wan.map(|record| record.eval_ms / 1e3)
    }
}

impl ModelRow<'_> {
    /// Columns and values of the CSV.
    fn csv(&self) -> Vec<(String, String)> {
        let ModelRow { any, systems: [sigma, suf, onehot] } = self;
        let mut cells: Vec<(String, String)> = Vec::new();
        let mut put =
            |column: &str, value: Option<String>| cells.push((column.to_owned(), value.unwrap_or_default()));
        put("model", Some(any.model.clone()));
        put("gate", Some(any.gate.clone()));
        put("seq", Some(any.seq.to_string()));
        put("gate_elems", Some(any.gate_elems.to_string()));
        let mut system = |prefix: &str, system: &System<'_>| {
            let mut put = |column: &str, value: Option<String>| put(&format!("{prefix}_{column}"), value);
            put("key_bytes", system.figure(|record| whole(record.key_bytes)));
            put("key_ms", system.figure(|record| millis(record.key_ms)));
            put("eval_ms", system.figure(|record| millis(record.eval_ms)));
            put("eval_bytes", system.figure(|record| record.eval_bytes.to_string()));
            put("eval_rounds", system.figure(|record| record.eval_rounds.to_string()));
            put("lan_s", system.lan_s().map(seconds));
            put("wan_s", system.wan_s().map(seconds));
        };
        system("sigma", sigma);
        system("suf", suf);
        let ratios = |prefix: &str, other: &System<'_>| {
            let both = |figure: fn(&Record) -> f64| Some((sigma.figure(figure)?, other.figure(figure)?));
            [
                ("key_bytes_x", both(|record| record.key_bytes)),
                ("key_ms_x", both(|record| record.key_ms)),
                ("eval_ms_x", both(|record| record.eval_ms)),
                ("eval_bytes_x", both(|record| record.eval_bytes as f64)),
                ("lan_x", sigma.lan_s().zip(other.lan_s())),
                ("wan_x", sigma.wan_s().zip(other.wan_s())),
            ]
            .map(|(column, pair)| (format!("{prefix}{column}"), pair.map(ratio).unwrap_or_default()))
        };
        cells.extend(ratios("", suf));
        let mut put =
            |column: &str, value: Option<String>| cells.push((column.to_owned(), value.unwrap_or_default()));
        for (column, value) in [
            ("key_bytes", onehot.figure(|record| whole(record.key_bytes))),
            ("key_ms", onehot.figure(|record| millis(record.key_ms))),
            ("eval_ms", onehot.figure(|record| millis(record.eval_ms))),
            ("eval_bytes", onehot.figure(|record| record.eval_bytes.to_string())),
            ("eval_rounds", onehot.figure(|record| record.eval_rounds.to_string())),
            ("lan_s", onehot.lan_s().map(seconds)),
            ("wan_s", onehot.wan_s().map(seconds)),
        ] {
            put(&format!("onehot_{column}"), value);
        }
        cells.extend(ratios("onehot_", onehot));
        for ((prefix, _), system) in SYSTEMS.iter().zip(&self.systems) {
            let projected =
                |figure: fn(&Record) -> f64| system.figure(figure).map(seconds).unwrap_or_default();
            cells.push((format!("{prefix}_lan_proj_s"), projected(|record| record.lan_proj_s)));
            cells.push((format!("{prefix}_wan_proj_s"), projected(|record| record.wan_proj_s)));
        }
        cells
    }

    /// Keys and values of the JSON object.
    fn json(&self) -> Object {
        let any = self.any;
        let mut object = vec![
            ("model".to_owned(), json!(any.model)),
            ("gate".to_owned(), json!(any.gate)),
            ("seq".to_owned(), json!(any.seq)),
            ("gate_elems".to_owned(), json!(any.gate_elems)),
            ("gate_count".to_owned(), json!(any.gate_count)),
        ];
        for ((prefix, _), system) in SYSTEMS.iter().zip(&self.systems) {
            let whole = |figure: fn(&Record) -> u64| json!(system.figure(figure));
            let real = |figure: fn(&Record) -> f64| json!(system.figure(figure));
            object.extend(
                [
                    ("key_bytes", whole(|record| record.key_bytes.round() as u64)),
                    ("key_ms", real(|record| record.key_ms)),
                    ("eval_ms", real(|record| record.eval_ms)),
                    ("eval_bytes", whole(|record| record.eval_bytes)),
                    ("eval_rounds", whole(|record| u64::from(record.eval_rounds))),
                    ("comm_ms", real(|record| record.comm_ms)),
                    ("comp_ms", real(|record| record.comp_ms)),
                ]
                .map(|(key, value)| (format!("{prefix}_per_gate_{key}"), value)),
            );
            object.push((format!("{prefix}_lan_s"), json!(system.lan_s())));
            object.push((format!("{prefix}_wan_s"), json!(system.wan_s())));
        }
        for ((prefix, _), system) in SYSTEMS.iter().zip(&self.systems) {
            let projected = |figure: fn(&Record) -> f64| json!(system.figure(figure));
            object.push((format!("{prefix}_lan_proj_s"), projected(|record| record.lan_proj_s)));
            object.push((format!("{prefix}_wan_proj_s"), projected(|record| record.wan_proj_s)));
        }
        Object(object)
    }
}

/// A JSON object whose keys keep their order.
pub(crate) struct Object(Vec<(String, Value)>);

impl Object {
    /// From keys and values, in their order.
    pub(crate) fn new<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        Self(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The keys, in order.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

pub(crate) fn millis(value: f64) -> String {
    format!("{value:.3}")
}

fn seconds(value: f64) -> String {
    format!("{value:.6}")
}

/// Sigma's figure over the other's, as the published tables write it.
pub(crate) fn ratio((sigma, other): (f64, f64)) -> String {
    if other == 0.0 { "inf".to_owned() } else { format!("{:.2}", sigma / other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::example;

    /// Columns of the published CSV.
    const PUBLISHED_COLUMNS: &str = "model,gate,seq,gate_elems,sigma_key_bytes,sigma_key_ms,sigma_eval_ms,\
        sigma_eval_bytes,sigma_eval_rounds,sigma_lan_s,sigma_wan_s,suf_key_bytes,suf_key_ms,suf_eval_ms,\
        suf_eval_bytes,suf_eval_rounds,suf_lan_s,suf_wan_s,key_bytes_x,key_ms_x,eval_ms_x,eval_bytes_x,lan_x,wan_x";

    fn records() -> Vec<Record> {
        let mut records = vec![example("sigma", "loopback"), example("suf-lut", "loopback")];
        records[1].key_bytes = records[0].key_bytes / 4.0;
        records.push(Record { eval_ms: 75.0, ..example("onehot", "lan") });
        records
    }

    #[test]
    fn the_csv_begins_with_the_published_columns() {
        let records = records();
        let columns: Vec<_> = rows(&records)[0].csv().into_iter().map(|(column, _)| column).collect();
        assert_eq!(columns[..24].join(","), PUBLISHED_COLUMNS);
        let again: Vec<_> = PUBLISHED_COLUMNS
            .split(',')
            .filter_map(|column| column.strip_prefix("suf_").or(column.ends_with("_x").then_some(column)))
            .map(|column| format!("onehot_{column}"))
            .collect();
        assert_eq!(columns[24..24 + again.len()], again);
        assert_eq!(columns.iter().collect::<BTreeSet<_>>().len(), columns.len());
    }

    #[test]
    fn the_json_begins_with_the_published_keys() {
        let published: Vec<Value> = serde_json::from_str(crate::published::JSON).unwrap();
        let keys: BTreeSet<_> = published[0].as_object().unwrap().keys().cloned().collect();
        let records = records();
        let ours = rows(&records)[0].json().0;
        let first: BTreeSet<_> = ours[..keys.len()].iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(first, keys);
    }

    #[test]
    fn what_was_not_run_is_empty_and_ratios_are_those_of_sigma() {
        let records = records();
        let cells = rows(&records)[0].csv();
        let cell = |column: &str| &cells.iter().find(|(name, _)| name == column).unwrap().1;
        assert_eq!(cell("key_bytes_x"), "4.00");
        assert_eq!(cell("sigma_lan_s"), "");
        assert_eq!(cell("onehot_lan_s"), "0.075000");
        assert_eq!(cell("onehot_wan_s"), "");
        assert_eq!(cell("lan_x"), "");
        assert_eq!(ratio((1.0, 0.0)), "inf");
    }
}
