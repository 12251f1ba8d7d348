//! A dealer and two parties over loopback: what they receive evaluates to the right outputs, and whatever goes wrong is
//! told to whom it concerns.

mod common;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{Broken, Container, World, chunk, gate, limits, next, receive, refusal};
use suf_control::v1;
use suf_cpu::CpuBackend;
use suf_dealer::Limits;
use suf_gate::{
    Backend, EvalJob, Gate, Input, KeyBytes, Party, Protocol, Seed,
    layout::{R_IN, R_OUT, chunk_elems},
    ring::WIRE,
};
use suf_wire::{BatchId, DealerMessage, Fault, PartyId, Role};

/// Two chunks, the second short, so that either party is once the seeded and once the explicit side.
const ELEMS: u64 = 70_000;

const BATCH: BatchId = BatchId([7; 16]);

/// Those of a party that was killed several times are taken for alive for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_party_with_too_many_connections_loses_its_oldest() {
    let world = World::start(limits());
    let mut callers = Vec::new();
    for _ in 0..5 {
        callers.push(world.call(Role::Party0).await.expect("admitted"));
    }
    let end = callers[0].connection.closed().await.to_string();
    assert!(end.contains("4 newer connections"), "{end}");
    assert!(callers[1..].iter().all(|caller| caller.connection.ended().is_none()));
    // The newest is served.
    let gate = Arc::new(gate(Protocol::Onehot));
    let asked_0 = callers[4].ask(PartyId::P0, BATCH, &gate, 9).await;
    let second = world.call(Role::Party1).await.expect("admitted");
    let asked_1 = second.ask(PartyId::P1, BATCH, &gate, 9).await;
    tokio::join!(
        receive(asked_0, PartyId::P0, BATCH, &gate, 9),
        receive(asked_1, PartyId::P1, BATCH, &gate, 9),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_evaluate_to_the_right_outputs() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    for (protocol, batch) in [(Protocol::Onehot, BATCH), (Protocol::SufLut, BatchId([8; 16]))] {
        let gate = Arc::new(gate(protocol));
        let asked_0 = first.ask(PartyId::P0, batch, &gate, ELEMS).await;
        let asked_1 = second.ask(PartyId::P1, batch, &gate, ELEMS).await;
        let (for_0, for_1) = tokio::join!(
            receive(asked_0, PartyId::P0, batch, &gate, ELEMS),
            receive(asked_1, PartyId::P1, batch, &gate, ELEMS),
        );
        let containers = [for_0, for_1];
        assert_ne!(containers[0].header.seed, containers[1].header.seed);
        for index in 0..2 {
            evaluate(&gate, batch, index, &containers);
        }
        let figures = world.newest().await;
        assert_eq!((figures.state(), figures.elements), (v1::BatchState::Stored, ELEMS));
        // Three messages' heads and the header's body beside the keys: see WIRE.md.
        let framing = (5 + 92) + 2 * (5 + 20) + (5 + 16);
        assert_eq!(figures.bytes_p0, gate.batch_key_bytes(Party::P0, ELEMS) + framing);
        assert_eq!(figures.bytes_p1, gate.batch_key_bytes(Party::P1, ELEMS) + framing);
        assert!(figures.key_ms > 0.0 && figures.deal_ms > 0.0 && figures.ship_ms > 0.0, "{figures:?}");
    }
    let totals = world.dealer.book().totals();
    assert_eq!((totals.batches_dealt, totals.elements_dealt, totals.active_batches), (2, 2 * ELEMS, 0));
}

/// Runs chunk `index` through both parties' keys and compares the outputs with the gate's own reference.
fn evaluate(gate: &Arc<Gate>, batch: BatchId, index: u32, containers: &[Container; 2]) {
    let backend = CpuBackend::new();
    let elems = chunk_elems(ELEMS, index);
    let jobs = [Party::P0, Party::P1].map(|party| EvalJob {
        gate: Arc::clone(gate),
        batch: batch.0,
        chunk: index,
        elems,
        party,
        seed: Seed::new(*containers[party.index()].header.seed.expose()),
    });
    let mask = |field| {
        let [a, b] = [0, 1].map(|party: usize| backend.wire_mask(&jobs[party], field).expect("a mask"));
        a.iter().zip(&b).map(|(a, b)| WIRE.add(*a, *b)).collect::<Vec<_>>()
    };
    let (r_in, r_out) = (mask(R_IN), mask(R_OUT));
    // From -4 to 4 at scale 12, within every gate's domain.
    let inputs: Vec<i64> = (0..elems as i64).map(|i| i % 32_768 - 16_384).collect();
    let encoded = inputs.iter().map(|x| WIRE.encode(*x));
    let mut evals = [Party::P0, Party::P1].map(|party| {
        let input = match (gate.takes_shares(), party) {
            (false, _) => Input::Wire(encoded.clone().zip(&r_in).map(|(x, r)| WIRE.add(x, *r)).collect()),
            (true, Party::P0) => Input::Shares(vec![12_345; elems]),
            (true, Party::P1) => Input::Shares(encoded.clone().map(|x| WIRE.sub(x, 12_345)).collect()),
        };
        let key = KeyBytes::new(containers[party.index()].chunks[index as usize].bytes.clone());
        let staged = backend.stage(&jobs[party.index()], key).expect("the key fits");
        staged.begin(input).expect("the input fits")
    });
    let mut last = [Bytes::new(), Bytes::new()];
    for step in 0..gate.exchanges().len() {
        last = [0, 1].map(|party| evals[party].step(step, &last[1 - party]).expect("a step"));
    }
    let y_hat = evals[0].finish(&last[1]).expect("an output");
    assert_eq!(y_hat, evals[1].finish(&last[0]).expect("an output"));
    for ((y_hat, r), x) in y_hat.iter().zip(&r_out).zip(inputs) {
        let y = WIRE.decode(WIRE.sub(*y_hat, *r));
        assert!(gate.reference(x).contains(&y), "{}: {y} for {x}", gate.protocol());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disagreement_is_refused_to_both_with_both_values() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    let gate = gate(Protocol::SufLut);
    let mut asked =
        [first.ask(PartyId::P0, BATCH, &gate, 1000).await, second.ask(PartyId::P1, BATCH, &gate, 1001).await];
    for channel in &mut asked {
        let (fault, reason) = refusal(channel).await;
        assert_eq!(fault, Fault::Peer);
        assert!(reason.contains("1000") && reason.contains("1001"), "{reason}");
    }
    let batch = world.newest().await;
    assert_eq!(batch.state(), v1::BatchState::Failed);
    assert!(batch.failure.expect("why").reason.contains("1001"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_the_other_partys_name_is_refused() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    let gate = gate(Protocol::SufLut);
    let (fault, reason) = refusal(&mut first.ask(PartyId::P1, BATCH, &gate, 9).await).await;
    assert_eq!(fault, Fault::Caller);
    assert!(reason.contains("party1") && reason.contains("party0"), "{reason}");

    // It has voided nothing: both can still ask.
    let asked_0 = first.ask(PartyId::P0, BATCH, &gate, 9).await;
    let asked_1 = second.ask(PartyId::P1, BATCH, &gate, 9).await;
    tokio::join!(
        receive(asked_0, PartyId::P0, BATCH, &gate, 9),
        receive(asked_1, PartyId::P1, BATCH, &gate, 9),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_parties_are_admitted() {
    let world = World::start(limits());
    for role in [Role::Operator, Role::Client, Role::Observer] {
        let error = world.call(role).await.err().expect("refused").to_string();
        assert!(error.contains(role.name()) && error.contains("party0 or party1"), "{error}");
    }
    // A dealer's certificate is for being called alone.
    let error = world.call(Role::Dealer).await.err().expect("refused").to_string();
    assert!(error.contains("client authentication"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_unreadable_gates_are_refused() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    let lut = gate(Protocol::SufLut);
    let (fault, reason) = refusal(&mut first.ask(PartyId::P0, BATCH, &lut, (1 << 20) + 1).await).await;
    assert_eq!(fault, Fault::Caller);
    assert!(reason.contains("1048577") && reason.contains("max_elems"), "{reason}");

    // Both requests for a batch are void when one of them is no request.
    let mut waiting = first.ask(PartyId::P0, BATCH, &lut, 9).await;
    world.one_waits().await;
    let mut channel = second.connection.open::<DealerMessage>().await.expect("a stream");
    let request = suf_wire::KeyRequest {
        batch: BATCH,
        digest: suf_wire::Digest([0; 32]),
        party: PartyId::P1,
        elems: 9,
        gate: b"no gate"[..].into(),
    };
    channel.sender.send(&DealerMessage::Request(request)).await.expect("sent");
    let (fault, reason) = refusal(&mut channel).await;
    assert_eq!(fault, Fault::Caller);
    assert!(reason.contains("party1"), "{reason}");
    let (fault, reason) = refusal(&mut waiting).await;
    assert_eq!(fault, Fault::Peer);
    assert!(reason.contains("party1"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_party_that_never_asks_is_named() {
    let world = World::start(Limits { wait_for_peer: Duration::from_millis(1), ..limits() });
    let [first, _second] = world.parties().await;
    let (fault, reason) = refusal(&mut first.ask(PartyId::P0, BATCH, &gate(Protocol::SufLut), 9).await).await;
    assert_eq!(fault, Fault::Peer);
    assert!(reason.starts_with("party1 did not ask for batch 0707"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_survivor_of_a_party_that_dies_is_told_and_the_next_batch_is_dealt() {
    let elems = 1 << 21;
    let world = World::start(Limits { max_elems: elems, ..limits() });
    let [first, second] = world.parties().await;
    // 170 MB for each party: more than one party's window and the dealer's memory can hold, so that the batch is under
    // way for as long as one of them does not read.
    let gate = gate(Protocol::Onehot);
    let mut asked_0 = first.ask(PartyId::P0, BATCH, &gate, elems).await;
    let mut asked_1 = second.ask(PartyId::P1, BATCH, &gate, elems).await;
    for channel in [&mut asked_0, &mut asked_1] {
        assert!(matches!(next(channel).await, DealerMessage::Header(_)));
    }
    chunk(&mut asked_1, PartyId::P1, &gate, (elems, 0)).await.expect("a chunk");
    second.die().await;
    let mut index = 0;
    let (fault, reason) = loop {
        match chunk(&mut asked_0, PartyId::P0, &gate, (elems, index)).await {
            Ok(_) => index += 1,
            Err(abort) => break abort,
        }
    };
    assert_eq!(fault, Fault::Peer);
    assert!(reason.starts_with("party1 is gone: party1 at 127.0.0.1"), "{reason}");
    let batch = world.newest().await;
    assert_eq!(
        (batch.state(), batch.failure.expect("why").fault()),
        (v1::BatchState::Failed, v1::Fault::Peer)
    );

    let (batch, second) = (BatchId([9; 16]), world.call(Role::Party1).await.expect("admitted"));
    let asked_0 = first.ask(PartyId::P0, batch, &gate, ELEMS).await;
    let asked_1 = second.ask(PartyId::P1, batch, &gate, ELEMS).await;
    tokio::join!(
        receive(asked_0, PartyId::P0, batch, &gate, ELEMS),
        receive(asked_1, PartyId::P1, batch, &gate, ELEMS),
    );
    assert_eq!(world.newest().await.state(), v1::BatchState::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_at_once_share_the_memory() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    let gate = gate(Protocol::SufLut);
    let one = |salt: u8| {
        let (first, second, gate) = (&first, &second, &gate);
        async move {
            let batch = BatchId([salt; 16]);
            let asked_1 = second.ask(PartyId::P1, batch, gate, ELEMS).await;
            let asked_0 = first.ask(PartyId::P0, batch, gate, ELEMS).await;
            tokio::join!(
                receive(asked_0, PartyId::P0, batch, gate, ELEMS),
                receive(asked_1, PartyId::P1, batch, gate, ELEMS),
            )
        }
    };
    // 24 MB for both parties' keys of a batch: eight do not fit at once.
    tokio::join!(one(1), one(2), one(3), one(4), one(5), one(6), one(7), one(8));
    assert_eq!(world.dealer.book().totals().elements_dealt, 8 * ELEMS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_fails_is_the_dealers_fault() {
    let world = World::with(limits(), Arc::new(Broken));
    let [first, second] = world.parties().await;
    let gate = gate(Protocol::SufLut);
    let mut asked =
        [first.ask(PartyId::P0, BATCH, &gate, 9).await, second.ask(PartyId::P1, BATCH, &gate, 9).await];
    for channel in &mut asked {
        assert!(matches!(next(channel).await, DealerMessage::Header(_)));
        let DealerMessage::Abort { fault, reason, .. } = next(channel).await else { panic!("an abort") };
        assert_eq!(fault, Fault::Dealer);
        assert!(reason.as_str().contains("it fell off the bus"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dealer_that_stops_tells_those_who_wait() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    let gate = gate(Protocol::Onehot);
    let mut waiting = first.ask(PartyId::P0, BATCH, &gate, 9).await;
    world.one_waits().await;
    let batch = BatchId([8; 16]);
    let mut asked_0 = first.ask(PartyId::P0, batch, &gate, 1 << 20).await;
    let mut asked_1 = second.ask(PartyId::P1, batch, &gate, 1 << 20).await;
    for channel in [&mut asked_0, &mut asked_1] {
        assert!(matches!(next(channel).await, DealerMessage::Header(_)));
    }
    let told = async {
        for (party, channel) in [(PartyId::P0, &mut asked_0), (PartyId::P1, &mut asked_1)] {
            let mut index = 0;
            let (fault, reason) = loop {
                match chunk(channel, party, &gate, (1 << 20, index)).await {
                    Ok(_) => index += 1,
                    Err(abort) => break abort,
                }
            };
            assert_eq!((fault, &reason[..21]), (Fault::Dealer, "the dealer shuts down"));
        }
        assert_eq!(refusal(&mut waiting).await.0, Fault::Dealer);
    };
    tokio::join!(world.dealer.stop(), told);
}
