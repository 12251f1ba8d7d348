//! What a lab is to be like: hosts, networks, and the profiles of their links.

use std::{fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};
use suf_link::LinkProfile;

use crate::error::LabError;

/// A host of the lab: one network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    /// Party 0.
    Party0,
    /// Party 1.
    Party1,
    /// The dealer.
    Dealer,
    /// A client of the parties.
    Client,
}

/// A network of the lab: one bridge, and on each of its hosts an interface with the network's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Between the parties.
    Peer,
    /// Between the dealer and the parties.
    Keys,
    /// Between all hosts, for clients and operators. Not shaped.
    Control,
}

/// A link profile and its name in records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedProfile {
    /// The name of a built-in profile, or the path of a file.
    pub name: String,
    /// The profile.
    pub profile: LinkProfile,
}

/// What the links of a lab are like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabPlan {
    /// Each end of the link between the parties.
    pub peer: NamedProfile,
    /// Each end of the links to the dealer. What the dealer sends to both parties shares its one end.
    pub dealer: NamedProfile,
}

impl Host {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Party0, Self::Party1, Self::Dealer, Self::Client];

    /// The name, as in namespaces and roles.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Party0 => "party0",
            Self::Party1 => "party1",
            Self::Dealer => "dealer",
            Self::Client => "client",
        }
    }

    /// Its address on `network`. Namespaces are private, so every lab uses the same addresses.
    #[must_use]
    pub const fn address(self, network: Network) -> Ipv4Addr {
        let net = match network {
            Network::Peer => 0,
            Network::Keys => 1,
            Network::Control => 2,
        };
        let host = match self {
            Self::Party0 => 1,
            Self::Party1 => 2,
            Self::Dealer => 3,
            Self::Client => 4,
        };
        // 10.77/16 means nothing to anybody else on this machine: nothing is routed out of a lab.
        Ipv4Addr::new(10, 77, net, host)
    }

    /// The networks that it is on.
    pub(crate) fn networks(self) -> impl Iterator<Item = Network> {
        Network::ALL.into_iter().filter(move |network| network.hosts().contains(&self))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Peer, Self::Keys, Self::Control];

    /// The name: of the interface on each host, and of the bridge.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Keys => "keys",
            Self::Control => "control",
        }
    }

    /// The hosts on it.
    #[must_use]
    pub const fn hosts(self) -> &'static [Host] {
        match self {
            Self::Peer => &[Host::Party0, Host::Party1],
            Self::Keys => &[Host::Party0, Host::Party1, Host::Dealer],
            Self::Control => &Host::ALL,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl NamedProfile {
    /// The profile of that name, or in that file; a file's path is made absolute, since daemons run elsewhere.
    ///
    /// # Errors
    /// When there is none, or it is wrong.
    pub fn find(name: &str) -> Result<Self, suf_link::LinkError> {
        let profile = LinkProfile::find(name)?;
        let path = std::fs::canonicalize(name).ok().filter(|_| name.contains(['/', '.']));
        let name = path.map_or_else(|| name.to_owned(), |path| path.display().to_string());
        Ok(Self { name, profile })
    }
}

impl LabPlan {
    /// All links alike.
    #[must_use]
    pub fn uniform(profile: NamedProfile) -> Self {
        Self { peer: profile.clone(), dealer: profile }
    }

    /// The profile that shapes a network; none: it is not shaped.
    #[must_use]
    pub fn profile(&self, network: Network) -> Option<&LinkProfile> {
        match network {
            Network::Peer => Some(&self.peer.profile),
            Network::Keys => Some(&self.dealer.profile),
            Network::Control => None,
        }
    }

    /// Parses the plan of a state file.
    pub(crate) fn from_json(text: &str, path: &std::path::Path) -> Result<Self, LabError> {
        serde_json::from_str(text)
            .map_err(|error| LabError::File { path: path.to_owned(), error: std::io::Error::other(error) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_are_all_different() {
        let all = Host::ALL.into_iter().flat_map(|host| host.networks().map(move |net| host.address(net)));
        let all: Vec<_> = all.collect();
        assert_eq!(all.len(), 2 + 3 + 4);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn the_control_network_is_not_shaped() {
        let plan = LabPlan::uniform(NamedProfile::find("wan").unwrap());
        assert!(plan.profile(Network::Control).is_none());
        assert_eq!(plan.profile(Network::Keys).unwrap().delay_ms, 4.0);
    }
}
