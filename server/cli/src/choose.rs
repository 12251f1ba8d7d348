//! Which protocol for which link: key bytes over the dealer's rate, plus rounds times the delay, plus bits over the rate
//! between the parties.

use suf_control::v1::Link;
use suf_gate::{Gate, Party, Program, Protocol};
use suf_model::bert::ACTIVATIONS;

/// Rate taken for a link that does not know its own, in bits per second: a common data-centre port.
const ASSUMED_RATE_BPS: f64 = 10e9;

/// Which protocol evaluates a model's activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// This one.
    Fixed(Protocol),
    /// The one that is fastest on the links as measured.
    Auto,
}

impl Activation {
    /// The names on the command line.
    pub const NAMES: [&'static str; 3] = ["auto", "onehot", "dpf"];

    /// The one of a name; `auto` for all that are none of a protocol's.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let protocol = ACTIVATIONS.into_iter().find(|protocol| protocol.name() == name);
        protocol.map_or(Self::Auto, Self::Fixed)
    }

    /// The protocols to choose from; one at least.
    #[must_use]
    pub fn candidates(self) -> Vec<Protocol> {
        match self {
            Self::Fixed(protocol) => vec![protocol],
            Self::Auto => ACTIVATIONS.to_vec(),
        }
    }
}

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
            delay_ms: peer.map_or(0.0, round_trip_ms) / 2.0,
            peer_bps: rate(peer).unwrap_or(ASSUMED_RATE_BPS),
            peer_measured: peer.is_some_and(|link| link.rate_measured),
            dealer_bps: rate(dealer).unwrap_or(ASSUMED_RATE_BPS),
            dealer_measured: dealer.is_some_and(|link| link.rate_measured),
        }
    }

    /// Predicted milliseconds for `gate` on `elements` elements, computation aside.
    #[must_use]
    pub fn cost(&self, gate: &Gate, elements: u64) -> Cost {
        let key_bytes = Party::BOTH.map(|party| gate.batch_key_bytes(party, elements));
        self.cost_of(key_bytes, gate.declared().rounds.into(), gate.batch_message_bits(elements))
    }

    /// The same for a whole program, the opening of its inputs aside.
    #[must_use]
    pub fn program_cost(&self, program: &Program) -> Cost {
        let key_bytes = Party::BOTH.map(|party| program.key_bytes(party));
        self.cost_of(key_bytes, program.rounds().into(), program.message_bits())
    }

    fn cost_of(&self, key_bytes: [u64; 2], rounds: u32, bits: u64) -> Cost {
        // The dealer fills both links at once: the party with the longer key decides.
        let [first, second] = key_bytes;
        Cost {
            keys_ms: first.max(second) as f64 * 8e3 / self.dealer_bps,
            rounds_ms: f64::from(rounds) * self.delay_ms,
            bits_ms: bits as f64 * 1e3 / self.peer_bps,
        }
    }

    /// The cheapest of `gates`, and why, in one line.
    #[must_use]
    pub fn choose(&self, gates: Vec<Gate>, elements: u64) -> Option<(Gate, String)> {
        let costs = gates.into_iter().map(|gate| {
            let cost = self.cost(&gate, elements);
            (gate.protocol(), cost, gate)
        });
        self.cheapest(costs.collect())
    }

    /// The cheapest of `programs`, each with the protocol of its activation, and why, in one line.
    #[must_use]
    pub fn choose_program(&self, programs: &[(Protocol, &Program)]) -> Option<(Protocol, String)> {
        let costs =
            programs.iter().map(|(protocol, program)| (*protocol, self.program_cost(program), *protocol));
        self.cheapest(costs.collect())
    }

    fn cheapest<T>(&self, mut costs: Vec<(Protocol, Cost, T)>) -> Option<(T, String)> {
        // Between equals, the one made for a single function computes less than compiled specifications do.
        let compiled = |protocol: &Protocol| *protocol == Protocol::Suf;
        costs.sort_by(|(one, a, _), (other, b, _)| {
            a.total_ms().total_cmp(&b.total_ms()).then(compiled(one).cmp(&compiled(other)))
        });
        let list = costs.iter().map(|(protocol, cost, _)| {
            format!(
                "{protocol} {:.2} ms (keys {:.2} + rounds {:.2} + bits {:.2})",
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
        costs.into_iter().next().map(|(_, _, chosen)| (chosen, why))
    }
}

/// The least round trip of a link, or the smoothed one of a party that does not tell the least.
fn round_trip_ms(link: &Link) -> f64 {
    if link.least_rtt_ms > 0.0 { link.least_rtt_ms } else { link.rtt_ms }
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
    fn names_of_activations_are_those_of_their_protocols() {
        for (name, of) in Activation::NAMES.into_iter().zip([
            Activation::Auto,
            Activation::Fixed(Protocol::Onehot),
            Activation::Fixed(Protocol::Dpf),
        ]) {
            assert_eq!(Activation::named(name), of);
        }
        assert_eq!(Activation::Auto.candidates(), ACTIVATIONS);
    }

    #[test]
    fn the_delay_is_half_of_the_least_round_trip() {
        let delay_ms = |least_rtt_ms| {
            let link = Link { rtt_ms: 6.0, least_rtt_ms, ..Link::default() };
            Measured::of(Some(&link), None).delay_ms
        };
        assert_eq!([0.0, 1.0].map(delay_ms), [3.0, 0.5]);
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
