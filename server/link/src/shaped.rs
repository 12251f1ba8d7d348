//! A link emulated inside the process: what is sent waits for its turn at a bottleneck of the profile's rate, then for the
//! profile's delay. Receiving is not touched: as with `tc netem`, each end shapes what it sends.
//!
//! Left out on purpose: competing traffic, and correlated loss. One thread releases the datagrams; the system's timers
//! decide how exactly.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::UdpPoller;
use quinn::udp::{EcnCodepoint, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::profile::LinkProfile;

/// Ethernet, IPv4 and UDP headers of each packet, which take their time at the bottleneck.
const HEADERS_BYTES: usize = 14 + 20 + 8;

/// A way out whose datagrams leave late, as over the link of a profile.
#[derive(Debug)]
pub(crate) struct ShapedSends(Arc<Link>);

impl ShapedSends {
    /// Sends through `socket`.
    pub(crate) fn new(socket: UdpSocket, profile: &LinkProfile) -> io::Result<Self> {
        let link = Arc::new(Link::new(profile));
        let sender = UdpSocketState::new((&socket).into())?;
        let released = link.clone();
        std::thread::Builder::new().name("shaped-link".into()).spawn(move || {
            // Without this the kernel may wake the thread 50 us late. Emulation works all the same.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            released.release(&socket, &sender);
        })?;
        Ok(Self(link))
    }

    /// Puts datagrams into the bottleneck's queue.
    pub(crate) fn send(&self, transmit: &Transmit<'_>) {
        self.0.enqueue(transmit, Instant::now());
    }

    /// Packets dropped so far because the queue was full, not those of the profile's random loss.
    pub(crate) fn overflowed(&self) -> u64 {
        self.0.overflowed.load(Ordering::Relaxed)
    }
}

impl Drop for ShapedSends {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wake.notify_one();
    }
}

/// A full queue drops, as a router does; it never makes the sender wait.
#[derive(Debug)]
pub(crate) struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The bottleneck and the way behind it.
#[derive(Debug)]
struct Link {
    nanoseconds_per_byte: f64,
    delay: Duration,
    jitter: Duration,
    loss: f64,
    limit_packets: usize,
    queue: Mutex<Queue>,
    wake: Condvar,
    overflowed: AtomicU64,
}

#[derive(Debug)]
struct Queue {
    /// When the bottleneck has sent all that it was given.
    free_at: Instant,
    /// Under way, the next to arrive on top.
    waiting: BinaryHeap<Reverse<Late>>,
    packets: usize,
    sequence: u64,
    random: Random,
    closed: bool,
}

/// A send that is under way: one datagram, or several of one size that stay together.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: Instant,
    sequence: u64,
    packets: usize,
    destination: SocketAddr,
    source: Option<IpAddr>,
    /// The two bits of explicit congestion notification, 0 for none.
    ecn: u8,
    segment_bytes: Option<usize>,
    contents: Vec<u8>,
}

impl Link {
    fn new(profile: &LinkProfile) -> Self {
        let queue = Queue {
            free_at: Instant::now(),
            waiting: BinaryHeap::new(),
            packets: 0,
            sequence: 0,
            random: Random::new(),
            closed: false,
        };
        Self {
            nanoseconds_per_byte: 8e9 / profile.rate_bps as f64,
            delay: Duration::from_secs_f64(profile.delay_ms / 1e3),
            jitter: Duration::from_secs_f64(profile.jitter_ms / 1e3),
            loss: profile.loss,
            limit_packets: profile.limit_packets as usize,
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            overflowed: AtomicU64::new(0),
        }
    }

    fn enqueue(&self, transmit: &Transmit<'_>, now: Instant) {
        let segment_bytes = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        // Packets of one send stay together, and arrive with their last, unless loss or jitter may part them.
        let together = self.loss == 0.0 && self.jitter.is_zero();
        let unit_bytes = if together { transmit.contents.len().max(1) } else { segment_bytes };

        let mut queue = self.lock();
        let first = queue.waiting.peek().map(|late| late.0.due);
        for contents in transmit.contents.chunks(unit_bytes) {
            let packets = contents.len().div_ceil(segment_bytes);
            if queue.packets + packets > self.limit_packets {
                self.overflowed.fetch_add(packets as u64, Ordering::Relaxed);
                continue;
            }
            let bytes = contents.len() + packets * HEADERS_BYTES;
            let sending = Duration::from_nanos((bytes as f64 * self.nanoseconds_per_byte) as u64);
            queue.free_at = queue.free_at.max(now) + sending;
            if self.loss > 0.0 && queue.random.unit() < self.loss {
                continue;
            }
            let jitter = self.jitter.mul_f64(2.0 * queue.random.unit());
            let due = queue.free_at + self.delay + jitter - self.jitter;
            queue.sequence += 1;
            queue.packets += packets;
            let late = Late {
                due,
                sequence: queue.sequence,
                packets,
                destination: transmit.destination,
                source: transmit.src_ip,
                ecn: transmit.ecn.map_or(0, |ecn| ecn as u8),
                segment_bytes: transmit.segment_size.filter(|&size| size < contents.len()),
                contents: contents.to_vec(),
            };
            queue.waiting.push(Reverse(late));
        }
        let earlier = queue.waiting.peek().map(|late| late.0.due) != first;
        drop(queue);
        if earlier {
            self.wake.notify_one();
        }
    }

    /// Sends what is due, until the socket is dropped and all has left.
    fn release(&self, socket: &UdpSocket, sender: &UdpSocketState) {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            match queue.waiting.peek().map(|late| late.0.due) {
                None if queue.closed => return,
                None => queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(due) if due > now => {
                    let waited = self.wake.wait_timeout(queue, due - now);
                    queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Some(_) => {
                    let Some(Reverse(late)) = queue.waiting.pop() else { continue };
                    queue.packets -= late.packets;
                    drop(queue);
                    send(socket, sender, &late);
                    queue = self.lock();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while the queue is half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Errors are losses, which QUIC mends.
fn send(socket: &UdpSocket, sender: &UdpSocketState, late: &Late) {
    /// A buffer that stays full so long belongs to an interface that is down.
    const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    let transmit = Transmit {
        destination: late.destination,
        ecn: EcnCodepoint::from_bits(late.ecn),
        contents: &late.contents,
        segment_size: late.segment_bytes,
        src_ip: late.source,
    };
    while let Err(error) = sender.send(socket.into(), &transmit) {
        let blocked = error.kind() == io::ErrorKind::WouldBlock;
        let writable = || poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&PATIENCE));
        if !blocked || !matches!(writable(), Ok(1..)) {
            return;
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), for losses and jitter only: nothing secret depends on it.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new() -> Self {
        // Any state will do if the system gives none.
        Self(getrandom::u64().unwrap_or(1))
    }

    /// Uniform in 0..1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}
