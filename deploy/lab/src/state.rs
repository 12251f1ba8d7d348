//! Which labs are up, and whose: one file for each in a folder of /run, which is empty after a boot, as namespaces are.
//!
//! The process that owns a lab holds a lock on its file. A file without a lock belongs to a lab whose owner was
//! killed, unless it says that the lab is kept.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    error::LabError,
    iproute::ip,
    plan::{Host, LabPlan},
};

/// Where the files are.
const FOLDER: &str = "/run/suf-lab";
/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// File name ending of a lab that its process owns.
const OWNED: &str = "owned";
/// File name ending of a lab that is kept until somebody takes it down.
const KEPT: &str = "kept";

/// The file of a lab, locked while its owner lives.
#[derive(Debug)]
pub(crate) struct State {
    path: PathBuf,
    lock: File,
}

/// A lab as [`list`] finds it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Whether it stays without a process that owns it.
    pub kept: bool,
    /// Its links.
    pub plan: LabPlan,
}

/// All labs that are up, in the order of their names.
///
/// # Errors
/// When a state file cannot be read.
pub fn list() -> Result<Vec<Listed>, LabError> {
    let mut labs = Vec::new();
    for path in files()? {
        let text = fs::read_to_string(&path).map_err(LabError::file(&path))?;
        labs.push(Listed {
            name: name_of(&path),
            kept: ends(&path, KEPT),
            plan: LabPlan::from_json(&text, &path)?,
        });
    }
    labs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(labs)
}

/// Namespace of `host` in lab `name`.
pub(crate) fn namespace(name: &str, host: Host) -> String {
    format!("suf-{name}-{host}")
}

/// Namespace of the bridges of lab `name`.
pub(crate) fn switch(name: &str) -> String {
    format!("suf-{name}-switch")
}

/// The file that stands for a namespace.
pub(crate) fn namespace_file(namespace: &str) -> PathBuf {
    Path::new(NAMESPACES).join(namespace)
}

impl State {
    /// Notes a new lab as ours.
    pub(crate) fn create(name: &str, plan: &LabPlan) -> Result<Self, LabError> {
        fs::create_dir_all(FOLDER).map_err(LabError::file(FOLDER))?;
        // Locked under another name first: no sweeper may see it unlocked.
        let draft = Path::new(FOLDER).join(format!("{name}.draft"));
        let path = draft.with_extension(OWNED);
        let mut lock = File::create_new(&draft).map_err(LabError::file(&draft))?;
        let text = serde_json::to_string(plan).expect("a plan is plain data");
        lock.lock()
            .and_then(|()| lock.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(LabError::file(&path))?;
        Ok(Self { path, lock })
    }

    /// Lets the lab outlive us.
    pub(crate) fn keep(self) -> Result<(), LabError> {
        let kept = self.path.with_extension(KEPT);
        fs::rename(&self.path, &kept).map_err(LabError::file(&kept))?;
        self.lock.unlock().map_err(LabError::file(&kept))
    }
}

/// Reads the plan of a lab that is up.
pub(crate) fn find(name: &str) -> Result<LabPlan, LabError> {
    let found = list()?.into_iter().find(|lab| lab.name == name);
    found.map(|lab| lab.plan).ok_or_else(|| LabError::Unknown(name.to_owned()))
}

/// Removes what killed processes left behind.
pub(crate) fn sweep() -> Result<(), LabError> {
    for path in files()?.into_iter().filter(|path| !ends(path, KEPT)) {
        let file = File::open(&path).map_err(LabError::file(&path))?;
        match file.try_lock() {
            Ok(()) => remove(&name_of(&path))?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(LabError::file(&path)(error)),
        }
    }
    Ok(())
}

/// Removes a lab: what still runs in it, its namespaces with all their interfaces, its file.
pub(crate) fn remove(name: &str) -> Result<(), LabError> {
    let hosts = Host::ALL.map(|host| namespace(name, host));
    for namespace in hosts.into_iter().chain([switch(name)]) {
        if namespace_file(&namespace).exists() {
            end_processes(&namespace)?;
            ip(&["netns", "delete", &namespace])?;
        }
    }
    for ending in [OWNED, KEPT] {
        let path = Path::new(FOLDER).join(name).with_extension(ending);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(LabError::file(path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn end_processes(namespace: &str) -> Result<(), LabError> {
    let listed = ip(&["netns", "pids", namespace])?;
    for pid in listed.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)) {
        if pid != rustix::process::getpid() {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

fn files() -> Result<Vec<PathBuf>, LabError> {
    let entries = match fs::read_dir(FOLDER) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LabError::file(FOLDER)(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(LabError::file(FOLDER)));
    let ours = |path: &PathBuf| ends(path, OWNED) || ends(path, KEPT);
    Ok(paths.collect::<Result<Vec<_>, _>>()?.into_iter().filter(ours).collect())
}

fn ends(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
