//! A dealer and two parties on this machine, as child processes of this one, in a temporary folder with a
//! throw-away authority. Used by `bench`, `eval --local` and the Python package; everything is gone when the value is dropped. What a killed process
//! leaves is removed by the next.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use suf_control::{client as control, v1::Fault};
use suf_files::Scratch;
use suf_lab::{Host, Lab, Network};
use suf_link::{Identity, Pki};
use suf_wire::{Party, Role};
use toml::{Table, Value};

use crate::{
    client::{Parties, connect},
    error::Error,
    observed::Reports,
    runtime::Interrupt,
};

/// How long a daemon may take until it is ready. Opening its ledger, measuring its backend and reaching the dealer take
/// well below a second. A GPU that compiles its kernels takes a few.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a daemon may take to end: twice what the control API allows open calls after a shutdown began.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines of a daemon's log that an error shows.
const LOG_LINES: usize = 8;

/// Name of the link that is not shaped.
pub(crate) const LOOPBACK: &str = "loopback";

/// What the three processes run on.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Link profile: the name of a built-in one, or the path of a file.
    pub link: String,
    /// Whether the profile's delay and rate are emulated inside the processes.
    pub shaped: bool,
    /// "auto", "cpu" or "cuda".
    pub backend: String,
    /// Where they run.
    pub placement: Placement,
    /// A model whose programs they evaluate: its folder, and the text of its plan.
    pub model: Option<(PathBuf, String)>,
    /// Whether the parties tell this process what they make of each part, for a check.
    pub checked: bool,
}

/// The file of the model's plan, beside the configurations.
const PLAN: &str = "plan.toml";

/// Where the three processes run.
#[derive(Debug, Clone, Default)]
pub enum Placement {
    /// On this machine's loopback interface.
    #[default]
    Loopback,
    /// Each on its host of a lab; this process is on the client's.
    Lab(Arc<Lab>),
}

impl Placement {
    /// An address of `host` on `network`, with a port of the system's choice.
    fn address(&self, host: Host, network: Network) -> SocketAddr {
        let address = match self {
            Self::Loopback => Ipv4Addr::LOCALHOST,
            Self::Lab(_) => host.address(network),
        };
        (address, 0).into()
    }

    /// A command that will run on `host`.
    fn command(&self, host: Host, program: &Path) -> Command {
        match self {
            Self::Loopback => Command::new(program),
            Self::Lab(lab) => lab.command(host, program),
        }
    }

    /// The addresses that the certificates are good for, besides each role's own name; none: those of loopback.
    fn addresses(&self) -> BTreeMap<Role, Vec<String>> {
        let Self::Lab(_) = self else { return BTreeMap::new() };
        let roles =
            [(Role::Dealer, Host::Dealer), (Role::Party0, Host::Party0), (Role::Party1, Host::Party1)];
        let all = |host: Host| Network::ALL.map(|network| host.address(network).to_string()).to_vec();
        roles.into_iter().map(|(role, host)| (role, all(host))).collect()
    }
}

/// How `suf` is started as a daemon.
#[derive(Debug, Clone)]
pub struct Program {
    /// What is executed.
    pub path: PathBuf,
    /// Arguments before those of the daemon.
    pub arguments: Vec<OsString>,
    /// Whether signals from a terminal leave the daemon alone, because this process goes on after them.
    pub survives_signals: bool,
}

impl Program {
    /// This process's own program, which is `suf`.
    ///
    /// # Errors
    /// When the system does not say where it is.
    pub fn own() -> Result<Self, Error> {
        let path = std::env::current_exe()
            .map_err(|error| Error::here(Fault::Device, format!("this program's path: {error}")))?;
        Ok(Self { path, arguments: Vec::new(), survives_signals: false })
    }
}

/// The three processes, and identities for them: a client's, an operator's, and that of a model's owner.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: the parties first, which need the dealer; the folders last.
    parties: [Daemon; 2],
    dealer: Daemon,
    client: Identity,
    operator: Identity,
    owner: Identity,
    _secrets: Option<Scratch>,
    _folder: Scratch,
}

/// Peak memory of the three processes, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct PeakMemory {
    /// The dealer.
    pub dealer: u64,
    /// Party 0 and party 1.
    pub parties: [u64; 2],
    /// The peak of one row, and not of all rows since the start.
    pub of_row: bool,
}

impl Cluster {
    /// Starts the three processes and waits until they are ready.
    ///
    /// # Errors
    /// When one does not start; the message has the end of its log.
    pub fn start(setup: &Setup) -> Result<Self, Error> {
        Self::start_by(&Program::own()?, setup)
    }

    /// The same, with daemons that `program` starts.
    ///
    /// # Errors
    /// When one does not start; the message has the end of its log.
    pub fn start_by(program: &Program, setup: &Setup) -> Result<Self, Error> {
        let folder = Scratch::new().map_err(|error| {
            let place = std::env::temp_dir();
            let reason = format!(
                "no folder can be made in {}: {error}; see its permissions, or name another place by the variable TMPDIR",
                place.display()
            );
            Error::here(Fault::Device, reason)
        })?;
        let path = folder.path();
        // Private keys stay in memory where they can. Elsewhere they lie beside the configurations, which name them by this path.
        let secrets = Scratch::in_memory();
        let pki = secrets.as_ref().map_or(PathBuf::from("pki"), |folder| folder.path().join("pki"));
        Pki::create(&path.join(&pki), &setup.placement.addresses())
            .map_err(|error| Error::here(Fault::Device, error.to_string()))?;
        let identity = |role: Role| {
            Identity::load_from(&path.join(&pki), role.name())
                .map_err(|error| Error::here(Fault::Bug, error.to_string()))
        };
        let [client, operator, owner] = [Role::Client, Role::Operator, Role::Model].map(identity);
        let (client, operator, owner) = (client?, operator?, owner?);

        if let Some((_, plan)) = &setup.model {
            let file = path.join(PLAN);
            fs::write(&file, plan).map_err(|error| Error::write(&file, error))?;
        }
        let start = |host, config: &str| Daemon::start(path, program, setup, host, config);
        let dealer = start(Host::Dealer, &dealer_config(setup, &pki))?;
        let keys = dealer.ready.keys.clone().ok_or_else(|| dealer.not_ready("no key address"))?;
        let listen = setup.placement.address(Host::Party0, Network::Peer).to_string();
        let first = start(Host::Party0, &party_config(setup, &pki, Party::P0, &keys, &listen))?;
        let peer = first.ready.peer.clone().ok_or_else(|| first.not_ready("no peer address"))?;
        let second = start(Host::Party1, &party_config(setup, &pki, Party::P1, &keys, &peer))?;
        let parties = [first, second];
        Ok(Self { parties, dealer, client, operator, owner, _secrets: secrets, _folder: folder })
    }

    /// Both parties, as a client whose runs end when `interrupt` comes.
    ///
    /// # Errors
    /// When one cannot be reached.
    pub async fn connect(&self, interrupt: Interrupt) -> Result<Parties, Error> {
        self.connect_as(&self.client, interrupt).await
    }

    /// The same, as the owner of a model with private weights.
    ///
    /// # Errors
    /// When one cannot be reached.
    pub async fn connect_as_owner(&self, interrupt: Interrupt) -> Result<Parties, Error> {
        self.connect_as(&self.owner, interrupt).await
    }

    async fn connect_as(&self, identity: &Identity, interrupt: Interrupt) -> Result<Parties, Error> {
        let [first, second] = &self.parties;
        let parties = Parties::connect([&first.url(), &second.url()], identity).await?;
        Ok(parties.until(interrupt))
    }

    /// The dealer, as an operator.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn dealer(
        &self,
    ) -> Result<suf_control::v1::dealer_client::DealerClient<tonic::transport::Channel>, Error> {
        Ok(control::dealer(connect(&self.dealer.url(), &self.operator, Role::Dealer).await?))
    }

    /// What both parties tell of their runs, where the set-up asked for it.
    pub(crate) fn reports(&self) -> [&Reports; 2] {
        self.parties.each_ref().map(|party| &party.reports)
    }

    /// Lets go of the processes in a copy of this process, as `fork` makes it: they and their folders stay with the original.
    pub fn forget(mut self) {
        for daemon in self.parties.iter_mut().chain([&mut self.dealer]) {
            // The copy's end of the pipe would keep them alive after the original.
            daemon.tell_to_end();
        }
        std::mem::forget(self);
    }

    /// Ends the processes. Better than dropping: our own connections are closed meanwhile, which the processes wait for.
    pub async fn stop(self) {
        // The task ends with the processes, and cannot be cancelled.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    /// Lets the peaks begin anew. False where the system does not allow it: then they are those since the start.
    #[must_use]
    pub fn forget_peaks(&self) -> bool {
        // What is not allowed for one is not allowed for any.
        self.parties.iter().chain([&self.dealer]).all(Daemon::forget_peak)
    }

    /// Peak resident memory since the start, or since it was last forgotten.
    #[must_use]
    pub fn peak_memory(&self, of_row: bool) -> PeakMemory {
        let [first, second] = &self.parties;
        let parties = [first.peak_memory(), second.peak_memory()];
        PeakMemory { dealer: self.dealer.peak_memory(), parties, of_row }
    }

    /// The error of a failed run with the end of the log of the process that has died, if one has.
    #[must_use]
    pub fn explain(&mut self, error: Error) -> Error {
        self.death().map_or(error, |death| Error::here(Fault::Bug, death))
    }

    /// Which process has died, and the end of its log.
    pub fn death(&mut self) -> Option<String> {
        let [first, second] = &mut self.parties;
        [&mut self.dealer, first, second].into_iter().find_map(Daemon::death)
    }
}

impl Drop for Cluster {
    /// Tells all to end before any is waited for.
    fn drop(&mut self) {
        for daemon in self.parties.iter_mut().chain([&mut self.dealer]) {
            daemon.tell_to_end();
        }
    }
}

/// One child process.
#[derive(Debug)]
struct Daemon {
    name: &'static str,
    child: Child,
    ready: Ready,
    reports: Reports,
    log: PathBuf,
}

/// The line that a daemon prints when it is ready.
#[derive(Debug, Default, Deserialize)]
struct Ready {
    control: String,
    keys: Option<String>,
    peer: Option<String>,
}

impl Daemon {
    /// Starts `suf dealer` or `suf party` with `config`, and waits for its line.
    fn start(
        folder: &Path,
        program: &Program,
        setup: &Setup,
        host: Host,
        config: &str,
    ) -> Result<Self, Error> {
        let name = host.name();
        let config_path = folder.join(format!("{name}.toml"));
        let log = folder.join(format!("{name}.log"));
        let written = File::create(&config_path).and_then(|mut file| file.write_all(config.as_bytes()));
        written.map_err(|error| Error::write(&config_path, error))?;
        let log_file = File::create(&log).map_err(|error| Error::write(&log, error))?;
        let command = if host == Host::Dealer { "dealer" } else { "party" };
        let mut start = setup.placement.command(host, &program.path);
        if program.survives_signals {
            // A terminal signals the group that is in its foreground.
            start.process_group(0);
        }
        // The child ends when its standard input does, hence with this process, however that ends.
        let mut child = start
            .args(&program.arguments)
            .args([command, "--config"])
            .arg(&config_path)
            .arg("--until-stdin-closes")
            .args((setup.checked && host != Host::Dealer).then_some("--tell-checker"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .map_err(|error| Error::here(Fault::Device, format!("cannot start the {name}: {error}")))?;
        let stdout = child.stdout.take().expect("the output was piped");
        let (line, reports) = Reports::after_first_line(stdout);
        let mut daemon = Self { name, child, ready: Ready::default(), reports, log };
        match line.recv_timeout(READY_TIMEOUT) {
            Ok(line) => {
                daemon.ready = serde_json::from_str(&line)
                    .map_err(|error| daemon.not_ready(&format!("its first line is {line:?} ({error})")))?;
                Ok(daemon)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(daemon.not_ready("it ended")),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(daemon.not_ready(&format!("not ready after {READY_TIMEOUT:?}")))
            }
        }
    }

    /// Closes its standard input, at which it ends cleanly.
    fn tell_to_end(&mut self) {
        drop(self.child.stdin.take());
    }

    fn url(&self) -> String {
        format!("https://{}", self.ready.control)
    }

    fn not_ready(&self, why: &str) -> Error {
        Error::here(Fault::Device, format!("the {} did not start: {why}{}", self.name, self.log_end()))
    }

    /// How the process died, if it has.
    fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("the {} died ({status}){}", self.name, self.log_end()))
    }

    /// The last lines of its log.
    fn log_end(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        if last.is_empty() {
            String::new()
        } else {
            format!("; the end of its log:\n  {}", last.join("\n  "))
        }
    }

    /// Lets `VmHWM` begin anew from what is resident now (`proc_pid_clear_refs(5)`). Whether the system allows it.
    fn forget_peak(&self) -> bool {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").is_ok()
    }

    /// `VmHWM` of the process in bytes; 0 where the system does not say.
    fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        peak_of(&status)
    }
}

impl Drop for Daemon {
    /// Ends the process, with SIGKILL if it takes too long by itself.
    fn drop(&mut self) {
        self.tell_to_end();
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let (ended, end) = mpsc::channel();
        let child = &mut self.child;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = child.wait();
                // The receiver may have given up waiting, not gone.
                let _ = ended.send(());
            });
            if end.recv_timeout(END_TIMEOUT).is_err()
                && let Some(pid) = pid
            {
                // Not waited for yet, so the id is still the child's.
                let _ = kill_process(pid, Signal::KILL);
            }
        });
    }
}

fn peak_of(status: &str) -> u64 {
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl Setup {
    /// The link as the configurations name it: they stand in another folder than the one that the user's path is from.
    fn link(&self, host: Host) -> String {
        let link = match &self.placement {
            Placement::Lab(lab) if host == Host::Dealer => &lab.plan().dealer.name,
            _ => &self.link,
        };
        match std::path::absolute(link) {
            Ok(path) if link.contains(['/', '.']) => path.display().to_string(),
            _ => link.clone(),
        }
    }
}

fn dealer_config(setup: &Setup, pki: &Path) -> String {
    let [keys, control] =
        [Network::Keys, Network::Control].map(|network| setup.placement.address(Host::Dealer, network));
    let own = [("listen", keys.to_string().into()), ("control", control.to_string().into())];
    config(setup, pki, Host::Dealer, own)
}

fn party_config(setup: &Setup, pki: &Path, party: Party, keys: &str, peer: &str) -> String {
    let host = if party == Party::P0 { Host::Party0 } else { Host::Party1 };
    let (number, verb) = if party == Party::P0 { (0, "listen") } else { (1, "connect") };
    let control = setup.placement.address(host, Network::Control);
    let own = [
        ("party", Value::Integer(number)),
        ("control", control.to_string().into()),
        ("peer", table([(verb, peer.into())])),
        ("dealer", keys.into()),
        ("state_dir", party.to_string().into()),
        // There is one client.
        ("client_key_memory_mb", Value::Integer(4096)),
        // A benchmark sends inputs when all keys are there, which takes long over a slow link.
        ("input_wait_s", Value::Integer(3600)),
    ];
    config(setup, pki, host, own)
}

/// The keys of every daemon and its `own`. The library writes them: a path may hold what TOML escapes otherwise than Rust.
fn config<const N: usize>(setup: &Setup, pki: &Path, host: Host, own: [(&str, Value); N]) -> String {
    let name = host.name();
    let file = |name: &str| Value::from(pki.join(name).display().to_string());
    let identity = table([
        ("ca", file("ca.pem")),
        ("cert", file(&format!("{name}.pem"))),
        ("key", file(&format!("{name}.key"))),
    ]);
    let common = [
        ("link", setup.link(host).into()),
        ("shaped", setup.shaped.into()),
        ("backend", setup.backend.as_str().into()),
        ("identity", identity),
    ];
    let model = setup.model.as_ref().map(|(folder, _)| {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
        let entry = table([("dir", folder.display().to_string().into()), ("plan", PLAN.into())]);
        ("models", Value::Array(vec![entry]))
    });
    let entries = own.into_iter().chain(common).chain(model).map(|(key, value)| (key.to_owned(), value));
    entries.collect::<Table>().to_string()
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(entries.map(|(key, value)| (key.to_owned(), value)).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_read_in_bytes() {
        assert_eq!(peak_of("Name:\tsuf\nVmHWM:\t  2048 kB\nThreads: 2\n"), 2 << 20);
        assert_eq!(peak_of(""), 0);
    }

    #[test]
    fn configs_are_toml_with_paths_beside_them() {
        let setup = Setup { backend: "cpu".into(), ..Setup::loopback() };
        let dealer: toml::Table = dealer_config(&setup, Path::new("pki")).parse().unwrap();
        assert_eq!(dealer["identity"]["key"].as_str(), Some("pki/dealer.key"));
        let party: toml::Table =
            party_config(&setup, Path::new("pki"), Party::P1, "127.0.0.1:1", "127.0.0.1:2").parse().unwrap();
        assert_eq!(party["peer"]["connect"].as_str(), Some("127.0.0.1:2"));
        assert_eq!(party["party"].as_integer(), Some(1));
        // What Rust, TOML and the shell escape each in their own way.
        for name in [
            "e\u{301}/my.toml",
            "quo\"te/\\.toml",
            "new\nline/.toml",
            "$HOME/`id`.toml",
            "\u{7f}\u{1b}/x.toml",
        ] {
            let setup = Setup { link: format!("/{name}"), ..setup.clone() };
            let dealer: toml::Table = dealer_config(&setup, Path::new("pki")).parse().unwrap();
            assert_eq!(dealer["link"].as_str(), Some(setup.link.as_str()));
        }
    }
}
