//! A collector of traces in this process.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, channel},
};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// It takes requests until it is dropped.
pub(crate) struct Receiving {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it was sent.
    pub(crate) requests: Receiver<ExportTraceServiceRequest>,
    _runtime: Runtime,
}

struct Service(Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::unavailable("nobody reads"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiving {
    /// On a port of the system's choice.
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (sender, requests) = channel();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound");
        let service = TraceServiceServer::new(Service(sender));
        let server = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, requests, _runtime: runtime }
    }
}
