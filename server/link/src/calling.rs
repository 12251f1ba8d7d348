//! Calling: every address of a target in turn, then lane by lane.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::try_join_all;
use suf_net::{Target, first_to_answer};
use suf_wire::{Role, VERSION};

use crate::accepting::{admit, hear, say};
use crate::certificate::Purpose;
use crate::connection::Connection;
use crate::endpoint::{Endpoint, Socket};
use crate::error::{LinkError, Remote, code};
use crate::lanes::{Lane, LaneHello};
use crate::socket;
use crate::steering::id_of;

impl Endpoint {
    /// Calls `target`, `HOST:PORT`, at all its addresses in turn; otherwise as [`Endpoint::connect`].
    ///
    /// # Errors
    /// [`LinkError::Address`] for what is no address or has none; [`LinkError::Addresses`] names each that was tried, and why it
    /// failed.
    pub async fn connect_to(
        &self,
        target: &str,
        name: &str,
        expected: Role,
    ) -> Result<Connection, LinkError> {
        let wrong = |problem: String| LinkError::Address { remote: expected.to_string(), problem };
        let parsed: Target = target.parse().map_err(|error| wrong(format!("{error}")))?;
        let addresses = parsed.resolve().await.map_err(|error| wrong(error.to_string()))?;
        self.connect_first(target, addresses, name, expected).await
    }

    /// Calls `addr`, whose certificate must carry the role `expected` and be good for `name`. Each is good for its role's own name,
    /// "party0" say; names and addresses of hosts are not compared with `addr`. Returns when the other side has admitted us.
    ///
    /// # Errors
    /// The side that refused, and why.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        name: &str,
        expected: Role,
    ) -> Result<Connection, LinkError> {
        self.connect_first(&addr.to_string(), vec![addr], name, expected).await
    }

    /// Calls `addresses` of `target` in turn. The first lane that the other side's certificate answers decides which is used;
    /// until then nothing was said that would make a connection of it.
    pub(crate) async fn connect_first(
        &self,
        target: &str,
        addresses: Vec<SocketAddr>,
        name: &str,
        expected: Role,
    ) -> Result<Connection, LinkError> {
        let mut call = [0; 16];
        getrandom::fill(&mut call).map_err(|error| LinkError::Bug(error.to_string()))?;
        let lanes = self.settings.lanes;
        let hello = |lane| LaneHello { call, lane, lanes };
        let last = lanes - 1;
        let answered = first_to_answer(addresses, |addr| async move {
            Ok::<_, LinkError>((addr, self.call_lane(addr, name, expected, last).await?))
        });
        let (addr, quic) =
            answered.await.map_err(|tried| LinkError::of_addresses(expected, target, tried))?;
        let remote = Remote::new(Some(expected), addr);
        let mut all = vec![self.join(quic, &remote, hello(last)).await?];
        if last > 0 {
            let middle = (1..last).rev().map(|lane| async move {
                let quic = self.call_lane(addr, name, expected, lane).await?;
                self.join(quic, &Remote::new(Some(expected), addr), hello(lane)).await
            });
            all.extend(try_join_all(middle).await?);
            // The first lane completes the connection, so it is called when all others have joined.
            let quic = self.call_lane(addr, name, expected, 0).await?;
            all.push(self.join(quic, &remote, hello(0)).await?);
        }
        all.reverse();
        Ok(Connection::new(all, expected).guarded(&self.identity, Purpose::Listener))
    }

    /// A QUIC connection to `addr` for `lane`, whose other side is who it should be. It has not been told what this is for.
    pub(crate) async fn call_lane(
        &self,
        addr: SocketAddr,
        name: &str,
        expected: Role,
        lane: u8,
    ) -> Result<quinn::Connection, LinkError> {
        let remote = Remote::new(Some(expected), addr);
        socket::has_route(addr).map_err(|source| remote.no_route(&source))?;
        let mut client = self.client.clone();
        client.initial_dst_cid_provider(Arc::new(move || id_of(lane)));
        let calling = self.socket_of(lane).quic.connect_with(client, addr, name);
        let calling = calling.map_err(|error| remote.not_called(error))?;
        let established = async {
            let inner = calling.await.map_err(|error| remote.lost(error, false))?;
            admit(&inner, &remote, &[expected], &self.identity)?;
            Ok(inner)
        };
        self.within_limit(&remote, established).await
    }

    /// Says on `inner` which lane of what it is. Returns when the other side has admitted it.
    pub(crate) async fn join(
        &self,
        inner: quinn::Connection,
        remote: &Remote,
        hello: LaneHello,
    ) -> Result<Lane, LinkError> {
        let joined = async {
            say(&inner, remote, &hello.encode()).await?;
            let version = u16::from_le_bytes(hear(&inner, remote).await?);
            if version != VERSION {
                inner.close(code::VERSION, b"another protocol version");
                return Err(LinkError::Version { remote: remote.to_string() });
            }
            Ok(Lane { quic: inner, thread: self.socket_of(hello.lane).thread.clone() })
        };
        self.within_limit(remote, joined).await
    }

    fn socket_of(&self, lane: u8) -> &Socket {
        &self.sockets[usize::from(lane) % self.sockets.len()]
    }

    async fn within_limit<T>(
        &self,
        remote: &Remote,
        work: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        let done = tokio::time::timeout(self.settings.handshake_limit, work).await;
        done.unwrap_or_else(|_| Err(remote.unreachable()))
    }
}
