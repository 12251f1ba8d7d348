//! Reading certificates: the role they carry, what they are for, and how long they are good for.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use suf_wire::Role;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

use crate::error::LinkError;
use crate::pem::{self, wrong};

/// Before a certificate's role in its subject's alternative names, as a URI.
pub(crate) const ROLE_URI: &str = "suf:role/";

const DAY: Duration = Duration::from_secs(86_400);

/// What a certificate proves in a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The calling side: a TLS client.
    Caller,
    /// The called side: a TLS server.
    Listener,
}

impl Purpose {
    /// What a role needs its certificate for. The dealer is only called, people only call.
    pub(crate) fn of(role: Role) -> &'static [Self] {
        match role {
            Role::Dealer => &[Self::Listener],
            Role::Party0 | Role::Party1 => &[Self::Listener, Self::Caller],
            Role::Operator | Role::Client | Role::Observer | Role::Model => &[Self::Caller],
        }
    }
}

/// The role that a certificate carries. Says nothing of whether the certificate is good: TLS has checked that before it
/// hands out a peer's certificate.
///
/// # Errors
/// A sentence, if the bytes are no certificate or carry no role, an unknown one, or more than one.
pub fn role_of(certificate: &CertificateDer<'_>) -> Result<Role, String> {
    let parsed = parse(certificate)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| format!("alternative names unreadable: {error}"))?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    role_among(names)?.ok_or_else(|| {
        format!(
            "carries no role ({ROLE_URI}... as a URI among its names); name the certificate of a role, which `suf pki` makes"
        )
    })
}

/// The role of the first certificate in the file at `path`, and its SHA-256: parties know callers by that.
///
/// # Errors
/// When the file cannot be read, or holds no certificate with a role.
pub fn read_certificate(path: &Path) -> Result<(Role, [u8; 32]), LinkError> {
    let certificate = pem::read_certificates(path)?.swap_remove(0);
    let role = role_of(&certificate).map_err(|problem| wrong(path, problem))?;
    let digest = digest::digest(&digest::SHA256, &certificate);
    Ok((role, digest.as_ref().try_into().expect("SHA-256 has 32 bytes")))
}

/// The role among the names of a certificate or a request, if there is one.
///
/// # Errors
/// If it is unknown, or not the only one.
pub(crate) fn role_among(names: &[GeneralName<'_>]) -> Result<Option<Role>, String> {
    let mut roles = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(ROLE_URI),
        _ => None,
    });
    match (roles.next(), roles.next()) {
        (Some(role), None) => Role::from_name(role).ok_or_else(|| format!("unknown role {role:?}")).map(Some),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err("carries more than one role".into()),
    }
}

/// Whether a certificate says that it is for `purpose`. One that says nothing is for nothing.
pub(crate) fn is_for(certificate: &CertificateDer<'_>, purpose: Purpose) -> bool {
    let Ok(parsed) = parse(certificate) else { return false };
    match (parsed.extended_key_usage(), purpose) {
        (Ok(Some(usage)), Purpose::Caller) => usage.value.client_auth,
        (Ok(Some(usage)), Purpose::Listener) => usage.value.server_auth,
        _ => false,
    }
}

/// From when and until when a certificate is good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    pub(crate) begins: SystemTime,
    pub(crate) ends: SystemTime,
}

impl Validity {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = parse(certificate)?;
        let validity = parsed.validity();
        Ok(Self { begins: at(validity.not_before), ends: at(validity.not_after) })
    }

    /// Why it is not good at `time`.
    pub(crate) fn problem_at(&self, time: SystemTime) -> Option<String> {
        if time >= self.ends {
            Some(format!("has expired on {}", day(self.ends)))
        } else if time < self.begins {
            Some(format!("is not valid yet, but from {} on; is this host's clock right?", day(self.begins)))
        } else {
            None
        }
    }

    /// Whole days from now until the end.
    pub(crate) fn days_left(&self) -> u64 {
        days_until(self.ends)
    }
}

/// Whole days from now until `end`; 0 when it has passed.
pub(crate) fn days_until(end: SystemTime) -> u64 {
    end.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / DAY.as_secs())
}

/// A time of X.509. Times before 1970 are taken as 1970, which has passed all the same.
pub(crate) fn at(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// The day of `time`, in UTC, as in 2026-11-30.
pub(crate) fn day(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let stamp = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    ASN1Time::from_timestamp(stamp)
        .map_or_else(|_| "a day that no calendar has".into(), |time| time.to_datetime().date().to_string())
}

/// The public key of a certificate, as it stands there: algorithm and key.
pub(crate) fn public_key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, String> {
    Ok(parse(certificate)?.public_key().raw.to_vec())
}

/// The fingerprint of a public key, algorithm and key: SHA-256 in hexadecimal, as `openssl pkey -pubin -outform DER | sha256sum`
/// prints it.
pub(crate) fn fingerprint(public_key: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, public_key).as_ref())
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A serial number without the zero that DER puts before some.
pub(crate) fn serial(raw: &[u8]) -> Vec<u8> {
    raw.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// Parses a certificate that is the whole of its bytes.
pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("no X.509 certificate: there is something behind it".into()),
        Err(error) => Err(format!("no X.509 certificate: {error}")),
    }
}
