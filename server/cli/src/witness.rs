//! The kernel's counters as a witness of our own: what `tc` counted between the parties against what they say they moved.

use std::time::{Duration, Instant};

use suf_control::v1::{Fault, InfoRequest, Link};
use suf_lab::{Counters, Host, Lab, LabError, Network};
use suf_wire::Party;

use crate::{client::Parties, error::Error};

/// Headers of a datagram in an Ethernet frame, in bytes: Ethernet 14, IPv4 20, UDP 8.
const HEADERS_BYTES: u64 = 42;

/// The two counts may differ by this share.
const TOLERANCE: f64 = 0.01;

/// Or by this many bytes: the few packets that are under way while one counter is read and the other not yet.
const UNDER_WAY_BYTES: f64 = 6000.0;

/// How long the parties may take to find each other after their start: many round trips of the longest links.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a party is asked meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Both counters of both directions at one moment.
#[derive(Debug, Clone)]
pub struct Witness([Reading; 2]);

/// What one party sent by `tc`, and what it moved by itself.
#[derive(Debug, Clone)]
struct Reading {
    sent: Counters,
    link: Link,
}

impl Witness {
    /// Reads all counters.
    ///
    /// # Errors
    /// When a party or `tc` does not answer, or the parties are not connected.
    pub async fn read(lab: &Lab, parties: &Parties) -> Result<Self, Error> {
        let reading = async |party: Party| {
            let link = connected(parties, party).await?;
            let sent = lab.counters(host(party), Network::Peer).map_err(|error| Error::lab(&error))?;
            Ok::<_, Error>(Reading { sent, link })
        };
        Ok(Self([reading(Party::P0).await?, reading(Party::P1).await?]))
    }

    /// Compares what was counted since `earlier`: a line for each direction.
    ///
    /// # Errors
    /// When they differ by more than 1 %; that is a defect of this software's counting.
    pub fn agree(&self, earlier: &Self) -> Result<[String; 2], Error> {
        Ok([self.direction(earlier, Party::P0)?, self.direction(earlier, Party::P1)?])
    }

    fn direction(&self, earlier: &Self, from: Party) -> Result<String, Error> {
        let (sender, receiver) = (from.index(), from.other().index());
        let sent = self.0[sender].sent.since(earlier.0[sender].sent);
        // What arrived: what the link lost the sender has counted, and `tc` has not.
        let (now, before) = (&self.0[receiver].link, &earlier.0[receiver].link);
        let arrived = (now.bytes_received - before.bytes_received)
            + HEADERS_BYTES * (now.datagrams_received - before.datagrams_received);
        let difference = arrived as f64 - sent.bytes as f64;
        let share = difference / (sent.bytes as f64).max(1.0);
        let line = format!(
            "{from} to {}: tc counted {} bytes in {} packets, the parties {arrived} ({:+.3} %), dropped {}",
            from.other(),
            sent.bytes,
            sent.packets,
            share * 100.0,
            sent.drops
        );
        if share.abs() > TOLERANCE && difference.abs() > UNDER_WAY_BYTES {
            return Err(Error::here(Fault::Bug, format!("the counters disagree: {line}")));
        }
        Ok(line)
    }
}

impl Error {
    /// No lab, or not as it should be.
    pub fn lab(error: &LabError) -> Self {
        match error {
            LabError::Unknown(_) => Self::usage(error),
            _ => Self::here(Fault::Device, error.to_string()),
        }
    }
}

/// The link of `party` to the other, once it is up.
async fn connected(parties: &Parties, party: Party) -> Result<Link, Error> {
    let started = Instant::now();
    while started.elapsed() < CONNECT_TIMEOUT {
        let info = parties.party(party).info(InfoRequest {}).await;
        let info = info.map_err(|status| Error::call(&format!("party {}", party.index()), status))?;
        if let Some(link) = info.into_inner().peer {
            return Ok(link);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Err(Error::here(Fault::Peer, format!("the parties are not connected after {CONNECT_TIMEOUT:?}")))
}

fn host(party: Party) -> Host {
    match party {
        Party::P0 => Host::Party0,
        Party::P1 => Host::Party1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(bytes: u64, received: u64, datagrams: u64) -> Witness {
        let reading = Reading {
            sent: Counters { bytes, packets: datagrams, drops: 0 },
            link: Link { bytes_received: received, datagrams_received: datagrams, ..Link::default() },
        };
        Witness([reading.clone(), reading])
    }

    #[test]
    fn headers_are_counted_and_a_percent_is_too_much() {
        let before = witness(1000, 500, 1);
        let verdict = |received| witness(1_001_000, received, 701).agree(&before);
        let lines = verdict(500 + 1_000_000 - 700 * 42).unwrap();
        assert!(lines[0].contains("+0.000 %"), "{}", lines[0]);
        assert!(verdict(500 + 1_009_000 - 700 * 42).is_ok());
        assert!(verdict(500 + 1_011_000 - 700 * 42).is_err());
    }

    #[test]
    fn a_packet_under_way_is_no_disagreement() {
        assert!(witness(5000, 400, 1).agree(&witness(0, 0, 0)).is_ok());
    }
}
