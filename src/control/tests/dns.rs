//! A small DNS server over UDP whose zone a test changes as it likes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;

use crossbeam::channel::{self, Receiver, Sender};
use parking_lot::Mutex;

/// What the server says about a name.
#[derive(Clone, Debug)]
pub(super) enum Zone {
    /// Addresses of both families with this TTL in seconds; those of a family may be none.
    Addresses(Vec<IpAddr>, u32),
    /// As above for A; SERVFAIL for AAAA.
    OnlyV4(Vec<IpAddr>, u32),
    /// SRV records: priority, weight, port, target; with this TTL in seconds.
    Service(Vec<(u16, u16, u16, String)>, u32),
    /// SERVFAIL.
    Broken,
    /// No answer at all.
    Silent,
}

/// Names that are not in the zone do not exist.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    zone: Arc<Mutex<HashMap<String, Zone>>>,
    /// The name of each question for A or SRV, when it has been answered.
    pub(super) asked: Receiver<String>,
}

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

impl Server {
    pub(super) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let zone = Arc::default();
        let (tell, asked) = channel::unbounded();
        let server = Self {
            address: socket.local_addr().unwrap(),
            zone: Arc::clone(&zone),
            asked,
        };
        // Ends with the test's process.
        thread::spawn(move || serve(&socket, &zone, &tell));
        server
    }

    pub(super) fn set(&self, name: &str, zone: Zone) {
        self.zone.lock().insert(name.to_owned(), zone);
    }

    /// Waits until `name` is asked for again.
    pub(super) fn wait_for(&self, name: &str) {
        while self.asked.try_recv().is_ok() {}
        while self.asked.recv_timeout(super::DEADLINE).unwrap() != name {}
    }
}

fn serve(socket: &UdpSocket, zone: &Mutex<HashMap<String, Zone>>, tell: &Sender<String>) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let query = &buffer[..length];
        let (name, end) = question(query);
        let kind = u16::from_be_bytes([query[end], query[end + 1]]);
        let said = zone.lock().get(&name).cloned();
        if let Some(response) = answer(&query[..end + 4], kind, said) {
            socket.send_to(&response, from).unwrap();
        }
        if [A, SRV].contains(&kind) {
            let _ = tell.send(name);
        }
    }
}

/// The name asked for and the place after it.
fn question(query: &[u8]) -> (String, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        let label = &query[at + 1..=at + length];
        labels.push(String::from_utf8(label.to_ascii_lowercase()).unwrap());
        at += 1 + length;
    }
    (labels.join("."), at + 1)
}

/// `query` ends with its question.
fn answer(query: &[u8], kind: u16, said: Option<Zone>) -> Option<Vec<u8>> {
    let (code, data, ttl) = match said {
        None => (3_u8, Vec::new(), 0),
        Some(Zone::Addresses(addresses, ttl)) => (0, octets(addresses, kind), ttl),
        Some(Zone::OnlyV4(addresses, ttl)) if kind == A => (0, octets(addresses, kind), ttl),
        Some(Zone::Service(records, ttl)) if kind == SRV => (0, offers(records), ttl),
        Some(Zone::Service(..)) => (0, Vec::new(), 0),
        Some(Zone::OnlyV4(..) | Zone::Broken) => (2, Vec::new(), 0),
        Some(Zone::Silent) => return None,
    };
    let mut records = Vec::new();
    let mut count = 0_u16;
    for data in data {
        // The name is the question's (RFC 1035 §4.1.4), the class IN.
        records.extend([0xc0, 0x0c]);
        records.extend(kind.to_be_bytes());
        records.extend([0, 1]);
        records.extend(ttl.to_be_bytes());
        records.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        records.extend(data);
        count += 1;
    }
    let mut response = query.to_vec();
    // A response to a recursive question, recursion available.
    response[2] = 0x81;
    response[3] = 0x80 | code;
    response[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    response[6..8].copy_from_slice(&count.to_be_bytes());
    response.extend(records);
    Some(response)
}

/// Those of the family that was asked for.
fn octets(addresses: Vec<IpAddr>, kind: u16) -> Vec<Vec<u8>> {
    let of_kind = addresses.into_iter().filter_map(|address| match address {
        IpAddr::V4(ip) if kind == A => Some(ip.octets().to_vec()),
        IpAddr::V6(ip) if kind == AAAA => Some(ip.octets().to_vec()),
        _ => None,
    });
    of_kind.collect()
}

fn offers(records: Vec<(u16, u16, u16, String)>) -> Vec<Vec<u8>> {
    let one = |(priority, weight, port, target): (u16, u16, u16, String)| {
        let mut data = Vec::new();
        for number in [priority, weight, port] {
            data.extend(number.to_be_bytes());
        }
        for label in target.split('.').filter(|label| !label.is_empty()) {
            data.push(u8::try_from(label.len()).unwrap());
            data.extend(label.bytes());
        }
        data.push(0);
        data
    };
    records.into_iter().map(one).collect()
}
