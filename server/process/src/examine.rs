//! What a daemon needs of its host, looked at before it starts. `--check` prints what was found and stops there; a start goes on
//! if nothing is wrong. No file is made, so that `--check` may run as another user.

use std::{
    fmt::Display,
    fs, io,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::Arc,
};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use suf_gate::{
    Backend,
    gatefile::GateFile,
    spec::{SpecFile, is_spec_file},
};
use suf_link::{Identity, IdentityFiles, LinkProfile};
use suf_net::Target;
use suf_wire::Role;

use crate::{Args, BackendChoice, Start, config::LINKS, output};

/// Folders of gate files and operator specifications beside a configuration. Daemons do not read them, clients do.
const DEFINITIONS: [&str; 2] = ["gates", "specs"];

/// What was found so far.
#[derive(Debug, Default)]
pub struct Examination {
    good: Vec<String>,
    wrong: Vec<String>,
}

impl Examination {
    /// Notes that `key` is good, and why.
    pub fn good(&mut self, key: &str, why: impl Display) {
        self.good.push(format!("{key}: {why}"));
    }

    /// What `key` gives; notes why it is good or wrong.
    pub fn take<T, E: Display>(
        &mut self,
        key: &str,
        found: Result<T, E>,
        why: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match found {
            Ok(value) => {
                self.good(key, why(&value));
                Some(value)
            }
            Err(error) => {
                self.wrong.push(format!("{key}: {error}"));
                None
            }
        }
    }

    /// The profile that the key `link` names.
    pub fn link(&mut self, link: &str) -> Option<LinkProfile> {
        self.take("link", LinkProfile::find(link), |profile| {
            format!(
                "{link}, {:.2} Gbit/s and {} ms each way",
                profile.rate_bps as f64 / 1e9,
                profile.delay_ms
            )
        })
    }

    /// The certificate of a daemon that is `role`.
    pub fn identity(&mut self, files: &IdentityFiles, role: Role) -> Option<Identity> {
        self.take("identity", files.load(role), |identity| {
            format!("{} is for {role} and good for {} days", files.cert.display(), identity.days_left())
        })
    }

    /// What computes. Where there are several GPUs, processes with different `index` take different ones.
    pub fn backend(&mut self, choice: BackendChoice, index: usize) -> Option<Arc<dyn Backend>> {
        self.take("backend", choice.backend(index), |backend| {
            let info = backend.info();
            format!("{}, {}", info.name, info.device)
        })
    }

    /// Whether `key` can be listened on with TCP.
    pub fn tcp(&mut self, key: &str, addr: SocketAddr) {
        let bound = TcpListener::bind(addr).map(drop).map_err(|error| unbound(addr, "TCP", &error));
        self.take(key, bound, |()| format!("{addr} is free (TCP)"));
    }

    /// Whether `key` can be listened on with UDP.
    pub fn udp(&mut self, key: &str, addr: SocketAddr) {
        let bound = UdpSocket::bind(addr).map(drop).map_err(|error| unbound(addr, "UDP", &error));
        self.take(key, bound, |()| format!("{addr} is free (UDP)"));
    }

    /// Whether `key` is a folder in which this process may make files, or can be made.
    pub fn folder(&mut self, key: &str, path: &Path) {
        // The last ancestor of a relative path is empty: the current folder.
        let nearest =
            path.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(Path::new("."));
        let found = if nearest.is_dir() {
            may_write(nearest).map_err(|error| format!("{} cannot be written: {error}", nearest.display()))
        } else {
            Err(format!("{} is a file; give a folder", nearest.display()))
        };
        let state = if path.is_dir() { "can be written" } else { "is not there yet, and can be made" };
        self.take(key, found, |()| format!("{} {state}", path.display()));
    }

    /// Ends the examination. `--check` also reads the files beside the configuration, and resolves the addresses in `names`,
    /// each with its key. Their hosts may not be there yet. It prints all that is right, and that `who` is ready.
    ///
    /// # Errors
    /// With all that is wrong; with what standard output does not take.
    pub fn end(mut self, args: &Args, who: &str, names: &[(&str, &str)]) -> Start<()> {
        if args.check {
            neighbours(args.config.parent().unwrap_or(Path::new("")), &mut self);
            let doubts = names.iter().filter_map(|(key, address)| unresolved(key, address));
            let good = self.good.iter().map(|line| format!("ok: {line}"));
            let lines: Vec<_> = good.chain(doubts.map(|line| format!("warning: {line}"))).collect();
            output::line(lines.join("\n")).map_err(|error| output::unwritten(&error))?;
        }
        if self.wrong.is_empty() {
            return if args.check { args.checked(who) } else { Ok(()) };
        }
        Err(format!("{}: {who} cannot start:\n{}", args.config.display(), self.wrong.join("\n")).into())
    }
}

/// A warning if the host of an address cannot be found.
fn unresolved(key: &str, address: &str) -> Option<String> {
    let why = resolve(address).err()?;
    Some(format!(
        "{key}: the host of {address} cannot be found now ({why}); the daemon goes on asking for it"
    ))
}

/// Asks for the addresses as the daemon will.
fn resolve(address: &str) -> Result<(), String> {
    let target: Target = address.parse().map_err(|error| format!("{error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(target.resolve()).map(drop).map_err(|error| error.to_string())
}

/// Reads the files beside a configuration that it does not name, so that an error in one is found before its use.
fn neighbours(folder: &Path, found: &mut Examination) {
    read_all(folder, LINKS, found, |path, text| {
        LinkProfile::parse(path, text).map(drop).map_err(|error| error.to_string())
    });
    for kind in DEFINITIONS {
        read_all(folder, kind, found, |path, text| {
            if is_spec_file(text) {
                SpecFile::parse(path, text).map(drop).map_err(|error| error.to_string())
            } else {
                GateFile::parse(path, text).map(drop).map_err(|error| error.to_string())
            }
        });
    }
}

fn read_all(
    folder: &Path,
    kind: &str,
    found: &mut Examination,
    parse: impl Fn(&str, &str) -> Result<(), String>,
) {
    let folder = folder.join(kind);
    match well_formed(&folder, parse) {
        Ok(0) => {}
        read => {
            found.take(kind, read, |count| format!("{count} files in {} are well formed", folder.display()));
        }
    }
}

/// How many configuration files are in `folder`, which need not be there; what is wrong with the first that is.
fn well_formed(folder: &Path, parse: impl Fn(&str, &str) -> Result<(), String>) -> Result<usize, String> {
    let unread = |path: &Path, error: &io::Error| format!("{} cannot be read: {error}", path.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(|error| unread(folder, &error))?,
    };
    let paths: io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(|error| unread(folder, &error))?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    for path in &paths {
        let bytes = fs::read(path).map_err(|error| unread(path, &error))?;
        let name = path.display().to_string();
        let text = suf_toml::text(&bytes).map_err(|mistake| format!("{name}: {mistake}"))?;
        parse(&name, text)?;
    }
    Ok(paths.len())
}

fn unbound(addr: SocketAddr, transport: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "; another program has it: `ss -lntup` shows which",
        io::ErrorKind::AddrNotAvailable => "; it is no address of this host: `ip addr` lists them",
        io::ErrorKind::PermissionDenied => "; ports below 1024 are for privileged users",
        _ => "",
    };
    format!("{addr} cannot be bound ({transport}): {error}{advice}")
}

/// Whether this process may make files in `folder`.
fn may_write(folder: &Path) -> rustix::io::Result<()> {
    accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
}
