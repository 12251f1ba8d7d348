//! Addresses as people write them: `HOST:PORT`, with a name, an IPv4 address, or an IPv6 address in brackets.

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use tokio::time::timeout;

/// How long name servers may take. A resolver asks two of them for 5 s each before it gives up.
const LOOKUP_LIMIT: Duration = Duration::from_secs(12);

/// Most addresses of one name that are tried: more are no host, but a mistake or an attack by a name server.
const MOST_ADDRESSES: usize = 16;

/// Characters of a DNS name at most (RFC 1035, section 2.3.4).
const MOST_NAME: usize = 253;

/// Where to call: a host and a port that is not 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(String),
}

/// Why a text is no [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address to call ({why}): write HOST:PORT, and an IPv6 address as [ADDRESS]:PORT")]
pub struct TargetError {
    /// As given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The system's resolver knows no such name, or failed.
    #[error("the name {name} cannot be resolved ({source}): correct it, or enter it in DNS or /etc/hosts")]
    Unknown {
        /// The name.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The resolver took too long.
    #[error(
        "no name server answered for {name} within {limit:?}: see this host's DNS settings, or give an address"
    )]
    Late {
        /// The name.
        name: String,
        /// How long it was given.
        limit: Duration,
    },
    /// The name exists, and has no address.
    #[error("the name {name} has no address: enter one in DNS or /etc/hosts")]
    Empty {
        /// The name.
        name: String,
    },
}

impl Target {
    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All its addresses, the system's preferred one first, then both families in turns (RFC 8305, section 4).
    ///
    /// # Errors
    /// When it is a name that has none.
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, ResolveError> {
        let name = match &self.host {
            Host::Address(address) => return Ok(vec![(*address, self.port).into()]),
            Host::Name(name) => name,
        };
        let found = timeout(LOOKUP_LIMIT, tokio::net::lookup_host((name.as_str(), self.port)));
        let found =
            found.await.map_err(|_| ResolveError::Late { name: name.clone(), limit: LOOKUP_LIMIT })?;
        let found = found.map_err(|source| ResolveError::Unknown { name: name.clone(), source })?;
        let found = in_turns(found.take(MOST_ADDRESSES));
        if found.is_empty() { Err(ResolveError::Empty { name: name.clone() }) } else { Ok(found) }
    }
}

/// The addresses, both families in turns beginning with the first's, each once.
fn in_turns(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut families = [Vec::new(), Vec::new()];
    let mut first = None;
    for address in addresses {
        let first = *first.get_or_insert(address.is_ipv6());
        let family = &mut families[usize::from(address.is_ipv6() != first)];
        if !family.contains(&address) {
            family.push(address);
        }
    }
    let [mut preferred, mut other] = families.map(Vec::into_iter);
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(preferred.next());
        all.extend(other.next());
        if all.len() == before {
            return all;
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = |why| TargetError { text: text.to_owned(), why };
        if text.contains("://") {
            return Err(wrong("a URL is not expected here"));
        }
        let (host, port) = text.rsplit_once(':').ok_or(wrong("there is no port"))?;
        let port = port.parse::<u16>().map_err(|_| wrong("the port is no number from 1 to 65535"))?;
        if port == 0 {
            return Err(wrong("port 0 cannot be called"));
        }
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let address = rest.strip_suffix(']').ok_or(wrong("a bracket is not closed"))?;
                let address = address.parse::<Ipv6Addr>();
                Host::Address(address.map_err(|_| wrong("there is no IPv6 address in the brackets"))?.into())
            }
            None if host.contains(':') => return Err(wrong("an IPv6 address needs brackets")),
            None => match host.parse::<IpAddr>() {
                Ok(address) => Host::Address(address),
                Err(_) => Host::Name(name(host).map_err(wrong)?),
            },
        };
        if matches!(&host, Host::Address(address) if address.to_canonical().is_unspecified()) {
            return Err(wrong("this address means all of a host's, and cannot be called"));
        }
        Ok(Self { host, port })
    }
}

/// A host name as the resolver will take it.
fn name(host: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match host {
        "" => Err("there is no host"),
        _ if host.len() > MOST_NAME => Err("the host name is too long"),
        _ if !host.chars().all(plain) => Err("a host name has letters, digits, dots, - and _ only"),
        // A number that is no address is a typing error, and no name server knows it.
        _ if host.chars().all(|c| c.is_ascii_digit() || c == '.') => Err("the IPv4 address is wrong"),
        _ => Ok(host.to_owned()),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::from((*address, self.port)).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_both_families_are_read_and_written_alike() {
        for text in
            ["dealer:7000", "party0.example.org:1", "10.0.0.3:7000", "[::1]:65535", "[2001:db8::7]:7100"]
        {
            assert_eq!(text.parse::<Target>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        for (text, why) in [
            ("dealer", "no port"),
            ("", "no port"),
            (":7000", "no host"),
            ("dealer:", "1 to 65535"),
            ("dealer:99999", "1 to 65535"),
            ("dealer:0", "port 0"),
            ("https://dealer:7000", "URL"),
            ("::1:7000", "brackets"),
            ("[::1:7000", "not closed"),
            ("[dealer]:7000", "no IPv6 address"),
            ("10.0.0:7000", "IPv4 address is wrong"),
            ("10.0.0.300:7000", "IPv4 address is wrong"),
            ("two words:7000", "letters"),
            ("0.0.0.0:7000", "cannot be called"),
            ("[::]:7000", "cannot be called"),
        ] {
            let error = text.parse::<Target>().expect_err(text).to_string();
            assert!(error.contains(why) && error.contains("HOST:PORT"), "{text}: {error}");
        }
    }

    #[test]
    fn families_take_turns_and_the_systems_choice_is_first() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        let v4 = addresses(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.1:1", "10.0.0.3:1"]);
        let v6 = addresses(&["[::1]:1"]);
        let first_v4 = ["10.0.0.1:1", "[::1]:1", "10.0.0.2:1", "10.0.0.3:1"];
        assert_eq!(in_turns(v4.iter().chain(&v6).copied()), addresses(&first_v4));
        let first_v6 = ["[::1]:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"];
        assert_eq!(in_turns(v6.iter().chain(&v4).copied()), addresses(&first_v6));
    }

    #[tokio::test]
    async fn an_unknown_name_is_named() {
        let target: Target = "no-such-host.invalid:7000".parse().expect("a target");
        let error = target.resolve().await.expect_err("no such name").to_string();
        assert!(error.contains("no-such-host.invalid"), "{error}");
        let target: Target = "localhost:7000".parse().expect("a target");
        assert!(target.resolve().await.expect("resolves").iter().all(|address| address.ip().is_loopback()));
    }
}
