//! The server and the client of this crate against each other over loopback, with throw-away certificates.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::CryptoProvider, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use suf_control::{
    authority::{Callers, caller},
    client::{self, ConnectError},
    failure::CallFailure,
    limits,
    server::Control,
    shares,
    v1::{
        self, DescribeReply, DescribeRequest, Fault, InfoRequest, InputPart, ListLoadsReply,
        ListLoadsRequest, ListRunsReply, ListRunsRequest, Load, LoadRef, OutputPart, OutputRef, PartyInfo,
        Run, RunRef, RunState, StartRunRequest, SubmitInputReply, TensorHeader, input_part, output_part,
        party_server::Party,
    },
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A party that gives back the input it was given, and knows one run at a time.
#[derive(Default)]
struct Echo {
    tensor: Arc<Mutex<Vec<u64>>>,
    elements: Arc<Mutex<u64>>,
}

#[tonic::async_trait]
impl Party for Echo {
    type WatchRunStream = Replies<Run>;
    type FetchOutputStream = Replies<OutputPart>;

    async fn start_run(&self, request: Request<StartRunRequest>) -> Result<Response<Run>, Status> {
        let request = request.into_inner();
        *self.elements.lock().unwrap() = request.elements;
        Ok(Response::new(Run { run_id: request.run_id, state: RunState::Proposed.into(), ..Run::default() }))
    }

    async fn get_run(&self, _: Request<RunRef>) -> Result<Response<Run>, Status> {
        Err(CallFailure::caller("no such run").with_code(Code::NotFound).into())
    }

    async fn list_runs(&self, _: Request<ListRunsRequest>) -> Result<Response<ListRunsReply>, Status> {
        Ok(Response::new(ListRunsReply::default()))
    }

    async fn watch_run(&self, _: Request<RunRef>) -> Result<Response<Self::WatchRunStream>, Status> {
        // Never ends by itself: the server's grace must end it.
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }

    async fn cancel_run(&self, _: Request<RunRef>) -> Result<Response<Run>, Status> {
        Err(CallFailure::new(Fault::Dealer, "the dealer is gone; start it").into())
    }

    async fn acknowledge_output(&self, request: Request<RunRef>) -> Result<Response<Run>, Status> {
        Ok(Response::new(Run { run_id: request.into_inner().run_id, ..Run::default() }))
    }

    async fn submit_input(
        &self,
        request: Request<Streaming<InputPart>>,
    ) -> Result<Response<SubmitInputReply>, Status> {
        let mut expected = 0;
        let mut parts = request.into_inner();
        let mut tensor = Vec::new();
        while let Some(InputPart { part: Some(part) }) = parts.try_next().await? {
            match part {
                input_part::Part::Header(header) => expected = header.elements,
                input_part::Part::Shares(message) => {
                    shares::unpack_into(RING_BITS, &message, expected, &mut tensor)?;
                }
            }
        }
        let elements = tensor.len() as u64;
        *self.tensor.lock().unwrap() = tensor;
        Ok(Response::new(SubmitInputReply { elements }))
    }

    async fn fetch_output(
        &self,
        request: Request<OutputRef>,
    ) -> Result<Response<Self::FetchOutputStream>, Status> {
        let tensor = self.tensor.lock().unwrap().clone();
        let OutputRef { run, node } = request.into_inner();
        let header =
            TensorHeader { run_id: run.unwrap_or_default().run_id, elements: tensor.len() as u64, node };
        let mut parts = vec![output_part::Part::Header(header)];
        parts.extend(
            tensor
                .chunks(limits::ELEMENTS_PER_MESSAGE)
                .map(|chunk| output_part::Part::Shares(shares::pack(RING_BITS, chunk))),
        );
        let parts: Vec<_> = parts.into_iter().map(|part| Ok(OutputPart { part: Some(part) })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn list_loads(&self, _: Request<ListLoadsRequest>) -> Result<Response<ListLoadsReply>, Status> {
        Ok(Response::new(ListLoadsReply::default()))
    }

    async fn drop_load(&self, _: Request<LoadRef>) -> Result<Response<Load>, Status> {
        Err(CallFailure::caller("no such load").with_code(Code::NotFound).into())
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeReply>, Status> {
        Ok(Response::new(DescribeReply::default()))
    }

    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<PartyInfo>, Status> {
        // The role comes back, so that a test sees what the handler sees.
        Ok(Response::new(PartyInfo { version: caller(&request)?.role.clone(), ..PartyInfo::default() }))
    }
}

/// A throw-away certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Identity { certificate, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    fn server(&self) -> Arc<ServerConfig> {
        let Identity { certificate, key } = self.issue();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots().into(), provider()).build().unwrap();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// Trusts this authority's servers, and shows `identity`.
    fn client(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match identity {
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A served [`Echo`] and an identity for each role.
struct World {
    authority: Authority,
    identities: HashMap<&'static str, Identity>,
    address: SocketAddr,
    /// The certificate that is not accepted any more.
    withdrawals: watch::Sender<Option<CertificateDer<'static>>>,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl World {
    async fn start() -> Self {
        let authority = Authority::new();
        let identities: HashMap<_, _> =
            ["client", "observer", "stranger"].map(|role| (role, authority.issue())).into();
        let roles: HashMap<_, _> = identities
            .iter()
            .map(|(&role, identity)| (identity.certificate.to_vec(), role.to_owned()))
            .collect();
        let withdrawals = watch::Sender::new(None);
        let withdrawal = withdrawals.subscribe();
        let callers = Callers {
            role_of: Arc::new(move |certificate: &CertificateDer<'_>| {
                roles
                    .get(certificate.as_ref())
                    .cloned()
                    .ok_or_else(|| "the certificate has no role".to_owned())
            }),
            withdrawn: Arc::new(move |certificate: &CertificateDer<'static>| {
                let (certificate, mut withdrawal) = (certificate.clone(), withdrawal.clone());
                Box::pin(async move {
                    let withdrawn = withdrawal.wait_for(|withdrawn| *withdrawn == Some(certificate.clone()));
                    withdrawn.await.expect("the test holds the sender");
                    "the certificate was revoked".to_owned()
                })
            }),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let control = Control::party(Echo::default());
        let served = tokio::spawn(control.serve(listener, authority.server(), callers, shutdown.clone()));
        Self { authority, identities, address, withdrawals, shutdown, served }
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    async fn connect(&self, role: &str) -> Result<tonic::transport::Channel, ConnectError> {
        let tls = self.authority.client(Some(&self.identities[role]));
        client::connect(&self.url(), tls, "localhost").await
    }
}

/// The widest: with it a full message is the largest there is.
const RING_BITS: u8 = 64;

fn run_id() -> bytes::Bytes {
    bytes::Bytes::from_static(&[7; 16])
}

fn input(elements: &[u64]) -> Vec<InputPart> {
    let header = TensorHeader { run_id: run_id(), elements: elements.len() as u64, node: 0 };
    let mut parts = vec![InputPart { part: Some(input_part::Part::Header(header)) }];
    parts.extend(
        elements
            .chunks(limits::ELEMENTS_PER_MESSAGE)
            .map(|chunk| InputPart { part: Some(input_part::Part::Shares(shares::pack(RING_BITS, chunk))) }),
    );
    parts
}

#[tokio::test]
async fn a_tensor_goes_in_and_comes_out_whole() {
    let world = World::start().await;
    let mut party = client::party(world.connect("client").await.unwrap());
    assert_eq!(party.info(InfoRequest {}).await.unwrap().into_inner().version, "client");

    // One full message, the largest there is, and an odd rest.
    let tensor: Vec<u64> =
        (0..limits::ELEMENTS_PER_MESSAGE as u64 + 9).map(|e| e * 0x1234_5678 % (1 << 48)).collect();
    let start =
        StartRunRequest { elements: tensor.len() as u64, run_id: run_id(), ..StartRunRequest::default() };
    assert_eq!(party.start_run(start).await.unwrap().into_inner().state(), RunState::Proposed);
    let reply = party.submit_input(tokio_stream::iter(input(&tensor))).await.unwrap().into_inner();
    assert_eq!(reply.elements, tensor.len() as u64);

    let run = Some(RunRef { run_id: run_id(), ..RunRef::default() });
    let mut parts = party.fetch_output(OutputRef { run, node: 2 }).await.unwrap().into_inner();
    let mut output = Vec::new();
    while let Some(OutputPart { part: Some(part) }) = parts.next().await.transpose().unwrap() {
        match part {
            output_part::Part::Header(header) => {
                assert_eq!((header.elements, header.node), (tensor.len() as u64, 2));
            }
            output_part::Part::Shares(message) => {
                shares::unpack_into(RING_BITS, &message, tensor.len() as u64, &mut output).unwrap();
            }
        }
    }
    assert_eq!(output, tensor);
}

#[tokio::test]
async fn health_answers_and_failures_keep_their_fault() {
    let world = World::start().await;
    let channel = world.connect("client").await.unwrap();
    let request = HealthCheckRequest { service: "suf.control.v1.Party".to_owned() };
    let health = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);

    let status = client::party(channel).cancel_run(RunRef::default()).await.unwrap_err();
    assert_eq!(CallFailure::from(status).fault, Fault::Dealer);
}

#[tokio::test]
async fn a_role_reaches_its_own_methods_only() {
    let world = World::start().await;
    let mut observer = client::party(world.connect("observer").await.unwrap());
    observer.list_runs(ListRunsRequest::default()).await.unwrap();
    let refused = observer.start_run(StartRunRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(CallFailure::from(refused.clone()).fault, Fault::Caller);
    assert!(refused.message().contains("use a certificate of role client"), "{refused}");

    let mut stranger = client::party(world.connect("stranger").await.unwrap());
    assert_eq!(stranger.info(InfoRequest {}).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn calls_under_way_end_when_their_callers_certificate_is_withdrawn() {
    let world = World::start().await;
    let mut party = client::party(world.connect("client").await.unwrap());
    let mut observer = client::party(world.connect("observer").await.unwrap());
    // One call has its answer and waits for its messages, the other has sent half and waits for its answer.
    let mut watching = party.watch_run(RunRef::default()).await.unwrap().into_inner();
    let mut observed = observer.watch_run(RunRef::default()).await.unwrap().into_inner();
    let mut other = party.clone();
    let feeding = tokio::spawn(async move {
        let unfinished = tokio_stream::iter(input(&[1, 2])).chain(tokio_stream::pending());
        other.submit_input(unfinished).await
    });
    world.withdrawals.send_replace(Some(world.identities["client"].certificate.clone()));
    for ended in [watching.message().await.unwrap_err(), feeding.await.unwrap().unwrap_err()] {
        assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
        assert_eq!(ended.message(), "the certificate was revoked");
        assert_eq!(CallFailure::from(ended).fault, Fault::Caller);
    }
    // Nobody else's calls have ended.
    observer.info(InfoRequest {}).await.unwrap();
    tokio::select! {
        biased;
        ended = observed.message() => panic!("{ended:?}"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let world = World::start().await;
    let channel = world.connect("client").await.unwrap();
    // A client without our limit, as a hostile one would be.
    let mut party = v1::party_client::PartyClient::new(channel);
    let shares = input_part::Part::Shares(vec![0; limits::MESSAGE_BYTES].into());
    let refused =
        party.submit_input(tokio_stream::iter([InputPart { part: Some(shares) }])).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
}

#[tokio::test]
async fn wrong_certificates_are_told_apart() {
    let world = World::start().await;
    let stranger = Authority::new();
    let ours = &world.identities["client"];

    let tls = world.authority.client(Some(&stranger.issue()));
    let error = client::connect(&world.url(), tls, "localhost").await.unwrap_err();
    assert!(matches!(error, ConnectError::OurCertificate { .. }), "issued by another CA: {error}");

    let error = client::connect(&world.url(), world.authority.client(None), "localhost").await.unwrap_err();
    assert!(matches!(error, ConnectError::OurCertificate { .. }), "no certificate: {error}");

    let tls = stranger.client(Some(ours));
    let error = client::connect(&world.url(), tls, "localhost").await.unwrap_err();
    assert!(matches!(error, ConnectError::ServerCertificate { .. }), "server of another CA: {error}");

    let tls = world.authority.client(Some(ours));
    let error = client::connect(&world.url(), tls, "party1.example").await.unwrap_err();
    assert!(matches!(error, ConnectError::ServerCertificate { .. }), "server of another name: {error}");
    assert_eq!(error.fault(), Fault::Config);

    world.connect("client").await.expect("the server is still there for the right certificate");
}

#[tokio::test]
async fn a_port_without_a_daemon_is_told_apart() {
    let world = World::start().await;
    let tls = world.authority.client(Some(&world.identities["client"]));

    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}", closed.local_addr().unwrap());
    drop(closed);
    let error = client::connect(&url, tls.clone(), "localhost").await.unwrap_err();
    assert!(matches!(error, ConnectError::NotListening { .. }), "{error}");

    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}", other.local_addr().unwrap());
    let (connected, _) = tokio::join!(client::connect(&url, tls, "localhost"), async {
        drop(other.accept().await.unwrap());
    });
    let error = connected.unwrap_err();
    assert!(matches!(error, ConnectError::NotControl { .. }), "{error}");
}

#[tokio::test]
async fn one_identity_cannot_take_all_connections() {
    let world = World::start().await;
    let mut channels = Vec::new();
    for _ in 0..limits::CONNECTIONS_PER_IDENTITY {
        channels.push(world.connect("client").await.unwrap());
    }
    let error = world.connect("client").await.unwrap_err();
    assert!(matches!(error, ConnectError::NotControl { .. }), "{error}");
    world.connect("observer").await.expect("another identity has its own places");
}

#[tokio::test]
async fn one_connections_calls_are_bounded_and_leave_room_for_others() {
    let world = World::start().await;
    let greedy = client::party(world.connect("client").await.unwrap());
    let mut modest = client::party(world.connect("observer").await.unwrap());
    let mut watching = Vec::new();
    for _ in 0..limits::STREAMS_PER_CONNECTION {
        watching.push(greedy.clone().watch_run(RunRef::default()).await.unwrap());
    }
    let mut late = greedy.clone();
    let mut one_more = std::pin::pin!(late.get_run(RunRef::default()));
    for _ in 0..10 {
        tokio::select! {
            biased;
            answer = &mut one_more => panic!("a call beyond the limit was taken: {answer:?}"),
            answer = modest.get_run(RunRef::default()) => assert_eq!(answer.unwrap_err().code(), Code::NotFound),
        }
    }
    // A place that is free again is given again.
    watching.pop();
    assert_eq!(one_more.await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn shutdown_ends_the_server_within_its_grace() {
    let world = World::start().await;
    let mut party = client::party(world.connect("client").await.unwrap());
    let watching = party.watch_run(RunRef::default()).await.unwrap();
    tokio::time::pause();
    world.shutdown.cancel();
    world.served.await.unwrap().unwrap();
    drop(watching);
    let tls = world.authority.client(Some(&world.identities["client"]));
    tokio::time::resume();
    let error = client::connect(&format!("https://{}", world.address), tls, "localhost").await.unwrap_err();
    assert!(matches!(error, ConnectError::NotListening { .. }), "{error}");
}
