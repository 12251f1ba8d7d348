//! kill -9 and cut links in the middle of a model, in nodes of every kind. The next run works, and no key is used twice.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    fmt::Display,
    path::Path,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::{Signal, kill_process};
use suf_cli::{client::Parties, program::Values};
use suf_gate::{NodeId, Program};
use suf_link::Identity;
use suf_tests::{
    models::{Task, Tiny},
    processes::{CAPTURE, Hosts, NAMES, check_from_outside, loopback_with_lanes},
    relay::Relay,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Kills and cuts in an ordinary test run; `SUF_CRASHES=500` for a long one.
const CRASHES: usize = 6;

/// Tokens of the text, padding counted.
const TOKENS: u32 = 32;

/// Runs after a failure of which one must work: what was lost may be noticed by the first.
const TRIES: usize = 6;

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().map_or(default, |text| text.parse().ok().expect("a number"))
}

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
        let words = |error: &dyn Display| error.to_string();
        let identity = Identity::load_from(&hosts.folder().join("pki"), "client").expect("a certificate");
        let [first, second] = ["party0", "party1"].map(|name| hosts.control_url(name));
        let parties = Parties::connect([&first, &second], &identity).await.map_err(|error| words(&error))?;
        let inputs: Vec<_> = self.tiny.inputs(&self.task).into_iter().map(Values::new).collect();
        let ran = parties.run_program(self.task.program(), &inputs, None).await;
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
            let kind = last.map_or("before any frame".to_owned(), |node| kind(self.task.program(), node));
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

/// What a node does, without the sizes.
fn kind(program: &Program, node: NodeId) -> String {
    let name = program.node(node).op().def().name();
    name.split_whitespace().next().unwrap_or_default().to_owned()
}

fn lengths(hosts: &Hosts) -> [usize; 2] {
    ["party0", "party1"].map(|name| hosts.log(name).len())
}

/// `run`, which is ended by `end` after `moment`, if it has not ended before.
async fn ended_after<T>(run: impl Future<Output = T>, moment: Duration, end: impl FnOnce()) -> T {
    let mut run = std::pin::pin!(run);
    let early = tokio::time::timeout(moment, &mut run).await;
    end();
    match early {
        Ok(output) => output,
        Err(_) => run.await,
    }
}

#[tokio::test]
async fn after_a_kill_in_any_node_of_a_model_the_next_run_works_and_no_key_is_used_twice() {
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
async fn after_a_cut_link_in_any_node_of_a_model_a_run_works_and_no_key_is_used_twice() {
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
