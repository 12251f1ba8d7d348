//! A daemon's certificate over time, and the roles of its callers.

use std::{io, sync::Arc};

use suf_control::authority::Callers;
use suf_link::Identity;

use crate::signals;

/// Reads `identity` anew on SIGHUP: certificate, key, authorities and revocation list, all or none. Speaks of ends every day, from two
/// weeks before each. Must be called inside a tokio runtime.
///
/// # Errors
/// When the system gives no signal handler.
pub fn keep_current(identity: &Identity) -> io::Result<()> {
    let (renewed, reminded) = (identity.clone(), identity.clone());
    let reload = move || match renewed.reload() {
        Ok(()) => tracing::info!(
            days = renewed.days_left(),
            "certificate read anew, and with it the authorities and their revocation list"
        ),
        Err(error) => tracing::error!(
            %error,
            "the certificate stays as it was, and with it the authorities and their revocation list"
        ),
    };
    signals::on_hangup(reload, move || reminded.warn_of_end())
}

/// What the control API asks of its callers' certificates: their roles, with each call, and whether they are still accepted while
/// it is under way.
#[must_use]
pub fn callers(identity: &Identity) -> Callers {
    let (now, later) = (identity.clone(), identity.clone());
    Callers {
        role_of: Arc::new(move |certificate| {
            now.role_of_caller(certificate).map(|role| role.name().to_owned())
        }),
        withdrawn: Arc::new(move |certificate| Box::pin(later.caller_withdrawn(certificate.clone()))),
    }
}
