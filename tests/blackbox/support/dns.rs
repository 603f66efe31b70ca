//! A name server that gives every name the same answer, over UDP.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{eventually, loopback};

/// A running server; without an answer it reports a failure of its own.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// `None`: every question fails.
    answer: Mutex<Option<Vec<Ipv4Addr>>>,
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
                let answer = served.answer.lock().unwrap().clone();
                let reply = reply(&question[..length], answer.as_deref());
                socket.send_to(&reply, from).unwrap();
                served.questions.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, state }
    }

    /// Gives these addresses from now on.
    pub(crate) fn answer(&self, addresses: &[Ipv4Addr]) {
        *self.state.answer.lock().unwrap() = Some(addresses.to_vec());
    }

    /// Fails from now on.
    pub(crate) fn fail(&self) {
        *self.state.answer.lock().unwrap() = None;
    }

    /// Waits for so many more questions.
    pub(crate) fn await_questions(&self, count: usize) {
        let asked = || self.state.questions.load(Ordering::Relaxed);
        let wanted = asked() + count;
        eventually("the name server is asked", || {
            (asked() >= wanted).then_some(())
        });
    }
}

/// The reply to a question (RFC 1035 §4.1); addresses have a TTL of one second.
fn reply(question: &[u8], answer: Option<&[Ipv4Addr]>) -> Vec<u8> {
    const HEADER: usize = 12;
    const TYPE_A: u8 = 1;
    const SERVER_FAILURE: u8 = 2;
    let name = question[HEADER..]
        .iter()
        .position(|&byte| byte == 0)
        .unwrap();
    let end = HEADER + name + 5;
    let asks_for_v4 = question[end - 3] == TYPE_A;
    let addresses = answer.filter(|_| asks_for_v4).unwrap_or_default();
    let code = if answer.is_some() { 0 } else { SERVER_FAILURE };
    let count = u8::try_from(addresses.len()).unwrap();
    let mut reply = question[..2].to_vec();
    // A response to a standard query, recursion desired and available; one question.
    reply.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    reply.extend(&question[HEADER..end]);
    for address in addresses {
        // The name of the question, type A, class IN, one second, four bytes.
        reply.extend([0xc0, 12, 0, TYPE_A, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address.octets());
    }
    reply
}
