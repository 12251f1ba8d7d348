//! A relay of datagrams between two daemons: a link that a test can cut, at a byte of its choice, and mend.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

/// Largest datagram.
const DATAGRAM: usize = 1 << 16;

/// How soon the threads see that the relay was dropped.
const LOOK: Duration = Duration::from_millis(100);

/// Passes on what comes from callers to a target, and back, until it is dropped. Each caller's has a socket of its own towards the
/// target, as through a router that translates addresses.
pub struct Relay {
    address: SocketAddr,
    link: Arc<Link>,
}

struct Link {
    front: UdpSocket,
    target: SocketAddr,
    /// Bytes, both ways together, that still pass.
    left: AtomicI64,
    over: AtomicBool,
}

impl Relay {
    /// A relay to `target`, that passes everything on.
    ///
    /// # Panics
    /// When the system gives no sockets.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        let front = bind();
        let address = front.local_addr().expect("bound");
        let (left, over) = (AtomicI64::new(i64::MAX), AtomicBool::new(false));
        let link = Arc::new(Link { front, target, left, over });
        let there = Arc::clone(&link);
        thread::spawn(move || there.pass_there());
        Self { address, link }
    }

    /// Where the caller connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes any more once `bytes` have, in either direction.
    pub fn cut_after(&self, bytes: i64) {
        self.link.left.store(bytes, Ordering::SeqCst);
    }

    /// Whether the cut has come.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.link.left.load(Ordering::SeqCst) <= 0
    }

    /// Everything passes again.
    pub fn mend(&self) {
        self.cut_after(i64::MAX);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.link.over.store(true, Ordering::SeqCst);
    }
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.set_read_timeout(Some(LOOK)).expect("a time above zero");
    socket
}

impl Link {
    fn pass_there(self: &Arc<Self>) {
        let mut datagram = vec![0; DATAGRAM];
        let mut backs = HashMap::new();
        while !self.over.load(Ordering::SeqCst) {
            // Nothing came, or a host said that nobody listens: the daemons try again.
            let Ok((bytes, from)) = self.front.recv_from(&mut datagram) else { continue };
            let back = backs.entry(from).or_insert_with(|| self.back_for(from));
            if self.passes(bytes) {
                // What cannot be sent is lost, as on any link.
                let _ = back.send(&datagram[..bytes]);
            }
        }
    }

    /// The socket towards the target for `caller`, from which all goes back to it.
    fn back_for(self: &Arc<Self>, caller: SocketAddr) -> Arc<UdpSocket> {
        let back = Arc::new(bind());
        back.connect(self.target).expect("an address of this machine");
        let (link, from) = (Arc::clone(self), Arc::clone(&back));
        thread::spawn(move || link.pass_back(&from, caller));
        back
    }

    fn pass_back(&self, back: &UdpSocket, caller: SocketAddr) {
        let mut datagram = vec![0; DATAGRAM];
        while !self.over.load(Ordering::SeqCst) {
            let Ok(bytes) = back.recv(&mut datagram) else { continue };
            if self.passes(bytes) {
                let _ = self.front.send_to(&datagram[..bytes], caller);
            }
        }
    }

    fn passes(&self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).expect("a datagram is short");
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            (left > 0).then(|| if left == i64::MAX { left } else { left - bytes })
        });
        left.is_ok()
    }
}
