//! Tensors as people have them: every type, archives, pipes, integers. The output is of the same type and shape.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use suf_cli::npy::{self, Array, Dtype, Form, Format, Reading};
use suf_gate::{Gate, Protocol, catalog, gatefile::GateFile};
use suf_tests::processes::{Hosts, expect};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Done, wrong usage.
const DONE: i32 = 0;
const USAGE: i32 = 2;

/// Fractional bits.
const FRAC: u8 = 12;

#[test]
fn types_of_numpy_are_read_and_the_output_has_their_type_and_shape() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let gate = gelu();
    // Multiples of 1/4 are exact in every float; as integers they are small numbers of units.
    for (dtype, options, step) in [
        (Dtype::F16, "", 1024),
        (Dtype::Bf16, "--dtype bfloat16", 1024),
        (Dtype::F32, "", 1024),
        (Dtype::F64, "--outputs y.npz", 1024),
        (Dtype::I8, "--fixed", 1),
        (Dtype::I16, "--fixed", 1024),
        (Dtype::I32, "--fixed", 1024),
        (Dtype::I64, "", 1024),
        (Dtype::U32, "--fixed", 1024),
    ] {
        let least = if dtype == Dtype::U32 { 64 } else { -3 };
        let x: Vec<i64> = (least..least + 6).map(|x| x * step).collect();
        let form = Form { shape: vec![2, 3], fortran: dtype == Dtype::F32, dtype };
        save(&hosts.folder().join("x.npy"), &Array::of_units(form.clone(), &x, FRAC));
        let outputs = if options.contains("y.npz") { "y.npz" } else { "y.npy" };
        let options = options.replace("--outputs y.npz", "");
        let output = eval(&hosts, "x.npy", outputs, &options).output().expect("suf starts");
        expect(&output, DONE, &[], &format!("{dtype:?}"));
        let reading = Reading { bfloat16: dtype == Dtype::Bf16 };
        let bytes = fs::read(hosts.folder().join(outputs)).expect("an output");
        assert_eq!(bytes.starts_with(b"PK"), outputs == "y.npz");
        let y = npy::read_from(&bytes, reading).expect("it is well formed");
        assert_eq!(*y.form(), form, "{dtype:?}");
        for (at, x) in x.iter().enumerate() {
            let one = Form { shape: vec![], ..form.clone() };
            let allowed = gate.reference(*x).map(|y| Array::of_units(one.clone(), &[y], FRAC).reals(0..1));
            assert!(allowed.contains(&y.reals(at..at + 1)), "{dtype:?}: {x}");
        }
    }
}

/// The files were written by NumPy 2.4.6, or are headers that it reads; it reads all of them as 0 to 5 in two rows.
#[test]
fn files_that_numpy_reads_hold_what_it_reads() {
    let mut read = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/npy")).expect("seeds") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.starts_with("numpy-") {
            continue;
        }
        let reading = Reading { bfloat16: name == "numpy-bfloat16" };
        let array = npy::read(&path, reading).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(array.form().shape, [2, 3], "{name}");
        for (at, x) in array.reals(0..6).into_iter().enumerate() {
            let index = array.form().index(at);
            assert_eq!(x, (3 * index[0] + index[1]) as f64, "{name} at {index:?}");
        }
        read += 1;
    }
    assert!(read >= 26, "{read} files");
}

/// A client holds its file once, and what it makes of it in pieces. The evaluation begins after all of it was read and looked at.
#[test]
fn a_large_tensor_is_held_once_while_it_is_read() {
    const MIB: u64 = 1 << 20;
    // Beside the file: the program itself, and the piece at work.
    const BESIDE: u64 = 32 * MIB;
    let folder = tempfile::tempdir().expect("a temporary folder");
    // float32 and int64 are kept as they stand, whatever their units take.
    for (descr, width, fixed) in [("<f4", 4, false), ("<i8", 8, true)] {
        let elements = 200 * MIB / width;
        sparse(&folder.path().join("x.npy"), descr, elements, elements * width);
        // The client stops at the pipe that it writes to, until somebody reads there: all is read by then, and nothing begun.
        let pipe = folder.path().join("y.npy");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("a pipe");
        let mut suf = Command::new(PROGRAM);
        suf.args(["eval", "--local", "--protocol", "onehot", "--gate", "gelu"]);
        suf.args(["--inputs", "x.npy", "--outputs", "y.npy"]).args(fixed.then_some("--fixed"));
        suf.current_dir(folder.path()).env("TMPDIR", folder.path()).stderr(Stdio::piped());
        let mut child = suf.spawn().expect("suf starts");
        let reader = File::open(&pipe).expect("the client opens it, too");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it is alive");
        child.kill().expect("ours");
        child.wait().expect("ours");
        drop(reader);
        fs::remove_file(&pipe).expect("it is there");
        let peak = peak_of(&status);
        println!("{descr}: a file of 200 MiB, {:.1} MiB at most", peak as f64 / MIB as f64);
        assert!(peak >= 200 * MIB, "{descr}: {peak} bytes: the file was not read");
        assert!(peak <= 200 * MIB + BESIDE, "{descr}: {peak} bytes for a file of 200 MiB");
    }
}

/// The header says how many there are. The limit is of 64 MiB for data of 800 MB, and nothing is started.
#[test]
fn too_many_elements_are_refused_from_the_header_in_little_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let eval = |name: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -d 65536 && exec \"$0\" \"$@\"", PROGRAM]);
        shell.args(["eval", "--local", "--protocol", "onehot", "--gate", "gelu", "--inputs", name]);
        shell.args(["--outputs", "missing/y.npy"]).current_dir(folder.path()).output().expect("sh starts")
    };
    let most = 100_000_000;
    for (descr, width) in [("<f4", 4), ("<i8", 8), ("<f2", 2)] {
        sparse(&folder.path().join("x.npy"), descr, most + 1, (most + 1) * width);
        expect(&eval("x.npy"), USAGE, &["x.npy", "100000001 elements", "at most 100000000", "cut it"], descr);
        // Nothing of the data is needed for that.
        sparse(&folder.path().join("x.npy"), descr, most + 1, 0);
        expect(&eval("x.npy"), USAGE, &["x.npy", "100000001 elements"], "without its data");
    }
    // The limit does hold: what is read does not fit.
    sparse(&folder.path().join("x.npy"), "<i8", most, most * 8);
    assert_ne!(eval("x.npy").status.code(), Some(USAGE), "800 MB were read into 64 MiB");
    // What fits is read, and the next mistake is told.
    sparse(&folder.path().join("x.npy"), "<i8", 9, 72);
    expect(&eval("x.npy"), USAGE, &["missing/y.npy", "nothing was begun"], "9 elements");
}

/// Writes a header for so many `elements`, and so many bytes of zeros that take no room on the disk.
fn sparse(path: &Path, descr: &str, elements: u64, bytes: u64) {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({elements},), }}");
    let header = format!("{header:<117}\n");
    let mut file = File::create(path).expect("the folder is writable");
    file.write_all(b"\x93NUMPY\x01\x00\x76\x00").expect("the folder is writable");
    file.write_all(header.as_bytes()).expect("the folder is writable");
    file.set_len(128 + bytes).expect("the folder is writable");
}

/// The most memory that a process has had, from its /proc/PID/status.
fn peak_of(status: &str) -> u64 {
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the system counts it");
    kib.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn it_is_said_on_standard_error_how_integers_are_taken() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    let one = |name: &str, dtype| {
        let form = Form { shape: vec![1], fortran: false, dtype };
        save(&hosts.folder().join(name), &Array::of_units(form, &[4096], FRAC));
    };
    one("i8.npy", Dtype::I64);
    one("i4.npy", Dtype::I32);
    one("f4.npy", Dtype::F32);
    let run = |name: &str, options: &str| eval(&hosts, name, "y.npy", options).output().expect("suf starts");
    let silent = |output: &Output| !String::from_utf8_lossy(&output.stderr).contains("fixed point");
    let output = run("i8.npy", "");
    expect(&output, DONE, &["i8.npy is int64", "fixed point", "4096 is 1.0", "--fixed"], "int64");
    let output = run("i8.npy", "--fixed");
    expect(&output, DONE, &[], "int64 with --fixed");
    assert!(silent(&output), "{output:?}");
    expect(&run("i4.npy", ""), USAGE, &["i4.npy is int32", "--fixed", "astype('float64')"], "int32");
    let output = run("i4.npy", "--fixed");
    expect(&output, DONE, &[], "int32 with --fixed");
    assert!(silent(&output), "{output:?}");
    expect(&run("f4.npy", "--fixed"), USAGE, &["f4.npy is float32", "leave it out"], "float32 with --fixed");
}

#[test]
fn a_tensor_from_a_pipe_is_read_to_its_end() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    // More than a pipe holds at once.
    let x: Vec<i64> = (0..40_000).map(|x| x % 4096).collect();
    let form = Form { shape: vec![x.len()], fortran: false, dtype: Dtype::F64 };
    let array = Array::of_units(form.clone(), &x, FRAC);
    for format in [Format::Npy, Format::Npz] {
        let file = bytes(&array, format);
        for path in ["-", "/dev/stdin"] {
            let mut child = eval(&hosts, path, "y.npy", "")
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("suf starts");
            child.stdin.take().expect("piped").write_all(&file).expect("it reads all");
            let output = child.wait_with_output().expect("ours");
            expect(&output, DONE, &[], &format!("{format:?} from {path}"));
            let y = npy::read(&hosts.folder().join("y.npy"), Reading::default()).expect("well formed");
            assert_eq!(*y.form(), form);
            fs::remove_file(hosts.folder().join("y.npy")).expect("it is there");
        }
        // One byte less is noticed.
        let mut child = eval(&hosts, "-", "y.npy", "")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("suf starts");
        child.stdin.take().expect("piped").write_all(&file[..file.len() - 1]).expect("it reads all");
        let output = child.wait_with_output().expect("ours");
        expect(&output, USAGE, &["standard input"], &format!("{format:?} cut"));
    }
}

#[test]
fn a_tensor_that_is_too_large_is_refused_by_its_header_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let header = |elements: u64| {
        let mut text =
            format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({elements},), }}").into_bytes();
        text.resize(117, b' ');
        text.push(b'\n');
        [&b"\x93NUMPY\x01\x00\x76\x00"[..], &text].concat()
    };
    let suf = |command: &str| {
        let mut suf = Command::new(PROGRAM);
        suf.args(command.split_whitespace()).current_dir(folder.path());
        suf.env_remove("SUF_PARTY0").env_remove("SUF_PARTY1").env_remove("SUF_IDENTITY");
        suf
    };
    // A whole file, but for its blocks: nothing of it is stored.
    let elements = 100_000_001;
    let mut file = File::create(folder.path().join("large.npy")).expect("writable");
    file.write_all(&header(elements)).expect("writable");
    file.set_len(128 + 8 * elements).expect("a file system with holes");
    for command in [
        "eval --local --protocol onehot --gate gelu --inputs large.npy --outputs y.npy",
        "bench --gate gelu --inputs large.npy",
        "bench --inputs large.npy",
    ] {
        let output = suf(command).output().expect("suf starts");
        expect(&output, USAGE, &["large.npy", "100000001 elements", "100000000"], command);
    }
    // A pipe that stays open, and on which no data comes.
    let mut child = suf("eval --local --protocol onehot --gate gelu --inputs - --outputs y.npy")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("suf starts");
    let mut open = child.stdin.take().expect("piped");
    open.write_all(&header(elements)).expect("it reads the header");
    let output = child.wait_with_output().expect("ours");
    expect(&output, USAGE, &["standard input", "100000001 elements"], "a pipe");
    drop(open);
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "nothing was made");
}

/// `suf eval` of GELU on the parties of `hosts`, not started yet.
fn eval(hosts: &Hosts, inputs: &str, outputs: &str, options: &str) -> Command {
    let mut command = hosts.command(&["eval", "--gate", "gelu", "--protocol", "onehot", "--inputs", inputs]);
    command.args(["--outputs", outputs]).args(options.split_whitespace()).args(hosts.as_client());
    command
}

fn gelu() -> Gate {
    let file = GateFile::builtin("gelu").expect("built in");
    catalog::gate(&file, Protocol::Onehot, None).expect("in the file")
}

fn bytes(array: &Array, format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    npy::write_to(&mut bytes, format, array.form(), |out| out.write_all(array.data())).expect("in memory");
    bytes
}

fn save(path: &Path, array: &Array) {
    fs::write(path, bytes(array, Format::Npy)).expect("the folder is writable");
}
