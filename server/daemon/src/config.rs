//! The party's configuration file. Every key is documented where it stands, in `config/party0.toml`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use suf_gate::{Protocol, catalog::AllowedGates, gate::MAX_ELEMS};
use suf_link::IdentityFiles;
use suf_process::{
    BackendChoice,
    config::{self, Configuration},
    memory::{MemoryLimit, Percent, budget_bytes},
};
use suf_wire::PartyId;

/// The file, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    party: u8,
    /// Address of the control API.
    #[serde(deserialize_with = "config::address")]
    pub control: SocketAddr,
    /// The dealer's key address, `host:port`.
    pub dealer: String,
    /// Folder of the ledger and the key spool.
    pub state_dir: PathBuf,
    /// Certificates.
    pub identity: IdentityFiles,
    /// The link to the other party.
    pub peer: Peer,
    /// Link profile: a name of `links/` beside the file, of a built-in profile, or a path.
    #[serde(default = "config::default_link")]
    pub link: String,
    /// Emulate the profile inside the process.
    #[serde(default)]
    pub shaped: bool,
    /// What computes.
    #[serde(default)]
    pub backend: BackendChoice,
    /// Computing threads; 0 for one per core.
    #[serde(default)]
    pub threads: usize,
    /// Keys kept in memory, in MiB; what is above goes to sealed spool files.
    #[serde(default = "default_key_memory_mb")]
    key_memory_mb: u64,
    /// Most elements of a run.
    #[serde(default = "config::default_max_elems")]
    pub max_elems: u64,
    /// Longest run, in seconds.
    #[serde(default = "default_max_run_s")]
    pub max_run_s: u32,
    /// How long a run lives without a call of its client, in seconds.
    #[serde(default = "default_lease_s")]
    pub lease_s: u32,
    /// How long a run that one party knows waits for the other to know it, in seconds.
    #[serde(default = "default_register_wait_s")]
    pub register_wait_s: u32,
    /// How long an output share is kept for a client that does not acknowledge it, in seconds.
    #[serde(default = "default_output_keep_s")]
    pub output_keep_s: u32,
    /// Keep memory from being swapped out.
    #[serde(default = "config::default_lock_memory")]
    pub lock_memory: bool,
    #[serde(default = "default_protocols")]
    protocols: Vec<String>,
    /// Gates it takes part in; all where the file does not say.
    gates: Option<Vec<String>>,
}

/// Who waits for whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "PeerTable")]
pub enum Peer {
    /// Party 0 listens.
    Listen {
        /// Address for the evaluation traffic.
        listen: SocketAddr,
    },
    /// Party 1 connects.
    Connect {
        /// Party 0's address, `host:port`.
        connect: String,
    },
}

/// The table `peer`, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerTable {
    listen: Option<String>,
    connect: Option<String>,
}

impl TryFrom<PeerTable> for Peer {
    type Error = String;

    fn try_from(table: PeerTable) -> Result<Self, String> {
        match (table.listen, table.connect) {
            (Some(listen), None) => {
                let listen =
                    config::parse_address(&listen).map_err(|problem| format!("peer.listen: {problem}"))?;
                Ok(Self::Listen { listen })
            }
            (None, Some(connect)) => Ok(Self::Connect { connect }),
            (Some(_), Some(_)) => {
                Err("peer has `listen` and `connect`: party 0 has `listen` alone, party 1 `connect` alone"
                    .into())
            }
            (None, None) => {
                Err("peer says nothing: party 0 has peer = { listen = \"address:port\" }, party 1 has \
                     peer = { connect = \"host:port\" }"
                    .into())
            }
        }
    }
}

/// Longest run that a party may admit, and longest wait that it may be told, in seconds: a day.
const MOST_RUN_S: u32 = 86_400;

/// Most memory for keys, in MiB: 1 TiB, beyond any host.
const MOST_MEMORY_MB: u64 = 1 << 20;

/// Part of the memory limit that keys may take. The rest is for shares, for buffers of the network and for the program.
const KEY_PART: Percent = Percent(40);

impl Config {
    /// Which party this is.
    #[must_use]
    pub fn party(&self) -> PartyId {
        if self.party == 0 { PartyId::P0 } else { PartyId::P1 }
    }

    /// The protocols it takes part in.
    ///
    /// # Errors
    /// When a name is not one; [`Config::load`] has checked that.
    pub fn protocols(&self) -> Result<Vec<Protocol>, String> {
        self.protocols
            .iter()
            .map(|name| name.parse().map_err(|error| format!("protocols: {error}")))
            .collect()
    }

    /// The gates it takes part in; none stands for all.
    ///
    /// # Errors
    /// When an entry is neither a digest nor a name; [`Config::load`] has checked that.
    pub fn gates(&self) -> Result<Option<Arc<AllowedGates>>, String> {
        config::allowed_gates(self.gates.as_deref())
    }

    /// Bytes of keys in memory, on a host with this limit. A budget that is cut down is logged as a warning.
    #[must_use]
    pub fn key_memory_bytes(&self, limit: Option<&MemoryLimit>) -> u64 {
        budget_bytes("key_memory_mb", self.key_memory_mb, KEY_PART, limit)
    }

    /// Computing threads, at least one.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        config::threads(self.threads)
    }
}

impl Configuration for Config {
    fn check(&mut self, folder: &Path) -> Result<(), String> {
        match (self.party, &self.peer) {
            (0, Peer::Listen { .. }) | (1, Peer::Connect { .. }) => {}
            (0, _) => {
                return Err("party 0 listens for party 1: give peer = { listen = \"address:port\" }".into());
            }
            (1, _) => {
                return Err("party 1 connects to party 0: give peer = { connect = \"host:port\" }".into());
            }
            (other, _) => return Err(format!("party = {other}; it is 0 or 1")),
        }
        config::target("dealer", &self.dealer)?;
        if let Peer::Connect { connect } = &self.peer {
            config::target("peer.connect", connect)?;
        }
        config::check_threads(self.threads)?;
        config::within("key_memory_mb", self.key_memory_mb, 0, MOST_MEMORY_MB)?;
        config::within("max_elems", self.max_elems, 1, MAX_ELEMS)?;
        for (key, seconds) in [
            ("max_run_s", self.max_run_s),
            ("lease_s", self.lease_s),
            ("register_wait_s", self.register_wait_s),
            ("output_keep_s", self.output_keep_s),
        ] {
            config::within(key, seconds.into(), 1, MOST_RUN_S.into())?;
        }
        self.protocols()?;
        self.gates()?;
        self.identity.resolve(folder);
        self.state_dir = folder.join(&self.state_dir);
        self.link = config::link_in(folder, &self.link);
        Ok(())
    }
}

fn default_key_memory_mb() -> u64 {
    4096
}

fn default_max_run_s() -> u32 {
    3600
}

fn default_lease_s() -> u32 {
    60
}

fn default_register_wait_s() -> u32 {
    10
}

fn default_output_keep_s() -> u32 {
    600
}

fn default_protocols() -> Vec<String> {
    Protocol::ALL.map(|protocol| protocol.name().into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        party = 0
        control = "127.0.0.1:0"
        dealer = "127.0.0.1:7000"
        state_dir = "state"
        peer = { listen = "127.0.0.1:0" }
        identity = { ca = "ca.pem", cert = "party0.pem", key = "/keys/party0.key" }
    "#;

    fn error(text: &str) -> String {
        Config::parse(text, Path::new("/etc/suf/party.toml")).expect_err("wrong").to_string()
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = Config::parse(GOOD, Path::new("/etc/suf/party.toml")).expect("good");
        assert_eq!(config.state_dir, Path::new("/etc/suf/state"));
        assert_eq!(config.identity.key, Path::new("/keys/party0.key"));
        assert_eq!(config.party(), PartyId::P0);
    }

    #[test]
    fn mistakes_name_the_key() {
        assert!(error(&format!("{GOOD}\nport = 1")).contains("port"));
        assert!(error(&format!("{GOOD}\nprotocols = [\"sigam\"]")).contains("sigam"));
        assert!(error(&format!("{GOOD}\ngates = [\"gelo\"]")).contains("gates: unknown gate 'gelo'"));
        for key in ["max_elems", "lease_s", "register_wait_s", "output_keep_s"] {
            let wrong = format!("{key} = 0");
            assert!(error(&format!("{wrong}\n{GOOD}")).contains(&wrong), "{key}");
        }
        let beyond = error(&format!("key_memory_mb = 17592186044416\n{GOOD}"));
        assert!(beyond.contains("key_memory_mb = 17592186044416; it is 0 to"), "{beyond}");
        assert!(error(&GOOD.replace("party = 0", "party = 2")).contains("party = 2"));
        assert!(error(&GOOD.replace("listen", "connect")).contains("party 0 listens"));
        for (peer, words) in [
            ("{}", &["peer says nothing", "listen", "connect", "line 6"][..]),
            ("{ listen = \"127.0.0.1:0\", connect = \"host:1\" }", &["`listen` and `connect`", "party 1"]),
            ("{ listen = \"127.0.0.1\" }", &["peer.listen", "\"127.0.0.1\"", "10.0.0.1:7101"]),
            ("{ lissen = \"127.0.0.1:0\" }", &["`lissen`", "`listen` or `connect`", "line 6"]),
            ("\"127.0.0.1:0\"", &["peer: ", "a table"]),
        ] {
            let said = error(&GOOD.replace("{ listen = \"127.0.0.1:0\" }", peer));
            for word in words {
                assert!(said.contains(word), "{word:?} is missing in: {said}");
            }
            assert!(!said.contains("variant") && !said.contains("field"), "{said}");
        }
    }
}
