//! What a party shows at its admin address. Everybody who reaches the address reads it: no id or hash of a run, no client, no gate
//! and no model.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use serde_json::{Value, json};
use suf_admin::{Check, Found, Problem, Reading, Unit, read_at_each_scrape};
use suf_control::v1;
use suf_process::admin::{Admin, Common};

use crate::{entry::step_name, host::Host, ledger, reservation::Space};

/// Bytes that the disks of ledger and spool must have free: some batches' records, and one run's.
const LEAST_FREE_BYTES: u64 = 16 << 20;

/// The kinds of bytes that have a budget, as `Budgets::kinds` has them.
const KINDS: [&str; 3] = ["shares", "keys", "spool"];

/// The pages of `host`.
pub(crate) fn pages(host: &Arc<Host>) -> Admin {
    let mut admin = Admin::new(Common {
        role: host.config().party().role().name(),
        identity: host.parts.identity.clone(),
        backend: Arc::clone(&host.parts.backend),
    });
    let looked = |look: fn(&Host) -> Found| {
        let host = Arc::clone(host);
        move || look(&host)
    };
    let at_once = |look: fn(&Host) -> Found| {
        let host = Arc::clone(host);
        move || std::future::ready(look(&host))
    };
    admin.check(Check::new("peer", at_once(peer)));
    admin.check(Check::new("dealer", at_once(dealer)));
    admin.check(Check::blocking("ledger", looked(ledger)));
    admin.check(Check::blocking("disk", looked(disk)));
    host.observed().register(admin.registry());
    host.collector().iter().for_each(|collector| collector.register(admin.registry()));
    let read = Arc::clone(host);
    read_at_each_scrape(admin.registry(), move || readings(&read));
    let shown = Arc::clone(host);
    admin.status(move || status(&shown));
    admin
}

fn peer(host: &Host) -> Found {
    let other = host.config().party().other();
    host.peer().now().map(drop).ok_or_else(|| {
        Problem::new(
            format!("{other} is not connected"),
            "see that its daemon runs and that the addresses fit",
        )
    })
}

fn dealer(host: &Host) -> Found {
    host.dealer().measured().map(drop).ok_or_else(|| {
        Problem::new(
            format!("the dealer at {} is out of reach", host.config().dealer),
            "see that its daemon runs and that the address fits",
        )
    })
}

fn ledger(host: &Host) -> Found {
    host.ledger().log().check().map_err(|error| {
        let advice = "no run can burn its keys: see that state_dir can be written and has space";
        Problem::new(error.to_string(), advice)
    })
}

fn disk(host: &Host) -> Found {
    for (folder, space) in spaces(host) {
        match space {
            Ok(Space { free, .. }) if free >= LEAST_FREE_BYTES => {}
            Ok(Space { free, .. }) => {
                return Err(Problem::new(
                    format!("the disk of {} has only {} MiB free", folder.display(), free >> 20),
                    format!("free space there: {} MiB is the least", LEAST_FREE_BYTES >> 20),
                ));
            }
            Err(error) => {
                let what = format!("the space of {} is not known: {error}", folder.display());
                return Err(Problem::new(what, "see that the folder is there"));
            }
        }
    }
    Ok(())
}

/// The folders of ledger and spool, which may be on two disks, with their space.
fn spaces(host: &Host) -> [(&Path, std::io::Result<Space>); 2] {
    [&*host.config().state_dir, host.store().folder()].map(|folder| (folder, Space::of(folder)))
}

/// Runs in each state now, those that are over left out.
fn active(host: &Host) -> BTreeMap<String, u32> {
    use v1::RunState::{Dealing, Evaluating, Opening, Proposed, Queued, ReadyForInput};
    let all = [Proposed, Queued, Dealing, ReadyForInput, Opening, Evaluating];
    let mut counts: BTreeMap<_, _> = all.map(|state| (step_name(state), 0)).into();
    for entry in host.registry().list().iter().filter(|entry| !entry.has_ended()) {
        *counts.entry(step_name(entry.state())).or_default() += 1;
    }
    counts
}

/// The links that are up.
fn links(host: &Host) -> [(&'static str, Option<v1::Link>); 2] {
    [("peer", host.peer_link()), ("dealer", host.dealer().measured())]
}

fn readings(host: &Host) -> Vec<Reading> {
    let gauge = Reading::gauge;
    let mut runs = gauge("runs_active", "Runs that have not ended, by state", None);
    for (state, count) in active(host) {
        runs = runs.with([("state", &state)], f64::from(count));
    }
    let mut used = gauge("budget_used", "Bytes that runs hold of each budget", Some(Unit::Bytes));
    let mut bounds = gauge("budget", "Bytes of each budget", Some(Unit::Bytes));
    for (kind, budget) in KINDS.into_iter().zip(host.budgets().kinds()) {
        used = used.with([("kind", kind)], budget.in_use() as f64);
        bounds = bounds.with([("kind", kind)], budget.bound() as f64);
    }
    let mut free = gauge("disk_free", "Bytes that the daemon may still write", Some(Unit::Bytes));
    let mut size = gauge("disk_size", "Bytes of the disk", Some(Unit::Bytes));
    for (name, (_, space)) in ["state_dir", "spool"].into_iter().zip(spaces(host)) {
        if let Ok(space) = space {
            free = free.with([("folder", name)], space.free as f64);
            size = size.with([("folder", name)], space.size as f64);
        }
    }
    let mut readings = vec![runs, used, bounds, free, size];
    if let Ok(file) = fs::metadata(host.config().state_dir.join(ledger::FILE)) {
        readings.push(gauge("ledger", "Size of the ledger's file", Some(Unit::Bytes)).of(file.len() as f64));
    }
    readings.extend(link_readings(&links(host)));
    readings
}

fn link_readings(links: &[(&'static str, Option<v1::Link>)]) -> [Reading; 5] {
    let bytes = Some(Unit::Bytes);
    let per_s = Some(Unit::Other("bits_per_second".into()));
    let mut up = Reading::gauge("link_up", "Whether the other side is connected", None);
    let mut round_trip = Reading::gauge("link_round_trip", "Smoothed round trip time", Some(Unit::Seconds));
    let mut rate = Reading::gauge("link_rate", "Rate of the last large transfer", per_s);
    let mut sent =
        Reading::counter("link_sent", "Bytes in UDP datagrams sent on the connection", bytes.clone());
    let mut received = Reading::counter("link_received", "Bytes in UDP datagrams received on it", bytes);
    for (to, link) in links {
        let to = [("to", *to)];
        up = up.with(to, f64::from(u8::from(link.is_some())));
        let Some(link) = link else { continue };
        round_trip = round_trip.with(to, link.rtt_ms / 1e3);
        sent = sent.with(to, link.bytes_sent as f64);
        received = received.with(to, link.bytes_received as f64);
        if link.rate_measured {
            rate = rate.with(to, link.rate_bps);
        }
    }
    [up, round_trip, rate, sent, received]
}

fn status(host: &Host) -> Value {
    let links: serde_json::Map<_, _> = links(host)
        .into_iter()
        .map(|(to, link)| {
            let shown = link.map(|link| {
                json!({
                    "kind": link.kind,
                    "round_trip_ms": link.rtt_ms,
                    "rate_bits_per_s": link.rate_measured.then_some(link.rate_bps),
                    "bytes_sent": link.bytes_sent,
                    "bytes_received": link.bytes_received,
                })
            });
            (to.to_owned(), shown.unwrap_or(Value::Null))
        })
        .collect();
    let budgets: serde_json::Map<_, _> = KINDS
        .into_iter()
        .zip(host.budgets().kinds())
        .map(|(kind, budget)| {
            (kind.to_owned(), json!({ "used_bytes": budget.in_use(), "bytes": budget.bound() }))
        })
        .collect();
    let disks: serde_json::Map<_, _> = ["state_dir", "spool"]
        .into_iter()
        .zip(spaces(host))
        .filter_map(|(name, (_, space))| {
            let Space { free, size } = space.ok()?;
            Some((name.to_owned(), json!({ "free_bytes": free, "bytes": size })))
        })
        .collect();
    json!({ "links": links, "budgets": budgets, "disks": disks, "runs_active": active(host) })
}
