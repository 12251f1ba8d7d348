//! A certificate authority of our own: it signs certificates for the roles, and takes them back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, ServerName};
use suf_files::{NewFiles, PRIVATE, PUBLIC, Unwritten};
use suf_wire::Role;
use zeroize::Zeroizing;

use crate::certificate::{
    Purpose, ROLE_URI, Validity, fingerprint, hexadecimal, parse, public_key_of, role_of, serial,
};
use crate::error::LinkError;
use crate::pem::{self, wrong};
use crate::request::Request;
use crate::revocation::{self, List};

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// The authority outlives the certificates it signs, so that they can be renewed without touching every host.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);

/// Life of a role's certificate: renewing once a year is bearable, and limits what a stolen key is worth.
const CERTIFICATE_LIFE: Duration = DAY.saturating_mul(365);

/// Certificates begin this much in the past, because hosts' clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// The authority's certificate and key, and its revocation list.
const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const CRL: &str = "crl.pem";

/// A certificate authority in a folder: `ca.pem`, `ca.key`, and `crl.pem` once a certificate was revoked.
///
/// A host needs `ca.pem`, `crl.pem`, and its own role's certificate and key, nothing else. `ca.key` signs further certificates and
/// is best kept off line.
pub struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// No certificate outlives its authority.
    ends: SystemTime,
}

/// A certificate that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its role.
    pub role: Role,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Whether it had been taken back before.
    pub before: bool,
}

impl Pki {
    /// Makes a new authority in `folder` (created if need be), and a certificate and key for every role. That puts all private keys
    /// in one place: for one machine, or a trial.
    ///
    /// `hosts` are the names and addresses of a role's host, for other programs than ours; a role without any has `localhost`,
    /// 127.0.0.1 and ::1.
    ///
    /// # Errors
    /// If the folder holds one of the files already, a host is none, or a file cannot be written. Nothing was written then.
    pub fn create(folder: &Path, hosts: &BTreeMap<Role, Vec<String>>) -> Result<Self, LinkError> {
        Self::make(folder, Some(hosts))
    }

    /// Makes a new authority in `folder` (created if need be), and no certificate.
    ///
    /// # Errors
    /// As [`Pki::create`].
    pub fn create_authority(folder: &Path) -> Result<Self, LinkError> {
        Self::make(folder, None)
    }

    fn make(folder: &Path, hosts: Option<&BTreeMap<Role, Vec<String>>>) -> Result<Self, LinkError> {
        let mut names = [CA, CA_KEY, CRL].map(String::from).to_vec();
        if let Some(hosts) = hosts {
            for role in Role::ALL {
                check_hosts(role, hosts.get(&role).map_or(&[], Vec::as_slice))?;
                names.extend([format!("{role}.pem"), format!("{role}.key")]);
            }
        }
        let mut files = NewFiles::begin(folder, &names)?;
        let key = KeyPair::generate().map_err(|error| unmade(folder, error))?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two authorities in one file have two names.
        let number = &fingerprint(&key.subject_public_key_info())[..8];
        params.distinguished_name.push(DnType::CommonName, format!("suf authority {number}"));
        let ends = limit_life(&mut params, SystemTime::now() + AUTHORITY_LIFE);
        let certificate = params.self_signed(&key).map_err(|error| unmade(folder, error))?;
        files.add(CA, certificate.pem().as_bytes(), PUBLIC)?;
        files.add(CA_KEY, Zeroizing::new(key.serialize_pem()).as_bytes(), PRIVATE)?;

        let issuer = Issuer::new(params, key);
        let pki = Self { folder: folder.to_owned(), issuer, certificate: certificate.into(), ends };
        if let Some(hosts) = hosts {
            for role in Role::ALL {
                let hosts: &[String] = hosts.get(&role).map_or(&[], Vec::as_slice);
                pki.add_pair(&mut files, role, role.name(), hosts)?;
            }
        }
        files.finish()?;
        Ok(pki)
    }

    /// Opens the authority in `folder`, to sign more. `ca.pem` may hold others beside it.
    ///
    /// # Errors
    /// If `ca.pem` or `ca.key` is missing or damaged, do not fit, or are out of date.
    pub fn open(folder: &Path) -> Result<Self, LinkError> {
        let (ca, key) = (folder.join(CA), folder.join(CA_KEY));
        let authorities = pem::read_certificates(&ca)?;
        let der = pem::read_private_key(&key)?;
        let pair = KeyPair::try_from(&der).map_err(|error| unmade(&key, error))?;
        let public = pair.subject_public_key_info();
        let fits =
            |certificate: &CertificateDer<'_>| public_key_of(certificate).is_ok_and(|own| own == public);
        let certificate = authorities.into_iter().find(fits);
        let certificate = certificate
            .ok_or_else(|| wrong(&key, format!("is the key of no authority in {}", ca.display())))?;
        let life = Validity::of(&certificate).map_err(|problem| wrong(&ca, problem))?;
        if let Some(problem) = life.problem_at(SystemTime::now()) {
            return Err(wrong(&ca, format!("{problem}; make a new authority with `suf pki init`")));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(|error| unmade(&ca, error))?;
        Ok(Self { folder: folder.to_owned(), issuer, certificate, ends: life.ends })
    }

    /// Writes `NAME.pem` and `NAME.key` for `role` to the authority's folder: the private key is made here, and has to travel if the
    /// role is elsewhere. Existing files are left alone and are an error.
    ///
    /// # Errors
    /// If a host or the name is none, or a file exists or cannot be written.
    pub fn issue(&self, role: Role, name: &str, hosts: &[String]) -> Result<(), LinkError> {
        check_name(&self.folder, name)?;
        check_hosts(role, hosts)?;
        let names = [format!("{name}.pem"), format!("{name}.key")];
        let mut files = NewFiles::begin(&self.folder, &names)?;
        self.add_pair(&mut files, role, name, hosts)?;
        Ok(files.finish()?)
    }

    fn add_pair(
        &self,
        files: &mut NewFiles,
        role: Role,
        name: &str,
        hosts: &[String],
    ) -> Result<(), LinkError> {
        let local = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let key = KeyPair::generate().map_err(|error| unmade(&self.folder, error))?;
        let params = self.params(role, if hosts.is_empty() { &local } else { hosts })?;
        let signed = params.signed_by(&key, &self.issuer).map_err(|error| unmade(&self.folder, error))?;
        files.add(&format!("{name}.pem"), signed.pem().as_bytes(), PUBLIC)?;
        Ok(files.add(&format!("{name}.key"), Zeroizing::new(key.serialize_pem()).as_bytes(), PRIVATE)?)
    }

    /// Signs what `request` asks for: a certificate of `role`, good for `hosts`, for the request's key. It is written to `path`, which
    /// must not exist. Nothing but the key is taken from the request unseen.
    ///
    /// # Errors
    /// If the request asks for another role, a host is none, or the file exists or cannot be written.
    pub fn sign(
        &self,
        request: &Request,
        role: Role,
        hosts: &[String],
        path: &Path,
    ) -> Result<(), LinkError> {
        if let Some(asked) = request.role().filter(|asked| *asked != role) {
            let problem =
                format!("asks for the role {asked}, but {role} was to be signed; nothing was signed");
            return Err(wrong(request.path(), problem));
        }
        check_hosts(role, hosts)?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| wrong(path, "is no name of a file; name one that ends in .pem"))?;
        let mut files = NewFiles::begin(suf_files::folder_of(path), &[name.to_owned()])?;
        let signed = request.signed(self.params(role, hosts)?, &self.issuer)?;
        files.add(name, signed.pem().as_bytes(), PUBLIC)?;
        Ok(files.finish()?)
    }

    /// What stands in a certificate of `role`.
    fn params(&self, role: Role, hosts: &[String]) -> Result<CertificateParams, LinkError> {
        let mut params = names(role, hosts)?;
        params.distinguished_name.push(DnType::CommonName, format!("suf {role}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = Purpose::of(role)
            .iter()
            .map(|purpose| match purpose {
                Purpose::Caller => ExtendedKeyUsagePurpose::ClientAuth,
                Purpose::Listener => ExtendedKeyUsagePurpose::ServerAuth,
            })
            .collect();
        params.use_authority_key_identifier_extension = true;
        limit_life(&mut params, self.ends.min(SystemTime::now() + CERTIFICATE_LIFE));
        Ok(params)
    }

    /// Takes certificates back: writes the next revocation list, with these and all before, to `crl.pem`. Without any, the list is
    /// renewed as it is.
    ///
    /// # Errors
    /// If one is not of this authority, or a file is damaged or cannot be written. Nothing is changed then.
    pub fn revoke(&self, certificates: &[PathBuf]) -> Result<Vec<Revoked>, LinkError> {
        let _alone = suf_files::wait_for(self.folder.join("ca.lock"))?;
        let path = self.list_path();
        let before = self.list(&path)?;
        let mut revoked: Vec<Revoked> = Vec::new();
        let mut added: Vec<Vec<u8>> = Vec::new();
        for file in certificates {
            let certificate = pem::read_certificates(file)?.swap_remove(0);
            let parsed = parse(&certificate).map_err(|problem| wrong(file, problem))?;
            let own = parse(&self.certificate).map_err(|problem| wrong(&self.folder.join(CA), problem))?;
            if parsed.verify_signature(Some(own.public_key())).is_err() {
                let problem = format!("is not signed by the authority in {}", self.folder.display());
                return Err(wrong(file, problem));
            }
            let role = role_of(&certificate).map_err(|problem| wrong(file, problem))?;
            let serial = serial(parsed.raw_serial());
            let known = before.iter().flat_map(|list| list.entries.keys()).any(|(_, known)| *known == serial)
                || added.contains(&serial);
            revoked.push(Revoked { role, serial: hexadecimal(&serial), before: known });
            if !known {
                added.push(serial);
            }
        }
        let next = revocation::next(before.as_ref(), &added, &self.issuer);
        let next = next.map_err(|error| unmade(&path, error))?;
        suf_files::write_with_mode(&path, next.as_bytes(), PUBLIC)
            .map_err(|source| Unwritten { path, source })?;
        Ok(revoked)
    }

    /// The list in use, if there is one.
    fn list(&self, path: &Path) -> Result<Option<List>, LinkError> {
        if !path.exists() {
            return Ok(None);
        }
        let ders = pem::read_revocation_lists(path)?;
        let own = std::slice::from_ref(&self.certificate);
        let mut lists = ders.into_iter().map(|der| List::signed_by_one_of(der, own));
        match (lists.next(), lists.next()) {
            (Some(list), None) => list.map(Some).map_err(|problem| {
                wrong(path, problem.replace("AUTHORITIES", &self.folder.join(CA).display().to_string()))
            }),
            _ => Err(wrong(path, "holds several lists; here stands that of this authority alone")),
        }
    }

    /// Where the revocation list is written.
    pub fn list_path(&self) -> PathBuf {
        self.folder.join(CRL)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The names in a certificate or request for `role`: the role's own, its hosts, and the role as a URI.
pub(crate) fn names(role: Role, hosts: &[String]) -> Result<CertificateParams, LinkError> {
    let mut names = vec![role.name().to_owned()];
    names.extend(hosts.iter().filter(|host| *host != role.name()).cloned());
    let failed = |error: rcgen::Error| LinkError::Host { host: names.join(", "), problem: error.to_string() };
    // Addresses among the names become IP entries.
    let mut params = CertificateParams::new(names.clone()).map_err(failed)?;
    let uri = format!("{ROLE_URI}{role}").try_into().map_err(failed)?;
    params.subject_alt_names.push(SanType::URI(uri));
    Ok(params)
}

/// Whether all of `hosts` are names or addresses of hosts, for a certificate of `role`.
///
/// # Errors
/// [`LinkError::Host`] for the first that is not.
pub fn check_hosts(role: Role, hosts: &[String]) -> Result<(), LinkError> {
    /// More names than any host has.
    const MOST_HOSTS: usize = 64;
    let wrong = |host: &str, problem: &str| {
        Err(LinkError::Host { host: host.to_owned(), problem: problem.to_owned() })
    };
    if hosts.len() > MOST_HOSTS {
        return wrong(&hosts[MOST_HOSTS], &format!("{MOST_HOSTS} hosts of one role are enough"));
    }
    for host in hosts {
        if host.is_empty() {
            return wrong(host, "is empty");
        }
        if Role::from_name(host).is_some_and(|other| other != role) {
            return wrong(host, "is the name of another role, whose certificate alone has it");
        }
        if host.ends_with('.') || ServerName::try_from(host.as_str()).is_err() {
            return wrong(host, host_problem(host));
        }
    }
    Ok(())
}

/// What is wrong with what is no host.
fn host_problem(host: &str) -> &'static str {
    if host.contains("://") {
        "is a URL; write the host alone"
    } else if host.starts_with('[') {
        "has brackets; write an IPv6 address without them, and without a port"
    } else if host.rsplit_once(':').is_some_and(|(name, _)| ServerName::try_from(name).is_ok()) {
        "has a port; write the host alone"
    } else if !host.is_ascii() {
        "is not ASCII; write the name as it is in DNS (xn--...)"
    } else if host.ends_with('.') {
        "ends in a dot; leave that out"
    } else {
        "is neither a DNS name nor an IP address"
    }
}

/// Whether `name` can be the name of a role's files in `folder`.
pub(crate) fn check_name(folder: &Path, name: &str) -> Result<(), LinkError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) || ["ca", "crl"].contains(&name) {
        let problem = format!(
            "{name:?} is no name for files of a certificate: use letters, digits, '-', '_' and '.', and not ca or crl"
        );
        return Err(wrong(folder, problem));
    }
    Ok(())
}

/// Sets from when and until when a certificate is good; gives the end.
fn limit_life(params: &mut CertificateParams, ends: SystemTime) -> SystemTime {
    params.not_before = (SystemTime::now() - CLOCK_SKEW).into();
    params.not_after = ends.into();
    ends
}

pub(crate) fn unmade(path: &Path, error: rcgen::Error) -> LinkError {
    wrong(path, error.to_string())
}
