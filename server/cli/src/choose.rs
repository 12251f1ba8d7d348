//! Which protocol for which link: key bytes over the dealer's rate, plus rounds times the delay, plus bits over the rate
//! between the parties.

use suf_control::v1::Link;
use suf_gate::{Gate, layout::Party};

/// Rate taken for a link that does not know its own, in bits per second: a common data-centre port.
const ASSUMED_RATE_BPS: f64 = 10e9;

/// What the choice is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// One direction between the parties, in milliseconds.
    pub delay_ms: f64,
    /// Between the parties, in bits per second.
    pub peer_bps: f64,
    /// From the dealer to one party, in bits per second.
    pub dealer_bps: f64,
}

impl Measured {
    /// From the links as a party reports them; a link that is down or unmeasured counts as fast.
    #[must_use]
    pub fn of(peer: Option<&Link>, dealer: Option<&Link>) -> Self {
        let rate = |link: Option<&Link>| match link {
            Some(link) if link.rate_bps > 0.0 => link.rate_bps,
            _ => ASSUMED_RATE_BPS,
        };
        Self {
            delay_ms: peer.map_or(0.0, |link| link.rtt_ms / 2.0),
            peer_bps: rate(peer),
            dealer_bps: rate(dealer),
        }
    }

    /// Predicted milliseconds for `gate` on `elements` elements, computation aside.
    #[must_use]
    pub fn cost(&self, gate: &Gate, elements: u64) -> Cost {
        // The dealer fills both links at once: the party with the longer key decides.
        let key_bytes =
            gate.batch_key_bytes(Party::P0, elements).max(gate.batch_key_bytes(Party::P1, elements));
        Cost {
            keys_ms: key_bytes as f64 * 8e3 / self.dealer_bps,
            rounds_ms: f64::from(gate.declared().rounds) * self.delay_ms,
            bits_ms: gate.batch_message_bits(elements) as f64 * 1e3 / self.peer_bps,
        }
    }

    /// The cheapest of `gates`, and why, in one line.
    #[must_use]
    pub fn choose(&self, gates: Vec<Gate>, elements: u64) -> Option<(Gate, String)> {
        let mut costs: Vec<_> = gates
            .into_iter()
            .map(|gate| {
                let cost = self.cost(&gate, elements);
                (gate, cost)
            })
            .collect();
        costs.sort_by(|(_, a), (_, b)| a.total_ms().total_cmp(&b.total_ms()));
        let list = costs.iter().map(|(gate, cost)| {
            format!(
                "{} {:.2} ms (keys {:.2} + rounds {:.2} + bits {:.2})",
                gate.protocol(),
                cost.total_ms(),
                cost.keys_ms,
                cost.rounds_ms,
                cost.bits_ms
            )
        });
        let why = format!(
            "at {:.3} ms each way, {:.2} Gbit/s between the parties and {:.2} Gbit/s from the dealer: {}",
            self.delay_ms,
            self.peer_bps / 1e9,
            self.dealer_bps / 1e9,
            list.collect::<Vec<_>>().join(", ")
        );
        costs.into_iter().next().map(|(gate, _)| (gate, why))
    }
}

/// A predicted cost by its causes, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Shipping the keys.
    pub keys_ms: f64,
    /// Delay of the rounds.
    pub rounds_ms: f64,
    /// The messages' bits.
    pub bits_ms: f64,
}

impl Cost {
    /// All of it.
    #[must_use]
    pub fn total_ms(&self) -> f64 {
        self.keys_ms + self.rounds_ms + self.bits_ms
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::Protocol;

    use super::*;
    use crate::gates;

    #[test]
    fn the_cost_is_the_sum_of_its_causes() {
        let gate = gates::gate(&gates::file("gelu").unwrap(), Protocol::Onehot, None).unwrap();
        let link = Measured { delay_ms: 4.0, peer_bps: 1e9, dealer_bps: 1e9 };
        let cost = link.cost(&gate, 1_000_000);
        assert_eq!((cost.rounds_ms, cost.bits_ms), (12.0, 69.0));
        let (chosen, why) = link.choose(vec![gate.clone()], 1_000_000).unwrap();
        assert_eq!(chosen, gate);
        assert!(why.contains("rounds 12.00"), "{why}");
    }

    #[test]
    fn an_unmeasured_link_counts_as_fast() {
        let link = Measured::of(Some(&Link { rtt_ms: 1.0, ..Link::default() }), None);
        assert_eq!(
            link,
            Measured { delay_ms: 0.5, peer_bps: ASSUMED_RATE_BPS, dealer_bps: ASSUMED_RATE_BPS }
        );
    }
}
