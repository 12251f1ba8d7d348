//! What a link is like, and what follows for QUIC.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use serde::{Deserialize, Serialize};
use suf_toml::Mistake;

use crate::congestion::UnpacedFactory;
use crate::error::LinkError;
use crate::lanes::MOST_LANES;

/// A link between two hosts, one direction; both are alike. The keys are documented in `config/links/*.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkProfile {
    /// Bits per second at the bottleneck, Ethernet frames included: 10^6 to 10^12.
    pub rate_bps: u64,
    /// Delay of one direction, in milliseconds, 0 to 500.
    pub delay_ms: f64,
    /// Packets that the bottleneck holds, those under way included, as in `tc netem limit`.
    pub limit_packets: u32,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Spread of the delay, in milliseconds: each packet's is uniform in delay +- jitter. Above 0 packets overtake one
    /// another.
    #[serde(default)]
    pub jitter_ms: f64,
    /// Share of packets lost, 0 to 0.1.
    #[serde(default)]
    pub loss: f64,
    /// Whether QUIC spreads its packets over the round trip and backs off after losses. Only for private links: `false`
    /// sends a whole window at once.
    #[serde(default = "yes")]
    pub pacing: bool,
    /// QUIC connections that share the messages between two processes. The caller's profile decides.
    #[serde(default = "one")]
    pub lanes: u8,
}

fn one() -> u8 {
    1
}

fn yes() -> bool {
    true
}

/// How a link came to be what it is. Figures from one kind are never mixed with another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// One host, nothing shaped.
    Loopback,
    /// Shaped by the kernel with `tc netem`.
    Netem,
    /// Shaped inside the process by a socket wrapper: an emulation.
    Shaped,
    /// A real network.
    Network,
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Loopback => "loopback",
            Self::Netem => "netem",
            Self::Shaped => "shaped",
            Self::Network => "network",
        })
    }
}

/// Where every key is explained.
const EXPLAINED: &str = "config/links/lan.toml";

impl LinkProfile {
    /// The profiles that ship with the program, by name.
    pub const BUILT_IN: [(&'static str, &'static str); 5] = [
        ("loopback", include_str!("../../../config/links/loopback.toml")),
        ("lan", include_str!("../../../config/links/lan.toml")),
        ("wan", include_str!("../../../config/links/wan.toml")),
        ("metro", include_str!("../../../config/links/metro.toml")),
        ("intercontinental", include_str!("../../../config/links/intercontinental.toml")),
    ];

    /// A built-in profile, with the lanes that this host has processors for.
    ///
    /// # Errors
    /// [`LinkError::Profile`] lists the names there are.
    pub fn built_in(name: &str) -> Result<Self, LinkError> {
        let known = Self::BUILT_IN.iter().find(|(known, _)| *known == name);
        let (_, text) = known.ok_or_else(|| LinkError::Profile {
            name: name.to_owned(),
            problem: format!("unknown; there are {}", Self::BUILT_IN.map(|(name, _)| name).join(", ")),
        })?;
        Ok(Self::parse(name, text)?.on_this_host())
    }

    /// A profile as a configuration names it: a built-in name, or the path of a file, which has a slash or a dot.
    ///
    /// # Errors
    /// [`LinkError::Profile`].
    pub fn find(name: &str) -> Result<Self, LinkError> {
        if name.contains(['/', '.']) { Self::load(Path::new(name)) } else { Self::built_in(name) }
    }

    /// A profile from a file, taken as it stands.
    ///
    /// # Errors
    /// [`LinkError::Profile`].
    pub fn load(path: &Path) -> Result<Self, LinkError> {
        let name = path.display().to_string();
        match std::fs::read(path) {
            Ok(bytes) => match suf_toml::text(&bytes) {
                Ok(text) => Self::parse(&name, text),
                Err(mistake) => Err(LinkError::Profile { name, problem: mistake.to_string() }),
            },
            Err(error) => {
                let problem = format!("the file cannot be read: {error}; see its path and its permissions");
                Err(LinkError::Profile { name, problem })
            }
        }
    }

    /// A profile from TOML. Unknown keys and values that no link has are errors.
    ///
    /// # Errors
    /// [`LinkError::Profile`].
    pub fn parse(name: &str, text: &str) -> Result<Self, LinkError> {
        let wrong =
            |mistake: Mistake| LinkError::Profile { name: name.to_owned(), problem: mistake.to_string() };
        let profile: Self = suf_toml::parse(text, EXPLAINED).map_err(wrong)?;
        profile.check().map_err(|(key, problem)| wrong(Mistake::of_key(text, &[key], problem)))?;
        Ok(profile)
    }

    /// The profile with no more lanes than this host can serve: three for each eight processors. A lane keeps a processor busy
    /// at each end. Both ends may be one host, and the gates need processors as well. Lanes that share a processor only cost.
    fn on_this_host(self) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let affordable = u8::try_from(3 * processors / 8).unwrap_or(u8::MAX);
        Self { lanes: affordable.clamp(1, self.lanes), ..self }
    }

    /// Bytes that fill the link for one round trip.
    pub fn bandwidth_delay_bytes(&self) -> u64 {
        // Within 2^53: at most 10^12 bit/s and 1 s.
        (self.rate_bps as f64 / 8.0 * 2.0 * self.delay_ms / 1e3) as u64
    }

    /// What is set for QUIC on this link.
    pub fn settings(&self) -> Settings {
        let round_trip = Duration::from_secs_f64(2.0 * self.delay_ms / 1e3);
        let bandwidth_delay = self.bandwidth_delay_bytes();
        let queue = u64::from(self.limit_packets) * u64::from(self.mtu);
        let per_lane = |bytes: u64| bytes / u64::from(self.lanes);
        Settings {
            lanes: self.lanes,
            stream_receive_window_bytes: per_lane(STREAM_RECEIVE_WINDOW_BYTES.max(2 * bandwidth_delay)),
            receive_window_bytes: per_lane(RECEIVE_WINDOW_BYTES.max(4 * bandwidth_delay)),
            send_window_bytes: per_lane(
                (bandwidth_delay + queue / 4).clamp(LEAST_CONGESTION_WINDOW_BYTES, SEND_WINDOW_BYTES),
            )
            .max(LEAST_LANE_WINDOW_BYTES),
            congestion_window_bytes: per_lane(bandwidth_delay.max(LEAST_CONGESTION_WINDOW_BYTES))
                .max(LEAST_LANE_WINDOW_BYTES),
            initial_rtt: round_trip.max(LEAST_INITIAL_RTT),
            udp_payload_bytes: self.mtu - HEADERS_BYTES,
            pacing: self.pacing,
            handshake_limit: LEAST_HANDSHAKE_LIMIT.max(HANDSHAKE_ROUND_TRIPS * round_trip),
        }
    }

    /// Which key is wrong, and what it may be.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let within = |key: &'static str, value: f64, least: f64, most: f64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err((key, format!("{key} = {value}; it is {least} to {most}")))
            }
        };
        within("rate_bps", self.rate_bps as f64, LEAST_RATE_BPS, 1e12)?;
        within("delay_ms", self.delay_ms, 0.0, MOST_DELAY_MS)?;
        within("jitter_ms", self.jitter_ms, 0.0, self.delay_ms)?;
        within("loss", self.loss, 0.0, MOST_LOSS)?;
        within("limit_packets", self.limit_packets.into(), 16.0, 1e7)?;
        within("lanes", self.lanes.into(), 1.0, MOST_LANES.into())?;
        // QUIC needs UDP payloads of 1200 bytes.
        within("mtu", self.mtu.into(), 1280.0, 65_535.0)?;
        let packet_ms = 8e3 * f64::from(self.mtu) / self.rate_bps as f64;
        if packet_ms > MOST_PACKET_MS {
            let problem = format!(
                "a packet of mtu = {} bytes takes {packet_ms:.0} ms at rate_bps = {}; at most {MOST_PACKET_MS} ms work: give a \
                 smaller mtu",
                self.mtu, self.rate_bps
            );
            return Err(("mtu", problem));
        }
        Ok(())
    }
}

/// Longest delay of one direction, in milliseconds: beyond any satellite link. Silence of 6 s and the control API's 10 s
/// leave room for several round trips of a second.
const MOST_DELAY_MS: f64 = 500.0;
/// Most packets lost. With more, a connection that is alive is silent for 6 s now and then.
const MOST_LOSS: f64 = 0.1;
/// Least rate: a packet of 1500 bytes takes 12 ms. On slower links even small runs miss their time limits.
const LEAST_RATE_BPS: f64 = 1e6;
/// Longest time of one packet at the bottleneck, in milliseconds: others wait behind it.
const MOST_PACKET_MS: f64 = 100.0;
/// IPv6 and UDP headers; IPv4's are smaller.
const HEADERS_BYTES: u16 = 48;
/// UDP payload in packets of 1500 bytes, which every way carries. A connection begins with those; larger ones are tried, one
/// in a round trip, and used once they have got through.
const COMMON_UDP_PAYLOAD_BYTES: u16 = 1500 - HEADERS_BYTES;
/// quinn's 1.25 MB stalls a stream at 1 Gbit/s and 10 ms; no message of a tile is larger than a few of these.
const STREAM_RECEIVE_WINDOW_BYTES: u64 = 16 << 20;
/// Several streams at once; bounds what an other side can make us hold.
const RECEIVE_WINDOW_BYTES: u64 = 64 << 20;
/// Enough in flight for every profile, and a bound on what we hold for a slow reader. Links with a shorter queue get the
/// bandwidth-delay product and a quarter of the queue. A dealer's two connections over one bottleneck thus do not
/// overflow it.
const SEND_WINDOW_BYTES: u64 = 16 << 20;
/// Lets the first 1 MB message leave in one round trip on links whose bandwidth-delay product is small.
const LEAST_CONGESTION_WINDOW_BYTES: u64 = 2 << 20;
/// Of one lane of many: the largest message of a tile, which goes over one lane, leaves at once.
const LEAST_LANE_WINDOW_BYTES: u64 = 1 << 20;
/// A handshake takes milliseconds of computing; a smaller estimate would send its packets twice.
const LEAST_INITIAL_RTT: Duration = Duration::from_millis(10);
/// Datagram buffers of the sockets: what 8 Gbit/s brings in 8 ms, the time for which a busy thread may not read.
pub(crate) const UDP_BUFFER_BYTES: usize = 8 << 20;
/// Silence after which the other side is taken for dead. Long enough for a host that swaps or is short of CPU.
const IDLE: Duration = Duration::from_secs(6);
/// Silence after which we ask whether the other side is there: several tries fit in [`IDLE`].
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// Least time for a handshake: several round trips between continents, some lost packets, and a busy processor.
const LEAST_HANDSHAKE_LIMIT: Duration = Duration::from_secs(8);
/// Round trips for a handshake. It takes three. A packet that is lost twice in a row is sent again after 3 and 6 more.
const HANDSHAKE_ROUND_TRIPS: u32 = 16;
/// Channels open at once on a connection: one for each run, and runs are few.
const STREAMS: u32 = 64;

/// What QUIC is told about a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// QUIC connections that a caller makes. The windows below are those of one.
    pub lanes: u8,
    /// Bytes that one stream may have unread.
    pub stream_receive_window_bytes: u64,
    /// Bytes that one connection may have unread.
    pub receive_window_bytes: u64,
    /// Bytes that one connection may have unacknowledged.
    pub send_window_bytes: u64,
    /// Bytes in flight at the start: the bandwidth-delay product, so that nothing is spent on finding it.
    pub congestion_window_bytes: u64,
    /// Round trip time until one is measured.
    pub initial_rtt: Duration,
    /// Bytes of the largest UDP payload.
    pub udp_payload_bytes: u16,
    /// See [`LinkProfile::pacing`].
    pub pacing: bool,
    /// From the first packet of a call, or of one of its lanes, to the other side's welcome.
    pub handshake_limit: Duration,
}

/// One setting, and why it is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What is set.
    pub setting: &'static str,
    /// Its value, with its unit.
    pub value: String,
    /// Why.
    pub why: &'static str,
}

impl Settings {
    /// Each setting with its reason.
    pub fn reasons(&self) -> Vec<Reason> {
        let bytes = |bytes: u64| format!("{bytes} B");
        let reason = |setting, value, why| Reason { setting, value, why };
        vec![
            reason(
                "congestion window",
                bytes(self.congestion_window_bytes),
                "what fills the link for one round trip, or 2 MiB if that is more. It holds from the first packet on, so no \
                 time is spent on finding it",
            ),
            reason(
                "send window",
                bytes(self.send_window_bytes),
                "one round trip and a quarter of the bottleneck's queue, from 2 to 16 MiB. A dealer's two connections over \
                 one bottleneck do not overflow it",
            ),
            reason(
                "receive window",
                bytes(self.receive_window_bytes),
                "four round trips' bytes, or 64 MiB if that is more: several streams, and a bound on what a peer can \
                 make us hold",
            ),
            reason(
                "receive window of a stream",
                bytes(self.stream_receive_window_bytes),
                "two round trips' bytes, or 16 MiB if that is more: no message of a tile waits for credit",
            ),
            reason(
                "first round trip time",
                format!("{} ms", self.initial_rtt.as_secs_f64() * 1e3),
                "the profile's, and at least 10 ms, which a handshake may compute for: a smaller one would send its \
                 packets twice",
            ),
            reason(
                "UDP payload",
                bytes(self.udp_payload_bytes.into()),
                "the profile's mtu less IPv6 and UDP headers; jumbo frames are tried where the profile has them, and used once \
                 they have got through",
            ),
            reason(
                "pacing",
                (if self.pacing { "on" } else { "off" }).to_owned(),
                if self.pacing {
                    "packets are spread over the round trip, and losses slow the sender down (Cubic)"
                } else {
                    "a window leaves at once: this link is nobody else's"
                },
            ),
            reason(
                "idle time",
                format!("{} s", IDLE.as_secs()),
                "silence after which the other side is taken for dead: long enough for a host that is short of CPU",
            ),
            reason(
                "handshake",
                format!("{} s", self.handshake_limit.as_secs_f64()),
                "for each connection that is made: 16 round trips, of which it takes three and lost packets the rest, and 8 s \
                 at least",
            ),
            reason(
                "connections",
                "2".to_owned(),
                "bulk keys and the gate's messages go over connections and sockets of their own: keys never queue \
                 before a message",
            ),
            reason(
                "lanes",
                self.lanes.to_string(),
                "QUIC connections that share the work of one of ours, each a core's at a time; the windows are those of \
                 one. A built-in profile has three for each eight processors of the host at most, a file's are taken as they stand",
            ),
        ]
    }

    pub(crate) fn transport(&self) -> TransportConfig {
        let bytes = |value: u64| VarInt::from_u64(value).unwrap_or(VarInt::MAX);
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.udp_payload_bytes);
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(STREAMS.into())
            // The caller's lane and the listener's welcome.
            .max_concurrent_uni_streams(1_u32.into())
            .max_idle_timeout(Some(
                IdleTimeout::try_from(IDLE).expect("seconds fit in a VarInt of milliseconds"),
            ))
            .keep_alive_interval(Some(KEEP_ALIVE))
            .stream_receive_window(bytes(self.stream_receive_window_bytes))
            .receive_window(bytes(self.receive_window_bytes))
            .send_window(self.send_window_bytes)
            .initial_rtt(self.initial_rtt)
            .initial_mtu(self.udp_payload_bytes.min(COMMON_UDP_PAYLOAD_BYTES))
            .mtu_discovery_config(Some(discovery))
            .ack_frequency_config(None)
            .datagram_receive_buffer_size(None);
        if self.pacing {
            let mut cubic = CubicConfig::default();
            cubic.initial_window(self.congestion_window_bytes);
            config.congestion_controller_factory(Arc::new(cubic));
        } else {
            config.congestion_controller_factory(Arc::new(UnpacedFactory));
        }
        config
    }
}
