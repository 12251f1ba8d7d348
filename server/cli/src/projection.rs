//! The published projection of a gate's time on a LAN and a WAN, beside the measured times. The
//! formula is seconds = computation + 2 * `eval_bytes` / bandwidth + rounds * latency.
//!
//! `eval_bytes` is sent plus received already, so the formula charges a full-duplex link four times its busier
//! direction. It is reproduced as published.

/// A link of the published projection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Projection {
    /// Bytes per second.
    bandwidth: f64,
    /// Seconds per round.
    latency: f64,
}

impl Projection {
    /// 1e9 B/s, 0.5 ms.
    pub const LAN: Self = Self { bandwidth: 1e9, latency: 0.5e-3 };
    /// 400e6 B/s, 4 ms.
    pub const WAN: Self = Self { bandwidth: 400e6, latency: 4e-3 };

    /// Seconds for a gate that computes for `comp_ms` and exchanges `eval_bytes` (sent plus received) in `rounds`.
    #[must_use]
    pub fn seconds(self, comp_ms: f64, eval_bytes: u64, rounds: u32) -> f64 {
        comp_ms / 1e3 + 2.0 * eval_bytes as f64 / self.bandwidth + f64::from(rounds) * self.latency
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published;

    #[test]
    fn the_published_seconds_follow_from_the_published_rows() {
        for row in published::rows() {
            for system in [&row.sigma, &row.suf] {
                for (link, published) in [(Projection::LAN, system.lan_s), (Projection::WAN, system.wan_s)] {
                    let seconds = link.seconds(system.comp_ms, system.eval_bytes, system.eval_rounds);
                    assert!((seconds - published).abs() < 1e-9, "{}: {seconds} {published}", row.model);
                }
            }
        }
    }
}
