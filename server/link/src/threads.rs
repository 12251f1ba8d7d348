//! Threads that QUIC works on: for each lane of an endpoint one, which receives, decrypts, encrypts and sends for it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a thread looks for more after it has moved a message. Between two exchanges there is about that much time, and
/// waking a thread that sleeps takes a good part of it.
const AFTER_MESSAGE: Duration = Duration::from_micros(300);

/// How long it looks when the first exchange is near: the parties become ready within about that much time of each other.
const BEFORE_FIRST: Duration = Duration::from_millis(3);

/// Pauses between two looks: a microsecond or less, of which a message's way takes some twenty.
const PAUSES: usize = 12;

/// Where the work of a lane is done. Clones are the same thread; one that was started for a lane ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct LaneThread {
    runtime: Handle,
    /// Of a thread that is a lane's alone: nothing else runs there, so that it may look for work instead of sleeping.
    own: Option<Arc<Own>>,
}

#[derive(Debug)]
struct Own {
    started: Instant,
    /// Until when it looks, in microseconds since it was started.
    looks_until_us: AtomicU64,
    looking: AtomicBool,
    /// The thread ends when this is dropped.
    _stop: oneshot::Sender<()>,
}

impl LaneThread {
    /// The runtime that the caller is in.
    pub(crate) fn current() -> Self {
        Self { runtime: Handle::current(), own: None }
    }

    /// A new thread for lane `lane`.
    pub(crate) fn start(lane: u8) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("lane-{lane}")).spawn(move || {
            // An error says that the last holder is gone, which is as good a reason to stop.
            let _ = runtime.block_on(stopped);
        })?;
        let own = Own {
            started: Instant::now(),
            looks_until_us: AtomicU64::new(0),
            looking: AtomicBool::new(false),
            _stop: stop,
        };
        Ok(Self { runtime: handle, own: Some(Arc::new(own)) })
    }

    /// Has the thread carry `work` out.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.spawn(work)
    }

    /// Keeps the thread from sleeping for a while: a message was moved, and the next is near. Only a thread that is a lane's
    /// alone does so; there are such threads where there are processors for them.
    pub(crate) fn stay_awake(&self) {
        self.look_for(AFTER_MESSAGE);
    }

    /// The same for as long as it may take until the exchanges begin.
    pub(crate) fn expect_exchanges(&self) {
        self.look_for(BEFORE_FIRST);
    }

    fn look_for(&self, time: Duration) {
        let Some(own) = &self.own else { return };
        own.looks_until_us.store(own.us() + time.as_micros() as u64, Ordering::Relaxed);
        if !own.looking.swap(true, Ordering::AcqRel) {
            let own = Arc::clone(own);
            self.runtime.spawn(async move {
                // Each turn polls the socket and runs what is ready.
                while own.us() < own.looks_until_us.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                    // The processor's other thread may have work.
                    for _ in 0..PAUSES {
                        std::hint::spin_loop();
                    }
                }
                own.looking.store(false, Ordering::Release);
            });
        }
    }
}

impl Own {
    fn us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

/// quinn's tasks belong on their lane's thread, also when another thread makes or accepts the connection.
impl Runtime for LaneThread {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        let _there = self.runtime.enter();
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.runtime.spawn(work);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let _there = self.runtime.enter();
        TokioRuntime.wrap_udp_socket(socket)
    }
}
