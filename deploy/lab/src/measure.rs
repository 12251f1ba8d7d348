//! Is the link what the plan says? Round trips are measured by UDP echo, the rate by a timed bulk of UDP. Both use plain
//! sockets of the kernel, and none of the code that is measured later.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use suf_link::LinkProfile;

use crate::{
    error::LabError,
    lab::Lab,
    netem::Counters,
    plan::{Host, Network},
};

/// A measurement off by more than this share is refused.
const TOLERANCE: f64 = 0.05;
/// A busy moment of the machine spoils a measurement, a link that is wrong spoils all.
const ATTEMPTS: u32 = 8;
/// Time for the echoes of a link: dozens on short links, few on long ones.
const ECHO_TIME: Duration = Duration::from_millis(200);
/// Echoes of a link, at least and at most.
const ECHOES: (usize, usize) = (5, 100);
/// Duration of a bulk.
const BULK_TIME: Duration = Duration::from_millis(100);
/// Datagrams in a bulk, at least: the two ends' timestamps then err by little.
const BULK_DATAGRAMS: u32 = 32;
/// Packets of a datagram of the bulk: a system call for each packet would be slower than the fastest links.
const FRAGMENTS: u32 = 8;
/// Bytes of a bulk's datagram at most, by UDP over IPv4.
const MOST_DATAGRAM_BYTES: u32 = 65_507;
/// Headers of a packet: Ethernet 14, IPv4 20.
const PACKET_HEADERS_BYTES: u32 = 34;
/// Header of a datagram.
const UDP_HEADER_BYTES: u32 = 8;
/// Payload of an echo.
const ECHO_BYTES: usize = 32;
/// How long a socket waits beyond a round trip before it takes a packet for lost.
const PATIENCE: Duration = Duration::from_millis(300);

/// What a link was measured to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// The network.
    pub network: Network,
    /// Who sent the bulk.
    pub from: Host,
    /// Who received it.
    pub to: Host,
    /// Round trip, in milliseconds: the least seen, since a busy machine only ever adds to it; the median under jitter.
    pub rtt_ms: f64,
    /// The same over the control network, which is not shaped: what the machine itself adds.
    pub own_ms: f64,
    /// Bits per second of the bulk, Ethernet frames included.
    pub rate_bps: f64,
}

/// Measures every shaped link.
pub(crate) fn all(lab: &Lab) -> Result<Vec<Measured>, LabError> {
    let links = [
        (Network::Peer, Host::Party0, Host::Party1),
        (Network::Peer, Host::Party1, Host::Party0),
        (Network::Keys, Host::Dealer, Host::Party0),
        (Network::Keys, Host::Dealer, Host::Party1),
    ];
    links.into_iter().map(|(network, from, to)| patiently(lab, network, from, to)).collect()
}

fn patiently(lab: &Lab, network: Network, from: Host, to: Host) -> Result<Measured, LabError> {
    let mut result = one(lab, network, from, to);
    for _ in 1..ATTEMPTS {
        if result.is_ok() {
            break;
        }
        result = one(lab, network, from, to);
    }
    result
}

fn one(lab: &Lab, network: Network, from: Host, to: Host) -> Result<Measured, LabError> {
    let profile = lab.plan().profile(network).expect("shaped links are measured");
    let link = format!("link {network} from {from} to {to}");
    let failed = |error| LabError::Measurement { link: link.clone(), error };
    let before = lab.counters(from, network)?;
    let bound = |host: Host, network| lab.on(host, || UdpSocket::bind((host.address(network), 0)));
    let ends = |network| Ok((bound(from, network)?, bound(to, network)?));
    let own_ms = ends(Network::Control).and_then(|(near, far)| echo(&near, &far, profile)).map_err(failed)?;
    let (sender, receiver) = ends(network).map_err(failed)?;
    let rtt_ms = echo(&sender, &receiver, profile).map_err(failed)?;
    let rate_bps = bulk(&sender, &receiver, profile).map_err(failed)?;
    let counters = lab.counters(from, network)?.since(before);

    let off = |what, measured: f64, expected: f64, show: fn(f64) -> String| {
        if (measured / expected - 1.0).abs() <= TOLERANCE {
            return Ok(());
        }
        Err(LabError::Off { link: link.clone(), what, measured: show(measured), expected: show(expected) })
    };
    off("a round trip of", rtt_ms - own_ms, expected_rtt_ms(profile), |ms| format!("{ms:.3} ms"))?;
    off("a rate of", rate_bps, profile.rate_bps as f64, |bps| format!("{:.2} Mbit/s", bps / 1e6))?;
    let Counters { packets, drops, .. } = counters;
    if !counters.explained_by(profile.loss) {
        return Err(LabError::Dropped { link, dropped: drops, packets: packets + drops });
    }
    Ok(Measured { network, from, to, rtt_ms, own_ms, rate_bps })
}

/// An echo's packet takes its own time to leave, too.
fn expected_rtt_ms(profile: &LinkProfile) -> f64 {
    let bytes = ECHO_BYTES as f64 + f64::from(UDP_HEADER_BYTES + PACKET_HEADERS_BYTES);
    2.0 * (profile.delay_ms + bytes * 8e3 / profile.rate_bps as f64)
}

fn delay(profile: &LinkProfile) -> Duration {
    Duration::from_secs_f64(profile.delay_ms / 1e3)
}

/// Round trip from `near` to `far` and back, in milliseconds, as [`Measured::rtt_ms`] defines it.
fn echo(near: &UdpSocket, far: &UdpSocket, profile: &LinkProfile) -> io::Result<f64> {
    let round_trip = 2 * delay(profile);
    let fitting = ECHO_TIME.as_nanos() / round_trip.as_nanos().max(1);
    let count = usize::try_from(fitting).unwrap_or(usize::MAX).clamp(ECHOES.0, ECHOES.1);
    near.connect(far.local_addr()?)?;
    near.set_read_timeout(Some(round_trip + PATIENCE))?;
    far.set_read_timeout(Some(PATIENCE / 10))?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let answering = scope.spawn(|| answer(far, &over));
        let times = ping(near, count);
        over.store(true, Ordering::Relaxed);
        answering.join().expect("answering returns its errors")?;
        let mut times = times?;
        times.sort_unstable();
        let place = if profile.jitter_ms > 0.0 { times.len() / 2 } else { 0 };
        let time = times.get(place).ok_or(io::ErrorKind::TimedOut)?;
        Ok(time.as_secs_f64() * 1e3)
    })
}

/// Sends back what comes, until told otherwise.
fn answer(socket: &UdpSocket, over: &AtomicBool) -> io::Result<()> {
    let mut buffer = [0; ECHO_BYTES];
    while !over.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => drop(socket.send_to(&buffer[..length], from)?),
            Err(error) if timed_out(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The times of `count` echoes; lost ones are left out.
fn ping(socket: &UdpSocket, count: usize) -> io::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    let mut packet = [0; ECHO_BYTES];
    for number in 0..count as u64 {
        packet[..8].copy_from_slice(&number.to_le_bytes());
        let sent = Instant::now();
        socket.send(&packet)?;
        loop {
            let mut answer = [0; ECHO_BYTES];
            match socket.recv(&mut answer) {
                Ok(_) if answer == packet => {
                    times.push(sent.elapsed());
                    break;
                }
                // An answer that was late.
                Ok(_) => {}
                Err(error) if timed_out(&error) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(times)
}

/// Sizes of a bulk over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bulk {
    /// Payload of a datagram.
    payload_bytes: u32,
    /// The same on the wire, in fragments.
    wire_bytes: u32,
    /// Datagrams under way at most: three quarters of what the queue holds.
    window: u32,
    /// Datagrams in all.
    count: u32,
}

impl Bulk {
    fn over(profile: &LinkProfile) -> Self {
        // All fragments but the last carry a multiple of 8 bytes.
        let fragment = (u32::from(profile.mtu) - 20) & !7;
        let fragments = FRAGMENTS.min(MOST_DATAGRAM_BYTES / fragment).max(1);
        let payload_bytes = (fragments * fragment).min(MOST_DATAGRAM_BYTES) - UDP_HEADER_BYTES;
        let wire_bytes = payload_bytes + UDP_HEADER_BYTES + fragments * PACKET_HEADERS_BYTES;
        let wanted = profile.rate_bps as f64 / 8.0 * BULK_TIME.as_secs_f64() / f64::from(wire_bytes);
        Self {
            payload_bytes,
            wire_bytes,
            window: (profile.limit_packets / fragments / 4 * 3).max(1),
            // Below 2^32 at the fastest profile, 10^12 bit/s.
            count: (wanted as u32).max(BULK_DATAGRAMS),
        }
    }
}

/// Bits per second of a bulk from `sender` to `receiver`, between its first and its last arrival.
fn bulk(sender: &UdpSocket, receiver: &UdpSocket, profile: &LinkProfile) -> io::Result<f64> {
    let bulk = Bulk::over(profile);
    let patience = delay(profile) + PATIENCE;
    receiver.set_read_timeout(Some(patience))?;
    // The receiver only counts, but it may not run for a while; root may exceed the system's limit.
    let window_bytes = bulk.window as usize * bulk.wire_bytes as usize;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(receiver, window_bytes.max(1 << 20))?;
    let to = receiver.local_addr()?;
    let (arrived, arrivals) = mpsc::channel();
    thread::scope(|scope| {
        let receiving = scope.spawn(move || receive(receiver, bulk, &arrived));
        let sent = send(sender, to, bulk, &arrivals, patience);
        let (datagrams, elapsed) = receiving.join().expect("receiving returns its errors")?;
        sent?;
        // What netem loses it loses before it takes any of the rate.
        let bytes = f64::from(datagrams) * f64::from(bulk.wire_bytes) * (1.0 - profile.loss);
        Ok(bytes * 8.0 / elapsed.as_secs_f64())
    })
}

/// Sends the bulk, no more of it at once than the window. Arrivals are known at once, since both ends are in one process.
fn send(
    socket: &UdpSocket,
    to: SocketAddr,
    bulk: Bulk,
    arrivals: &mpsc::Receiver<u32>,
    patience: Duration,
) -> io::Result<()> {
    let mut datagram = vec![0; bulk.payload_bytes as usize];
    let mut acknowledged = 0;
    for index in 0..bulk.count {
        while index - acknowledged >= bulk.window {
            match arrivals.recv_timeout(patience) {
                Ok(arrived) => acknowledged = arrived + 1,
                // A whole window was lost.
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        datagram[..4].copy_from_slice(&index.to_le_bytes());
        socket.send_to(&datagram, to)?;
    }
    Ok(())
}

/// Datagrams between the first and the last arrival, those lost among them included, and the time in between.
fn receive(socket: &UdpSocket, bulk: Bulk, arrived: &mpsc::Sender<u32>) -> io::Result<(u32, Duration)> {
    let mut buffer = vec![0; bulk.payload_bytes as usize];
    let mut first = None;
    let mut last = None;
    loop {
        match socket.recv(&mut buffer) {
            // A late echo is shorter.
            Ok(length) if length < buffer.len() => continue,
            Ok(_) => {}
            Err(error) if timed_out(&error) && last.is_some() => break,
            Err(error) => return Err(error),
        }
        let index = u32::from_le_bytes(buffer[..4].try_into().expect("four bytes"));
        let now = Instant::now();
        first.get_or_insert((index, now));
        last = Some((index, now));
        // The sender may have given up.
        let _ = arrived.send(index);
        if index + 1 == bulk.count {
            break;
        }
    }
    match (first, last) {
        (Some((first, begin)), Some((last, end))) if last > first => Ok((last - first, end - begin)),
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Whether a read waited in vain. The system has two names for it.
fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_bulk_fits_the_queue_and_its_datagrams_fit_udp() {
        for (name, _) in LinkProfile::BUILT_IN {
            let profile = LinkProfile::built_in(name).unwrap();
            let bulk = Bulk::over(&profile);
            assert!(bulk.payload_bytes <= MOST_DATAGRAM_BYTES && bulk.wire_bytes > bulk.payload_bytes);
            assert!(
                bulk.window * FRAGMENTS.min(bulk.payload_bytes / u32::from(profile.mtu) + 1)
                    <= profile.limit_packets
            );
            assert!(bulk.count >= BULK_DATAGRAMS);
        }
    }

    #[test]
    fn an_unshaped_socket_is_measured_too() {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (near, far) = (bind(), bind());
        let profile = LinkProfile { rate_bps: 1_000_000, ..LinkProfile::built_in("loopback").unwrap() };
        let rtt_ms = echo(&near, &far, &profile).unwrap();
        assert!(rtt_ms > 0.0 && rtt_ms < 1e3, "{rtt_ms}");
    }
}
