//! A relay of datagrams between two daemons. A test can cut this link at a byte of its choice, mend it, and slow a part
//! of it down. It can also forget its callers' ports, as a router does that translates addresses.

use std::{
    cell::OnceCell,
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
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
    /// Bytes towards the target until every caller gets another port.
    stays: AtomicI64,
    over: AtomicBool,
    slow: Option<Slow>,
}

/// A caller whose datagrams take their time, both ways.
#[derive(Debug, Clone, Copy)]
pub struct Slow {
    /// Which, in the order in which they first call, from 0.
    pub caller: usize,
    /// How long each datagram takes.
    pub takes: Duration,
}

/// The socket towards the target that stands for a caller, until it is given another.
struct Port {
    target: SocketAddr,
    socket: Mutex<Arc<UdpSocket>>,
}

impl Port {
    fn new(target: SocketAddr) -> Self {
        Self { target, socket: Mutex::new(Self::open(target)) }
    }

    fn open(target: SocketAddr) -> Arc<UdpSocket> {
        let socket = bind();
        socket.connect(target).expect("an address of this machine");
        Arc::new(socket)
    }

    fn now(&self) -> Arc<UdpSocket> {
        Arc::clone(&self.socket.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn renew(&self) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Self::open(self.target);
    }
}

/// Where datagrams of one direction go on, with when each does.
type Way = mpsc::Sender<(Instant, Vec<u8>)>;

impl Relay {
    /// A relay to `target`, that passes everything on.
    ///
    /// # Panics
    /// When the system gives no sockets.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        Self::with(target, None)
    }

    /// A relay to `target`, slow for one caller.
    ///
    /// # Panics
    /// When the system gives no sockets.
    #[must_use]
    pub fn slow(target: SocketAddr, slow: Slow) -> Self {
        Self::with(target, Some(slow))
    }

    fn with(target: SocketAddr, slow: Option<Slow>) -> Self {
        let front = bind();
        let address = front.local_addr().expect("bound");
        let [left, stays] = [i64::MAX; 2].map(AtomicI64::new);
        let link = Arc::new(Link { front, target, left, stays, over: AtomicBool::new(false), slow });
        let there = Arc::clone(&link);
        thread::spawn(move || there.pass_there());
        Self { address, link }
    }

    /// The configuration `config`, of a daemon that calls another through `relay` if it calls one; `make` makes the relay to that.
    ///
    /// # Panics
    /// When what it calls is no address.
    #[must_use]
    pub fn between(relay: &OnceCell<Self>, make: impl FnOnce(SocketAddr) -> Self, config: String) -> String {
        let Some((_, rest)) = config.split_once("connect = \"") else { return config };
        let address = rest.split('"').next().expect("quoted");
        let relay = relay.get_or_init(|| make(address.parse().expect("an address")));
        config.replace(address, &relay.address().to_string())
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

    /// Gives every caller another port once `bytes` more have gone to the target. What comes back to the old ports is lost.
    pub fn move_after(&self, bytes: i64) {
        self.link.stays.store(bytes, Ordering::SeqCst);
    }

    /// Whether the callers have other ports.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.link.stays.load(Ordering::SeqCst) <= 0
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

/// A way on which each datagram is passed on by `pass` when it is due.
fn way(pass: impl Fn(&[u8]) + Send + 'static) -> Way {
    let (way, entrance) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut under_way = VecDeque::<(Instant, Vec<u8>)>::new();
        loop {
            let left = under_way.front().map(|(due, _)| due.saturating_duration_since(Instant::now()));
            let entered = match left {
                Some(left) => entrance.recv_timeout(left),
                None => entrance.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            };
            match entered {
                Ok(datagram) => under_way.push_back(datagram),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    under_way.pop_front().into_iter().for_each(|(_, datagram)| pass(&datagram));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    way
}

impl Link {
    fn pass_there(self: &Arc<Self>) {
        let mut datagram = vec![0; DATAGRAM];
        let mut theres = HashMap::new();
        while !self.over.load(Ordering::SeqCst) {
            // Nothing came, or a host said that nobody listens: the daemons try again.
            let Ok((bytes, from)) = self.front.recv_from(&mut datagram) else { continue };
            let callers = theres.len();
            let (there, _, takes) = theres.entry(from).or_insert_with(|| {
                let slow = self.slow.filter(|slow| slow.caller == callers);
                let takes = slow.map_or(Duration::ZERO, |slow| slow.takes);
                let port = Arc::new(Port::new(self.target));
                (self.way_there(&port, from, takes), port, takes)
            });
            self.pass(&datagram[..bytes], there, *takes);
            let moved = i64::try_from(bytes).expect("a datagram is short");
            let before = self.stays.fetch_sub(moved, Ordering::SeqCst);
            if before > 0 && before <= moved {
                theres.values().for_each(|(_, port, _)| port.renew());
            }
        }
    }

    /// The way to the target for `caller`; by the port at its end all comes back to it.
    fn way_there(self: &Arc<Self>, port: &Arc<Port>, caller: SocketAddr, takes: Duration) -> Way {
        let (link, back, port) = (Arc::clone(self), Arc::clone(port), Arc::clone(port));
        thread::spawn(move || link.pass_back(&back, caller, takes));
        // What cannot be sent is lost, as on any link.
        way(move |datagram| drop(port.now().send(datagram)))
    }

    fn pass_back(self: &Arc<Self>, port: &Port, caller: SocketAddr, takes: Duration) {
        let mut datagram = vec![0; DATAGRAM];
        let link = Arc::clone(self);
        let way = way(move |datagram| drop(link.front.send_to(datagram, caller)));
        while !self.over.load(Ordering::SeqCst) {
            let Ok(bytes) = port.now().recv(&mut datagram) else { continue };
            self.pass(&datagram[..bytes], &way, takes);
        }
    }

    fn pass(&self, datagram: &[u8], way: &Way, takes: Duration) {
        if self.passes(datagram.len()) {
            way.send((Instant::now() + takes, datagram.to_vec())).expect("the way lives as long as this end");
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
