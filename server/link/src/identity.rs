//! One process's certificate and key, and the TLS settings built from them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use rustls::client::{ClientConfig, ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use suf_wire::Role;
use zeroize::Zeroizing;

use crate::certificate::{Validity, public_key_of, role_of};
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

/// Who this process is: a certificate with a role, its key, and the authority that both sides trust. Clones share the
/// certificate, so that [`Identity::reload`] replaces it for all of them, and for all TLS settings made from them.
#[derive(Clone)]
pub struct Identity {
    role: Role,
    files: Arc<IdentityFiles>,
    shown: Arc<Shown>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    reset: hmac::Key,
}

/// The certificate that is shown in handshakes from now on.
struct Shown(RwLock<Own>);

/// A certificate with its key.
#[derive(Clone)]
struct Own {
    ends: SystemTime,
    certified: Arc<CertifiedKey>,
}

/// The suites of TLS 1.3 with AES-128 first, as QUIC's own packets have: AES-256 takes a third longer on the link's threads,
/// and keys are dealt from AES-128 anyway.
fn provider() -> CryptoProvider {
    use rustls::crypto::aws_lc_rs::{cipher_suite as suite, default_provider};
    let cipher_suites = vec![
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    CryptoProvider { cipher_suites, ..default_provider() }
}

impl Identity {
    /// Reads the authority's certificate, our own and our key, and checks that they fit, are in date, and that nobody
    /// else can read the key. Warns when the certificate ends within 14 days.
    ///
    /// # Errors
    /// [`LinkError::Certificate`] names the file and what to do.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, LinkError> {
        let wrong = |path: &Path, problem: String| LinkError::Certificate { path: path.to_owned(), problem };
        let files = IdentityFiles { ca: ca.into(), cert: certificate.into(), key: key.into() };
        let provider = Arc::new(provider());

        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            let life = Validity::of(&root).map_err(|problem| wrong(ca, problem))?;
            check_life(ca, life)?;
            roots.add(root).map_err(|error| wrong(ca, error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let (role, own, reset) = Own::load(&files, &roots, &provider)?;
        let shown = Arc::new(Shown(RwLock::new(own)));
        let identity = Self { role, files: files.into(), shown, roots, provider, reset };
        identity.warn_of_end();
        Ok(identity)
    }

    /// Reads our certificate and key anew, for rotation without downtime: the next handshake shows them, connections that
    /// exist go on. The authority stays as it was read at the start. Nothing changes on an error.
    ///
    /// # Errors
    /// As [`Identity::load`], and when the new certificate is for another role.
    pub fn reload(&self) -> Result<(), LinkError> {
        let (role, own, _) = Own::load(&self.files, &self.roots, &self.provider)?;
        if role != self.role {
            let problem = format!("is now a certificate for {role}, but this process is {}", self.role);
            return Err(LinkError::Certificate { path: self.files.cert.clone(), problem });
        }
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = own;
        self.warn_of_end();
        Ok(())
    }

    /// Writes a warning to the log if our certificate ends within 14 days.
    pub fn warn_of_end(&self) {
        if let Some(warning) = self.warning() {
            tracing::warn!("{warning}");
        }
    }

    /// What is to be said about our certificate's end, from 14 days before it.
    pub fn warning(&self) -> Option<String> {
        let days = self.days_left();
        let certificate = self.files.cert.display();
        (days < WARN_DAYS).then(|| {
            format!(
                "the certificate {certificate} ends in {days} days; issue a new one with `suf pki issue`, put it in its place and send SIGHUP"
            )
        })
    }

    /// Our certificate's end, in seconds since the Unix epoch.
    pub fn expires_unix_s(&self) -> i64 {
        let since = self.shown.now().ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
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
        days_until(self.shown.now().ends)
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
            .with_cert_resolver(self.shown.clone());
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
            .with_client_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Whether `certificate` has the key of ours: then two roles share what must be one role's alone.
    pub(crate) fn has_key_of(&self, certificate: &CertificateDer<'_>) -> bool {
        let own = self.shown.now();
        // `Own::load` put at least one certificate there.
        match (public_key_of(&own.certified.cert[0]), public_key_of(certificate)) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            // What cannot be read has no role, and is not admitted.
            _ => false,
        }
    }
}

impl Own {
    /// Reads `files` and checks that they fit, are in date, and are accepted by the authority.
    fn load(
        files: &IdentityFiles,
        roots: &Arc<RootCertStore>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(Role, Self, hmac::Key), LinkError> {
        let wrong = |path: &Path, problem: String| LinkError::Certificate { path: path.to_owned(), problem };
        let IdentityFiles { ca, cert, key } = files;
        let chain = certificates(cert)?;
        // `certificates` gives at least one.
        let (role, life) = role_of(&chain[0])
            .and_then(|role| Ok((role, Validity::of(&chain[0])?)))
            .map_err(|problem| wrong(cert, problem))?;
        check_life(cert, life)?;
        let private = private_key(key)?;
        let reset = reset_key(&private);
        let certified = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => wrong(key, format!("is not the key of {}", cert.display())),
            other => wrong(key, other.to_string()),
        })?;
        // Our own authority must accept our own certificate: else every other side would refuse it, and say so less
        // clearly.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| wrong(ca, error.to_string()))?;
        let now = rustls_pki_types::UnixTime::now();
        verifier.verify_client_cert(&certified.cert[0], &certified.cert[1..], now).map_err(|error| {
            wrong(cert, format!("is not accepted by the authority {}: {error}", ca.display()))
        })?;
        Ok((role, Self { ends: life.ends, certified: certified.into() }, reset))
    }
}

impl Shown {
    fn now(&self) -> Own {
        // A certificate is put in whole, whatever happened to who put it.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().certified)
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now().certified)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
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
        return Err(wrong("has expired; issue a new one with `suf pki issue`"));
    }
    if now < life.begins {
        return Err(wrong("is not valid yet; is this host's clock right?"));
    }
    Ok(())
}

fn days_until(end: SystemTime) -> u64 {
    const DAY: Duration = Duration::from_secs(86_400);
    end.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / DAY.as_secs())
}
