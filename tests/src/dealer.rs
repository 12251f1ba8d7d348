//! A dealer of the tests' own: it speaks to real parties, remembers all that it dealt, and can lie.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use suf_cli::client::os_random;
use suf_cpu::CpuBackend;
use suf_deal::{Batch, Entropy};
use suf_gate::{Part, Party, Program, Seed, WeightStore};
use suf_link::{Channel, Endpoint, Identity, LinkProfile};
use suf_wire::{BatchId, DealerMessage, KeyPart, KeyRequest, Role};
use tokio::{runtime::Runtime, sync::oneshot};

/// A dealer at work until it is dropped.
pub struct TestDealer {
    address: SocketAddr,
    dealt: Arc<Mutex<Vec<Dealt>>>,
    _runtime: Runtime,
}

/// All that was given out for one batch.
pub struct Dealt {
    /// The batch.
    pub batch: BatchId,
    /// The program.
    pub program: Arc<Program>,
    /// Seeds of party 0 and party 1.
    pub seeds: [[u8; 32]; 2],
    /// Keys of party 0 and party 1, of each part that has some.
    pub keys: [Vec<(Part, Bytes)>; 2],
}

/// Who asked first for a batch waits here for the second.
type Waiting = Arc<Mutex<HashMap<BatchId, oneshot::Sender<Channel<DealerMessage>>>>>;

impl TestDealer {
    /// Listens with the dealer's certificate of the folder `pki`. With `unequal` it changes one bit of the public parts
    /// that party 1 gets, under a good tag.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(pki: &Path, unequal: bool) -> Self {
        let runtime = Runtime::new().expect("threads");
        let identity = Identity::load_from(pki, Role::Dealer.name()).expect("the dealer's certificate");
        let profile = LinkProfile::built_in("loopback").expect("a built-in profile");
        let endpoint = {
            let _within = runtime.enter();
            Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), &identity, &profile, false).expect("a socket")
        };
        let address = endpoint.local_addr().expect("bound");
        let dealt = Arc::default();
        let log = Arc::clone(&dealt);
        runtime.spawn(async move {
            let waiting = Waiting::default();
            while let Some(incoming) = endpoint.incoming().await {
                let (waiting, log) = (Arc::clone(&waiting), Arc::clone(&log));
                tokio::spawn(async move {
                    let established = incoming.establish(&Party::BOTH.map(Party::role)).await;
                    let Some(connection) = established.expect("a party") else { return };
                    while let Ok(channel) = connection.accept::<DealerMessage>().await {
                        tokio::spawn(serve(channel, Arc::clone(&waiting), Arc::clone(&log), unequal));
                    }
                });
            }
        });
        Self { address, dealt, _runtime: runtime }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it dealt so far; from now on it does not know it any more.
    ///
    /// # Panics
    /// When a batch could not be dealt.
    #[must_use]
    pub fn take_dealt(&self) -> Vec<Dealt> {
        std::mem::take(&mut *self.dealt.lock().expect("no batch failed"))
    }
}

async fn serve(
    mut channel: Channel<DealerMessage>,
    waiting: Waiting,
    log: Arc<Mutex<Vec<Dealt>>>,
    unequal: bool,
) {
    let request = match channel.receiver.recv(|_| None).await {
        Ok(DealerMessage::Request(request)) => request,
        Ok(DealerMessage::Forget { .. }) => {
            let end = DealerMessage::End { batch: BatchId([0; 16]) };
            // The party may have gone.
            let _ = channel.sender.send(&end).await;
            channel.sender.finish();
            channel.sender.flushed().await;
            return;
        }
        _ => return,
    };
    let first = waiting.lock().expect("no holder panics").remove(&request.batch);
    if let Some(first) = first {
        // The first may have gone meanwhile, with its party.
        let _ = first.send(channel);
        return;
    }
    let (sender, second) = oneshot::channel();
    waiting.lock().expect("no holder panics").insert(request.batch, sender);
    let Ok(other) = second.await else { return };
    let channels = if request.party == Party::P0 { [channel, other] } else { [other, channel] };
    let (dealt, batch) = deal(&request, unequal);
    let messages = Party::BOTH.map(|party| {
        let key = |(part, bytes): &(Part, Bytes)| {
            DealerMessage::Key(KeyPart::new(request.batch, party, *part, bytes.clone()))
        };
        let keys = dealt.keys[party.index()].iter().map(key);
        let begin = DealerMessage::Header(batch.header(party));
        let end = DealerMessage::End { batch: request.batch };
        std::iter::once(begin).chain(keys).chain([end]).collect::<Vec<_>>()
    });
    log.lock().expect("no holder panics").push(dealt);
    let [first, second] = channels;
    let [to_first, to_second] = messages;
    tokio::join!(ship(first, to_first), ship(second, to_second));
}

fn deal(request: &KeyRequest, unequal: bool) -> (Dealt, Batch) {
    let program = Arc::new(Program::decode(&request.program, &WeightStore::default()).expect("a program"));
    let seed = || os_random::<32>().expect("the operating system gives entropy");
    let seeds = [seed(), seed()];
    let entropy = Entropy { parties: seeds.map(Seed::new), dealer: Seed::new(seed()) };
    let batch = Batch::new(request.batch, Arc::clone(&program), entropy);
    let mut keys = [Vec::new(), Vec::new()];
    for part in program.keyed_parts() {
        let [first, mut second] =
            batch.deal(part, &CpuBackend::new()).expect("the CPU does not fail").map(|key| key.bytes);
        let shape = program.node(part.node).op().def().key_shape();
        let public = shape.common_ranges(program.side(Party::P1, part), program.elems(part)).next();
        if let Some(range) = public.filter(|_| unequal) {
            let mut bytes = second.to_vec();
            bytes[range.start] ^= 1;
            second = bytes.into();
        }
        keys[0].push((part, first));
        keys[1].push((part, second));
    }
    (Dealt { batch: request.batch, program, seeds, keys }, batch)
}

async fn ship(mut channel: Channel<DealerMessage>, messages: Vec<DealerMessage>) {
    for message in messages {
        // A party that is gone takes nothing more.
        if channel.sender.send(&message).await.is_err() {
            return;
        }
    }
    // Stored, or the party is gone.
    let _ = channel.receiver.recv(|_| None).await;
}
