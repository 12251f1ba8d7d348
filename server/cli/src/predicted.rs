//! The time that a link's delay and rate predict for a program, beside the measured one.
//!
//! It is rounds x delay + bits of one direction / rate + the time of the same program on loopback. Nothing of that overlaps, so
//! the prediction is no lower limit.

use serde::{Deserialize, Serialize};
use suf_link::LinkProfile;

use crate::{
    cluster::{LOOPBACK, Placement, Setup},
    error::Error,
    records::Record,
};

/// What is predicted for a record of a link with a delay and a rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Delay of one direction, as the link is set, in milliseconds.
    pub delay_ms: f64,
    /// Rate of one direction, as the link is set, in bits per second.
    pub link_bps: u64,
    /// Rounds times delay.
    pub rounds_ms: f64,
    /// Payload bits of one direction over the rate.
    pub bits_ms: f64,
    /// `eval_ms` of the same program on loopback, by the same bench.
    pub loopback_ms: f64,
    /// The sum of the three.
    pub predicted_ms: f64,
    /// `eval_ms` over the prediction.
    pub ratio: f64,
}

impl Prediction {
    /// What the figures of `loopback` predict for `measured`, a record of the same program over a link with `profile`.
    #[must_use]
    pub fn of(measured: &Record, loopback: &Record, profile: &LinkProfile) -> Self {
        let rounds_ms = f64::from(measured.eval_rounds) * profile.delay_ms;
        let bits_ms = measured.sent_bytes as f64 * 8e3 / profile.rate_bps as f64;
        let predicted_ms = rounds_ms + bits_ms + loopback.eval_ms;
        Self {
            delay_ms: profile.delay_ms,
            link_bps: profile.rate_bps,
            rounds_ms,
            bits_ms,
            loopback_ms: loopback.eval_ms,
            predicted_ms,
            ratio: measured.eval_ms / predicted_ms,
        }
    }
}

/// `setups`, after loopback if a link has a delay and a rate: what such a link predicts begins from the time on loopback.
pub(crate) fn beside_loopback(mut setups: Vec<Setup>) -> Vec<Setup> {
    setups.sort_by_key(|setup| !is_loopback(setup));
    if let Some(first) = setups.first().filter(|first| !is_loopback(first)) {
        let loopback =
            Setup { link: LOOPBACK.into(), shaped: false, placement: Placement::Loopback, ..first.clone() };
        setups.insert(0, loopback);
    }
    setups
}

/// Whether the link has neither a delay nor a rate that are set.
pub(crate) fn is_loopback(setup: &Setup) -> bool {
    !setup.shaped && matches!(setup.placement, Placement::Loopback)
}

/// Says what the link of `record` predicts, if it has a delay and a rate. The record of the same program on loopback is one of
/// `before`.
///
/// # Errors
/// When the link's profile cannot be read any more.
pub(crate) fn predict(record: &mut Record, setup: &Setup, before: &[Record]) -> Result<(), Error> {
    let profile = match &setup.placement {
        Placement::Lab(lab) => lab.plan().peer.profile.clone(),
        Placement::Loopback if is_loopback(setup) => return Ok(()),
        Placement::Loopback => LinkProfile::find(&setup.link).map_err(Error::usage)?,
    };
    let loopback = before.iter().find(|other| other.link == LOOPBACK && other.is_same_program(record));
    let prediction = loopback.map(|loopback| Prediction::of(record, loopback, &profile));
    if let Some(of_model) = &mut record.of_model {
        of_model.prediction = prediction;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::example;

    #[test]
    fn loopback_comes_first_and_is_added_where_it_is_missing() {
        let setup = |link: &str| Setup {
            link: link.into(),
            shaped: link != LOOPBACK,
            backend: "cpu".into(),
            placement: Placement::Loopback,
            model: None,
            checked: true,
        };
        let links = |of: &[&str]| -> Vec<String> {
            let setups = beside_loopback(of.iter().map(|link| setup(link)).collect());
            assert!(setups.iter().all(|setup| setup.shaped == (setup.link != LOOPBACK) && setup.checked));
            setups.into_iter().map(|setup| setup.link).collect()
        };
        assert_eq!(links(&["loopback"]), ["loopback"]);
        assert_eq!(links(&["lan", "wan"]), ["loopback", "lan", "wan"]);
        assert_eq!(links(&["wan", "loopback", "lan"]), ["loopback", "wan", "lan"]);
    }

    #[test]
    fn a_prediction_is_rounds_bits_and_loopback() {
        let loopback = Record { eval_ms: 100.0, ..example("onehot", "loopback") };
        let measured =
            Record { eval_ms: 330.0, eval_rounds: 30, sent_bytes: 50_000_000, ..example("onehot", "wan") };
        let profile = LinkProfile::built_in("wan").unwrap();
        let found = Prediction::of(&measured, &loopback, &profile);
        assert_eq!((found.rounds_ms, found.bits_ms, found.loopback_ms), (120.0, 125.0, 100.0));
        assert_eq!((found.delay_ms, found.link_bps), (4.0, 3_200_000_000));
        assert_eq!((found.predicted_ms, found.ratio), (345.0, 330.0 / 345.0));
    }
}
