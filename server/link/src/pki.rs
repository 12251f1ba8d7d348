//! A certificate authority of our own, and a certificate for each role.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use suf_wire::Role;
use zeroize::Zeroizing;

use crate::certificate::ROLE_URI;
use crate::error::LinkError;

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// The authority outlives the certificates it signs, so that they can be renewed without touching every host.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);

/// Life of a role's certificate: renewing once a year is bearable, and limits what a stolen key is worth.
const CERTIFICATE_LIFE: Duration = DAY.saturating_mul(365);

/// Certificates begin this much in the past, because hosts' clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// A certificate authority in a folder: `ca.pem`, `ca.key`, and `ROLE.pem` and `ROLE.key` for each role.
///
/// A host needs `ca.pem` and its own role's two files, nothing else. `ca.key` signs further certificates and is best kept
/// off line.
pub struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes a new authority in `folder` (created if need be) and a certificate for every role.
    ///
    /// `hosts` are the names and addresses under which a role is called, besides its own name, which is always among
    /// them; a role without any is good for `localhost`, 127.0.0.1 and ::1.
    ///
    /// # Errors
    /// If the folder holds an authority already, or cannot be written.
    pub fn create(folder: &Path, hosts: &BTreeMap<Role, Vec<String>>) -> Result<Self, LinkError> {
        fs::create_dir_all(folder).map_err(|error| unwritten(folder, &error))?;
        let key = KeyPair::generate().map_err(|error| unmade(folder, error))?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "suf authority");
        limit_life(&mut params, AUTHORITY_LIFE);
        let certificate = params.self_signed(&key).map_err(|error| unmade(folder, error))?;
        write(&folder.join("ca.pem"), certificate.pem().as_bytes(), 0o644)?;
        write(&folder.join("ca.key"), Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)?;

        let pki = Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) };
        for role in Role::ALL {
            pki.issue(role, role.name(), hosts.get(&role).map_or(&[], Vec::as_slice))?;
        }
        Ok(pki)
    }

    /// Opens the authority in `folder`, to issue more.
    ///
    /// # Errors
    /// If `ca.pem` or `ca.key` is missing or damaged.
    pub fn open(folder: &Path) -> Result<Self, LinkError> {
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        let pem = fs::read_to_string(&certificate).map_err(|error| unread(&certificate, &error))?;
        let key_pem = Zeroizing::new(fs::read_to_string(&key).map_err(|error| unread(&key, &error))?);
        let pair = KeyPair::from_pem(&key_pem).map_err(|error| unmade(&key, error))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(|error| unmade(&certificate, error))?;
        Ok(Self { folder: folder.to_owned(), issuer })
    }

    /// Writes `NAME.pem` and `NAME.key` for `role`; existing files are left alone and are an error.
    ///
    /// # Errors
    /// If a name is no host name, or a file exists or cannot be written.
    pub fn issue(&self, role: Role, name: &str, hosts: &[String]) -> Result<(), LinkError> {
        let path = self.folder.join(format!("{name}.pem"));
        let local = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let mut names = vec![role.name().to_owned()];
        names.extend_from_slice(if hosts.is_empty() { &local } else { hosts });

        // Addresses among the names become IP entries.
        let mut params = CertificateParams::new(names).map_err(|error| unmade(&path, error))?;
        let uri = format!("{ROLE_URI}{role}").try_into().map_err(|error| unmade(&path, error))?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name.push(DnType::CommonName, format!("suf {role}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        limit_life(&mut params, CERTIFICATE_LIFE);

        let key = KeyPair::generate().map_err(|error| unmade(&path, error))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| unmade(&path, error))?;
        write(&path, certificate.pem().as_bytes(), 0o644)?;
        write(&self.folder.join(format!("{name}.key")), Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)
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

fn limit_life(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + life).into();
}

/// Creates a file that must not exist yet: a key overwritten by mistake is lost.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), LinkError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    created.and_then(|mut file| file.write_all(bytes)).map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &io::Error) -> LinkError {
    let problem = match error.kind() {
        io::ErrorKind::AlreadyExists => "exists already; name an empty folder, or remove it first".into(),
        _ => format!("cannot be written: {error}"),
    };
    LinkError::Certificate { path: path.to_owned(), problem }
}

pub(crate) fn unread(path: &Path, error: &io::Error) -> LinkError {
    let problem = match error.kind() {
        io::ErrorKind::NotFound => "no such file; `suf pki init` makes certificates".into(),
        _ => format!("cannot be read: {error}"),
    };
    LinkError::Certificate { path: path.to_owned(), problem }
}

fn unmade(path: &Path, error: rcgen::Error) -> LinkError {
    LinkError::Certificate { path: path.to_owned(), problem: error.to_string() }
}
