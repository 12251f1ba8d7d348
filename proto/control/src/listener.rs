//! The accept loop: TCP, then a TLS 1.3 handshake with a client certificate, then a connection for tonic.
//!
//! tonic's own TLS support builds its configuration itself. Here the caller's is used, and limits hold before a
//! peer is authenticated.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;
use suf_net::{Admission, HANDSHAKES, HANDSHAKES_PER_ADDRESS, Permit, network_of};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::{limits, server::Peer};

/// A connection whose peer has shown a verified certificate. Holds its place in the limits while it lives.
#[derive(Debug)]
pub(crate) struct Secured {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _permit: Permit<CertificateDer<'static>>,
}

/// Accepts until `shutdown`, and hands over each connection that passed its handshake.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    shutdown: CancellationToken,
) -> mpsc::Receiver<io::Result<Secured>> {
    // One place: tonic takes a connection at once, and what is not taken waits in its own task.
    let (ready, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accept_forever(listener, TlsAcceptor::from(tls), ready) => {}
        }
    });
    connections
}

async fn accept_forever(listener: TcpListener, tls: TlsAcceptor, ready: mpsc::Sender<io::Result<Secured>>) {
    let handshakes = Admission::new(HANDSHAKES_PER_ADDRESS, HANDSHAKES);
    let identities = Admission::new(limits::CONNECTIONS_PER_IDENTITY, limits::CONNECTIONS);
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control connection; trying again");
                sleep(limits::ACCEPT_RETRY).await;
                continue;
            }
        };
        let Some(place) = handshakes.admit(network_of(remote.ip())) else {
            tracing::warn!(%remote, "control connection dropped: too many handshakes in progress");
            continue;
        };
        let (tls, identities, ready) = (tls.clone(), identities.clone(), ready.clone());
        tokio::spawn(async move {
            match secure(stream, remote, tls, &identities, place).await {
                // The receiver is gone only when the server is shutting down.
                Ok(secured) => drop(ready.send(Ok(secured)).await),
                Err(reason) => tracing::warn!(%remote, reason, "control connection refused"),
            }
        });
    }
}

/// Completes the handshake and checks what the API relies on; an error is the reason for the log.
async fn secure(
    stream: TcpStream,
    remote: SocketAddr,
    tls: TlsAcceptor,
    identities: &Arc<Admission<CertificateDer<'static>>>,
    _place: Permit<IpAddr>,
) -> Result<Secured, String> {
    // Small messages go out at once; a failure only costs time.
    let _ = stream.set_nodelay(true);
    let stream = timeout(limits::HANDSHAKE_TIMEOUT, tls.accept(stream))
        .await
        .map_err(|_| format!("no TLS handshake within {:?}", limits::HANDSHAKE_TIMEOUT))?
        .map_err(|error| format!("TLS handshake failed: {error}"))?;
    let certificate = verified_certificate(stream.get_ref().1)?;
    let permit =
        identities.admit(certificate.clone()).ok_or("too many connections of this identity or in all")?;
    Ok(Secured { stream, peer: Peer { certificate, remote }, _permit: permit })
}

/// The client's certificate. Errors show a configuration that does not ask for what this API is built on.
fn verified_certificate(tls: &ServerConnection) -> Result<CertificateDer<'static>, String> {
    if tls.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err("the connection is not TLS 1.3".to_owned());
    }
    if tls.alpn_protocol() != Some(b"h2") {
        return Err("the peer does not speak HTTP/2".to_owned());
    }
    let certificate = tls.peer_certificates().and_then(|chain| chain.first());
    Ok(certificate.ok_or("the peer showed no certificate")?.clone().into_owned())
}

impl Connected for Secured {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
