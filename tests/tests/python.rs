//! The Python package: its own tests, with each interpreter that `SUF_PYTHON` names. They have the wheel; see `.ci/run`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use suf_link::Pki;
use suf_skip::{Need, skip};
use suf_tests::{
    models::{TEXTS, Tiny, vectors},
    processes::Hosts,
};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Protocols that the daemons take: not all, so that a party refuses one.
const PROTOCOLS: &str = "protocols = [\"onehot\", \"dpf\", \"suf\"]\n";

/// Interpreters with the wheel, separated as in `PATH`.
const PYTHON: &str = "SUF_PYTHON";

/// The page's name of the model's folder.
const FOLDER: &str = "all-MiniLM-L6-v2";

fn interpreters() -> Vec<PathBuf> {
    let found: Vec<_> = env::var_os(PYTHON).iter().flat_map(env::split_paths).collect();
    if found.is_empty() {
        skip(Need::Wheel, format!("{PYTHON} names no interpreter with the wheel"));
    }
    found
}

/// Daemons elsewhere, and what a user has besides.
struct World {
    hosts: Hosts,
    stranger: TempDir,
}

impl World {
    fn start() -> Self {
        let mut hosts = Hosts::prepare(Path::new(PROGRAM));
        Tiny::load().write(&hosts.folder().join(FOLDER));
        hosts.start_daemons(|name, config| {
            let protocols = if name == "dealer" { "" } else { PROTOCOLS };
            format!("{protocols}{config}\n[[models]]\ndir = \"{FOLDER}\"\n")
        });
        let stranger = tempfile::tempdir().expect("a folder");
        Pki::create(&stranger.path().join("pki"), &Default::default()).expect("an authority");
        Self { hosts, stranger }
    }

    /// Runs the tests of `module`.
    fn run(&self, python: &Path, module: &str) {
        let folder = self.hosts.folder();
        let tests =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root").join("server/python/tests");
        let output = Command::new(python)
            .args(["-W", "error", "-m", "unittest", "-v", module])
            .current_dir(tests)
            .env("SUF_PARTY0", self.hosts.control_url("party0"))
            .env("SUF_PARTY1", self.hosts.control_url("party1"))
            .env("SUF_IDENTITY", folder.join("pki/client.pem"))
            .env("SUF_STRANGER", self.stranger.path().join("pki/client.pem"))
            .env("SUF_EXAMPLES", folder)
            .env("SUF_MODEL", folder.join(FOLDER))
            .env("SUF_TEXTS", TEXTS.join("\n"))
            .env("SUF_VECTORS", self.vectors())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .expect("the interpreter starts");
        let said = String::from_utf8_lossy(&output.stderr);
        println!("{}\n{said}", python.display());
        assert!(output.status.success(), "{} of {}: {said}", module, python.display());
        assert!(said.contains("\nRan ") && !said.contains("Ran 0 tests"), "{module} has tests");
    }

    fn vectors(&self) -> PathBuf {
        self.hosts.folder().join("vectors.npy")
    }
}

/// Runs the tests of `module` with each interpreter.
fn run(module: &str) {
    let interpreters = interpreters();
    if interpreters.is_empty() {
        return;
    }
    let world = World::start();
    interpreters.iter().for_each(|python| world.run(python, module));
}

#[test]
fn examples_of_the_page_run() {
    run("test_examples");
}

#[test]
fn arrays_come_back_with_their_type_and_shape() {
    run("test_evaluate");
}

#[test]
fn mistakes_and_faults_are_typed_exceptions() {
    run("test_mistakes");
}

#[test]
fn calls_that_end_early_leave_no_run() {
    run("test_ends");
}

#[test]
fn vectors_of_texts_are_those_of_the_reference() {
    let interpreters = interpreters();
    if interpreters.is_empty() {
        return;
    }
    let (world, tiny) = (World::start(), Tiny::load());
    for python in interpreters {
        world.run(&python, "test_encoder");
        for (text, vector) in TEXTS.iter().zip(vectors(&world.vectors(), TEXTS.len())) {
            tiny.check_text(text, &vector).expect("the vector of the text");
        }
        fs::remove_file(world.vectors()).expect("it was written");
    }
}

#[test]
fn activations_of_torch_models_are_evaluated() {
    let with_torch = |python: &PathBuf| {
        Command::new(python)
            .args(["-c", "import torch"])
            .output()
            .expect("the interpreter starts")
            .status
            .success()
    };
    let interpreters = interpreters();
    if interpreters.is_empty() {
        return;
    }
    let found: Vec<_> = interpreters.into_iter().filter(with_torch).collect();
    if found.is_empty() {
        return skip(Need::Torch, "no interpreter with the wheel has torch");
    }
    let world = World::start();
    found.iter().for_each(|python| world.run(python, "test_torch"));
}
