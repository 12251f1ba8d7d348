//! Times every kernel of the published gates on the first GPU, against what memory and AES rates allow: the tables of
//! `docs/gpu.md`.
//!
//! `cargo run --release -p suf-cuda --example kernels [-- [linear] [PROTOCOL...] [FUNCTION...] [ELEMENTS...]]`
//!
//! With `linear` it times whole batches of any size, tile after tile, and tells the card's memory.

#[macro_use]
#[path = "../../gate/examples/output/mod.rs"]
mod output;

use std::{env, process::ExitCode};

use suf_cuda::{
    CudaBackend,
    measure::{GateTimes, KernelTime, LinearTimes, Rates},
};
use suf_gate::{Backend, BackendError, Gate, catalog};

/// BERT-base, BERT-large and Llama-7B, one layer at 128 tokens.
const ELEMS: [u64; 3] = [393_216, 524_288, 1_409_024];

/// From many tiles on.
const LINEAR_ELEMS: [u64; 3] = [1_000_000, 10_000_000, 100_000_000];

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
    let (sizes, mut names): (Vec<_>, Vec<_>) =
        env::args().skip(1).partition(|word| word.parse::<u64>().is_ok());
    let linear = names.iter().position(|name| name == "linear").map(|at| names.remove(at)).is_some();
    let asked: Vec<u64> = sizes.iter().filter_map(|size| size.parse().ok()).collect();
    let sizes = match linear {
        _ if !asked.is_empty() => &asked[..],
        true => &LINEAR_ELEMS,
        false => &ELEMS,
    };
    let wanted = |gate: &Gate| {
        let [protocol, function] = [gate.protocol().name(), gate.name()].map(str::to_owned);
        let functions: Vec<_> = names.iter().filter(|name| FUNCTIONS.contains(&name.as_str())).collect();
        let protocols = names.len() - functions.len();
        FUNCTIONS.contains(&gate.name())
            && (functions.is_empty() || functions.contains(&&function))
            && (protocols == 0 || names.contains(&protocol))
    };

    let gpu = CudaBackend::new(0)?;
    if linear {
        return print_linear(&gpu, catalog::builtin().filter(wanted), sizes);
    }
    let rates = gpu.rates()?;
    let info = gpu.info();
    let clocks = info.clocks.map_or_else(String::new, |clocks| {
        format!(", multiprocessors at {} MHz, memory at {} MHz", clocks.processor_mhz, clocks.memory_mhz)
    });
    say!(
        "{}{clocks}; copies {:.2} TB/s, AES {:.1} G/s; medians of {REPEATS}",
        info.device,
        rates.bytes / 1e12,
        rates.aes / 1e9
    );
    for gate in catalog::builtin().filter(wanted) {
        for elems in sizes {
            let (protocol, name, bits) = (gate.protocol(), gate.name(), gate.declared().bits);
            say!("\n{protocol} {name}, {bits} bits/direction, {elems} elements\n");
            match gpu.measure(&gate, *elems, REPEATS) {
                Ok(times) => print(&times, rates),
                Err(error) => say!("{error}"),
            }
        }
    }
    Ok(())
}

fn print_linear(
    gpu: &CudaBackend,
    gates: impl Iterator<Item = Gate>,
    sizes: &[u64],
) -> Result<(), BackendError> {
    say!("{}\n", gpu.info().device);
    say!("| gate | elements | deal ms | ns/element | evaluation ms | ns/element | whole s | card MiB |");
    say!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for gate in gates {
        for elems in sizes {
            let LinearTimes { deal_ms, eval_ms, whole_ms, card_bytes } = gpu.measure_linear(&gate, *elems)?;
            let [deal_ns, eval_ns] = [deal_ms, eval_ms].map(|ms| ms * 1e6 / *elems as f64);
            say!(
                "| {} {}, {} bits | {elems} | {deal_ms:.2} | {deal_ns:.3} | {eval_ms:.2} | {eval_ns:.3} | {:.2} | {} |",
                gate.protocol(),
                gate.name(),
                gate.declared().bits,
                whole_ms / 1e3,
                card_bytes >> 20
            );
        }
    }
    Ok(())
}

fn print(times: &GateTimes, rates: Rates) {
    say!("| kernel | ms | together ms | MB | M AES | least ms | bound by | reached | together |");
    say!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for time in times.deal.iter().chain(&times.stage).chain(&times.eval) {
        let KernelTime { kernel, median_ms, together_ms, bytes, aes } = time;
        let (memory_ms, aes_ms) = (bytes / rates.bytes * 1e3, aes / rates.aes * 1e3);
        let (mb, calls) = (bytes / 1e6, aes / 1e6);
        if *kernel == "upload" {
            let rate = bytes / median_ms / 1e6;
            say!("| {kernel} | {median_ms:.4} | | {mb:.2} | | | the bus | {rate:.1} GB/s | |");
            continue;
        }
        let least = memory_ms.max(aes_ms);
        let by = if memory_ms > aes_ms { "memory" } else { "AES" };
        let [reached, together] = [median_ms, together_ms].map(|ms| 100.0 * least / ms);
        say!(
            "| {kernel} | {median_ms:.4} | {together_ms:.4} | {mb:.2} | {calls:.2} | {least:.4} | {by} | {reached:.0} % | \
             {together:.0} % |"
        );
    }
    let sum = |times: &[KernelTime]| times.iter().map(|time| time.median_ms).sum::<f64>();
    let together = |times: &[KernelTime]| times.iter().map(|time| time.together_ms).sum::<f64>();
    say!(
        "\ndeal {:.3} ms, {:.3} together, to the host {:.3} ms; evaluation {:.3} ms, {:.3} together, with the upload and the \
         streams {:.3} ms",
        sum(&times.deal),
        together(&times.deal),
        times.deal_to_host_ms,
        sum(&times.eval),
        together(&times.eval),
        sum(&times.eval) + sum(&times.stage),
    );
}
