//! The connection between the two parties: who calls whom, and runs that come and go over it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use suf_link::{Connection, Endpoint, LinkError, LinkProfile, Session};
use suf_party::RunFailure;
use suf_wire::{Fault, Party, Role};
use tokio::sync::watch;

use crate::{arrivals::Arrivals, host::Host, proposals};

/// What this program calls itself in greetings.
pub(crate) const SOFTWARE: &str = concat!("suf ", env!("CARGO_PKG_VERSION"));

/// First and longest pause between two attempts to reach another daemon: quick after a restart, quiet through a night.
pub(crate) const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How much longer than a handshake a run waits for a connection to the other party, and for a channel's first message.
/// Together that is 10 s, and more on links with long delays. A peer that was killed is noticed after 6 s of silence at the
/// latest, and called again at once.
const BEYOND_HANDSHAKE: Duration = Duration::from_secs(2);

/// The present connection to the other party, and what was measured of the link.
#[derive(Debug)]
pub(crate) struct PeerLink {
    present: watch::Sender<Option<Connection>>,
    patience: Duration,
    rate_bps: Mutex<Option<f64>>,
}

impl PeerLink {
    pub(crate) fn new(profile: &LinkProfile) -> Self {
        let patience = profile.settings().handshake_limit + BEYOND_HANDSHAKE;
        Self { present: watch::Sender::new(None), patience, rate_bps: Mutex::default() }
    }

    /// The connection, if there is one now.
    pub(crate) fn now(&self) -> Option<Connection> {
        self.present.borrow().clone().filter(|connection| connection.ended().is_none())
    }

    /// Bits per second at which the other party's half of the last large input came; none before.
    pub(crate) fn measured_bps(&self) -> Option<f64> {
        *self.rate_bps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what an input's opening told of the link, if anything.
    pub(crate) fn measure(&self, opening: &Arrivals) {
        if let Some(rate) = opening.rate_bps() {
            *self.rate_bps.lock().unwrap_or_else(PoisonError::into_inner) = Some(rate);
        }
    }

    /// How long a channel's first message may take.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// The connection, waiting for it a little.
    async fn soon(&self, peer: Party) -> Result<Connection, RunFailure> {
        let mut watching = self.present.subscribe();
        let there =
            watching.wait_for(|slot| slot.as_ref().is_some_and(|connection| connection.ended().is_none()));
        match tokio::time::timeout(self.patience, there).await {
            Ok(Ok(slot)) => Ok(slot.clone().expect("waited for it")),
            _ => Err(RunFailure::new(
                Fault::Peer,
                format!("{peer} is not connected; see that its daemon runs and that the addresses fit"),
            )),
        }
    }

    fn replace(&self, connection: Connection) {
        if let Some(old) = self.present.send_replace(Some(connection)) {
            old.close("replaced by a newer connection");
        }
    }
}

/// Party 0: admits party 1 for as long as the endpoint lives.
pub(crate) async fn listen(host: Arc<Host>, endpoint: Arc<Endpoint>) {
    while let Some(incoming) = endpoint.incoming().await {
        let host = Arc::clone(&host);
        tokio::spawn(async move {
            let remote = incoming.remote();
            match incoming.establish(&[Role::Party1]).await {
                Ok(Some(connection)) => serve(&host, connection).await,
                Ok(None) => tracing::debug!(%remote, "a lane on the peer link, and more to come"),
                Err(error) => tracing::warn!(%remote, %error, "a caller on the peer link was not admitted"),
            }
        });
    }
}

/// Party 1: calls party 0, again whenever the connection is lost.
pub(crate) async fn call(host: Arc<Host>, endpoint: Arc<Endpoint>, address: String) {
    let mut pause = RETRY.0;
    loop {
        match endpoint.connect_to(&address, Role::Party0.name(), Role::Party0).await {
            Ok(connection) => {
                pause = RETRY.0;
                serve(&host, connection).await;
            }
            Err(error) => {
                tracing::warn!(%address, %error, retry_ms = pause.as_millis() as u64, "party 0 is out of reach");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(RETRY.1);
    }
}

/// Takes the runs that the peer proposes until the connection ends.
async fn serve(host: &Arc<Host>, connection: Connection) {
    let (lanes, remote) = (connection.lanes(), connection.remote());
    tracing::info!(peer = %connection.role(), %remote, lanes, "peer connected");
    host.peer().replace(connection.clone());
    loop {
        match connection.accept_session().await {
            Ok(session) => {
                let (host, connection) = (Arc::clone(host), connection.clone());
                tokio::spawn(async move {
                    if let Err(failure) = proposals::answer(&host, connection, session).await {
                        tracing::warn!(%failure, "a proposal came to nothing");
                    }
                });
            }
            Err(error) => {
                tracing::info!(%error, "peer disconnected");
                return;
            }
        }
    }
}

/// A session in which the other party has greeted. A connection may turn out to be dead, when the other party has given it up
/// already: then the next one is waited for, once. Nothing was proposed yet.
pub(crate) async fn open(host: &Host, me: Party) -> Result<(Connection, Session), RunFailure> {
    let mut first = true;
    loop {
        let connection = host.peer().soon(me.other()).await?;
        let opened = async {
            let mut session = connection.open_session().await?;
            session.greet(me.role(), SOFTWARE).await?;
            Ok::<_, LinkError>(session)
        };
        match opened.await {
            Ok(session) => return Ok((connection, session)),
            Err(error) if first && connection.ended().is_some() => {
                tracing::info!(%error, "the peer's connection was dead; trying the next");
                first = false;
            }
            Err(error) => return Err(from_peer(error)),
        }
    }
}

/// What went wrong with the link, as a run fails with it.
pub(crate) fn from_peer(error: LinkError) -> RunFailure {
    RunFailure::new(error.fault(), error.to_string())
}
