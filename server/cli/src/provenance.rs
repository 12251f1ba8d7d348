//! Where a record comes from: version, machine, load, time.

use std::{fs, thread::available_parallelism, time::SystemTime};

/// Version of the program and the commit it was built from.
#[must_use]
pub const fn version() -> &'static str {
    env!("SUF_VERSION")
}

/// The processor, its cores available to this process, the memory and the system, in one line.
#[must_use]
pub fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cores = available_parallelism().map_or(1, usize::from);
    let memory = first_value(&read("/proc/meminfo"), "MemTotal")
        .and_then(|value| value.split(' ').next().and_then(|kib| kib.parse::<f64>().ok()))
        .map_or_else(String::new, |kib| format!(", {:.0} GiB", kib / f64::from(1 << 20)));
    let processor = first_value(&read("/proc/cpuinfo"), "model name")
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let system = read("/proc/sys/kernel/osrelease");
    format!("{processor}, {cores} cores{memory}, Linux {}", system.trim())
}

/// Load average over the last minute; 0 where the system does not say.
#[must_use]
pub fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

/// Seconds since the Unix epoch.
#[must_use]
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

/// The value of the first `key : value` line of a file of /proc.
fn first_value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == key).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_lines_are_found_by_key() {
        let text = "processor\t: 0\nmodel name\t: A B 9000\nmodel name\t: other\n";
        assert_eq!(first_value(text, "model name").as_deref(), Some("A B 9000"));
        assert_eq!(first_value(text, "model"), None);
    }
}
