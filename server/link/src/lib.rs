//! The links between the processes: QUIC with TLS 1.3 and certificates on both sides, and the meter.
//!
//! - [`Pki`] is a certificate authority: it signs a [`Request`] that a host made with its own key, and takes certificates back.
//!   [`Identity`] holds a certificate, the authorities and their revocation lists, and builds the TLS settings of every listener and
//!   caller, gRPC included. The role stands in the certificate and is checked on each side of each connection.
//! - [`Endpoint`] listens and calls. A [`Connection`] carries [`Channel`]s over all lanes of the connection in turns. Each is a
//!   stream of one family of messages of the crate `suf-wire`. A [`Session`] carries a run's messages, each over one lane.
//! - [`Meter`]: rounds and payload bits are counted here and nowhere else. A frame's causal depth is computed here from
//!   the [`suf_wire::Causal`] of the frames that the caller used. UDP bytes come from the QUIC stack's own counters
//!   ([`Traffic`]).
//! - [`LinkProfile`] describes a link; windows, timers and packet sizes follow from it ([`Settings`]). A profile can also
//!   be emulated inside the process (a shaped socket), which needs no privileges; figures from it are labelled
//!   [`LinkKind::Shaped`].
//!
//! - Callers have one socket for both families, and call every address of a name. What they can hold before they have shown
//!   a certificate is bounded (`handshakes.rs`). A caller may change its address, as behind a router that translates
//!   addresses; a listener may not.
//!
//! Left out on purpose: 0-RTT and session resumption (each connection proves its certificate anew), and unreliable
//! datagrams.

#![forbid(unsafe_code)]

mod accepting;
mod calling;
mod certificate;
mod channel;
mod congestion;
mod connection;
mod current;
mod endpoint;
mod error;
mod files;
mod handshakes;
mod identity;
mod lanes;
mod meter;
mod outbox;
pub mod pem;
mod pki;
mod profile;
mod request;
mod revocation;
mod session;
mod shaped;
mod socket;
mod steering;
mod threads;
mod trust;

pub use accepting::Incoming;
pub use certificate::{read_certificate, role_of};
pub use channel::{Channel, PayloadMemory, Receiver, Sender};
pub use connection::{Connection, PathFigures, Traffic};
pub use endpoint::Endpoint;
pub use error::LinkError;
pub use identity::{Identity, IdentityFiles};
pub use meter::{Counts, Meter};
pub use outbox::{Outbox, Task};
pub use pki::{Pki, Revoked, check_hosts};
pub use profile::{LinkKind, LinkProfile, Reason, Settings};
pub use request::Request;
pub use session::{Owner, Session};
