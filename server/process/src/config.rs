//! What the daemons' configuration files have in common: how they are read, what is said of mistakes, and the keys that mean
//! the same everywhere.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use suf_gate::catalog::AllowedGates;
use suf_link::LinkProfile;
use suf_net::Target;
use suf_toml::Mistake;

/// A configuration file, as written.
pub trait Configuration: DeserializeOwned {
    /// The file of the repository that explains every key.
    const EXPLAINED: &'static str;

    /// Checks the values, and takes relative paths from `folder`, that of the file.
    ///
    /// # Errors
    /// Which key is wrong, in the first word, and what it may be.
    fn check(&mut self, folder: &Path) -> Result<(), String>;

    /// Reads and checks the file at `path`. Relative paths in it are taken from its folder.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key, or a value out of range.
    fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = fs::read(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        let text = suf_toml::text(&bytes)
            .map_err(|mistake| ConfigError::Wrong { path: path.to_owned(), mistake })?;
        Self::parse(text, path)
    }

    /// As [`Configuration::load`], for the `text` of the file at `path`.
    ///
    /// # Errors
    /// As there.
    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let wrong = |mistake: Mistake| ConfigError::Wrong { path: path.to_owned(), mistake };
        let mut config: Self = suf_toml::parse(text, Self::EXPLAINED).map_err(wrong)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        config.check(folder).map_err(|reason| wrong(at_its_key(text, reason)))?;
        Ok(config)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {error}; see its path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What it says is wrong.
    #[error("the configuration {path} is wrong in {mistake}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line and key, and what it may be.
        mistake: Mistake,
    },
}

/// `reason` at the key that its first word names, such as `peer.listen`.
fn at_its_key(text: &str, reason: String) -> Mistake {
    let key = reason.split([' ', ':']).next().unwrap_or_default().to_owned();
    Mistake::of_key(text, &key.split('.').collect::<Vec<_>>(), reason)
}

/// A key that is an address of this host, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// When it is none; the message shows how one is written.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// A key that is an address of this host, or is not there, for `#[serde(default, deserialize_with)]`.
///
/// # Errors
/// As [`address`].
pub fn address_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    address(deserializer).map(Some)
}

/// `text` as an address of this host with a port.
///
/// # Errors
/// As [`address`].
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is no address of this host with a port; write for example \"10.0.0.1:7101\" or \"[fd00::1]:7101\""
        )
    })
}

/// Whether the value of `key` is from `least` to `most`.
///
/// # Errors
/// In words, if it is not.
pub fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{key} = {value}; it is {least} to {most}"))
}

/// Whether the value of `key` is an address to call, `HOST:PORT`.
///
/// # Errors
/// In words, if it is not.
pub fn target(key: &str, address: &str) -> Result<(), String> {
    address.parse::<Target>().map(drop).map_err(|error| format!("{key}: {error}"))
}

/// Folder of link profiles beside a configuration.
pub const LINKS: &str = "links";

/// The key `link` for `LinkProfile::find`: a path, taken from `folder`, which has a slash or a dot, or a name. A name stands
/// for the file of that name in [`LINKS`] beside the configuration. It stands for the built-in profile where there is no such
/// file, or an equal one.
#[must_use]
pub fn link_in(folder: &Path, link: &str) -> String {
    if link.contains(['/', '.']) {
        return folder.join(link).display().to_string();
    }
    let file = folder.join(LINKS).join(format!("{link}.toml"));
    if !file.exists() || is_built_in(link, &file) { link.to_owned() } else { file.display().to_string() }
}

/// Whether the profile in `file` is the built-in one called `name`.
fn is_built_in(name: &str, file: &Path) -> bool {
    let built_in = LinkProfile::BUILT_IN.iter().find(|(known, _)| *known == name);
    built_in.is_some_and(|(_, text)| {
        matches!((LinkProfile::parse(name, text), LinkProfile::load(file)), (Ok(shipped), Ok(own)) if shipped == own)
    })
}

/// Most threads that compute: more than any host has processors is a typing error.
const MOST_THREADS: u64 = 4096;

/// Whether the key `threads` makes sense.
///
/// # Errors
/// In words, if it does not.
pub fn check_threads(configured: usize) -> Result<(), String> {
    within("threads", configured as u64, 0, MOST_THREADS)
}

/// The key `gates`: digests or names of built-in gates; none where the file does not have it, which allows all gates.
///
/// # Errors
/// Which entry is neither.
pub fn allowed_gates(entries: Option<&[String]>) -> Result<Option<Arc<AllowedGates>>, String> {
    let parse = |entries: &[String]| AllowedGates::parse(entries.iter().map(String::as_str));
    let allowed = entries.map(parse).transpose().map_err(|error| format!("gates: {error}"))?;
    Ok(allowed.map(Arc::new))
}

/// The key `threads`: 0 is one for each core.
#[must_use]
pub fn threads(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// `link`, where the file does not say.
#[must_use]
pub fn default_link() -> String {
    "loopback".into()
}

/// `lock_memory`, where the file does not say.
#[must_use]
pub fn default_lock_memory() -> bool {
    true
}

/// `max_elems`, where the file does not say.
#[must_use]
pub fn default_max_elems() -> u64 {
    suf_gate::limits::MAX_ELEMS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_beside_the_configuration_is_used_unless_it_is_the_built_in_one() {
        let folder = tempfile::tempdir().unwrap();
        let link = |name: &str| link_in(folder.path(), name);
        assert_eq!(link("lan"), "lan");
        fs::create_dir(folder.path().join(LINKS)).unwrap();
        let file = folder.path().join(LINKS).join("lan.toml");
        let (_, shipped) = LinkProfile::BUILT_IN.iter().find(|(name, _)| *name == "lan").unwrap();
        fs::write(&file, format!("{shipped}\n# A remark changes nothing.\n")).unwrap();
        assert_eq!(link("lan"), "lan");
        fs::write(&file, shipped.replace("delay_ms = 0.5", "delay_ms = 0.75")).unwrap();
        assert_eq!(link("lan"), file.display().to_string());
        assert_eq!(LinkProfile::find(&link("lan")).unwrap().delay_ms, 0.75);
        // What is wrong is not passed over.
        fs::write(&file, "garbage").unwrap();
        assert!(LinkProfile::find(&link("lan")).unwrap_err().to_string().contains("lan.toml"));
        // A name of one's own.
        fs::write(folder.path().join(LINKS).join("ours.toml"), shipped).unwrap();
        assert!(link("ours").ends_with("links/ours.toml"));
        assert_eq!(link("./links/lan.toml"), folder.path().join("./links/lan.toml").display().to_string());
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        _name: String,
        #[serde(deserialize_with = "address")]
        _listen: SocketAddr,
        _threads: u8,
        _backend: Option<crate::BackendChoice>,
    }

    impl Configuration for Example {
        const EXPLAINED: &'static str = "config/example.toml";

        fn check(&mut self, _: &Path) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn mistakes_are_told_with_file_line_key_and_what_is_allowed() {
        let good = "_name = \"a\"\n_listen = \"[::1]:7101\"\n_threads = 1\n";
        Example::parse(good, Path::new("ours.toml")).expect("good");
        for (from, to, line, words) in [
            ("_threads", "threads", 3, &["`threads`", "`_threads`"][..]),
            ("_threads = 1\n", "", 1, &["`_threads` is missing"]),
            ("1\n", "\"many\"\n", 3, &["_threads: ", "\"many\"", "whole number"]),
            ("1\n", "300\n", 3, &["_threads: ", "300", "255"]),
            ("[::1]:7101", "localhost", 2, &["_listen: ", "\"localhost\"", "10.0.0.1:7101"]),
            ("_threads = 1", "_threads = 1\n_backend = \"gpu\"", 4, &["_backend: `gpu`", "`auto`", "`cuda`"]),
            ("\"a\"", "a", 1, &["`a` is no value", "text stands in quotes"]),
        ] {
            let error =
                Example::parse(&good.replace(from, to), Path::new("ours.toml")).expect_err(to).to_string();
            for word in words.iter().copied().chain(["ours.toml", &format!("line {line}:")]) {
                assert!(error.contains(word), "{word:?} is missing in: {error}");
            }
            for word in ["variant", "field", "u8", "struct"] {
                assert!(!error.contains(word), "{word:?} is no word for people: {error}");
            }
        }
    }
}
