//! kill -9 of any process at any moment: the next run works, and no batch is consumed twice.

use std::{
    path::Path,
    process::{Child, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_gate::{Gate, Protocol, catalog, gatefile::GateFile};
use suf_tests::{
    inputs, npy,
    processes::{CAPTURE, Hosts, NAMES, check_from_outside, expect_own_words},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Elements of a run: more than one tile, so that a kill can fall between tiles.
const ELEMS: usize = 150_000;

/// Kills in an ordinary test run; `SUF_CRASHES=500` for a long one.
const CRASHES: usize = 6;

#[test]
fn after_a_kill_at_any_moment_the_next_run_works_and_no_batch_is_used_twice() {
    let crashes = std::env::var("SUF_CRASHES").map_or(CRASHES, |count| count.parse().expect("a number"));
    let seed = std::env::var("SUF_CRASH_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("{crashes} kills, SUF_CRASH_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);

    let file = GateFile::builtin("gelu").expect("built in");
    let gate = catalog::gate(&file, Protocol::Onehot, None).expect("in the file");
    let mut hosts = Hosts::prepare(Path::new(PROGRAM)).logging(CAPTURE);
    hosts.start_daemons(|_, config| config);
    let x = inputs::awkward(&gate, ELEMS, seed);
    npy::write_i64(&hosts.folder().join("x.npy"), &x);

    let begun = Instant::now();
    must_work(&hosts, &gate, &x, "before any kill");
    let usual = begun.elapsed();
    for crash in 0..crashes {
        let victim = NAMES[rng.random_range(0..NAMES.len())];
        let moment = usual.mul_f64(rng.random_range(0.0..1.1));
        let what = format!("kill {crash}: {victim} after {moment:?} of {usual:?}");
        let run = hosts
            .eval(&["--protocol", "onehot"], "x.npy")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("suf starts");
        let run = End::of(run);
        let early = run.within(moment);
        hosts.kill(victim);
        let output = early.unwrap_or_else(|| run.within(Duration::from_secs(60)).expect("a run ends"));
        let (code, said) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
        assert!(matches!(code, Some(0 | 1)), "{what}: {code:?}, {said}");
        expect_own_words(&said, &what);
        for name in NAMES {
            assert_eq!(hosts.is_alive(name), name != victim, "{what}: {name}");
        }
        hosts.restart(victim);
        must_work(&hosts, &gate, &x, &what);
    }
    hosts.check_batches(crashes + 1);
    check_from_outside(&[&hosts]);
}

fn must_work(hosts: &Hosts, gate: &Gate, x: &[i64], what: &str) {
    let output = hosts.onehot("x.npy");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: the run after it failed: {said}\n{}", logs(hosts));
    let y = npy::read_i64(&hosts.folder().join("y.npy"));
    assert_eq!(y.len(), x.len(), "{what}");
    for (x, y) in x.iter().zip(&y) {
        assert!(gate.reference(*x).contains(y), "{what}: x = {x} gives {y}");
    }
}

fn logs(hosts: &Hosts) -> String {
    let last = |name: &str| {
        let log = hosts.log(name);
        let lines: Vec<_> = log.lines().rev().take(6).collect();
        format!("{name}:\n  {}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n  "))
    };
    NAMES.map(last).concat()
}

/// The end of a child, as an event.
struct End(mpsc::Receiver<Output>);

impl End {
    fn of(child: Child) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let output = child.wait_with_output().expect("the child is ours");
            // The test may have failed meanwhile.
            let _ = sender.send(output);
        });
        Self(receiver)
    }

    /// The output, if the child ends within `limit`.
    fn within(&self, limit: Duration) -> Option<Output> {
        self.0.recv_timeout(limit).ok()
    }
}
