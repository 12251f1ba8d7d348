//! Whom a process trusts: the authorities of its `ca.pem` that are in date, less the certificates that they have revoked.
//!
//! Authorities have to sign certificates directly: another's certificate between the two is not followed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};

use crate::certificate::{Purpose, Validity, day, days_until, is_for, parse, serial};
use crate::error::LinkError;
use crate::pem::{self, wrong};
use crate::revocation::List;

/// Days before its end from which a certificate, an authority or a revocation list causes a warning. Two weeks are enough
/// to renew it in office hours.
pub(crate) const WARN_DAYS: u64 = 14;

/// Most authorities in one file: each is asked about each certificate, at most.
const MOST_AUTHORITIES: usize = 32;

/// Authorities and revocation lists, read together.
#[derive(Debug)]
pub(crate) struct Trust {
    ca: PathBuf,
    authorities: Vec<Authority>,
    lists: Vec<List>,
    /// Where the lists stand, if there are any.
    crl: Option<PathBuf>,
    /// When each certificate was revoked, by its issuer's name and its serial number.
    revoked: HashMap<(Vec<u8>, Vec<u8>), SystemTime>,
}

/// One authority, with verifiers that know no other: each has its own dates and its own list, and two may have one name.
#[derive(Debug)]
struct Authority {
    name: String,
    key: Vec<u8>,
    life: Validity,
    callers: Arc<dyn ClientCertVerifier>,
    listeners: Arc<WebPkiServerVerifier>,
}

impl Trust {
    /// Reads the authorities in `ca`, and the revocation lists in `crl`. Without `crl`, the lists are in `crl.pem` beside `ca`,
    /// if that is there.
    ///
    /// # Errors
    /// When a file is missing or damaged, when no authority is in date, or when a list is signed by no authority in `ca`.
    pub(crate) fn load(
        ca: &Path,
        crl: Option<&Path>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, LinkError> {
        let certificates = pem::read_certificates(ca)?;
        if certificates.len() > MOST_AUTHORITIES {
            let problem = format!("holds {} authorities; {MOST_AUTHORITIES} are enough", certificates.len());
            return Err(wrong(ca, problem));
        }
        let crl = match crl {
            Some(given) => Some(given.to_owned()),
            None => Some(ca.with_file_name("crl.pem")).filter(|beside| beside.exists()),
        };
        let ders = crl.as_deref().map(pem::read_revocation_lists).transpose()?.unwrap_or_default();
        let mut lists = Vec::with_capacity(ders.len());
        for der in ders {
            let place = crl.as_deref().unwrap_or(ca);
            let list = List::signed_by_one_of(der, &certificates)
                .map_err(|problem| wrong(place, problem.replace("AUTHORITIES", &ca.display().to_string())))?;
            if lists.iter().any(|other: &List| other.signer == list.signer) {
                return Err(wrong(place, "holds two lists of one authority; keep the newer alone"));
            }
            lists.push(list);
        }

        let mut authorities = Vec::with_capacity(certificates.len());
        for (number, certificate) in certificates.iter().enumerate() {
            let own = lists.iter().filter(|list| list.signer == number).map(|list| list.der.clone());
            let authority = Authority::new(certificate, own.collect(), provider);
            authorities.push(authority.map_err(|problem| wrong(ca, problem))?);
        }
        let revoked = lists.iter_mut().flat_map(|list| list.entries.drain()).collect();
        let trust = Self { ca: ca.to_owned(), authorities, lists, crl, revoked };
        if trust.in_date(SystemTime::now()).next().is_none() {
            let problems: Vec<_> = trust.left_out().collect();
            return Err(wrong(
                ca,
                format!("holds no authority that is in date: {}; get a new one", problems.join(", ")),
            ));
        }
        Ok(trust)
    }

    fn in_date(&self, now: SystemTime) -> impl Iterator<Item = &Authority> {
        self.authorities.iter().filter(move |authority| authority.life.problem_at(now).is_none())
    }

    /// The end of the authority in date that ends first.
    pub(crate) fn authority_ends(&self) -> Option<SystemTime> {
        self.in_date(SystemTime::now()).map(|authority| authority.life.ends).min()
    }

    /// When the first of the lists is to be renewed.
    pub(crate) fn list_due(&self) -> Option<SystemTime> {
        self.lists.iter().filter_map(|list| list.next_update).min()
    }

    /// Why each authority that is not in date is left out.
    fn left_out(&self) -> impl Iterator<Item = String> {
        let now = SystemTime::now();
        self.authorities.iter().filter_map(move |authority| {
            let problem = authority.life.problem_at(now)?;
            Some(format!("the authority {:?} {problem}", authority.name))
        })
    }

    /// What is to be said about authorities and lists that are not in date, or end within 14 days.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let ca = self.ca.display();
        let now = SystemTime::now();
        let mut warnings: Vec<_> =
            self.left_out().map(|why| format!("{ca}: {why}; it is left out")).collect();
        for authority in self.in_date(now) {
            let days = authority.life.days_left();
            if days < WARN_DAYS {
                warnings.push(format!(
                    "{ca}: the authority {:?} ends in {days} days, and no certificate of it is accepted \
                     afterwards. Put a new one beside it, then renew the certificates",
                    authority.name
                ));
            }
        }
        let crl = self.crl.as_deref().unwrap_or(&self.ca).display();
        for next in self.lists.iter().filter_map(|list| list.next_update) {
            let renew = "renew it with `suf pki revoke --ca DIR`, without a certificate";
            if now >= next {
                warnings.push(format!(
                    "{crl}: the revocation list was due to be renewed on {}; it stays in force; {renew}",
                    day(next)
                ));
            } else if days_until(next) < WARN_DAYS {
                let days = days_until(next);
                warnings
                    .push(format!("{crl}: the revocation list is due to be renewed in {days} days; {renew}"));
            }
        }
        warnings
    }

    /// Whether this is older than `other`: when a list has a lower number, or is gone.
    ///
    /// # Errors
    /// In words, if it is.
    pub(crate) fn is_not_older_than(&self, other: &Self) -> Result<(), LinkError> {
        for before in &other.lists {
            let now = self.lists.iter().find(|list| list.key == before.key);
            let place = self.crl.as_deref().or(other.crl.as_deref()).unwrap_or(&self.ca);
            match now {
                Some(now) if now.number < before.number => {
                    let (now, before) = (&now.number, &before.number);
                    return Err(wrong(
                        place,
                        format!(
                            "is revocation list number {now}, older than number {before}, which is in use"
                        ),
                    ));
                }
                None if self.authorities.iter().any(|authority| authority.key == before.key) => {
                    return Err(wrong(
                        place,
                        format!("lacks the revocation list of {:?}, which is in use", before.issuer),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether `certificate` is accepted at `now` for `purpose`; a listener's must be good for `name`.
    ///
    /// # Errors
    /// As TLS says it to the other side.
    pub(crate) fn verify_caller(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(certificate, Purpose::Caller, now, |authority| {
            authority.callers.verify_client_cert(certificate, &[], now)
        })
    }

    /// As [`Trust::verify_caller`], of a certificate that must be good for `name`.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn verify_listener(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(certificate, Purpose::Listener, now, |authority| {
            authority.listeners.verify_server_cert(certificate, &[], name, &[], now)
        })
    }

    /// The first acceptance of an authority in date, or else the refusal that says most.
    fn verify<T>(
        &self,
        certificate: &CertificateDer<'_>,
        purpose: Purpose,
        now: UnixTime,
        by: impl Fn(&Authority) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let refused = |why| Err(Error::InvalidCertificate(why));
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(now.as_secs());
        let mut refusal = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for authority in self.in_date(time) {
            match by(authority) {
                // TLS takes a certificate that names no purpose for one that is for all.
                Ok(_) if !is_for(certificate, purpose) => return refused(CertificateError::InvalidPurpose),
                Ok(_) if self.revoked_on(certificate).is_some() => return refused(CertificateError::Revoked),
                Ok(verified) => return Ok(verified),
                // An authority of the same name, but not the one that signed it.
                Err(Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                )) => {}
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// When `certificate` was revoked, if it was.
    pub(crate) fn revoked_on(&self, certificate: &CertificateDer<'_>) -> Option<SystemTime> {
        let parsed = parse(certificate).ok()?;
        self.revoked.get(&(parsed.issuer().as_raw().to_vec(), serial(parsed.raw_serial()))).copied()
    }

    /// The authorities' file.
    pub(crate) fn ca(&self) -> &Path {
        &self.ca
    }

    /// The lists' file, if there is one.
    pub(crate) fn crl(&self) -> Option<&Path> {
        self.crl.as_deref()
    }
}

impl Authority {
    fn new(
        certificate: &CertificateDer<'static>,
        lists: Vec<CertificateRevocationListDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let parsed = parse(certificate)?;
        let (name, key) = (parsed.subject().to_string(), parsed.public_key().raw.to_vec());
        let life = Validity::of(certificate)?;
        let mut root = RootCertStore::empty();
        root.add(certificate.clone()).map_err(|error| format!("the authority {name:?}: {error}"))?;
        let root = Arc::new(root);
        let unusable = |error: rustls::client::VerifierBuilderError| match error {
            rustls::client::VerifierBuilderError::InvalidCrl(error) => {
                format!("the revocation list of {name:?} is of a kind that is not understood: {error:?}")
            }
            other => format!("the authority {name:?}: {other}"),
        };
        let callers = WebPkiClientVerifier::builder_with_provider(root.clone(), provider.clone())
            .with_crls(lists.clone())
            .allow_unknown_revocation_status()
            .build()
            .map_err(unusable)?;
        let listeners = WebPkiServerVerifier::builder_with_provider(root, provider.clone())
            .with_crls(lists)
            .allow_unknown_revocation_status()
            .build()
            .map_err(unusable)?;
        Ok(Self { name, key, life, callers, listeners })
    }
}
