//! Real daemons whose connections have several lanes: more chunks than lanes, frames that overtake each other, and the cost
//! measured over all of them.

use std::{fs, path::Path};

use serde_json::Value;
use suf_gate::{Protocol, catalog, gatefile::GateFile};
use suf_link::LinkProfile;
use suf_tests::{
    inputs, npy,
    processes::{CAPTURE, Hosts, check_from_outside, expect},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Lanes; and elements of a run: two lanes have two chunks, the last of which is short.
const LANES: usize = 3;
const ELEMS: usize = 4 * suf_gate::CHUNK_ELEMS + 1001;

#[test]
fn runs_over_several_lanes_are_right_and_cost_what_is_declared() {
    let (_, loopback) = LinkProfile::BUILT_IN[0];
    let profile = loopback.replace("lanes = 8", &format!("lanes = {LANES}"));
    assert_ne!(profile, loopback, "the profile has lanes");
    let mut hosts = Hosts::prepare(Path::new(PROGRAM)).logging(CAPTURE);
    let path = hosts.folder().join("lanes.toml");
    fs::write(&path, profile).expect("writable");
    let link = format!("link = \"{}\"", path.display());
    hosts.start_daemons(|name, config| match name {
        "dealer" => config.replace("link = \"loopback\"", &link),
        _ => format!("{link}\n{config}"),
    });
    let file = GateFile::builtin("gelu").expect("built in");
    for protocol in [Protocol::Onehot, Protocol::Sigma, Protocol::SufLut] {
        let gate = catalog::gate(&file, protocol, None).expect("in the file");
        let x = inputs::awkward(&gate, ELEMS, 1);
        npy::write_i64(&hosts.folder().join("x.npy"), &x);
        let output = hosts.eval(&["--protocol", protocol.name()], "x.npy").output().expect("it starts");
        expect(&output, 0, &[], protocol.name());
        let y = npy::read_i64(&hosts.folder().join("y.npy"));
        assert!(x.iter().zip(&y).all(|(x, y)| gate.reference(*x).contains(y)), "{protocol}");
        let figures = last_figures(&hosts);
        assert_eq!(figures["eval_rounds"], u32::from(gate.declared().rounds), "{protocol}");
        let bits = gate.batch_message_bits(ELEMS as u64);
        assert_eq!([&figures["bits_sent"], &figures["bits_received"]], [bits, bits], "{protocol}");
    }
    assert!(hosts.log("party0").contains(&format!("lanes={LANES}")), "{}", hosts.log("party0"));
    hosts.check_batches(3);
    check_from_outside(&[&hosts]);
}

fn last_figures(hosts: &Hosts) -> Value {
    let [party, url, ..] = hosts.as_client_of("party0");
    let output =
        hosts.suf(&["runs", "--limit", "1", "--json", &party, &url, "--identity", "pki/operator.pem"]);
    expect(&output, 0, &[], "listing runs");
    let mut runs: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    runs[0]["figures"].take()
}
