//! What can go wrong on a link, whose fault it is, and what to do about it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use quinn::{ConnectError, ConnectionError, ReadError, TransportErrorCode, WriteError};
use suf_net::Tried;
use suf_wire::{Fault, Role, VERSION, WireError};
use thiserror::Error;

use crate::endpoint::canonical;

/// Why a link could not be made, or ended.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The socket could not be had.
    #[error("cannot listen on {addr}: {source}; choose another address or stop what uses it")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A certificate or key file of ours is missing, unreadable, expired or does not fit.
    #[error("{path}: {problem}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A file of ours has no room on its disk.
    #[error("{path}: no space is left on its disk: {source}; make room, then repeat the command")]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A host in a certificate that is no name or address of one.
    #[error("the host {host:?} {problem}")]
    Host {
        /// As given.
        host: String,
        /// What is wrong and what to write.
        problem: String,
    },
    /// TLS settings that the library refuses.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A link profile that is not one.
    #[error("link profile {name}: {problem}")]
    Profile {
        /// File or built-in name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// What should be called is no address, has none, or cannot be called from this host.
    #[error("{remote}: {problem}")]
    Address {
        /// Whom we called.
        remote: String,
        /// What is wrong with its address, and what to do.
        problem: String,
    },
    /// A name has several addresses, and none of them led to a connection.
    #[error("no address of {target} led to {role}: {}", joined(.tried))]
    Addresses {
        /// Whom we called.
        role: Role,
        /// As configured.
        target: String,
        /// Each address's error, which names it, in the order in which they failed.
        tried: Vec<LinkError>,
    },
    /// There was no answer.
    #[error("{remote}: no answer; is the process running, and the UDP port open?")]
    Unreachable {
        /// Whom we called.
        remote: String,
        /// Whose fault, by the role we called.
        fault: Fault,
    },
    /// The other side's certificate does not convince us, or ours does not convince them.
    #[error(
        "{remote}: certificate refused: {problem}; both sides need certificates of the same authority, in date, not revoked, each for its own role"
    )]
    Untrusted {
        /// The other side.
        remote: String,
        /// TLS's reason.
        problem: String,
    },
    /// The other side speaks another version of the protocol.
    #[error(
        "{remote}: speaks another protocol version than ours ({VERSION}); run the same release on all hosts"
    )]
    Version {
        /// The other side.
        remote: String,
    },
    /// The certificate is good, but for another role.
    #[error("{remote}: its certificate says {found}, wanted is {wanted}")]
    Role {
        /// The other side.
        remote: String,
        /// What would have been admitted.
        wanted: String,
        /// What the certificate says.
        found: String,
    },
    /// The certificate is good, but its key is ours.
    #[error(
        "{remote}: its certificate has the private key of ours; whoever has both is both, so issue each role a key of its own"
    )]
    SharedKey {
        /// The other side.
        remote: String,
    },
    /// The other side's QUIC connections do not make one of ours.
    #[error("{remote}: {problem}; run the same release on all hosts, and let the other side call again")]
    Lanes {
        /// The other side.
        remote: String,
        /// What is wrong with the lanes.
        problem: &'static str,
    },
    /// The other side closed the connection and said why.
    #[error("{remote}: closed the connection: {reason}")]
    Closed {
        /// The other side.
        remote: String,
        /// Whose fault, by the other side's role.
        fault: Fault,
        /// Its reason.
        reason: String,
    },
    /// The connection broke: silence, a reset, or a violation of QUIC.
    #[error("{remote}: connection lost: {reason}")]
    Lost {
        /// The other side.
        remote: String,
        /// Whose fault, by the other side's role.
        fault: Fault,
        /// What was seen.
        reason: String,
    },
    /// The other side ended the stream between two messages.
    #[error("{remote}: ended the exchange")]
    Ended {
        /// The other side.
        remote: String,
        /// Whose fault, by the other side's role.
        fault: Fault,
    },
    /// The other side sent what is no message, or not the one that is due.
    #[error("{remote}: sent a bad message: {source}")]
    Message {
        /// The other side.
        remote: String,
        /// Whose fault, by the other side's role.
        fault: Fault,
        /// What is wrong with it.
        source: WireError,
    },
    /// This program tried to send what the protocol does not allow.
    #[error("bug: {0}")]
    Bug(String),
}

fn joined(errors: &[LinkError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl LinkError {
    /// Why none of the addresses of `target`, where `role` should be, led to a connection.
    pub(crate) fn of_addresses(role: Role, target: &str, tried: Tried<Self>) -> Self {
        let mut tried: Vec<_> = tried.0.into_iter().map(|(_, error)| error).collect();
        if tried.len() == 1 {
            return tried.swap_remove(0);
        }
        Self::Addresses { role, target: target.to_owned(), tried }
    }

    /// The side at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Bind { .. }
            | Self::Certificate { .. }
            | Self::Host { .. }
            | Self::Tls(_)
            | Self::Address { .. }
            | Self::Profile { .. }
            | Self::Untrusted { .. }
            | Self::Version { .. }
            | Self::Role { .. }
            | Self::SharedKey { .. } => Fault::Config,
            Self::NoSpace { .. } => Fault::Device,
            Self::Unreachable { fault, .. }
            | Self::Closed { fault, .. }
            | Self::Lost { fault, .. }
            | Self::Ended { fault, .. }
            | Self::Message { fault, .. } => *fault,
            Self::Lanes { .. } => Fault::Peer,
            // An address that answered with the wrong role says more than those that did not answer.
            Self::Addresses { role, tried, .. } => {
                let told = tried.iter().find(|error| {
                    !matches!(error, Self::Unreachable { .. } | Self::Address { .. } | Self::Lost { .. })
                });
                told.or(tried.iter().find(|error| matches!(error, Self::Unreachable { .. })))
                    .or(tried.first())
                    .map_or(fault_of(Some(*role)), Self::fault)
            }
            Self::Bug(_) => Fault::Bug,
        }
    }
}

/// Close codes of our connections.
pub(crate) mod code {
    use quinn::VarInt;

    /// Done, or stopped by the operator.
    pub(crate) const DONE: VarInt = VarInt::from_u32(0);
    /// The certificate's role is not admitted here.
    pub(crate) const ROLE: VarInt = VarInt::from_u32(1);
    /// Another protocol version.
    pub(crate) const VERSION: VarInt = VarInt::from_u32(2);
    /// A message that is none, or is not due.
    pub(crate) const MESSAGE: VarInt = VarInt::from_u32(3);
}

/// The other side of a link, for messages: its role once that is known, and its address.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) role: Option<Role>,
    pub(crate) addr: SocketAddr,
    /// Where there are several lanes, why the first that ended did: the others were closed by us, for that.
    pub(crate) cause: Option<Arc<OnceLock<ConnectionError>>>,
    /// The message for which we closed the connection. Later reads and writes return it.
    pub(crate) refused: Arc<OnceLock<WireError>>,
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.role {
            Some(role) => write!(f, "{role} at {}", self.addr),
            None => self.addr.fmt(f),
        }
    }
}

impl Remote {
    /// The other side at `addr`, not authenticated yet.
    pub(crate) fn new(role: Option<Role>, addr: SocketAddr) -> Self {
        Self { role, addr: canonical(addr), cause: None, refused: Arc::default() }
    }

    fn fault(&self) -> Fault {
        fault_of(self.role)
    }

    /// The system has no way to the address.
    pub(crate) fn no_route(&self, source: &std::io::Error) -> LinkError {
        let problem =
            format!("this host has no way to it ({source}); see its routes, or give another address");
        LinkError::Address { remote: self.to_string(), problem }
    }

    /// Why a call was not even tried; certificates have no part in it.
    pub(crate) fn not_called(&self, error: ConnectError) -> LinkError {
        let remote = self.to_string();
        match error {
            ConnectError::InvalidRemoteAddress(_) => LinkError::Address {
                remote,
                problem:
                    "this address cannot be called; give that of one host, in a family that this host has"
                        .into(),
            },
            ConnectError::InvalidServerName(name) => LinkError::Address {
                remote,
                problem: format!("{name:?} is no name that a certificate can have"),
            },
            ConnectError::EndpointStopping => LinkError::Closed {
                remote,
                fault: Fault::Caller,
                reason: "this process shuts down; call again when it is back".into(),
            },
            other => LinkError::Bug(other.to_string()),
        }
    }

    /// What a broken connection means. `established` tells a peer that went silent from one that never spoke.
    pub(crate) fn lost(&self, error: ConnectionError, established: bool) -> LinkError {
        let remote = self.to_string();
        let fault = self.fault();
        let cause = self.cause.as_ref().and_then(|cause| cause.get());
        let error = cause.filter(|_| error == ConnectionError::LocallyClosed).cloned().unwrap_or(error);
        if let (ConnectionError::LocallyClosed, Some(source)) = (&error, self.refused.get()) {
            return self.bad_message(source.clone());
        }
        match error {
            ConnectionError::TimedOut if !established => self.unreachable(),
            ConnectionError::TransportError(error) if is_tls(error.code) => {
                refused(remote, error.code, error.reason)
            }
            ConnectionError::ConnectionClosed(close) if is_tls(close.error_code) => {
                let reason = String::from_utf8_lossy(&close.reason).into_owned();
                refused(remote, close.error_code, reason)
            }
            ConnectionError::ApplicationClosed(close) => {
                let reason: String = String::from_utf8_lossy(&close.reason)
                    .chars()
                    .map(|c| if c.is_control() { ' ' } else { c })
                    .collect();
                match close.error_code {
                    code if code == code::VERSION => LinkError::Version { remote },
                    _ if reason.is_empty() => LinkError::Closed { remote, fault, reason: "done".into() },
                    _ => LinkError::Closed { remote, fault, reason },
                }
            }
            ConnectionError::VersionMismatch => LinkError::Version { remote },
            ConnectionError::CidsExhausted => LinkError::Bug("connection ids are exhausted".into()),
            other => LinkError::Lost { remote, fault, reason: seen(&other).into() },
        }
    }

    pub(crate) fn unreadable(&self, error: ReadError) -> LinkError {
        match error {
            ReadError::ConnectionLost(error) => self.lost(error, true),
            ReadError::Reset(_) => self.ended(),
            other => LinkError::Bug(other.to_string()),
        }
    }

    pub(crate) fn unwritable(&self, error: WriteError) -> LinkError {
        match error {
            WriteError::ConnectionLost(error) => self.lost(error, true),
            WriteError::Stopped(_) => self.ended(),
            other => LinkError::Bug(other.to_string()),
        }
    }

    pub(crate) fn unreachable(&self) -> LinkError {
        LinkError::Unreachable { remote: self.to_string(), fault: self.fault() }
    }

    pub(crate) fn ended(&self) -> LinkError {
        LinkError::Ended { remote: self.to_string(), fault: self.fault() }
    }

    pub(crate) fn bad_message(&self, source: WireError) -> LinkError {
        LinkError::Message { remote: self.to_string(), fault: self.fault(), source }
    }
}

fn fault_of(role: Option<Role>) -> Fault {
    match role {
        Some(Role::Dealer) => Fault::Dealer,
        Some(Role::Operator | Role::Client | Role::Observer | Role::Model) => Fault::Caller,
        Some(Role::Party0 | Role::Party1) | None => Fault::Peer,
    }
}

/// What the end of a connection looks like from here, and what to do.
fn seen(error: &ConnectionError) -> &'static str {
    match error {
        ConnectionError::TimedOut => {
            "it was silent for too long; its process or host stands still, or the network is cut: see its log"
        }
        ConnectionError::Reset => {
            "it knows nothing of this connection any more; its process ended or was restarted: see its log"
        }
        ConnectionError::LocallyClosed => "this side closed it",
        ConnectionError::ConnectionClosed(_) => {
            "it refused or gave up the connection; it shuts down, or runs another release: see its log"
        }
        _ => {
            "what came breaks the rules of QUIC; run the same release on all hosts, and see what is between them"
        }
    }
}

/// TLS alerts are transport errors 0x100 to 0x1ff (RFC 9001, section 4.8).
const FIRST_TLS_CODE: u64 = 0x100;

fn is_tls(code: TransportErrorCode) -> bool {
    (FIRST_TLS_CODE..2 * FIRST_TLS_CODE).contains(&code.into())
}

fn refused(remote: String, code: TransportErrorCode, reason: String) -> LinkError {
    /// `no_application_protocol`, RFC 7301: our ALPN carries the version.
    const NO_COMMON_VERSION: u8 = 120;
    if u64::from(code) == FIRST_TLS_CODE + u64::from(NO_COMMON_VERSION) {
        LinkError::Version { remote }
    } else {
        let problem = if reason.is_empty() { code.to_string() } else { reason };
        LinkError::Untrusted { remote, problem }
    }
}
