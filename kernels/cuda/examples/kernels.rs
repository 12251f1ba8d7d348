//! Times every kernel of the published gates on the first GPU, against what memory and AES rates allow.
//!
//! `cargo run --release -p suf-cuda --example kernels [-- ELEMENTS...]`

use std::{env, process::ExitCode};

use suf_cuda::{
    CudaBackend,
    measure::{KernelTime, Rates},
};
use suf_gate::{Backend, BackendError, catalog};

/// BERT-base, BERT-large and Llama-7B, one layer at 128 tokens.
const ELEMS: [u64; 3] = [393_216, 524_288, 1_409_024];

/// Timed runs of each kernel.
const REPEATS: usize = 31;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kernels: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), BackendError> {
    let gpu = CudaBackend::new(0)?;
    let rates = gpu.rates()?;
    println!("{}: copies {:.2} TB/s, AES {:.1} G/s", gpu.info().device, rates.bytes / 1e12, rates.aes / 1e9);
    let asked: Vec<u64> = env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    for gate in catalog::builtin().filter(|gate| matches!(gate.name(), "gelu" | "silu")) {
        for elems in if asked.is_empty() { &ELEMS[..] } else { &asked[..] } {
            let title = format!(
                "{} {} {} bits/direction, {elems} elements",
                gate.protocol(),
                gate.name(),
                gate.declared().bits
            );
            let times = match gpu.measure(&gate, *elems, REPEATS) {
                Ok(times) => times,
                Err(error) => {
                    println!("\n{title}: {error}");
                    continue;
                }
            };
            println!("\n{title}");
            let sum = |times: &[KernelTime]| times.iter().map(|time| time.median_ms).sum::<f64>();
            println!("  {:<24} {:>9} {:>9} {:>9} {:>7}", "kernel", "ms", "MB", "M AES", "bound");
            for time in times.deal.iter().chain(&times.stage).chain(&times.eval) {
                print(time, rates);
            }
            println!(
                "  deal {:.3} ms, to the host {:.3} ms; evaluation {:.3} ms, with the upload {:.3} ms",
                sum(&times.deal),
                times.deal_to_host_ms,
                sum(&times.eval),
                sum(&times.eval) + sum(&times.stage),
            );
        }
    }
    Ok(())
}

fn print(time: &KernelTime, rates: Rates) {
    let bound_ms = (time.bytes / rates.bytes).max(time.aes / rates.aes) * 1e3;
    let share = if time.kernel == "upload" {
        format!("{:.0} GB/s", time.bytes / time.median_ms / 1e6)
    } else {
        format!("{:.0} %", 100.0 * bound_ms / time.median_ms)
    };
    println!(
        "  {:<24} {:>9.4} {:>9.2} {:>9.2} {share:>7}",
        time.kernel,
        time.median_ms,
        time.bytes / 1e6,
        time.aes / 1e6
    );
}
