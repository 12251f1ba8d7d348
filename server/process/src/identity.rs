//! A daemon's certificate over time, and the roles of its callers.

use std::{io, sync::Arc};

use suf_control::authority::RoleOf;
use suf_link::Identity;

use crate::signals;

/// Renews `identity` on SIGHUP, and speaks of its end every day from two weeks before it. Must be called inside a tokio
/// runtime.
///
/// # Errors
/// When the system gives no signal handler.
pub fn keep_current(identity: &Identity) -> io::Result<()> {
    let (renewed, reminded) = (identity.clone(), identity.clone());
    let reload = move || match renewed.reload() {
        Ok(()) => tracing::info!(days = renewed.days_left(), "certificate read anew"),
        Err(error) => tracing::error!(%error, "the certificate stays as it was"),
    };
    signals::on_hangup(reload, move || reminded.warn_of_end())
}

/// How the control API reads a caller's role from its certificate.
#[must_use]
pub fn role_of() -> RoleOf {
    Arc::new(|certificate| suf_link::role_of(certificate).map(|role| role.name().to_owned()))
}
