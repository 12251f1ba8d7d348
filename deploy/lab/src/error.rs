//! Why there is no lab, and what to do about it.

use std::path::PathBuf;

/// Why a lab cannot be built or trusted.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces need root.
    #[error(
        "network namespaces need root; run it as root, or install user-mode-linux and kmod and use --kernel uml"
    )]
    NotRoot,
    /// The kernel has no netem, and the module cannot be loaded.
    #[error(
        "this kernel has no sch_netem ({0}); load the module (modprobe sch_netem), or install user-mode-linux and kmod and \
         use --kernel uml"
    )]
    NoNetem(String),
    /// A command that is needed is not installed.
    #[error("the command `{command}` is not installed; install {package}")]
    Missing {
        /// The command.
        command: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A command failed.
    #[error("`{command}` failed: {problem}")]
    Command {
        /// The command line.
        command: String,
        /// What it wrote.
        problem: String,
    },
    /// A file of the lab cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A link is not what the plan says.
    #[error(
        "the {link} has {what} {measured} instead of {expected} (more than 5 % off). This machine cannot carry that \
         profile, or is too busy now; take a slower profile"
    )]
    Off {
        /// Which link.
        link: String,
        /// "a round trip of" or "a rate of".
        what: &'static str,
        /// With its unit.
        measured: String,
        /// With its unit.
        expected: String,
    },
    /// Packets were lost that should not be.
    #[error(
        "the {link} dropped {dropped} of {packets} packets, more than its loss explains: its queue is too short \
         (limit_packets)"
    )]
    Dropped {
        /// Which link.
        link: String,
        /// Packets dropped.
        dropped: u64,
        /// Packets offered.
        packets: u64,
    },
    /// The measurement itself failed.
    #[error("the {link} cannot be measured: {error}")]
    Measurement {
        /// Which link.
        link: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is no such lab.
    #[error("there is no lab {0}; `suf lab status` lists those that are up")]
    Unknown(String),
    /// The user-mode kernel does not get to its first process.
    #[error(
        "the user-mode kernel linux.uml is installed, but dies at boot on this machine ({said}); {advice}"
    )]
    DeadAtBoot {
        /// The kernel's last words.
        said: String,
        /// What to do.
        advice: &'static str,
    },
    /// Neither the host's kernel nor a user-mode one can carry a lab.
    #[error("{host}; and {uml}")]
    NoKernel {
        /// What the host's lacks.
        host: Box<LabError>,
        /// What is wrong with the other.
        uml: &'static LabError,
    },
    /// The user-mode kernel ended before the command did.
    #[error("the user-mode kernel ended without a result; its last words: {0}")]
    KernelDied(String),
}

impl LabError {
    /// A problem with a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }
}
