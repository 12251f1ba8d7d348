//! Start, readiness, shutdown.

use std::{process::ExitCode, sync::Arc};

use suf_control::server::Control;
use suf_gate::Backend;
use suf_link::{Endpoint, Identity, LinkProfile};
use suf_process::{
    Args, Configuration, KeyMemory, Start, admin::bind_admin, bind_control, examine::Examination, hardening,
    identity, memory::MemoryLimit, say_ready, service as manager, signals, weights,
};
use suf_wire::Role;
use tokio::runtime;

use crate::{Dealer, DealerService, Limits, admin, config::Config};

/// Runs the daemon until a signal. Exit status 0 after an orderly end, 1 if it cannot start.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    suf_process::run("suf dealer", args, start)
}

/// What a start needs.
struct Needs {
    identity: Identity,
    profile: LinkProfile,
    backend: Arc<dyn Backend>,
    limits: Limits,
}

/// Reads what a start needs, and looks at all else that it will need: a start and `--check` alike.
fn examine(args: &Args, config: &Config) -> Start<Needs> {
    let mut found = Examination::default();
    let identity = found.identity(&config.identity, Role::Dealer);
    let profile = found.link(&config.link);
    found.udp("listen", config.listen);
    found.tcp("control", config.control);
    config.admin.iter().for_each(|admin| found.tcp("admin", *admin));
    let weights = found.take("weights", config.weights(), weights::described);
    let weights = weights.unwrap_or_default();
    let limits = config.limits(MemoryLimit::of_this_process().as_ref(), weights)?;
    found.good("memory_mb", format_args!("keys take up to {} MiB", limits.memory_bytes >> 20));
    let backend = found.backend(config.backend, 0);
    found.end(args, "the dealer", &[])?;
    let (Some(identity), Some(profile), Some(backend)) = (identity, profile, backend) else {
        unreachable!("what is not there is wrong, and ends the start");
    };
    Ok(Needs { identity, profile, backend, limits })
}

fn start(args: &Args) -> Start<()> {
    let config = Config::load(&args.config)?;
    let Needs { identity, profile, backend, limits } = examine(args, &config)?;
    KeyMemory::bound(limits.memory_bytes);
    let dealer = Dealer::new(limits, backend);
    if args.check {
        return Ok(());
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
    let bound = bind_admin(config.admin)?;
    let mut ready = serde_json::json!({
        "ready": Role::Dealer.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "keys": keys,
        "control": control,
    });
    if let Some((listener, address)) = bound {
        ready["admin"] = serde_json::json!(address);
        tokio::spawn(admin::pages(dealer, own).serve(listener, signals.clone()));
    }
    say_ready(&ready);
    manager::tell_ready(vec![runtime::Handle::current()]);
    tracing::info!(%keys, %control, backend = ?dealer.backend().info(), "ready");

    let service = Control::dealer(DealerService::new(Arc::clone(dealer), own.clone()));
    let tls = own.grpc_server()?;
    let batches_end = {
        let signals = signals.clone();
        async move {
            signals.cancelled().await;
            manager::tell_stopping();
            dealer.stop().await;
        }
    };
    let (served, (), ()) = tokio::join!(
        service.serve(listener, tls, identity::callers(own), signals),
        dealer.serve(&endpoint),
        batches_end
    );
    endpoint.close("the dealer shuts down").await;
    tracing::info!("shut down");
    served.map_err(Into::into)
}
