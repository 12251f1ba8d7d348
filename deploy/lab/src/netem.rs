//! A profile as arguments of `tc netem`, and the counters of a queueing discipline.

use serde::{Deserialize, Serialize};
use suf_link::LinkProfile;

use crate::error::LabError;

/// The options of `tc qdisc ... netem` for one end of a link.
///
/// netem shapes what leaves an interface; both ends together make the link. Its rate counts whole Ethernet frames, as the
/// profile's does. Packets that a sender hands over at once (segmentation offload, ten at most with QUIC) are one to netem.
/// They are lost together, and counted as one drop.
pub(crate) fn options(profile: &LinkProfile) -> Vec<String> {
    let us = |ms: f64| format!("{:.0}us", ms * 1e3);
    let mut options = vec!["delay".to_owned(), us(profile.delay_ms)];
    if profile.jitter_ms > 0.0 {
        options.push(us(profile.jitter_ms));
    }
    if profile.loss > 0.0 {
        options.extend(["loss".to_owned(), format!("{:.4}%", profile.loss * 100.0)]);
    }
    let rate = format!("{}bit", profile.rate_bps);
    options.extend(["rate".to_owned(), rate, "limit".to_owned(), profile.limit_packets.to_string()]);
    options
}

/// What a queueing discipline has counted since it was set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes sent, Ethernet headers included.
    pub bytes: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets dropped: by the profile's loss, or because the queue was full.
    pub drops: u64,
}

impl Counters {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(earlier.bytes),
            packets: self.packets.saturating_sub(earlier.packets),
            drops: self.drops.saturating_sub(earlier.drops),
        }
    }

    /// Whether `loss` explains the drops: within five standard deviations of what it takes on average.
    #[must_use]
    pub fn explained_by(self, loss: f64) -> bool {
        let offered = (self.packets + self.drops) as f64;
        let deviation = (offered * loss * (1.0 - loss)).sqrt();
        self.drops as f64 <= offered * loss + 5.0 * deviation
    }

    /// Reads what `tc -s -j qdisc show` prints for one interface.
    pub(crate) fn parse(json: &str) -> Result<Self, LabError> {
        let wrong = |problem: String| LabError::Command { command: "tc -s -j qdisc show".into(), problem };
        let shown: Vec<serde_json::Value> =
            serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
        let netem = shown.into_iter().find(|qdisc| qdisc["kind"] == "netem");
        let netem = netem.ok_or_else(|| wrong(format!("no netem in {json}")))?;
        serde_json::from_value(netem).map_err(|error| wrong(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_units() {
        let mut profile = LinkProfile::built_in("lan").unwrap();
        let plain = "delay 500us rate 8000000000bit limit 4000";
        assert_eq!(options(&profile).join(" "), plain);
        profile.jitter_ms = 0.25;
        profile.loss = 0.005;
        assert_eq!(
            options(&profile).join(" "),
            "delay 500us 250us loss 0.5000% rate 8000000000bit limit 4000"
        );
    }

    #[test]
    fn counters_are_read_as_tc_prints_them() {
        let json = r#"[{"kind":"netem","handle":"8001:","root":true,"options":{"limit":1000},"bytes":90,
            "packets":1,"drops":2,"overlimits":0,"requeues":0,"backlog":0,"qlen":0}]"#;
        assert_eq!(Counters::parse(json).unwrap(), Counters { bytes: 90, packets: 1, drops: 2 });
        assert!(Counters::parse(r#"[{"kind":"noqueue"}]"#).is_err());
    }

    #[test]
    fn drops_are_explained_by_loss_alone() {
        let counters = |packets, drops| Counters { bytes: 0, packets, drops };
        assert!(counters(1000, 0).explained_by(0.0));
        assert!(!counters(1000, 1).explained_by(0.0));
        assert!(counters(10_000, 50).explained_by(0.005));
        assert!(!counters(10_000, 100).explained_by(0.005));
    }
}
