//! Two parties that ask a running dealer for a batch, check its chunks and throw them away: for measuring a dealer.
//!
//! `load PKI ADDRESS PROTOCOL GATE ELEMS [BATCHES]` asks for that many batches at once and prints the time and the rate.

use std::{env, error::Error, net::SocketAddr, path::Path, time::Instant};

use suf_gate::{Gate, Party, catalog, gatefile::GateFile, layout};
use suf_link::{Connection, Endpoint, Identity, LinkProfile};
use suf_wire::{BatchId, DealerMessage, Digest, KeyRequest, PartyId, Role};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [pki, address, protocol, name, elems, batches @ ..] = &arguments[..] else {
        return Err("usage: load PKI ADDRESS PROTOCOL GATE ELEMS [BATCHES]".into());
    };
    let (address, elems): (SocketAddr, u64) = (address.parse()?, elems.parse()?);
    let batches: u32 = batches.first().map_or(Ok(1), |batches| batches.parse())?;
    let gate = catalog::gate(&GateFile::builtin(name)?, protocol.parse()?, None)?;

    let (endpoint_0, first) = call(Path::new(pki), Role::Party0, address).await?;
    let (endpoint_1, second) = call(Path::new(pki), Role::Party1, address).await?;
    let begun = Instant::now();
    let mut fetches = tokio::task::JoinSet::new();
    for _ in 0..batches {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id)?;
        fetches.spawn(fetch(first.clone(), PartyId::P0, BatchId(id), gate.clone(), elems));
        fetches.spawn(fetch(second.clone(), PartyId::P1, BatchId(id), gate.clone(), elems));
    }
    let mut bytes = 0;
    while let Some(fetched) = fetches.join_next().await {
        bytes += fetched??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{bytes} bytes in {seconds:.3} s, {:.2} Gbit/s to both parties", bytes as f64 * 8e-9 / seconds);
    tokio::join!(endpoint_0.close("done"), endpoint_1.close("done"));
    Ok(())
}

async fn call(pki: &Path, role: Role, address: SocketAddr) -> Outcome<(Endpoint, Connection)> {
    let identity = Identity::load_from(pki, role.name())?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = Endpoint::bind(any, &identity, &LinkProfile::built_in("loopback")?, false)?;
    let connection = endpoint.connect(address, Role::Dealer.name(), Role::Dealer).await?;
    Ok((endpoint, connection))
}

/// Receives one party's side of a batch; the bytes of its keys.
async fn fetch(
    connection: Connection,
    party: PartyId,
    batch: BatchId,
    gate: Gate,
    elems: u64,
) -> Outcome<u64> {
    let (mut sender, mut receiver) = connection.open::<DealerMessage>().await?.split();
    let digest = Digest(*gate.digest());
    let request = KeyRequest { batch, digest, party, elems, gate: gate.encode().into() };
    sender.send(&DealerMessage::Request(request)).await?;
    let side = [Party::P0, Party::P1][party.index()];
    let due = |index| gate.key_shape().chunk_bytes(side.role(index), layout::chunk_elems(elems, index));
    let (mut next, mut bytes) = (0, 0);
    loop {
        match receiver.recv(|head| (head.index == next).then(|| due(next))).await? {
            DealerMessage::Header(_) => {}
            DealerMessage::Chunk(chunk) => {
                if !chunk.is_intact(batch, party) {
                    return Err(format!("the tag of chunk {next} does not fit").into());
                }
                bytes += chunk.bytes.len() as u64;
                next += 1;
            }
            DealerMessage::End { .. } => break,
            other => return Err(format!("{other:?}").into()),
        }
    }
    sender.send(&DealerMessage::Stored { batch }).await?;
    sender.finish();
    sender.flushed().await;
    Ok(bytes)
}
