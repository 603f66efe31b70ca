//! One client, one backend, one of everything.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Echo, Ringlane, address};

#[test]
fn bytes_come_back_and_are_counted_and_logged() {
    let backend = Echo::start();
    let front = address();
    let ringlane = Ringlane::start(&format!(
        r#"
        [[listener]]
        name = "echo"
        listen = "{front}"
        pool = "echo"
        [pool.echo]
        backends = ["{}"]
        "#,
        backend.address
    ));
    let mut client = TcpStream::connect(front).unwrap();
    client.write_all(b"to and fro").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = String::new();
    client.read_to_string(&mut back).unwrap();
    assert_eq!(back, "to and fro");

    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(line["reason"], "eof");
    assert_eq!(line["side"], "client");
    assert_eq!(line["bytes_up"], 10);
    assert_eq!(line["bytes_down"], 10);
    assert_eq!(
        ringlane.metric(r#"ringlane_connections_total{listener="echo",result="eof"}"#),
        Some(1.0)
    );
    assert!(ringlane.stop().success());
}
