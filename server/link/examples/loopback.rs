//! Loopback figures of a link between two threads, and those of their lanes: bulk in Gbit/s, and round trips of 1 KB and 1 MB. Arguments: a profile's name or file (default `loopback`), `shaped` to emulate it, and the bits per element
//! of a gate's exchanges: then six chunks (`x2`: two) of 65536 elements are also exchanged as the gate would, with nothing
//! computed.
//!
//! `cargo run --release -p suf-link --example loopback -- wan shaped 19 2 48`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use suf_link::{Channel, Connection, Endpoint, Identity, LinkError, LinkProfile, Pki};
use suf_wire::{BatchId, Causal, DataFrame, DealerMessage, KeyChunk, PeerMessage, Role, Tag};

/// One key chunk of a middling gate: 65536 elements of 64 bytes.
const CHUNK_BYTES: usize = 4 << 20;
const CHUNKS: u32 = 128;
/// A chunk.
const GATE_ELEMS: usize = 65_536;
const GATES: usize = 101;

/// What a gate exchanges.
#[derive(Clone)]
struct Exchanges {
    /// Of an element, in each exchange.
    bits: Vec<usize>,
    chunks: u32,
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
    let chunks = rest.next_if(|word| word.starts_with('x')).map_or(Ok(6), |word| word[1..].parse())?;
    let exchanges = rest.map(|bits| bits.parse()).collect::<Result<Vec<usize>, _>>()?;
    let exchanges = Exchanges { bits: exchanges, chunks };

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
        println!(
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
            let frame = DataFrame::new(0, round as u32, bytes as u64 * 8, payload.clone());
            let begin = Instant::now();
            echo.sender.send_frame(frame, Causal::START).await?;
            echo.receiver.recv(|_| Some(bytes)).await?;
            times.push(begin.elapsed());
        }
        let first = times[0];
        times.sort();
        println!("{name} ping-pong: first {first:?}, p50 {:?}, least {:?}", times[rounds / 2], times[0]);
    }
    echo.sender.finish();

    let mut bulk: Channel<DealerMessage> = connection.open().await?;
    let bytes = Bytes::from(vec![0; CHUNK_BYTES]);
    let begin = Instant::now();
    for index in 0..CHUNKS {
        let chunk = KeyChunk { index, tag: Tag([0; 16]), bytes: bytes.clone() };
        bulk.sender.send(&DealerMessage::Chunk(chunk)).await?;
    }
    bulk.sender.send(&DealerMessage::End { batch: BatchId([0; 16]) }).await?;
    bulk.receiver.recv(|_| None).await?;
    println!("bulk: {:.2} Gbit/s", gigabits(begin.elapsed()));

    let mut times = gates(connection, connection.open_each().await?, exchanges).await?;
    times.sort();
    println!(
        "{} chunks, exchanges of {:?} bits: p50 {:?}, least {:?}",
        exchanges.chunks,
        exchanges.bits,
        times[GATES / 2],
        times[0]
    );
    Ok(())
}

/// Exchanges all chunks, each over its lane, as often as [`GATES`] says; each time's duration.
async fn gates(
    connection: &Connection,
    channels: Vec<Channel<PeerMessage>>,
    exchanges: &Exchanges,
) -> Result<Vec<Duration>, LinkError> {
    let mut times = Vec::with_capacity(GATES);
    let lanes = channels.len();
    let mut channels: Vec<_> = channels.into_iter().map(Some).collect();
    for _ in 0..GATES {
        let begin = Instant::now();
        let mut at_work = Vec::with_capacity(lanes);
        for (lane, (channel, thread)) in channels.iter_mut().zip(connection.threads()).enumerate() {
            let mut channel = channel.take().expect("it came back");
            let (thread, Exchanges { bits, chunks }) = (thread.clone(), exchanges.clone());
            at_work.push(thread.clone().spawn(async move {
                for (step, bits) in (0..).zip(bits) {
                    let bytes = bits * GATE_ELEMS / 8;
                    let payload = Bytes::from(vec![0; bytes]);
                    for chunk in (lane as u32..chunks).step_by(lanes) {
                        let frame = DataFrame::new(step, chunk, 8 * bytes as u64, payload.clone());
                        thread.stay_awake();
                        channel.sender.send_frame(frame, Causal::START).await?;
                    }
                    for _ in (lane as u32..chunks).step_by(lanes) {
                        channel.receiver.recv(|_| Some(bytes)).await?;
                        thread.stay_awake();
                    }
                }
                Ok::<_, LinkError>(channel)
            }));
        }
        for (channel, work) in channels.iter_mut().zip(at_work) {
            *channel = Some(work.await.expect("no task panics")?);
        }
        times.push(begin.elapsed());
    }
    // Whoever is done first leaves when the other has everything.
    for channel in channels.iter_mut().flatten() {
        channel.sender.finish();
        channel.sender.flushed().await;
    }
    Ok(times)
}

async fn answer(listener: &Endpoint, exchanges: &Exchanges) -> Result<(), LinkError> {
    let connection = listener.accept(&[Role::Party0]).await?;
    let mut echo: Channel<PeerMessage> = connection.accept().await?;
    while let Ok(PeerMessage::Frame(frame)) = echo.receiver.recv(|head| Some(head.bits as usize / 8)).await {
        echo.sender.send_frame(frame, Causal::START).await?;
    }
    let mut bulk: Channel<DealerMessage> = connection.accept().await?;
    while let DealerMessage::Chunk(_) = bulk.receiver.recv(|_| Some(CHUNK_BYTES)).await? {}
    bulk.sender.send(&DealerMessage::Stored { batch: BatchId([0; 16]) }).await?;
    gates(&connection, connection.accept_each().await?, exchanges).await?;
    connection.closed().await;
    Ok(())
}

fn gigabits(elapsed: Duration) -> f64 {
    f64::from(CHUNKS) * CHUNK_BYTES as f64 * 8.0 / 1e9 / elapsed.as_secs_f64()
}
