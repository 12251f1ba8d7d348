//! A dealer and two parties over loopback: what they receive evaluates to the right outputs, and whatever goes wrong is
//! told to whom it concerns.

mod common;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{Broken, Container, World, abort, key, limits, next, program, receive, refusal};
use suf_control::v1;
use suf_cpu::CpuBackend;
use suf_dealer::Limits;
use suf_gate::{Backend, HostValue, KeyBytes, Program, Protocol, Seed, TwoParties, ring::WIRE};
use suf_wire::{BatchId, DealerMessage, Digest, Fault, NodeId, Part, Party, Role};

/// Two tiles, the second short, so that either party is once the seeded and once the explicit side.
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
    let program = program(Protocol::Onehot, 9);
    let asked_0 = callers[4].ask(Party::P0, BATCH, &program).await;
    let second = world.call(Role::Party1).await.expect("admitted");
    let asked_1 = second.ask(Party::P1, BATCH, &program).await;
    tokio::join!(receive(asked_0, Party::P0, BATCH, &program), receive(asked_1, Party::P1, BATCH, &program),);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_evaluate_to_the_right_outputs() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    for (protocol, batch) in [(Protocol::Onehot, BATCH), (Protocol::SufLut, BatchId([8; 16]))] {
        let program = program(protocol, ELEMS);
        let asked_0 = first.ask(Party::P0, batch, &program).await;
        let asked_1 = second.ask(Party::P1, batch, &program).await;
        let (for_0, for_1) = tokio::join!(
            receive(asked_0, Party::P0, batch, &program),
            receive(asked_1, Party::P1, batch, &program),
        );
        let containers = [for_0, for_1];
        assert_ne!(containers[0].header.seed, containers[1].header.seed);
        evaluate(&program, batch, &containers);
        let figures = world.newest().await;
        assert_eq!((figures.state(), figures.elements), (v1::BatchState::Stored, ELEMS));
        let gate = program.only_gate().expect("of one gate");
        assert_eq!(
            (&figures.gate_digest[..], &figures.program_digest[..]),
            (&gate.digest()[..], &program.digest()[..])
        );
        // Three messages' heads and the header's body beside the keys: see WIRE.md.
        let framing = (5 + 84) + 2 * (5 + 22) + (5 + 16);
        assert_eq!(figures.bytes_p0, program.key_bytes(Party::P0) + framing);
        assert_eq!(figures.bytes_p1, program.key_bytes(Party::P1) + framing);
        assert!(figures.key_ms > 0.0 && figures.deal_ms > 0.0 && figures.ship_ms > 0.0, "{figures:?}");
    }
    let totals = world.dealer.records().totals();
    assert_eq!((totals.batches_dealt, totals.elements_dealt, totals.active_batches), (2, 2 * ELEMS, 0));
}

/// Runs both parties' keys and compares the outputs with the gate's own reference.
fn evaluate(program: &Arc<Program>, batch: BatchId, containers: &[Container; 2]) {
    let backend: &dyn Backend = &CpuBackend::new();
    let seed = |party: usize| Seed::new(*containers[party].header.seed.expose());
    // The dealer's own seed is not the parties' to know.
    let parties = TwoParties::new(Arc::clone(program), batch.0, [seed(0), seed(1), Seed::new([0; 32])]);
    let gate = program.only_gate().expect("of one gate");
    for tile in 0..2 {
        let elems = program.elems(Part::new(NodeId(1), tile));
        // From -4 to 4 at scale 12, within every gate's domain.
        let inputs: Vec<i64> = (0..elems as i64).map(|i| i % 32_768 - 16_384).collect();
        let rest = inputs.iter().map(|x| WIRE.sub(WIRE.encode(*x), 12_345)).collect();
        let mut made: [Vec<u64>; 2] = [vec![12_345; elems], rest];
        for node in 0..3 {
            let part = Part::new(NodeId(node), tile);
            let keys = [0, 1].map(|party: usize| {
                let key = containers[party].keys.iter().find(|key| key.part == part);
                KeyBytes::new(key.map_or_else(Bytes::new, |key| key.bytes.clone()))
            });
            let taken = made.map(|words| vec![HostValue::shared(words)]);
            let mut run = parties.begin([backend; 2], part, keys, taken).expect("the key fits");
            for _ in 0..program.node(part.node).exchanges() {
                run.exchange().expect("an exchange");
            }
            made = run.finish().expect("a value");
        }
        for ((mine, theirs), x) in made[0].iter().zip(&made[1]).zip(inputs) {
            let y = gate.output(*mine, *theirs);
            assert!(gate.reference(x).contains(&y), "{}: {y} for {x}", gate.protocol());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disagreement_is_refused_to_both_with_both_values() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    let programs = [1000, 1001].map(|elems| program(Protocol::SufLut, elems));
    let digests = programs.each_ref().map(|program| Digest(*program.digest()).to_string());
    let mut asked =
        [first.ask(Party::P0, BATCH, &programs[0]).await, second.ask(Party::P1, BATCH, &programs[1]).await];
    for channel in &mut asked {
        let (fault, reason) = refusal(channel).await;
        assert_eq!(fault, Fault::Peer);
        assert!(digests.iter().all(|digest| reason.contains(digest)), "{reason}");
    }
    let batch = world.newest().await;
    assert_eq!(batch.state(), v1::BatchState::Failed);
    assert!(batch.failure.expect("why").reason.contains(&digests[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_the_other_partys_name_is_refused() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    let program = program(Protocol::SufLut, 9);
    let (fault, reason) = refusal(&mut first.ask(Party::P1, BATCH, &program).await).await;
    assert_eq!(fault, Fault::Caller);
    assert!(reason.contains("party1") && reason.contains("party0"), "{reason}");

    // It has voided nothing: both can still ask.
    let asked_0 = first.ask(Party::P0, BATCH, &program).await;
    let asked_1 = second.ask(Party::P1, BATCH, &program).await;
    tokio::join!(receive(asked_0, Party::P0, BATCH, &program), receive(asked_1, Party::P1, BATCH, &program),);
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
async fn limits_and_unreadable_programs_are_refused() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    let large = program(Protocol::SufLut, (1 << 20) + 1);
    let (fault, reason) = refusal(&mut first.ask(Party::P0, BATCH, &large).await).await;
    assert_eq!(fault, Fault::Caller);
    assert!(reason.contains("1048577") && reason.contains("max_elems"), "{reason}");

    // Both requests for a batch are void when one of them is no request.
    let mut waiting = first.ask(Party::P0, BATCH, &program(Protocol::SufLut, 9)).await;
    world.one_waits().await;
    let mut channel = second.connection.open::<DealerMessage>().await.expect("a stream");
    let request = suf_wire::KeyRequest {
        batch: BATCH,
        digest: Digest([0; 32]),
        party: Party::P1,
        load_batch: None,
        program: b"no program"[..].into(),
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
    let (fault, reason) =
        refusal(&mut first.ask(Party::P0, BATCH, &program(Protocol::SufLut, 9)).await).await;
    assert_eq!(fault, Fault::Peer);
    assert!(reason.starts_with("party1 did not ask for batch 0707"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_survivor_of_a_party_that_dies_is_told_and_the_next_batch_is_dealt() {
    let elems = 1 << 21;
    let world = World::start(Limits { max_elems: elems, ..limits() });
    let [first, second] = world.parties().await;
    // 170 MB for each party, more than one party's window and the dealer's memory can hold. So the batch is under way
    // for as long as one of them does not read.
    let large = program(Protocol::Onehot, elems);
    let mut asked_0 = first.ask(Party::P0, BATCH, &large).await;
    let mut asked_1 = second.ask(Party::P1, BATCH, &large).await;
    for channel in [&mut asked_0, &mut asked_1] {
        assert!(matches!(next(channel).await, DealerMessage::Header(_)));
    }
    key(&mut asked_1, Party::P1, &large, Part::new(NodeId(1), 0)).await.expect("a key");
    second.die().await;
    let (fault, reason) = abort(&mut asked_0, Party::P0, &large, large.keyed_parts()).await;
    assert_eq!(fault, Fault::Peer);
    assert!(reason.starts_with("party1 is gone: party1 at 127.0.0.1"), "{reason}");
    let batch = world.newest().await;
    assert_eq!(
        (batch.state(), batch.failure.expect("why").fault()),
        (v1::BatchState::Failed, v1::Fault::Peer)
    );

    let (batch, second) = (BatchId([9; 16]), world.call(Role::Party1).await.expect("admitted"));
    let small = program(Protocol::Onehot, ELEMS);
    let asked_0 = first.ask(Party::P0, batch, &small).await;
    let asked_1 = second.ask(Party::P1, batch, &small).await;
    tokio::join!(receive(asked_0, Party::P0, batch, &small), receive(asked_1, Party::P1, batch, &small),);
    assert_eq!(world.newest().await.state(), v1::BatchState::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_do_not_fit_into_the_memory_at_once_are_all_dealt() {
    let world = World::start(limits());
    let [first, second] = world.parties().await;
    let program = program(Protocol::SufLut, ELEMS);
    let one = |salt: u8| {
        let (first, second, program) = (&first, &second, &program);
        async move {
            let batch = BatchId([salt; 16]);
            let asked_1 = second.ask(Party::P1, batch, program).await;
            let asked_0 = first.ask(Party::P0, batch, program).await;
            tokio::join!(
                receive(asked_0, Party::P0, batch, program),
                receive(asked_1, Party::P1, batch, program),
            )
        }
    };
    // 24 MB for both parties' keys of a batch: eight do not fit at once.
    tokio::join!(one(1), one(2), one(3), one(4), one(5), one(6), one(7), one(8));
    assert_eq!(world.dealer.records().totals().elements_dealt, 8 * ELEMS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_fails_is_the_dealers_fault() {
    let world = World::with(limits(), Arc::new(Broken));
    let [first, second] = world.parties().await;
    let program = program(Protocol::SufLut, 9);
    let mut asked =
        [first.ask(Party::P0, BATCH, &program).await, second.ask(Party::P1, BATCH, &program).await];
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
    let large = program(Protocol::Onehot, 1 << 20);
    let mut waiting = first.ask(Party::P0, BATCH, &program(Protocol::Onehot, 9)).await;
    world.one_waits().await;
    let batch = BatchId([8; 16]);
    let mut asked_0 = first.ask(Party::P0, batch, &large).await;
    let mut asked_1 = second.ask(Party::P1, batch, &large).await;
    for channel in [&mut asked_0, &mut asked_1] {
        assert!(matches!(next(channel).await, DealerMessage::Header(_)));
    }
    let told = async {
        for (party, channel) in [(Party::P0, &mut asked_0), (Party::P1, &mut asked_1)] {
            let (fault, reason) = abort(channel, party, &large, large.keyed_parts()).await;
            assert_eq!((fault, &reason[..21]), (Fault::Dealer, "the dealer shuts down"));
        }
        assert_eq!(refusal(&mut waiting).await.0, Fault::Dealer);
    };
    tokio::join!(world.dealer.stop(), told);
}
