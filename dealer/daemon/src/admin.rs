//! What the dealer shows at its admin address. Everybody who reaches the address reads it: no batch, no gate and no model.

use std::sync::Arc;

use serde_json::{Value, json};
use suf_admin::{Reading, Unit, read_at_each_scrape};
use suf_link::Identity;
use suf_process::admin::{Admin, Common};
use suf_wire::{Party, Role};

use crate::{Dealer, Totals};

/// The pages of `dealer`, which shows `identity`. Parties come when they need keys: a dealer without them is ready.
pub(crate) fn pages(dealer: &Arc<Dealer>, identity: &Identity) -> Admin {
    let mut admin = Admin::new(Common {
        role: Role::Dealer.name(),
        identity: identity.clone(),
        backend: Arc::clone(dealer.backend()),
    });
    let read = Arc::clone(dealer);
    read_at_each_scrape(admin.registry(), move || readings(&read));
    let shown = Arc::clone(dealer);
    admin.status(move || status(&shown));
    admin
}

fn readings(dealer: &Dealer) -> Vec<Reading> {
    let Totals { batches_dealt, batches_failed, elements_dealt, bytes_shipped, active_batches } =
        dealer.records().totals();
    let bytes = || Some(Unit::Bytes);
    let mut connections =
        Reading::gauge("party_connections", "Connections of each party that are open", None);
    for party in Party::BOTH {
        connections = connections.with([("party", party.role().name())], dealer.connections(party) as f64);
    }
    vec![
        Reading::counter("batches", "Batches that ended, by outcome", None)
            .with([("outcome", "stored")], batches_dealt as f64)
            .with([("outcome", "failed")], batches_failed as f64),
        Reading::gauge("batches_active", "Batches that are being dealt", None).of(f64::from(active_batches)),
        Reading::counter("batch_elements", "Elements of the batches that both parties stored", None)
            .of(elements_dealt as f64),
        Reading::counter("batch_shipped", "Bytes sent to both parties", bytes()).of(bytes_shipped as f64),
        Reading::gauge("key_memory_used", "Memory of keys that are made or under way", bytes())
            .of(dealer.budget().in_use() as f64),
        Reading::gauge("key_memory", "Bound on the memory of keys (memory_mb)", bytes())
            .of(dealer.budget().bound() as f64),
        connections,
    ]
}

fn status(dealer: &Dealer) -> Value {
    let Totals { batches_dealt, batches_failed, elements_dealt, bytes_shipped, active_batches } =
        dealer.records().totals();
    let connections: serde_json::Map<_, _> = Party::BOTH
        .into_iter()
        .map(|party| (party.role().name().to_owned(), json!(dealer.connections(party))))
        .collect();
    json!({
        "batches": { "stored": batches_dealt, "failed": batches_failed, "active": active_batches },
        "elements_dealt": elements_dealt,
        "bytes_shipped": bytes_shipped,
        "key_memory": { "used_bytes": dealer.budget().in_use(), "bytes": dealer.budget().bound() },
        "party_connections": connections,
    })
}
