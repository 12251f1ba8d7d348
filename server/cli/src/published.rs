//! The published comparison that this project reproduces, as its own JSON: SIGMA against SUF, 2 GPUs, loopback,
//! projected LAN and WAN seconds. Tests of our exports use it, and the column beside our figures.

use serde_json::Value;

pub(crate) const JSON: &str = include_str!("../published/compare_activation_fair.json");

/// The published second table, for the keys of ours.
#[cfg(test)]
pub(crate) const SECOND_JSON: &str = include_str!("../published/compare_activation.json");

/// Where the published figures come from, in a few words.
pub const SOURCE: &str =
    "published 2026-01-23, 2 x RTX PRO 6000, one machine, LAN and WAN projected by formula";

/// One model row.
#[derive(Debug, Clone)]
pub struct PublishedRow {
    /// Model row.
    pub model: String,
    /// SIGMA.
    pub sigma: System,
    /// SUF, here `suf-lut`.
    pub suf: System,
}

/// One system's figures in a row.
#[derive(Debug, Clone)]
pub struct System {
    /// Gate key bytes of one party.
    pub key_bytes: u64,
    /// Key generation, in milliseconds.
    pub key_ms: f64,
    /// Evaluation, in milliseconds.
    pub eval_ms: f64,
    /// Computing part of the evaluation.
    pub comp_ms: f64,
    /// Payload bytes sent and received by one party.
    pub eval_bytes: u64,
    /// Rounds.
    pub eval_rounds: u32,
    /// Projected LAN seconds.
    pub lan_s: f64,
    /// Projected WAN seconds.
    pub wan_s: f64,
}

/// All rows.
///
/// # Panics
/// Never: the text is part of the program, and a test parses it.
#[must_use]
pub fn rows() -> Vec<PublishedRow> {
    objects()
        .iter()
        .map(|object| PublishedRow {
            model: object["model"].as_str().expect("a name").to_owned(),
            sigma: System::of(object, "sigma"),
            suf: System::of(object, "suf"),
        })
        .collect()
}

/// The figures published for `model` under `protocol`, if there are any.
#[must_use]
pub fn find(model: &str, protocol: &str) -> Option<System> {
    let row = rows().into_iter().find(|row| row.model == model)?;
    match protocol {
        "sigma" => Some(row.sigma),
        "suf-lut" => Some(row.suf),
        _ => None,
    }
}

impl System {
    fn of(object: &Value, prefix: &str) -> Self {
        let gate = |key: &str| &object[format!("{prefix}_per_gate_{key}")];
        let real = |value: &Value| value.as_f64().expect("a number");
        let whole = |value: &Value| value.as_u64().expect("a whole number");
        Self {
            key_bytes: whole(gate("key_bytes")),
            key_ms: real(gate("key_ms")),
            eval_ms: real(gate("eval_ms")),
            comp_ms: real(gate("comp_ms")),
            eval_bytes: whole(gate("eval_bytes")),
            eval_rounds: u32::try_from(whole(gate("eval_rounds"))).expect("a few"),
            lan_s: real(&object[format!("{prefix}_lan_s")]),
            wan_s: real(&object[format!("{prefix}_wan_s")]),
        }
    }
}

fn objects() -> Vec<Value> {
    serde_json::from_str(JSON).expect("the embedded figures parse")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_rows_are_read() {
        assert_eq!(rows().len(), 4);
        let llama = find("llama7b", "sigma").unwrap();
        assert_eq!((llama.key_bytes, llama.eval_rounds), (867_078_224, 7));
        assert!(find("llama7b", "onehot").is_none());
    }
}
