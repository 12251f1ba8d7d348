//! The dealer's configuration file. Every key is documented where it stands, in `config/dealer.toml`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use suf_gate::limits::MAX_ELEMS;
use suf_link::IdentityFiles;
use suf_process::{
    BackendChoice, ModelEntry,
    config::{self, Configuration},
    memory::{MemoryLimit, Percent, budget_bytes},
    weights,
};
use suf_wire::limits::MAX_KEY_PART_BYTES;

use crate::Limits;

/// The file, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address for the parties' requests and their keys.
    #[serde(deserialize_with = "config::address")]
    pub listen: SocketAddr,
    /// Address of the control API.
    #[serde(deserialize_with = "config::address")]
    pub control: SocketAddr,
    /// Address of the pages for operators; none if the file does not say.
    #[serde(default, deserialize_with = "config::address_if_any")]
    pub admin: Option<SocketAddr>,
    /// Certificates.
    pub identity: IdentityFiles,
    /// Link profile: a name of `links/` beside the file, of a built-in profile, or a path.
    #[serde(default = "config::default_link")]
    pub link: String,
    /// Emulate the profile inside the process.
    #[serde(default)]
    pub shaped: bool,
    /// What makes the keys.
    #[serde(default)]
    pub backend: BackendChoice,
    /// Threads that make keys; 0 for one per core.
    #[serde(default)]
    pub threads: usize,
    /// Bound on the memory of keys, in MiB: those in the making, those on their way, and what is kept for the next ones.
    #[serde(default = "default_memory_mb")]
    pub memory_mb: u64,
    /// Keep memory from being swapped out.
    #[serde(default = "config::default_lock_memory")]
    pub lock_memory: bool,
    /// How long a request waits for the other party's, in seconds.
    #[serde(default = "default_wait_for_peer_s")]
    pub wait_for_peer_s: u32,
    /// Most loaded models whose masks it keeps.
    #[serde(default = "default_max_loads")]
    pub max_loads: u32,
    /// Most elements of a batch.
    #[serde(default = "config::default_max_elems")]
    pub max_elems: u64,
    /// Gates that it makes keys for; all where the file does not say.
    gates: Option<Vec<String>>,
    /// Files of quantised weights that programs may name: the same as at the parties.
    #[serde(default)]
    weights: Vec<PathBuf>,
    /// Models whose programs may be evaluated: the same as there.
    #[serde(default)]
    models: Vec<ModelEntry>,
    /// Weights in memory, in MiB.
    #[serde(default = "weights::default_memory_mb")]
    model_memory_mb: u64,
}

/// Least memory for keys, in MiB: both parties' keys of the largest part that the protocol allows.
const LEAST_MEMORY_MB: u64 = (2 * MAX_KEY_PART_BYTES as u64) >> 20;

/// Most memory for keys, in MiB: 1 TiB, beyond any host.
const MOST_MEMORY_MB: u64 = 1 << 20;

/// Part of the memory limit that keys may take. The rest is for making them, for buffers of the network and for the program.
const MEMORY_PART: Percent = Percent(50);

/// Longest wait for the other party, in seconds: the parties agree on a batch before they ask, so an hour is a defect.
const MOST_WAIT_S: u32 = 3600;

/// Most loaded models: each has two seeds and a program of at most 256 KiB, which take under 1 MiB.
const MOST_LOADS: u32 = 1024;

impl Config {
    /// What the dealer allows itself and the parties, on a host with this limit of memory. A budget that is cut down is
    /// logged as a warning.
    ///
    /// # Errors
    /// When an entry of `gates` is neither a digest nor a name; [`Config::load`] has checked that.
    pub fn limits(&self, limit: Option<&MemoryLimit>, weights: weights::Loaded) -> Result<Limits, String> {
        Ok(Limits {
            max_elems: self.max_elems,
            memory_bytes: budget_bytes("memory_mb", self.memory_mb, MEMORY_PART, limit),
            threads: config::threads(self.threads),
            max_loads: self.max_loads as usize,
            wait_for_peer: Duration::from_secs(self.wait_for_peer_s.into()),
            gates: config::allowed_gates(self.gates.as_deref())?,
            weights,
        })
    }
}

impl Config {
    /// The weights that programs may name, and the models that they are of.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, a model has no plan, or they take too much memory.
    pub fn weights(&self) -> Result<weights::Loaded, String> {
        weights::load(&self.weights, &self.models, self.model_memory_mb)
    }
}

impl Configuration for Config {
    const EXPLAINED: &'static str = "config/dealer.toml";

    fn check(&mut self, folder: &Path) -> Result<(), String> {
        config::check_threads(self.threads)?;
        config::within("max_elems", self.max_elems, 1, MAX_ELEMS)?;
        config::within("memory_mb", self.memory_mb, LEAST_MEMORY_MB, MOST_MEMORY_MB)?;
        config::within("wait_for_peer_s", self.wait_for_peer_s.into(), 1, MOST_WAIT_S.into())?;
        config::within("max_loads", self.max_loads.into(), 1, MOST_LOADS.into())?;
        config::allowed_gates(self.gates.as_deref())?;
        config::within("model_memory_mb", self.model_memory_mb, 1, MOST_MEMORY_MB)?;
        self.weights.iter_mut().for_each(|file| *file = folder.join(&*file));
        self.models.iter_mut().for_each(|model| model.resolve(folder));
        self.identity.resolve(folder);
        self.link = config::link_in(folder, &self.link);
        Ok(())
    }
}

fn default_memory_mb() -> u64 {
    256
}

fn default_max_loads() -> u32 {
    64
}

fn default_wait_for_peer_s() -> u32 {
    30
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        listen = "127.0.0.1:0"
        control = "127.0.0.1:0"
        identity = { ca = "ca.pem", cert = "dealer.pem", key = "/keys/dealer.key" }
    "#;

    fn error(text: &str) -> String {
        Config::parse(text, Path::new("/etc/suf/dealer.toml")).expect_err("wrong").to_string()
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = Config::parse(GOOD, Path::new("/etc/suf/dealer.toml")).expect("good");
        assert_eq!(config.identity.ca, Path::new("/etc/suf/ca.pem"));
        assert_eq!(config.identity.key, Path::new("/keys/dealer.key"));
        assert_eq!(config.link, "loopback");
        assert!(config.limits(None, weights::Loaded::default()).expect("good").threads >= 1);
        let text = format!("link = \"links/ours.toml\"\n{GOOD}");
        let config = Config::parse(&text, Path::new("/etc/suf/dealer.toml")).expect("good");
        assert_eq!(config.link, "/etc/suf/links/ours.toml");
    }

    #[test]
    fn mistakes_name_the_key() {
        assert!(error(&format!("port = 1\n{GOOD}")).contains("port"));
        assert!(error(&format!("memory_mb = 127\n{GOOD}")).contains("memory_mb = 127; it is 128 to"));
        assert!(error(&format!("max_elems = 0\n{GOOD}")).contains("max_elems = 0"));
        assert!(error(&format!("max_loads = 0\n{GOOD}")).contains("max_loads = 0; it is 1 to 1024"));
        assert!(error(&format!("wait_for_peer_s = 0\n{GOOD}")).contains("wait_for_peer_s = 0"));
        assert!(error(&format!("backend = \"gpu\"\n{GOOD}")).contains("gpu"));
        assert!(error(&GOOD.replace("cert =", "certificate =")).contains("certificate"));
        assert!(error(&GOOD.replace("listen", "lissen")).contains("lissen"));
    }

    #[test]
    fn the_file_that_ships_is_good() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/dealer.toml"));
        let config = Config::load(path).expect("config/dealer.toml is good");
        assert_eq!(config.limits(None, weights::Loaded::default()).expect("good").max_elems, MAX_ELEMS);
    }
}
