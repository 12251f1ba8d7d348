//! Every configuration file that ships is parsed, and the README's commands are the program's.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use suf_gate::{Protocol, catalog, gatefile::GateFile, spec::SpecFile};
use suf_link::LinkProfile;
use suf_model::{Plan, builtin};
use suf_process::Configuration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

#[test]
fn every_file_in_config_is_parsed_by_its_reader() {
    let config = root().join("config");
    let mut parsed = 0;
    for path in files(&config) {
        let text = read(&path);
        let place = path.strip_prefix(&config).expect("within config").display().to_string();
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        match place.as_str() {
            "dealer.toml" => {
                suf_dealer::Config::parse(&text, &path).expect("dealer.toml");
            }
            "party0.toml" | "party1.toml" => {
                let party = suf_server::Config::parse(&text, &path).expect("a party's file");
                assert_eq!(party.party().role().name(), name);
            }
            "models.toml" => assert_eq!(
                suf_cli::models::Models::built_in().names().into_iter().collect::<BTreeSet<_>>(),
                toml::from_str::<toml::Table>(&text).expect("models.toml").keys().cloned().collect()
            ),
            _ if place.starts_with("links/") => {
                LinkProfile::parse(&place, &text).expect("a link profile");
                assert!(
                    LinkProfile::BUILT_IN.iter().any(|(known, _)| *known == name),
                    "{place} does not ship"
                );
            }
            _ if place.starts_with("gates/") => {
                let gate = GateFile::parse(&place, &text).expect("a gate file");
                assert_eq!(gate.name(), name);
                assert!(GateFile::builtin_names().any(|known| known == name), "{place} does not ship");
            }
            _ if place.starts_with("specs/") => {
                SpecFile::parse(&place, &text).expect("an operator specification");
            }
            _ if place.starts_with("models/") => {
                let plan = Plan::parse(&text).expect("a plan");
                assert!(builtin::plan(&plan.model).is_some(), "{place} does not ship");
            }
            other => panic!("config/{other} has no reader"),
        }
        parsed += 1;
    }
    assert!(parsed > 15, "{parsed} files");
}

/// Whoever copies them and forgets an address reaches nobody, and is reached by nobody.
#[test]
fn shipped_configurations_listen_on_this_host_alone() {
    let config = |name: &str| (read(&root().join("config").join(name)), root().join("config").join(name));
    let (text, path) = config("dealer.toml");
    let dealer = suf_dealer::Config::parse(&text, &path).expect("dealer.toml");
    let mut addresses = vec![dealer.listen, dealer.control];
    addresses.extend(dealer.admin);
    for name in ["party0.toml", "party1.toml"] {
        let (text, path) = config(name);
        let party = suf_server::Config::parse(&text, &path).expect("a party's file");
        addresses.push(party.control);
        addresses.extend(party.admin);
        if let suf_server::config::Peer::Listen { listen } = party.peer {
            addresses.push(listen);
        }
    }
    assert_eq!(addresses.len(), 8);
    assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
    // What a container listens on is its own network's; what is published of it is this host's.
    let compose = read(&root().join("deploy/container/compose.yaml"));
    let mut published = compose.lines().filter(|line| line.trim_start().starts_with("ports:"));
    assert!(published.clone().count() >= 3, "{compose}");
    assert!(published.all(|line| line.contains("[\"127.0.0.1:")), "{compose}");
}

#[test]
fn an_unknown_key_is_an_error_in_every_kind_of_file() {
    let strange = |path: &str| format!("colour = \"blue\"\n{}", read(&root().join("config").join(path)));
    let path = Path::new("strange.toml");
    let errors = [
        suf_dealer::Config::parse(&strange("dealer.toml"), path).expect_err("unknown key").to_string(),
        suf_server::Config::parse(&strange("party0.toml"), path).expect_err("unknown key").to_string(),
        LinkProfile::parse("strange", &strange("links/lan.toml")).expect_err("unknown key").to_string(),
        GateFile::parse("strange", &strange("gates/gelu.toml")).expect_err("unknown key").to_string(),
        SpecFile::parse("strange", &strange("specs/hard-swish-quadratic.toml"))
            .expect_err("unknown key")
            .to_string(),
        Plan::parse(&strange("models/all-minilm-l6-v2.toml")).expect_err("unknown key").to_string(),
    ];
    for error in errors {
        assert!(error.contains("colour"), "{error}");
    }
}

#[test]
fn the_page_on_suf_lut_says_what_it_computes() {
    let page = read(&root().join("docs/suf-lut.md"));
    let gelu = GateFile::builtin("gelu").expect("built in");
    let gate = catalog::gate(&gelu, Protocol::SufLut, None).expect("in the file");
    let real = |units: i64| units as f64 / 4096.0;
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<f64> = line.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
        let [x, exact, reads, returns] = cells[..] else { continue };
        let units = (x * 4096.0).round() as i64;
        // Printed with four digits.
        let close = |printed: f64, value: f64| (printed - value).abs() < 0.6e-4;
        assert!(close(exact, gelu.activation.eval(x)), "{line}");
        assert!(close(reads, real((units + 128).rem_euclid(256) - 128)), "{line}");
        assert!(close(returns, real(gate.reference(units)[0])), "{line}");
        rows += 1;
    }
    assert!(rows >= 3, "{rows} rows");
}

#[test]
fn describing_a_gate_needs_nothing_running() {
    let output = Command::new(PROGRAM).args(["describe", "gelu"]).output().expect("suf starts");
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in ["onehot", "sigma", "dpf", "suf-lut", "575.375", "92.125"] {
        assert!(text.contains(word), "'{word}' is missing in:\n{text}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests stand in the root")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
