//! `suf pki`: the authority and the certificates of the roles.

use std::{collections::BTreeMap, path::PathBuf};

use suf_link::Pki;
use suf_wire::Role;

use crate::{error::Error, out};

/// Certificates and their authority.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Init(InitArgs),
    Issue(IssueArgs),
}

/// Make an authority, and a certificate and key for each role: dealer, party0, party1, operator, client, observer.
///
/// A host needs ca.pem and its own role's two files. Keep ca.key off line. Certificates are good for a year.
#[derive(clap::Args)]
#[command(after_help = "Example, three hosts:
  suf pki init pki --dealer dealer.lan,10.0.0.3 --party0 10.0.0.1 --party1 10.0.0.2")]
pub(crate) struct InitArgs {
    /// Folder for the files; it must not hold an authority yet.
    folder: PathBuf,
    /// Names and addresses of the dealer's host [default: localhost].
    #[arg(long, value_delimiter = ',', value_name = "HOST")]
    dealer: Vec<String>,
    /// Names and addresses of party 0's host [default: localhost].
    #[arg(long, value_delimiter = ',', value_name = "HOST")]
    party0: Vec<String>,
    /// Names and addresses of party 1's host [default: localhost].
    #[arg(long, value_delimiter = ',', value_name = "HOST")]
    party1: Vec<String>,
    /// Print the files made, as JSON.
    #[arg(long)]
    json: bool,
}

/// Make one more certificate and key of an authority, to replace one that ends or to add a client.
///
/// To renew a daemon's: put the two new files in the place of its old ones and send it SIGHUP; connections go on.
#[derive(clap::Args)]
#[command(after_help = "Example:
  suf pki issue pki dealer --name dealer-next --hosts dealer.lan,10.0.0.3")]
pub(crate) struct IssueArgs {
    /// Folder of the authority: ca.pem and ca.key.
    folder: PathBuf,
    /// The role: dealer, party0, party1, operator, client or observer.
    #[arg(value_parser = role)]
    role: Role,
    /// Name of the files, NAME.pem and NAME.key, which must not exist yet.
    #[arg(long)]
    name: String,
    /// Names and addresses of the role's host [default: localhost].
    #[arg(long, value_delimiter = ',', value_name = "HOST")]
    hosts: Vec<String>,
}

fn role(name: &str) -> Result<Role, String> {
    Role::from_name(name).ok_or_else(|| {
        let known = Role::ALL.map(|role| role.name()).join(", ");
        format!("{name:?} is no role: it is one of {known}")
    })
}

/// Runs the command.
pub(crate) fn run(command: &Command) -> Result<(), Error> {
    match command {
        Command::Init(args) => init(args),
        Command::Issue(args) => issue(args),
    }
}

fn issue(args: &IssueArgs) -> Result<(), Error> {
    let pki = Pki::open(&args.folder).map_err(Error::usage)?;
    pki.issue(args.role, &args.name, &args.hosts).map_err(Error::usage)?;
    let file = |ending: &str| args.folder.join(format!("{}.{ending}", args.name)).display().to_string();
    out::line(format_args!("{}, {}: for the {} alone", file("pem"), file("key"), args.role))?;
    Ok(())
}

fn init(args: &InitArgs) -> Result<(), Error> {
    let hosts = [(Role::Dealer, &args.dealer), (Role::Party0, &args.party0), (Role::Party1, &args.party1)];
    let hosts: BTreeMap<_, _> = hosts.into_iter().map(|(role, names)| (role, names.clone())).collect();
    Pki::create(&args.folder, &hosts).map_err(Error::usage)?;
    let file = |name: &str| args.folder.join(name).display().to_string();
    if args.json {
        let roles: BTreeMap<_, _> = Role::ALL
            .map(|role| (role.name(), [file(&format!("{role}.pem")), file(&format!("{role}.key"))]))
            .into();
        return out::json(
            &serde_json::json!({ "ca": file("ca.pem"), "ca_key": file("ca.key"), "roles": roles }),
        );
    }
    out::line(format_args!("{}: the authority; every host needs it", file("ca.pem")))?;
    out::line(format_args!("{}: its key; keep it off line", file("ca.key")))?;
    for role in Role::ALL {
        out::line(format_args!(
            "{}, {}: for the {role} alone",
            file(&format!("{role}.pem")),
            file(&format!("{role}.key"))
        ))?;
    }
    Ok(())
}
