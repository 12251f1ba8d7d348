//! A relay of datagrams between two daemons: a link that a test can cut, at a byte of its choice, and mend.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

/// Largest datagram.
const DATAGRAM: usize = 1 << 16;

/// How soon the threads see that the relay was dropped.
const LOOK: Duration = Duration::from_millis(100);

/// Passes on what comes from one caller to a target, and back, until it is dropped.
pub struct Relay {
    address: SocketAddr,
    link: Arc<Link>,
}

struct Link {
    front: UdpSocket,
    back: UdpSocket,
    caller: OnceLock<SocketAddr>,
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
        let bind = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
            socket.set_read_timeout(Some(LOOK)).expect("a time above zero");
            socket
        };
        let (front, back) = (bind(), bind());
        back.connect(target).expect("an address of this machine");
        let address = front.local_addr().expect("bound");
        let link = Arc::new(Link {
            front,
            back,
            caller: OnceLock::new(),
            left: AtomicI64::new(i64::MAX),
            over: AtomicBool::new(false),
        });
        let (there, back) = (Arc::clone(&link), Arc::clone(&link));
        thread::spawn(move || there.pass_there());
        thread::spawn(move || back.pass_back());
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

impl Link {
    fn pass_there(&self) {
        let mut datagram = vec![0; DATAGRAM];
        while !self.over.load(Ordering::SeqCst) {
            // Nothing came, or a host said that nobody listens: the daemons try again.
            let Ok((bytes, from)) = self.front.recv_from(&mut datagram) else { continue };
            self.caller.get_or_init(|| from);
            if self.passes(bytes) {
                // What cannot be sent is lost, as on any link.
                let _ = self.back.send(&datagram[..bytes]);
            }
        }
    }

    fn pass_back(&self) {
        let mut datagram = vec![0; DATAGRAM];
        while !self.over.load(Ordering::SeqCst) {
            let Ok(bytes) = self.back.recv(&mut datagram) else { continue };
            let Some(caller) = self.caller.get() else { continue };
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
