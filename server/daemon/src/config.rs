//! The party's configuration file. Every key is documented where it stands, in `config/party0.toml`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use suf_admin::CollectorAddress;
use suf_gate::{Protocol, catalog::AllowedGates, limits::MAX_ELEMS};
use suf_link::IdentityFiles;
use suf_process::{
    BackendChoice, ModelEntry,
    config::{self, Configuration},
    memory::{MemoryLimit, Percent, budget_bytes},
    weights,
};
use suf_wire::Party;

use crate::{
    budget::{Bounds, Limits},
    registry::ACTIVE,
};

/// The file, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    party: u8,
    /// Address of the control API.
    #[serde(deserialize_with = "config::address")]
    pub control: SocketAddr,
    /// Address of the pages for operators; none if the file does not say.
    #[serde(default, deserialize_with = "config::address_if_any")]
    pub admin: Option<SocketAddr>,
    /// Where spans go, `http://HOST:PORT`; nowhere if the file does not say.
    otlp: Option<String>,
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
    /// Keys in memory, in MiB; batches that do not fit go to sealed spool files.
    #[serde(default = "default_key_memory_mb")]
    key_memory_mb: u64,
    /// The same for each client; half if the file does not say.
    client_key_memory_mb: Option<u64>,
    /// Shares and what is computed from them, in MiB: of runs at work, and outputs until they are fetched.
    #[serde(default = "default_share_memory_mb")]
    share_memory_mb: u64,
    /// The same for each client; half if the file does not say.
    client_share_memory_mb: Option<u64>,
    /// Keys in the spool, in MiB.
    #[serde(default = "default_spool_mb")]
    spool_mb: u64,
    /// The same for each client; half if the file does not say.
    client_spool_mb: Option<u64>,
    /// Runs of models that compute at once; others wait for their turn.
    #[serde(default = "default_model_runs")]
    pub model_runs: u16,
    /// How long a run that is ready waits for the next part of its input, in seconds.
    #[serde(default = "default_input_wait_s")]
    pub input_wait_s: u32,
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
    /// Files of quantised weights that programs may name: the same as at the other party and at the dealer.
    #[serde(default)]
    weights: Vec<PathBuf>,
    /// Models whose programs may be evaluated: the same as there.
    #[serde(default)]
    models: Vec<ModelEntry>,
    /// Weights in memory, in MiB.
    #[serde(default = "weights::default_memory_mb")]
    model_memory_mb: u64,
}

/// Which party calls, and which listens.
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

/// Most memory for keys or shares, in MiB: 1 TiB, beyond any host.
const MOST_MEMORY_MB: u64 = 1 << 20;

/// Largest spool, in MiB: 1 PiB, beyond any host.
const MOST_SPOOL_MB: u64 = 1 << 30;

/// Parts of the memory limit that keys and shares may take. The rest is for buffers of the network and for the program.
const KEY_PART: Percent = Percent(40);
const SHARE_PART: Percent = Percent(40);

impl Config {
    /// Which party this is.
    #[must_use]
    pub fn party(&self) -> Party {
        if self.party == 0 { Party::P0 } else { Party::P1 }
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

    /// Where spans go, if anywhere.
    ///
    /// # Errors
    /// When it is no such address; [`Config::load`] has checked that.
    pub fn collector(&self) -> Result<Option<CollectorAddress>, String> {
        self.otlp.as_deref().map(str::parse).transpose().map_err(|error| format!("otlp: {error}"))
    }

    /// The gates it takes part in; none stands for all.
    ///
    /// # Errors
    /// When an entry is neither a digest nor a name; [`Config::load`] has checked that.
    pub fn gates(&self) -> Result<Option<Arc<AllowedGates>>, String> {
        config::allowed_gates(self.gates.as_deref())
    }

    /// The weights that programs may name, and the models that they are of.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, a model has no plan, or they take too much memory.
    pub fn weights(&self) -> Result<weights::Loaded, String> {
        weights::load(&self.weights, &self.models, self.model_memory_mb)
    }

    /// What runs may hold, on a host with this limit of memory. A budget that is cut down is logged as a warning.
    #[must_use]
    pub fn limits(&self, limit: Option<&MemoryLimit>) -> Limits {
        let bounds = |all: u64, client: u64| Bounds { all, client: all.min(client.saturating_mul(1 << 20)) };
        let (keys, shares, spool) = (self.key_memory_mb, self.share_memory_mb, self.spool_mb);
        Limits {
            keys: bounds(
                budget_bytes("key_memory_mb", keys, KEY_PART, limit),
                self.client_key_memory_mb.unwrap_or(keys / 2),
            ),
            shares: bounds(
                budget_bytes("share_memory_mb", shares, SHARE_PART, limit),
                self.client_share_memory_mb.unwrap_or(shares / 2),
            ),
            spool: bounds(spool.saturating_mul(1 << 20), self.client_spool_mb.unwrap_or(spool / 2)),
        }
    }

    /// Computing threads, at least one.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        config::threads(self.threads)
    }
}

impl Configuration for Config {
    const EXPLAINED: &'static str = "config/party0.toml";

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
        self.check_budgets()?;
        config::within("model_runs", self.model_runs.into(), 1, ACTIVE as u64)?;
        config::within("max_elems", self.max_elems, 1, MAX_ELEMS)?;
        for (key, seconds) in [
            ("max_run_s", self.max_run_s),
            ("lease_s", self.lease_s),
            ("register_wait_s", self.register_wait_s),
            ("output_keep_s", self.output_keep_s),
            ("input_wait_s", self.input_wait_s),
        ] {
            config::within(key, seconds.into(), 1, MOST_RUN_S.into())?;
        }
        self.protocols()?;
        self.gates()?;
        self.collector()?;
        self.identity.resolve(folder);
        config::within("model_memory_mb", self.model_memory_mb, 1, MOST_MEMORY_MB)?;
        self.weights.iter_mut().for_each(|file| *file = folder.join(&*file));
        self.models.iter_mut().for_each(|model| model.resolve(folder));
        self.state_dir = folder.join(&self.state_dir);
        self.link = config::link_in(folder, &self.link);
        Ok(())
    }
}

impl Config {
    fn check_budgets(&self) -> Result<(), String> {
        for (key, all, least, most, client_key, client) in [
            (
                "key_memory_mb",
                self.key_memory_mb,
                0,
                MOST_MEMORY_MB,
                "client_key_memory_mb",
                self.client_key_memory_mb,
            ),
            (
                "share_memory_mb",
                self.share_memory_mb,
                1,
                MOST_MEMORY_MB,
                "client_share_memory_mb",
                self.client_share_memory_mb,
            ),
            ("spool_mb", self.spool_mb, 0, MOST_SPOOL_MB, "client_spool_mb", self.client_spool_mb),
        ] {
            config::within(key, all, least, most)?;
            if let Some(client) = client {
                config::within(client_key, client, least, all)?;
            }
        }
        if self.key_memory_mb == 0 && self.spool_mb == 0 {
            return Err(
                "key_memory_mb and spool_mb are both 0: there is no place for keys; raise one of them".into(),
            );
        }
        Ok(())
    }
}

fn default_key_memory_mb() -> u64 {
    4096
}

fn default_share_memory_mb() -> u64 {
    8192
}

fn default_spool_mb() -> u64 {
    128 << 10
}

fn default_model_runs() -> u16 {
    2
}

fn default_input_wait_s() -> u32 {
    60
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
pub(crate) mod tests {
    use suf_process::memory::Source;

    use super::*;

    const GOOD: &str = r#"
        party = 0
        control = "127.0.0.1:0"
        dealer = "127.0.0.1:7000"
        state_dir = "state"
        peer = { listen = "127.0.0.1:0" }
        identity = { ca = "ca.pem", cert = "party0.pem", key = "/keys/party0.key" }
    "#;

    /// A file that says only what it must.
    pub(crate) fn good() -> Config {
        Config::parse(GOOD, Path::new("/etc/suf/party.toml")).expect("good")
    }

    fn error(text: &str) -> String {
        Config::parse(text, Path::new("/etc/suf/party.toml")).expect_err("wrong").to_string()
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = Config::parse(GOOD, Path::new("/etc/suf/party.toml")).expect("good");
        assert_eq!(config.state_dir, Path::new("/etc/suf/state"));
        assert_eq!(config.identity.key, Path::new("/keys/party0.key"));
        assert_eq!(config.party(), Party::P0);
    }

    #[test]
    fn mistakes_name_the_key() {
        assert!(error(&format!("{GOOD}\nport = 1")).contains("port"));
        assert!(error(&format!("{GOOD}\nprotocols = [\"sigam\"]")).contains("sigam"));
        assert!(error(&format!("{GOOD}\ngates = [\"gelo\"]")).contains("gates: unknown gate 'gelo'"));
        for key in ["max_elems", "model_runs", "lease_s", "register_wait_s", "output_keep_s"] {
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
    #[test]
    fn budgets_that_make_no_sense_are_refused_by_name() {
        for (line, words) in [
            ("share_memory_mb = 0", "share_memory_mb = 0; it is 1 to"),
            ("key_memory_mb = 17592186044416", "key_memory_mb = 17592186044416; it is 0 to"),
            ("spool_mb = 1073741825", "spool_mb = 1073741825"),
            ("client_share_memory_mb = 9000", "client_share_memory_mb = 9000; it is 1 to 8192"),
            ("client_key_memory_mb = 4097", "client_key_memory_mb = 4097; it is 0 to 4096"),
            ("key_memory_mb = 0\nspool_mb = 0", "both 0"),
            ("input_wait_s = 0", "input_wait_s = 0"),
        ] {
            let error = error(&format!("{line}\n{GOOD}"));
            assert!(error.contains(words), "{words} is missing in: {error}");
        }
    }

    #[test]
    fn budgets_follow_a_control_group_that_is_smaller() {
        let mib = 1 << 20;
        let limits = good().limits(None);
        assert_eq!(limits.keys, Bounds { all: 4096 * mib, client: 2048 * mib });
        let source = Source::ControlGroup("/sys/fs/cgroup/memory.max".into());
        let limit = MemoryLimit { bytes: 2000 * mib, source };
        let limits = good().limits(Some(&limit));
        assert_eq!(limits.keys, Bounds { all: 800 * mib, client: 800 * mib });
        assert_eq!(limits.shares, Bounds { all: 800 * mib, client: 800 * mib });
    }
}
