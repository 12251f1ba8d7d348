//! kill -9 of each daemon while a model is loaded, and while a run takes its matrices. The next load and the next run work, no key is
//! used twice, and no mask of a matrix meets another one.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::{Signal, kill_process};
use suf_tests::{
    caller::Caller,
    loads::Sum,
    moments::{ended_after, number},
    processes::{CAPTURE, Hosts, NAMES, check_from_outside},
};
use suf_wire::Party;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Kills in an ordinary test run: each daemon in loading and in running. `SUF_CRASHES=50` for a long one.
const CRASHES: usize = 6;

/// One model, whose owner and client are connected anew after each kill.
struct Scene {
    model: Sum,
    weights: [Vec<i64>; 2],
    salt: u8,
}

impl Scene {
    /// Loads the model, under a digest of its own.
    async fn load(&mut self, owner: &Caller) -> Result<(), String> {
        self.salt = self.salt.wrapping_add(1).max(1);
        owner.load(&self.model, self.model.terms("ours", self.salt), &self.weights).await.map(drop)
    }

    /// A run on the last load, which is right if it ends well.
    async fn run(&self, client: &Caller, seed: u64) -> Result<(), String> {
        client.is_right(&self.model, self.salt, &self.weights, seed).await
    }

    async fn must_work(&mut self, hosts: &Hosts, what: &str) {
        let [owner, client] = callers(hosts).await;
        let logs = || NAMES.map(|name| hosts.log(name)).join("\n");
        self.load(&owner).await.unwrap_or_else(|error| panic!("{what}: no load works: {error}\n{}", logs()));
        self.run(&client, 1)
            .await
            .unwrap_or_else(|error| panic!("{what}: no run works: {error}\n{}", logs()));
    }

    /// Drops what is there of the last load.
    async fn drop(&self, hosts: &Hosts) {
        let owner = Caller::connect(hosts, "model").await;
        for party in Party::BOTH {
            // A party that was killed has it no more.
            let _ = owner.drop_load(party, self.salt).await;
        }
    }
}

/// The owner and the client, connected to both parties.
async fn callers(hosts: &Hosts) -> [Caller; 2] {
    [Caller::connect(hosts, "model").await, Caller::connect(hosts, "client").await]
}

#[tokio::test]
async fn after_a_kill_at_any_moment_of_a_load_or_of_a_run_on_it_the_next_ones_work() {
    let (crashes, seed) = (number("SUF_CRASHES", CRASHES), number("SUF_CRASH_SEED", 1));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut hosts = Hosts::prepare(Path::new(PROGRAM)).logging(CAPTURE);
    hosts.start_daemons(|_, config| config);
    let model = Sum::new(33, 300, 400);
    let mut scene = Scene { weights: model.weights(1), model, salt: 0 };
    scene.must_work(&hosts, "before any kill").await;
    scene.drop(&hosts).await;
    let [owner, client] = callers(&hosts).await;
    let begun = Instant::now();
    scene.load(&owner).await.expect("before any kill");
    let loading = begun.elapsed();
    let begun = Instant::now();
    scene.run(&client, 2).await.expect("before any kill");
    let running = begun.elapsed();
    scene.drop(&hosts).await;

    let mut failed = [0; 2];
    for crash in 0..crashes {
        let (victim, in_load) = (NAMES[crash % NAMES.len()], (crash / NAMES.len()).is_multiple_of(2));
        let usual: Duration = if in_load { loading } else { running };
        let moment = usual.mul_f64(rng.random_range(0.0..1.1));
        let what = format!("kill {crash}: {victim} after {moment:?} of {usual:?}, loading {in_load}");
        let [owner, client] = callers(&hosts).await;
        let process = hosts.process(victim);
        let kill = || kill_process(process, Signal::KILL).expect("the child is ours");
        let ended = if in_load {
            ended_after(scene.load(&owner), moment, kill).await
        } else {
            scene.load(&owner).await.unwrap_or_else(|error| panic!("{what}: before the kill: {error}"));
            ended_after(scene.run(&client, 3), moment, kill).await
        };
        failed[usize::from(in_load)] += usize::from(ended.is_err());
        hosts.kill(victim);
        hosts.restart(victim);
        scene.drop(&hosts).await;
        scene.must_work(&hosts, &what).await;
        scene.drop(&hosts).await;
    }
    let [runs, loads] = failed;
    println!("{crashes} kills, SUF_CRASH_SEED={seed}: {loads} loads and {runs} runs failed");
    hosts.check_batches(2 * crashes);
    check_from_outside(&[&hosts]);
}
