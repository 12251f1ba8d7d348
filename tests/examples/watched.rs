//! What it costs a run to be watched: `cargo run --release -p suf-tests --example watched -- PROGRAM [PAIRS]`.
//!
//! Two sets of daemons on loopback evaluate the activation of one layer of bert-base, in turns. The one has no admin address. The other
//! has one, read once a second by a scraper, and sends its traces to a collector. PROGRAM is `suf`.

#[path = "../tests/collector/mod.rs"]
mod collector;

use std::{
    env,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use collector::Receiving;
use suf_tests::{
    npy, pages,
    processes::{Hosts, NAMES, expect},
};

/// Tokens, and values of each: a layer's tensor.
const ELEMS: usize = 128 * 3072;

/// Pairs of runs, if no number is given.
const PAIRS: usize = 30;

/// How often the pages are read.
const SCRAPES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let Some(program) = arguments.next() else { return ExitCode::from(2) };
    let pairs = arguments.next().and_then(|pairs| pairs.parse().ok()).unwrap_or(PAIRS);
    let program = Path::new(&program).canonicalize().expect("the program is there");
    let collector = Receiving::start();
    let plain = start(&program, |_, config| config);
    let watched = start(&program, |name, config| {
        let otlp = match name {
            "dealer" => String::new(),
            _ => format!("otlp = \"http://{}\"\n", collector.address),
        };
        format!("admin = \"127.0.0.1:0\"\n{otlp}{config}")
    });
    let addresses = NAMES.map(|name| watched.admin(name));
    let (stop, stopped) = channel::<()>();
    let scraper = thread::spawn(move || {
        while stopped.recv_timeout(SCRAPES) == Err(RecvTimeoutError::Timeout) {
            for address in &addresses {
                for path in ["/metrics", "/readyz"] {
                    pages::fetch(address, path).expect("the page");
                }
            }
        }
    });
    let mut samples = [Vec::new(), Vec::new()];
    for pair in 0..=pairs {
        // Who is first changes, so that neither has the other's warmth each time.
        let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let time = run([&plain, &watched][which]);
            // The first pair warms up.
            if pair > 0 {
                samples[which].push(time);
            }
        }
    }
    drop(stop);
    scraper.join().expect("the pages were read");
    let ratios = samples[1].iter().zip(&samples[0]).map(|(watched, plain)| watched / plain).collect();
    let told = collector.requests.try_iter().count();
    let [plain, watched] = samples.map(median);
    let ratio = median(ratios);
    let text = format!(
        "{pairs} pairs of runs: {plain:.3} ms alone, {watched:.3} ms watched; median of the ratios {ratio:.4}; \
         {told} traces\n"
    );
    // A reader that is gone is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn start(program: &Path, change: impl Fn(&str, String) -> String) -> Hosts {
    let hosts = Hosts::start_with(program, change);
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; ELEMS]);
    hosts
}

/// Milliseconds of a run, from the opening of its input to its end.
fn run(hosts: &Hosts) -> f64 {
    expect(&hosts.onehot("x.npy"), 0, &[], "a run");
    hosts.last_figures("party0")["run_ms"].as_f64().expect("a time")
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
