//! The party's configuration file. Every key is documented where it stands, in `config/party0.toml`.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use suf_gate::{Protocol, gate::MAX_ELEMS};
use suf_link::IdentityFiles;
use suf_wire::PartyId;

/// The file, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    party: u8,
    /// Address of the control API.
    pub control: SocketAddr,
    /// The dealer's key address, `host:port`.
    pub dealer: String,
    /// Folder of the ledger and the key spool.
    pub state_dir: PathBuf,
    /// Certificates.
    pub identity: IdentityFiles,
    /// The link to the other party.
    pub peer: Peer,
    /// Link profile: a name of `config/links` or a path.
    #[serde(default = "default_link")]
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
    pub key_memory_mb: u64,
    /// Most elements of a run.
    #[serde(default = "default_max_elems")]
    pub max_elems: u64,
    /// Longest run, in seconds.
    #[serde(default = "default_max_run_s")]
    pub max_run_s: u32,
    /// Keep memory from being swapped out.
    #[serde(default = "default_lock_memory")]
    pub lock_memory: bool,
    #[serde(default = "default_protocols")]
    protocols: Vec<String>,
}

/// Who waits for whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
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

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// A GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or an error.
    Cuda,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is not understood; the message shows the line.
    #[error("the configuration {path} is wrong: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("the configuration {path} is wrong: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Which key, and what it may be.
        reason: String,
    },
}

impl Config {
    /// Reads and checks `path`. Relative paths in it are taken from its folder.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key, or a value out of range.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// As [`Config::load`], for the `text` of the file at `path`.
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), error: Box::new(error) })?;
        let wrong = |reason: String| ConfigError::Value { path: path.to_owned(), reason };
        match (config.party, &config.peer) {
            (0, Peer::Listen { .. }) | (1, Peer::Connect { .. }) => {}
            (0, _) => {
                return Err(wrong(
                    "party 0 listens for party 1: give peer = { listen = \"address:port\" }".into(),
                ));
            }
            (1, _) => {
                return Err(wrong(
                    "party 1 connects to party 0: give peer = { connect = \"host:port\" }".into(),
                ));
            }
            (other, _) => return Err(wrong(format!("party = {other}; it is 0 or 1"))),
        }
        if !(1..=MAX_ELEMS).contains(&config.max_elems) {
            return Err(wrong(format!("max_elems = {}; it is 1 to {MAX_ELEMS}", config.max_elems)));
        }
        if !(1..=86_400).contains(&config.max_run_s) {
            return Err(wrong(format!("max_run_s = {}; it is 1 to 86400", config.max_run_s)));
        }
        config.protocols().map_err(wrong)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        config.identity.resolve(folder);
        config.state_dir = folder.join(&config.state_dir);
        // As for `LinkProfile::find`: what has a slash or a dot is a path.
        if config.link.contains(['/', '.']) {
            config.link = folder.join(&config.link).display().to_string();
        }
        Ok(config)
    }

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

    /// Computing threads, at least one.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

fn default_link() -> String {
    "loopback".into()
}

fn default_key_memory_mb() -> u64 {
    4096
}

fn default_max_elems() -> u64 {
    MAX_ELEMS
}

fn default_max_run_s() -> u32 {
    3600
}

fn default_lock_memory() -> bool {
    true
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
        assert!(error(&format!("{GOOD}\nmax_elems = 0")).contains("max_elems = 0"));
        assert!(error(&GOOD.replace("party = 0", "party = 2")).contains("party = 2"));
        assert!(error(&GOOD.replace("listen", "connect")).contains("party 0 listens"));
    }
}
