//! Watches the bridge: every frame that passes between sites, searched for payloads that must never be seen.

use crate::{Doing, Fault, namespace::Namespace};
use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// What was seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// TCP packets that carried bytes.
    pub packets: u64,
    /// Bytes that they carried.
    pub bytes: u64,
    /// Packets that begin with the header of a TLS record.
    pub tls_records: u64,
    /// How often each needle was seen, in the order they were given.
    pub hits: Vec<u64>,
    /// Packets that the kernel could not hand over in time.
    pub lost: u64,
    /// Of TCP packets to or from each port that carried bytes.
    pub ports: HashMap<u16, u64>,
}

/// A thread that listens on all devices of a namespace until it is dropped.
#[derive(Debug)]
pub struct Sniffer {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Flows whose last bytes are remembered, so that a needle that is cut by a packet's end is found; then all are forgotten.
const FLOWS: usize = 4096;

impl Sniffer {
    /// Starts to listen; frames from now on are seen.
    ///
    /// # Errors
    /// A raw socket cannot be made (root is needed).
    pub fn start(namespace: &Namespace, needles: &[&str]) -> Result<Self, Fault> {
        let socket = namespace.inside(raw_socket)?.doing("open a packet socket")?;
        let needles: Vec<Vec<u8>> = needles.iter().map(|needle| needle.as_bytes().to_vec()).collect();
        let seen = Arc::new(Mutex::new(Seen { hits: vec![0; needles.len()], ..Seen::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let mut search = Search { needles, tails: HashMap::new(), seen: Arc::clone(&seen) };
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || search.listen(&socket, &stopped));
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sum of all hits.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.seen().hits.iter().sum()
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Search {
    needles: Vec<Vec<u8>>,
    tails: HashMap<Vec<u8>, Vec<u8>>,
    seen: Arc<Mutex<Seen>>,
}

impl Search {
    fn listen(&mut self, socket: &OwnedFd, stop: &AtomicBool) {
        let mut frame = vec![0_u8; 1 << 18];
        while !stop.load(Ordering::Relaxed) {
            match receive(socket, &mut frame) {
                Ok(Some(length)) => self.look(frame.get(..length).unwrap_or_default()),
                Ok(None) => {}
                Err(_) => self.count_lost(socket), // nothing came for a while
            }
        }
        self.count_lost(socket);
    }

    fn look(&mut self, frame: &[u8]) {
        let Some(Segment { flow, ports, payload }) = segment(frame) else { return };
        let tail = self.tails.remove(&flow).unwrap_or_default();
        let hits: Vec<u64> = self.needles.iter().map(|needle| occurrences(&tail, payload, needle)).collect();
        self.remember(flow, tail, payload);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.packets += 1;
        seen.bytes += payload.len() as u64;
        seen.tls_records += u64::from(matches!(payload, [20..=23, 3, ..]));
        seen.hits.iter_mut().zip(hits).for_each(|(sum, more)| *sum += more);
        for port in ports {
            *seen.ports.entry(port).or_default() += 1;
        }
    }

    fn remember(&mut self, flow: Vec<u8>, mut tail: Vec<u8>, payload: &[u8]) {
        let keep = self.needles.iter().map(Vec::len).max().unwrap_or(1).saturating_sub(1);
        tail.extend_from_slice(payload.get(payload.len().saturating_sub(keep)..).unwrap_or_default());
        let tail = tail.split_off(tail.len().saturating_sub(keep));
        if self.tails.len() >= FLOWS {
            self.tails.clear();
        }
        self.tails.insert(flow, tail);
    }

    fn count_lost(&self, socket: &OwnedFd) {
        let lost = lost_packets(socket);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).lost += lost;
    }
}

/// The TCP part of a frame: a name of its flow and direction, both ports, the bytes it carries (at least one).
struct Segment<'frame> {
    flow: Vec<u8>,
    ports: [u16; 2],
    payload: &'frame [u8],
}

fn segment(frame: &[u8]) -> Option<Segment<'_>> {
    let packet = frame.get(14..)?;
    let (addresses, rest) = match frame.get(12..14)? {
        [0x08, 0x00] if packet.get(9) == Some(&6) => {
            let header = usize::from(packet.first()? & 15) * 4;
            let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
            // A segment above 64 KiB (BIG TCP) says length 0: take all of the frame.
            let end = if length == 0 { packet.len() } else { length.min(packet.len()) };
            (packet.get(12..20)?, packet.get(header..end)?)
        }
        [0x86, 0xdd] if packet.get(6) == Some(&6) => (packet.get(8..40)?, packet.get(40..)?),
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    let payload = rest.get(usize::from(rest.get(12)? >> 4) * 4..)?;
    let flow = [addresses, rest.get(..4)?].concat();
    (!payload.is_empty()).then_some(Segment { flow, ports: [port(0)?, port(2)?], payload })
}

/// How often `needle` is in `payload`, or across its border with what came before (`tail`, shorter than the needle).
fn occurrences(tail: &[u8], payload: &[u8], needle: &[u8]) -> u64 {
    let head = payload.get(..needle.len().saturating_sub(1)).unwrap_or(payload);
    let tail = tail.get(tail.len().saturating_sub(needle.len().saturating_sub(1))..).unwrap_or_default();
    count(&[tail, head].concat(), needle) + count(payload, needle)
}

fn count(mut hay: &[u8], needle: &[u8]) -> u64 {
    let mut hits = 0;
    while let Some(at) = find(hay, needle) {
        hits += 1;
        hay = hay.get(at + needle.len()..).unwrap_or_default();
    }
    hits
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    // SAFETY: both pointers come from slices and are given with their lengths; nothing is written.
    let at = unsafe { libc::memmem(hay.as_ptr().cast(), hay.len(), needle.as_ptr().cast(), needle.len()) };
    (!at.is_null()).then(|| at as usize - hay.as_ptr() as usize)
}

fn raw_socket() -> io::Result<OwnedFd> {
    let protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20)?;
    let limit = Some(std::time::Duration::from_millis(50));
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, limit)?;
    Ok(socket)
}

/// One frame, or `None` for one that leaves a device: the same frame was seen when it came in.
fn receive(socket: &OwnedFd, frame: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    let (data, space) = (frame.as_mut_ptr().cast(), frame.len());
    let address = (&raw mut from).cast();
    // SAFETY: buffer and address are valid for the lengths that are given with them.
    let length = unsafe { libc::recvfrom(socket.as_raw_fd(), data, space, 0, address, &mut size) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok((from.sll_pkttype != libc::PACKET_OUTGOING).then_some(length))
}

fn lost_packets(socket: &OwnedFd) -> u64 {
    // `struct tpacket_stats`: packets, drops; the counters start again at every reading.
    let mut counts = [0_u32; 2];
    let mut size = size_of_val(&counts) as libc::socklen_t;
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
    let value = counts.as_mut_ptr().cast();
    // SAFETY: the buffer is as long as is said.
    unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value, &mut size) };
    u64::from(counts[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_needle_cut_by_a_border() {
        assert_eq!(occurrences(b"xxnee", b"dlexx", b"needle"), 1);
        assert_eq!(occurrences(b"xxne", b"needle", b"needle"), 1);
        assert_eq!(occurrences(b"", b"needleneedle", b"needle"), 2);
        assert_eq!(occurrences(b"eedle", b"need", b"needle"), 0);
    }
}
