//! Every mistake ends with one clear message that names who is at fault, and with the right exit status. All processes
//! stay alive and ready for the next run.

use std::{fs, path::Path, process::Command};

use suf_skip::{Need, skip};
use suf_tests::{
    disk::SmallDisk,
    npy,
    processes::{Hosts, NAMES, expect},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Done, the run failed, wrong usage.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

#[test]
fn wrong_usage_is_refused_with_the_nearest_right_word() {
    for (arguments, words) in [
        (&["bench", "--models", "berd-base"][..], &["berd-base", "bert-base"][..]),
        (&["bench", "--protocols", "sigam"], &["sigam", "sigma"]),
        (&["bench", "--links", "moon"], &["moon", "loopback"]),
        (&["bench", "--elements", "0", "--gate", "gelu"], &["0"]),
        (
            &["eval", "--local", "--protocol", "onehot", "--gate", "gelo", "--inputs", "x", "--outputs", "y"],
            &["gelo", "gelu"],
        ),
        (&["frobnicate"], &["frobnicate"]),
    ] {
        let output = Command::new(PROGRAM).args(arguments).output().expect("suf starts");
        expect(&output, USAGE, words, &format!("{arguments:?}"));
    }
}

#[test]
fn bad_tensors_are_refused_before_anything_is_sent() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let file = |name: &str| hosts.folder().join(name);
    npy::write_i64(&file("outside.npy"), &[0, 1 << 25, 0]);
    npy::write_i64(&file("empty.npy"), &[]);
    npy::write_i64(&file("good.npy"), &[4096]);
    let good = fs::read(file("good.npy")).expect("just written");
    fs::write(file("cut.npy"), &good[..good.len() - 1]).expect("the folder is writable");
    fs::write(file("junk.npy"), b"junk").expect("the folder is writable");
    for (number, name) in [(f64::NAN, "nan.npy"), (f64::INFINITY, "inf.npy")] {
        let header = replace(&good[..good.len() - 8], b"<i8", b"<f8");
        let bytes = [header, number.to_le_bytes().to_vec()].concat();
        fs::write(file(name), bytes).expect("the folder is writable");
    }
    for (name, words) in [
        ("outside.npy", &["index [1]", "33554432"][..]),
        ("empty.npy", &["empty"]),
        ("nan.npy", &["index [0]", "NaN"]),
        ("inf.npy", &["index [0]", "inf"]),
        ("cut.npy", &["cut.npy", "damaged"]),
        ("junk.npy", &["junk.npy"]),
        ("absent.npy", &["absent.npy"]),
    ] {
        expect(&hosts.onehot(name), USAGE, words, name);
    }
    expect(&hosts.onehot("good.npy"), DONE, &[], "after all that");
    for party in ["party0", "party1"] {
        let runs = hosts.log(party).lines().filter(|line| line.contains("batch burnt")).count();
        assert_eq!(runs, 1, "{party} took part in runs of bad tensors");
    }
}

/// Configurations, gates, specifications, link profiles and models. Whatever is wrong in one, the message names the
/// file, the line and the key. It says what is expected and where it is explained, in words for people who write files.
#[test]
fn a_mistake_in_any_file_is_told_with_its_line_its_key_and_what_is_expected() {
    let config =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests stand in the root").join("config");
    for kind in KINDS {
        let shipped = fs::read_to_string(config.join(kind.shipped)).expect("it ships");
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("own")).expect("writable");
        let file = folder.path().join("own/own.toml");
        let run = |bytes: &[u8]| {
            fs::write(&file, bytes).expect("writable");
            let mut suf = Command::new(PROGRAM);
            suf.args(kind.command).current_dir(folder.path()).output().expect("suf starts")
        };
        let told = |text: &str, line: Option<usize>, words: &[&str]| {
            let output = run(text.as_bytes());
            let what = format!("{} with {words:?}", kind.shipped);
            expect(&output, kind.status, &["own/own.toml"], &what);
            expect(&output, kind.status, words, &what);
            let said = String::from_utf8_lossy(&output.stderr);
            let place = |line| [format!("line {line}:"), format!("own.toml:{line}:")];
            let placed = line.is_none_or(|line| place(line).iter().any(|place| said.contains(place)));
            assert!(placed, "{what}: line {line:?} is missing in: {said}");
            for word in [
                "TOML parse error",
                ", expected",
                "variant",
                "field",
                "struct ",
                "u8",
                "u16",
                "u32",
                "u64",
                "i64",
                "f64",
                "invalid type",
                "unclosed",
                "stream did not",
                "map",
            ] {
                assert!(!said.contains(word), "{what}: {word:?} is a library's word in: {said}");
            }
        };
        let explained = format!("config/{}", kind.explained);
        // What can be wrong in all of them.
        told(&format!("colour = \"blue\"\n{shipped}"), kind.strange_line, &["colour", &explained]);
        let lines = shipped.lines().count();
        let end = |line: &str| format!("{shipped}\n{line}\n");
        told(&end("garbage"), Some(lines + 2), &["no `=`", "KEY = VALUE", &explained]);
        told(&end("colour = blue"), Some(lines + 2), &["`blue`", "quotes", &explained]);
        told(&end("colour = \"blue"), Some(lines + 2), &["quotes", &explained]);
        told(&end("[colour"), Some(lines + 2), &["brackets", &explained]);
        // What is wrong in one.
        for (from, to, words) in kind.mistakes {
            let found = shipped.lines().position(|line| line.starts_with(from));
            let line = found.unwrap_or_else(|| panic!("{} has no line {from:?}", kind.shipped));
            let mut changed: Vec<_> = shipped.lines().map(ToOwned::to_owned).collect();
            changed[line] = changed[line].replacen(from, to, 1);
            told(&changed.join("\n"), (!to.is_empty()).then_some(line + 1), words);
        }
        let mut no_text = shipped.clone().into_bytes();
        no_text.extend(b"\n# \xff\n");
        let what = format!("{} with bytes that are no text", kind.shipped);
        expect(&run(&no_text), kind.status, &["own/own.toml", &format!("{}", lines + 2), "UTF-8"], &what);
        fs::remove_file(&file).expect("it is there");
        let mut absent = Command::new(PROGRAM);
        let absent = absent.args(kind.command).current_dir(folder.path()).output().expect("suf starts");
        expect(&absent, kind.status, &["own/own.toml", "read", "No such file", "see its path"], kind.shipped);
    }
}

/// A kind of file that people write.
struct Kind {
    /// The shipped file that is changed.
    shipped: &'static str,
    /// The shipped file that explains its keys.
    explained: &'static str,
    /// A command that reads `own/own.toml`, and its status.
    command: &'static [&'static str],
    status: i32,
    /// Where an unknown key in the first line is found.
    strange_line: Option<usize>,
    /// The beginning of a line, by what it is replaced, and what is said; nothing in its place is a key that is missing.
    mistakes: &'static [(&'static str, &'static str, &'static [&'static str])],
}

const KINDS: [Kind; 6] = [
    Kind {
        shipped: "gates/gelu.toml",
        explained: "gates/gelu.toml",
        command: &["describe", "own/own.toml"],
        status: USAGE,
        strange_line: Some(1),
        mistakes: &[
            ("shift = 6", "shfit = 6", &["`shfit`", "`shift`"]),
            ("shift = 6", "", &["`shift` is missing", "add it"]),
            ("shift = 6", "shift = \"six\"", &["shift: ", "the text \"six\"", "whole number from 0 to 255"]),
            ("shift = 6", "shift = 600", &["shift: ", "`600`", "255"]),
            ("frac = 12", "frac = 11", &["frac = 11", "12"]),
            ("name = \"gelu\"", "name = \"GELU\"", &["GELU"]),
            ("left = { slope = 0,", "left = { slope = 0.5,", &["left.slope: ", "`0.5`", "whole number"]),
            ("default = [6, 6]", "default = 6", &["onehot.default: ", "`6`", "list in brackets"]),
            ("default = [6, 6]", "default = [6 6]", &["`6 6`", "commas"]),
            ("clip_bits = 8", "clip_bit = 8", &["`clip_bit` in [sigma]", "`clip_bits`"]),
            ("clip_bits = 8", "clip_bits = 80", &["clip_bits = 80", "8"]),
        ],
    },
    Kind {
        shipped: "specs/hard-swish-quadratic.toml",
        explained: "specs/hard-swish-quadratic.toml",
        command: &["describe", "own/own.toml"],
        status: USAGE,
        strange_line: Some(1),
        mistakes: &[
            ("domain_bits = 25", "domain_bit = 25", &["`domain_bit`", "`domain_bits`"]),
            ("domain_bits = 25", "", &["`domain_bits` is missing"]),
            ("domain_bits = 25", "domain_bits = 250", &["250"]),
            ("output_shift = 24", "output_shift = true", &["output_shift: ", "`true`", "whole number"]),
            ("until = -12288", "until = \"low\"", &["piece.until: ", "\"low\"", "whole number"]),
            ("until = 12288", "untill = 12288", &["`untill` in [piece]", "`until`"]),
            ("[[term]]", "[[term]]\npolynomial = [1]", &["exactly one"]),
        ],
    },
    Kind {
        shipped: "links/lan.toml",
        explained: "links/lan.toml",
        command: &["describe", "link", "own/own.toml"],
        status: USAGE,
        strange_line: Some(1),
        mistakes: &[
            ("delay_ms = 0.5", "delay_s = 0.5", &["`delay_s`", "`delay_ms`"]),
            ("delay_ms = 0.5", "", &["`delay_ms` is missing"]),
            ("delay_ms = 0.5", "delay_ms = \"0.5 ms\"", &["delay_ms: ", "\"0.5 ms\"", "a number"]),
            ("delay_ms = 0.5", "delay_ms = 5000.0", &["delay_ms = 5000", "0 to 500"]),
            ("mtu = 9000", "mtu = 90000", &["mtu: ", "`90000`", "65535"]),
            ("mtu = 9000", "mtu = 900", &["mtu = 900", "1280 to 65535"]),
            ("pacing = true", "pacing = 1", &["pacing: ", "`1`", "true or false"]),
        ],
    },
    Kind {
        shipped: "models.toml",
        explained: "models.toml",
        command: &["bench", "--models-file", "own/own.toml"],
        status: USAGE,
        strange_line: Some(1),
        mistakes: &[
            ("width = 3072", "widht = 3072", &["`widht` in [bert-base]", "`width`"]),
            ("width = 3072", "", &["`width` is missing in [bert-base]"]),
            ("width = 3072", "width = \"wide\"", &["bert-base.width: ", "\"wide\"", "whole number"]),
            ("width = 3072", "width = 0", &["bert-base.width = 0", "1 or more"]),
            ("layers = 12", "layers = -12", &["bert-base.layers: ", "`-12`", "0 to 4294967295"]),
            ("[gpt2]", "[bert-base]", &["`bert-base`", "a second time"]),
        ],
    },
    Kind {
        shipped: "party0.toml",
        explained: "party0.toml",
        command: &["party", "--config", "own/own.toml", "--check"],
        status: FAILED,
        strange_line: Some(1),
        mistakes: &[
            ("party = 0", "party = 2", &["party = 2", "0 or 1"]),
            ("party = 0", "party = \"zero\"", &["party: ", "\"zero\""]),
            ("listen = ", "lisen = ", &["peer", "`lisen`"]),
            (
                "key_memory_mb = ",
                "key_memory_mb = \"all\" #",
                &["key_memory_mb: ", "\"all\"", "whole number"],
            ),
        ],
    },
    Kind {
        shipped: "dealer.toml",
        explained: "dealer.toml",
        command: &["dealer", "--config", "own/own.toml", "--check"],
        status: FAILED,
        strange_line: Some(1),
        mistakes: &[
            ("memory_mb = ", "memory_mb = 0 #", &["memory_mb = 0"]),
            ("listen = ", "listen = 7000 #", &["listen: ", "`7000`", "text in quotes"]),
            ("backend = ", "backend = \"gpu\" #", &["backend: `gpu`", "`auto`"]),
        ],
    },
];

#[test]
fn an_absent_dealer_and_an_absent_peer_are_named_and_cost_nothing_but_the_run() {
    let mut hosts = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 9]);
    hosts.kill("dealer");
    expect(&hosts.onehot("x.npy"), FAILED, &["dealer"], "without a dealer");
    hosts.restart("dealer");
    expect(&hosts.onehot("x.npy"), DONE, &[], "with the dealer again");
    hosts.kill("party1");
    expect(&hosts.onehot("x.npy"), FAILED, &["party1"], "without party 1");
    hosts.restart("party1");
    expect(&hosts.onehot("x.npy"), DONE, &[], "with party 1 again");
    for name in NAMES {
        assert!(hosts.is_alive(name), "{name} died");
        assert_eq!(hosts.terminate(name), Some(DONE), "{name} did not end cleanly on SIGTERM");
    }
}

#[test]
fn wrong_certificates_configurations_and_ports_are_refused_at_the_start() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let good = fs::read_to_string(hosts.folder().join("party1.toml")).expect("written at the start");
    let control = |text: &str| {
        text.lines().find_map(|line| line.strip_prefix("control = ")).expect("a control address").to_owned()
    };
    let own_state = |text: &str| text.replace("state-party1", "state-other");
    // Party 0's file has port 0; the address in use is the one it printed.
    let used = hosts.as_client()[1].trim_start_matches("https://").to_owned();
    for (name, text, words) in [
        (
            "another role's certificate",
            own_state(&good).replace("pki/party1", "pki/party0"),
            &["party0", "party1"][..],
        ),
        (
            "the dealer's certificate",
            own_state(&good).replace("pki/party1", "pki/dealer"),
            &["dealer", "party1"],
        ),
        ("an unknown key", format!("colour = 1\n{}", own_state(&good)), &["colour"]),
        ("party 2", own_state(&good).replace("party = 1", "party = 2"), &["party = 2"]),
        ("a taken port", own_state(&good).replace(&control(&good), &format!("\"{used}\"")), &[used.as_str()]),
        ("a ledger in use", good.clone(), &["state-party1", "another daemon"]),
        ("a missing certificate", own_state(&good).replace("party1.pem", "nobody.pem"), &["nobody.pem"]),
    ] {
        fs::write(hosts.folder().join("wrong.toml"), &text).expect("the folder is writable");
        let output = hosts.suf(&["party", "--config", "wrong.toml"]);
        expect(&output, FAILED, words, name);
    }
    let check = |text: &str| {
        fs::write(hosts.folder().join("checked.toml"), text).expect("the folder is writable");
        hosts.suf(&["party", "--config", "checked.toml", "--check"])
    };
    expect(&check(&own_state(&good)), DONE, &[], "--check of a good configuration");
    expect(&check(&good), FAILED, &["another daemon"], "--check of that of a running daemon");
}

#[test]
fn a_full_disk_ends_the_run_and_not_the_party() {
    let Some(disk) = SmallDisk::mount(4) else {
        return skip(Need::Mount, "mounting a small file system needs root");
    };
    let spool = format!("\"{}\"", disk.path().display());
    let mut hosts = Hosts::start_with(Path::new(PROGRAM), |name, config| {
        let small = config.replace("\"state-party0\"", &format!("{spool}\nkey_memory_mb = 1"));
        if name == "party0" { small } else { config }
    });
    npy::write_i64(&hosts.folder().join("large.npy"), &[4096; 200_000]);
    npy::write_i64(&hosts.folder().join("small.npy"), &[4096; 9]);
    expect(
        &hosts.onehot("large.npy"),
        FAILED,
        &["spool", "space", "party0"],
        "16 MB of keys on 4 MB of disk",
    );
    assert_eq!(hosts.burnt("party1"), [""; 0], "refused before anything was dealt");
    for name in NAMES {
        assert!(hosts.is_alive(name), "{name} died");
    }
    expect(&hosts.onehot("small.npy"), DONE, &[], "a small run afterwards");
    // Not even the ledger finds room; it is usable again when there is some.
    let filler = disk.fill();
    expect(&hosts.onehot("small.npy"), FAILED, &["space"], "on a full disk");
    fs::remove_file(filler).expect("it is there");
    expect(&hosts.onehot("small.npy"), DONE, &[], "with room again");
    hosts.check_batches(2);
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "the length of the header stays");
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it stands there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}
