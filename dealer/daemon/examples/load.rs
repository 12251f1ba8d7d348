//! Two parties that ask a running dealer for a batch, check its keys and throw them away: for measuring a dealer.
//!
//! `load PKI ADDRESS PROTOCOL GATE ELEMS [BATCHES]` asks for that many batches at once and prints the time and the rate.

#[macro_use]
#[path = "../../../kernels/gate/examples/output/mod.rs"]
mod output;

use std::{env, error::Error, net::SocketAddr, path::Path, sync::Arc, time::Instant};

use suf_gate::{Program, catalog, gatefile::GateFile};
use suf_link::{Connection, Endpoint, Identity, LinkProfile};
use suf_wire::{BatchId, DealerMessage, Digest, KeyRequest, Party, Role};

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
    let program = Arc::new(Program::of_gate(Arc::new(gate), elems)?);

    let (endpoint_0, first) = call(Path::new(pki), Role::Party0, address).await?;
    let (endpoint_1, second) = call(Path::new(pki), Role::Party1, address).await?;
    let begun = Instant::now();
    let mut fetches = tokio::task::JoinSet::new();
    for _ in 0..batches {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id)?;
        fetches.spawn(fetch(first.clone(), Party::P0, BatchId(id), Arc::clone(&program)));
        fetches.spawn(fetch(second.clone(), Party::P1, BatchId(id), Arc::clone(&program)));
    }
    let mut bytes = 0;
    while let Some(fetched) = fetches.join_next().await {
        bytes += fetched??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    say!("{bytes} bytes in {seconds:.3} s, {:.2} Gbit/s to both parties", bytes as f64 * 8e-9 / seconds);
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
async fn fetch(connection: Connection, party: Party, batch: BatchId, program: Arc<Program>) -> Outcome<u64> {
    let (mut sender, mut receiver) = connection.open::<DealerMessage>().await?.split();
    let (digest, encoded) = (Digest(*program.digest()), program.encoded().to_vec().into());
    sender
        .send(&DealerMessage::Request(KeyRequest {
            batch,
            digest,
            party,
            load_batch: None,
            program: encoded,
        }))
        .await?;
    let (mut due, mut bytes) = (program.keyed_parts().peekable(), 0);
    loop {
        let next = due.peek().copied();
        let expected = |part| (Some(part) == next).then(|| program.key_bytes_of(party, part));
        match receiver.recv(|head| expected(head.part)).await? {
            DealerMessage::Header(_) => {}
            DealerMessage::Key(key) => {
                if !key.is_intact(batch, party) {
                    return Err(format!("the tag of {} does not fit", key.part).into());
                }
                bytes += key.bytes.len() as u64;
                due.next();
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
