//! Start, readiness, shutdown.

use std::{process::ExitCode, sync::Arc, thread};

use suf_admin::Collector;
use suf_control::server::Control;
use suf_gate::Backend;
use suf_link::{Endpoint, Identity, LinkProfile};
use suf_party::{Ledger, Policy};
use suf_process::{
    Args, Configuration, Start, admin::bind_admin, bind_control, examine::Examination, hardening, identity,
    memory::MemoryLimit, say_ready, service as manager, signals, weights,
};
use tokio::{runtime, sync::oneshot};

use crate::{
    admin,
    budget::Limits,
    checker::Checker,
    config::{Config, Peer},
    host::{Host, HostParts},
    keys::DealerLink,
    ledger::RedbLog,
    peer,
    reservation::Budgets,
    service::PartyService,
    store::KeyStore,
    workers::Workers,
};

/// Runs the daemon until a signal. Exit status 0 after an orderly end, 1 if it cannot start.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    suf_process::run("suf party", args, |args| start(args, None))
}

/// The same, telling a checker what it makes of each run, over this process's standard output.
#[must_use]
pub fn run_for_checker(args: &Args) -> ExitCode {
    suf_process::run("suf party", args, |args| start(args, Some(Checker::of_standard_output()?)))
}

/// What a start needs.
struct Needs {
    identity: Identity,
    profile: LinkProfile,
    backend: Arc<dyn Backend>,
    weights: weights::Loaded,
    limits: Limits,
}

/// Reads what a start needs, and looks at all else that it will need: a start and `--check` alike.
fn examine(args: &Args, config: &Config) -> Start<Needs> {
    let party = config.party();
    let mut found = Examination::default();
    let identity = found.identity(&config.identity, party.role());
    let profile = found.link(&config.link);
    found.tcp("control", config.control);
    config.admin.iter().for_each(|admin| found.tcp("admin", *admin));
    let mut names = vec![("dealer", config.dealer.as_str())];
    match &config.peer {
        Peer::Listen { listen } => found.udp("peer", *listen),
        Peer::Connect { connect } => names.push(("peer", connect)),
    }
    found.folder("state_dir", &config.state_dir);
    found.take("state_dir", RedbLog::examine(&config.state_dir), |known| match known {
        Some(known) => format!("its ledger knows {known} burnt batches"),
        None => "there is no ledger yet; a new one is made at the start".to_owned(),
    });
    let limits = config.limits(MemoryLimit::of_this_process().as_ref());
    for (key, what, bounds) in [
        ("key_memory_mb", "keys take", limits.keys),
        ("share_memory_mb", "shares take", limits.shares),
        ("spool_mb", "the spool takes", limits.spool),
    ] {
        let (all, client) = (bounds.all >> 20, bounds.client >> 20);
        found.good(key, format_args!("{what} up to {all} MiB, {client} of each client"));
    }
    let weights = found.take("weights", config.weights(), weights::described);
    let backend = found.backend(config.backend, party.index());
    found.end(args, &party.to_string(), &names)?;
    let (Some(identity), Some(profile), Some(weights), Some(backend)) = (identity, profile, weights, backend)
    else {
        unreachable!("what is not there is wrong, and ends the start");
    };
    Ok(Needs { identity, profile, backend, weights, limits })
}

fn start(args: &Args, checker: Option<Checker>) -> Start<()> {
    let config = Config::load(&args.config)?;
    let Needs { identity, profile, backend, weights, limits } = examine(args, &config)?;
    if args.check {
        return Ok(());
    }
    hardening::lock_memory_if(config.lock_memory);
    std::fs::create_dir_all(&config.state_dir)
        .map_err(|error| format!("state_dir {} cannot be made: {error}", config.state_dir.display()))?;
    let ledger = Ledger::new(RedbLog::open(&config.state_dir)?);
    let store = KeyStore::open(&config.state_dir)?;
    let budgets = Budgets::new(config.party(), limits, store.folder());
    let workers = Workers::start(&backend, config.thread_count())?;

    let main_runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    // Moves the messages between the parties, but for those of lanes, which have threads of their own.
    let evaluation = runtime::Builder::new_current_thread().enable_all().build()?;
    let evaluation_handle = evaluation.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let evaluation_thread = thread::Builder::new().name("evaluation".into()).spawn(move || {
        // An error says that the sender is gone, which is as good a reason to stop.
        let _ = evaluation.block_on(stopped);
    })?;

    let outcome = main_runtime.block_on(async {
        let policy =
            Policy { max_elems: config.max_elems, protocols: config.protocols()?, gates: config.gates()? };
        let dealer = {
            let endpoint = Endpoint::caller(&identity, &profile, config.shaped)?;
            DealerLink::new(endpoint, config.dealer.clone())
        };
        let instance = config.party().role().name();
        let collector = config.collector()?.map(|address| Collector::start(&address, instance));
        let peer_endpoint = {
            let _on_its_thread = evaluation_handle.enter();
            Arc::new(match &config.peer {
                Peer::Listen { listen } => Endpoint::bind(*listen, &identity, &profile, config.shaped)?,
                Peer::Connect { .. } => Endpoint::caller(&identity, &profile, config.shaped)?,
            })
        };
        let host = Arc::new(Host::new(HostParts {
            policy,
            link_kind: peer_endpoint.kind(),
            ledger,
            store,
            budgets,
            backend,
            workers,
            dealer,
            collector,
            weights,
            runtime: runtime::Handle::current(),
            evaluation: evaluation_handle.clone(),
            identity,
            profile,
            config,
            checker,
        }));
        serve(&host, &peer_endpoint).await
    });
    drop(stop);
    // The thread ran nothing but the peer link; a panic there was logged where it happened.
    let _ = evaluation_thread.join();
    outcome
}

async fn serve(host: &Arc<Host>, peer_endpoint: &Arc<Endpoint>) -> Start<()> {
    let config = host.config();
    let signals = signals::on_signals()?;
    identity::keep_current(&host.parts.identity)?;
    let (listener, control) = bind_control(config.control).await?;
    let bound = bind_admin(config.admin)?;
    let mut ready = serde_json::json!({
        "ready": config.party().role().name(),
        "version": env!("CARGO_PKG_VERSION"),
        "control": control,
    });
    if let Some((listener, address)) = bound {
        ready["admin"] = serde_json::json!(address);
        tokio::spawn(admin::pages(host).serve(listener, signals.clone()));
        let (host, signals) = (Arc::clone(host), signals.clone());
        tokio::spawn(async move { signals.run_until_cancelled(host.dealer().keep()).await });
    }
    match &config.peer {
        Peer::Listen { .. } => {
            ready["peer"] = serde_json::json!(peer_endpoint.local_addr()?);
            host.evaluation().spawn(peer::listen(Arc::clone(host), Arc::clone(peer_endpoint)));
        }
        Peer::Connect { connect } => {
            let call = peer::call(Arc::clone(host), Arc::clone(peer_endpoint), connect.clone());
            host.evaluation().spawn(call);
        }
    }
    say_ready(&ready);
    manager::tell_ready(vec![host.runtime().clone(), host.evaluation().clone()]);
    tracing::info!(party = %config.party(), %control, backend = ?host.backend_info(), "ready");

    let runs_end = {
        let (host, signals) = (Arc::clone(host), signals.clone());
        async move {
            signals.cancelled().await;
            manager::tell_stopping();
            host.cancel_all("the daemon shuts down");
        }
    };
    let service = Control::party(PartyService::new(Arc::clone(host)));
    let tls = host.parts.identity.grpc_server()?;
    let callers = identity::callers(&host.parts.identity);
    let (served, ()) = tokio::join!(service.serve(listener, tls, callers, signals), runs_end);
    peer_endpoint.close("the party shuts down").await;
    host.dealer().close().await;
    tracing::info!("shut down");
    served.map_err(Into::into)
}
