//! A GPU that the host emulates, for tests where there is none: a driver and a compiler of kernels in the places of NVIDIA's.
//! What runs by them is the whole backend, and every kernel as C++ with its array bounds, shifts and alignments checked. See
//! `cu/host/driver.cpp`.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// What the driver and the compiler are made of, and what the compiler puts before kernels.
const SOURCES: [(&str, &str); 4] = [
    ("driver.cpp", include_str!("../../cu/host/driver.cpp")),
    ("nvrtc.cpp", include_str!("../../cu/host/nvrtc.cpp")),
    ("fibers.h", include_str!("../../cu/host/fibers.h")),
    ("device.h", include_str!("../../cu/host/device.h")),
];

/// The libraries, as long as this lives.
pub(crate) struct HostGpu(TempDir);

impl HostGpu {
    /// Builds them.
    ///
    /// # Errors
    /// A sentence, where there is no C++ compiler.
    pub(crate) fn build() -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let at = folder.path();
        let prepared = || -> io::Result<()> {
            fs::create_dir(at.join("nvrtc"))?;
            symlink("libcuda.so.1", at.join("libcuda.so"))?;
            SOURCES.iter().try_for_each(|(name, text)| fs::write(at.join(name), text))
        };
        prepared().map_err(|error| error.to_string())?;
        library(at, "driver.cpp", "libcuda.so.1")?;
        library(at, "nvrtc.cpp", "nvrtc/libnvrtc.so.13")?;
        Ok(Self(folder))
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    /// The variables by which a program finds them, and nobody's compiled kernels.
    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 3] {
        let [nvrtc, cache] = ["nvrtc", "cache"].map(|name| self.folder().join(name));
        [("LD_LIBRARY_PATH", self.folder().into()), ("SUF_NVRTC_DIR", nvrtc), ("XDG_CACHE_HOME", cache)]
    }
}

/// Builds `source` of `folder` to the library `to`, which is looked up by its file's name.
fn library(folder: &Path, source: &str, to: &str) -> Result<(), String> {
    let path: PathBuf = folder.join(to);
    let name = path.file_name().expect("a file").to_string_lossy();
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]);
    compiler.arg(format!("-Wl,-soname,{name}")).arg(format!("-DHOST=\"{}\"", folder.display()));
    let output = compiler.arg("-o").arg(&path).arg(folder.join(source)).output();
    let output = output.map_err(|error| format!("the C++ compiler c++ cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{source} does not compile: {}", String::from_utf8_lossy(&output.stderr)))
}
