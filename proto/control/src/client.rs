//! The client: a channel over mutual TLS 1.3 whose failures say who is at fault and what to do.
//!
//! In TLS 1.3 a client finishes its handshake before the server has judged its certificate, so a refusal would
//! surface later as a broken call. The connector therefore waits for the server's first byte (its HTTP/2 settings)
//! and turns a refusal into a typed error here.

use std::{io, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use suf_net::{Target, Tried, first_to_answer};
use tokio::{io::AsyncBufReadExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{
    call::find,
    limits,
    v1::{Fault, dealer_client::DealerClient, party_client::PartyClient},
};

/// Why there is no channel to a daemon.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The address is not `https://HOST:PORT`.
    #[error(
        "{url:?} is no address of a daemon ({why}): write https://HOST:PORT, and an IPv6 address as https://[ADDRESS]:PORT"
    )]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing listens there.
    #[error("nothing listens at {url} ({tried}): start the daemon there, or correct the address")]
    NotListening {
        /// As given.
        url: String,
        /// The addresses that the host has, each with the system's answer.
        tried: String,
    },
    /// No connection for another reason.
    #[error("cannot reach {url} ({why}): check the host name, the network and the firewall")]
    Unreachable {
        /// As given.
        url: String,
        /// What the system says of the name, or of each address that was tried.
        why: String,
    },
    /// We do not accept the server's certificate.
    #[error(
        "the certificate of {url} is not acceptable ({why}). Check that it is for this role, was issued by an \
         authority given here, and is in date and not revoked"
    )]
    ServerCertificate {
        /// As given.
        url: String,
        /// From the TLS layer.
        why: String,
    },
    /// The server does not accept our certificate.
    #[error(
        "{url} did not accept our certificate ({why}): \
         use one of an authority that the daemon trusts, in date and not revoked"
    )]
    OurCertificate {
        /// As given.
        url: String,
        /// The TLS alert it sent.
        why: String,
    },
    /// Something is there, but not our daemon, or it has no place for us.
    #[error(
        "{url} does not answer as a control API ({why}): check the port, and the daemon's log for the reason"
    )]
    NotControl {
        /// As given.
        url: String,
        /// What was seen.
        why: String,
    },
}

impl ConnectError {
    /// The side that has to act: the configuration here, or the daemon there.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Address { .. } => Fault::Caller,
            Self::NotListening { .. } | Self::Unreachable { .. } | Self::NotControl { .. } => Fault::Peer,
            Self::ServerCertificate { .. } | Self::OurCertificate { .. } => Fault::Config,
        }
    }
}

/// A channel to the daemon at `url` (`https://HOST:PORT`), which must show a certificate for `server_name`.
///
/// `tls` must be TLS 1.3 only, with our certificate and ALPN `h2`. The channel connects again by itself when the
/// connection is lost. Returns once the server has accepted our certificate.
pub async fn connect(url: &str, tls: Arc<ClientConfig>, server_name: &str) -> Result<Channel, ConnectError> {
    let dialer = Dialer::new(url, tls, server_name)?;
    let endpoint = Endpoint::from_shared(format!("https://{}", dialer.target))
        .map_err(|error| ConnectError::Address { url: url.to_owned(), why: error.to_string() })?
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(limits::CALL_KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT);
    let connector = service_fn(move |_: Uri| {
        let dialer = dialer.clone();
        async move { dialer.dial().await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        find::<ConnectError>(&error).cloned().unwrap_or_else(|| ConnectError::NotControl {
            url: url.to_owned(),
            why: "it closed the connection".to_owned(),
        })
    })
}

/// Whether a daemon can be called at `url`, before anything is.
///
/// # Errors
/// When it is not `https://HOST:PORT`.
pub fn check_url(url: &str) -> Result<(), ConnectError> {
    target(url).map(drop)
}

fn target(url: &str) -> Result<Target, ConnectError> {
    let wrong = |why: &str| ConnectError::Address { url: url.to_owned(), why: why.to_owned() };
    let uri: Uri = url.parse().map_err(|_| wrong("this is not a URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(wrong("the scheme must be https"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("there is a path after the port"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("no host"))?;
    authority.as_str().parse::<Target>().map_err(|error| wrong(error.why))
}

/// Calls to a party, with the API's message limits.
pub fn party(channel: Channel) -> PartyClient<Channel> {
    PartyClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_BYTES)
        .max_encoding_message_size(limits::MESSAGE_BYTES)
}

/// Calls to the dealer, with the API's message limits.
pub fn dealer(channel: Channel) -> DealerClient<Channel> {
    DealerClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_BYTES)
        .max_encoding_message_size(limits::MESSAGE_BYTES)
}

/// Where and how to connect; used again for each reconnection.
#[derive(Clone)]
struct Dialer {
    url: String,
    target: Target,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Dialer {
    fn new(url: &str, tls: Arc<ClientConfig>, server_name: &str) -> Result<Self, ConnectError> {
        let target = target(url)?;
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| ConnectError::Address {
            url: url.to_owned(),
            why: "the expected server name is neither a DNS name nor an address".to_owned(),
        })?;
        Ok(Self { url: url.to_owned(), target, name, tls: tls.into() })
    }

    async fn dial(&self) -> Result<TlsStream<TcpStream>, ConnectError> {
        timeout(limits::CONNECT_TIMEOUT, self.dial_untimed()).await.unwrap_or_else(|_| {
            Err(self.unreachable(format!("no answer within {:?}", limits::CONNECT_TIMEOUT)))
        })
    }

    async fn dial_untimed(&self) -> Result<TlsStream<TcpStream>, ConnectError> {
        let addresses = self.target.resolve().await.map_err(|error| self.unreachable(error.to_string()))?;
        let tcp = first_to_answer(addresses, TcpStream::connect).await;
        let tcp = tcp.map_err(|tried| self.no_connection(&tried))?;
        // Small messages go out at once; a failure only costs time.
        let _ = tcp.set_nodelay(true);
        let mut stream =
            self.tls.connect(self.name.clone(), tcp).await.map_err(|error| self.tls_failure(&error))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(self.not_control("it does not speak HTTP/2"));
        }
        match stream.fill_buf().await {
            Ok([]) => Err(self.not_control("it closed the connection; it may have too many")),
            Ok(_) => Ok(stream),
            Err(error) => Err(self.tls_failure(&error)),
        }
    }

    /// Why none of the addresses gave a connection.
    fn no_connection(&self, tried: &Tried<io::Error>) -> ConnectError {
        let refused = |(_, error): &(_, io::Error)| error.kind() == io::ErrorKind::ConnectionRefused;
        if tried.0.iter().all(refused) {
            ConnectError::NotListening { url: self.url.clone(), tried: tried.to_string() }
        } else {
            self.unreachable(tried.to_string())
        }
    }

    fn unreachable(&self, why: String) -> ConnectError {
        ConnectError::Unreachable { url: self.url.clone(), why }
    }

    fn not_control(&self, why: impl ToString) -> ConnectError {
        ConnectError::NotControl { url: self.url.clone(), why: why.to_string() }
    }

    /// Whose certificate is wrong, from what the TLS layer reports through the stream.
    fn tls_failure(&self, error: &io::Error) -> ConnectError {
        let url = self.url.clone();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => {
                ConnectError::ServerCertificate { url, why: why.to_string() }
            }
            Some(rustls::Error::AlertReceived(alert)) if is_about_certificate(*alert) => {
                ConnectError::OurCertificate { url, why: format!("TLS alert {alert:?}") }
            }
            // What else the TLS layer says is about bytes that are none of TLS.
            Some(_) => self.not_control("it does not speak TLS 1.3"),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.not_control("it closed the connection")
            }
            None => self.not_control(error),
        }
    }
}

/// Alerts with which a server refuses a client's certificate (RFC 8446, section 6.2).
fn is_about_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;

    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let tls = Arc::new(tls);
        for url in [
            "",
            "localhost:7000",
            "http://localhost:7000",
            "https://localhost",
            "https://h:1/x",
            "https://h:99999",
        ] {
            let error = Dialer::new(url, tls.clone(), "localhost").err().unwrap();
            assert!(matches!(error, ConnectError::Address { .. }), "{url}: {error}");
            assert_eq!(error.fault(), Fault::Caller);
        }
        Dialer::new("https://[::1]:7000", tls.clone(), "::1").unwrap();
        Dialer::new("https://localhost:7000/", tls, "localhost").unwrap();
    }
}
