//! A dealer and two parties as real processes, with addresses and state that survive a kill.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use suf_lab::{Host, Lab, Network};
use suf_link::LinkProfile;
use suf_skip::{Need, skip};
use tempfile::TempDir;

/// The three daemons.
pub const NAMES: [&str; 3] = ["dealer", "party0", "party1"];

/// What daemons log for [`check_from_outside`]: every frame that is sent.
pub const CAPTURE: &str = "info,suf_server::captured=trace";

/// Three hosts in one folder.
pub struct Hosts {
    program: PathBuf,
    folder: TempDir,
    daemons: Vec<Daemon>,
    /// What the daemons log, if not what they are told to by the environment.
    filter: Option<&'static str>,
    /// Variables that one daemon has besides ours.
    environment: Vec<(&'static str, &'static str, OsString)>,
    /// Each daemon, and the client, on a host of its own. Dropped when the daemons are gone.
    lab: Option<Lab>,
}

struct Daemon {
    name: &'static str,
    child: Child,
    /// Kept open, so that the daemon lives.
    _stdin: Option<ChildStdin>,
    /// Kept open, so that the daemon can print.
    _stdout: BufReader<ChildStdout>,
    ready: serde_json::Value,
    config: String,
}

impl Hosts {
    /// Makes certificates and starts all three with `program`, which is `suf`.
    ///
    /// # Panics
    /// When one does not start.
    #[must_use]
    pub fn start(program: &Path) -> Self {
        Self::start_with(program, |_, config| config)
    }

    /// As [`Hosts::start`], with each configuration changed by `change`, which is given the daemon's name.
    ///
    /// # Panics
    /// When one does not start.
    #[must_use]
    pub fn start_with(program: &Path, change: impl Fn(&str, String) -> String) -> Self {
        let mut hosts = Self::prepare(program);
        hosts.start_daemons(change);
        hosts
    }

    /// A folder with certificates, and no daemon yet.
    ///
    /// # Panics
    /// When certificates cannot be made.
    #[must_use]
    pub fn prepare(program: &Path) -> Self {
        Self::placed(program, None)
    }

    /// As [`Hosts::prepare`], for daemons that each run on their own host of `lab`, as does the client. They share files, not
    /// networks.
    ///
    /// # Panics
    /// When certificates cannot be made.
    #[must_use]
    pub fn prepare_in(program: &Path, lab: Lab) -> Self {
        Self::placed(program, Some(lab))
    }

    fn placed(program: &Path, lab: Option<Lab>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = program.to_owned();
        let hosts = Self { program, folder, daemons: Vec::new(), filter: None, environment: Vec::new(), lab };
        let made = hosts.suf(&["pki", "init", "pki"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        hosts
    }

    /// Sets what daemons that are started from now on log: a filter as in `RUST_LOG`.
    #[must_use]
    pub fn logging(mut self, filter: &'static str) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Gives the daemon `name`, whenever it is started from now on, the variable `variable`.
    pub fn set_env(&mut self, name: &'static str, variable: &'static str, value: OsString) {
        self.environment.push((name, variable, value));
    }

    /// Starts all three, with each configuration changed by `change`, which is given the daemon's name.
    ///
    /// # Panics
    /// When one does not start.
    pub fn start_daemons(&mut self, change: impl Fn(&str, String) -> String) {
        for name in NAMES {
            let config = change(name, self.config(name));
            let daemon = self.launch(name, &config);
            self.daemons.push(daemon);
        }
    }

    /// The process id of a daemon.
    ///
    /// # Panics
    /// When there is no such daemon.
    pub fn pid(&mut self, name: &str) -> u32 {
        self.daemon_mut(name).child.id()
    }

    /// The same, for calls of the system.
    ///
    /// # Panics
    /// When there is no such daemon.
    pub fn process(&mut self, name: &str) -> Pid {
        i32::try_from(self.pid(name)).ok().and_then(Pid::from_raw).expect("process ids are positive")
    }

    /// Stops a daemon as SIGSTOP does. None of its threads runs any more afterwards: until then, one that was at work when the
    /// signal came could still answer.
    ///
    /// # Panics
    /// When there is no such daemon, or it has ended.
    pub fn stand_still(&mut self, name: &str) {
        let process = self.process(name);
        kill_process(process, Signal::STOP).expect("the child is ours");
        let stopped = waitpid(Some(process), WaitOptions::UNTRACED).expect("the child is ours");
        assert!(stopped.is_some_and(|(_, status)| status.stopped()), "{name} has ended");
    }

    /// Lets a daemon that stands still go on.
    ///
    /// # Panics
    /// When there is no such daemon.
    pub fn go_on(&mut self, name: &str) {
        kill_process(self.process(name), Signal::CONT).expect("the child is ours");
    }

    /// Runs `suf` with `arguments` in the folder, to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn suf(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("suf starts")
    }

    /// `suf` with `arguments` in the folder, as the client runs it, not started yet.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_on(Host::Client, arguments)
    }

    /// `suf` with `arguments` in the folder, as `host` of the lab runs it, not started yet.
    #[must_use]
    pub fn command_on(&self, host: Host, arguments: &[&str]) -> Command {
        let mut command = match &self.lab {
            Some(lab) => lab.command(host, &self.program),
            None => Command::new(&self.program),
        };
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Options that lead a client to the parties.
    #[must_use]
    pub fn as_client(&self) -> [String; 6] {
        let url = |name: &str| format!("https://{}", self.address(name, "control"));
        ["--party0", &url("party0"), "--party1", &url("party1"), "--identity", "pki/client.pem"]
            .map(Into::into)
    }

    /// The same for the holder of the certificate `name`.
    #[must_use]
    pub fn as_named(&self, name: &str) -> [String; 6] {
        let [party0, url0, party1, url1, option, _] = self.as_client();
        [party0, url0, party1, url1, option, format!("pki/{name}.pem")]
    }

    /// Options that lead a client to one party.
    #[must_use]
    pub fn as_client_of(&self, party: &str) -> [String; 4] {
        let url = format!("https://{}", self.address(party, "control"));
        [format!("--{party}"), url, "--identity".into(), "pki/client.pem".into()]
    }

    /// Options that lead somebody with the certificate `name` to one party.
    #[must_use]
    pub fn with_certificate(&self, name: &str, party: &str) -> [String; 4] {
        let [option, url, identity, _] = self.as_client_of(party);
        [option, url, identity, format!("pki/{name}.pem")]
    }

    /// The control address of a daemon.
    #[must_use]
    pub fn control_url(&self, name: &str) -> String {
        format!("https://{}", self.address(name, "control"))
    }

    /// The address of a daemon's pages for operators.
    ///
    /// # Panics
    /// When its configuration has none.
    #[must_use]
    pub fn admin(&self, name: &str) -> String {
        self.address(name, "admin")
    }

    /// Makes a further certificate of a role, called `name`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn issue(&self, role: &str, name: &str) {
        expect(&self.suf(&["pki", "issue", "pki", role, "--name", name]), 0, &[], "issuing a certificate");
    }

    /// `suf eval` of GELU on the file `inputs` of the folder, as their client; `how` says by which protocol. Not started yet.
    #[must_use]
    pub fn eval(&self, how: &[&str], inputs: &str) -> Command {
        let mut command = self.command(&["eval", "--gate", "gelu", "--inputs", inputs, "--outputs", "y.npy"]);
        command.args(how).args(self.as_client());
        command
    }

    /// The outcome of `suf eval` under `onehot` on the file `inputs` of the folder.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn onehot(&self, inputs: &str) -> Output {
        self.eval(&["--protocol", "onehot"], inputs).output().expect("suf starts")
    }

    /// What was measured of the last run at a party.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn last_figures(&self, party: &str) -> serde_json::Value {
        let [party, url, ..] = self.as_client_of(party);
        let output =
            self.suf(&["runs", "--limit", "1", "--json", &party, &url, "--identity", "pki/operator.pem"]);
        expect(&output, 0, &[], "listing runs");
        let mut runs: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        runs[0]["figures"].take()
    }

    /// Kills a daemon with SIGKILL and waits until it is gone.
    ///
    /// # Panics
    /// When there is no such daemon.
    pub fn kill(&mut self, name: &str) {
        let daemon = self.daemon_mut(name);
        daemon.child.kill().expect("the child is ours");
        daemon.child.wait().expect("the child is ours");
    }

    /// Starts a killed daemon again, with the configuration, the addresses and the state that it had.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self, name: &'static str) {
        let mut config = self.daemon_mut(name).config.clone();
        let any = |network| format!("\"{}\"", self.any_port(name, network));
        for (key, field, network) in [
            ("control", "control", Network::Control),
            ("listen", "keys", Network::Keys),
            ("listen", "peer", Network::Peer),
        ] {
            if let Some(known) = self.known(name, field) {
                config =
                    config.replace(&format!("{key} = {}", any(network)), &format!("{key} = \"{known}\""));
            }
        }
        let daemon = self.launch(name, &config);
        *self.daemon_mut(name) = daemon;
    }

    /// Ends a daemon with SIGTERM; its exit code.
    ///
    /// # Panics
    /// When there is no such daemon.
    pub fn terminate(&mut self, name: &str) -> Option<i32> {
        let child = &mut self.daemon_mut(name).child;
        let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(killed.expect("kill runs").success());
        child.wait().expect("the child is ours").code()
    }

    /// Whether a daemon is alive.
    pub fn is_alive(&mut self, name: &str) -> bool {
        matches!(self.daemon_mut(name).child.try_wait(), Ok(None))
    }

    /// The network of the daemons that were prepared in one.
    ///
    /// # Panics
    /// When they were not.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("prepared in a lab")
    }

    /// The folder of certificates, configurations, state and tensors.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A daemon's log so far.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{name}.log"))).expect("a log")
    }

    /// The batches that a party says it has burnt, in order. It says so as soon as one is burnt, before anything that
    /// depends on it leaves.
    ///
    /// # Panics
    /// When a line about it names no batch.
    #[must_use]
    pub fn burnt(&self, name: &str) -> Vec<String> {
        let batch = |line: &str| {
            let (_, rest) = line.split_once("batch=").unwrap_or_else(|| panic!("no batch in {line:?}"));
            rest.chars().take_while(char::is_ascii_hexdigit).collect()
        };
        self.log(name).lines().filter(|line| line.contains("batch burnt")).map(batch).collect()
    }

    /// Checks that each party has burnt `least` batches or more, and none twice.
    ///
    /// # Panics
    /// When that is not so.
    pub fn check_batches(&self, least: usize) {
        for name in ["party0", "party1"] {
            let burnt = self.burnt(name);
            let batches: HashSet<_> = burnt.iter().collect();
            assert!(burnt.len() >= least, "{name} burnt only {} batches", burnt.len());
            assert_eq!(batches.len(), burnt.len(), "{name} burnt a batch twice");
        }
    }

    /// The configuration of a daemon. Ports are chosen by the system at the first start and kept from then on.
    fn config(&self, name: &str) -> String {
        let identity =
            format!("[identity]\nca = \"pki/ca.pem\"\ncert = \"pki/{name}.pem\"\nkey = \"pki/{name}.key\"\n");
        let own = |field: &str, network: Network| {
            self.known(name, field).unwrap_or_else(|| self.any_port(name, network))
        };
        let control = own("control", Network::Control);
        if name == "dealer" {
            let listen = own("keys", Network::Keys);
            return format!(
                "listen = \"{listen}\"\ncontrol = \"{control}\"\nlink = \"loopback\"\n{identity}"
            );
        }
        let (party, peer) = if name == "party0" {
            (0, format!("listen = \"{}\"", own("peer", Network::Peer)))
        } else {
            (1, format!("connect = \"{}\"", self.address("party0", "peer")))
        };
        format!(
            "party = {party}\ncontrol = \"{control}\"\ndealer = \"{}\"\nstate_dir = \"state-{name}\"\n\
             backend = \"cpu\"\npeer = {{ {peer} }}\n{identity}",
            self.address("dealer", "keys")
        )
    }

    /// The address of a daemon on `network`, with a port of the system's choice.
    fn any_port(&self, name: &str, network: Network) -> String {
        match &self.lab {
            Some(_) => format!("{}:0", host(name).address(network)),
            None => "127.0.0.1:0".into(),
        }
    }

    fn launch(&self, name: &'static str, config: &str) -> Daemon {
        let folder = self.folder.path();
        let file = format!("{name}.toml");
        fs::write(folder.join(&file), config).expect("the folder is writable");
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join(format!("{name}.log")));
        let role = if name == "dealer" { "dealer" } else { "party" };
        let mut command = self.command_on(host(name), &[role, "--config", &file, "--until-stdin-closes"]);
        if let Some(filter) = self.filter {
            command.env("RUST_LOG", filter);
        }
        let own = self.environment.iter().filter(|(of, ..)| *of == name);
        command.envs(own.map(|(_, variable, value)| (variable, value)));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.expect("the folder is writable"))
            .spawn()
            .expect("suf starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a daemon prints text");
        let ready = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{name} says {line:?} ({error}); its log:\n{}", self.log(name)));
        let config = config.to_owned();
        Daemon { name, _stdin: child.stdin.take(), child, _stdout: stdout, ready, config }
    }

    fn address(&self, name: &str, field: &str) -> String {
        self.known(name, field).unwrap_or_else(|| panic!("{name} has not told its {field} address"))
    }

    fn known(&self, name: &str, field: &str) -> Option<String> {
        let daemon = self.daemons.iter().find(|daemon| daemon.name == name)?;
        Some(daemon.ready[field].as_str()?.to_owned())
    }

    fn daemon_mut(&mut self, name: &str) -> &mut Daemon {
        self.daemons.iter_mut().find(|daemon| daemon.name == name).expect("one of the three")
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            // A daemon may be dead already; either way it is gone afterwards.
            let _ = daemon.child.kill();
            let _ = daemon.child.wait();
        }
    }
}

/// Lets a script that shares no code with the program look for keys used twice, in every frame that the parties of `all` sent.
/// They log [`CAPTURE`].
///
/// # Panics
/// When a key was used twice.
pub fn check_from_outside(all: &[&Hosts]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("key_reuse.py");
    let logs = all.iter().flat_map(|hosts| ["party0.log", "party1.log"].map(|log| hosts.folder().join(log)));
    // The system's own, if there is one: another may be a script that chooses a version, for seconds in a user-mode kernel.
    let own = "/usr/bin/python3";
    let python = if Path::new(own).exists() { own } else { "python3" };
    match Command::new(python).arg(script).args(logs).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            println!("{said}");
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => {
            skip(
                Need::Python3,
                format!("no check by tests/key_reuse.py: python3 cannot be started: {error}"),
            );
        }
    }
}

/// Writes the loopback profile with so many lanes to `folder`; the line of a configuration that names it.
///
/// # Panics
/// When the profile's lanes stand elsewhere, or the folder is not writable.
#[must_use]
pub fn loopback_with_lanes(folder: &Path, lanes: usize) -> String {
    let (_, loopback) = LinkProfile::BUILT_IN[0];
    let profile = loopback.replace("lanes = 8", &format!("lanes = {lanes}"));
    assert_ne!(profile, loopback, "the profile has lanes");
    let path = folder.join("lanes.toml");
    fs::write(&path, profile).expect("the folder is writable");
    format!("link = \"{}\"", path.display())
}

/// The host of a lab that a daemon runs on.
fn host(name: &str) -> Host {
    Host::ALL.into_iter().find(|host| host.name() == name).expect("hosts are called as their daemons")
}

/// Checks that a command ended with the status `code`, has all of `words` among what it said, and did not panic.
///
/// # Panics
/// When that is not so; `what` names the case.
pub fn expect(output: &Output, code: i32, words: &[&str], what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {said}");
    for word in words {
        assert!(said.contains(word), "{what}: '{word}' is missing in: {said}");
    }
    assert!(!said.contains("panicked"), "{what}: {said}");
    expect_own_words(&said, what);
}

/// Checks that `said` has no words of the libraries that carry our messages: they say nothing to a user.
///
/// # Panics
/// When it has.
pub fn expect_own_words(said: &str, what: &str) {
    for word in
        ["h2 ", "hyper", "tonic", "transport error", "protocol error", "rustls", "quinn", "a body from"]
    {
        assert!(!said.contains(word), "{what}: '{word}' is a library's word in: {said}");
    }
}
