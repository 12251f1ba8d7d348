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

/// A configuration file, as written.
pub trait Configuration: DeserializeOwned {
    /// Checks the values, and takes relative paths from `folder`, that of the file.
    ///
    /// # Errors
    /// Which key is wrong, and what it may be.
    fn check(&mut self, folder: &Path) -> Result<(), String>;

    /// Reads and checks the file at `path`. Relative paths in it are taken from its folder.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key, or a value out of range.
    fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// As [`Configuration::load`], for the `text` of the file at `path`.
    ///
    /// # Errors
    /// As there.
    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let (line, problem) = in_words(text, &error);
            ConfigError::Parse { path: path.to_owned(), line, problem }
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        config.check(folder).map_err(|reason| ConfigError::Value { path: path.to_owned(), reason })?;
        Ok(config)
    }
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
    /// The file is not understood.
    #[error("the configuration {path} is wrong in line {line}: {problem}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Which key, and what it may be.
        problem: String,
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

/// The line of `error` in `text`, from 1, and what is wrong there in words for people who write configurations: the library
/// speaks of fields, variants and integer types.
fn in_words(text: &str, error: &toml::de::Error) -> (usize, String) {
    let offset = error.span().map_or(0, |span| span.start);
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let message = error.message();
    // The message itself names these keys.
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (key, known) = rest.split_once(", expected ").unwrap_or((rest, "none"));
        return (
            line,
            format!("there is no key {key}; the keys are {}", known.trim_start_matches("one of ")),
        );
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        return (line, format!("the key {key} is missing"));
    }
    let problem =
        match message.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected ")) {
            Some((value, known)) => format!("{value} is none of {}", known.trim_start_matches("one of ")),
            None => wrong_type(message).unwrap_or_else(|| message.to_owned()),
        };
    // The value that the error points at stands after its key.
    let own_line = before.rsplit('\n').next().unwrap_or_default();
    let key = own_line.trim_end().strip_suffix('=').and_then(|keys| keys.rsplit(['{', ',']).next());
    match key.map(str::trim) {
        Some(key) if !problem.starts_with(key) => (line, format!("{key}: {problem}")),
        _ => (line, problem),
    }
}

/// What is said of a value of the wrong type, if the library's message is about one.
fn wrong_type(message: &str) -> Option<String> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, wanted) = rest.split_once(", expected ")?;
    let found = match found {
        "map" => "a table",
        "sequence" => "a list",
        other => other,
    };
    let wanted = match wanted {
        "u8" => "a whole number from 0 to 255",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "a boolean" => "true or false",
        "a string" | "path string" => "text in quotes",
        "a sequence" => "a list in brackets",
        table if table.starts_with("struct ") => "a table",
        other => other,
    };
    Some(format!("this is {found}; it has to be {wanted}"))
}

/// A key that is an address of this host, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// When it is none; the message shows how one is written.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
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

/// The key `link` for `LinkProfile::find`: a path, taken from `folder`, which has a slash or a dot, or a name. A name stands for
/// the file of that name in [`LINKS`] beside the configuration, unless it says what the built-in profile says, or is not there.
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
            ("\"a\"", "a", 1, &["_name: "]),
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
