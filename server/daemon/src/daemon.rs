//! Start, readiness, shutdown.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
};

use suf_control::{authority::RoleOf, hardening, server::Control, shutdown, telemetry};
use suf_link::{Endpoint, Identity, LinkProfile};
use suf_party::{Ledger, Policy};
use tokio::{net::TcpListener, runtime, sync::oneshot};

use crate::{
    backend,
    config::{Config, Peer},
    host::{Host, Parts},
    keys::DealerLink,
    ledger::RedbLog,
    peer,
    service::PartyService,
    store::KeyStore,
    workers::Workers,
};

/// Options of the party's daemon.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file; config/party0.toml documents every key.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Check the configuration and the files it names, and exit.
    #[arg(long)]
    pub check: bool,
    /// How log lines look; RUST_LOG says which there are.
    #[arg(long, value_name = "text|json", default_value = "text")]
    pub log_format: telemetry::LogFormat,
}

/// Anything that keeps the daemon from starting, in words.
type Start<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Runs the daemon until a signal. Exit status 0 after an orderly end, 1 if it cannot start.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    // The first draw takes 20 ms once; it must not fall into the first handshake, whose round trip is measured.
    let mut warm = [0; 32];
    let begun =
        hardening::guard().and_then(|()| telemetry::init(args.log_format).map_err(|error| error.to_string()));
    if let Err(error) = begun {
        eprintln!("suf-party: {error}");
        return ExitCode::FAILURE;
    }
    let outcome = aws_lc_rs::rand::fill(&mut warm)
        .map_err(|_| "the operating system gives no entropy".into())
        .and_then(|()| start(&args));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("suf-party: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Start<()> {
    let config = Config::load(&args.config)?;
    let identity = config.identity.load(config.party().role())?;
    let profile = LinkProfile::find(&config.link)?;
    let backend = backend::choose(config.backend, config.party())?;
    if args.check {
        println!("{}: {} is ready to start", args.config.display(), config.party());
        return Ok(());
    }
    hardening::lock_memory_if(config.lock_memory);
    std::fs::create_dir_all(&config.state_dir)
        .map_err(|error| format!("state_dir {} cannot be made: {error}", config.state_dir.display()))?;
    let ledger = Ledger::new(RedbLog::open(&config.state_dir)?);
    let store = KeyStore::open(&config.state_dir, config.key_memory_mb << 20)?;
    let workers = Workers::start(&backend, config.thread_count())?;

    let main_runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let evaluation = runtime::Builder::new_current_thread().enable_all().build()?;
    let evaluation_handle = evaluation.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let evaluation_thread = thread::Builder::new().name("evaluation".into()).spawn(move || {
        // An error says that the sender is gone, which is as good a reason to stop.
        let _ = evaluation.block_on(stopped);
    })?;

    let outcome = main_runtime.block_on(async {
        let policy = Policy { max_elems: config.max_elems, protocols: config.protocols()? };
        let dealer = {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let endpoint = Endpoint::bind(any, &identity, &profile, config.shaped)?;
            DealerLink::new(endpoint, config.dealer.clone())
        };
        let peer_endpoint = {
            let _on_its_thread = evaluation_handle.enter();
            let addr = match &config.peer {
                Peer::Listen { listen } => *listen,
                Peer::Connect { .. } => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            };
            Arc::new(Endpoint::bind(addr, &identity, &profile, config.shaped)?)
        };
        let host = Arc::new(Host::new(Parts {
            policy,
            link_kind: peer_endpoint.kind(),
            ledger,
            store,
            backend,
            workers,
            dealer,
            runtime: runtime::Handle::current(),
            evaluation: evaluation_handle.clone(),
            identity,
            profile,
            config,
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
    let signals = shutdown::on_signals()?;
    renewal(&host.parts.identity)?;
    let listener = TcpListener::bind(config.control)
        .await
        .map_err(|error| format!("control = \"{}\" cannot be bound: {error}", config.control))?;
    let control = listener.local_addr()?;
    let mut ready = serde_json::json!({
        "ready": config.party().role().name(),
        "version": env!("CARGO_PKG_VERSION"),
        "control": control,
    });
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
    println!("{ready}");
    tracing::info!(party = %config.party(), %control, backend = ?host.backend_info(), "ready");

    let runs_end = {
        let (host, signals) = (Arc::clone(host), signals.clone());
        async move {
            signals.cancelled().await;
            host.cancel_all("the daemon shuts down");
        }
    };
    let service = Control::party(PartyService::new(Arc::clone(host)));
    let role_of: RoleOf =
        Arc::new(|certificate| suf_link::role_of(certificate).map(|role| role.name().to_owned()));
    let tls = host.parts.identity.grpc_server()?;
    let (served, ()) = tokio::join!(service.serve(listener, tls, role_of, signals), runs_end);
    peer_endpoint.close("the party shuts down").await;
    host.dealer().close().await;
    tracing::info!("shut down");
    served.map_err(Into::into)
}

/// Renews `identity` on SIGHUP, and speaks of its end every day from two weeks before it.
fn renewal(identity: &Identity) -> Start<()> {
    let (renewed, reminded) = (identity.clone(), identity.clone());
    let reload = move || match renewed.reload() {
        Ok(()) => tracing::info!(days = renewed.days_left(), "certificate read anew"),
        Err(error) => tracing::error!(%error, "the certificate stays as it was"),
    };
    shutdown::on_hangup(reload, move || reminded.warn_of_end())?;
    Ok(())
}
