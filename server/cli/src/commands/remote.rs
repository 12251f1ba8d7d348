//! Options that name daemons and say who we are.

use std::{ffi::OsString, fmt::Display, path::PathBuf, str::FromStr};

use suf_control::{
    client as control,
    v1::{RunRef, party_client::PartyClient},
};
use suf_link::Identity;
use suf_wire::{Party, RunHash, RunId};
use tonic::transport::Channel;

use crate::{
    client::{self, Credentials, Parties, connect},
    error::Error,
};

/// Our identity.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct IdentityArgs {
    /// Our certificate, such as pki/client.pem [default: the variable SUF_IDENTITY].
    #[arg(long, value_name = "PEM")]
    pub(crate) identity: Option<PathBuf>,
    /// Its private key [default: beside the certificate, ending in .key].
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<PathBuf>,
    /// The authority's certificate [default: ca.pem beside the certificate]. A file crl.pem beside it is its list
    /// of revoked certificates.
    #[arg(long, value_name = "PEM")]
    pub(crate) ca: Option<PathBuf>,
}

/// The parties, by their control addresses.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PartyArgs {
    /// Control address of party 0, such as https://10.0.0.1:7101 [default: the variable SUF_PARTY0].
    #[arg(long, value_name = "URL")]
    pub(crate) party0: Option<String>,
    /// Control address of party 1 [default: the variable SUF_PARTY1].
    #[arg(long, value_name = "URL")]
    pub(crate) party1: Option<String>,
}

/// One party, and who we are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OneParty {
    #[command(flatten)]
    pub(crate) parties: PartyArgs,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

/// Both parties, and who we are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BothParties {
    #[command(flatten)]
    pub(crate) parties: PartyArgs,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

/// A run on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunName {
    /// By its id, as its client names it.
    Id(RunId),
    /// By the hash of its id, as everybody else does.
    Hash(RunHash),
}

impl RunName {
    /// The run, as the control API takes it.
    pub(crate) fn reference(self) -> RunRef {
        match self {
            Self::Id(id) => client::reference(id),
            Self::Hash(hash) => RunRef { run_hash: hash.0.to_vec().into(), ..RunRef::default() },
        }
    }
}

impl BothParties {
    /// Connects to both.
    pub(crate) async fn connect(&self) -> Result<Parties, Error> {
        let [first, second] = self.parties.both()?;
        Parties::connect([&first, &second], &self.identity.load()?).await
    }
}

impl IdentityArgs {
    /// Reads the files.
    pub(crate) fn load(&self) -> Result<Identity, Error> {
        let cert = self.identity.clone().or_else(|| variable(IDENTITY, &environment).map(PathBuf::from));
        let cert = cert.ok_or_else(|| {
            Error::usage("say who you are: --identity pki/client.pem (`suf pki request` makes the key, `suf pki sign` the certificate)")
        })?;
        if let Err(error) = std::fs::metadata(&cert) {
            // Not the authority's beside it, which is then missing as well.
            return Err(Error::usage(format!(
                "--identity: {} cannot be read: {error}; name the certificate that `suf pki` has made, such as pki/client.pem",
                cert.display()
            )));
        }
        Credentials { cert, key: self.key.clone(), ca: self.ca.clone() }.load()
    }
}

impl PartyArgs {
    /// Both addresses as URLs.
    ///
    /// # Errors
    /// When one is given neither by its option nor by its variable.
    pub(crate) fn both(&self) -> Result<[String; 2], Error> {
        self.both_in(&environment)
    }

    fn both_in(&self, environment: &Environment<'_>) -> Result<[String; 2], Error> {
        let address = |option: &Option<String>, party, name| {
            let address = option.clone().or_else(|| variable_text(name, environment));
            let address = address.ok_or_else(|| {
                Error::usage(format!(
                    "name both parties, --party0 URL and --party1 URL: one is missing, and so is the variable {name}"
                ))
            })?;
            checked(party, &address)
        };
        let both = [address(&self.party0, Party::P0, PARTY0)?, address(&self.party1, Party::P1, PARTY1)?];
        if both[0] == both[1] {
            let both = &both[0];
            return Err(Error::usage(format!(
                "--party0 and --party1 are both {both}: they are two daemons, each with an address of its own"
            )));
        }
        Ok(both)
    }

    /// The parties that are named, by options or by variables, and their URLs.
    ///
    /// # Errors
    /// When none is.
    pub(crate) fn named(&self) -> Result<Vec<(Party, String)>, Error> {
        let address =
            |option: &Option<String>, name| option.clone().or_else(|| variable_text(name, &environment));
        let both = [(Party::P0, address(&self.party0, PARTY0)), (Party::P1, address(&self.party1, PARTY1))];
        match &both {
            [(_, Some(_)), (_, Some(_))] => Ok(Party::BOTH.into_iter().zip(self.both()?).collect()),
            _ => self.one().map(|one| vec![one]),
        }
    }

    /// The one party that is named, and its URL. A party named by its option comes before those named by variables; of two
    /// variables party 0's is taken.
    ///
    /// # Errors
    /// When no party is named, or both are by their options.
    pub(crate) fn one(&self) -> Result<(Party, String), Error> {
        self.one_in(&environment)
    }

    fn one_in(&self, environment: &Environment<'_>) -> Result<(Party, String), Error> {
        match (&self.party0, &self.party1) {
            (Some(_), Some(_)) => Err(Error::usage("name one party: --party0 URL or --party1 URL, not both")),
            (Some(address), None) => Ok((Party::P0, checked(Party::P0, address)?)),
            (None, Some(address)) => Ok((Party::P1, checked(Party::P1, address)?)),
            (None, None) => {
                let named = |party, name| variable_text(name, environment).map(|address| (party, address));
                let found = named(Party::P0, PARTY0).or_else(|| named(Party::P1, PARTY1));
                let (party, address) =
                    found.ok_or_else(|| Error::usage("name a party: --party0 URL or --party1 URL"))?;
                Ok((party, checked(party, &address)?))
            }
        }
    }
}

impl OneParty {
    /// Which party is called.
    pub(crate) fn party(&self) -> Result<Party, Error> {
        Ok(self.parties.one()?.0)
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> Result<PartyClient<Channel>, Error> {
        let (party, address) = self.parties.one()?;
        let identity = self.identity.load()?;
        Ok(control::party(connect(&address, &identity, party.role()).await?))
    }
}

/// Variables that stand in for options that are not given.
const PARTY0: &str = "SUF_PARTY0";
const PARTY1: &str = "SUF_PARTY1";
const IDENTITY: &str = "SUF_IDENTITY";

/// Where variables are looked up.
type Environment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// The environment of this process.
fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The value of the variable `name`; an empty variable is none.
///
/// clap's own `env` takes a variable for an option that was typed: it would conflict with options that were.
fn variable(name: &str, environment: &Environment<'_>) -> Option<OsString> {
    environment(name).filter(|value| !value.is_empty())
}

fn variable_text(name: &str, environment: &Environment<'_>) -> Option<String> {
    variable(name, environment).map(|value| value.to_string_lossy().into_owned())
}

/// The URL of `party`, if `address` is one.
///
/// # Errors
/// When no daemon can be called there, whatever listens.
fn checked(party: Party, address: &str) -> Result<String, Error> {
    let url = url(address);
    control::check_url(&url).map_err(|error| Error::usage(format!("--{}: {error}", party.role())))?;
    Ok(url)
}

/// `address` as a URL: `https://` may be left out.
pub(crate) fn url(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("https://{address}") }
}

/// Longest deadline of a run, in seconds: a day, the most that a party's configuration admits.
const MOST_DEADLINE_S: u32 = 86_400;

/// Parses a whole number from `least` to `most` on the command line. The parsers of libraries speak of digits in strings.
pub(crate) fn whole<T>(
    least: T,
    most: T,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("write a whole number from {least} to {most}"))
    }
}

/// Parses a deadline on the command line, in seconds.
pub(crate) fn deadline() -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    whole(1, MOST_DEADLINE_S)
}

/// Parses a number of elements on the command line.
pub(crate) fn elements() -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    whole(1, suf_gate::limits::MAX_ELEMS)
}

/// Parses a run's id on the command line.
pub(crate) fn run_id(text: &str) -> Result<RunId, String> {
    text.parse()
        .map_err(|error| format!("{error}; `suf run` prints it, and so does `suf runs` for its client"))
}

/// Parses a run's id or `hash:` and the hash of its id.
pub(crate) fn run_name(text: &str) -> Result<RunName, String> {
    if text.starts_with("hash:") {
        return text.parse().map(RunName::Hash).map_err(|error| format!("{error}; `suf runs` prints it"));
    }
    run_id(text).map(RunName::Id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options and variables of both parties, in every combination: none, empty (variables alone) or given.
    #[test]
    fn the_command_line_comes_before_variables_and_an_empty_variable_is_none() {
        let states = [None, Some(""), Some("value")];
        for (option0, option1) in [(false, false), (true, false), (false, true), (true, true)] {
            for variable0 in states {
                for variable1 in states {
                    let option = |given: bool, text: &str| given.then(|| text.to_owned());
                    let args = PartyArgs { party0: option(option0, "o0:1"), party1: option(option1, "o1:1") };
                    let environment = |name: &str| {
                        let (state, text) =
                            if name == PARTY0 { (variable0, "v0:1") } else { (variable1, "v1:1") };
                        state.map(|state| if state.is_empty() { "" } else { text }.into())
                    };
                    let value = |option: bool, variable: Option<&str>, party: &str| {
                        let by_variable = variable.is_some_and(|state| !state.is_empty());
                        let letter = if option { Some("o") } else { by_variable.then_some("v") };
                        letter.map(|letter| format!("https://{letter}{party}:1"))
                    };
                    let [first, second] = [value(option0, variable0, "0"), value(option1, variable1, "1")];
                    let what = format!("{args:?} {variable0:?} {variable1:?}");

                    let both = first.clone().zip(second.clone()).map(<[String; 2]>::from);
                    assert_eq!(args.both_in(&environment).ok(), both, "{what}");

                    let one = match (option0, option1) {
                        (true, true) => None,
                        (true, false) => first.map(|url| (Party::P0, url)),
                        (false, true) => second.map(|url| (Party::P1, url)),
                        (false, false) => {
                            first.map(|url| (Party::P0, url)).or_else(|| second.map(|url| (Party::P1, url)))
                        }
                    };
                    assert_eq!(args.one_in(&environment).ok(), one, "{what}");
                }
            }
        }
    }

    #[test]
    fn addresses_that_no_daemon_can_have_are_wrong_usage() {
        let both = |first: &str, second: &str| {
            let args = PartyArgs { party0: Some(first.into()), party1: Some(second.into()) };
            args.both_in(&|_| None).map_err(|error| error.to_string())
        };
        assert_eq!(both("a:1", "https://b:2"), Ok(["https://a:1".into(), "https://b:2".into()]));
        for (wrong, words) in [
            ("a", "no port"),
            ("", "is no address"),
            ("http://a:1", "https"),
            ("a:99999", "65535"),
            ("::1:7", "[ADDRESS]"),
        ] {
            let said = both("a:1", wrong).unwrap_err();
            assert!(said.starts_with("--party1: ") && said.contains(words), "{said}");
        }
        assert!(both("a:1", "a:1").unwrap_err().contains("two daemons"));
    }

    #[test]
    fn whole_numbers_are_told_with_their_range() {
        let parse = whole(1_u32, 1000);
        assert_eq!(parse("1000"), Ok(1000));
        for wrong in ["0", "1001", "-1", "x", "", "1.5", "99999999999"] {
            assert_eq!(parse(wrong), Err("write a whole number from 1 to 1000".into()), "{wrong}");
        }
    }

    #[test]
    fn the_scheme_may_be_left_out() {
        assert_eq!(url("host:7101"), "https://host:7101");
        assert_eq!(url("http://host:7101"), "http://host:7101", "refused with its reason when connecting");
    }

    #[test]
    fn run_ids_are_32_hexadecimal_digits() {
        assert!(run_id(&"0f".repeat(16)).is_ok());
        assert!(run_id("0f").unwrap_err().contains("32"));
    }

    #[test]
    fn a_run_is_named_by_its_id_or_by_its_hash() {
        let digits = "0f".repeat(16);
        let (id, hash) = (RunId([15; 16]), RunHash([15; 16]));
        assert_eq!(run_name(&digits), Ok(RunName::Id(id)));
        assert_eq!(run_name(&hash.to_string()), Ok(RunName::Hash(hash)));
        assert!(run_name("hash:0f").unwrap_err().contains("32"));
        assert_eq!(RunName::Hash(hash).reference().run_id, "", "a hash is not sent as an id");
    }
}
