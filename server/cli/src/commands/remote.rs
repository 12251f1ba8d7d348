//! Options that name daemons and say who we are.

use std::path::PathBuf;

use suf_control::{client as control, v1::party_client::PartyClient};
use suf_link::Identity;
use suf_wire::{PartyId, RunId};
use tonic::transport::Channel;

use crate::{
    client::{Credentials, connect},
    error::Error,
};

/// Who we are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct IdentityArgs {
    /// Our certificate, such as pki/client.pem.
    #[arg(long, value_name = "PEM", env = "SUF_IDENTITY")]
    pub(crate) identity: Option<PathBuf>,
    /// Its private key [default: beside the certificate, ending in .key].
    #[arg(long, value_name = "KEY", requires = "identity")]
    pub(crate) key: Option<PathBuf>,
    /// The authority's certificate [default: ca.pem beside the certificate].
    #[arg(long, value_name = "PEM", requires = "identity")]
    pub(crate) ca: Option<PathBuf>,
}

/// One party, by its control address.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OneParty {
    /// Control address of party 0, such as https://10.0.0.1:7101.
    #[arg(
        long,
        value_name = "URL",
        required_unless_present = "party1",
        conflicts_with = "party1",
        env = "SUF_PARTY0"
    )]
    pub(crate) party0: Option<String>,
    /// Control address of party 1, instead of party 0's.
    #[arg(long, value_name = "URL")]
    pub(crate) party1: Option<String>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

impl IdentityArgs {
    /// Reads the files.
    pub(crate) fn load(&self) -> Result<Identity, Error> {
        let cert = self.identity.clone().ok_or_else(|| {
            Error::usage("say who you are: --identity pki/client.pem (made by `suf pki init`)")
        })?;
        Credentials { cert, key: self.key.clone(), ca: self.ca.clone() }.load()
    }
}

impl OneParty {
    /// Which party is called.
    pub(crate) fn party(&self) -> PartyId {
        if self.party1.is_some() { PartyId::P1 } else { PartyId::P0 }
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> Result<PartyClient<Channel>, Error> {
        let identity = self.identity.load()?;
        let address = self
            .party1
            .as_ref()
            .or(self.party0.as_ref())
            .ok_or_else(|| Error::usage("name a party: --party0 URL or --party1 URL"))?;
        Ok(control::party(connect(&url(address), &identity, self.party().role()).await?))
    }
}

/// `address` as a URL: `https://` may be left out.
pub(crate) fn url(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("https://{address}") }
}

/// Parses a run's id on the command line.
pub(crate) fn run_id(text: &str) -> Result<RunId, String> {
    text.parse().map_err(|error| format!("{error}; `suf run` and `suf runs` print it"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
