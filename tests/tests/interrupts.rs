//! Clients that end before their runs do: interrupted, hung up, killed or cut off. No run of theirs stays.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use suf_cli::{
    client::{Parties, Sink},
    tensor::Tensor,
};
use suf_control::v1::RunState;
use suf_link::Identity;
use suf_skip::{Need, skip};
use suf_tests::{
    caller::{Caller, by_id, gelu},
    holdings::{memory, nothing_in_use},
    npy,
    processes::{Hosts, expect},
    users::files,
};
use suf_wire::Party;
use tokio::task::{LocalSet, spawn_local};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;
const FAILED: i32 = 1;

/// Elements of an evaluation that takes long enough to be interrupted: keys of some 60 MB.
const MANY: usize = 100_000;

/// Clients that end badly in a row, twice as many as may have runs at once.
const CLIENTS: usize = 32;

/// How long the bytes of clients that are gone may be held.
const HELD_AT_MOST: Duration = Duration::from_secs(90);

const MIB: u64 = 1 << 20;

/// What a shell's user and a terminal send.
const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

#[tokio::test]
async fn an_interrupted_client_ends_its_run_at_both_parties() {
    let mut hosts = start(60);
    let observer = Caller::connect(&hosts, "observer").await;
    for (number, signal) in SIGNALS.into_iter().enumerate() {
        for watching in [false, true] {
            // Without keys no run ends by itself before the signal.
            hosts.stand_still("dealer");
            let client = begin(&hosts, 2 * number + usize::from(watching), watching);
            let said = end(client, signal);
            hosts.go_on("dealer");
            assert_eq!(said.0, Some(FAILED), "{signal:?}: {}", said.1);
            assert!(
                said.1.contains("interrupted") && said.1.contains("cancelled at both parties"),
                "{signal:?}: {}",
                said.1
            );
            for party in Party::BOTH {
                assert_eq!(observer.list(party, true).await, [], "{signal:?}: a run is left at {party}");
            }
        }
    }
    expect(&hosts.onehot("few.npy"), DONE, &[], "the next client");
}

#[tokio::test]
async fn an_interrupted_client_says_which_party_it_could_not_reach() {
    let mut hosts = start(60);
    let client = begin(&hosts, 0, true);
    hosts.stand_still("party1");
    let said = end(client, Signal::INT);
    hosts.go_on("party1");
    assert_eq!(said.0, Some(FAILED), "{}", said.1);
    for words in ["party 0: cancelled", "party 1: no answer within 900ms", "lease_s"] {
        assert!(said.1.contains(words), "'{words}' is missing in: {}", said.1);
    }
}

/// What cannot be cancelled is noticed: the calls of a killed client end with it. A client whose network is cut is a scene of
/// `namespaces`.
#[tokio::test]
async fn clients_that_are_gone_leave_no_run_and_the_next_is_served_at_once() {
    let mut hosts = start(1);
    let observer = Caller::connect(&hosts, "observer").await;
    let ways = [Signal::INT, Signal::TERM, Signal::KILL, Signal::HUP];
    let mut resident = Vec::new();
    for round in 0..2 {
        for number in 0..CLIENTS {
            if number % 8 == 7 {
                // It disconnects between its calls, and says nothing.
                let client = Caller::connect(&hosts, "client").await;
                let run = client.start(&gelu(), MANY as u64).await;
                client.follow(Party::P1, by_id(run), &[RunState::ReadyForInput]).await;
            } else {
                let earlier = round * (CLIENTS + 1) + number;
                end(begin(&hosts, earlier, number % 2 == 0), ways[number % ways.len()]);
            }
        }
        let gone = Instant::now();
        expect(&hosts.onehot("few.npy"), DONE, &[], "the next client, at once");
        let mut deserted = [0; 2];
        for party in Party::BOTH {
            for end in observer.ends(party).await {
                let reason = end.failure.map(|failure| failure.reason).unwrap_or_default();
                deserted[party.index()] += usize::from(reason.contains("its client is gone"));
            }
            assert_eq!(observer.list(party, true).await, [], "a run is left at {party}");
        }
        let least = 4 * (round + 1);
        assert!(
            deserted.iter().all(|runs| *runs >= least),
            "only {deserted:?} runs of killed and disconnected clients ended by the parties' leases"
        );
        nothing_in_use(&observer).await;
        assert!(gone.elapsed() < HELD_AT_MOST, "held for {:?}", gone.elapsed());
        println!("no bytes of {CLIENTS} clients {:?} after the last, {deserted:?} by lease", gone.elapsed());
        resident.push(["party0", "party1"].map(|name| memory(hosts.pid(name), "VmRSS:")));
    }
    for (name, (before, after)) in ["party0", "party1"].iter().zip(resident[0].iter().zip(resident[1])) {
        println!("{name}: {} MiB, then {} MiB", before / MIB, after / MIB);
        assert!(after < before + 64 * MIB, "{name} grew from {} to {} MiB", before / MIB, after / MIB);
    }
}

/// As with `nohup`.
#[test]
fn a_hangup_that_is_ignored_ends_nothing() {
    let mut hosts = start(60);
    // Without keys no run ends by itself before the signal.
    hosts.stand_still("dealer");
    let eval = hosts.eval(&["--protocol", "sigma"], "many.npy");
    let mut ignoring = Command::new("nohup");
    ignoring.arg(eval.get_program()).args(eval.get_args()).current_dir(hosts.folder()).stdin(Stdio::null());
    let mut client = begin_with(&hosts, 0, ignoring);
    kill_process(pid(client.id()), Signal::HUP).expect("the child is ours");
    hosts.go_on("dealer");
    let status = client.wait().expect("the child is ours");
    assert_eq!(status.code(), Some(DONE), "{}", said(&mut client));
    assert_eq!(npy::read_i64(&hosts.folder().join("y.npy")).len(), MANY);
}

/// What takes a client's outputs, and does not survive them.
struct Panicking(RunState);

impl Sink for Panicking {
    fn take(&mut self, tile: u32, _: &[i64]) {
        panic!("at tile {tile}, as the test wants it");
    }

    fn state(&mut self, state: RunState) {
        assert_ne!(state, self.0, "as the test wants it");
    }
}

/// While it waits, and when the outputs come. In the second case the run has ended, and its output shares are dropped.
#[tokio::test]
async fn a_client_that_panics_ends_its_run_at_both_parties() {
    let hosts = start(600);
    let observer = Caller::connect(&hosts, "observer").await;
    let identity = Identity::load_from(&hosts.folder().join("pki"), "client").expect("a certificate");
    let urls = ["party0", "party1"].map(|name| hosts.control_url(name));
    let parties =
        Parties::connect(urls.each_ref().map(String::as_str), &identity).await.expect("they answer");
    // No run is in an unspecified state.
    for at in [RunState::ReadyForInput, RunState::Unspecified] {
        let (parties, gate) = (parties.clone(), gelu());
        let tensor = Arc::new(Tensor::Synthetic { elements: 9, domain: gate.domain() });
        let work = async move { parties.evaluate(&gate, &tensor, None, &mut Panicking(at)).await.is_ok() };
        let ended = LocalSet::new().run_until(async { spawn_local(work).await }).await;
        assert!(ended.expect_err("it panics").is_panic());
        for party in Party::BOTH {
            assert_eq!(observer.list(party, true).await, [], "a run is left at {party}");
            let newest = observer.list(party, false).await.swap_remove(0);
            let reason = newest.failure.clone().map(|failure| failure.reason);
            match at {
                // Cancelled by the client, or by the other party, which heard of it first.
                RunState::ReadyForInput => {
                    assert!(
                        reason.is_some_and(|why| why.contains("cancelled over the control API")),
                        "{newest:?}"
                    );
                }
                _ => assert_eq!(newest.state(), RunState::Done, "{party}: {newest:?}"),
            }
        }
        nothing_in_use(&observer).await;
    }
}

#[test]
fn an_open_call_keeps_a_run_beyond_its_lease() {
    let hosts = start(1);
    let log = || hosts.log("party0") + &hosts.log("party1");
    let mut kept = begin(&hosts, 0, true);
    // Registered later, with no call open, and ended by its lease: so long the other has been kept.
    let gate = ["run", "--protocol", "onehot", "--gate", "gelu", "--elements", "9", "--json"];
    let left = hosts.command(&gate).args(hosts.as_client()).output().expect("suf starts");
    expect(&left, DONE, &[], "a run that nobody watches");
    let left: serde_json::Value = serde_json::from_slice(&left.stdout).expect("JSON");
    let hash = left["run_hash"].as_str().expect("a hash");
    // An observer's call keeps no run. Which of the parties ended it first is left open.
    let watch = hosts.command(&["watch", hash]).args(hosts.with_certificate("observer", "party0")).output();
    let watched = watch.expect("suf starts");
    assert!(log().contains("its client is gone"), "{watched:?}: {}", log());
    assert!(matches!(kept.try_wait(), Ok(None)), "the run that is watched has ended: {}", log());
    assert!(end(kept, Signal::INT).1.contains("cancelled at both parties"));
}

#[test]
fn an_interrupted_local_evaluation_leaves_no_private_keys_behind() {
    let hosts = Hosts::prepare(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("many.npy"), &[4096; 20 * MANY]);
    let temporary = hosts.folder().join("temporary");
    fs::create_dir(&temporary).expect("the folder is writable");
    for signal in SIGNALS {
        let client = begin_locally(&hosts, Some(&temporary));
        assert!(files(&temporary).iter().any(|file| file.ends_with("party1.key")), "there are keys");
        let (code, said) = end(client, signal);
        assert_eq!(code, Some(FAILED), "{said}");
        let left = fs::read_dir(&temporary).expect("a folder").count();
        assert_eq!(left, 0, "{signal:?}: {:?}", files(&temporary));
    }
}

/// SIGKILL leaves no time to remove anything. The next evaluation does.
#[test]
fn what_a_killed_local_evaluation_leaves_is_removed_by_the_next() {
    let hosts = Hosts::prepare(Path::new(PROGRAM));
    npy::write_i64(&hosts.folder().join("few.npy"), &[4096; 9]);
    npy::write_i64(&hosts.folder().join("many.npy"), &[4096; 20 * MANY]);
    let temporary = hosts.folder().join("temporary");
    fs::create_dir(&temporary).expect("the folder is writable");
    // In a place that the user names, and in the system's, where keys lie in memory if there is some.
    for place in [Some(temporary.as_path()), None] {
        let client = begin_locally(&hosts, place);
        let daemons = daemons_of(&client);
        assert_eq!(daemons.len(), 3, "a dealer and two parties");
        let config = config_of(&daemons[0]).expect("a daemon has a configuration");
        let folder = config.parent().expect("in a folder").to_owned();
        let text = fs::read_to_string(&config).expect("its folder is there");
        let table: toml::Table = text.parse().expect("a configuration");
        let key = folder.join(table["identity"]["key"].as_str().expect("a path"));
        assert!(key.exists(), "{} is in use", key.display());
        match place {
            Some(place) => assert!(key.starts_with(place), "{}", key.display()),
            None if is_in_memory(Path::new("/dev/shm")) => {
                assert!(is_in_memory(&key), "{} is not in memory", key.display());
            }
            None => skip(
                Need::SharedMemory,
                "where private keys lie was not looked at: /dev/shm is not in memory here",
            ),
        }
        end(client, Signal::KILL);
        // They end with their standard input.
        while daemons.iter().any(|daemon| config_of(daemon).is_some()) {
            std::thread::yield_now();
        }
        assert!(folder.exists() && key.exists(), "a killed process removes nothing");
        let mut next = eval_locally(&hosts, "onehot", "few.npy", place);
        expect(&next.output().expect("suf starts"), DONE, &[], "the next evaluation");
        assert!(!folder.exists(), "{} is left", folder.display());
        assert!(!key.exists(), "{} is left", key.display());
    }
    assert_eq!(files(&temporary), [""; 0].map(PathBuf::from), "and the next one's own went with it");
}

/// Whether `path` is in a file system that has no disk.
fn is_in_memory(path: &Path) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS_MAGIC))
}

/// `suf eval --local` of a tensor in the hosts' folder, with its temporary files in `place`, or where the system has them.
fn eval_locally(hosts: &Hosts, protocol: &str, inputs: &str, place: Option<&Path>) -> Command {
    let mut command = hosts.command(&["eval", "--local", "--gate", "gelu", "--outputs", "y.npy"]);
    command.args(["--protocol", protocol, "--inputs", inputs]).env_remove("TMPDIR");
    command.envs(place.map(|place| ("TMPDIR", place)));
    command
}

/// The same of a large tensor, begun: both parties have the run.
fn begin_locally(hosts: &Hosts, place: Option<&Path>) -> Child {
    let mut command = eval_locally(hosts, "sigma", "many.npy", place);
    let mut client = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("suf starts");
    let registered = |client: &Child| {
        let configs = daemons_of(client).into_iter().filter_map(|daemon| config_of(&daemon));
        let logs = configs
            .filter(|config| config.ends_with("party1.toml"))
            .map(|config| config.with_extension("log"));
        logs.into_iter().any(|log| fs::read_to_string(log).unwrap_or_default().contains("run registered"))
    };
    while !registered(&client) {
        assert!(matches!(client.try_wait(), Ok(None)), "it ended too early");
        std::thread::yield_now();
    }
    client
}

/// The children of `client`, as folders of /proc.
fn daemons_of(client: &Child) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{}/task", client.id())).into_iter().flatten().flatten();
    let children = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let all: Vec<_> = children.collect();
    all.iter().flat_map(|line| line.split_whitespace()).map(|id| Path::new("/proc").join(id)).collect()
}

/// The configuration of a daemon; none when it has ended.
fn config_of(daemon: &Path) -> Option<PathBuf> {
    let line = fs::read_to_string(daemon.join("cmdline")).ok()?;
    let mut words = line.split('\0').skip_while(|word| *word != "--config");
    words.nth(1).map(PathBuf::from)
}

/// Daemons with leases of so many seconds.
fn start(lease_s: u32) -> Hosts {
    let hosts = Hosts::start_with(Path::new(PROGRAM), |name, config| {
        if name == "dealer" { config } else { format!("lease_s = {lease_s}\n{config}") }
    });
    npy::write_i64(&hosts.folder().join("few.npy"), &[4096; 9]);
    npy::write_i64(&hosts.folder().join("many.npy"), &[4096; MANY]);
    hosts
}

/// A client with a run that both parties know, besides the `earlier` ones: it evaluates a tensor, or keeps a run and watches it.
fn begin(hosts: &Hosts, earlier: usize, watching: bool) -> Child {
    let command = if watching {
        let elements = MANY.to_string();
        let mut command =
            hosts.command(&["run", "--protocol", "sigma", "--gate", "gelu", "--elements", &elements]);
        command.arg("--watch").args(hosts.as_client());
        command
    } else {
        hosts.eval(&["--protocol", "sigma"], "many.npy")
    };
    begin_with(hosts, earlier, command)
}

/// The same with `command`.
fn begin_with(hosts: &Hosts, earlier: usize, mut command: Command) -> Child {
    let registered = |party: &str| hosts.log(party).matches("run registered").count();
    let before = ["party0", "party1"].map(registered);
    assert!(before.iter().all(|count| *count >= earlier), "runs are missing");
    let mut client = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("suf starts");
    for (party, before) in ["party0", "party1"].into_iter().zip(before) {
        while registered(party) == before {
            if let Ok(Some(status)) = client.try_wait() {
                panic!("the client ended early ({status}): {}", said(&mut client));
            }
            std::thread::yield_now();
        }
    }
    client
}

/// Ends a client: its exit status and what it said.
fn end(mut client: Child, signal: Signal) -> (Option<i32>, String) {
    kill_process(pid(client.id()), signal).expect("the child is ours");
    let status = client.wait().expect("the child is ours");
    (status.code(), said(&mut client))
}

fn said(client: &mut Child) -> String {
    let mut text = String::new();
    client.stderr.as_mut().expect("piped").read_to_string(&mut text).expect("text");
    text
}

fn pid(id: u32) -> Pid {
    i32::try_from(id).ok().and_then(Pid::from_raw).expect("process ids are positive")
}
