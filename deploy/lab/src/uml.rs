//! A user-mode Linux kernel: for machines whose own kernel has no netem, and for users who are not root.
//!
//! It boots in a second on this machine's own files, loads the modules of Debian's package, runs one command as root, and
//! ends. It has one processor, and a clock read takes it 30 us: delays are exact, rates are good to 200 Mbit/s.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use crate::error::LabError;

mod registers;

/// The kernel, as Debian calls it.
const KERNEL: &str = "linux.uml";
/// Its modules.
const MODULES: &str = "/usr/lib/uml/modules";
/// Memory of the machine inside. It is taken from the host when it is touched.
const MEMORY: &str = "mem=2G";
/// What the kernel is started with, besides its memory and its init: this machine's files. Console 0 is the command's output
/// and console 1 its errors.
const OPTIONS: [&str; 9] = [
    "quiet",
    "root=/dev/root",
    "rootfstype=hostfs",
    "rootflags=/",
    "rw",
    "con=null",
    "con0=fd:0,fd:1",
    "con1=null,fd:2",
    "umid=suf",
];
/// Nothing on the screen but what the command prints.
const SILENT: &str = "loglevel=0";
/// Errors too, for a kernel that has to say why it dies.
const ALOUD: &str = "loglevel=4";
/// Time for a kernel to start its first process. It takes a second; a machine with other work takes a few.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// The variable by which a process knows that it is inside.
const INSIDE: &str = "SUF_LAB_KERNEL";
/// Variables that a command inside has from outside, besides those of ours.
const PASSED: [&str; 4] = ["HOME", "LANG", "PATH", "RUST_LOG"];
/// Lines of what the kernel says at its end, if it ends badly.
const LAST_LINES: usize = 2;

/// Whether there is such a kernel on this machine. It may still die at boot.
#[must_use]
pub fn is_installed() -> bool {
    in_path(KERNEL)
}

/// For tests: `why`, if such a kernel can do what the host's cannot for that reason. One is booted to find out, once.
///
/// # Errors
/// When there is no such kernel, or it does not boot on this processor: both reasons.
pub fn instead_of_host(why: LabError) -> Result<LabError, LabError> {
    static BOOTED: OnceLock<Result<u8, LabError>> = OnceLock::new();
    if !is_installed() {
        return Err(why);
    }
    match BOOTED.get_or_init(|| run(&["true".into()])) {
        Err(uml @ (LabError::Missing { .. } | LabError::DeadAtBoot { .. })) => {
            Err(LabError::NoKernel { host: Box::new(why), uml })
        }
        // Another problem shows when it is used, and fails the test.
        Ok(_) | Err(_) => Ok(why),
    }
}

/// Whether this process runs in such a kernel, started by [`run`].
#[must_use]
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs `command` in such a kernel, in this folder and with our environment's `SUF_*`, `RUST_LOG` and `PATH`; its exit
/// status. What it prints comes out of this process; its standard input is empty. It ends with this process.
///
/// # Errors
/// When something that the kernel needs is not installed, or it ends before the command does.
pub fn run(command: &[OsString]) -> Result<u8, LabError> {
    if !is_installed() {
        return Err(LabError::Missing { command: KERNEL, package: "user-mode-linux" });
    }
    if !in_path("modprobe") {
        return Err(LabError::Missing { command: "modprobe", package: "kmod" });
    }
    let folder =
        tempfile::Builder::new().prefix("suf-uml-").tempdir().map_err(LabError::file(env::temp_dir()))?;
    let machine = Machine::prepare(folder.path(), command)?;
    let said = machine.boot(SILENT)?;
    if !machine.booted.exists() {
        // Nothing of the command has run, so that another start does no harm.
        let said = machine.boot(ALOUD)?;
        return Err(LabError::DeadAtBoot { said, advice: machine.advice() });
    }
    let result = fs::read_to_string(&machine.status).ok().and_then(|text| text.trim().parse().ok());
    result.ok_or(LabError::KernelDied(said))
}

/// What a kernel is started with, and what it leaves.
struct Machine {
    folder: PathBuf,
    init: PathBuf,
    /// There once the first process has started.
    booted: PathBuf,
    /// Holds the command's exit status once that has ended.
    status: PathBuf,
    /// What is loaded into the kernel, on a processor that it may not know.
    library: Option<PathBuf>,
}

impl Machine {
    fn prepare(folder: &Path, command: &[OsString]) -> Result<Self, LabError> {
        let [init, booted, status] = ["init", "booted", "status"].map(|name| folder.join(name));
        let cwd = env::current_dir().map_err(LabError::file("."))?;
        fs::write(&init, script(command, &cwd, &booted, &status)).map_err(LabError::file(&init))?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o700)).map_err(LabError::file(&init))?;
        let library = registers::has_amx().then(|| registers::library(folder)).flatten();
        Ok(Self { folder: folder.to_owned(), init, booted, status, library })
    }

    /// What to do about a kernel that dies at boot.
    fn advice(&self) -> &'static str {
        if registers::has_amx() && self.library.is_none() {
            "versions before 6.13 do so on processors with AMX, such as this one. Install a C compiler (cc), with which \
             the lab mends that, or user-mode-linux 6.13 or newer, or use a host kernel with sch_netem"
        } else {
            "use a host kernel with sch_netem, or another version of user-mode-linux"
        }
    }

    /// Boots and waits for the end; the last of what was printed.
    fn boot(&self, loudness: &str) -> Result<String, LabError> {
        let failed =
            |error: io::Error| LabError::Command { command: KERNEL.into(), problem: error.to_string() };
        let mut kernel = Command::new(KERNEL);
        kernel.arg(MEMORY).args(OPTIONS).arg(loudness);
        kernel.arg(joined("init=", &self.init)).arg(joined("uml_dir=", &self.folder));
        if let Some(library) = &self.library {
            kernel.env("LD_PRELOAD", library);
        }
        // The input is never written to: its end tells the kernel that we are gone. The outputs are not ours directly,
        // since the kernel makes its consoles non-blocking.
        kernel.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut kernel = kernel.spawn().map_err(failed)?;
        let (mut out, mut err) =
            (kernel.stdout.take().expect("it was piped"), kernel.stderr.take().expect("it was piped"));
        let alive = kernel.stdin.take();
        let silent = loudness == SILENT;
        let said = thread::scope(|scope| {
            let (ended, end) = mpsc::channel::<()>();
            let kernel = &mut kernel;
            scope.spawn(move || {
                let late = end.recv_timeout(BOOT_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
                // It may have ended meanwhile.
                let _ = (late && !self.booted.exists()).then(|| kernel.kill());
            });
            let errors = scope.spawn(move || match silent {
                true => copy(&mut err, &mut io::stderr()),
                false => copy(&mut err, &mut io::sink()),
            });
            let said = match silent {
                true => copy(&mut out, &mut io::stdout()),
                false => copy(&mut out, &mut io::sink()),
            };
            let said = said + &errors.join().expect("copying does not panic");
            drop(ended);
            said
        });
        kernel.wait().map_err(failed)?;
        drop(alive);
        Ok(last_words(&said))
    }
}

/// The last lines of what a kernel said. What follows its panic is the stack, which tells the reader nothing.
fn last_words(said: &str) -> String {
    let mut lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if let Some(panic) = lines.iter().position(|line| line.contains("Kernel panic")) {
        lines.truncate(panic + 1);
    }
    lines[lines.len().saturating_sub(LAST_LINES)..].join("; ")
}

/// Copies until the end, and keeps the end of it.
fn copy(from: &mut impl io::Read, to: &mut impl io::Write) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        // Whoever read our output may be gone; the command inside goes on, as it would outside without SIGPIPE.
        let _ = to.write_all(&buffer[..length]).and_then(|()| to.flush());
        kept.extend_from_slice(&buffer[..length]);
        kept.drain(..kept.len().saturating_sub(buffer.len()));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The first process inside.
fn script(command: &[OsString], cwd: &Path, booted: &Path, status: &Path) -> Vec<u8> {
    let mut script = b"#!/bin/sh\n: >".to_vec();
    quote(booted.as_os_str(), &mut script);
    script.extend_from_slice(b"\nexec </dev/null >/dev/tty0 2>/dev/tty1\n");
    let ours =
        |name: &OsStr| name.as_bytes().starts_with(b"SUF_") || PASSED.iter().any(|passed| name == *passed);
    for (name, value) in env::vars_os().filter(|(name, _)| ours(name)) {
        script.extend_from_slice(b"export ");
        script.extend_from_slice(name.as_bytes());
        script.push(b'=');
        quote(&value, &mut script);
        script.push(b'\n');
    }
    script.extend_from_slice(
        format!(
            "export {INSIDE}=uml PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n\
             off() {{ sync; poweroff -f >/dev/null 2>&1 || echo o >/proc/sysrq-trigger; }}\n\
             stty -F /dev/tty0 -opost; stty -F /dev/tty1 -opost\n\
             mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs run /run\n\
             (read -r line </dev/tty0; off) &\n\
             mkdir -p /run/uml/lib/modules\n\
             ln -s {MODULES}/$(uname -r) /run/uml/lib/modules/\n\
             modprobe -d /run/uml -a bridge veth sch_netem\n\
             ip link set lo up\n\
             mkfifo /run/uml/out /run/uml/err\n\
             cat /run/uml/out & out=$!\n\
             cat /run/uml/err >&2 & err=$!\n"
        )
        .as_bytes(),
    );
    script.extend_from_slice(b"cd ");
    quote(cwd.as_os_str(), &mut script);
    script.extend_from_slice(b" &&");
    for word in command {
        script.push(b' ');
        quote(word, &mut script);
    }
    // Through pipes, so that the command does not take a console for somebody's terminal.
    script.extend_from_slice(b" >/run/uml/out 2>/run/uml/err\necho $? >");
    quote(status.as_os_str(), &mut script);
    // The power goes a moment after it is asked for; were init to end before, the kernel would panic.
    script.extend_from_slice(b"\nwait $out $err\noff\nwait\n");
    script
}

/// `word` as the shell takes it for one word, whatever it contains.
fn quote(word: &OsStr, script: &mut Vec<u8>) {
    script.push(b'\'');
    for byte in word.as_bytes() {
        match byte {
            b'\'' => script.extend_from_slice(b"'\\''"),
            byte => script.push(*byte),
        }
    }
    script.push(b'\'');
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut option = OsString::from(option);
    option.push(path);
    option
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // An ordinary user's PATH may lack the folders of the administrator's commands.
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        let run = |word: &str| {
            let mut script = b"printf %s ".to_vec();
            quote(OsStr::new(word), &mut script);
            let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        for word in ["plain", "two words", "it's", "$HOME `id` \"\\", "a\nb", ""] {
            assert_eq!(run(word), word);
        }
    }

    #[test]
    fn the_script_is_a_script() {
        let [cwd, booted, status] = ["/tmp/it's here", "/tmp/it's up", "/tmp/status"].map(Path::new);
        let script = script(&["suf".into(), "lab".into()], cwd, booted, status);
        let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
        io::Write::write_all(&mut shell.stdin.take().unwrap(), &script).unwrap();
        assert!(shell.wait().unwrap().success());
    }
}
