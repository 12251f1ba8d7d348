//! A dealer and its two parties in one process, over loopback.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use suf_control::v1::{self, dealer_server::Dealer as _};
use suf_cpu::CpuBackend;
use suf_dealer::{Dealer, DealerService, Limits};
use suf_gate::{
    Backend, BackendError, BackendInfo, DealJob, EvalJob, KeyBytes, Program, Protocol, SecretBytes,
    StagedPart, catalog, gatefile::GateFile, secret::SecretMemory,
};
use suf_link::{Channel, Connection, Endpoint, Identity, LinkProfile, Pki};
use suf_wire::{BatchId, DealerMessage, Digest, Fault, Header, KeyPart, KeyRequest, Part, Party, Role};

/// A minute in which no test's other side stays silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// A dealer at work.
pub(crate) struct World {
    pub(crate) dealer: Arc<Dealer>,
    endpoint: Arc<Endpoint>,
    folder: tempfile::TempDir,
}

/// One party's connection to it.
pub(crate) struct Caller {
    pub(crate) connection: Connection,
    endpoint: Endpoint,
}

/// What a party received of a batch.
pub(crate) struct Container {
    pub(crate) header: Header,
    pub(crate) keys: Vec<KeyPart>,
}

pub(crate) fn limits() -> Limits {
    Limits {
        max_elems: 1 << 20,
        max_loads: 2,
        memory_bytes: 128 << 20,
        threads: 2,
        wait_for_peer: PATIENCE,
        gates: None,
        weights: Default::default(),
    }
}

/// `elems` elements of a gate.
pub(crate) fn program(protocol: Protocol, elems: u64) -> Arc<Program> {
    let file = GateFile::builtin("gelu").expect("gelu is built in");
    let gate = catalog::gate(&file, protocol, None).expect("gelu has a default shape");
    Arc::new(Program::of_gate(Arc::new(gate), elems).expect("of a size"))
}

impl World {
    pub(crate) fn start(limits: Limits) -> Self {
        Self::with(limits, Arc::new(CpuBackend::new()))
    }

    pub(crate) fn with(limits: Limits, backend: Arc<dyn Backend>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Pki::create(folder.path(), &BTreeMap::new()).expect("certificates");
        let endpoint = Arc::new(bind(&folder, Role::Dealer));
        let dealer = Dealer::new(limits, backend);
        let (serving, listener) = (Arc::clone(&dealer), Arc::clone(&endpoint));
        tokio::spawn(async move { serving.serve(&listener).await });
        Self { dealer, endpoint, folder }
    }

    pub(crate) async fn call(&self, role: Role) -> Result<Caller, suf_link::LinkError> {
        let endpoint = bind(&self.folder, role);
        let address: SocketAddr = self.endpoint.local_addr().expect("bound");
        let connection = endpoint.connect(address, Role::Dealer.name(), Role::Dealer).await?;
        Ok(Caller { connection, endpoint })
    }

    pub(crate) async fn parties(&self) -> [Caller; 2] {
        [self.call(Role::Party0).await.expect("admitted"), self.call(Role::Party1).await.expect("admitted")]
    }

    /// Waits until a first request waits for the second.
    pub(crate) async fn one_waits(&self) {
        while self.dealer.records().list(1).first().map(v1::Batch::state) != Some(v1::BatchState::Waiting) {
            tokio::task::yield_now().await;
        }
    }

    /// The newest batch, as operators see it, once it is over.
    pub(crate) async fn newest(&self) -> v1::Batch {
        let service = DealerService::new(Arc::clone(&self.dealer), identity(&self.folder, Role::Dealer));
        loop {
            let request = tonic::Request::new(v1::ListBatchesRequest { limit: 1 });
            let reply = service.list_batches(request).await.expect("a list");
            let batch = reply.into_inner().batches.pop().expect("a batch");
            if batch.failure.is_some() || batch.state() == v1::BatchState::Stored {
                return batch;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Caller {
    /// Asks for keys of `program` as `party`.
    pub(crate) async fn ask(
        &self,
        party: Party,
        batch: BatchId,
        program: &Program,
    ) -> Channel<DealerMessage> {
        let mut channel = self.connection.open().await.expect("a stream");
        let digest = Digest(*program.digest());
        let program = program.encoded().to_vec().into();
        let request = KeyRequest { batch, digest, party, load_batch: None, program };
        channel.sender.send(&DealerMessage::Request(request)).await.expect("sent");
        channel
    }

    /// Ends the process that this stands for.
    pub(crate) async fn die(self) {
        self.connection.close("killed");
        self.endpoint.close("killed").await;
    }
}

/// The next message, where no key is due.
pub(crate) async fn next(channel: &mut Channel<DealerMessage>) -> DealerMessage {
    let received = tokio::time::timeout(PATIENCE, channel.receiver.recv(|_| None)).await;
    received.expect("the dealer answers").expect("a message")
}

/// The fault and reason of a refusal.
pub(crate) async fn refusal(channel: &mut Channel<DealerMessage>) -> (Fault, String) {
    match next(channel).await {
        DealerMessage::Refuse { fault, reason, .. } => (fault, reason.to_string()),
        other => panic!("{} instead of a refusal", other.name()),
    }
}

/// The key of `part` of a batch of `program`, or how the batch ended.
pub(crate) async fn key(
    channel: &mut Channel<DealerMessage>,
    party: Party,
    program: &Program,
    part: Part,
) -> Result<KeyPart, (Fault, String)> {
    let due = program.key_bytes_of(party, part);
    let received = channel.receiver.recv(|head| (head.part == part).then_some(due));
    match tokio::time::timeout(PATIENCE, received).await.expect("the dealer ships").expect("a message") {
        DealerMessage::Key(key) => Ok(key),
        DealerMessage::Abort { fault, reason, .. } => Err((fault, reason.to_string())),
        other => panic!("{} instead of a key", other.name()),
    }
}

/// How a batch ends that is given up on the way.
pub(crate) async fn abort(
    channel: &mut Channel<DealerMessage>,
    party: Party,
    program: &Program,
    parts: impl IntoIterator<Item = Part>,
) -> (Fault, String) {
    for part in parts {
        if let Err(abort) = key(channel, party, program, part).await {
            return abort;
        }
    }
    panic!("{party} has all of its keys")
}

/// Receives a whole batch, checks it, and acknowledges it.
pub(crate) async fn receive(
    mut channel: Channel<DealerMessage>,
    party: Party,
    batch: BatchId,
    program: &Program,
) -> Container {
    let DealerMessage::Header(header) = next(&mut channel).await else { panic!("the header comes first") };
    assert_eq!((header.batch, header.digest.0), (batch, *program.digest()));
    let mut keys = Vec::new();
    for part in program.keyed_parts() {
        let key = key(&mut channel, party, program, part).await.expect("a key");
        assert!(key.is_intact(batch, party), "{party}, {part}");
        keys.push(key);
    }
    assert_eq!(header.parts as usize, keys.len());
    assert_eq!(next(&mut channel).await, DealerMessage::End { batch });
    channel.sender.send(&DealerMessage::Stored { batch }).await.expect("sent");
    channel.sender.finish();
    channel.sender.flushed().await;
    Container { header, keys }
}

/// A backend without a device.
pub(crate) struct Broken;

impl Backend for Broken {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "broken", device: "none".into(), clocks: None }
    }

    fn deal(&self, _: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError> {
        Err(BackendError::Failed("it fell off the bus".into()))
    }

    fn stage(&self, _: &EvalJob, _: KeyBytes) -> Result<Box<dyn StagedPart>, BackendError> {
        Err(BackendError::Failed("it fell off the bus".into()))
    }

    fn check(&self) -> Result<(), BackendError> {
        Err(BackendError::Failed("it fell off the bus".into()))
    }

    fn message_room(&self, _: usize) -> Option<Box<dyn SecretMemory>> {
        None
    }
}

fn identity(folder: &tempfile::TempDir, role: Role) -> Identity {
    Identity::load_from(folder.path(), role.name()).expect("a certificate for every role")
}

fn bind(folder: &tempfile::TempDir, role: Role) -> Endpoint {
    let profile = LinkProfile::built_in("loopback").expect("a built-in profile");
    Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &identity(folder, role), &profile, false)
        .expect("a socket")
}
