//! `suf pki`: the authority, and the certificates of the roles.

use std::{collections::BTreeMap, path::PathBuf};

use suf_control::v1::Fault;
use suf_link::{LinkError, Pki, Request};
use suf_wire::Role;

use crate::{error::Error, out};

/// Certificates and their authority.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Init(InitArgs),
    Request(RequestArgs),
    Sign(SignArgs),
    Revoke(RevokeArgs),
    Issue(IssueArgs),
}

/// Make an authority, and a certificate and key for each role: dealer, party0, party1, operator, client, observer, model.
///
/// All keys in one place are right for one machine, or a trial. For several machines give --authority-only; each host then makes its
/// own key with `suf pki request`, and `suf pki sign` makes the certificate. Keep ca.key off line. Certificates are good for a year.
///
/// suf goes by the role in a certificate. The names and addresses of hosts are for other programs that call the control API,
/// such as grpcurl. suf does not compare them with the address it calls.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf pki init pki                       one machine: an authority, and all certificates and keys
  suf pki init authority --authority-only")]
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
    /// Make the authority alone: no certificate, and no key of a role.
    #[arg(long, conflicts_with_all = ["dealer", "party0", "party1"])]
    authority_only: bool,
    /// Print the files made, as JSON.
    #[arg(long)]
    json: bool,
}

/// Make a private key on the host that needs it, and a request for a certificate.
///
/// The request goes to the authority, which signs it with `suf pki sign`; the certificate comes back. The key stays here. Compare the
/// fingerprint that is printed with the one that the signer sees, over the telephone for example.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  suf pki request party0 --out pki --host party0.lan,10.0.0.1
  suf pki request party0 --out pki --name party0-next      to replace a certificate that ends")]
pub(crate) struct RequestArgs {
    /// The role: dealer, party0, party1, operator, client, observer or model (who owns private weights).
    #[arg(value_parser = role)]
    role: Role,
    /// Folder for the files NAME.key and NAME.csr, which must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Names and addresses of this host, for other programs that call the control API.
    #[arg(long, value_delimiter = ',', value_name = "HOST")]
    host: Vec<String>,
    /// Name of the files [default: the role].
    #[arg(long)]
    name: Option<String>,
    /// Print the files made and the key's fingerprint, as JSON.
    #[arg(long)]
    json: bool,
}

/// Sign a request, where the authority is.
///
/// Shows what is asked: role, hosts, and fingerprint of the key. Signs it when --role says the same role; without --role it only shows.
#[derive(clap::Args)]
#[command(after_help = "Example:
  suf pki sign party0.csr --ca authority --role party0")]
pub(crate) struct SignArgs {
    /// The request, as `suf pki request` made it.
    request: PathBuf,
    /// Folder of the authority: ca.pem and ca.key.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// The role to sign for.
    #[arg(long, value_parser = role)]
    role: Option<Role>,
    /// Names and addresses for the certificate, in place of those that are asked for.
    #[arg(long, value_delimiter = ',', value_name = "HOST")]
    host: Vec<String>,
    /// Sign only if the key has this fingerprint, as `suf pki request` printed it.
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// The certificate's file, which must not exist yet [default: in the authority's folder, with the request's name].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print what was asked and where the certificate is, as JSON.
    #[arg(long)]
    json: bool,
}

/// Take certificates back before their end.
///
/// Writes crl.pem beside ca.pem. Copy it beside ca.pem on every host, and send the daemons SIGHUP: they then refuse the certificate, and
/// close its connections. Without a certificate, the list is renewed as it is, which is due once a year.
#[derive(clap::Args)]
#[command(after_help = "Example:
  suf pki revoke authority/client.pem --ca authority")]
pub(crate) struct RevokeArgs {
    /// The certificates; their keys are not needed.
    certificates: Vec<PathBuf>,
    /// Folder of the authority: ca.pem and ca.key.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Print what was revoked, as JSON.
    #[arg(long)]
    json: bool,
}

/// Make one more certificate and key in the authority's folder. For one machine, or a trial: the key is not made where it is used.
///
/// To renew a daemon's: put the two new files in the place of its old ones and send it SIGHUP; connections go on.
#[derive(clap::Args)]
#[command(after_help = "Example:
  suf pki issue pki dealer --name dealer-next --hosts dealer.lan,10.0.0.3")]
pub(crate) struct IssueArgs {
    /// Folder of the authority: ca.pem and ca.key.
    folder: PathBuf,
    /// The role: dealer, party0, party1, operator, client, observer or model.
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
        Command::Request(args) => request(args),
        Command::Sign(args) => sign(args),
        Command::Revoke(args) => revoke(args),
        Command::Issue(args) => issue(args),
    }
}

fn init(args: &InitArgs) -> Result<(), Error> {
    let hosts = [(Role::Dealer, &args.dealer), (Role::Party0, &args.party0), (Role::Party1, &args.party1)];
    let hosts: BTreeMap<_, _> = hosts.into_iter().map(|(role, names)| (role, names.clone())).collect();
    if args.authority_only {
        Pki::create_authority(&args.folder).map_err(refused)?;
    } else {
        Pki::create(&args.folder, &hosts).map_err(refused)?;
    }
    let roles: &[Role] = if args.authority_only { &[] } else { &Role::ALL };
    let file = |name: &str| args.folder.join(name).display().to_string();
    if args.json {
        let roles: BTreeMap<_, _> = roles
            .iter()
            .map(|role| (role.name(), [file(&format!("{role}.pem")), file(&format!("{role}.key"))]))
            .collect();
        return out::json(
            &serde_json::json!({ "ca": file("ca.pem"), "ca_key": file("ca.key"), "roles": roles }),
        );
    }
    out::line(format_args!("{}: the authority; every host needs it", file("ca.pem")))?;
    out::line(format_args!("{}: its key; keep it off line", file("ca.key")))?;
    for role in roles {
        out::line(format_args!(
            "{}, {}: for the {role} alone",
            file(&format!("{role}.pem")),
            file(&format!("{role}.key"))
        ))?;
    }
    if args.authority_only {
        out::line(format_args!("next, on each host: suf pki request ROLE --out pki"))?;
    }
    Ok(())
}

fn request(args: &RequestArgs) -> Result<(), Error> {
    let name = args.name.as_deref().unwrap_or(args.role.name());
    let fingerprint = Request::make(&args.out, args.role, name, &args.host).map_err(refused)?;
    let file = |ending: &str| args.out.join(format!("{name}.{ending}")).display().to_string();
    let (request, key) = (file("csr"), file("key"));
    if args.json {
        return out::json(&serde_json::json!({ "request": request, "key": key, "fingerprint": fingerprint }));
    }
    out::line(format_args!("{key}: the private key; it stays here"))?;
    out::line(format_args!("{request}: the request; take it to the authority, and sign it there with"))?;
    out::line(format_args!("  suf pki sign {name}.csr --ca DIR --role {}", args.role))?;
    out::line(format_args!("fingerprint of the key: {fingerprint}"))?;
    Ok(())
}

fn sign(args: &SignArgs) -> Result<(), Error> {
    let request = Request::read(&args.request).map_err(refused)?;
    let asked = request.role().map_or("none named".to_owned(), |role| role.to_string());
    let hosts = if args.host.is_empty() { request.hosts().to_vec() } else { args.host.clone() };
    let fingerprint = request.fingerprint();
    if !args.json {
        out::line(format_args!("{}: asks for a certificate", args.request.display()))?;
        out::line(format_args!("  role         {asked}"))?;
        out::line(format_args!(
            "  hosts        {}",
            if request.hosts().is_empty() { "none".into() } else { request.hosts().join(", ") }
        ))?;
        out::line(format_args!("  fingerprint  {fingerprint}"))?;
    }
    let Some(role) = args.role else {
        return Err(Error::usage(format!(
            "nothing was signed: if you mean to make this a certificate for {asked}, say so with --role"
        )));
    };
    if let Some(wanted) = &args.fingerprint {
        // Some programs print it in capitals, or with colons.
        let plain = wanted.replace(':', "").to_ascii_lowercase();
        if plain != fingerprint {
            return Err(Error::usage(format!(
                "nothing was signed: the key has the fingerprint {fingerprint}, not {wanted}. Ask the maker of the \
                 request whether it was exchanged"
            )));
        }
    }
    let out = match &args.out {
        Some(out) => out.clone(),
        None => {
            let name = args.request.file_stem().unwrap_or_else(|| role.name().as_ref());
            args.ca.join(name).with_added_extension("pem")
        }
    };
    let pki = Pki::open(&args.ca).map_err(refused)?;
    pki.sign(&request, role, &hosts, &out).map_err(refused)?;
    if args.json {
        return out::json(&serde_json::json!({
            "certificate": out.display().to_string(), "role": role.name(), "hosts": hosts, "fingerprint": fingerprint,
        }));
    }
    out::line(format_args!(
        "{}: the certificate for the {role}; put it beside its key, and ca.pem with it",
        out.display()
    ))?;
    Ok(())
}

fn revoke(args: &RevokeArgs) -> Result<(), Error> {
    let pki = Pki::open(&args.ca).map_err(refused)?;
    let revoked = pki.revoke(&args.certificates).map_err(refused)?;
    let list = pki.list_path().display().to_string();
    if args.json {
        let revoked: Vec<_> = revoked
            .iter()
            .map(|it| serde_json::json!({ "role": it.role.name(), "serial": it.serial, "before": it.before }))
            .collect();
        return out::json(&serde_json::json!({ "crl": list, "revoked": revoked }));
    }
    for (file, it) in args.certificates.iter().zip(&revoked) {
        let before = if it.before { ", as before" } else { "" };
        out::line(format_args!(
            "{}: revoked{before}, for {}, serial number {}",
            file.display(),
            it.role,
            it.serial
        ))?;
    }
    out::line(format_args!(
        "{list}: the list; copy it beside ca.pem on every host, and send the daemons SIGHUP"
    ))?;
    Ok(())
}

fn issue(args: &IssueArgs) -> Result<(), Error> {
    let pki = Pki::open(&args.folder).map_err(refused)?;
    pki.issue(args.role, &args.name, &args.hosts).map_err(refused)?;
    let file = |ending: &str| args.folder.join(format!("{}.{ending}", args.name)).display().to_string();
    out::line(format_args!("{}, {}: for the {} alone", file("pem"), file("key"), args.role))?;
    Ok(())
}

/// Wrong usage, or a disk that is full.
fn refused(error: LinkError) -> Error {
    match error {
        LinkError::NoSpace { .. } => Error::here(Fault::Device, error.to_string()),
        error => Error::usage(error),
    }
}
