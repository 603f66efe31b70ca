//! Reading version 1.

use super::*;

#[test]
fn the_example_of_the_specification_is_read() {
    let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    let request = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";
    let expected = Header {
        length: line.len(),
        version: ProxyVersion::V1,
        origin: Origin::Inet {
            source: address("192.168.0.1:56324"),
            destination: address("192.168.0.11:443"),
        },
        tlvs: Tlvs::default(),
    };
    assert_eq!(header(&[&line[..], request].concat()), expected);
    assert_whole(line);
    assert_eq!(expected.source(), Some(address("192.168.0.1:56324")));
    assert_eq!(expected.destination(), Some(address("192.168.0.11:443")));
}

#[test]
fn the_longest_lines_of_the_specification_are_read() {
    let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let tcp4 = "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
    let tcp6 = format!("PROXY TCP6 {full} {full} 65535 65535\r\n");
    let short = "PROXY UNKNOWN\r\n";
    let worst = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
    let lengths = [tcp4, &tcp6, short, &worst].map(str::len);
    assert_eq!(lengths, [56, 104, 15, 107]);

    let inet = |ip: &str| {
        let address = SocketAddr::new(ip.parse().unwrap(), 65535);
        Origin::Inet {
            source: address,
            destination: address,
        }
    };
    for (line, origin) in [
        (tcp4, inet("255.255.255.255")),
        (&tcp6, inet(full)),
        (short, Origin::Socket),
        (&worst, Origin::Socket),
    ] {
        assert_whole(line.as_bytes());
        assert_eq!(header(line.as_bytes()).origin, origin, "{line}");
        assert_eq!(header(line.as_bytes()).version, ProxyVersion::V1);
    }
}

#[test]
fn every_form_of_an_ipv6_address_is_read() {
    for (text, expected) in [
        ("::", "::"),
        ("::1", "::1"),
        ("2001:DB8::A", "2001:db8::a"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("::ffff:c000:201", "::ffff:192.0.2.1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
    ] {
        let line = format!("PROXY TCP6 {text} ::2 0 1\r\n");
        let expected = SocketAddr::new(expected.parse().unwrap(), 0);
        assert_eq!(header(line.as_bytes()).source(), Some(expected), "{text}");
    }
}

#[test]
fn unknown_ignores_the_rest_of_its_line() {
    for rest in [
        &b" "[..],
        b" \r",
        b"  a b c d e f g h i",
        b" \n\n\r\r",
        b" \0\xff\xfe",
        b" 192.0.2.1 198.51.100.2 1 2",
    ] {
        let line = [b"PROXY UNKNOWN", rest, b"\r\n"].concat();
        assert_whole(&line);
        assert_eq!(header(&line).origin, Origin::Socket);
    }
}

#[test]
fn a_line_ends_within_107_bytes() {
    let line = |begin: &str, length: usize| {
        let mut line = begin.to_owned().into_bytes();
        line.resize(length - 2, b'x');
        line.extend_from_slice(b"\r\n");
        line
    };
    let unknown = "PROXY UNKNOWN ";
    assert_whole(&line(unknown, 107));
    let longer = line(unknown, 108);
    assert_eq!(verdict(&longer), (107, Read::Bad(Fault::LineLength)));

    // As long as that no line with addresses can be right, but at 107 bytes it is a line.
    let tcp4 = "PROXY TCP4 192.0.2.1 198.51.100.2 1 2";
    let port = Fault::Field(Field::DestinationPort);
    assert_eq!(fault_at_the_end(&line(tcp4, 107)), port);
    for too_long in [line(tcp4, 108), line(tcp4, 4096)] {
        assert_eq!(verdict(&too_long), (107, Read::Bad(Fault::LineLength)));
    }
}

#[test]
fn a_wrong_protocol_is_told_at_its_first_wrong_byte() {
    for bytes in [
        &b"PROXYx"[..],
        b"PROXY\t",
        b"PROXY\r",
        b"PROXY  ",
        b"PROXY t",
        b"PROXY TCP5",
        b"PROXY TCP4\t",
        b"PROXY TCP4\r",
        b"PROXY TCP46",
        b"PROXY UD",
        b"PROXY u",
        b"PROXY UNKNOWN4",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWN\r\r",
        b"PROXY UNI",
    ] {
        assert_eq!(fault_at_the_end(bytes), Fault::Protocol);
    }
}

#[test]
fn a_line_ends_in_crlf_and_nothing_else() {
    for bytes in [
        &b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\n"[..],
        b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\r",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\rG",
        b"PROXY TCP4 \n",
        b"PROXY TCP6 ::1\rx",
    ] {
        assert_eq!(fault_at_the_end(bytes), Fault::LineEnd);
    }
    // Its end never comes.
    let endless = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443";
    assert_eq!(verdict(endless), (endless.len(), Read::Incomplete));
}

#[test]
fn between_fields_there_is_one_space_and_nothing_else() {
    for line in [
        "PROXY TCP4 \r\n",
        "PROXY TCP4 192.0.2.1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 40000\r\n",
        "PROXY TCP4 192.0.2.1  198.51.100.2 40000 443\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 40000 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 40000 443 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 40000 443 5\r\n",
        "PROXY TCP6 ::1 ::2 1 2 3 4 5 6\r\n",
    ] {
        assert_eq!(fault_at_the_end(line.as_bytes()), Fault::Fields, "{line}");
    }
}

#[test]
fn addresses_are_of_the_family_and_in_their_only_form() {
    for (protocol, wrong) in [
        ("TCP4", "01.2.3.4"),
        ("TCP4", "1.2.3.04"),
        ("TCP4", "1.2.3.256"),
        ("TCP4", "1.2.3"),
        ("TCP4", "1.2.3.4.5"),
        ("TCP4", "1.2.3.4."),
        ("TCP4", "0x1.2.3.4"),
        ("TCP4", "+1.2.3.4"),
        ("TCP4", "16909060"),
        ("TCP4", "::1"),
        ("TCP4", "::ffff:1.2.3.4"),
        ("TCP4", ""),
        ("TCP4", "\t1.2.3.4"),
        ("TCP4", "1.2.3.4\0"),
        ("TCP4", "1.2.3.\u{664}"),
        ("TCP4", "localhost"),
        ("TCP6", "1.2.3.4"),
        ("TCP6", "[::1]"),
        ("TCP6", "::1%eth0"),
        ("TCP6", "1::2::3"),
        ("TCP6", "1:2:3:4:5:6:7"),
        ("TCP6", "1:2:3:4:5:6:7:8:9"),
        ("TCP6", "1:2:3:4:5:6:7:12345"),
        ("TCP6", "1:2:3:4:5:6:7:g"),
        ("TCP6", ":1:2:3:4:5:6:7"),
        ("TCP6", "::ffff:01.2.3.4"),
        ("TCP6", ""),
    ] {
        let right = if protocol == "TCP4" { "1.2.3.4" } else { "::1" };
        for (source, destination, field) in [
            (wrong, right, Field::SourceAddress),
            (right, wrong, Field::DestinationAddress),
        ] {
            let line = format!("PROXY {protocol} {source} {destination} 1 2\r\n");
            let fault = fault_at_the_end(line.as_bytes());
            assert_eq!(fault, Fault::Field(field), "{line}");
        }
    }
    let line = b"PROXY TCP4 1.2.3.4 1.2.\xff.4 1 2\r\n";
    let fault = Fault::Field(Field::DestinationAddress);
    assert_eq!(fault_at_the_end(line), fault);
}

#[test]
fn ports_are_numbers_up_to_65535_in_their_only_form() {
    let line = |source: &str, destination: &str| {
        format!("PROXY TCP4 1.2.3.4 5.6.7.8 {source} {destination}\r\n").into_bytes()
    };
    for right in ["0", "1", "65535"] {
        assert_whole(&line(right, right));
    }
    for wrong in [
        "65536",
        "99999",
        "4294967296",
        "-1",
        "+80",
        "080",
        "00",
        "0x50",
        "80.",
        "http",
        "",
        "\u{661}",
    ] {
        let source = fault_at_the_end(&line(wrong, "1"));
        assert_eq!(source, Fault::Field(Field::SourcePort), "{wrong}");
        let destination = fault_at_the_end(&line("1", wrong));
        assert_eq!(destination, Fault::Field(Field::DestinationPort), "{wrong}");
    }
}
