//! What is left of secrets: on the parties' disks after a run, in core dumps, for other processes. With `SUF_SCAN_MEMORY` set, the
//! parties' memory is searched too.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::{
        fs::{FileExt, MetadataExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use suf_control::shares;
use suf_cpu::CpuBackend;
use suf_gate::{Backend, EvalJob, HostValue, NodeId, Part, Party, SecretBytes, Seed, ring::WIRE};
use suf_skip::{Need, skip};
use suf_tests::{
    dealer::{Dealt, TestDealer},
    npy,
    processes::Hosts,
    users::{NOBODY, files, hand_over, own_uid},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Elements of a run: keys of megabytes, which take the ways of large ones. One party is seeded, the other not.
const ELEMS: usize = 10_000;

/// Bytes of a needle. Two of them are equal by chance in one of 2^64 places.
const NEEDLE: usize = 16;

/// One needle in so many bytes of a key.
const KEY_STRIDE: usize = 1 << 10;

#[test]
fn nothing_of_a_batch_is_left_on_disk_after_its_run() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    let dealer = TestDealer::start(&hosts.folder().join("pki"), false);
    let ours = format!("dealer = \"{}\"", dealer.address());
    hosts.start_daemons(|name, config| {
        let dealer = config.lines().find(|line| line.starts_with("dealer = ")).map(str::to_owned);
        // Party 0 keeps its keys in the spool, party 1 in memory.
        let memory = if name == "party0" { 0 } else { 256 };
        dealer.map_or(config.clone(), |theirs| {
            config.replace(&theirs, &format!("{ours}\nkey_memory_mb = {memory}"))
        })
    });
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; ELEMS]);
    for protocol in ["onehot", "sigma", "suf", "dpf", "suf-lut"] {
        let output = hosts.eval(&["--protocol", protocol], "x.npy").output().expect("suf starts");
        assert!(output.status.success(), "{protocol}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let dealt = dealer.take_dealt();
    assert_eq!(dealt.len(), 5);
    // Live buffers of the QUIC stack keep what came through them until they are used again. So a trace of a seed is
    // found now and then. The search is for people to look at; it does not decide whether a change is good.
    let memory_too = std::env::var_os("SUF_SCAN_MEMORY").is_some();
    if memory_too && !reads_memory_of(hosts.pid("party0")) {
        return skip(Need::ReadMemory, "reading the memory of a daemon needs the rights of root");
    }
    let mut left = Vec::new();
    for party in Party::BOTH {
        let needles = Needles::of(&dealt, party);
        let name = party.role().name();
        if memory_too {
            let found = needles.in_memory(hosts.pid(name));
            left.extend(found.into_iter().map(|found| format!("{name}'s memory has {found}")));
        }
        for file in files(&hosts.folder().join(format!("state-{name}"))) {
            let bytes = fs::read(&file).expect("readable");
            for found in needles.within(&bytes) {
                left.push(format!("{} has {found}", file.display()));
            }
        }
        // The test's own memory still has all of it: the search finds what is there.
        let control =
            if memory_too { needles.in_memory(std::process::id()) } else { needles.in_keys(&dealt) };
        for kind in ["seed", "key"] {
            assert!(control.iter().any(|found| found.contains(kind)), "no {kind} found where there are some");
        }
    }
    left.sort();
    assert!(left.is_empty(), "{} traces:\n{}", left.len(), left.join("\n"));
}

#[test]
fn daemons_cannot_be_dumped_nor_read_and_lock_their_memory() {
    let hosts = Hosts::prepare(Path::new(PROGRAM));
    let folder = hosts.folder();
    let root = own_uid() == 0;
    let program = if root { hand_over(Path::new(PROGRAM), folder) } else { PathBuf::from(PROGRAM) };
    let user = if root { NOBODY } else { own_uid() };
    for (wanted, words) in [(true, "memory is"), (false, "lock_memory = false")] {
        let config = format!(
            "listen = \"127.0.0.1:0\"\ncontrol = \"127.0.0.1:0\"\nbackend = \"cpu\"\nlock_memory = {wanted}\n\
             identity = {{ ca = \"pki/ca.pem\", cert = \"pki/dealer.pem\", key = \"pki/dealer.key\" }}\n"
        );
        fs::write(folder.join("dealer.toml"), config).expect("the folder is writable");
        let log = folder.join(format!("dealer-{wanted}.log"));
        let mut command = Command::new(&program);
        command.args(["dealer", "--config", "dealer.toml", "--until-stdin-closes"]).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log).expect("a log"));
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut daemon = Ended(command.spawn().expect("suf starts"));
        let mut line = String::new();
        let out = daemon.0.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a daemon prints text");
        assert!(line.contains("ready"), "{line:?}: {}", fs::read_to_string(&log).expect("a log"));

        let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", daemon.0.id())).expect(file);
        let core = of("limits").lines().find(|line| line.starts_with("Max core")).map(str::to_owned);
        let words_of_core: Vec<_> = core.as_deref().unwrap_or_default().split_whitespace().collect();
        assert_eq!(words_of_core[4..6], ["0", "0"], "{core:?}");
        // The kernel takes what is not dumpable from its user: ptrace and /proc/PID/mem are root's alone.
        assert_ne!(owner(daemon.0.id()), user, "the daemon can be read by its user");
        assert_eq!(owner(ordinary(root).0.id()), user, "an ordinary process can");

        let said = fs::read_to_string(&log).expect("a log");
        let locked =
            of("status").lines().find_map(|line| line.strip_prefix("VmLck:").map(kib)).expect("VmLck");
        assert!(said.contains(words), "{said}");
        assert_eq!(
            locked > 0,
            said.contains("memory is locked"),
            "{locked} KiB are locked, and it says: {said}"
        );
        if wanted && locked == 0 {
            assert!(said.contains("RLIMIT_MEMLOCK is") && said.contains("LimitMEMLOCK=infinity"), "{said}");
        }
    }
}

/// This party's share of the mask of the input's first tile: what opens there if the client's share is zero.
fn input_mask(dealt: &Dealt, party: Party) -> Vec<u64> {
    let (program, seed) = (Arc::clone(&dealt.program), Seed::new(dealt.seeds[party.index()]));
    let part = Part::new(NodeId(0), 0);
    let zeros = HostValue::shared(vec![0; program.elems(part)]);
    let job = EvalJob { program, batch: dealt.batch.0, part, party, seed, load: None };
    let staged = CpuBackend::new().stage(&job, SecretBytes::default().into()).expect("it has no key");
    let message = staged.begin(vec![zeros]).and_then(|mut opening| opening.step(0, &[]));
    let mut mask = Vec::new();
    shares::unpack_into(WIRE.bits(), &message.expect("it opens"), u64::MAX, &mut mask).expect("elements");
    mask
}

/// Pieces of secrets, by their first 8 bytes.
#[derive(Default)]
struct Needles {
    by_start: HashMap<u64, (Vec<u8>, String)>,
    /// Which first two bytes occur at all.
    starts: Vec<bool>,
}

impl Needles {
    /// What `party` got in `dealt`, and its masks.
    fn of(dealt: &[Dealt], party: Party) -> Self {
        let mut needles = Self { starts: vec![false; 1 << 16], ..Self::default() };
        for batch in dealt {
            let gate = batch.program.only_gate().expect("the tests run gates");
            let what = format!("{} {}", gate.protocol(), gate.name());
            let seed = batch.seeds[party.index()];
            needles.add(&seed[..NEEDLE], format!("the seed ({what})"));
            needles.add(&seed[NEEDLE..], format!("the seed's end ({what})"));
            for (part, key) in &batch.keys[party.index()] {
                for at in (0..key.len().saturating_sub(NEEDLE)).step_by(KEY_STRIDE) {
                    needles.add(&key[at..at + NEEDLE], format!("the key of {part} ({what})"));
                }
            }
            if gate.takes_shares() {
                continue;
            }
            let mask = input_mask(batch, party);
            for pair in mask.chunks_exact(2).step_by(64) {
                let bytes = [pair[0].to_le_bytes(), pair[1].to_le_bytes()].concat();
                needles.add(&bytes, format!("the input mask ({what})"));
            }
        }
        needles
    }

    fn add(&mut self, bytes: &[u8], name: String) {
        // Low entropy would be found everywhere.
        let zeros = bytes.iter().filter(|byte| **byte == 0).count();
        if zeros <= NEEDLE / 2 {
            let start = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
            self.starts[(start & 0xffff) as usize] = true;
            self.by_start.insert(start, (bytes.to_vec(), name));
        }
    }

    /// Names of what occurs in the keys and seeds themselves.
    fn in_keys(&self, dealt: &[Dealt]) -> Vec<String> {
        let all = dealt.iter().flat_map(|batch| {
            let keys = batch.keys.iter().flatten().map(|(_, key)| self.within(key));
            keys.chain(batch.seeds.iter().map(|seed| self.within(seed)))
        });
        all.flatten().collect()
    }

    /// Names of what occurs in `bytes`, with how often.
    fn within(&self, bytes: &[u8]) -> Vec<String> {
        let mut found: HashMap<&str, usize> = HashMap::new();
        for at in 0..bytes.len().saturating_sub(NEEDLE - 1) {
            if !self.starts[usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8] {
                continue;
            }
            let start = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
            if let Some((needle, name)) = self.by_start.get(&start)
                && bytes[at..at + NEEDLE] == **needle
            {
                *found.entry(name).or_default() += 1;
            }
        }
        found.into_iter().map(|(name, count)| format!("{name}, {count} times")).collect()
    }

    /// The same in the writable memory of a process.
    fn in_memory(&self, pid: u32) -> Vec<String> {
        const PIECE: u64 = 1 << 18;
        const PAGE: u64 = 4096;
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        let memory = File::open(format!("/proc/{pid}/mem")).expect("memory");
        let pages = File::open(format!("/proc/{pid}/pagemap")).expect("pages");
        // Allocators reserve much more than is ever touched.
        let touched = |from: u64, to: u64| {
            let mut entries = vec![0; (8 * (to - from).div_ceil(PAGE)) as usize];
            let read = pages.read_exact_at(&mut entries, from / PAGE * 8);
            read.is_err() || entries.chunks_exact(8).any(|entry| entry[7] & 0xc0 != 0)
        };
        let mut found = Vec::new();
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
            let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).expect("an address"));
            for at in (from..to).step_by(PIECE as usize) {
                if !touched(at, to.min(at + PIECE)) {
                    continue;
                }
                // A little of the next piece, so that nothing is cut.
                let mut bytes = vec![0; (to - at).min(PIECE + NEEDLE as u64 - 1) as usize];
                // Memory that was given back meanwhile, and that of devices, has nothing to read.
                if memory.read_exact_at(&mut bytes, at).is_ok() {
                    let place = line.split_whitespace().nth(5).unwrap_or("heap");
                    found.extend(
                        self.within(&bytes).iter().map(|what| format!("{what}, in {place} at {at:x}")),
                    );
                }
            }
        }
        found
    }
}

/// A child that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone afterwards.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that waits for its input, of the user that the daemon is.
fn ordinary(root: bool) -> Ended {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn().expect("cat starts");
    // What it echoes shows that it runs as what it is.
    std::io::Write::write_all(child.stdin.as_mut().expect("piped"), b"\n").expect("taken");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("echoed");
    Ended(child)
}

fn owner(pid: u32) -> u32 {
    fs::metadata(format!("/proc/{pid}/environ")).expect("a process").uid()
}

/// Root may, unless it is confined: the daemons are not dumpable.
fn reads_memory_of(pid: u32) -> bool {
    File::open(format!("/proc/{pid}/mem")).is_ok()
}

fn kib(text: &str) -> u64 {
    text.trim().trim_end_matches(" kB").parse().expect("a number")
}
