//! One process's certificate and key, and the TLS settings built from them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use suf_wire::Role;
use zeroize::Zeroizing;

use crate::certificate::{Validity, role_of};
use crate::error::LinkError;
use crate::pki::unread;

/// gRPC runs over HTTP/2.
const HTTP2: &[u8] = b"h2";

/// Days before its end from which a certificate is warned about: two weeks are enough to renew it in office hours.
const WARN_DAYS: u64 = 14;

/// Follows from the private key, and says nothing about it.
fn reset_key(private: &PrivateKeyDer<'_>) -> hmac::Key {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, private.secret_der());
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, b"suf/v1/stateless-reset").as_ref())
}

/// The files of a daemon's identity, as its configuration names them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFiles {
    /// The authority that all three hosts trust.
    pub ca: PathBuf,
    /// This daemon's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl IdentityFiles {
    /// Takes relative paths from `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        for file in [&mut self.ca, &mut self.cert, &mut self.key] {
            *file = folder.join(&*file);
        }
    }

    /// [`Identity::load`] of these files, for a process that is `role`.
    ///
    /// # Errors
    /// As there, and when the certificate is for another role.
    pub fn load(&self, role: Role) -> Result<Identity, LinkError> {
        let identity = Identity::load(&self.ca, &self.cert, &self.key)?;
        identity.expect_role(role, &self.cert)?;
        Ok(identity)
    }
}

/// Who this process is: a certificate with a role, its key, and the authority that both sides trust.
#[derive(Clone)]
pub struct Identity {
    role: Role,
    ends: SystemTime,
    certified: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    reset: hmac::Key,
}

impl Identity {
    /// Reads the authority's certificate, our own and our key, and checks that they fit, are in date, and that nobody
    /// else can read the key. Warns when the certificate ends within 14 days.
    ///
    /// # Errors
    /// [`LinkError::Certificate`] names the file and what to do.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, LinkError> {
        let wrong = |path: &Path, problem: String| LinkError::Certificate { path: path.to_owned(), problem };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());

        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            let life = Validity::of(&root).map_err(|problem| wrong(ca, problem))?;
            check_life(ca, life)?;
            roots.add(root).map_err(|error| wrong(ca, error.to_string()))?;
        }

        let chain = certificates(certificate)?;
        // `certificates` gives at least one.
        let (role, life) = role_of(&chain[0])
            .and_then(|role| Ok((role, Validity::of(&chain[0])?)))
            .map_err(|problem| wrong(certificate, problem))?;
        check_life(certificate, life)?;
        let private = private_key(key)?;
        let reset = reset_key(&private);
        let certified = CertifiedKey::from_der(chain, private, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                wrong(key, format!("is not the key of {}", certificate.display()))
            }
            other => wrong(key, other.to_string()),
        })?;
        let identity =
            Self { role, ends: life.ends, certified: certified.into(), roots: roots.into(), provider, reset };
        identity.check_authority(ca, certificate)?;
        Ok(identity)
    }

    /// [`Identity::load`] of `ca.pem`, `NAME.pem` and `NAME.key` in one folder.
    ///
    /// # Errors
    /// As [`Identity::load`].
    pub fn load_from(folder: &Path, name: &str) -> Result<Self, LinkError> {
        let file = |ending| folder.join(format!("{name}.{ending}"));
        Self::load(&folder.join("ca.pem"), &file("pem"), &file("key"))
    }

    /// What our certificate entitles us to be.
    pub fn role(&self) -> Role {
        self.role
    }

    /// An error unless our certificate is for `wanted`: a daemon started with another's files stops here.
    ///
    /// # Errors
    /// [`LinkError::Certificate`] naming `certificate`.
    pub fn expect_role(&self, wanted: Role, certificate: &Path) -> Result<(), LinkError> {
        if self.role == wanted {
            return Ok(());
        }
        let problem = format!("is a certificate for {}, but this process is {wanted}", self.role);
        Err(LinkError::Certificate { path: certificate.to_owned(), problem })
    }

    /// Key of the stateless resets that this identity's endpoints send.
    pub(crate) fn reset_key(&self) -> hmac::Key {
        self.reset.clone()
    }

    /// Whole days until our certificate ends.
    pub fn days_left(&self) -> u64 {
        days_until(self.ends)
    }

    /// TLS settings of a gRPC listener: TLS 1.3, HTTP/2, a certificate of our authority demanded from every caller. The
    /// caller's role is for [`crate::role_of`] to read.
    ///
    /// # Errors
    /// [`LinkError::Tls`].
    pub fn grpc_server(&self) -> Result<Arc<ServerConfig>, LinkError> {
        Ok(Arc::new(self.server(HTTP2)?))
    }

    /// TLS settings of a gRPC caller, which shows our certificate.
    ///
    /// # Errors
    /// [`LinkError::Tls`].
    pub fn grpc_client(&self) -> Result<Arc<ClientConfig>, LinkError> {
        Ok(Arc::new(self.client(HTTP2)?))
    }

    /// A listener's settings. Sessions are never resumed: every connection proves its certificate anew, so that one
    /// that has ended or was replaced is noticed at the next connection.
    pub(crate) fn server(&self, alpn: &[u8]) -> Result<ServerConfig, LinkError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
            .build()
            .map_err(|error| LinkError::Tls(rustls::Error::General(error.to_string())))?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(self.certified.clone())));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// A caller's settings.
    pub(crate) fn client(&self, alpn: &[u8]) -> Result<ClientConfig, LinkError> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(self.roots.clone())
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                self.certified.clone(),
            )));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Our own authority must accept our own certificate: else every other side would refuse it, and say so less clearly.
    fn check_authority(&self, ca: &Path, certificate: &Path) -> Result<(), LinkError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
            .build()
            .map_err(|error| LinkError::Certificate { path: ca.to_owned(), problem: error.to_string() })?;
        // `load` put at least one certificate there.
        let (own, between) = (&self.certified.cert[0], &self.certified.cert[1..]);
        let now = rustls_pki_types::UnixTime::now();
        verifier.verify_client_cert(own, between, now).map_err(|error| LinkError::Certificate {
            path: certificate.to_owned(),
            problem: format!("is not accepted by the authority {}: {error}", ca.display()),
        })?;
        Ok(())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (role, days_left) = (self.role, self.days_left());
        f.debug_struct("Identity").field("role", &role).field("days_left", &days_left).finish_non_exhaustive()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let pem = fs::read(path).map_err(|error| unread(path, &error))?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            Err(LinkError::Certificate { path: path.to_owned(), problem: "holds no PEM certificate".into() })
        }
        Err(error) => Err(LinkError::Certificate { path: path.to_owned(), problem: error.to_string() }),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LinkError> {
    let wrong = |problem: String| LinkError::Certificate { path: path.to_owned(), problem };
    let mode = fs::metadata(path).map_err(|error| unread(path, &error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(format!("can be read by others (mode {:03o}); chmod 600 it", mode & 0o777)));
    }
    let pem = Zeroizing::new(fs::read(path).map_err(|error| unread(path, &error))?);
    // The provider takes the decoded key over, and keeps it for as long as the identity lives.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(format!("no PEM key: {error}")))
}

fn check_life(path: &Path, life: Validity) -> Result<(), LinkError> {
    let now = SystemTime::now();
    let wrong = |problem: &str| LinkError::Certificate { path: path.to_owned(), problem: problem.into() };
    if now >= life.ends {
        return Err(wrong("has expired; issue a new one with `suf pki`"));
    }
    if now < life.begins {
        return Err(wrong("is not valid yet; is this host's clock right?"));
    }
    let days = days_until(life.ends);
    if days < WARN_DAYS {
        tracing::warn!(certificate = %path.display(), days, "certificate ends soon; issue a new one with `suf pki`");
    }
    Ok(())
}

fn days_until(end: SystemTime) -> u64 {
    const DAY: Duration = Duration::from_secs(86_400);
    end.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / DAY.as_secs())
}
