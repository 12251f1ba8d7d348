//! Every limit of the control API, with its reason.

use std::time::Duration;

/// Elements of a tensor in one message: one tile, the unit of keys and of the parties' messages.
pub const ELEMENTS_PER_MESSAGE: usize = 1 << 16;

/// Bytes of one share at most: an element of Z_2^64.
pub const MAX_BYTES_PER_SHARE: usize = 8;

/// Largest gRPC message taken or sent: a full message of shares (512 KiB). Programs (256 KiB), gate descriptions (64 KiB)
/// and a run's figures (4096 nodes of under 100 bytes) are smaller. So is a list of 1000 runs, of under 500 bytes each.
/// The rest is slack for protobuf's own bytes.
pub const MESSAGE_BYTES: usize = ELEMENTS_PER_MESSAGE * MAX_BYTES_PER_SHARE + 128 * 1024;

/// Bytes in flight on one HTTP/2 stream: a share of a tensor fills a link of 3.2 Gbit/s and 8 ms (3.2 MB).
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// Bytes in flight on one HTTP/2 connection: two streams at full speed, in and out of one client.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Calls open at once on one connection: a client watches, feeds and fetches a few runs; more is a defect.
pub const STREAMS_PER_CONNECTION: u32 = 64;

/// Connections of one certificate: a few shells and a benchmark; one identity cannot use up the total.
pub const CONNECTIONS_PER_IDENTITY: usize = 32;

/// Connections in all: with [`CONNECTION_WINDOW_BYTES`] each, buffers stay below 2 GiB in the worst case.
pub const CONNECTIONS: usize = 256;

/// A handshake takes two round trips of at most a second each (a link profile has no longer delay); the rest is a busy
/// processor.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// TCP connect, TLS handshake and the server's first byte together, as the client waits for them.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Pings of a daemon on an idle connection find a caller that has vanished within this and [`KEEPALIVE_TIMEOUT`]: 15 s. With the
/// default lease of 60 s the runs of a client that was cut off have ended after 75 s. A ping and its answer are 150 bytes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// The same for pings of a client, while it has a call open. Parties find each other gone after 6 s of silence and say more of it,
/// and so they come first.
pub const CALL_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How long a ping may stay unanswered: several round trips of the slowest link, with retransmissions. It also waits behind
/// what a socket's buffer holds, which is 4 MB where a tensor is on its way. At 3.2 Mbit/s that takes this long.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long open calls may take to finish after a shutdown began. Runs are cancelled by then, and only their
/// last messages are under way.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Pause after a failed `accept`, which fails again at once while file descriptors are exhausted.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
