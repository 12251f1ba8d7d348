//! One process's certificate and key, and the TLS settings built from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::hmac;
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::version;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use suf_wire::Role;

use crate::certificate::{Purpose, public_key_of};
use crate::current::{Current, State};
use crate::error::LinkError;
use crate::pem::wrong;
use crate::trust::WARN_DAYS;

/// gRPC runs over HTTP/2.
const HTTP2: &[u8] = b"h2";

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
    /// The authority's revocation list. None: `crl.pem` beside the authority, if that is there.
    pub crl: Option<PathBuf>,
}

impl IdentityFiles {
    /// Takes relative paths from `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        for file in [&mut self.ca, &mut self.cert, &mut self.key].into_iter().chain(self.crl.as_mut()) {
            *file = folder.join(&*file);
        }
    }

    /// [`Identity::load`] of these files, for a process that is `role`.
    ///
    /// # Errors
    /// As there, and when the certificate is for another role.
    pub fn load(&self, role: Role) -> Result<Identity, LinkError> {
        let identity = Identity::from_files(self.clone())?;
        identity.expect_role(role, &self.cert)?;
        Ok(identity)
    }
}

/// Who this process is: a certificate with a role, its key, and the authorities that both sides trust. Clones share all of it, so
/// that [`Identity::reload`] replaces it for all of them, and for all TLS settings made from them.
#[derive(Clone)]
pub struct Identity {
    role: Role,
    files: Arc<IdentityFiles>,
    current: Arc<Current>,
    provider: Arc<CryptoProvider>,
    reset: hmac::Key,
}

/// The suites of TLS 1.3 with AES-128 first, as QUIC's own packets have. AES-256 takes a third longer on the link's threads,
/// and keys are expanded from AES-128 anyway.
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
    /// Reads the authorities' certificates, our own and our key, and checks that they fit, are in date, and that nobody else can
    /// read the key. Authorities that are not in date are left out with a warning, if one remains. A file `crl.pem` beside `ca` is
    /// their revocation list. Warns of what ends within 14 days.
    ///
    /// # Errors
    /// [`LinkError::Certificate`] names the file and what to do.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, LinkError> {
        Self::from_files(IdentityFiles {
            ca: ca.into(),
            cert: certificate.into(),
            key: key.into(),
            crl: None,
        })
    }

    fn from_files(files: IdentityFiles) -> Result<Self, LinkError> {
        let provider = Arc::new(provider());
        let (state, reset) = State::load(&files, &provider)?;
        if let Some(revoked) = state.own_revoked(&files) {
            return Err(revoked);
        }
        let role = state.own.role;
        let current = Arc::new(Current::new(state, provider.clone()));
        let identity = Self { role, files: files.into(), current, provider, reset };
        identity.warn_of_end();
        Ok(identity)
    }

    /// Reads our certificate and key, the authorities and their revocation list anew, for rotation without downtime: the next
    /// handshake goes by them. Connections go on if the other side's certificate is still accepted, and are closed if not.
    /// Nothing changes on an error. Should the new list revoke our own certificate, it is taken all the same, and the log says so.
    ///
    /// # Errors
    /// As [`Identity::load`], when the new certificate is for another role, and when the list is older than the one in use.
    pub fn reload(&self) -> Result<(), LinkError> {
        let (state, _) = State::load(&self.files, &self.provider)?;
        if state.own.role != self.role {
            let problem =
                format!("is now a certificate for {}, but this process is {}", state.own.role, self.role);
            return Err(wrong(&self.files.cert, problem));
        }
        state.trust.is_not_older_than(&self.current.now().trust)?;
        if let Some(revoked) = state.own_revoked(&self.files) {
            tracing::error!("{revoked}");
        }
        self.current.replace(state);
        self.warn_of_end();
        Ok(())
    }

    /// Writes [`Identity::warnings`] to the log.
    pub fn warn_of_end(&self) {
        for warning in self.warnings() {
            tracing::warn!("{warning}");
        }
    }

    /// What is to be said about the ends of our certificate, of authorities and of revocation lists, from 14 days before each.
    pub fn warnings(&self) -> Vec<String> {
        let state = self.current.now();
        let days = state.own.life.days_left();
        let certificate = self.files.cert.display();
        let own = (days < WARN_DAYS).then(|| {
            format!(
                "the certificate {certificate} ends in {days} days. Get a new one with `suf pki request` and `suf pki sign`, put it \
                 in its place and send SIGHUP"
            )
        });
        own.into_iter().chain(state.trust.warnings()).collect()
    }

    /// Whether our certificate is accepted now by whoever trusts the same authorities: it and one of them are in date, and it is not
    /// revoked.
    ///
    /// # Errors
    /// [`LinkError::Certificate`] names the file and what to do.
    pub fn check_now(&self) -> Result<(), LinkError> {
        self.current.now().check_own(&self.files)
    }

    /// Our certificate's end, in seconds since the Unix epoch.
    pub fn expires_unix_s(&self) -> i64 {
        unix_s(self.current.now().own.life.ends)
    }

    /// The end of the authority in date that ends first, in seconds since the Unix epoch; none if none is in date.
    pub fn authority_expires_unix_s(&self) -> Option<i64> {
        self.current.now().trust.authority_ends().map(unix_s)
    }

    /// When the first of the revocation lists is to be renewed, in seconds since the Unix epoch; none without a list.
    pub fn revocation_list_due_unix_s(&self) -> Option<i64> {
        self.current.now().trust.list_due().map(unix_s)
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
        Err(wrong(certificate, problem))
    }

    /// The role of a caller whose certificate is accepted now. For calls on connections that are open: their certificate may have
    /// ended or been revoked since the handshake.
    ///
    /// # Errors
    /// A sentence that says why it is not accepted, and what to do.
    pub fn role_of_caller(&self, certificate: &CertificateDer<'_>) -> Result<Role, String> {
        self.current.now().check(certificate, Purpose::Caller)
    }

    /// Waits until the other side's certificate, accepted in a handshake, is not accepted any more. Looks whenever the identity is
    /// read anew; says why.
    pub(crate) async fn withdrawn(&self, certificate: &CertificateDer<'_>, purpose: Purpose) -> String {
        let later = self.withdrawn_later(certificate.clone().into_owned(), purpose);
        match self.current.now().check(certificate, purpose) {
            Ok(_) => later.await,
            Err(why) => why,
        }
    }

    /// Waits until a caller's certificate, which is accepted now, is not accepted any more. Hears of each time the identity is
    /// read anew from this call on; says why.
    pub fn caller_withdrawn(
        &self,
        certificate: CertificateDer<'static>,
    ) -> impl Future<Output = String> + Send + use<> {
        self.withdrawn_later(certificate, Purpose::Caller)
    }

    fn withdrawn_later(
        &self,
        certificate: CertificateDer<'static>,
        purpose: Purpose,
    ) -> impl Future<Output = String> + Send + use<> {
        let (current, mut replaced) = (Arc::clone(&self.current), self.current.watch());
        async move {
            loop {
                if replaced.changed().await.is_err() {
                    // Unreachable: `current` holds the sender.
                    std::future::pending::<()>().await;
                }
                if let Err(why) = current.now().check(&certificate, purpose) {
                    return why;
                }
            }
        }
    }

    /// Key of the stateless resets that this identity's endpoints send.
    pub(crate) fn reset_key(&self) -> hmac::Key {
        self.reset.clone()
    }

    /// Whole days until our certificate ends.
    pub fn days_left(&self) -> u64 {
        self.current.now().own.life.days_left()
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
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(self.current.clone())
            .with_cert_resolver(self.current.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// A caller's settings.
    pub(crate) fn client(&self, alpn: &[u8]) -> Result<ClientConfig, LinkError> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            // It asks the library's verifier of each authority in date, and looks for more than that does.
            .with_custom_certificate_verifier(self.current.clone())
            .with_client_cert_resolver(self.current.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Whether `certificate` has the key of ours: then two roles share what must be one role's alone.
    pub(crate) fn has_key_of(&self, certificate: &CertificateDer<'_>) -> bool {
        let state = self.current.now();
        match (public_key_of(state.own.certificate()), public_key_of(certificate)) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            // What cannot be read has no role, and is not admitted.
            _ => false,
        }
    }
}

/// Seconds since the Unix epoch; a time before it counts as the epoch.
fn unix_s(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (role, days_left) = (self.role, self.days_left());
        f.debug_struct("Identity").field("role", &role).field("days_left", &days_left).finish_non_exhaustive()
    }
}
