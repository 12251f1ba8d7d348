//! Dealer, parties and client as processes on hosts of their own. The network is cut in the middle of a run. A party is
//! killed or stopped there. A disk is full, there are no file descriptors, or others can read a key. Each time the run
//! ends with an error before its deadline, at both parties. The next one works, and no key is used twice.
//!
//! The hosts are network namespaces, in a user-mode kernel where this machine's own has no netem. What a fault falls upon is a
//! state that a party told over the control API, never a moment by the clock.

use std::{
    env, fs,
    io::{BufRead, BufReader, Lines},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;
use suf_gate::{Gate, Protocol, catalog, gatefile::GateFile};
use suf_lab::{Host, Lab, LabPlan, NamedProfile, Network, check_kernel, uml};
use suf_skip::{Need, skip};
use suf_tests::{
    caller::Caller,
    disk::SmallDisk,
    holdings::{in_use, info, memory, nothing_in_use},
    inputs, npy,
    processes::{CAPTURE, Hosts, NAMES, check_from_outside, expect},
};
use suf_wire::Party;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;
const FAILED: i32 = 1;

/// Whom a failure blames.
const PEER: &str = "FAULT_PEER";
const DEALER: &str = "FAULT_DEALER";
const CALLER: &str = "FAULT_CALLER";

/// States in which parties send what depends on keys. One waits for its input, or for the peer, while the other has begun.
const AT_WORK: &[&str] = &["ready_for_input", "opening", "evaluating"];

/// Between the parties. Opening 40 000 inputs takes 1.9 s and the exchanges 2.8 s. That is many times what it takes to
/// see that they have begun.
const PEER_LINK: &str = "rate_bps = 1_000_000\ndelay_ms = 5.0\nlimit_packets = 2000\nmtu = 1500\n";

/// To the dealer: the keys of such a run take 1.3 s.
const KEY_LINK: &str = "rate_bps = 48_000_000\ndelay_ms = 1.0\nlimit_packets = 4000\nmtu = 1500\n";

/// Elements of a run that something happens to.
const MANY: usize = 40_000;

/// The small disk, in MiB: the keys of a run of MANY fit, 3.2 MB.
const DISK_MIB: u32 = 6;

/// Elements of a run whose keys take half a minute.
const HUGE: usize = 1_000_000;

/// Elements of a run that has to work.
const FEW: usize = 100;

/// What a run may take, in seconds. One that something happened to ends before.
const DEADLINE_S: &str = "90";

/// The same for one that its lease has to end.
const LATE_DEADLINE_S: &str = "600";

/// Runs wait for networks, with no client meanwhile.
const LONG_LEASE: &str = "lease_s = 600\n";

/// The default, and a run waits longer for its input, so that the lease is what ends it.
const DEFAULT_LEASE: &str = "input_wait_s = 600\n";

/// Runs of clients that are cut off, in an ordinary test run. `SUF_CUT_OFF=32` cuts off 32, and as many again, with an eye on the
/// parties' memory.
const CUT_OFF: usize = 8;
const RUNS_OF_EACH: usize = 4;
const MIB: u64 = 1 << 20;

/// What as many clients again may add to a party's memory.
const ADDED_AT_MOST: u64 = 64 * MIB;

/// How long the bytes of clients that are gone may be held.
const HELD_AT_MOST: Duration = Duration::from_secs(90);

/// Runs on a mended network of which one must work; each that does not waits 10 s for the connection.
const TRIES: usize = 6;

#[test]
fn faults_on_hosts_of_their_own_cost_the_run_that_they_fall_upon() {
    match check_kernel() {
        Ok(()) => all(),
        Err(why) => match uml::instead_of_host(why) {
            Ok(why) => {
                eprintln!("in a user-mode kernel: {why}");
                let command = [env::current_exe().expect("our path").into(), "--nocapture".into()];
                assert_eq!(uml::run(&command).expect("the kernel runs"), 0);
            }
            Err(why) => skip(
                Need::Namespaces,
                format!("nothing was cut, killed or filled on a host of its own: {why}"),
            ),
        },
    }
}

/// Most of the time is spent waiting for a silence to be long enough, hence side by side.
fn all() {
    let disk = SmallDisk::mount(DISK_MIB).expect("root may mount");
    let scenes: [(fn(&mut Scene<'_>), _, _); 4] = [
        (networks_between_the_parties, None, LONG_LEASE),
        (standing_still_and_disks, Some(&disk), LONG_LEASE),
        (the_rest, None, LONG_LEASE),
        (clients_that_are_cut_off, None, DEFAULT_LEASE),
    ];
    let played = thread::scope(|scope| {
        let started = scenes.map(|(play, disk, lease)| {
            scope.spawn(move || {
                let mut scene = Scene::prepare(disk, lease);
                play(&mut scene);
                scene.finish()
            })
        });
        started.map(|scene| scene.join().expect("what it says stands above"))
    });
    check_from_outside(&played.each_ref());
}

/// At one party's end while the inputs are opened, at the other's during the exchanges.
fn networks_between_the_parties(scene: &mut Scene<'_>) {
    for (state, host) in [("opening", Host::Party1), ("evaluating", Host::Party0)] {
        let mut run = scene.start_run(MANY);
        run.feed(scene);
        run.reaches("party0", state);
        scene.link(host, Network::Peer, false);
        // The client hears of it from one party, and may give the run up at the other before that notices.
        run.fails(scene, "party0", AT_WORK, &[PEER, CALLER]);
        run.fails(scene, "party1", AT_WORK, &[PEER, CALLER]);
        run.is_told();
        scene.link(host, Network::Peer, true);
        scene.works_again();
    }
}

/// A party that stands still, and one whose disk is full.
fn standing_still_and_disks(scene: &mut Scene<'_>) {
    let disk = scene.disk.expect("party 0's state is on it");
    let mut run = scene.start_run(MANY);
    run.feed(scene);
    run.reaches("party1", "evaluating");
    scene.hosts.stand_still("party0");
    run.fails(scene, "party1", &["evaluating"], &[PEER]);
    run.is_told();
    scene.hosts.go_on("party0");
    // It finds its connections dead and the client's cancellation waiting, in either order.
    run.watches.clear();
    run.fails(scene, "party0", AT_WORK, &[PEER, CALLER]);
    scene.works_again();

    let filler = disk.fill();
    expect(&scene.hosts.onehot("few.npy"), FAILED, &["party 0", "space"], "on a full disk");
    fs::remove_file(filler).expect("it is there");
    scene.works_again();
}

/// A party that is killed, a dealer whose network is cut, no file descriptors, and a private key that others can read.
fn the_rest(scene: &mut Scene<'_>) {
    let mut run = scene.start_run(MANY);
    run.feed(scene);
    run.reaches("party0", "evaluating");
    scene.hosts.kill("party1");
    // The client loses its connection to party 1 at once, and may give the run up before party 0 does.
    run.fails(scene, "party0", &["evaluating"], &[PEER, CALLER]);
    run.is_told();
    scene.hosts.restart("party1");
    scene.works_again();

    let mut run = scene.start_run(HUGE);
    run.reaches("party0", "dealing");
    scene.link(Host::Dealer, Network::Keys, false);
    run.fails(scene, "party0", &["dealing"], &[DEALER]);
    run.fails(scene, "party1", &["dealing"], &[DEALER]);
    scene.link(Host::Dealer, Network::Keys, true);
    scene.works_again();

    let pid = scene.hosts.process("party1");
    // The hard limit was inherited from here. What is open stays open; nothing more can be opened.
    let few = Rlimit { current: Some(3), maximum: getrlimit(Resource::Nofile).maximum };
    let before = prlimit(Some(pid), Resource::Nofile, few).expect("the child is ours");
    expect(&scene.hosts.onehot("few.npy"), FAILED, &["party1"], "without file descriptors");
    prlimit(Some(pid), Resource::Nofile, before).expect("the child is ours");
    scene.works_again();

    scene.hosts.kill("party1");
    let key = scene.hosts.folder().join("pki/party1.key");
    let private = fs::metadata(&key).expect("it is there").permissions();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let refused = scene.hosts.command_on(Host::Party1, &["party", "--config", "party1.toml"]).output();
    let words = ["party1.key", "can be read by others"];
    expect(&refused.expect("suf starts"), FAILED, &words, "with a key that others can read");
    fs::set_permissions(&key, private).expect("it is ours");
    scene.hosts.restart("party1");
    scene.works_again();
}

/// Calls stay open until the parties find that nobody answers on them. Then runs end by their lease.
fn clients_that_are_cut_off(scene: &mut Scene<'_>) {
    let asked = env::var("SUF_CUT_OFF").ok().map(|count| count.parse().expect("a number"));
    let count: usize = asked.unwrap_or(CUT_OFF);
    let clients: Vec<&str> =
        (0..count / RUNS_OF_EACH).map(|number| &*format!("cut-off-{number}").leak()).collect();
    clients.iter().for_each(|client| scene.hosts.issue("client", client));
    cut_off(scene, &clients, 0);
    if asked.is_none() {
        return;
    }
    let resident =
        |scene: &mut Scene<'_>| ["party0", "party1"].map(|name| memory(scene.hosts.pid(name), "VmRSS:"));
    let before = resident(scene);
    cut_off(scene, &clients, clients.len() * RUNS_OF_EACH);
    for (name, (before, after)) in NAMES[1..].iter().zip(before.into_iter().zip(resident(scene))) {
        eprintln!("{name}: {} MiB, then {} MiB", before / MIB, after / MIB);
        assert!(after < before + ADDED_AT_MOST, "{name} grew from {} to {} MiB", before / MIB, after / MIB);
    }
}

/// A round of it, after `earlier` runs that ended so.
fn cut_off(scene: &mut Scene<'_>, clients: &[&'static str], earlier: usize) {
    let starts = clients.iter().flat_map(|client| [*client; RUNS_OF_EACH]);
    // Watched at both from the start: no lease may end before all are started.
    let start = |client| {
        let mut run = scene.start_run_of(client, FEW, LATE_DEADLINE_S);
        run.watch(scene, "party1");
        run
    };
    let mut runs: Vec<Run> = starts.map(start).collect();
    for run in &mut runs {
        run.reaches("party0", "ready-for-input");
        run.reaches("party1", "ready-for-input");
    }
    scene.link(Host::Client, Network::Control, false);
    let gone = Instant::now();
    // An observer elsewhere hears of the end.
    scene.observe(async |observer| {
        let [shares_0, ..] = in_use(&info(&observer, Party::P0).await);
        let [shares_1, keys_1, _] = in_use(&info(&observer, Party::P1).await);
        // Of the first tile party 0 expands its half of the key from a seed.
        assert!(shares_0 > 0 && shares_1 > 0 && keys_1 > 0, "they hold {shares_0}, {shares_1} and {keys_1}");
        for party in Party::BOTH {
            let mut deserted = 0;
            for end in observer.ends(party).await {
                let reason = end.failure.map(|failure| failure.reason).unwrap_or_default();
                // The party whose lease ends first tells the other.
                deserted += usize::from(reason.contains("its client is gone"));
            }
            assert_eq!(deserted, earlier + runs.len(), "{party}");
        }
        nothing_in_use(&observer).await;
    });
    eprintln!("{} runs of clients that were cut off held nothing {:?} later", runs.len(), gone.elapsed());
    assert!(gone.elapsed() < HELD_AT_MOST, "held for {:?}", gone.elapsed());
    drop(runs);
    scene.link(Host::Client, Network::Control, true);
    scene.works_within(1);
}

/// Daemons on hosts of their own, and a tensor that they must get right.
struct Scene<'a> {
    hosts: Hosts,
    /// Where party 0's state is, if not with everything else.
    disk: Option<&'a SmallDisk>,
    gate: Gate,
    x: Vec<i64>,
    /// Runs that have worked.
    worked: usize,
}

impl<'a> Scene<'a> {
    /// With party 0's state on `disk`, if there is one; then its keys are there too. What the parties' configurations say of
    /// leases is `lease`.
    fn prepare(disk: Option<&'a SmallDisk>, lease: &str) -> Self {
        let links = tempfile::tempdir().expect("a temporary folder");
        let profile = |name: &str, text: &str| {
            let file = links.path().join(name);
            fs::write(&file, text).expect("writable");
            NamedProfile::find(&file.display().to_string()).expect("a profile")
        };
        let plan = LabPlan { peer: profile("peer.toml", PEER_LINK), dealer: profile("keys.toml", KEY_LINK) };
        let lab = Lab::up(plan).expect("a lab");
        let mut hosts = Hosts::prepare_in(Path::new(PROGRAM), lab).logging(CAPTURE);
        fs::write(hosts.folder().join("keys.toml"), KEY_LINK).expect("writable");
        fs::write(hosts.folder().join("peer.toml"), PEER_LINK).expect("writable");
        hosts.start_daemons(|name, config| {
            let config = if name == "dealer" { config } else { format!("{lease}{config}") };
            let config = match (name, disk) {
                ("dealer", _) => config.replace("\"loopback\"", "\"./keys.toml\""),
                ("party0", Some(disk)) => {
                    let state = format!("\"{}\"\nkey_memory_mb = 0", disk.path().display());
                    format!("link = \"./peer.toml\"\n{}", config.replace("\"state-party0\"", &state))
                }
                _ => format!("link = \"./peer.toml\"\n{config}"),
            };
            // Locking is slow in a user-mode kernel, and nothing here is about memory.
            format!("lock_memory = false\n{config}")
        });
        let file = GateFile::builtin("gelu").expect("built in");
        let gate = catalog::gate(&file, Protocol::Onehot, None).expect("in the file");
        let x = inputs::awkward(&gate, FEW, 1);
        npy::write_i64(&hosts.folder().join("few.npy"), &x);
        npy::write_i64(&hosts.folder().join("many.npy"), &inputs::awkward(&gate, MANY, 2));
        Self { hosts, disk, gate, x, worked: 0 }
    }

    /// A run of `elements`, which waits for its input; party 0 has accepted it.
    fn start_run(&self, elements: usize) -> Run {
        self.start_run_of("client", elements, DEADLINE_S)
    }

    /// The same, of the client with the certificate `client`.
    fn start_run_of(&self, client: &'static str, elements: usize, deadline_s: &str) -> Run {
        let elements = elements.to_string();
        let [options @ .., _] = self.hosts.as_client();
        let output = self
            .hosts
            .command(&["run", "--gate", "gelu", "--protocol", "onehot", "--elements", &elements])
            .args(["--deadline", deadline_s, "--json"])
            .args(options)
            .arg(format!("pki/{client}.pem"))
            .output()
            .expect("suf starts");
        expect(&output, DONE, &[], "starting a run");
        let started: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let id = started["run_id"].as_str().expect("text").to_owned();
        let mut run = Run { client, id, watches: Vec::new(), feeder: None };
        run.watch(self, "party0");
        run
    }

    fn link(&self, host: Host, network: Network, up: bool) {
        self.hosts.lab().set_link(host, network, up).expect("it is on that network");
    }

    /// The next run works as soon as the network does. A handshake that began during the cut repeats its packets at
    /// growing intervals. The first run may not wait for it.
    fn works_again(&mut self) {
        self.works_within(TRIES);
    }

    /// One of the next `tries` runs works.
    fn works_within(&mut self, tries: usize) {
        let y = self.hosts.folder().join("y.npy");
        // What an earlier run left.
        let _ = fs::remove_file(&y);
        let again = (0..tries).map(|_| self.hosts.onehot("few.npy")).find(|output| output.status.success());
        assert!(again.is_some(), "no run works: {}", NAMES.map(|name| self.hosts.log(name)).concat());
        let y = npy::read_i64(&y);
        assert_eq!(y.len(), self.x.len());
        for (x, y) in self.x.iter().zip(&y) {
            assert!(self.gate.reference(*x).contains(y), "x = {x} gives {y}");
        }
        self.worked += 1;
    }

    /// Lets an observer work on the dealer's host, which is cut off from nobody.
    fn observe(&self, work: impl AsyncFnOnce(Caller) + Send) {
        let on_its_host = || {
            self.hosts.lab().enter(Host::Dealer).expect("the host is there");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                work(Caller::connect(&self.hosts, "observer").await).await;
            });
        };
        thread::scope(|scope| scope.spawn(on_its_host).join().expect("what it says stands above"));
    }

    /// The daemons, all of which live.
    fn finish(mut self) -> Hosts {
        for name in NAMES {
            assert!(self.hosts.is_alive(name), "{name} died: {}", self.hosts.log(name));
        }
        self.hosts.check_batches(self.worked);
        self.hosts
    }
}

/// A run that something is going to happen to.
struct Run {
    /// Whose it is.
    client: &'static str,
    id: String,
    watches: Vec<Watch>,
    /// The client with its tensor.
    feeder: Option<Child>,
}

impl Run {
    /// Lets a client send the tensor, once both parties wait for it.
    fn feed(&mut self, scene: &Scene<'_>) {
        self.reaches("party0", "ready-for-input");
        self.watch(scene, "party1");
        let mut feeder = scene.hosts.eval(&["--protocol", "onehot", "--run", &self.id], "many.npy");
        self.feeder = Some(feeder.stderr(Stdio::piped()).spawn().expect("suf starts"));
    }

    /// Its client watches it at `party` from now on.
    fn watch(&mut self, scene: &Scene<'_>, party: &'static str) {
        self.watches.push(Watch::start(&scene.hosts, self, party));
    }

    /// Waits until `party` says that the run is in `state`.
    fn reaches(&mut self, party: &str, state: &str) {
        let watch = self.watches.iter_mut().find(|watch| watch.party == party).expect("it is watched");
        let reached = watch.states.by_ref().any(|line| state_of(&line.expect("text")) == state);
        assert!(reached, "{party} never said that the run is {state}");
    }

    /// Waits until the run has ended at `party`, before its deadline, in one of `states` and for one of `faults`.
    fn fails(&mut self, scene: &Scene<'_>, party: &'static str, states: &[&str], faults: &[&str]) {
        let at = self.watches.iter().position(|watch| watch.party == party);
        let watch = at.map(|at| self.watches.remove(at));
        let watch = watch.unwrap_or_else(|| Watch::start(&scene.hosts, self, party));
        let last = watch.last();
        let failure = &last["failure"];
        let reason = failure["reason"].as_str().unwrap_or_else(|| panic!("{party}: {last}"));
        eprintln!("{party}, {}: {reason}", failure["step"]);
        assert!(faults.iter().any(|fault| failure["fault"] == *fault), "{party}: {last}");
        assert!(states.iter().any(|state| failure["step"] == *state), "{party}: {last}");
        assert!(!reason.contains("deadline"), "{party} waited for the run's deadline: {reason}");
    }

    /// The client is told that its run has failed.
    fn is_told(&mut self) {
        let feeder = self.feeder.take().expect("it was fed");
        expect(&feeder.wait_with_output().expect("the child is ours"), FAILED, &["party"], "the client");
    }
}

/// What a party tells of a run.
struct Watch {
    party: &'static str,
    child: Child,
    states: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(hosts: &Hosts, run: &Run, party: &'static str) -> Self {
        let mut command = hosts.command(&["watch", &run.id, "--json"]);
        command.args(hosts.with_certificate(run.client, party)).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("suf starts");
        let states = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { party, child, states }
    }

    /// What the party says of the run at its end.
    fn last(mut self) -> Value {
        let last = self.states.by_ref().last().expect("a state").expect("text");
        serde_json::from_str(&last).expect("JSON")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state_of(line: &str) -> String {
    let run: Value = serde_json::from_str(line).expect("JSON");
    run["state"].as_str().expect("a state").to_owned()
}
