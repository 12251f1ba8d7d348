//! A lab: how it comes up, what runs in it, and how it goes down.

use std::{ffi::OsStr, fmt::Write, fs::File, io, os::fd::AsFd, process::Command, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    error::LabError,
    iproute::{ip, ip_batch, tc},
    measure::{self, Measured},
    netem::{self, Counters},
    plan::{Host, LabPlan, Network},
    state::{self, State, namespace, namespace_file, switch},
};

/// The environment variable with a lab's name, for the processes in it.
pub const SUF_LAB: &str = "SUF_LAB";

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    name: String,
    plan: LabPlan,
    /// Ours to take down, if there.
    state: Option<State>,
}

/// Whether this process may build labs and its kernel can.
///
/// # Errors
/// What is missing, and what to do.
pub fn check_kernel() -> Result<(), LabError> {
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    // Nothing tells whether a module can be loaded but loading it, and a namespace of its own harms nobody.
    let probe = format!("suf-{}-probe", random_name()?);
    ip(&["netns", "add", &probe])?;
    let added = tc(&probe, &["qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]);
    ip(&["netns", "delete", &probe])?;
    added.map(drop)
}

impl Lab {
    /// Builds the lab, after removing what killed labs left behind. It goes down when the value is dropped.
    ///
    /// # Errors
    /// What is missing, or what failed; then nothing is left.
    pub fn up(plan: LabPlan) -> Result<Self, LabError> {
        if !rustix::process::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        state::sweep()?;
        let name = random_name()?;
        let state = State::create(&name, &plan)?;
        let lab = Self { name, plan, state: Some(state) };
        lab.build()?;
        Ok(lab)
    }

    /// A lab that somebody else owns.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn join(name: &str) -> Result<Self, LabError> {
        Ok(Self { name: name.to_owned(), plan: state::find(name)?, state: None })
    }

    /// The lab that this process was started in, by its environment.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn of_environment() -> Result<Option<Self>, LabError> {
        std::env::var(SUF_LAB).ok().map(|name| Self::join(&name)).transpose()
    }

    /// Lets the lab stay when this process ends, and gives its name.
    ///
    /// # Errors
    /// When its state file cannot be renamed.
    pub fn keep(mut self) -> Result<String, LabError> {
        self.state.take().map_or(Ok(()), State::keep)?;
        Ok(self.name.clone())
    }

    /// Takes down a lab, whoever owns it, with everything that runs in it.
    ///
    /// # Errors
    /// When there is none of this name, or it cannot be removed.
    pub fn down(name: &str) -> Result<(), LabError> {
        state::find(name)?;
        state::remove(name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its links.
    #[must_use]
    pub fn plan(&self) -> &LabPlan {
        &self.plan
    }

    /// The namespace of `host`.
    #[must_use]
    pub fn namespace(&self, host: Host) -> String {
        namespace(&self.name, host)
    }

    /// A command that will run on `host`.
    #[must_use]
    pub fn command(&self, host: Host, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program).envs(self.environment());
        command
    }

    /// What the processes in the lab find in their environment: its name, and `SUF_LAB_PARTY0` and so on, the namespaces.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let hosts =
            Host::ALL.map(|host| (format!("{SUF_LAB}_{}", host.name().to_uppercase()), self.namespace(host)));
        hosts.into_iter().chain([(SUF_LAB.to_owned(), self.name.clone())]).collect()
    }

    /// Moves the calling thread to `host`. Its later sockets are there, and so are its child processes and the threads
    /// that it starts.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn enter(&self, host: Host) -> Result<(), LabError> {
        let path = namespace_file(&self.namespace(host));
        let enter = || -> io::Result<()> {
            let file = File::open(&path)?;
            Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
        };
        enter().map_err(LabError::file(&path))
    }

    /// Runs `work` on a thread that is on `host`, to its end.
    pub(crate) fn on<T: Send>(
        &self,
        host: Host,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let work = || {
            self.enter(host).map_err(io::Error::other)?;
            work()
        };
        thread::scope(|scope| scope.spawn(work).join().expect("work on a host returns its errors"))
    }

    /// What `tc` has counted of what `host` sent into `network`, which is shaped.
    ///
    /// # Errors
    /// When `host` is not on that network, or it is not shaped.
    pub fn counters(&self, host: Host, network: Network) -> Result<Counters, LabError> {
        let namespace = self.namespace(host);
        Counters::parse(&tc(&namespace, &["-s", "-j", "qdisc", "show", "dev", network.name()])?)
    }

    /// Measures each link in each direction with packets of its own.
    ///
    /// # Errors
    /// When one is off by more than 5 % or drops more than its loss explains, again and again.
    pub fn measure(&self) -> Result<Vec<Measured>, LabError> {
        measure::all(self)
    }

    /// Changes the shape of the links while they are in use. Packet sizes stay.
    ///
    /// # Errors
    /// When `tc` refuses.
    pub fn reshape(&mut self, plan: LabPlan) -> Result<(), LabError> {
        self.plan = plan;
        self.shape("change")
    }

    /// Takes the interface of `host` to `network` down, as when its cable is pulled, or up again.
    ///
    /// # Errors
    /// When `host` is not on that network.
    pub fn set_link(&self, host: Host, network: Network, up: bool) -> Result<(), LabError> {
        let state = if up { "up" } else { "down" };
        ip(&["-n", &self.namespace(host), "link", "set", "dev", network.name(), state]).map(drop)
    }

    fn build(&self) -> Result<(), LabError> {
        let switch = switch(&self.name);
        for host in Host::ALL {
            ip(&["netns", "add", &self.namespace(host)])?;
        }
        ip(&["netns", "add", &switch])?;
        ip_batch(&switch, &self.switch_commands())?;
        for host in Host::ALL {
            ip_batch(&self.namespace(host), &self.host_commands(host))?;
        }
        self.shape("add")
    }

    /// Bridges, and a cable from each of their hosts. Without IPv6 addresses nothing is sent that nobody asked for, so the
    /// counters count what the processes send.
    fn switch_commands(&self) -> String {
        let mut lines = String::new();
        for network in Network::ALL {
            let mtu = self.mtu(network);
            lines += &format!(
                "link add {network} type bridge\nlink set {network} addrgenmode none mtu {mtu} up\n"
            );
            for host in network.hosts() {
                let (port, namespace) = (format!("{network}-{host}"), self.namespace(*host));
                let _ = writeln!(lines, "link add {port} type veth peer name {network} netns {namespace}");
                let _ = writeln!(lines, "link set {port} addrgenmode none mtu {mtu} master {network} up");
            }
        }
        lines
    }

    fn host_commands(&self, host: Host) -> String {
        let mut lines = "link set lo up\n".to_owned();
        for network in host.networks() {
            let (mtu, address) = (self.mtu(network), host.address(network));
            let _ = writeln!(lines, "address add {address}/24 dev {network}");
            let _ = writeln!(lines, "link set {network} addrgenmode none mtu {mtu} up");
        }
        lines
    }

    /// Packets of a network that is not shaped are as large as Ethernet's.
    fn mtu(&self, network: Network) -> u16 {
        self.plan.profile(network).map_or(1500, |profile| profile.mtu)
    }

    fn shape(&self, verb: &str) -> Result<(), LabError> {
        for network in Network::ALL {
            let Some(profile) = self.plan.profile(network) else { continue };
            let options = netem::options(profile);
            for host in network.hosts() {
                let mut arguments = vec!["qdisc", verb, "dev", network.name(), "root", "netem"];
                arguments.extend(options.iter().map(String::as_str));
                tc(&self.namespace(*host), &arguments)?;
            }
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.state.is_some()
            && let Err(error) = state::remove(&self.name)
        {
            // Standard error may be closed or full; a panic in a drop would end the process.
            let _ = io::Write::write_fmt(
                &mut io::stderr(),
                format_args!("suf: the lab {} is not gone: {error}; the next one removes it\n", self.name),
            );
        }
    }
}

/// A name that no other lab has: 24 random bits, among a handful of labs.
fn random_name() -> Result<String, LabError> {
    let mut bytes = [0; 3];
    getrandom::fill(&mut bytes).map_err(|error| LabError::File {
        path: "/dev/urandom".into(),
        error: io::Error::other(error.to_string()),
    })?;
    Ok(hex::encode(bytes))
}
