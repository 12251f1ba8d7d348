//! Revocation lists: an authority's signed list of the certificates that it has taken back before their end.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::certificate::{at, parse, serial};

/// How long a list is good for: as long as a certificate, so that both are renewed together. Later it stays in force, with a
/// warning: a list that stopped everything on a forgotten day would not be made at all.
const LIST_LIFE: Duration = Duration::from_secs(365 * 86_400);

/// Lists begin this much in the past, because hosts' clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// A list whose signature was checked.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) der: CertificateRevocationListDer<'static>,
    /// Which of the authorities signed it.
    pub(crate) signer: usize,
    /// The signer's public key.
    pub(crate) key: Vec<u8>,
    /// The signer's name.
    pub(crate) issuer: String,
    /// Grows with each list of an authority.
    pub(crate) number: BigUint,
    /// Until when there should be a newer one.
    pub(crate) next_update: Option<SystemTime>,
    /// When each certificate was revoked, by its issuer's name and its serial number.
    pub(crate) entries: HashMap<(Vec<u8>, Vec<u8>), SystemTime>,
}

impl List {
    /// Reads a list and finds the one of `authorities` whose signature it has.
    ///
    /// # Errors
    /// A sentence, in which AUTHORITIES stands for their file.
    pub(crate) fn signed_by_one_of(
        der: CertificateRevocationListDer<'static>,
        authorities: &[CertificateDer<'_>],
    ) -> Result<Self, String> {
        let list = decode(&der)?;
        let issuer = list.issuer().to_string();
        let mut signed = None;
        for (signer, authority) in authorities.iter().enumerate() {
            let authority = parse(authority)?;
            let same_name = authority.subject().as_raw() == list.issuer().as_raw();
            if same_name && list.verify_signature(authority.public_key()).is_ok() {
                signed = Some((signer, authority.public_key().raw.to_vec()));
                break;
            }
        }
        let (signer, key) = signed.ok_or_else(|| {
            format!("is a revocation list of {issuer:?} that no authority in AUTHORITIES has signed")
        })?;
        let name = list.issuer().as_raw().to_vec();
        let entries = list
            .iter_revoked_certificates()
            .map(|entry| ((name.clone(), serial(entry.raw_serial())), at(entry.revocation_date)))
            .collect();
        let number = list.crl_number().cloned().unwrap_or_default();
        let next_update = list.next_update().map(at);
        Ok(Self { signer, key, issuer, number, next_update, entries, der })
    }
}

/// Parses a list that is the whole of its bytes.
///
/// # Errors
/// A sentence.
pub(crate) fn decode<'a>(
    der: &'a CertificateRevocationListDer<'_>,
) -> Result<CertificateRevocationList<'a>, String> {
    match CertificateRevocationList::from_der(der.as_ref()) {
        Ok(([], list)) => Ok(list),
        Ok(_) => Err("is no revocation list: there is something behind it".into()),
        Err(error) => Err(format!("is no revocation list: {error}")),
    }
}

/// What the next list of an authority says: `before` and `added`, which are serial numbers, revoked now.
///
/// # Errors
/// What the library refuses.
pub(crate) fn next(
    before: Option<&List>,
    added: &[Vec<u8>],
    issuer: &Issuer<'_, KeyPair>,
) -> Result<String, rcgen::Error> {
    let now = SystemTime::now();
    let entry = |serial: &[u8], time: SystemTime| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: time.into(),
        reason_code: None,
        invalidity_date: None,
    };
    let mut revoked: Vec<_> = before
        .map(|list| list.entries.iter().map(|((_, serial), time)| entry(serial, *time)).collect())
        .unwrap_or_default();
    revoked.extend(added.iter().map(|serial| entry(serial, now)));
    revoked.sort_by(|a, b| a.serial_number.as_ref().cmp(b.serial_number.as_ref()));
    let number = before.map_or_else(BigUint::default, |list| list.number.clone()) + 1u8;
    let list = CertificateRevocationListParams {
        this_update: (now - CLOCK_SKEW).into(),
        next_update: (now + LIST_LIFE).into(),
        crl_number: SerialNumber::from_slice(&number.to_bytes_be()),
        issuing_distribution_point: None,
        revoked_certs: revoked,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(issuer)?.pem()
}
