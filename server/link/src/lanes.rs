//! The lanes of a connection: QUIC connections that share its messages.
//!
//! A QUIC connection encrypts, decrypts and orders on one core at a time. Where the link and the cores carry more than that,
//! several share the work, each on a thread and a socket of its own. Where order matters, the bytes of a channel go over them
//! in turns, [`STRIPE_BYTES`] over each, and are read in the same turns. They keep their order without numbers, and callers see
//! one stream. Where it does not, there is a channel on each lane, and no thread waits for another's.

use std::fmt;
use std::sync::{Arc, Mutex as Lock, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use quinn::{ConnectionError, RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use suf_wire::Role;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::error::{LinkError, Remote, code};
use crate::threads::LaneThread;

/// Lanes of a connection at most: more cores than these have nothing to do on the fastest links of two hosts.
pub(crate) const MOST_LANES: u8 = 8;

/// Lanes whose connection is not complete yet, at most, on one listener.
const MOST_WAITING: usize = 64;

/// Bytes of a channel that go over one lane before the next has its turn. Also the largest piece that QUIC is handed. QUIC
/// counts a piece against the send window until all of it is acknowledged. A piece of the window's size would stop the
/// stream for a round trip.
pub(crate) const STRIPE_BYTES: usize = 64 << 10;

/// Both halves of a stream.
pub(crate) type Streams = (SendStream, RecvStream);

/// What a caller says of each QUIC connection: which lane of what it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneHello {
    /// The same for all lanes of a connection, and known to its caller alone.
    pub(crate) call: [u8; 16],
    /// This lane, from 0. The last to be called is 0.
    pub(crate) lane: u8,
    /// How many there are.
    pub(crate) lanes: u8,
}

impl LaneHello {
    pub(crate) const BYTES: usize = 18;

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.call);
        bytes[16..].copy_from_slice(&[self.lane, self.lanes]);
        bytes
    }

    /// `None` for a lane that none of so many is, and for too many.
    pub(crate) fn decode(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let [call @ .., lane, lanes] = bytes;
        (lanes <= MOST_LANES && lane < lanes).then_some(Self { call, lane, lanes })
    }
}

impl fmt::Debug for LaneHello {
    /// Without the call's number, with which another connection of the same certificate could join.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {} of {}", self.lane, self.lanes)
    }
}

/// A place in the bytes of a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StripePosition {
    lanes: usize,
    lane: usize,
    left: usize,
}

impl StripePosition {
    /// Where a channel over so many lanes begins.
    pub(crate) fn start(lanes: usize) -> Self {
        Self { lanes, lane: 0, left: STRIPE_BYTES }
    }

    /// The lane that carries the next byte.
    pub(crate) fn lane(self) -> usize {
        self.lane
    }

    /// Bytes, from here on, that this lane carries; at least 1.
    pub(crate) fn left(self) -> usize {
        self.left
    }

    /// Passes over `bytes` bytes of this lane, at most those that are left.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.left -= bytes;
        if self.left == 0 {
            self.left = STRIPE_BYTES;
            self.lane = (self.lane + 1) % self.lanes;
        }
    }
}

/// One lane, and the thread that does its work.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) quic: quinn::Connection,
    pub(crate) thread: LaneThread,
}

/// The lanes of an established connection, in their order. When one ends, so do all.
#[derive(Debug)]
pub(crate) struct Lanes {
    all: Box<[quinn::Connection]>,
    threads: Box<[LaneThread]>,
    remote: Remote,
    /// Streams of a channel that is half opened, or half accepted.
    opening: Mutex<Vec<Streams>>,
    accepting: Mutex<Vec<Streams>>,
    watch: Option<AbortHandle>,
    /// What this side closes the connection with, whichever lane the other side hears of first.
    closing: Arc<Closing>,
    /// Looks after the other side's certificate.
    guard: OnceLock<AbortHandle>,
}

impl Lanes {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(lanes: Vec<Lane>, role: Role) -> Self {
        let (all, threads): (Vec<_>, Vec<_>) =
            lanes.into_iter().map(|Lane { quic, thread }| (quic, thread)).unzip();
        let cause = Arc::new(OnceLock::new());
        let remote =
            Remote { cause: Some(Arc::clone(&cause)), ..Remote::new(Some(role), all[0].remote_address()) };
        let closing = Arc::new(Closing::new());
        let watch = (all.len() > 1)
            .then(|| tokio::spawn(end_together(all.clone(), cause, Arc::clone(&closing))).abort_handle());
        let (opening, accepting) = Default::default();
        let guard = OnceLock::new();
        Self { all: all.into(), threads: threads.into(), remote, opening, accepting, watch, closing, guard }
    }

    /// Ends a task when the connection is not used any more; one at most.
    pub(crate) fn keep(&self, guard: AbortHandle) {
        self.guard.get_or_init(|| guard);
    }

    /// Each lane's QUIC connection.
    pub(crate) fn all(&self) -> &[quinn::Connection] {
        &self.all
    }

    /// Where each lane's work is done.
    pub(crate) fn threads(&self) -> &[LaneThread] {
        &self.threads
    }

    /// The lane that stands for all: small messages begin here.
    pub(crate) fn first(&self) -> &quinn::Connection {
        &self.all[0]
    }

    /// The other side, for errors.
    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// A stream on each lane. Dropped and called again, none is lost.
    pub(crate) async fn open(&self) -> Result<Vec<Streams>, LinkError> {
        let mut streams = self.gather(&self.opening, async |lane| lane.open_bi().await).await?;
        // The other side sees a stream when something was sent on it; the first message goes over the first lane.
        for (lane, (send, _)) in streams.iter_mut().enumerate().skip(1) {
            send.write_all(&[mark(lane)]).await.map_err(|error| self.remote.unwritable(error))?;
        }
        Ok(streams)
    }

    /// The streams of the next channel that the other side opened: it opens on all lanes in the same order. Dropped and
    /// called again, none is lost.
    pub(crate) async fn accept(&self) -> Result<Vec<Streams>, LinkError> {
        self.gather(&self.accepting, async |lane| lane.accept_bi().await).await
    }

    async fn gather(
        &self,
        so_far: &Mutex<Vec<Streams>>,
        next: impl AsyncFn(&quinn::Connection) -> Result<Streams, ConnectionError>,
    ) -> Result<Vec<Streams>, LinkError> {
        let mut so_far = so_far.lock().await;
        while let Some(lane) = self.all.get(so_far.len()) {
            so_far.push(next(lane).await.map_err(|error| self.remote.lost(error, true))?);
        }
        Ok(std::mem::take(&mut so_far))
    }

    pub(crate) fn close(&self, code: quinn::VarInt, reason: &[u8]) {
        let (code, reason) = self.closing.get_or_init(|| (code, reason.into()));
        for lane in &self.all {
            lane.close(*code, reason);
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // The watching task holds the lanes; they end when nothing holds them.
        for task in self.watch.iter().chain(self.guard.get()) {
            task.abort();
        }
    }
}

/// First byte that an opener sends on each lane but the first.
pub(crate) fn mark(lane: usize) -> u8 {
    u8::try_from(lane).expect("a connection has few lanes")
}

/// Code and reason of a close.
type Closing = OnceLock<(quinn::VarInt, Box<[u8]>)>;

/// Closes all lanes when one has ended, and keeps why. If this side is closing them, they are closed for its reason.
async fn end_together(
    lanes: Vec<quinn::Connection>,
    cause: Arc<OnceLock<ConnectionError>>,
    closing: Arc<Closing>,
) {
    let mut ends: Vec<_> = lanes.iter().map(|lane| Box::pin(lane.closed())).collect();
    let end = std::future::poll_fn(|context| {
        ends.iter_mut()
            .map(|end| end.as_mut().poll(context))
            .find(std::task::Poll::is_ready)
            .unwrap_or(std::task::Poll::Pending)
    });
    let end = end.await;
    cause.get_or_init(|| end);
    let (code, reason) =
        closing.get_or_init(|| (code::DONE, b"another lane of the connection ended"[..].into()));
    for lane in &lanes {
        lane.close(*code, reason);
    }
}

/// Lanes that were called and wait for their connection's last.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Lock<Vec<WaitingLane>>);

#[derive(Debug)]
struct WaitingLane {
    hello: LaneHello,
    certificate: CertificateDer<'static>,
    since: Instant,
    lane: Lane,
}

impl Waiting {
    /// Takes lane `hello.lane` of a caller with this certificate, and forgets those that have waited for `limit`. Gives all lanes of the connection when it is the first one,
    /// which is called last; `None` while others are due.
    ///
    /// # Errors
    /// A sentence, when lanes lack that should have been called before.
    pub(crate) fn complete(
        &self,
        hello: LaneHello,
        certificate: &CertificateDer<'static>,
        lane: Lane,
        limit: Duration,
    ) -> Result<Option<Vec<Lane>>, &'static str> {
        // Each update leaves a list that is as good as any.
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|it| it.lane.quic.close_reason().is_none() && it.since.elapsed() < limit);
        if hello.lane > 0 {
            if waiting.len() >= MOST_WAITING {
                return Err("too many lanes wait for their connection");
            }
            let (certificate, since) = (certificate.clone(), Instant::now());
            waiting.push(WaitingLane { hello, certificate, since, lane });
            return Ok(None);
        }
        let mut all = vec![lane];
        for number in 1..hello.lanes {
            let wanted = LaneHello { lane: number, ..hello };
            let at = waiting.iter().position(|it| it.hello == wanted && it.certificate == *certificate);
            let at = at.ok_or("a lane of this connection was not called before its first")?;
            all.push(waiting.swap_remove(at).lane);
        }
        Ok(Some(all))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::{Endpoint, Identity, LinkProfile, Pki};

    const HELLO: LaneHello = LaneHello { call: [7; 16], lane: 1, lanes: 2 };

    fn bound(folder: &tempfile::TempDir, role: Role) -> (Endpoint, SocketAddr) {
        let identity = Identity::load_from(folder.path(), role.name()).expect("an identity");
        let profile = LinkProfile::built_in("loopback").expect("a profile");
        let addr = (Ipv4Addr::LOCALHOST, 0).into();
        let endpoint = Endpoint::bind(addr, &identity, &profile, false).expect("an endpoint");
        let addr = endpoint.local_addr().expect("bound");
        (endpoint, addr)
    }

    /// What the listener makes of calls, each by a role as a lane; the last decides.
    async fn called(lanes: &[(Role, LaneHello)]) -> Result<Option<u32>, String> {
        let folder = tempfile::TempDir::new().expect("a folder");
        Pki::create(folder.path(), &BTreeMap::new()).expect("an authority");
        let (listener, addr) = bound(&folder, Role::Party1);
        let [party, operator] = [Role::Party0, Role::Operator].map(|role| bound(&folder, role).0);
        let mut last = Ok(None);
        let mut held = Vec::new();
        for (role, hello) in lanes {
            let caller = if *role == Role::Operator { &operator } else { &party };
            let called = async {
                let incoming = listener.incoming().await.expect("a caller");
                incoming.establish(&[Role::Party0, Role::Operator]).await
            };
            let remote = Remote::new(Some(Role::Party1), addr);
            let calling = async {
                let quic = caller.call_lane(addr, "party1", Role::Party1, hello.lane).await?;
                caller.join(quic, &remote, *hello).await
            };
            let (calling, called) = tokio::join!(calling, called);
            last = called.map_err(|error| error.to_string());
            if let Err(problem) = &last {
                let told = calling.as_ref().expect_err("it is told why not").to_string();
                let why = problem.split(": ").nth(1).and_then(|why| why.split(';').next()).expect("a reason");
                assert!(told.contains(why), "{told} is not {why}");
            }
            held.push((calling, last.clone()));
        }
        last.map(|connection| connection.map(|connection| connection.lanes()))
    }

    #[tokio::test]
    async fn the_first_lane_completes_a_connection() {
        let first = LaneHello { lane: 0, ..HELLO };
        assert_eq!(called(&[(Role::Party0, HELLO)]).await, Ok(None));
        assert_eq!(called(&[(Role::Party0, HELLO), (Role::Party0, first)]).await, Ok(Some(2)));
        assert_eq!(called(&[(Role::Party0, LaneHello { lanes: 1, ..first })]).await, Ok(Some(1)));
    }

    #[tokio::test]
    async fn what_makes_no_connection_is_refused() {
        let first = LaneHello { lane: 0, ..HELLO };
        for calls in [
            // The others were not called, nor enough of them, nor by the same call.
            vec![(Role::Party0, first)],
            vec![
                (Role::Party0, LaneHello { lanes: 3, ..HELLO }),
                (Role::Party0, LaneHello { lanes: 3, ..first }),
            ],
            vec![(Role::Party0, HELLO), (Role::Party0, LaneHello { call: [8; 16], ..first })],
            // A call's number does not prove its caller.
            vec![(Role::Party0, HELLO), (Role::Operator, first)],
        ] {
            let refused = called(&calls).await.expect_err("it is refused");
            assert!(refused.contains("was not called before its first"), "{refused}");
        }
        for (lane, lanes) in [(0, 0), (3, 3), (0, MOST_LANES + 1), (255, 255)] {
            let refused = called(&[(Role::Party0, LaneHello { lane, lanes, ..HELLO })]).await;
            let refused = refused.expect_err("it is refused");
            assert!(refused.contains("that there cannot be"), "{refused}");
        }
    }
    #[tokio::test]
    async fn lanes_that_never_become_a_connection_are_few() {
        let calls =
            (0..=MOST_WAITING as u8).map(|call| (Role::Party0, LaneHello { call: [call; 16], ..HELLO }));
        let calls: Vec<_> = calls.collect();
        assert_eq!(called(&calls[..MOST_WAITING]).await, Ok(None));
        let refused = called(&calls).await.expect_err("one too many");
        assert!(refused.contains("too many lanes wait"), "{refused}");
    }
}
