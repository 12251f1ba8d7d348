//! Accepting: a caller proves who it is, and says which lane of what it is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::VarInt;
use rustls_pki_types::CertificateDer;
use suf_net::Permit;
use suf_wire::{Role, VERSION};

use crate::certificate::{Purpose, role_of};
use crate::connection::Connection;
use crate::endpoint::canonical;
use crate::error::{LinkError, Remote, code};
use crate::identity::Identity;
use crate::lanes::{Lane, LaneHello, Waiting};
use crate::threads::LaneThread;

/// How many handshakes the lanes of a connection take one after another: the last lane's, those of the others at once, and
/// the first's.
const MOST_FLIGHTS: u32 = 3;

/// A caller that has not proven anything yet.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) inner: quinn::Incoming,
    /// Held until it has proven itself, or failed to.
    pub(crate) place: Permit<IpAddr>,
    pub(crate) thread: LaneThread,
    pub(crate) identity: Identity,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) handshake_limit: Duration,
    /// Of all lanes together.
    pub(crate) receive_window_bytes: u64,
}

impl Incoming {
    /// The caller's address.
    pub fn remote(&self) -> SocketAddr {
        canonical(self.inner.remote_address())
    }

    /// Completes the handshake and admits the caller if its certificate's role is among `admitted`; others are told why
    /// not. Gives the connection when this was the last of its lanes, and `None` before.
    ///
    /// # Errors
    /// The caller that was not admitted, and why.
    pub async fn establish(self, admitted: &[Role]) -> Result<Option<Connection>, LinkError> {
        let mut remote = Remote::new(None, self.inner.remote_address());
        let late = remote.unreachable();
        let _place = self.place;
        let established = async {
            let inner = self.inner.await.map_err(|error| remote.lost(error, false))?;
            let (role, certificate) = admit(&inner, &remote, admitted, &self.identity)?;
            remote.role = Some(role);
            let hello = LaneHello::decode(hear(&inner, &remote).await?);
            let hello = hello.ok_or("it says that it is a lane that there cannot be");
            let complete = hello.and_then(|hello| {
                // The caller decides how many lanes there are, but not how much we hold for it.
                let window = self.receive_window_bytes / u64::from(hello.lanes);
                inner.set_receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX));
                let lane = Lane { quic: inner.clone(), thread: self.thread };
                self.waiting.complete(hello, &certificate, lane, MOST_FLIGHTS * self.handshake_limit)
            });
            let lanes = complete.map_err(|problem| {
                inner.close(code::MESSAGE, problem.as_bytes());
                LinkError::Lanes { remote: remote.to_string(), problem }
            })?;
            // In TLS 1.3 a caller's handshake ends before its certificate is checked. Without this message a refusal would
            // surface later, during another exchange.
            say(&inner, &remote, &VERSION.to_le_bytes()).await?;
            let guarded = |lanes| Connection::new(lanes, role).guarded(&self.identity, Purpose::Caller);
            Ok(lanes.map(guarded))
        };
        tokio::time::timeout(self.handshake_limit, established).await.unwrap_or(Err(late))
    }
}

/// The certificate that the other side has shown.
pub(crate) fn certificate_of(inner: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let shown = inner.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    shown.into_iter().next()
}

/// Reads the role from the other side's certificate. Closes the connection if the role is not among `admitted`, or if
/// the certificate's key is our own. A dealer that is also a party would know everything.
pub(crate) fn admit(
    inner: &quinn::Connection,
    remote: &Remote,
    admitted: &[Role],
    own: &Identity,
) -> Result<(Role, CertificateDer<'static>), LinkError> {
    let certificate = certificate_of(inner).ok_or("no certificate".to_owned());
    let found = certificate.and_then(|certificate| Ok((role_of(&certificate)?, certificate)));
    match found {
        Ok((role, certificate)) if admitted.contains(&role) => {
            // A certificate of our own role with our key is our own.
            if role != own.role() && own.has_key_of(&certificate) {
                let reason =
                    b"your certificate has the private key of ours; each role needs a key of its own";
                inner.close(code::ROLE, reason);
                return Err(LinkError::SharedKey { remote: remote.addr.to_string() });
            }
            Ok((role, certificate))
        }
        other => {
            let found = other.map_or_else(|problem| problem, |(role, _)| role.to_string());
            let wanted = admitted.iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ");
            let reason = format!("your certificate says {found}, wanted here is {wanted}");
            inner.close(code::ROLE, reason.as_bytes());
            Err(LinkError::Role { remote: remote.addr.to_string(), wanted, found })
        }
    }
}

/// Sends each side's first message on a new QUIC connection. The caller names the lane, and the listener accepts it and
/// names the version.
pub(crate) async fn say(inner: &quinn::Connection, remote: &Remote, bytes: &[u8]) -> Result<(), LinkError> {
    let mut stream = inner.open_uni().await.map_err(|error| remote.lost(error, false))?;
    stream.write_all(bytes).await.map_err(|error| remote.unwritable(error))?;
    // An error says that the connection is closed, which the next to use it learns.
    let _ = stream.finish();
    Ok(())
}

pub(crate) async fn hear<const BYTES: usize>(
    inner: &quinn::Connection,
    remote: &Remote,
) -> Result<[u8; BYTES], LinkError> {
    let mut stream = inner.accept_uni().await.map_err(|error| remote.lost(error, false))?;
    let mut bytes = [0; BYTES];
    stream.read_exact(&mut bytes).await.map_err(|error| match error {
        quinn::ReadExactError::ReadError(error) => remote.unreadable(error),
        quinn::ReadExactError::FinishedEarly(_) => remote.ended(),
    })?;
    Ok(bytes)
}
