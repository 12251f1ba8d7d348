//! Questions about costs, with real daemons: whatever number is asked about, and however many ask at once. And the gates that
//! daemons admit.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use suf_cli::client::connect;
use suf_control::{client, v1};
use suf_gate::{Gate, Party, Protocol, TILE_ELEMS, catalog, gatefile::GateFile, limits::MAX_ELEMS};
use suf_link::Identity;
use suf_tests::{
    npy,
    processes::{Hosts, expect},
};
use suf_wire::Role;
use tokio::{runtime::Runtime, task::JoinSet};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Around every limit of the daemon and of its integers, and the one that took the longest.
const SIZES: [u64; 8] =
    [0, MAX_ELEMS, MAX_ELEMS + 1, 1 << 32, (1 << 48) - (1 << 16), 1 << 48, (1 << 63) + 1, u64::MAX];

/// How long an answer may take, and of how many the quickest is looked at: other programs may have the processors.
const ANSWER: Duration = Duration::from_millis(50);
const TRIES: usize = 5;

/// Questions at once of one observer, over so many connections: each connection has 64 calls open at most.
const FLOOD: usize = 1000;
const CONNECTIONS: usize = 16;

/// How long another's question may take meanwhile, in the median of so many.
const MEANWHILE: Duration = Duration::from_millis(200);
const QUESTIONS: usize = 21;

/// How long the daemon may take to end.
const END: Duration = Duration::from_secs(5);

/// Elements of the run that is under way.
const ELEMS: usize = 8 * TILE_ELEMS;

fn gelu() -> Gate {
    let file = GateFile::builtin("gelu").expect("built in");
    catalog::gate(&file, Protocol::Onehot, None).expect("in the file")
}

fn request(elements: u64) -> v1::DescribeRequest {
    let gate = v1::Gate { description: gelu().encode().into(), ..v1::Gate::default() };
    v1::DescribeRequest { gate: Some(gate), elements, ..v1::DescribeRequest::default() }
}

fn identity(hosts: &Hosts, name: &str) -> Identity {
    Identity::load_from(&hosts.folder().join("pki"), name).expect("made by `suf pki init`")
}

#[test]
fn questions_about_any_number_of_elements_are_answered_at_once() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let [_, url, ..] = hosts.as_client_of("party0");
    let observer = identity(&hosts, "observer");
    Runtime::new().expect("a runtime").block_on(async {
        let mut party = client::party(connect(&url, &observer, Role::Party0).await.expect("it is there"));
        let gate = gelu();
        for elements in SIZES {
            let mut quickest = Duration::MAX;
            for _ in 0..TRIES {
                let begun = Instant::now();
                let reply = party.describe(request(elements)).await.expect("an answer").into_inner();
                quickest = quickest.min(begun.elapsed());
                assert_eq!(reply.gate_digest[..], gate.digest()[..]);
                let costs = [reply.key_bytes_p0, reply.key_bytes_p1, reply.declared_bits];
                if elements == MAX_ELEMS {
                    let key_bytes = |party| gate.batch_key_bytes(party, elements);
                    let bits = gate.batch_message_bits(elements);
                    assert_eq!(costs, [key_bytes(Party::P0), key_bytes(Party::P1), bits]);
                    assert!(reply.accepted && reply.reason.is_empty(), "{reply:?}");
                } else {
                    assert_eq!(costs, [0; 3], "{elements} elements");
                    let why = if elements == 0 { "the tensor is empty" } else { "takes at most 100000000" };
                    assert!(!reply.accepted && reply.reason.contains(why), "{reply:?}");
                }
            }
            assert!(quickest < ANSWER, "{elements} elements: {quickest:?}");
        }
    });
}

#[test]
fn a_flood_of_questions_holds_up_neither_a_run_nor_others_nor_the_end() {
    let mut hosts = Hosts::start(Path::new(PROGRAM));
    let x: Vec<i64> = (0..ELEMS as i64).map(|i| i % 30_000 - 15_000).collect();
    npy::write_i64(&hosts.folder().join("x.npy"), &x);
    let [_, url, ..] = hosts.as_client_of("party0");
    let (observer, operator) = (identity(&hosts, "observer"), identity(&hosts, "operator"));
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut askers = Vec::new();
        for _ in 0..CONNECTIONS {
            let channel = connect(&url, &observer, Role::Party0).await.expect("it is there");
            askers.push(client::party(channel));
        }
        let flood = |questions: &mut JoinSet<bool>| {
            for i in 0..FLOOD {
                let mut asker = askers[i % CONNECTIONS].clone();
                let request = request(SIZES[i % SIZES.len()]);
                questions.spawn(async move { asker.describe(request).await.is_ok() });
            }
        };
        let mut operator = client::party(connect(&url, &operator, Role::Party0).await.expect("it is there"));

        let mut eval = hosts.eval(&["--protocol", "sigma"], "x.npy");
        eval.stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = eval.spawn().expect("suf starts");
        let mut questions = JoinSet::new();
        flood(&mut questions);
        let mut took = Vec::new();
        for _ in 0..QUESTIONS {
            let begun = Instant::now();
            operator.info(v1::InfoRequest {}).await.expect("an answer");
            took.push(begun.elapsed());
        }
        took.sort_unstable();
        let median = took[QUESTIONS / 2];
        assert!(median < MEANWHILE, "{took:?}");
        assert!(questions.join_all().await.into_iter().all(|answered| answered), "questions without answer");
        let run = tokio::task::block_in_place(|| run.wait_with_output()).expect("it was started");
        expect(&run, 0, &[], "a run during the flood");

        let mut questions = JoinSet::new();
        flood(&mut questions);
        // One answer says that the flood has reached the daemon.
        questions.join_next().await;
        let begun = Instant::now();
        let code = tokio::task::block_in_place(|| hosts.terminate("party0"));
        let took = begun.elapsed();
        assert_eq!(code, Some(0), "{}", hosts.log("party0"));
        assert!(took < END, "it took {took:?} to end");
        questions.join_all().await;
    });
}

#[test]
fn a_gate_that_is_not_listed_is_refused_by_name() {
    let named = suf_wire::Digest(*gelu().digest()).to_string();
    let hosts = Hosts::start_with(Path::new(PROGRAM), |name, config| match name {
        "dealer" => format!("gates = [\"gelu\"]\n{config}"),
        "party1" => format!("gates = [\"silu\", \"{named}\"]\n{config}"),
        _ => config,
    });
    npy::write_i64(&hosts.folder().join("x.npy"), &[1, 2, 3]);
    let eval = |gate: &str, protocol: &str| {
        let mut eval = hosts.command(&["eval", "--inputs", "x.npy", "--outputs", "y.npy", "--gate", gate]);
        eval.args(["--protocol", protocol]).args(hosts.as_client()).output().expect("suf starts")
    };
    expect(&eval("gelu", "onehot"), 0, &[], "listed by all");
    let key = "`gates` in its configuration does not list it";
    let digest = |name: &str, protocol| {
        let file = GateFile::builtin(name).expect("built in");
        let gate = catalog::gate(&file, protocol, None).expect("in the file");
        suf_wire::Digest(*gate.digest()).to_string()
    };
    let other = digest("gelu", Protocol::Dpf);
    let words = ["party1 does not take part in gate", &other, key];
    expect(&eval("gelu", "dpf"), 1, &words, "not listed by a party");
    let other = digest("silu", Protocol::Onehot);
    let words = ["this dealer makes no keys for gate", &other, key];
    expect(&eval("silu", "onehot"), 1, &words, "not listed by the dealer");
}
