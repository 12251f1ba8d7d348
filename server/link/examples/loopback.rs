//! Loopback figures of a link between two threads, and those of their lanes: bulk in Gbit/s, and round trips of 1 KB and 1 MB.
//! Arguments: a profile's name or file (default `loopback`), `shaped` to emulate it, and the bits per element of a gate's
//! exchanges. With these bits, six tiles (`x2`: two) of 65536 elements are also exchanged as by the gate, with nothing
//! computed.
//!
//! `cargo run --release -p suf-link --example loopback -- wan shaped 19 2 48`

#[macro_use]
#[path = "../../../kernels/gate/examples/output/mod.rs"]
mod output;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use suf_link::{
    Channel, Connection, Endpoint, Identity, LinkError, LinkProfile, Outbox, Owner, PayloadMemory, Pki,
    Session,
};
use suf_wire::{
    BatchId, Causal, DataFrame, DataHead, DealerMessage, KeyPart, NodeId, Part, PeerMessage, Role, Tag,
};
use tokio::sync::watch;

/// The key of a tile of a middling gate: 65536 elements of 64 bytes.
const KEY_BYTES: usize = 4 << 20;
const KEYS: u32 = 128;
/// A tile.
const GATE_ELEMS: usize = 65_536;
const GATES: u16 = 101;

/// What a gate exchanges.
#[derive(Clone)]
struct Exchanges {
    /// Of an element, in each exchange.
    bits: Vec<usize>,
    tiles: u32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "loopback".into());
    let profile = match name.ends_with(".toml") {
        true => LinkProfile::load(name.as_ref())?,
        false => LinkProfile::built_in(&name)?,
    };
    let mut rest = arguments.peekable();
    let shaped = rest.next_if_eq("shaped").is_some();
    let tiles = rest.next_if(|word| word.starts_with('x')).map_or(Ok(6), |word| word[1..].parse())?;
    let exchanges = rest.map(|bits| bits.parse()).collect::<Result<Vec<usize>, _>>()?;
    let exchanges = Exchanges { bits: exchanges, tiles };

    let folder = tempfile::TempDir::new()?;
    Pki::create(folder.path(), &BTreeMap::new())?;
    let identity = |role: Role| Identity::load_from(folder.path(), role.name());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();

    let (here, there) = (runtime()?, runtime()?);
    let local = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let listener =
        there.block_on(async { Endpoint::bind(local, &identity(Role::Party1)?, &profile, shaped) })?;
    let caller =
        here.block_on(async { Endpoint::bind(local, &identity(Role::Party0)?, &profile, shaped) })?;
    let addr = listener.local_addr()?;
    let answers = exchanges.clone();
    let answering = std::thread::spawn(move || there.block_on(answer(&listener, &answers)));
    let measured = here.block_on(async {
        let connection = caller.connect(addr, "party1", Role::Party1).await?;
        measure(&connection, &exchanges).await?;
        let path = connection.path();
        say!(
            "mtu {} rtt {:?} min {:?} sent {} lost {} overflowed {}",
            path.mtu,
            path.rtt,
            path.min_rtt,
            path.sent_packets,
            path.lost_packets,
            caller.overflowed_packets()
        );
        caller.close("measured").await;
        Ok::<_, LinkError>(())
    });
    measured?;
    answering.join().expect("the answering thread does not panic")?;
    Ok(())
}

async fn measure(connection: &Connection, exchanges: &Exchanges) -> Result<(), LinkError> {
    let mut echo: Channel<PeerMessage> = connection.open().await?;
    for (name, bytes, rounds) in [("1 KB", 1 << 10, 200), ("1 MB", 1 << 20, 50)] {
        let payload = Bytes::from(vec![0; bytes]);
        let mut times = Vec::with_capacity(rounds);
        for round in 0..rounds {
            let part = Part::new(NodeId(0), round as u32);
            let frame = DataFrame::new(part, 0, bytes as u64 * 8, payload.clone());
            let begin = Instant::now();
            echo.sender.send_frame(frame, Causal::START).await?;
            echo.receiver.recv(|_| Some(bytes)).await?;
            times.push(begin.elapsed());
        }
        let first = times[0];
        times.sort();
        say!("{name} ping-pong: first {first:?}, p50 {:?}, least {:?}", times[rounds / 2], times[0]);
    }
    echo.sender.finish();

    let mut bulk: Channel<DealerMessage> = connection.open().await?;
    let bytes = Bytes::from(vec![0; KEY_BYTES]);
    let begin = Instant::now();
    for index in 0..KEYS {
        let key = KeyPart { part: Part::new(NodeId(1), index), tag: Tag([0; 16]), bytes: bytes.clone() };
        bulk.sender.send(&DealerMessage::Key(key)).await?;
    }
    bulk.sender.send(&DealerMessage::End { batch: BatchId([0; 16]) }).await?;
    bulk.receiver.recv(|_| None).await?;
    say!("bulk: {:.2} Gbit/s", gigabits(begin.elapsed()));

    let mut times = Gates::run(connection.open_session().await?, exchanges).await;
    times.sort();
    if let [least, ..] = times[..] {
        let (Exchanges { bits, tiles }, middle) = (exchanges, times[times.len() / 2]);
        say!("{tiles} tiles, exchanges of {bits:?} bits: p50 {middle:?}, least {least:?}");
    }
    Ok(())
}

/// One gate after another, each a node. A tile's message is sent when that before it was received, as in a run.
struct Gates {
    outbox: Outbox,
    payloads: Vec<Bytes>,
    state: Mutex<State>,
    /// Tiles that are done with the present gate.
    done: watch::Sender<u32>,
}

struct State {
    /// Messages of each tile, over all gates: sent and received.
    tiles: Vec<(usize, usize)>,
    /// As many as those are after the present gate.
    limit: usize,
}

impl Gates {
    /// Exchanges all tiles, as often as [`GATES`] says; each time's duration.
    async fn run(session: Session, exchanges: &Exchanges) -> Vec<Duration> {
        let Exchanges { bits, tiles } = exchanges;
        let payloads = bits.iter().map(|bits| Bytes::from(vec![0; bits * GATE_ELEMS / 8])).collect();
        let state = State { tiles: vec![(0, 0); *tiles as usize], limit: 0 };
        let (outbox, done) = Default::default();
        let gates = Arc::new(Self { outbox, payloads, state: Mutex::new(state), done });
        if bits.is_empty() {
            return Vec::new();
        }
        let mut times = Vec::new();
        let work = async {
            for _ in 0..GATES {
                let begin = Instant::now();
                gates.begin(bits.len());
                let waited = gates.done.subscribe().wait_for(|done| done == tiles).await.is_ok();
                assert!(waited, "the sender lives");
                times.push(begin.elapsed());
            }
            gates.outbox.when_sent({
                let outbox = gates.outbox.clone();
                move || outbox.close()
            });
        };
        tokio::join!(session.serve(&gates.outbox, &gates), work);
        times
    }

    fn begin(&self, steps: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.limit += steps;
        self.done.send_replace(0);
        for tile in 0..state.tiles.len() {
            self.advance(&mut state, tile);
        }
    }

    fn advance(&self, state: &mut State, tile: usize) {
        let limit = state.limit;
        let (sent, received) = &mut state.tiles[tile];
        if *sent < limit && *sent <= *received {
            let (gate, step) = (*sent / self.payloads.len(), *sent % self.payloads.len());
            let (part, payload) = (Part::new(NodeId(gate as u16), tile as u32), self.payloads[step].clone());
            *sent += 1;
            let frame = DataFrame::new(part, step as u8, 8 * payload.len() as u64, payload);
            self.outbox.send(PeerMessage::Frame(frame), Causal::START);
            self.advance(state, tile);
        } else if *sent == limit && *received >= limit {
            self.done.send_modify(|done| *done += 1);
        }
    }
}

impl Owner for Gates {
    fn expected(&self, head: &DataHead) -> Option<usize> {
        self.payloads.get(usize::from(head.step)).map(Bytes::len)
    }

    fn payload_memory(&self, _: &DataHead, _: usize) -> Option<Box<dyn PayloadMemory>> {
        None
    }

    fn sends(&self, _: &DataFrame) {}

    fn receives(&self, message: PeerMessage) {
        let PeerMessage::Frame(frame) = message else { panic!("frames alone are sent") };
        let tile = frame.part.tile as usize;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tiles[tile].1 += 1;
        // One that came before its gate began here waits for that.
        if state.tiles[tile].1 <= state.limit {
            self.advance(&mut state, tile);
        }
    }

    fn unreadable(&self, error: LinkError) {
        assert!(matches!(error, LinkError::Ended { .. } | LinkError::Closed { .. }), "{error}");
    }

    fn unwritable(&self, error: LinkError) {
        panic!("{error}");
    }
}

async fn answer(listener: &Endpoint, exchanges: &Exchanges) -> Result<(), LinkError> {
    let connection = listener.accept(&[Role::Party0]).await?;
    let mut echo: Channel<PeerMessage> = connection.accept().await?;
    while let Ok(PeerMessage::Frame(frame)) = echo.receiver.recv(|head| Some(head.bits as usize / 8)).await {
        echo.sender.send_frame(frame, Causal::START).await?;
    }
    let mut bulk: Channel<DealerMessage> = connection.accept().await?;
    while let DealerMessage::Key(_) = bulk.receiver.recv(|_| Some(KEY_BYTES)).await? {}
    bulk.sender.send(&DealerMessage::Stored { batch: BatchId([0; 16]) }).await?;
    if !exchanges.bits.is_empty() {
        Gates::run(connection.accept_session().await?, exchanges).await;
    }
    connection.closed().await;
    Ok(())
}

fn gigabits(elapsed: Duration) -> f64 {
    f64::from(KEYS) * KEY_BYTES as f64 * 8.0 / 1e9 / elapsed.as_secs_f64()
}
