//! Start, readiness, shutdown.

use std::{process::ExitCode, sync::Arc};

use suf_control::server::Control;
use suf_link::{Endpoint, Identity, LinkProfile};
use suf_process::{
    Args, Configuration, KeyMemory, Start, bind_control, hardening, identity, memory::MemoryLimit, say_ready,
    signals,
};
use suf_wire::Role;
use tokio::runtime;

use crate::{Dealer, DealerService, config::Config};

/// Runs the daemon until a signal. Exit status 0 after an orderly end, 1 if it cannot start.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    suf_process::run("suf dealer", args, start)
}

fn start(args: &Args) -> Start<()> {
    let config = Config::load(&args.config)?;
    let identity = config.identity.load(Role::Dealer)?;
    let profile = LinkProfile::find(&config.link)?;
    let limits = config.limits(MemoryLimit::of_this_process().as_ref())?;
    KeyMemory::bound(limits.memory_bytes);
    let dealer = Dealer::new(limits, config.backend.backend(0)?);
    if args.check {
        return args.checked("the dealer");
    }
    hardening::lock_memory_if(config.lock_memory);
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&config, &identity, &profile, &dealer))
}

async fn serve(config: &Config, own: &Identity, profile: &LinkProfile, dealer: &Arc<Dealer>) -> Start<()> {
    let signals = signals::on_signals()?;
    identity::keep_current(own)?;
    let endpoint = Endpoint::bind(config.listen, own, profile, config.shaped)?;
    let (listener, control) = bind_control(config.control).await?;
    let keys = endpoint.local_addr()?;
    let ready = serde_json::json!({
        "ready": Role::Dealer.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "keys": keys,
        "control": control,
    });
    say_ready(&ready);
    tracing::info!(%keys, %control, backend = ?dealer.backend().info(), "ready");

    let service = Control::dealer(DealerService::new(Arc::clone(dealer), own.clone()));
    let tls = own.grpc_server()?;
    let batches_end = {
        let signals = signals.clone();
        async move {
            signals.cancelled().await;
            dealer.stop().await;
        }
    };
    let (served, (), ()) = tokio::join!(
        service.serve(listener, tls, identity::role_of(own), signals),
        dealer.serve(&endpoint),
        batches_end
    );
    endpoint.close("the dealer shuts down").await;
    tracing::info!("shut down");
    served.map_err(Into::into)
}
