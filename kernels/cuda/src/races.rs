//! Every kernel as C++ on the host, a thread for each of the GPU's, under a checker of races.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use suf_gate::{Gate, catalog};

use crate::{backend::base_source, gates::Plan};

// Shared with the CPU's tests, which use all of it.
#[allow(dead_code)]
#[path = "../../cpu/tests/specs/mod.rs"]
mod specs;

const THREADS: &str = include_str!("../cu/host/threads.h");
const DEVICE: &str = include_str!("../cu/host/device.h");
const GATE: &str = include_str!("../cu/host/gate.cpp");
const STREAMS: &str = include_str!("../cu/host/streams.cpp");

/// The program that runs all kernels of `gate`; none where a GPU does not take it.
fn program(gate: &Gate) -> Option<String> {
    let plan = Plan::of(gate).ok()?;
    let names: Vec<_> = plan.deal.iter().chain(&plan.steps).map(|task| task.name).collect();
    let list = format!(
        "#define DEALING {}\nstatic void (*const KERNELS[])(const Job) = {{{}}};",
        plan.deal.len(),
        names.join(", ")
    );
    Some([THREADS, DEVICE, plan.source.text(), &list, GATE].join("\n"))
}

/// Compiles and runs `program` under ThreadSanitizer; what it reports.
fn races(folder: &Path, name: &str, program: &str) -> Result<(), String> {
    let (source, executable) = (folder.join(format!("{name}.cpp")), folder.join(name));
    fs::write(&source, program).map_err(|error| error.to_string())?;
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++17", "-O1", "-w", "-fsanitize=thread", "-pthread", "-o"]);
    let mut run = Command::new(&executable);
    for command in [compiler.arg(&executable).arg(&source), &mut run] {
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        if !output.status.success() {
            return Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(())
}

#[test]
#[ignore = "compiles for minutes, and needs a C++ compiler with ThreadSanitizer"]
fn no_race_is_found_in_the_kernels_of_gates_and_streams() {
    let mut programs =
        vec![("streams".to_owned(), [THREADS, DEVICE, base_source().text(), STREAMS].join("\n"))];
    let random = (0..16).map(|seed| specs::gate(specs::random(&mut specs::Random(seed))));
    for (i, gate) in catalog::builtin().chain(random).enumerate() {
        let name = format!("{i}-{}-{}", gate.protocol(), gate.name());
        programs.extend(program(&gate).map(|program| (name, program)));
    }
    let folder = std::env::temp_dir().join(format!("suf-races-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((name, program)) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    races(&folder, name, program).unwrap_or_else(|report| panic!("{name}: {report}"));
                    println!("{name}: no race");
                }
            });
        }
    });
    fs::remove_dir_all(&folder).expect("it is ours");
}

/// The checker sees what it is there for.
#[test]
#[ignore = "needs a C++ compiler with ThreadSanitizer"]
fn a_missing_barrier_is_found() {
    const BARRIER: &str = "row[i] = 0;\n    __syncwarp();";
    let whole = catalog::builtin().find_map(|gate| program(&gate)).expect("there are gates");
    assert!(whole.contains(BARRIER), "the barrier after a row is cleared");
    let folder = std::env::temp_dir().join(format!("suf-race-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let report = races(&folder, "missing", &whole.replace(BARRIER, "row[i] = 0;"));
    fs::remove_dir_all(&folder).expect("it is ours");
    assert!(report.is_err_and(|report| report.contains("data race")));
}
