//! `suf model list` and `suf model drop`: what is loaded at the parties.

use std::time::{Duration, SystemTime};

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use suf_control::{
    client as control,
    v1::{self, party_client::PartyClient},
};
use suf_wire::Party;
use tonic::transport::Channel;

use crate::{
    client::{connect, place},
    commands::remote::{IdentityArgs, PartyArgs},
    error::Error,
    loads::{Located, dropped, listed, merged},
    out, runtime,
};

/// List the models with private weights that are loaded at the parties.
///
/// An owner sees its own, a client those that it may use, operators and observers all. A model that is loaded at one party only, because the
/// other was restarted, is shown so; its owner loads it again.
#[derive(clap::Args)]
#[command(after_help = "Example:
  suf model list --party0 10.0.0.1:7101 --party1 10.0.0.2:7201 --identity pki/model.pem")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    parties: PartyArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Wipe a loaded model at the parties. Runs that use it end. An owner drops its own, an operator any of the host.
#[derive(clap::Args)]
#[command(after_help = "Example:
  suf model drop mine --party0 10.0.0.1:7101 --party1 10.0.0.2:7201 --identity pki/model.pem")]
pub(crate) struct DropArgs {
    /// The load: its name or its digest, as `suf model list` prints them.
    load: String,
    #[command(flatten)]
    parties: PartyArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A party that was named, and the connection to it.
type Called = (Party, Result<PartyClient<Channel>, Error>);

/// What the parties that were named list.
struct Listing {
    /// Those that answered.
    asked: Vec<(Party, PartyClient<Channel>)>,
    loads: Vec<Located>,
    /// Why another one did not.
    failed: Option<Error>,
}

/// Runs `suf model list`.
pub(crate) fn list(args: &ListArgs) -> Result<(), Error> {
    runtime::block_on(async |_| {
        let Listing { asked, loads, failed } = listing(&args.parties, &args.identity).await?;
        let asked: Vec<_> = asked.into_iter().map(|(party, _)| party).collect();
        let printed = if args.json {
            out::json(&loads.iter().map(value).collect::<Vec<_>>())
        } else {
            out::line(table(&loads, &asked)).map(|_| ())
        };
        failed.map_or(printed, Err)
    })
}

/// Runs `suf model drop`.
pub(crate) fn drop_load(args: &DropArgs) -> Result<(), Error> {
    runtime::block_on(async |_| {
        let Listing { asked, loads, mut failed } = listing(&args.parties, &args.identity).await?;
        let meant: Vec<_> = loads.iter().filter(|load| load.is_called(&args.load)).collect();
        let meant = match meant[..] {
            [meant] => meant,
            [] => return Err(failed.unwrap_or_else(|| unknown(&args.load, &loads))),
            _ => {
                return Err(Error::usage(format!(
                    "several loaded models are called `{}`: name one by its digest, which `suf model list` prints",
                    args.load
                )));
            }
        };
        let mut gone = [None, None];
        for (party, mut client) in asked {
            let Some(load) = &meant.at[party.index()] else { continue };
            match dropped(party, &mut client, load).await {
                Ok(load) => gone[party.index()] = Some(load),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if gone.iter().all(Option::is_none) {
            return Err(failed.unwrap_or_else(|| unknown(&args.load, &loads)));
        }
        let gone = Located { at: gone };
        let printed = if args.json {
            out::json(&value(&gone))
        } else {
            let load = gone.load();
            let ended = match load.active_runs {
                0 => String::new(),
                1 => "; 1 run ended".to_owned(),
                more => format!("; {more} runs ended"),
            };
            let at = places(&gone).map(place).collect::<Vec<_>>().join(" and ");
            out::line(format_args!("{} ({}) is dropped at {at}{ended}", load.name, hex::encode(&load.digest)))
                .map(|_| ())
        };
        failed.map_or(printed, Err)
    })
}

/// Asks each party that is named. One that does not answer leaves what the other says.
///
/// # Errors
/// When none answers.
async fn listing(parties: &PartyArgs, identity: &IdentityArgs) -> Result<Listing, Error> {
    let named = parties.named()?;
    let identity = identity.load()?;
    let call = async |(party, url): (Party, String)| -> Called {
        (party, connect(&url, &identity, party.role()).await.map(control::party))
    };
    let (mut asked, mut failed) = (Vec::new(), None);
    let mut loads = [Vec::new(), Vec::new()];
    for named in named {
        let (party, client) = call(named).await;
        let answer = match client {
            Ok(mut client) => listed(party, &mut client).await.map(|loads| (client, loads)),
            Err(error) => Err(error),
        };
        match answer {
            Ok((client, found)) => {
                asked.push((party, client));
                loads[party.index()] = found;
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        Some(error) if asked.is_empty() => Err(error),
        failed => Ok(Listing { asked, loads: merged(loads), failed }),
    }
}

fn unknown(called: &str, loads: &[Located]) -> Error {
    let known: Vec<_> = loads.iter().map(|load| &load.load().name[..]).collect();
    Error::usage(format!(
        "no loaded model of yours is called `{called}`; there are: {}",
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    ))
}

/// Where it is.
fn places(load: &Located) -> impl Iterator<Item = Party> {
    Party::BOTH.into_iter().filter(|party| load.at[party.index()].is_some())
}

fn value(load: &Located) -> Value {
    let at: Vec<_> = places(load).map(Party::index).collect();
    let v1::Load { name, digest, program_digest, bytes, load_bytes, loaded_unix_ms, .. } = load.load();
    let v1::Load { runs, active_runs, programs, clients, .. } = load.load();
    json!({
        "name": name,
        "digest": hex::encode(digest),
        "program_digest": hex::encode(program_digest),
        "parties": at,
        "bytes": bytes,
        "load_bytes": load_bytes,
        "loaded_unix_ms": loaded_unix_ms,
        "runs": runs,
        "active_runs": active_runs,
        "programs": programs,
        "clients": clients,
    })
}

fn table(loads: &[Located], asked: &[Party]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["model", "digest", "loaded at", "since", "MB", "runs", "programs", "clients"]);
    for located in loads {
        let load = located.load();
        let at = match located.only_at() {
            None => "both".to_owned(),
            Some(party) if asked.len() > 1 => format!("{} only", place(party)),
            Some(party) => place(party).to_owned(),
        };
        let clients = if load.clients == 0 { "all".to_owned() } else { load.clients.to_string() };
        table.add_row([
            load.name.clone(),
            hex::encode(&load.digest),
            at,
            since(load.loaded_unix_ms),
            format!("{:.1}", load.bytes as f64 / 1e6),
            load.runs.to_string(),
            load.programs.to_string(),
            clients,
        ]);
    }
    table
}

/// How long ago that was.
fn since(unix_ms: u64) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms);
    let seconds = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
