//! Programs have the names that they are built under, wherever they are spoken of.

use std::collections::BTreeSet;

use super::{files, metadata, read, relative, root, sources, text};

/// Documents that speak of crates, and of what was.
const OF_CRATES: [&str; 2] = ["ARCHITECTURE.md", "CHANGELOG.md"];

/// Names of targets in the workspace: packages, and programs that are shipped.
fn packages_and_programs() -> (BTreeSet<String>, BTreeSet<String>) {
    let metadata = metadata(&["--no-deps"]);
    let (mut packages, mut programs) = (BTreeSet::new(), BTreeSet::new());
    for package in metadata["packages"].as_array().expect("packages") {
        packages.insert(text(&package["name"]).to_owned());
        for target in package["targets"].as_array().expect("targets") {
            let is_program = target["kind"].as_array().expect("kinds").iter().any(|kind| kind == "bin");
            if is_program && text(&package["name"]) != "suf-tests" {
                programs.insert(text(&target["name"]).to_owned());
            }
        }
    }
    (packages, programs)
}

/// A crate is no program: `suf party` is, and the crate `suf-party` is a part of it. Documents and comments that mean the crate say so.
#[test]
fn no_document_and_no_comment_names_a_program_that_is_not_built() {
    let (packages, programs) = packages_and_programs();
    assert_eq!(programs, BTreeSet::from(["suf".to_owned()]), "one program is shipped");
    let mut looked_at = 0;
    for file in files(root(), &["md", "rs", "cu", "cuh", "py", "proto", "toml", "service", "yaml", "sh"]) {
        let place = relative(&file);
        let is_manifest = place.ends_with("Cargo.toml") || place == "deny.toml";
        if OF_CRATES.contains(&place.as_str()) || is_manifest {
            continue;
        }
        let whole =
            file.extension().is_some_and(|ending| ["md", "service", "yaml"].iter().any(|e| ending == *e));
        for line in read(&file).lines() {
            let said = if whole { line } else { comment(line) };
            looked_at += usize::from(!said.is_empty());
            let named = packages.iter().filter(|name| !programs.contains(*name));
            let wrong = named.into_iter().find(|name| names_a_program(said, name));
            assert!(wrong.is_none(), "{place} names the program {wrong:?}, which is not built: {line}");
        }
    }
    assert!(looked_at > 5000, "{looked_at} lines of documents and comments");
}

#[test]
fn units_and_containers_start_the_program_that_is_built() {
    let (_, programs) = packages_and_programs();
    let mut started = 0;
    let mut found = files(&root().join("deploy"), &["service"]);
    found.push(root().join("deploy/container/Containerfile"));
    for file in found {
        for line in read(&file).lines() {
            let command = ["ExecStartPre=", "ExecStart=", "ENTRYPOINT [\""];
            let Some(rest) = command.iter().find_map(|start| line.strip_prefix(start)) else { continue };
            let path = rest.split([' ', '"']).next().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            assert!(programs.contains(name), "{} starts {name}, which is not built", relative(&file));
            started += 1;
        }
    }
    assert!(started >= 5, "{started} programs are started");
}

/// `head` closes the pipe when it has seen enough, and `println!` then panics.
#[test]
fn examples_and_benches_end_quietly_when_their_reader_is_gone() {
    // Spelled in parts, so that this file does not contain what it forbids.
    let macros = ["print", "println"].map(|name| [name, "!("].concat());
    let mut looked_at = 0;
    for file in sources(root()) {
        let place = relative(&file);
        if !["/examples/", "/benches/"].iter().any(|folder| place.contains(folder)) {
            continue;
        }
        looked_at += 1;
        for line in read(&file).lines() {
            let words = line.split(|c: char| !c.is_alphanumeric() && !"_!(".contains(c));
            let panics = words.into_iter().any(|word| macros.iter().any(|name| word.starts_with(name)));
            assert!(!panics, "{place} prints without kernels/gate/examples/output: {line}");
        }
    }
    assert!(looked_at > 10, "{looked_at} examples and benches");
}

/// The comment that a line of code ends with, or is.
fn comment(line: &str) -> &str {
    let start = line.find("//").or_else(|| line.trim_start().starts_with('#').then_some(0));
    start.map_or("", |start| &line[start..])
}

/// Whether `said` has `name` as a program's: not as a crate's, a systemd unit's, or a part of another name or path.
fn names_a_program(said: &str, name: &str) -> bool {
    said.match_indices(name).any(|(at, _)| {
        let (before, after) = (&said[..at], &said[at + name.len()..]);
        let part_of_name = |c: char| c.is_alphanumeric() || "-_/".contains(c);
        let is_part = before.ends_with(part_of_name) || after.starts_with(part_of_name);
        let is_crate = ["-p ", "crate ", "crate `"].iter().any(|start| before.ends_with(start));
        let is_unit = after.starts_with('@') || after.starts_with(".service");
        !is_part && !is_crate && !is_unit
    })
}

#[test]
fn programs_are_told_from_crates_and_units() {
    for (said, is_program) in [
        ("start `suf-party` on each host", true),
        ("a comment: suf-party does", true),
        ("cargo test -p suf-party", false),
        ("the crate `suf-party` does", false),
        ("systemctl reload suf-party@0", false),
        ("`suf-party.service`", false),
        ("/run/suf-party", false),
        ("suf-party-two", false),
        ("suf party", false),
    ] {
        assert_eq!(names_a_program(said, "suf-party"), is_program, "{said}");
    }
}
