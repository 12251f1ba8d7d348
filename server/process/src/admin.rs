//! The admin address of a daemon: what every daemon shows there, beside what its own crate adds.

use std::{fs, net::SocketAddr, sync::Arc, time::Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use suf_admin::{Check, Found, Health, Pages, Problem, Reading, Registry, Unit, read_at_each_scrape};
use suf_gate::Backend;
use suf_link::Identity;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Start;

/// Before all names of metrics.
const PREFIX: &str = "suf";

/// What every daemon has to show.
#[derive(Clone)]
pub struct Common {
    /// What the daemon is, such as `party0`.
    pub role: &'static str,
    /// Its certificate, and whom it trusts.
    pub identity: Identity,
    /// What computes.
    pub backend: Arc<dyn Backend>,
}

/// What a daemon shows at its admin address. Everybody who reaches the address reads it.
pub struct Admin {
    common: Common,
    started: Instant,
    checks: Vec<Check>,
    registry: Registry,
    status: Box<dyn Fn() -> Value + Send + Sync>,
}

/// Binds the admin address, if there is one, and says which it is: the file may leave the port to the system. An address that
/// others can reach is worth a warning.
///
/// # Errors
/// When it cannot be bound; the message names the key.
pub fn bind_admin(addr: Option<SocketAddr>) -> Start<Option<(TcpListener, SocketAddr)>> {
    let Some(addr) = addr else { return Ok(None) };
    let listener = suf_net::tcp_listener(addr)
        .map_err(|error| format!("admin = \"{addr}\" cannot be bound: {error}"))?;
    let bound = listener.local_addr()?;
    if !bound.ip().is_loopback() {
        tracing::warn!(admin = %bound, "whoever reaches the admin address reads it: let the firewall admit the monitoring hosts alone");
    }
    Ok(Some((listener, bound)))
}

impl Admin {
    /// With the checks and metrics that every daemon has.
    #[must_use]
    pub fn new(common: Common) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let started = Instant::now();
        let shown = common.clone();
        read_at_each_scrape(&mut registry, move || shown.readings(started));
        let (identity, backend) = (common.identity.clone(), Arc::clone(&common.backend));
        let checks = vec![
            Check::new("certificate", move || {
                let found = certificate(&identity);
                async move { found }
            }),
            Check::blocking("device", move || device(&*backend)),
        ];
        Self { common, started, checks, registry, status: Box::new(|| json!({})) }
    }

    /// Adds a check of readiness.
    pub fn check(&mut self, check: Check) {
        self.checks.push(check);
    }

    /// Where the daemon registers metrics of its own.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// What `/status.json` has of the daemon itself: an object.
    pub fn status(&mut self, status: impl Fn() -> Value + Send + Sync + 'static) {
        self.status = Box::new(status);
    }

    /// Serves on `listener` until `shutdown`. Must be called within a tokio runtime.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let Self { common, started, checks, registry, status } = self;
        let whole = move || {
            let mut whole = common.status(started);
            if let (Value::Object(whole), Value::Object(own)) = (&mut whole, status()) {
                whole.extend(own);
            }
            whole
        };
        Pages::new(Health::watch(checks), registry, whole).serve(listener, shutdown).await;
    }
}

impl Common {
    fn status(&self, started: Instant) -> Value {
        let backend = self.backend.info();
        json!({
            "role": self.role,
            "version": env!("CARGO_PKG_VERSION"),
            "wire_version": suf_wire::VERSION,
            "uptime_s": started.elapsed().as_secs(),
            "backend": backend.name,
            "hardware": backend.device,
            "certificate_expires_unix_s": self.identity.expires_unix_s(),
        })
    }

    fn readings(&self, started: Instant) -> Vec<Reading> {
        let backend = self.backend.info().name;
        let (version, wire) = (env!("CARGO_PKG_VERSION"), suf_wire::VERSION.to_string());
        let build = Reading::gauge("build", "Always 1; the labels say which program this is", None);
        let ends = [
            ("certificate", Some(self.identity.expires_unix_s())),
            ("authority", self.identity.authority_expires_unix_s()),
            ("revocation_list", self.identity.revocation_list_due_unix_s()),
        ];
        let help = "When the certificate, the first authority and the revocation list end, in Unix time";
        let ends = ends.into_iter().filter_map(|(what, end)| Some((what, end?))).fold(
            Reading::gauge("certificate_end_timestamp", help, Some(Unit::Seconds)),
            |reading, (what, end)| reading.with([("what", what)], end as f64),
        );
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let mut readings = vec![
            build.with(
                [("role", self.role), ("version", version), ("wire", &wire), ("backend", backend)],
                1.0,
            ),
            ends,
            Reading::gauge("uptime", "Since the start of the process", Some(Unit::Seconds))
                .of(started.elapsed().as_secs_f64()),
            Reading::counter(
                "processor",
                "Time of all processors that the process has used",
                Some(Unit::Seconds),
            )
            .of(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9),
        ];
        readings.extend(resident_bytes().map(|bytes| {
            Reading::gauge("memory_resident", "Memory that the process holds", Some(Unit::Bytes))
                .of(bytes as f64)
        }));
        readings
    }
}

/// Whether others accept our certificate.
fn certificate(identity: &Identity) -> Found {
    identity
        .check_now()
        .map_err(|error| Problem::new(error.to_string(), "put new files in their place and send SIGHUP"))
}

/// Whether what computes still answers.
fn device(backend: &dyn Backend) -> Found {
    backend.check().map_err(|error| {
        Problem::new(error.to_string(), "see the kernel log and `nvidia-smi`, then start this daemon again")
    })
}

/// Memory that this process holds, as the system says it.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_its_memory() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
