//! A name server over UDP: one answer for every name, or, where a test says so, one for each.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{eventually, loopback};

/// A running server; without an answer it reports a failure of its own.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

/// What is said of a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) v4: Vec<Ipv4Addr>,
    pub(crate) v6: Vec<Ipv6Addr>,
    /// Priority, weight, port and target.
    pub(crate) service: Vec<(u16, u16, u16, &'static str)>,
}

#[derive(Default)]
struct State {
    /// For names that have none of their own; `None`: every question fails.
    answer: Mutex<Option<Said>>,
    /// By name; `None`: the question fails.
    of: Mutex<HashMap<String, Option<Said>>>,
    questions: AtomicUsize,
}

impl Dns {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind((loopback(), 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let state = Arc::new(State::default());
        let served = Arc::clone(&state);
        thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let reply = served.reply(&question[..length]);
                socket.send_to(&reply, from).unwrap();
                served.questions.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, state }
    }

    /// Gives these addresses from now on.
    pub(crate) fn answer(&self, addresses: &[Ipv4Addr]) {
        *self.state.answer.lock().unwrap() = Some(Said {
            v4: addresses.to_vec(),
            ..Said::default()
        });
    }

    /// Fails from now on.
    pub(crate) fn fail(&self) {
        *self.state.answer.lock().unwrap() = None;
    }

    /// Says this of one name from now on; `None`: fails.
    pub(crate) fn say(&self, name: &str, said: Option<Said>) {
        let mut of = self.state.of.lock().unwrap();
        of.insert(name.to_owned(), said);
    }

    /// The same of a name with one address.
    pub(crate) fn host(&self, name: &str, address: Ipv4Addr) {
        let said = Said {
            v4: vec![address],
            ..Said::default()
        };
        self.say(name, Some(said));
    }

    /// The same of a name with these SRV records.
    pub(crate) fn service(&self, name: &str, records: &[(u16, u16, u16, &'static str)]) {
        let said = Said {
            service: records.to_vec(),
            ..Said::default()
        };
        self.say(name, Some(said));
    }

    /// Questions so far.
    pub(crate) fn questions(&self) -> usize {
        self.state.questions.load(Ordering::Relaxed)
    }

    /// Waits for so many more questions.
    pub(crate) fn await_questions(&self, count: usize) {
        let wanted = self.questions() + count;
        eventually("the name server is asked", || {
            (self.questions() >= wanted).then_some(())
        });
    }
}

const HEADER: usize = 12;

impl State {
    /// The reply to a question (RFC 1035 §4.1); every record has a TTL of one second.
    fn reply(&self, question: &[u8]) -> Vec<u8> {
        const SERVER_FAILURE: u8 = 2;
        let (name, end) = name_of(question);
        let kind = question[end - 3];
        let own = self.of.lock().unwrap().get(&name).cloned();
        let said = own.unwrap_or_else(|| self.answer.lock().unwrap().clone());
        let code = if said.is_some() { 0 } else { SERVER_FAILURE };
        let records = said.map_or_else(Vec::new, |said| said.records(kind));
        let count = u8::try_from(records.len()).unwrap();
        let mut reply = question[..2].to_vec();
        // A response to a standard query, recursion desired and available; one question.
        reply.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
        reply.extend(&question[HEADER..end]);
        for record in records {
            // The name of the question, this type, class IN, one second.
            let length = u8::try_from(record.len()).unwrap();
            reply.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1, 0, length]);
            reply.extend(record);
        }
        reply
    }
}

/// The name asked for, and where the question ends.
fn name_of(question: &[u8]) -> (String, usize) {
    let mut labels = Vec::new();
    let mut at = HEADER;
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    (labels.join("."), at + 5)
}

impl Said {
    fn records(&self, kind: u8) -> Vec<Vec<u8>> {
        match kind {
            1 => self.v4.iter().map(|ip| ip.octets().to_vec()).collect(),
            28 => self.v6.iter().map(|ip| ip.octets().to_vec()).collect(),
            33 => self.service.iter().map(offer).collect(),
            _ => Vec::new(),
        }
    }
}

/// The data of an SRV record (RFC 2782).
fn offer((priority, weight, port, target): &(u16, u16, u16, &str)) -> Vec<u8> {
    let numbers = [priority, weight, port];
    let mut data: Vec<u8> = numbers.iter().flat_map(|it| it.to_be_bytes()).collect();
    for label in target.split('.').filter(|label| !label.is_empty()) {
        data.push(u8::try_from(label.len()).unwrap());
        data.extend(label.bytes());
    }
    data.push(0);
    data
}
