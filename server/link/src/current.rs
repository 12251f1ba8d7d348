//! What a process shows in handshakes, and whom it trusts there: read together, and replaced together.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use aws_lc_rs::hmac;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use suf_wire::Role;
use tokio::sync::watch;

use crate::certificate::{Purpose, Validity, day, is_for, role_of};
use crate::error::LinkError;
use crate::identity::IdentityFiles;
use crate::pem::{self, unread, wrong};
use crate::trust::Trust;

/// What holds in handshakes from now on: what is shown, and who is trusted.
pub(crate) struct Current {
    state: RwLock<Arc<State>>,
    /// Told whenever the state was replaced.
    replaced: watch::Sender<()>,
    provider: Arc<CryptoProvider>,
}

/// Read together, and replaced together.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) own: Own,
    pub(crate) trust: Trust,
}

/// A certificate with its key.
pub(crate) struct Own {
    pub(crate) role: Role,
    pub(crate) life: Validity,
    certified: Arc<CertifiedKey>,
}

impl State {
    /// Reads `files`, and checks that they fit, are in date, and that our certificate is accepted by the authorities.
    pub(crate) fn load(
        files: &IdentityFiles,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(Self, hmac::Key), LinkError> {
        let trust = Trust::load(&files.ca, files.crl.as_deref(), provider)?;
        let (own, reset) = Own::load(files, provider)?;
        own.check(files, &trust)?;
        Ok((Self { own, trust }, reset))
    }

    /// Whether our certificate is accepted now by whoever trusts the same authorities.
    ///
    /// # Errors
    /// Which file is wrong, why, and what to do.
    pub(crate) fn check_own(&self, files: &IdentityFiles) -> Result<(), LinkError> {
        check_date(&self.own.life, &files.cert)?;
        self.own.check(files, &self.trust)?;
        self.own_revoked(files).map_or(Ok(()), Err)
    }

    /// The error that our own certificate is revoked, if it is.
    pub(crate) fn own_revoked(&self, files: &IdentityFiles) -> Option<LinkError> {
        let since = self.trust.revoked_on(self.own.certificate())?;
        let problem = format!(
            "was revoked on {} by {}, so that nobody accepts it; get a new one with `suf pki request` and `suf pki sign`",
            day(since),
            self.trust.crl().unwrap_or(self.trust.ca()).display()
        );
        Some(wrong(&files.cert, problem))
    }

    /// The role in another's certificate, if that is accepted now.
    pub(crate) fn check(&self, certificate: &CertificateDer<'_>, purpose: Purpose) -> Result<Role, String> {
        let role = role_of(certificate)?;
        let now = UnixTime::now();
        let accepted = match purpose {
            Purpose::Caller => self.trust.verify_caller(certificate, now).map(|_| ()),
            Purpose::Listener => self.trust.verify_listener(certificate, &server_name(role), now).map(|_| ()),
        };
        match (accepted, self.trust.revoked_on(certificate)) {
            (_, Some(since)) => Err(format!(
                "the certificate for {role} was revoked on {}; get a new one with `suf pki request` and `suf pki sign`",
                day(since)
            )),
            (Err(error), None) => {
                Err(format!("the certificate for {role} is not accepted any more: {}", reason(&error)))
            }
            (Ok(()), None) => Ok(role),
        }
    }
}

impl Own {
    fn load(files: &IdentityFiles, provider: &Arc<CryptoProvider>) -> Result<(Self, hmac::Key), LinkError> {
        let IdentityFiles { cert, key, .. } = files;
        // What stands behind our certificate is another's: authorities sign directly.
        let certificate = pem::read_certificates(cert)?.swap_remove(0);
        let (role, life) = role_of(&certificate)
            .and_then(|role| Ok((role, Validity::of(&certificate)?)))
            .map_err(|problem| wrong(cert, problem))?;
        check_date(&life, cert)?;
        for purpose in Purpose::of(role) {
            if !is_for(&certificate, *purpose) {
                let usage = match purpose {
                    Purpose::Caller => "clientAuth",
                    Purpose::Listener => "serverAuth",
                };
                let problem = format!(
                    "is for {role}, but lacks the extended key usage {usage} that {role} needs; get a new one with `suf pki sign`"
                );
                return Err(wrong(cert, problem));
            }
        }
        let private = private_key(key)?;
        let reset = reset_key(&private);
        let certified =
            CertifiedKey::from_der(vec![certificate], private, provider).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    wrong(key, format!("is not the key of {}", cert.display()))
                }
                _ => wrong(
                    key,
                    "holds no private key that is supported: use ECDSA (P-256, P-384, P-521), Ed25519 or RSA",
                ),
            })?;
        Ok((Self { role, life, certified: certified.into() }, reset))
    }

    /// Our own authorities must accept our own certificate: else every other side would refuse it, and say so less clearly.
    fn check(&self, files: &IdentityFiles, trust: &Trust) -> Result<(), LinkError> {
        let (certificate, now) = (self.certificate(), UnixTime::now());
        for purpose in Purpose::of(self.role) {
            let accepted = match purpose {
                Purpose::Caller => trust.verify_caller(certificate, now).map(|_| ()),
                Purpose::Listener => {
                    trust.verify_listener(certificate, &server_name(self.role), now).map(|_| ())
                }
            };
            match accepted {
                Ok(()) | Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked)) => {}
                Err(error) => {
                    let ca = files.ca.display();
                    let problem = format!("is not accepted by the authority {ca}: {}", reason(&error));
                    return Err(wrong(&files.cert, problem));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        // `Own::load` put one there.
        &self.certified.cert[0]
    }
}

/// Whether the certificate in the file `cert`, which has the dates `life`, is in date.
fn check_date(life: &Validity, cert: &Path) -> Result<(), LinkError> {
    life.problem_at(SystemTime::now()).map_or(Ok(()), |problem| {
        let renew = "get a new one with `suf pki request` and `suf pki sign`";
        Err(wrong(cert, format!("{problem}; {renew}")))
    })
}

/// A refusal in our own words, where the library's are its own names.
fn reason(error: &rustls::Error) -> String {
    use rustls::CertificateError as Refused;
    let rustls::Error::InvalidCertificate(refused) = error else { return error.to_string() };
    match refused {
        Refused::UnknownIssuer => "no authority in date has signed it".into(),
        Refused::Revoked => "it was revoked".into(),
        Refused::Expired | Refused::ExpiredContext { .. } => "it has expired".into(),
        Refused::InvalidPurpose | Refused::InvalidPurposeContext { .. } => {
            "its extended key usage is for something else".into()
        }
        other => other.to_string(),
    }
}

/// The name under which a role is called, which is among the names of its certificate.
fn server_name(role: Role) -> ServerName<'static> {
    ServerName::try_from(role.name()).expect("roles are called by host names")
}

impl Current {
    pub(crate) fn new(state: State, provider: Arc<CryptoProvider>) -> Self {
        Self { state: RwLock::new(Arc::new(state)), replaced: watch::Sender::new(()), provider }
    }

    /// Puts another state in place, and tells those who watch.
    pub(crate) fn replace(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        self.replaced.send_replace(());
    }

    /// Hears of each state that is put in place from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    pub(crate) fn now(&self) -> Arc<State> {
        // A state is put in whole, whatever happened to who put it.
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().own.certified.clone())
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now().own.certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Current {
    /// None: the caller has one certificate, and shows it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.now().trust.verify_caller(certificate, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Current {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.now().trust.verify_listener(certificate, name, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ClientCertVerifier::supported_verify_schemes(self)
    }
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.now().fmt(f)
    }
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").field("role", &self.role).field("life", &self.life).finish_non_exhaustive()
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LinkError> {
    let mode = fs::metadata(path).map_err(|error| unread(path, &error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(path, format!("can be read by others (mode {:03o}); chmod 600 it", mode & 0o777)));
    }
    // The provider takes the decoded key over, and keeps it for as long as the identity lives.
    pem::read_private_key(path)
}

/// Follows from the private key, and says nothing about it.
fn reset_key(private: &PrivateKeyDer<'_>) -> hmac::Key {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, private.secret_der());
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, b"suf/v1/stateless-reset").as_ref())
}
