//! Real daemons of which some compute on a GPU and others on their processors: all protocols, over several lanes. Where there is
//! no GPU, the host plays one.

#[path = "../../kernels/cuda/tests/host/mod.rs"]
mod host;

use std::path::Path;

use host::HostGpu;
use suf_gate::{Protocol, catalog, gatefile::GateFile};
use suf_process::BackendChoice;
use suf_skip::{Need, skip};
use suf_tests::{
    inputs, npy,
    processes::{Hosts, NAMES, expect, loopback_with_lanes},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Where the dealer, party 0 and party 1 compute.
const PLACES: [[&str; 3]; 3] = [["cuda", "cuda", "cuda"], ["cpu", "cuda", "cpu"], ["cuda", "cpu", "cuda"]];

/// Few: an exchange is made on its lane's thread, and an emulated GPU takes seconds for a tile of `suf`. Meanwhile the
/// lane is silent.
const ELEMS: usize = 1001;

#[test]
fn gpus_and_processors_evaluate_together() {
    let played = match BackendChoice::Cuda.backend(0) {
        Ok(_) => None,
        Err(none) => match HostGpu::build() {
            Ok(host) => Some(host),
            Err(why) => {
                return skip(Need::Cxx, format!("no GPU evaluated: {none}; none was emulated: {why}"));
            }
        },
    };
    for places in PLACES {
        evaluate(&start(places, played.as_ref()), places);
    }
}

fn start(places: [&str; 3], played: Option<&HostGpu>) -> Hosts {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    let link = loopback_with_lanes(hosts.folder(), 2);
    for (variable, value) in played.map(HostGpu::variables).into_iter().flatten() {
        NAMES.iter().for_each(|name| hosts.set_env(name, variable, value.clone().into()));
    }
    hosts.start_daemons(|name, config| {
        let at = NAMES.iter().position(|one| *one == name).expect("one of the three");
        let backend = format!("backend = \"{}\"", places[at]);
        match name {
            "dealer" => format!("{backend}\n{config}"),
            _ => format!("{link}\n{}", config.replace("backend = \"cpu\"", &backend)),
        }
    });
    hosts
}

fn evaluate(hosts: &Hosts, places: [&str; 3]) {
    let file = GateFile::builtin("gelu").expect("built in");
    for protocol in Protocol::ALL {
        let what = format!("{protocol} on {places:?}");
        let gate = catalog::gate(&file, protocol, None).expect("in the file");
        let x = inputs::awkward(&gate, ELEMS, 1);
        npy::write_i64(&hosts.folder().join("x.npy"), &x);
        let output = hosts.eval(&["--protocol", protocol.name()], "x.npy").output().expect("it starts");
        expect(&output, 0, &[], &what);
        let y = npy::read_i64(&hosts.folder().join("y.npy"));
        assert_eq!(y.len(), x.len(), "{what}");
        assert!(x.iter().zip(&y).all(|(x, y)| gate.reference(*x).contains(y)), "{what}");
        for (name, place) in ["party0", "party1"].into_iter().zip(&places[1..]) {
            let figures = hosts.last_figures(name);
            assert_eq!(figures["backend"], *place, "{what}: {name}");
            assert_eq!(figures["eval_rounds"], u32::from(gate.declared().rounds), "{what}: {name}");
        }
    }
}
