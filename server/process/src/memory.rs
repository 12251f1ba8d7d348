//! How much memory this process may use: what the machine has, or what its control group allows, whichever is less.
//!
//! Budgets are configured in MiB. A budget beyond a stated part of the limit is reduced to that part, with a warning.
//! The kernel kills a process that exceeds its control group's limit, and all of its runs end.

use std::{
    ffi::OsString,
    fmt, fs,
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

/// What bounds the memory of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes that the process may use.
    pub bytes: u64,
    /// What says so.
    pub source: Source,
}

/// Where a limit comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The memory of the machine.
    Machine,
    /// A control group's file.
    ControlGroup(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("the memory of this machine"),
            Self::ControlGroup(file) => write!(f, "the limit of its control group, {}", file.display()),
        }
    }
}

/// A budget's part of the limit, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u8);

impl Percent {
    /// This part of `bytes`, rounded down.
    fn of(self, bytes: u64) -> u64 {
        let part = u128::from(bytes) * u128::from(self.0) / 100;
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

impl MemoryLimit {
    /// The limit of this process. None where the system does not say, for example without `/proc`.
    #[must_use]
    pub fn of_this_process() -> Option<Self> {
        Self::under(Path::new("/"))
    }

    /// As [`MemoryLimit::of_this_process`], with all files taken from below the folder `root`.
    #[must_use]
    pub fn under(root: &Path) -> Option<Self> {
        let machine = Self { bytes: machine_bytes(root)?, source: Source::Machine };
        let groups = control_group_limits(root);
        // A group's limit that is no limit is larger than the machine: v1 says 2^63 - 4096.
        groups.into_iter().chain([machine]).min_by_key(|limit| limit.bytes)
    }
}

/// The bytes of a budget of `configured_mb` MiB under `key` in the configuration: at most `part` of `limit`. A smaller
/// budget than the configured one is logged as a warning.
#[must_use]
pub fn budget_bytes(key: &str, configured_mb: u64, part: Percent, limit: Option<&MemoryLimit>) -> u64 {
    let configured = configured_mb.saturating_mul(1 << 20);
    let Some(limit) = limit else { return configured };
    let most = part.of(limit.bytes);
    if configured <= most {
        return configured;
    }
    tracing::warn!("{}", cut(key, configured_mb, most >> 20, part, limit));
    most
}

fn cut(
    key: &str,
    configured_mb: u64,
    effective_mb: u64,
    Percent(part): Percent,
    limit: &MemoryLimit,
) -> String {
    let MemoryLimit { bytes, source } = limit;
    format!(
        "{key} = {configured_mb}, but only {effective_mb} MiB are used. That is {part} % of {} MiB, {source}. \
         Give this process more memory, or set {key} = {effective_mb} or less",
        bytes >> 20
    )
}

fn machine_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The limits of this process's control groups of either version, and of all groups that they are in.
fn control_group_limits(root: &Path) -> Vec<MemoryLimit> {
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mounts: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
    let mut limits = Vec::new();
    for line in groups.lines() {
        // Hierarchy, controllers, path. Version 2 has neither a number nor controllers.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (version, files): (_, &[&str]) = match controllers {
            "" => (Version::Two, &["memory.max", "memory.high"]),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                (Version::One, &["memory.limit_in_bytes"])
            }
            _ => continue,
        };
        for mount in mounts.iter().filter(|mount| mount.version == version) {
            let mut inside = mount.inside(Path::new(path));
            loop {
                let folder = root.join(relative(&mount.point)).join(&inside);
                limits.extend(files.iter().filter_map(|file| limit_in(root, folder.join(file))));
                if !inside.pop() {
                    break;
                }
            }
        }
    }
    limits
}

/// The limit in `file`; none where the file is missing or says `max`.
fn limit_in(root: &Path, file: PathBuf) -> Option<MemoryLimit> {
    let bytes = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
    let file = file.strip_prefix(root).map_or_else(|_| file.clone(), |file| Path::new("/").join(file));
    Some(MemoryLimit { bytes, source: Source::ControlGroup(file) })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where a hierarchy of control groups is mounted.
#[derive(Debug)]
struct Mount {
    version: Version,
    /// The folder of the hierarchy that stands at `point`: not its root in a container without a namespace of its own.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Of a line of `mountinfo`; none for other file systems.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (unescaped(before.next()?), unescaped(before.next()?));
        let mut after = after.split(' ');
        let version = match (after.next()?, after.nth(1)) {
            ("cgroup2", _) => Version::Two,
            ("cgroup", Some(options)) if options.split(',').any(|option| option == "memory") => Version::One,
            _ => return None,
        };
        Some(Self { version, root, point })
    }

    /// The group `path` as a path below the mount point. A group outside what is mounted here is taken for the mount point's
    /// own: that is where a container sees its limit.
    fn inside(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix(&self.root).unwrap_or(Path::new(""));
        if inside.components().all(|part| matches!(part, Component::Normal(_))) {
            inside.to_owned()
        } else {
            PathBuf::new()
        }
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// A path as `mountinfo` writes it: blanks, tabs, line ends and backslashes are a backslash and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        let octal = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A folder with the files that the system would have.
    struct Fake(tempfile::TempDir);

    impl Fake {
        /// With 16 GiB, in the groups of `cgroup`, which are mounted as `mountinfo` says.
        fn new(cgroup: &str, mountinfo: &str) -> Self {
            let fake = Self(tempfile::tempdir().expect("a temporary folder"));
            let meminfo = format!("MemTotal:       {} kB\nMemFree: 1 kB\n", 16 * GIB / 1024);
            fake.with("proc/meminfo", &meminfo)
                .with("proc/self/cgroup", cgroup)
                .with("proc/self/mountinfo", mountinfo)
        }

        fn with(self, file: &str, text: &str) -> Self {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            fs::write(path, text).expect("writable");
            self
        }

        fn limit(&self) -> (u64, String) {
            let limit = MemoryLimit::under(self.0.path()).expect("a limit");
            (limit.bytes, limit.source.to_string())
        }
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                      36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices\n";

    #[test]
    fn without_a_control_group_the_machine_is_the_limit() {
        let machine = (16 * GIB, "the memory of this machine".to_owned());
        assert_eq!(Fake::new("", "").limit(), machine);
        let unlimited = Fake::new("0::/a/b\n", V2)
            .with("sys/fs/cgroup/a/b/memory.max", "max\n")
            .with("sys/fs/cgroup/a/memory.max", "max\n");
        assert_eq!(unlimited.limit(), machine);
        let unlimited = Fake::new("4:memory:/a\n1:devices:/x\n", V1)
            .with("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n")
            .with("sys/fs/cgroup/devices/x/memory.limit_in_bytes", "1\n");
        assert_eq!(unlimited.limit(), machine);
        assert_eq!(MemoryLimit::under(Path::new("/nonexistent")), None);
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts_in_either_version() {
        let fake = Fake::new("0::/system.slice/suf.service\n", V2)
            .with("sys/fs/cgroup/system.slice/suf.service/memory.max", "max\n")
            .with("sys/fs/cgroup/system.slice/suf.service/memory.high", &format!("{}\n", 3 * GIB))
            .with("sys/fs/cgroup/system.slice/memory.max", &format!("{}\n", 2 * GIB));
        let (bytes, source) = fake.limit();
        assert_eq!(bytes, 2 * GIB);
        assert!(source.ends_with("/sys/fs/cgroup/system.slice/memory.max"), "{source}");

        let fake = Fake::new("9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n", V1)
            .with("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", &format!("{GIB}\n"))
            .with("sys/fs/cgroup/memory/a/memory.limit_in_bytes", &format!("{}\n", 2 * GIB))
            .with("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(fake.limit().0, GIB);
    }

    /// Docker mounts the container's group alone; without a namespace its path is the host's.
    #[test]
    fn a_container_finds_its_own_group() {
        let host_path = "35 31 0:32 /docker/c0 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let fake = Fake::new("4:memory:/docker/c0\n", host_path)
            .with("sys/fs/cgroup/memory/memory.limit_in_bytes", &format!("{GIB}\n"));
        assert_eq!(fake.limit().0, GIB);
        // Of another namespace, a path leads out of what is mounted.
        let fake = Fake::new("0::/../other\n", V2).with("sys/fs/cgroup/memory.max", &format!("{GIB}\n"));
        assert_eq!(fake.limit().0, GIB);
        let blank = "30 23 0:26 / /mnt/control\\040groups rw - cgroup2 cgroup2 rw\n";
        let fake = Fake::new("0::/a\n", blank).with("mnt/control groups/a/memory.max", &format!("{GIB}\n"));
        assert_eq!(fake.limit().0, GIB);
    }

    #[test]
    fn a_budget_beyond_its_part_of_the_limit_is_cut_and_the_warning_has_both_numbers() {
        let limit = MemoryLimit {
            bytes: 2 * GIB,
            source: Source::ControlGroup("/sys/fs/cgroup/suf/memory.max".into()),
        };
        let half = Percent(50);
        assert_eq!(budget_bytes("key_memory_mb", 4096, half, Some(&limit)) >> 20, 1024);
        assert_eq!(budget_bytes("key_memory_mb", 512, half, Some(&limit)), 512 << 20);
        assert_eq!(budget_bytes("key_memory_mb", 4096, half, None), 4096 << 20);
        assert_eq!(budget_bytes("key_memory_mb", u64::MAX, half, None), u64::MAX, "no sum wraps");
        let warning = cut("key_memory_mb", 4096, 1024, half, &limit);
        for words in [
            "key_memory_mb = 4096",
            "only 1024 MiB",
            "50 % of 2048 MiB",
            "memory.max",
            "key_memory_mb = 1024 or",
        ] {
            assert!(warning.contains(words), "{words} is missing in: {warning}");
        }
    }
}
