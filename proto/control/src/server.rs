//! The server: one of the two services with health and reflection, behind mutual TLS and the authority table.

use std::{fmt, net::SocketAddr, sync::Arc};

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::{net::TcpListener, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    server::NamedService,
    service::Routes,
    transport::{self, Server},
};
use tonic_health::ServingStatus;

use crate::{
    DESCRIPTORS,
    authority::{AuthorityLayer, Callers},
    limits, listener,
    v1::{
        dealer_server::{Dealer, DealerServer},
        party_server::{Party, PartyServer},
    },
};

/// The other end of a connection: what TLS has proven about it.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    /// End-entity certificate, DER; it chains to the configured authority.
    pub certificate: CertificateDer<'static>,
    /// Address of the TCP connection.
    pub remote: SocketAddr,
}

/// A service of the control API, ready to be served.
#[derive(Debug)]
pub struct Control {
    routes: Routes,
    name: &'static str,
}

impl Control {
    /// The API of a party.
    pub fn party<P: Party>(party: P) -> Self {
        let service = PartyServer::new(party)
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES);
        Self { routes: Routes::new(service), name: <PartyServer<P> as NamedService>::NAME }
    }

    /// The API of the dealer.
    pub fn dealer<D: Dealer>(dealer: D) -> Self {
        let service = DealerServer::new(dealer)
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES);
        Self { routes: Routes::new(service), name: <DealerServer<D> as NamedService>::NAME }
    }

    /// Serves until `shutdown`, then lets open calls finish for [`limits::SHUTDOWN_GRACE`].
    ///
    /// `tls` must be TLS 1.3 only, require client certificates and offer ALPN `h2`. Connections that lack one
    /// of the three are refused, with the reason in the log. Streams that wait for a run must themselves end on
    /// `shutdown`, or they are cut after the grace.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        callers: Callers,
        shutdown: CancellationToken,
    ) -> Result<(), transport::Error> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status(self.name, ServingStatus::Serving).await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .build_v1()
            .expect("the descriptors were made by this crate's own build");
        let router = Server::builder()
            .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
            .layer(AuthorityLayer { callers })
            .add_routes(self.routes)
            .add_service(health_service)
            .add_service(reflection);

        let connections = ReceiverStream::new(listener::accept(listener, tls, shutdown.clone()).await);
        let leaving = async {
            shutdown.cancelled().await;
            health.set_service_status(self.name, ServingStatus::NotServing).await;
        };
        let grace_over = async {
            shutdown.cancelled().await;
            sleep(limits::SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            served = router.serve_with_incoming_shutdown(connections, leaving) => served,
            () = grace_over => {
                tracing::warn!(grace = ?limits::SHUTDOWN_GRACE, "control calls cut: still open after the grace");
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({}, certificate of {} bytes)", self.remote, self.certificate.len())
    }
}
