//! Prometheus, its rules and a dashboard, against real daemons.

mod certificates;

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use suf_skip::{Need, skip};
use suf_tests::{
    disk::SmallDisk,
    npy,
    pages::{fetch, page},
    processes::{Hosts, NAMES, expect},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

const DONE: i32 = 0;

/// How soon Prometheus, which asks every second here, has seen what is the case.
const SOON: Duration = Duration::from_secs(30);

/// How long a certificate is good for that is about to end.
const TEN_DAYS: Duration = Duration::from_secs(10 * 86_400);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).expect("it ships")
}

/// `promtool` with `arguments` in the folder of the rules; none where it is not installed.
fn promtool(arguments: &[&str]) -> Option<Output> {
    Command::new("promtool").args(arguments).current_dir(folder()).output().ok()
}

#[test]
fn promtool_accepts_the_rules_and_what_they_say_of_figures_over_time() {
    for arguments in [
        &["check", "rules", "alerts.yaml"][..],
        &["check", "config", "prometheus.yaml"],
        &["test", "rules", "alerts_test.yaml"],
    ] {
        let Some(output) = promtool(arguments) else {
            return skip(Need::Prometheus, "the rules were not checked: promtool is not installed");
        };
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "promtool {arguments:?}: {said:?}");
    }
}

/// Names of our metrics in `text`, remarks left out, without the endings that a histogram's parts have.
fn names(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let whole = |name: &str| {
        let parts = ["_bucket", "_sum", "_count"];
        parts.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    words.filter(|word| word.starts_with("suf_")).map(whole).collect()
}

#[test]
fn what_rules_and_dashboard_ask_for_is_what_daemons_tell_and_each_alert_is_explained() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    hosts.start_daemons(|name, config| {
        let otlp = if name == "dealer" { "" } else { "otlp = \"http://127.0.0.1:4317\"\n" };
        format!("admin = \"127.0.0.1:0\"\n{otlp}{config}")
    });
    npy::write_i64(&hosts.folder().join("x.npy"), &[4096; 400_000]);
    expect(&hosts.onehot("x.npy"), DONE, &[], "a run");
    let told: BTreeSet<_> =
        NAMES.iter().flat_map(|name| names(&page(&hosts, name, "/metrics").text)).collect();
    let dashboard = read("grafana.json");
    let parsed: Value = serde_json::from_str(&dashboard).expect("JSON");
    assert!(parsed["panels"].as_array().is_some_and(|panels| panels.len() > 10));
    for (file, text) in [("grafana.json", &dashboard), ("alerts.yaml", &read("alerts.yaml"))] {
        let asked = names(text);
        assert!(asked.len() > 8, "{file}: {asked:?}");
        // A revocation list is not there, and so is no metric of one, but its name is that of the others.
        let unknown: Vec<_> = asked.difference(&told).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}, and the daemons tell {told:?}");
    }
    let explained = fs::read_to_string(folder().join("../../docs/operations.md")).expect("the page");
    let rules = read("alerts.yaml");
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(explained.contains(&format!("`{alert}`")), "docs/operations.md does not explain {alert}");
    }
    for metric in told {
        assert!(explained.contains(&format!("`{metric}`")), "docs/operations.md does not explain {metric}");
    }
}

/// A Prometheus that ends with the test.
struct Prometheus {
    child: Child,
    address: String,
}

impl Prometheus {
    /// Scrapes the daemons of `hosts` every second, with the alerts that ship, which wait for nothing. None where it is not installed.
    fn start(hosts: &Hosts) -> Option<Self> {
        let place = hosts.folder();
        let rules = read("alerts.yaml");
        let at_once: String = rules
            .lines()
            .map(|line| {
                let line = if line.trim_start().starts_with("for: ") { "        for: 0s" } else { line };
                format!("{line}\n")
            })
            .collect();
        fs::write(place.join("alerts.yaml"), at_once).expect("writable");
        let targets: Vec<_> = NAMES.iter().map(|name| format!("\"{}\"", hosts.admin(name))).collect();
        let config = read("prometheus.yaml")
            .replace("interval: 15s", "interval: 1s")
            .replace("\"127.0.0.1:7102\"", &targets.join(", "));
        fs::write(place.join("prometheus.yaml"), config).expect("writable");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let address = free.to_string();
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=prometheus"])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(place.join("prometheus.log")).expect("writable"))
            .spawn();
        Some(Self { child: child.ok()?, address })
    }

    /// Waits until the API's answer at `path` is as `wanted`.
    fn until(&mut self, hosts: &Hosts, path: &str, wanted: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let answer = fetch(&self.address, path).ok();
            let answer = answer.and_then(|page| serde_json::from_str(&page.text).ok()).unwrap_or(Value::Null);
            if wanted(&answer["data"]) {
                return;
            }
            let log = || fs::read_to_string(hosts.folder().join("prometheus.log")).unwrap_or_default();
            assert!(matches!(self.child.try_wait(), Ok(None)), "it ended: {}", log());
            assert!(begun.elapsed() < SOON, "{path} is still {answer}; {}", log());
            std::thread::yield_now();
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_all_three_daemons_and_alerts_fire_for_what_is_wrong() {
    let Some(disk) = SmallDisk::mount(64) else {
        return skip(Need::Mount, "no disk was filled: this process may not mount one");
    };
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    certificates::certify(hosts.folder(), "dealer", TEN_DAYS);
    let state = format!("state_dir = \"{}\"", disk.path().join("state").display());
    hosts.start_daemons(|_, config| {
        format!("admin = \"127.0.0.1:0\"\n{config}").replace("state_dir = \"state-party0\"", &state)
    });
    let Some(mut prometheus) = Prometheus::start(&hosts) else {
        return skip(Need::Prometheus, "no daemon was scraped: prometheus is not installed");
    };
    let healthy = |data: &Value| {
        let targets = data["activeTargets"].as_array().map(Vec::as_slice).unwrap_or_default();
        targets.iter().filter(|target| target["health"] == "up").count() == NAMES.len()
    };
    prometheus.until(&hosts, "/api/v1/targets", healthy);
    let ready = |data: &Value| data["result"].as_array().is_some_and(|found| found.len() == NAMES.len());
    prometheus.until(&hosts, "/api/v1/query?query=suf_ready%3D%3D1", ready);

    let firing = |data: &Value| -> BTreeSet<String> {
        let alerts = data["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect()
    };
    prometheus.until(&hosts, "/api/v1/alerts", |data| firing(data).contains("SufCertificateEnding"));
    hosts.kill("party1");
    let _filler = disk.fill();
    let wanted = ["SufCertificateEnding", "SufPeerLost", "SufDiskNearlyFull", "SufNotReady", "SufDown"];
    prometheus.until(&hosts, "/api/v1/alerts", |data| {
        let firing = firing(data);
        wanted.iter().all(|alert| firing.contains(*alert))
    });
}
