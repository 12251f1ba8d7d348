//! Times every kernel of the published gates on the first GPU, against what memory and AES rates allow: the tables of
//! `docs/gpu.md`.
//!
//! `cargo run --release -p suf-cuda --example kernels [-- [PROTOCOL...] [FUNCTION...] [ELEMENTS...]]`

use std::{env, process::ExitCode};

use suf_cuda::{
    CudaBackend,
    measure::{GateTimes, KernelTime, Rates},
};
use suf_gate::{Backend, BackendError, Gate, catalog};

/// BERT-base, BERT-large and Llama-7B, one layer at 128 tokens.
const ELEMS: [u64; 3] = [393_216, 524_288, 1_409_024];

/// Functions of the published comparison.
const FUNCTIONS: [&str; 2] = ["gelu", "silu"];

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
    let (sizes, names): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|word| word.parse::<u64>().is_ok());
    let asked: Vec<u64> = sizes.iter().filter_map(|size| size.parse().ok()).collect();
    let sizes = if asked.is_empty() { &ELEMS[..] } else { &asked };
    let wanted = |gate: &Gate| {
        let [protocol, function] = [gate.protocol().name(), gate.name()].map(str::to_owned);
        let functions: Vec<_> = names.iter().filter(|name| FUNCTIONS.contains(&name.as_str())).collect();
        let protocols = names.len() - functions.len();
        FUNCTIONS.contains(&gate.name())
            && (functions.is_empty() || functions.contains(&&function))
            && (protocols == 0 || names.contains(&protocol))
    };

    let gpu = CudaBackend::new(0)?;
    let rates = gpu.rates()?;
    let info = gpu.info();
    let clocks = info.clocks.map_or_else(String::new, |clocks| {
        format!(", multiprocessors at {} MHz, memory at {} MHz", clocks.processor_mhz, clocks.memory_mhz)
    });
    println!(
        "{}{clocks}; copies {:.2} TB/s, AES {:.1} G/s; medians of {REPEATS}",
        info.device,
        rates.bytes / 1e12,
        rates.aes / 1e9
    );
    for gate in catalog::builtin().filter(wanted) {
        for elems in sizes {
            let (protocol, name, bits) = (gate.protocol(), gate.name(), gate.declared().bits);
            println!("\n{protocol} {name}, {bits} bits/direction, {elems} elements\n");
            match gpu.measure(&gate, *elems, REPEATS) {
                Ok(times) => print(&times, rates),
                Err(error) => println!("{error}"),
            }
        }
    }
    Ok(())
}

fn print(times: &GateTimes, rates: Rates) {
    println!("| kernel | ms | MB | M AES | least ms | bound by | reached |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for time in times.deal.iter().chain(&times.stage).chain(&times.eval) {
        let KernelTime { kernel, median_ms, bytes, aes } = time;
        let (memory_ms, aes_ms) = (bytes / rates.bytes * 1e3, aes / rates.aes * 1e3);
        let (least, by, reached) = if *kernel == "upload" {
            (String::new(), "the bus", format!("{:.1} GB/s", bytes / median_ms / 1e6))
        } else {
            let least = memory_ms.max(aes_ms);
            let by = if memory_ms > aes_ms { "memory" } else { "AES" };
            (format!("{least:.4}"), by, format!("{:.0} %", 100.0 * least / median_ms))
        };
        let (mb, calls) = (bytes / 1e6, aes / 1e6);
        println!("| {kernel} | {median_ms:.4} | {mb:.2} | {calls:.2} | {least} | {by} | {reached} |");
    }
    let sum = |times: &[KernelTime]| times.iter().map(|time| time.median_ms).sum::<f64>();
    println!(
        "\ndeal {:.3} ms, to the host {:.3} ms; evaluation {:.3} ms, with the upload {:.3} ms",
        sum(&times.deal),
        times.deal_to_host_ms,
        sum(&times.eval),
        sum(&times.eval) + sum(&times.stage),
    );
}
