//! Reading certificates: the role they carry and how long they are good for.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use suf_wire::Role;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Before a certificate's role in its subject's alternative names, as a URI.
pub(crate) const ROLE_URI: &str = "suf:role/";

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
    let mut roles = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(ROLE_URI),
        _ => None,
    });
    match (roles.next(), roles.next()) {
        (Some(role), None) => Role::from_name(role).ok_or_else(|| format!("unknown role {role:?}")),
        (None, _) => Err(format!("carries no role ({ROLE_URI}... as a URI among its names)")),
        (Some(_), Some(_)) => Err("carries more than one role".into()),
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
        let at = |seconds: i64| {
            // Times before 1970 are taken as 1970: such a certificate has ended anyway.
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        };
        let validity = parsed.validity();
        Ok(Self { begins: at(validity.not_before.timestamp()), ends: at(validity.not_after.timestamp()) })
    }
}

/// The public key of a certificate, as it stands there: algorithm and key.
pub(crate) fn public_key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, String> {
    Ok(parse(certificate)?.public_key().raw.to_vec())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| format!("no X.509 certificate: {error}"))?;
    Ok(parsed)
}
