//! Which protocol for which link: key bytes over the dealer's rate, plus rounds times the delay, plus bits over the rate
//! between the parties.

use suf_control::v1::Link;
use suf_gate::{Gate, Party, Protocol};

/// Rate taken for a link that does not know its own, in bits per second: a common data-centre port.
const ASSUMED_RATE_BPS: f64 = 10e9;

/// What the choice is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// One direction between the parties, in milliseconds.
    pub delay_ms: f64,
    /// Between the parties, in bits per second.
    pub peer_bps: f64,
    /// Whether an input was opened at that rate; else it is the link profile's.
    pub peer_measured: bool,
    /// From the dealer to one party, in bits per second.
    pub dealer_bps: f64,
    /// Whether keys have come at that rate; else it is assumed.
    pub dealer_measured: bool,
}

impl Measured {
    /// From the links as a party reports them: the delay is measured, and so are the rates once there was a large run. What is
    /// down or unknown counts as fast.
    #[must_use]
    pub fn of(peer: Option<&Link>, dealer: Option<&Link>) -> Self {
        let rate = |link: Option<&Link>| link.map(|link| link.rate_bps).filter(|rate| *rate > 0.0);
        Self {
            delay_ms: peer.map_or(0.0, |link| link.rtt_ms / 2.0),
            peer_bps: rate(peer).unwrap_or(ASSUMED_RATE_BPS),
            peer_measured: peer.is_some_and(|link| link.rate_measured),
            dealer_bps: rate(dealer).unwrap_or(ASSUMED_RATE_BPS),
            dealer_measured: dealer.is_some_and(|link| link.rate_measured),
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
        // Between equals, the one made for a single function computes less than compiled specifications do.
        let compiled = |gate: &Gate| gate.protocol() == Protocol::Suf;
        costs.sort_by(|(one, a), (other, b)| {
            a.total_ms().total_cmp(&b.total_ms()).then(compiled(one).cmp(&compiled(other)))
        });
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
            "at {:.3} ms each way, {:.2} Gbit/s between the parties ({}) and {:.2} Gbit/s from the dealer ({}): {}",
            self.delay_ms,
            self.peer_bps / 1e9,
            if self.peer_measured { "as an input was opened last" } else { "by their profile" },
            self.dealer_bps / 1e9,
            if self.dealer_measured { "as keys came last" } else { "assumed: no large batch has come yet" },
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
    use super::*;
    use crate::gates;

    #[test]
    fn the_cost_is_the_sum_of_its_causes() {
        let gate = gates::gate(&gates::file("gelu").unwrap(), Protocol::Onehot, None).unwrap();
        let link = Measured {
            delay_ms: 4.0,
            peer_bps: 1e9,
            peer_measured: false,
            dealer_bps: 1e9,
            dealer_measured: true,
        };
        let cost = link.cost(&gate, 1_000_000);
        assert_eq!((cost.rounds_ms, cost.bits_ms), (12.0, 69.0));
        let (chosen, why) = link.choose(vec![gate.clone()], 1_000_000).unwrap();
        assert_eq!(chosen, gate);
        assert!(why.contains("rounds 12.00"), "{why}");
    }

    #[test]
    fn a_slow_dealer_asks_for_few_bytes_and_a_long_link_for_few_rounds() {
        let file = gates::file("gelu").unwrap();
        let gates = || {
            gates::available(&file, None)
                .unwrap()
                .into_iter()
                .filter(|gate| gate.protocol() != Protocol::SufLut)
        };
        let choice = |link: Measured| link.choose(gates().collect(), 100_000).unwrap().0.protocol();
        let near = Measured {
            delay_ms: 0.05,
            peer_bps: 8e9,
            peer_measured: true,
            dealer_bps: 1e9,
            dealer_measured: true,
        };
        assert_eq!(choice(near), Protocol::Onehot);
        let far = Measured { delay_ms: 50.0, dealer_bps: 100e9, ..near };
        assert_eq!(far.cost(&gates().next_back().unwrap(), 1).rounds_ms, 100.0);
        assert_eq!(choice(far), Protocol::Dpf);
    }

    #[test]
    fn an_unmeasured_link_counts_as_fast() {
        let link = Measured::of(Some(&Link { rtt_ms: 1.0, ..Link::default() }), None);
        assert_eq!(
            link,
            Measured {
                delay_ms: 0.5,
                peer_bps: ASSUMED_RATE_BPS,
                peer_measured: false,
                dealer_bps: ASSUMED_RATE_BPS,
                dealer_measured: false
            }
        );
    }
}
