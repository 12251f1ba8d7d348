//! Listening on both families.

use std::{io, net::SocketAddr};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// Connections that wait to be accepted: a burst of callers, and no more than the system's own limit.
const BACKLOG: i32 = 1024;

/// Lets a socket that will be bound to the IPv6 address `[::]` take IPv4 callers too, whatever the system's default is.
/// A system that cannot do so keeps its own way.
pub fn accept_both_families(socket: &Socket, address: SocketAddr) {
    if address.is_ipv6() {
        // Where this fails, IPv4 callers are told that nothing listens; give an IPv4 address then.
        let _ = socket.set_only_v6(false);
    }
}

/// A TCP listener on `address`; `[::]` takes callers of both families. Must be called within a tokio runtime.
///
/// # Errors
/// The system's.
pub fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A daemon that is started again takes its port over from connections that are still closing.
    socket.set_reuse_address(true)?;
    accept_both_families(&socket, address);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::net::TcpStream;

    use suf_skip::{Need, skip};

    use super::*;

    #[tokio::test]
    async fn an_unspecified_ipv6_address_takes_callers_of_both_families() {
        let Ok(listener) = tcp_listener((Ipv6Addr::UNSPECIFIED, 0).into()) else {
            return skip(Need::Ipv6, "this host has no IPv6");
        };
        let port = listener.local_addr().expect("bound").port();
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
            let (called, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            called.unwrap_or_else(|error| panic!("{address}: {error}"));
            accepted.expect("accepts");
        }
    }
}
