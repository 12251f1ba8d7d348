//! Start, readiness, shutdown.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use suf_control::{authority::RoleOf, hardening, server::Control, shutdown, telemetry};
use suf_link::{Endpoint, Identity, LinkProfile};
use suf_wire::Role;
use tokio::{net::TcpListener, runtime};

use crate::{Dealer, DealerService, backend, config::Config};

/// Options of the dealer's daemon.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file; config/dealer.toml documents every key.
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
    let begun =
        hardening::guard().and_then(|()| telemetry::init(args.log_format).map_err(|error| error.to_string()));
    if let Err(error) = begun {
        eprintln!("suf-dealer: {error}");
        return ExitCode::FAILURE;
    }
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("suf-dealer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Start<()> {
    let config = Config::load(&args.config)?;
    let identity = config.identity.load(Role::Dealer)?;
    let profile = LinkProfile::find(&config.link)?;
    let dealer = Dealer::new(config.limits(), backend::choose(config.backend)?);
    if args.check {
        println!("{}: the dealer is ready to start", args.config.display());
        return Ok(());
    }
    hardening::lock_memory_if(config.lock_memory);
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&config, &identity, &profile, &dealer))
}

async fn serve(
    config: &Config,
    identity: &Identity,
    profile: &LinkProfile,
    dealer: &Arc<Dealer>,
) -> Start<()> {
    let signals = shutdown::on_signals()?;
    renewal(identity)?;
    let endpoint = Endpoint::bind(config.listen, identity, profile, config.shaped)?;
    let listener = TcpListener::bind(config.control)
        .await
        .map_err(|error| format!("control = \"{}\" cannot be bound: {error}", config.control))?;
    let (keys, control) = (endpoint.local_addr()?, listener.local_addr()?);
    let ready = serde_json::json!({
        "ready": Role::Dealer.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "keys": keys,
        "control": control,
    });
    println!("{ready}");
    tracing::info!(%keys, %control, backend = ?dealer.backend().info(), "ready");

    let service = Control::dealer(DealerService::new(Arc::clone(dealer), identity.clone()));
    let role_of: RoleOf =
        Arc::new(|certificate| suf_link::role_of(certificate).map(|role| role.name().to_owned()));
    let tls = identity.grpc_server()?;
    let batches_end = {
        let signals = signals.clone();
        async move {
            signals.cancelled().await;
            dealer.stop().await;
        }
    };
    let (served, (), ()) =
        tokio::join!(service.serve(listener, tls, role_of, signals), dealer.serve(&endpoint), batches_end);
    endpoint.close("the dealer shuts down").await;
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
