//! Hardens a daemon's memory at its start. There are no core dumps, no reading by processes of the same user, and no
//! pages on a swap device.

use std::{fmt, hint::black_box};

use rustix::{
    io::Errno,
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    thread::{CapabilitySet, capabilities},
};

/// Turns core dumps off, and with them what other processes of the same user may read of this one (`ptrace`,
/// `/proc/PID/mem`). To be called before the first secret is read.
///
/// # Errors
/// When the system refuses; a daemon does not start then.
pub fn guard() -> Result<(), String> {
    let refused = |what: &'static str| move |error: Errno| format!("{what} cannot be turned off: {error}");
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("reading of this process"))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(refused("core dumps"))
}

/// Bytes of stack below the caller that [`scrub_stack`] overwrites: more than the deepest call of a kernel uses.
const SCRUBBED_BYTES: usize = 64 << 10;

/// Overwrites what calls that have returned left on this thread's stack: copies of seeds that were passed by value, words of
/// a hash's key. The heap is wiped by the allocator, live values by their owners; for the dead part of a stack this is what
/// can be done. To be called where work on secrets is over, not from deeper inside than that.
#[inline(never)]
pub fn scrub_stack() {
    let mut dead = [0_u8; SCRUBBED_BYTES];
    // Not a dead store.
    black_box(&mut dead);
}

/// Why memory is not locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlocked {
    /// The limit is too low, in bytes. Under a finite one, memory that is needed later could not be had.
    Limit(u64),
    /// The system refuses.
    Refused(Errno),
}

/// Locks the memory of this process, present and future, as it is used: none of it reaches a swap device. What was locked
/// stays with the process until its end.
///
/// # Errors
/// When the limit is finite and the process is not privileged to pass it, or the system refuses.
pub fn lock_memory() -> Result<(), Unlocked> {
    let privileged = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    match getrlimit(Resource::Memlock).current {
        Some(limit) if !privileged => Err(Unlocked::Limit(limit)),
        _ => mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
            .map_err(Unlocked::Refused),
    }
}

/// [`lock_memory`] if `wanted`, and a line in the log about how it went.
pub fn lock_memory_if(wanted: bool) {
    if !wanted {
        tracing::info!("memory is not locked: lock_memory = false");
        return;
    }
    match lock_memory() {
        Ok(()) => tracing::info!("memory is locked: nothing of it is swapped out"),
        Err(unlocked) => tracing::warn!("{unlocked}"),
    }
}

impl fmt::Display for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory is not locked, and secrets may be swapped out: ")?;
        match self {
            Self::Limit(limit) => write!(f, "RLIMIT_MEMLOCK is {} KiB", limit / 1024)?,
            Self::Refused(error) => write!(f, "the system refuses ({error})")?,
        }
        f.write_str("; it must be unlimited (LimitMEMLOCK=infinity in the unit, ulimit -l unlimited in a shell), or turn swap off and set lock_memory = false")
    }
}

impl std::error::Error for Unlocked {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_names_the_limit_and_the_way_out() {
        let text = Unlocked::Limit(8 << 20).to_string();
        for words in ["RLIMIT_MEMLOCK is 8192 KiB", "LimitMEMLOCK=infinity", "lock_memory = false"] {
            assert!(text.contains(words), "{words} is missing in: {text}");
        }
    }
}
