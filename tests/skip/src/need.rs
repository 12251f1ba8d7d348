//! What a machine may lack.

use std::fmt;

/// Something that a test needs and that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A kernel with netem, the host's own or a user-mode one, with links that it shapes.
    Netem,
    /// Hosts in network namespaces, in the host's own kernel or a user-mode one.
    Namespaces,
    /// `suf lab` in the host's own kernel: root, network namespaces and netem.
    HostLab,
    /// A C++ compiler, with which the tests emulate a GPU.
    Cxx,
    /// A C compiler, for a library that stands before the GPU's driver.
    Cc,
    /// NVIDIA's run-time compiler.
    Nvrtc,
    /// A GPU, or an emulated one where the test takes it.
    Gpu,
    /// A machine without a GPU.
    NoGpu,
    /// IPv6 on loopback.
    Ipv6,
    /// Several sockets on one port, with a filter that chooses among them.
    PortFilter,
    /// The right to mount file systems.
    Mount,
    /// The right to give files to other users.
    Chown,
    /// The right to read another process's memory.
    ReadMemory,
    /// A folder for temporary files that is in memory.
    SharedMemory,
    /// Peaks of memory that a process can set back.
    MemoryPeaks,
    /// Memory and disk for a run of the largest size.
    LargestRun,
    /// Python 3.
    Python3,
    /// The weights of MiniLM, in the folder that `SUF_MINILM` names.
    MiniLm,
    /// Interpreters with the Python package, which `SUF_PYTHON` names.
    Wheel,
    /// One of these with torch.
    Torch,
    /// Prometheus and its `promtool`.
    Prometheus,
}

impl Need {
    /// All needs, in the order of their declaration.
    pub const ALL: [Self; 21] = [
        Self::Netem,
        Self::Namespaces,
        Self::HostLab,
        Self::Cxx,
        Self::Cc,
        Self::Nvrtc,
        Self::Gpu,
        Self::NoGpu,
        Self::Ipv6,
        Self::PortFilter,
        Self::Mount,
        Self::Chown,
        Self::ReadMemory,
        Self::SharedMemory,
        Self::MemoryPeaks,
        Self::LargestRun,
        Self::Python3,
        Self::MiniLm,
        Self::Wheel,
        Self::Torch,
        Self::Prometheus,
    ];

    /// The name that `SUF_REQUIRE` and the list of skips use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Netem => "netem",
            Self::Namespaces => "namespaces",
            Self::HostLab => "host-lab",
            Self::Cxx => "cxx",
            Self::Cc => "cc",
            Self::Nvrtc => "nvrtc",
            Self::Gpu => "gpu",
            Self::NoGpu => "no-gpu",
            Self::Ipv6 => "ipv6",
            Self::PortFilter => "port-filter",
            Self::Mount => "mount",
            Self::Chown => "chown",
            Self::ReadMemory => "read-memory",
            Self::SharedMemory => "shared-memory",
            Self::MemoryPeaks => "memory-peaks",
            Self::LargestRun => "largest-run",
            Self::Python3 => "python3",
            Self::MiniLm => "minilm",
            Self::Wheel => "python",
            Self::Torch => "torch",
            Self::Prometheus => "prometheus",
        }
    }

    /// The need with this name.
    ///
    /// # Errors
    /// Says that the name is unknown, and which names are known.
    pub fn from_name(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|need| need.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("'{name}' is unknown; known are {known}")
        })
    }
}

impl fmt::Display for Need {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
