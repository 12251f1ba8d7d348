//! kill -9 and cut links in the middle of a model: at random moments, and in the exchange of a node of each kind. The next run
//! works, and no key is used twice.

use std::{
    cell::{Cell, OnceCell},
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::Path,
    process::Stdio,
    time::Instant,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::{Signal, kill_process};
use suf_cli::{
    client::Parties,
    program::{Values, With},
};
use suf_control::v1::{self, RunState};
use suf_gate::{NodeId, Program};
use suf_link::{Identity, LinkProfile};
use suf_tests::{
    models::{Task, Tiny},
    moments::{ended_after, number},
    processes::{CAPTURE, Hosts, NAMES, check_from_outside, loopback_with_lanes},
    relay::Relay,
    world::operation,
};
use suf_wire::{Party, RunId};
use tokio::io::{AsyncBufReadExt, BufReader};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Kills and cuts in an ordinary test run; `SUF_CRASHES=500` for a long one.
const CRASHES: usize = 6;

/// Tokens of the text, padding counted.
const TOKENS: u32 = 32;

/// Delay of a link on which a party waits for the other one most of the time, in milliseconds.
const DELAY_MS: f64 = 10.0;

/// Attempts to end a run in one exchange: a busy machine may be late.
const AIMS: usize = 10;

/// Runs after a failure of which one must work: what was lost may be noticed by the first.
const TRIES: usize = 6;

struct Scene {
    tiny: Tiny,
    task: Task,
    rng: StdRng,
    /// Kinds of nodes in which a run was when it was ended, and how often.
    ended_in: BTreeMap<String, usize>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let tiny = Tiny::load();
        let task = tiny.task("the quick brown fox", TOKENS);
        Self { tiny, task, rng: StdRng::seed_from_u64(seed), ended_in: BTreeMap::new() }
    }

    fn hosts(&self, change: impl Fn(&str, String) -> String) -> Hosts {
        let mut hosts = Hosts::prepare(Path::new(PROGRAM)).logging(CAPTURE);
        self.tiny.write(&hosts.folder().join("model"));
        hosts
            .start_daemons(|name, config| format!("{}\n[[models]]\ndir = \"model\"\n", change(name, config)));
        hosts
    }

    /// A run of the model, which gives the vector of the text if it ends well.
    async fn run(&self, hosts: &Hosts) -> Result<(), String> {
        self.run_telling(hosts, &Cell::new(None)).await
    }

    /// The same; `known` has the run's id once a party knows it.
    async fn run_telling(&self, hosts: &Hosts, known: &Cell<Option<RunId>>) -> Result<(), String> {
        let words = |error: &dyn Display| error.to_string();
        let parties = connect(hosts).await?;
        let inputs: Vec<_> = self.tiny.inputs(&self.task).into_iter().map(Values::new).collect();
        let told = |_, now: &v1::Run| known.set(now.run_id[..].try_into().ok().map(RunId));
        let ran = parties.run_program_telling(self.task.program(), &inputs, With::default(), told).await;
        let (outputs, outcome) = ran.map_err(|error| words(&error))?;
        self.tiny.check(&self.task, &outputs[0]).expect("an output that both parties report is right");
        parties.acknowledge(outcome.run).await;
        Ok(())
    }

    async fn must_work(&self, hosts: &Hosts, tries: usize, what: &str) {
        let mut said = Vec::new();
        for _ in 0..tries {
            match self.run(hosts).await {
                Ok(()) => return,
                Err(error) => said.push(error),
            }
        }
        panic!("{what}: no run works afterwards: {said:#?}\n{}", hosts.log("party0"));
    }

    /// Notes the nodes of the last frames that each party sent, if the log has grown since `before`.
    fn note(&mut self, hosts: &Hosts, before: [usize; 2]) {
        for (name, before) in NAMES[1..].iter().zip(before) {
            let log = hosts.log(name);
            let last = log[before.min(log.len())..].lines().rev().find_map(node);
            let kind =
                last.map_or("before any frame".to_owned(), |node| operation(self.task.program(), node));
            *self.ended_in.entry(kind).or_default() += 1;
        }
    }

    fn tell(&self, what: &str, seed: u64, failed: usize, all: usize) {
        println!(
            "{all} {what}, SUF_CRASH_SEED={seed}: {failed} runs failed; where runs were: {:?}",
            self.ended_in
        );
    }
}

/// The node of a frame that a line of the log tells of.
fn node(line: &str) -> Option<NodeId> {
    let (_, rest) = line.split_once("suf_server::captured: sent")?;
    let (_, rest) = rest.split_once("node=")?;
    rest.split(' ').next()?.parse().ok().map(NodeId)
}

/// A client's connections to both parties.
async fn connect(hosts: &Hosts) -> Result<Parties, String> {
    let identity = Identity::load_from(&hosts.folder().join("pki"), "client").expect("a certificate");
    let [first, second] = ["party0", "party1"].map(|name| hosts.control_url(name));
    Parties::connect([&first, &second], &identity).await.map_err(|error| error.to_string())
}

fn lengths(hosts: &Hosts) -> [usize; 2] {
    ["party0", "party1"].map(|name| hosts.log(name).len())
}

#[tokio::test]
async fn after_a_kill_at_any_moment_of_a_model_the_next_run_works_and_no_key_is_used_twice() {
    let (crashes, seed) = (number("SUF_CRASHES", CRASHES), number("SUF_CRASH_SEED", 1));
    let mut scene = Scene::new(seed);
    let mut hosts = scene.hosts(|_, config| config);
    scene.must_work(&hosts, 1, "before any kill").await;
    let begun = Instant::now();
    scene.must_work(&hosts, 1, "before any kill").await;
    let usual = begun.elapsed();
    let mut failed = 0;
    for crash in 0..crashes {
        let victim = NAMES[scene.rng.random_range(0..NAMES.len())];
        let moment = usual.mul_f64(scene.rng.random_range(0.0..1.1));
        let what = format!("kill {crash}: {victim} after {moment:?} of {usual:?}");
        let before = lengths(&hosts);
        let process = hosts.process(victim);
        let ended = ended_after(scene.run(&hosts), moment, || {
            kill_process(process, Signal::KILL).expect("the child is ours");
        });
        failed += usize::from(ended.await.is_err());
        hosts.kill(victim);
        scene.note(&hosts, before);
        hosts.restart(victim);
        scene.must_work(&hosts, 1, &what).await;
    }
    scene.tell("kills", seed, failed, crashes);
    hosts.check_batches(crashes + 1);
    check_from_outside(&[&hosts]);
}

#[tokio::test]
async fn after_a_cut_at_any_moment_of_a_model_a_run_works_and_no_key_is_used_twice() {
    let (crashes, seed) = (number("SUF_CRASHES", CRASHES), number("SUF_CRASH_SEED", 1));
    let mut scene = Scene::new(seed);
    let relay = OnceCell::new();
    let folder = tempfile::tempdir().expect("a folder");
    let link = loopback_with_lanes(folder.path(), 3);
    let hosts = scene.hosts(|name, config| match name {
        "dealer" => config,
        _ => format!("{link}\n{}", Relay::between(&relay, Relay::to, config)),
    });
    let relay: &Relay = relay.get().expect("party 1 connects");
    scene.must_work(&hosts, 1, "through the relay").await;
    let sent = i64::try_from(scene.task.program().message_bits() / 8).expect("few bytes");
    let mut failed = 0;
    for cut in 0..crashes {
        // Both directions count, and the headers of datagrams.
        let bytes = scene.rng.random_range(0..3 * sent);
        let before = lengths(&hosts);
        relay.cut_after(bytes);
        let ended = scene.run(&hosts).await;
        assert!(ended.is_ok() || relay.is_cut(), "cut {cut}: it failed before the cut: {ended:?}");
        failed += usize::from(ended.is_err());
        scene.note(&hosts, before);
        relay.mend();
        scene.must_work(&hosts, TRIES, &format!("cut {cut} after {bytes} bytes")).await;
    }
    scene.tell("cuts", seed, failed, crashes);
    hosts.check_batches(crashes + 1);
    check_from_outside(&[&hosts]);
}

/// A node for each operation that has an exchange, drawn by `rng`.
fn one_of_each(program: &Program, rng: &mut StdRng) -> BTreeMap<String, NodeId> {
    let mut nodes = BTreeMap::<String, Vec<NodeId>>::new();
    for (id, node) in program.nodes() {
        if node.exchanges() > 0 {
            nodes.entry(operation(program, id)).or_default().push(id);
        }
    }
    nodes.into_iter().map(|(name, ids)| (name, ids[rng.random_range(0..ids.len())])).collect()
}

/// The nodes that need the wire of `node`.
fn dependents(program: &Program, node: NodeId) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::from([node]);
    for (id, later) in program.nodes() {
        if later.inputs().iter().any(|input| found.contains(input)) {
            found.insert(id);
        }
    }
    found.remove(&node);
    found
}

/// Waits until the log at `path` says that a frame of `target` is sent, from the byte `begin` on.
async fn sends(path: &Path, begin: usize, target: NodeId) {
    let tail = tokio::process::Command::new("tail")
        .args(["-F", "-c", &format!("+{}", begin + 1)])
        .arg(path)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut tail = tail.expect("coreutils are installed");
    let mut lines = BufReader::new(tail.stdout.take().expect("piped")).lines();
    while let Some(line) = lines.next_line().await.expect("a log is text") {
        if node(&line) == Some(target) {
            return;
        }
    }
    panic!("the log ends");
}

/// The loopback profile with a delay, in a file of `folder`: the lines of a configuration that emulate it.
fn delayed(folder: &Path) -> String {
    let (_, loopback) = LinkProfile::BUILT_IN[0];
    let profile = loopback.replace("delay_ms = 0.03", &format!("delay_ms = {DELAY_MS}"));
    assert_ne!(profile, loopback, "the profile has a delay");
    let path = folder.join("delayed.toml");
    std::fs::write(&path, profile).expect("the folder is writable");
    format!("shaped = true\nlink = \"{}\"", path.display())
}

impl Scene {
    /// A run that `end` ends while `name` waits in the exchange of `target`. Whether it was ended there: its log then has a
    /// frame of `target`, and none that follows from it.
    async fn ended_in_exchange(
        &self,
        hosts: &Hosts,
        name: &str,
        target: NodeId,
        end: impl AsyncFnOnce(RunId),
    ) -> bool {
        let begin = hosts.log(name).len();
        let path = hosts.folder().join(format!("{name}.log"));
        let known = Cell::new(None);
        let mut run = std::pin::pin!(self.run_telling(hosts, &known));
        tokio::select! {
            ended = &mut run => panic!("a run ended without a frame of {target}: {ended:?}"),
            () = sends(&path, begin, target) => {}
        }
        let id = known.get().expect("a run that sends is known");
        let (ended, ()) = tokio::join!(run, end(id));
        let after = dependents(self.task.program(), target);
        let sent: BTreeSet<_> = hosts.log(name)[begin..].lines().filter_map(node).collect();
        sent.contains(&target) && sent.is_disjoint(&after) && ended.is_err()
    }
}

#[tokio::test]
async fn after_a_kill_in_the_exchange_of_each_operation_the_next_run_works_and_no_key_is_used_twice() {
    let mut scene = Scene::new(number("SUF_CRASH_SEED", 1));
    let folder = tempfile::tempdir().expect("a folder");
    let link = delayed(folder.path());
    let mut hosts = scene.hosts(|name, config| match name {
        "dealer" => config,
        _ => format!("{link}\n{config}"),
    });
    scene.must_work(&hosts, 1, "before any kill").await;
    let targets = one_of_each(scene.task.program(), &mut scene.rng);
    let mut kills = 0;
    for (what, &target) in &targets {
        for victim in &NAMES[1..] {
            let mut aims = 0;
            loop {
                aims += 1;
                assert!(aims <= AIMS, "no kill hit the exchange of {what}");
                let process = hosts.process(victim);
                let kill = async |_| kill_process(process, Signal::KILL).expect("the child is ours");
                let hit = scene.ended_in_exchange(&hosts, victim, target, kill).await;
                hosts.kill(victim);
                hosts.restart(victim);
                kills += 1;
                if hit {
                    break;
                }
            }
            scene.must_work(&hosts, 1, &format!("{victim} killed in {what}")).await;
        }
    }
    println!("{kills} kills, at each party in the exchange of each of {:?}", targets.keys());
    hosts.check_batches(kills);
    check_from_outside(&[&hosts]);
}

#[tokio::test]
async fn after_a_cut_in_the_exchange_of_each_operation_a_run_works_and_no_key_is_used_twice() {
    let mut scene = Scene::new(number("SUF_CRASH_SEED", 1));
    let relay = OnceCell::new();
    let folder = tempfile::tempdir().expect("a folder");
    let link = delayed(folder.path());
    let hosts = scene.hosts(|name, config| match name {
        "dealer" => config,
        _ => format!("{link}\n{}", Relay::between(&relay, Relay::to, config)),
    });
    let relay: &Relay = relay.get().expect("party 1 connects");
    scene.must_work(&hosts, 1, "through the relay").await;
    let targets = one_of_each(scene.task.program(), &mut scene.rng);
    let mut cuts = 0;
    for (what, &target) in &targets {
        let mut aims = 0;
        loop {
            aims += 1;
            assert!(aims <= AIMS, "no cut hit the exchange of {what}");
            let hit = scene.ended_in_exchange(&hosts, "party1", target, async |_| relay.cut_after(0)).await;
            relay.mend();
            cuts += 1;
            scene.must_work(&hosts, TRIES, &format!("cut in {what}")).await;
            if hit {
                break;
            }
        }
    }
    println!("{cuts} cuts, in the exchange of each of {:?}", targets.keys());
    hosts.check_batches(cuts);
    check_from_outside(&[&hosts]);
}

#[tokio::test]
async fn a_run_is_cancelled_in_the_exchange_of_each_operation_and_the_next_one_works() {
    let mut scene = Scene::new(number("SUF_CRASH_SEED", 1));
    let folder = tempfile::tempdir().expect("a folder");
    let link = delayed(folder.path());
    let hosts = scene.hosts(|name, config| match name {
        "dealer" => config,
        _ => format!("{link}\n{config}"),
    });
    scene.must_work(&hosts, 1, "before any cancel").await;
    let parties = connect(&hosts).await.expect("they answer");
    let targets = one_of_each(scene.task.program(), &mut scene.rng);
    for (what, &target) in &targets {
        let mut aims = 0;
        loop {
            aims += 1;
            assert!(aims <= AIMS, "no cancel hit the exchange of {what}");
            // It gives each party less than a second.
            let cancel = async |run| {
                for (party, ended) in Party::BOTH.into_iter().zip(parties.cancel(run).await) {
                    let state = ended.unwrap_or_else(|error| panic!("{party} in {what}: {error:?}"));
                    // The other party may have heard of it first.
                    assert!(
                        matches!(state, RunState::Cancelled | RunState::Failed),
                        "{party} in {what}: {state:?}"
                    );
                }
            };
            let hit = scene.ended_in_exchange(&hosts, "party0", target, cancel).await;
            scene.must_work(&hosts, 1, &format!("cancelled in {what}")).await;
            if hit {
                break;
            }
        }
    }
    check_from_outside(&[&hosts]);
}
