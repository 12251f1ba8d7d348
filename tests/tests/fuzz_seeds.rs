//! The seeds of the fuzz targets, and what random changes make of them: no decoder panics, and what decodes has one encoding.
//! `SUF_WRITE_SEEDS=1` writes the seeds that are made from the program's own encoders; `SUF_CHANGES=100000` changes more.

#[path = "../../kernels/cpu/examples/operations/mod.rs"]
mod operations;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
};

use prost::Message as _;
use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_control::v1::{LoadTerms, StartRunRequest};
use suf_cpu::CpuBackend;
use suf_gate::{Gate, Program, TILE_ELEMS, TwoParties, catalog, ops::Heads, two_parties::Transcript};
use suf_model::{Plan, bert::Bert};
use suf_tests::{
    decoders::{TARGETS, files::MODEL_FILES, wire::loaded},
    loads::{Sum, request},
    programs::{Case, Kind},
};
use suf_wire::{
    Accept, BatchId, Causal, DataFrame, DealerMessage, Digest, Fault, Finished, Header, Hello, KeyPart,
    KeyRequest, LoadName, Message, NodeId, Part, Party, PeerMessage, Propose, Reason, Role, RunId, Seed,
    VERSION,
};

/// Changed copies of each seed in an ordinary test run.
const CHANGES: usize = 300;

#[test]
fn no_decoder_panics_on_seeds_and_what_becomes_of_them() {
    let changes = std::env::var("SUF_CHANGES").map_or(CHANGES, |count| count.parse().expect("a number"));
    let mut rng = StdRng::seed_from_u64(1);
    for (name, decode) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in &seeds {
            decode(seed);
            for _ in 0..changes {
                let mut bytes = seed.clone();
                for _ in 0..rng.random_range(1..4) {
                    change(&mut bytes, &seeds, &mut rng);
                }
                decode(&bytes);
            }
        }
    }
}

/// The targets are built by a nightly compiler, hence not here: what they import is compared with their manifest instead.
#[test]
fn the_fuzz_targets_have_the_crates_that_the_decoders_use() {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(tests.join("fuzz/Cargo.toml")).expect("it is checked in");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let listed = manifest["dependencies"].as_table().expect("a table");
    for file in fs::read_dir(tests.join("src/decoders")).expect("they are there") {
        let source = fs::read_to_string(file.expect("readable").path()).expect("a source");
        for rest in source.split("suf_").skip(1) {
            let name: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            assert!(listed.contains_key(&format!("suf-{name}")), "tests/fuzz/Cargo.toml lacks suf-{name}");
        }
    }
}

#[test]
fn there_is_a_seed_of_every_message_and_protocol() {
    let write = std::env::var_os("SUF_WRITE_SEEDS").is_some();
    let mut wanted = Vec::new();
    let wire = |name: &'static str, family: &'static str, encoded: suf_wire::Encoded| {
        (family, name.to_lowercase(), [&encoded.head[..], &encoded.payload[..]].concat())
    };
    for message in peer_messages() {
        wanted.push(wire(message.name(), "peer", message.encode().expect("within every limit")));
    }
    for message in dealer_messages() {
        wanted.push(wire(message.name(), "keys", message.encode().expect("within every limit")));
    }
    for (number, gate) in catalog::builtin().filter(|gate| gate.name() == "gelu").enumerate() {
        wanted.push(("gate", format!("gelu-{number}-{}", gate.protocol()), gate.encode()));
    }
    let model = Sum::new(2, 5, 3);
    for (name, program) in [("load", &model.load), ("private", &model.program)] {
        wanted.push(("program", name.to_owned(), program.encoded().to_vec()));
    }
    for (name, bytes) in programs() {
        wanted.push(("program", name, bytes));
    }
    for (name, program) in operations() {
        let program = Arc::new(program);
        assert_eq!(Program::decode(program.encoded(), &loaded()).as_ref(), Ok(&*program), "{name}");
        wanted.push(("program", name.to_owned(), program.encoded().to_vec()));
        for (kind, message) in peer_messages_of(&program) {
            let encoded = message.encode().expect("within every limit");
            let (target, _, bytes) = wire(message.name(), "peer", encoded);
            wanted.push((target, format!("{name}-{kind}"), bytes));
        }
        for (kind, message) in dealer_messages_of(&program) {
            let encoded = message.encode().expect("within every limit");
            let (target, _, bytes) = wire(message.name(), "keys", encoded);
            wanted.push((target, format!("{name}-{kind}"), bytes));
        }
    }
    let terms = LoadTerms { clients: vec![vec![8; 32].into()], ..model.terms("a model", 9) };
    for (name, request) in [
        ("start-load", StartRunRequest { terms: Some(terms), ..request(&model.load, RunId([7; 16])) }),
        (
            "start-on-load",
            StartRunRequest { load: vec![9; 32].into(), ..request(&model.program, RunId([7; 16])) },
        ),
    ] {
        wanted.push(("control", name.to_owned(), request.encode_to_vec()));
    }
    let mut named = BTreeMap::new();
    for (target, name, bytes) in wanted {
        // Several messages of one kind.
        let count = named.entry((target, name.clone())).and_modify(|count| *count += 1).or_insert(1);
        let name = if *count == 1 { name } else { format!("{name}-{count}") };
        let path = folder(target).join(name);
        if write {
            fs::create_dir_all(folder(target)).expect("the sources are writable");
            fs::write(&path, &bytes).expect("the sources are writable");
        }
        let found = fs::read(&path).unwrap_or_default();
        assert_eq!(found, bytes, "{} is out of date: run this test with SUF_WRITE_SEEDS=1", path.display());
    }
}

#[test]
fn the_seeds_of_a_models_files_are_a_model() {
    let mut folder = BTreeMap::new();
    for (number, (name, seed)) in MODEL_FILES.into_iter().enumerate() {
        assert_eq!(usize::from(seed[0]), number, "{name}");
        folder.insert(name.to_owned(), seed[1..].to_vec());
    }
    let model = Bert::load(&folder).expect("a model");
    assert_eq!(model.tokens.encode("ab", model.config.positions as usize), Ok(vec![2, 5, 8, 3]));
    let plan = suf_toml::text(&folder[suf_model::plan::FILE]).and_then(Plan::parse).expect("a plan");
    assert_eq!(plan.layers.len(), model.layers.len());
}

/// One change of the kinds that break decoders.
fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut StdRng) {
    let at = rng.random_range(0..=bytes.len());
    match rng.random_range(0..6) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
        2 => bytes.truncate(at),
        3 => bytes.insert(at, rng.random()),
        4 => {
            let other = &others[rng.random_range(0..others.len())];
            let from = rng.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        // A length at the start that fits the rest, so that bodies are reached.
        _ if bytes.len() > 4 => {
            let length = (bytes.len() - 4) as u32;
            bytes[..4].copy_from_slice(&length.to_le_bytes());
        }
        _ => bytes.push(rng.random()),
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(folder(target))
        .expect("a folder of seeds")
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed")).collect()
}

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target)
}

fn peer_messages() -> Vec<PeerMessage> {
    let (run, batch, digest) = (RunId([0x11; 16]), BatchId([0x22; 16]), Digest([0x33; 32]));
    let reason = Reason::new("busy");
    let depth = Causal::START.next().expect("one round");
    vec![
        PeerMessage::Hello(Hello { version: VERSION, role: Role::Party1, software: "suf".into() }),
        PeerMessage::Propose(Propose {
            run,
            batch,
            digest,
            load: None,
            program: vec![0xaa; 3].into(),
            deadline_ms: 60_000,
        }),
        PeerMessage::Propose(Propose {
            run,
            batch,
            digest,
            load: Some(LoadName { digest, batch: Some(batch) }),
            program: vec![0xaa; 3].into(),
            deadline_ms: 1,
        }),
        PeerMessage::Accept(Accept { run, digest, batch }),
        PeerMessage::Refuse { run, fault: Fault::Caller, reason: reason.clone() },
        PeerMessage::Ready { run, segment: 2, common: [0x44; 32] },
        PeerMessage::Frame(DataFrame {
            part: Part::new(NodeId(9), 7),
            step: 1,
            depth,
            bits: 39,
            payload: vec![5, 1, 0x20, 0, 3, 15].into(),
        }),
        PeerMessage::Finished(Finished {
            run,
            rounds: 3,
            bits_sent: 1,
            bits_received: 2,
            transcript: [0x55; 32],
        }),
        PeerMessage::Abort { run, fault: Fault::Bug, reason },
        PeerMessage::Queued { run, ahead: 3 },
    ]
}

fn dealer_messages() -> Vec<DealerMessage> {
    let (batch, digest) = (BatchId([0x22; 16]), Digest([0x33; 32]));
    let part = Part::new(NodeId(1), 2);
    let reason = Reason::new("full");
    vec![
        DealerMessage::Request(KeyRequest {
            batch,
            digest,
            party: Party::P1,
            load_batch: Some(batch),
            program: vec![0xaa].into(),
        }),
        DealerMessage::Refuse { batch, fault: Fault::Device, reason: reason.clone() },
        DealerMessage::Header(Header { batch, digest, parts: 2, seed: Seed::new([0x55; 32]) }),
        DealerMessage::Key(KeyPart::new(batch, Party::P0, part, vec![0xde, 0xad].into())),
        DealerMessage::End { batch },
        DealerMessage::Stored { batch },
        DealerMessage::Abort { batch, fault: Fault::Device, reason },
        DealerMessage::Forget { batch: Some(batch) },
        DealerMessage::Forget { batch: None },
    ]
}

/// Programs of every protocol and of every kind, of one tile and of more.
fn programs() -> Vec<(String, Vec<u8>)> {
    let gates: Vec<Arc<Gate>> =
        catalog::builtin().filter(|gate| gate.name() == "gelu").map(Arc::new).collect();
    let mut found = Vec::new();
    for (number, gate) in gates.iter().enumerate() {
        for (kind, name) in Kind::ALL.into_iter().zip(["single", "row", "side"]) {
            let elems = if number % 2 == 0 { 9 } else { TILE_ELEMS + 1 };
            if let Some(case) = Case::new(kind, gate, elems) {
                found.push((format!("{name}-{number}-{}", gate.protocol()), case.program.encoded().to_vec()));
            }
        }
    }
    found
}

/// Programs of every operation but gates.
fn operations() -> [(&'static str, Program); 2] {
    let heads = Heads { heads: 2, tokens: 2 };
    [("products", operations::products(1, heads, 2)), ("softmax", operations::softmax(2, 2))]
}

/// An operation's name as that of a file.
fn file_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

fn run_of(program: &Arc<Program>) -> Transcript {
    let seeds = [1, 2, 3].map(|byte| suf_gate::Seed::new([byte; 32]));
    let inputs: Vec<_> = program
        .inputs()
        .map(|input| [(); 2].map(|()| vec![1; program.node(input).shape().elems() as usize]))
        .collect();
    let backend = CpuBackend::new();
    let parties = TwoParties::new(Arc::clone(program), [0x22; 16], seeds);
    parties.run(&backend, [&backend, &backend], &inputs).expect("the processor computes")
}

/// The proposal of a program, and a frame of each operation that sends one.
fn peer_messages_of(program: &Arc<Program>) -> Vec<(String, PeerMessage)> {
    let propose = Propose {
        run: RunId([0x11; 16]),
        batch: BatchId([0x22; 16]),
        digest: Digest(*program.digest()),
        load: None,
        program: program.encoded().to_vec().into(),
        deadline_ms: 60_000,
    };
    let mut found = vec![("propose".to_owned(), PeerMessage::Propose(propose))];
    let mut seen = BTreeSet::new();
    for ((part, step), [message, _]) in run_of(program).messages {
        let name = file_name(&program.node(part.node).op().def().name());
        if seen.insert((name.clone(), step)) {
            let bits = program.frame_bits(part, step).expect("an exchange has a message");
            let depth = Causal::START.next().expect("one round");
            let frame = DataFrame { depth, ..DataFrame::new(part, step as u8, bits, message) };
            found.push((format!("{name}-{step}"), PeerMessage::Frame(frame)));
        }
    }
    found
}

/// The request for a program, and a key of each operation that has one.
fn dealer_messages_of(program: &Arc<Program>) -> Vec<(String, DealerMessage)> {
    let batch = BatchId([0x22; 16]);
    let (digest, encoded) = (Digest(*program.digest()), program.encoded().to_vec().into());
    let request = KeyRequest { batch, digest, party: Party::P1, load_batch: None, program: encoded };
    let mut found = vec![("request".to_owned(), DealerMessage::Request(request))];
    let mut seen = BTreeSet::new();
    for (part, [key, _]) in run_of(program).keys {
        let name = file_name(&program.node(part.node).op().def().name());
        if !key.expose().is_empty() && seen.insert(name.clone()) {
            let key = KeyPart::new(batch, Party::P0, part, key.expose().to_vec().into());
            found.push((name, DealerMessage::Key(key)));
        }
    }
    found
}
