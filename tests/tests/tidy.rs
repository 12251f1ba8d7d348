//! House rules that no compiler holds: who may import whom, where unsafe code may stand, what dependencies may bring.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use suf_skip::{Need, skip};

#[path = "tidy/named.rs"]
mod named;
#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/programs.rs"]
mod programs;
#[path = "tidy/prose.rs"]
mod prose;

/// What each crate of ours may import of ours; optional imports included, those of tests left out.
const IMPORTS: [(&str, &[&str]); 20] = [
    ("suf-wire", &[]),
    ("suf-toml", &[]),
    ("suf-files", &[]),
    ("suf-gate", &["suf-toml", "suf-wire"]),
    ("suf-model", &["suf-gate", "suf-toml"]),
    ("suf-net", &[]),
    ("suf-admin", &["suf-net"]),
    ("suf-control", &["suf-net"]),
    ("suf-cpu", &["suf-gate"]),
    ("suf-cuda", &["suf-gate"]),
    ("suf-deal", &["suf-gate", "suf-wire"]),
    ("suf-party", &["suf-gate", "suf-wire"]),
    ("suf-link", &["suf-files", "suf-net", "suf-toml", "suf-wire"]),
    ("suf-lab", &["suf-link", "suf-wire"]),
    (
        "suf-process",
        &[
            "suf-admin",
            "suf-net",
            "suf-link",
            "suf-control",
            "suf-cpu",
            "suf-cuda",
            "suf-gate",
            "suf-model",
            "suf-toml",
            "suf-wire",
        ],
    ),
    (
        "suf-dealer",
        &["suf-admin", "suf-deal", "suf-process", "suf-link", "suf-control", "suf-gate", "suf-wire"],
    ),
    (
        "suf-server",
        &[
            "suf-admin",
            "suf-party",
            "suf-process",
            "suf-net",
            "suf-link",
            "suf-control",
            "suf-gate",
            "suf-wire",
        ],
    ),
    (
        "suf-cli",
        &[
            "suf-control",
            "suf-files",
            "suf-gate",
            "suf-toml",
            "suf-wire",
            "suf-link",
            "suf-model",
            "suf-process",
            "suf-dealer",
            "suf-server",
            "suf-lab",
            "suf-cpu",
            "suf-cuda",
        ],
    ),
    ("suf-skip", &[]),
    ("suf-tests", &["*"]),
];

/// Crates that do no I/O: what they may not depend on, and what may not stand in their sources.
const PURE: [&str; 6] = ["suf-toml", "suf-gate", "suf-model", "suf-wire", "suf-deal", "suf-party"];
const IMPURE_CRATES: [&str; 6] = ["tokio", "quinn", "tonic", "cudarc", "socket2", "redb"];
const IMPURE_WORDS: [&str; 5] = ["std::net", "std::fs", "std::thread", "Instant::now", "SystemTime"];

/// Who may look at the wall clock, which can jump: certificates have dates, and people and collectors are shown when something was.
const WALL_CLOCKS: [&str; 11] = [
    "server/admin/src/spans.rs",
    "server/cli/src/commands/model/loads.rs",
    "server/link/src/certificate.rs",
    "server/link/src/current.rs",
    "server/link/src/identity.rs",
    "server/link/src/pki.rs",
    "server/link/src/revocation.rs",
    "server/link/src/trust.rs",
    "server/daemon/src/ledger.rs",
    "server/cli/src/provenance.rs",
    "dealer/daemon/src/records.rs",
];

/// Who may hold standard output: the module that writes to it, and the lab, which copies what a user-mode kernel prints.
const STREAMS: [&str; 2] = ["server/process/src/output.rs", "deploy/lab/src/uml.rs"];

/// Where unsafe code may stand.
const UNSAFE_ROOMS: [&str; 2] = ["kernels/cpu/src/simd/", "kernels/cuda/"];

/// The Python package's folder, with a lock file of its own.
const PYTHON: &str = "server/python";

/// Longest source file: what needs more scrolling is two files.
const MOST_LINES: usize = 900;

#[test]
fn crates_import_only_what_the_table_allows() {
    let allowed: BTreeMap<_, _> = IMPORTS.into_iter().collect();
    let metadata = metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() >= 11, "the workspace has {} crates", packages.len());
    for package in packages {
        let name = text(&package["name"]);
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the import table"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let import = text(&dependency["name"]);
            if dependency["kind"] == "dev" {
                continue;
            }
            if allowed.contains_key(import) {
                assert!(may.contains(&import) || may == &["*"], "{name} must not import {import}");
            }
            if PURE.contains(&name) {
                assert!(!IMPURE_CRATES.contains(&import), "{name} is pure and must not import {import}");
            }
        }
    }
}

#[test]
fn pure_crates_touch_no_clock_file_socket_or_thread() {
    for room in ["kernels/gate", "kernels/model", "proto/toml", "proto/wire", "dealer/deal", "server/party"] {
        for file in sources(&root().join(room).join("src")) {
            let text = read(&file);
            for word in IMPURE_WORDS {
                assert!(!text.contains(word), "{} has {word}, but its crate is pure", file.display());
            }
        }
    }
}

#[test]
fn the_wall_clock_is_read_in_known_places_alone() {
    let clock = ["System", "Time"].concat();
    for file in sources(root()) {
        let place = relative(&file);
        if place.starts_with("tests/") || place.contains("/tests/") || !read(&file).contains(&clock) {
            continue;
        }
        assert!(WALL_CLOCKS.iter().any(|known| place == *known), "{place} reads the wall clock");
    }
}

#[test]
fn unsafe_code_stands_in_its_rooms_and_gives_its_reason() {
    // Spelled in parts, so that this file does not contain what it looks for.
    let marks = [["unsafe", " {"].concat(), ["unsafe", " impl"].concat()];
    for file in sources(root()) {
        let text = read(&file);
        let place = relative(&file);
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !marks.iter().any(|mark| code.contains(mark)) {
                continue;
            }
            assert!(
                UNSAFE_ROOMS.iter().any(|room| place.starts_with(room)),
                "unsafe code in {place}:{}",
                at + 1
            );
            let reason = lines[at.saturating_sub(8)..=at].iter().any(|line| line.contains("SAFETY"));
            assert!(reason, "{place}:{} has no SAFETY comment within 8 lines above", at + 1);
        }
    }
}

#[test]
fn files_are_short_and_finished() {
    // Spelled in parts, so that this file does not contain what it forbids.
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
    ];
    for file in sources(root()) {
        let text = read(&file);
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", relative(&file));
        for mark in &marks {
            assert!(!text.contains(mark), "{} has an unfinished mark: {mark}", relative(&file));
        }
    }
}

/// A skip that goes past the crate `suf-skip` stands in no list, and no variable makes it a failure.
#[test]
fn skips_go_through_the_crate_that_lists_them() {
    // Spelled in parts, so that this file does not contain what it forbids.
    let mark = ["println!(\"", "SKIP"].concat();
    for file in sources(root()) {
        let place = relative(&file);
        assert!(
            place.starts_with("tests/skip/") || !read(&file).contains(&mark),
            "{place} skips without telling"
        );
    }
}

#[test]
fn tests_wait_for_events_and_not_for_time() {
    let sleeps = [["thread::", "sleep"].concat(), ["time::", "sleep"].concat()];
    for file in sources(&root().join("tests")) {
        for sleep in &sleeps {
            assert!(!read(&file).contains(sleep), "{} sleeps", relative(&file));
        }
    }
}

/// The standard library's macros panic when the stream is closed or full. Everything that a person is told goes through
/// `server/process/src/output.rs`; examples, benches, build scripts and tests speak to developers.
#[test]
fn output_goes_through_the_module_that_survives_a_broken_stream() {
    // Spelled in parts, so that this file does not contain what it forbids.
    let macros = ["print", "println", "eprint", "eprintln", "dbg"].map(|name| [name, "!("].concat());
    let stream = ["stdout", "()"].concat();
    let to_developers = ["examples/", "benches/", "tests/", "/tests.rs", "build.rs", "src/races.rs"];
    for file in sources(root()) {
        let place = relative(&file);
        if to_developers.iter().any(|part| place.contains(part)) {
            continue;
        }
        let text = read(&file);
        // Modules of tests stand at the end of their file.
        let program = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for line in program.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let words = line.split(|c: char| !c.is_alphanumeric() && !"_!(".contains(c));
            let by_macro =
                words.into_iter().any(|word| macros.iter().any(|name| word.starts_with(name.as_str())));
            let by_stream = line.contains(&stream) && !STREAMS.contains(&place.as_str());
            assert!(!by_macro && !by_stream, "{place} writes past the output module: {line}");
        }
    }
}

#[test]
fn dependencies_keep_to_the_allowed_licences_and_bans() {
    let deny: toml::Table = toml::from_str(&read(&root().join("deny.toml"))).expect("deny.toml parses");
    let allowed: BTreeSet<&str> = deny["licenses"]["allow"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|name| name.as_str())
        .collect();
    let banned: BTreeSet<&str> = deny["bans"]["deny"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|entry| entry["crate"].as_str())
        .collect();
    let ours = dependencies(root()).unwrap_or_else(|error| panic!("{error}"));
    let python = dependencies(&root().join(PYTHON)).unwrap_or_else(|error| {
        // They are fetched where the wheel is built.
        skip(Need::Wheel, format!("no licences of the Python package's crates: {error}"));
        String::new()
    });
    let packages: BTreeSet<&str> =
        ours.lines().chain(python.lines()).filter(|line| !line.is_empty()).collect();
    assert!(packages.len() > 100, "cargo tree lists {} packages", packages.len());
    for package in packages {
        let (package, licence) = package.split_once('|').expect("the format has a bar");
        let name = package.split(' ').next().unwrap_or_default();
        assert!(!banned.contains(name), "{name} is banned by deny.toml");
        let licence = licence.trim_end_matches(" (*)");
        assert!(
            satisfied(licence, &allowed),
            "{name} has licence '{licence}', which deny.toml does not allow"
        );
    }
}

/// Packages and licences that the workspace in `folder` is built from, a line each; not all that its lock file knows of.
fn dependencies(folder: &Path) -> Result<String, String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--edges",
            "normal,build,dev",
            "--prefix",
            "none",
            "--format",
            "{p}|{l}",
        ])
        .args(["--offline", "--locked"])
        .current_dir(folder)
        .output()
        .expect("cargo runs");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("cargo prints text"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The Python package is a workspace of its own. With other versions it would be another client, and nothing that is built for
/// the one would serve the other.
#[test]
fn the_python_package_is_built_of_the_same_versions() {
    let locked = |folder: &str| -> BTreeMap<String, BTreeSet<String>> {
        let lock: toml::Table =
            toml::from_str(&read(&root().join(folder).join("Cargo.lock"))).expect("a lock file");
        let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
        for package in lock["package"].as_array().expect("packages") {
            let [name, version] =
                ["name", "version"].map(|key| package[key].as_str().expect("text").to_owned());
            versions.entry(name).or_default().insert(version);
        }
        versions
    };
    let (ours, python) = (locked(""), locked(PYTHON));
    assert!(python.len() > 100, "{} packages", python.len());
    for (name, versions) in python {
        if let Some(known) = ours.get(&name) {
            let unknown: Vec<_> = versions.difference(known).collect();
            // A second version may be that of a crate which the workspace lacks.
            assert!(
                unknown.is_empty() || versions.is_superset(known),
                "{name}: {versions:?} and not {known:?}"
            );
        }
    }
}

#[test]
fn licence_expressions_are_read_right() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("ISC AND (GPL-3.0 OR LGPL-2.1)", false),
        ("GPL-3.0 OR Apache-2.0 WITH LLVM-exception", true),
    ] {
        assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn the_readme_gives_the_two_commands_first() {
    let readme = read(&root().join("README.md"));
    let first_screen: String = readme.lines().take(80).collect::<Vec<_>>().join("\n");
    for command in ["cargo run --release --bin suf -- bench", "cargo test --release --workspace"] {
        assert!(first_screen.contains(command), "the README's first screen lacks: {command}");
    }
    assert!(read(&root().join(".ci/run")).contains("cargo test --release --workspace"));
}

/// Each danger of SECURITY.md has an answer and a test, and what is named as one is there: a test function, or a file.
#[test]
fn every_danger_has_an_answer_and_a_test_that_exists() {
    let page = read(&root().join("SECURITY.md"));
    let (_, rest) = page.split_once("## Dangers and answers").expect("the table of dangers");
    let (table, _) = rest.split_once("\n## ").expect("a section after it");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---") && !line.starts_with("| danger "))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 20, "{} dangers", rows.len());

    let sources: Vec<String> = sources(root()).iter().map(|file| read(file)).collect();
    let is_test = |name: &str| {
        let function = format!("fn {name}(");
        let stands = |source: &String| {
            source.match_indices(&function).any(|(at, _)| {
                let above: Vec<_> = source[..at].lines().rev().take(3).collect();
                above.iter().any(|line| line.trim_start().starts_with("#[") && line.contains("test"))
            })
        };
        sources.iter().any(stands)
    };
    for row in rows {
        let [danger, answer, test] = row[..] else { panic!("three columns are due: {row:?}") };
        assert!(!answer.is_empty() && !test.is_empty(), "{danger} has no answer or no test");
        // Between backticks; what has a space is a command.
        for name in test.split('`').skip(1).step_by(2).filter(|name| !name.contains(' ')) {
            let found = if name.contains('/') { root().join(name).exists() } else { is_test(name) };
            assert!(found || name == "fuzz_seeds", "{danger}: {name} does not exist");
        }
        assert!(test.contains('`') || test.contains("below"), "{danger}: no test is named");
    }
}

/// Whether an SPDX expression can be satisfied with the allowed licences. AND binds tighter than OR.
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    any(&split(&expression, " OR "), &|part| {
        split(part, " AND ").iter().all(|term| {
            let term = term.trim();
            match term.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
                Some(inner) => satisfied(inner, allowed),
                None => allowed.contains(term),
            }
        })
    })
}

fn any(parts: &[&str], test: &dyn Fn(&str) -> bool) -> bool {
    parts.iter().any(|part| test(part))
}

/// Splits at `separator` outside parentheses.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && at >= start && text[at..].starts_with(separator) => {
                parts.push(&text[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn metadata(more: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(more)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("metadata is JSON")
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().expect("a string")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests stand in the root")
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).expect("within the root").display().to_string()
}

/// Our own Rust and CUDA sources below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let found = files(folder, &["rs", "cu"]);
    assert!(!found.is_empty(), "no sources below {}", folder.display());
    found
}

/// Files below `folder` that end with one of `extensions`; without what is built, and hidden folders.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("readable").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extensions.iter().any(|known| extension == *known))
            {
                found.push(path);
            }
        }
    }
    found
}
