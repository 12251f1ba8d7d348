//! Real daemons whose connections have several lanes: more tiles than lanes, frames that overtake each other, and the cost
//! measured over all of them.

use std::{cell::OnceCell, path::Path, time::Duration};

use serde_json::Value;
use suf_gate::{Protocol, catalog, gatefile::GateFile};
use suf_tests::{
    inputs, npy,
    processes::{CAPTURE, Hosts, check_from_outside, expect, loopback_with_lanes},
    relay::{Relay, Slow},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Lanes; and elements of a run: two lanes have two tiles, the last of which is short.
const LANES: usize = 3;
const ELEMS: usize = 4 * suf_gate::TILE_ELEMS + 1001;

/// How often a party is asked whether it knows a run that the other was just told to start: its first lane takes 120 ms.
const POLLS: usize = 1000;

#[test]
fn runs_over_several_lanes_are_right_and_cost_what_is_declared() {
    let hosts = start(|config| config);
    let file = GateFile::builtin("gelu").expect("built in");
    for protocol in [Protocol::Onehot, Protocol::Sigma, Protocol::SufLut] {
        let gate = catalog::gate(&file, protocol, None).expect("in the file");
        let x = inputs::awkward(&gate, ELEMS, 1);
        npy::write_i64(&hosts.folder().join("x.npy"), &x);
        let output = hosts.eval(&["--protocol", protocol.name()], "x.npy").output().expect("it starts");
        expect(&output, 0, &[], protocol.name());
        let y = npy::read_i64(&hosts.folder().join("y.npy"));
        assert!(x.iter().zip(&y).all(|(x, y)| gate.reference(*x).contains(y)), "{protocol}");
        let figures = hosts.last_figures("party0");
        assert_eq!(figures["eval_rounds"], u32::from(gate.declared().rounds), "{protocol}");
        let bits = gate.batch_message_bits(ELEMS as u64);
        assert_eq!([&figures["bits_sent"], &figures["bits_received"]], [bits, bits], "{protocol}");
    }
    has_lanes(&hosts);
    hosts.check_batches(3);
    check_from_outside(&[&hosts]);
}

/// What a party says last comes over the first lane: that others end before it is heard costs nothing, and hides nothing.
#[test]
fn the_first_lane_may_be_the_slowest() {
    let relay = OnceCell::new();
    // Its first lane is called last.
    let slow = Slow { caller: LANES - 1, takes: Duration::from_millis(40) };
    let hosts = start(|config| Relay::between(&relay, |party0| Relay::slow(party0, slow), config));
    npy::write_i64(&hosts.folder().join("x.npy"), &[1, 2, 3]);
    for _ in 0..3 {
        expect(&hosts.onehot("x.npy"), 0, &[], "with a slow first lane");
    }
    has_lanes(&hosts);
    let gate = ["run", "--protocol", "onehot", "--gate", "gelu", "--elements", "3", "--json"];
    let started = hosts.command(&gate).args(hosts.as_client()).output().expect("suf starts");
    expect(&started, 0, &[], "starting a run");
    let started: Value = serde_json::from_slice(&started.stdout).expect("JSON");
    let run = started["run_id"].as_str().expect("an id");
    let suf = |command: &[&str], party: &str| {
        hosts.command(command).args(hosts.as_client_of(party)).output().expect("suf starts")
    };
    let agreed = |_| {
        let runs = suf(&["runs", "--json"], "party1");
        let runs: Value = serde_json::from_slice(&runs.stdout).expect("JSON");
        assert_eq!(runs[0]["run_id"], run);
        runs[0]["state"] == "ready-for-input"
    };
    assert!((0..POLLS).any(agreed), "party 1 has not agreed on the run");
    expect(&suf(&["cancel", run], "party0"), 0, &[], "cancelling it at party 0");
    expect(
        &suf(&["watch", run], "party1"),
        1,
        &["it was cancelled over the control API"],
        "what party 1 heard",
    );
}

/// Daemons whose connections have [`LANES`] lanes, with their configurations changed by `change`.
fn start(change: impl Fn(String) -> String) -> Hosts {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM)).logging(CAPTURE);
    let link = loopback_with_lanes(hosts.folder(), LANES);
    hosts.start_daemons(|name, config| {
        let config = match name {
            "dealer" => config.replace("link = \"loopback\"", &link),
            _ => format!("{link}\n{config}"),
        };
        change(config)
    });
    hosts
}

fn has_lanes(hosts: &Hosts) {
    assert!(hosts.log("party0").contains(&format!("lanes={LANES}")), "{}", hosts.log("party0"));
}
