//! One request by HTTP/1.1 and the status of its answer: bytes in, a number out.

use crate::config::model::HttpProbe;

use super::{ANSWER_BYTES_MAX, Failure, Judged};

/// The request of a probe, with `host` for a probe that names none.
pub fn request(probe: &HttpProbe, host: &str) -> Vec<u8> {
    let (method, path) = (&probe.method, &probe.path);
    let host = probe.host.as_deref().unwrap_or(host);
    let agent = concat!("ringlane/", env!("CARGO_PKG_VERSION"));
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes()
}

/// Judges the answer so far; the body does not count.
///
/// # Errors
/// Why it is bad, whatever follows.
pub fn judge(probe: &HttpProbe, answer: &[u8]) -> Result<Judged, Failure> {
    match status(answer) {
        Some(Ok(status)) if probe.status.iter().any(|good| good.contains(&status)) => {
            Ok(Judged::Good)
        }
        Some(Ok(status)) => Err(Failure::Status(status)),
        Some(Err(())) => Err(Failure::NotHttp),
        None if answer.len() >= ANSWER_BYTES_MAX => Err(Failure::NotHttp),
        None => Ok(Judged::Open),
    }
}

/// The status of the final answer; `None`: it is not there yet.
fn status(mut answer: &[u8]) -> Option<Result<u16, ()>> {
    loop {
        let Some(end) = answer.iter().position(|&byte| byte == b'\n') else {
            return could_be_http(answer).err().map(Err);
        };
        let (line, rest) = answer.split_at(end);
        let Some(status) = of_line(line) else {
            return Some(Err(()));
        };
        // What is only a sign of life (RFC 9110 §15.2) is followed by the answer; 101 is the answer.
        if !(100..200).contains(&status) || status == 101 {
            return Some(Ok(status));
        }
        answer = after_fields(rest)?;
    }
}

/// RFC 9112 §4: `HTTP/1.1 200 OK`, of which the reason may be missing.
fn of_line(line: &[u8]) -> Option<u16> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let rest = rest.strip_prefix(b" ").filter(|_| minor.is_ascii_digit())?;
    let (digits, rest) = rest.split_at_checked(3)?;
    let is_whole = rest.first().is_none_or(|&byte| byte == b' ');
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (is_whole && is_number && (100..=599).contains(&status)).then_some(status)
}

/// A line that is not whole yet: whether it can become one.
fn could_be_http(line: &[u8]) -> Result<(), ()> {
    const BEGINNING: &[u8] = b"HTTP/1.";
    let same = line.len().min(BEGINNING.len());
    if line.get(..same) == BEGINNING.get(..same) {
        Ok(())
    } else {
        Err(())
    }
}

/// What follows the empty line after a header, which begins with the end of its first line.
fn after_fields(rest: &[u8]) -> Option<&[u8]> {
    let ends: [&[u8]; 2] = [b"\n\r\n", b"\n\n"];
    let found = ends.iter().filter_map(|end| {
        let at = rest.windows(end.len()).position(|bytes| bytes == *end)?;
        Some(at + end.len())
    });
    rest.get(found.min()?..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(status: &[std::ops::RangeInclusive<u16>]) -> HttpProbe {
        HttpProbe {
            method: "HEAD".into(),
            path: "/up?deep=1".into(),
            host: None,
            status: status.to_vec(),
        }
    }

    #[test]
    fn request_names_its_host() {
        let text = |probe: &HttpProbe| String::from_utf8(request(probe, "10.0.0.1:80")).unwrap();
        let mut probe = probe(&[]);
        let head = "HEAD /up?deep=1 HTTP/1.1\r\nHost: 10.0.0.1:80\r\n";
        assert!(text(&probe).starts_with(head) && text(&probe).ends_with("\r\n\r\n"));
        probe.host = Some("www.internal".into());
        assert!(text(&probe).contains("\r\nHost: www.internal\r\n"));
    }

    #[test]
    fn ranges_say_which_answers_are_good() {
        let probe = probe(&[200..=299, 401..=401]);
        for (status, good) in [
            (200, true),
            (299, true),
            (300, false),
            (401, true),
            (503, false),
        ] {
            let answer = format!("HTTP/1.1 {status} Whatever\r\nA: b\r\n\r\n");
            let expected = if good {
                Ok(Judged::Good)
            } else {
                Err(Failure::Status(status))
            };
            assert_eq!(judge(&probe, answer.as_bytes()), expected);
        }
    }

    #[test]
    fn answer_is_judged_wherever_it_is_cut() {
        let probe = probe(&[200..=200]);
        let answer =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 103\r\nLink: x\r\n\r\nHTTP/1.1 200\r\n";
        for cut in 0..answer.len() {
            assert_eq!(judge(&probe, &answer[..cut]), Ok(Judged::Open), "{cut}");
        }
        assert_eq!(judge(&probe, answer), Ok(Judged::Good));
        assert_eq!(judge(&probe, b"HTTP/1.1 200 \n"), Ok(Judged::Good));
    }

    #[test]
    fn what_is_not_http_is_told_at_once() {
        let probe = probe(&[100..=599]);
        for wrong in [
            "SSH-2.0-x",
            "HTTP/2 200 OK\r\n",
            "HTTP/1.1 20 OK\r\n",
            "HTTP/1.1 2000 OK\r\n",
            "HTTP/1.1  200 OK\r\n",
            "HTTP/1.1 600 X\r\n",
            "HTTP/1.x 200 X\r\n",
            "\r\n",
        ] {
            assert_eq!(
                judge(&probe, wrong.as_bytes()),
                Err(Failure::NotHttp),
                "{wrong}"
            );
        }
        let mut endless = b"HTTP/1.1 200 ".to_vec();
        endless.resize(ANSWER_BYTES_MAX - 1, b'x');
        assert_eq!(judge(&probe, &endless), Ok(Judged::Open));
        endless.push(b'x');
        assert_eq!(judge(&probe, &endless), Err(Failure::NotHttp));
    }

    #[test]
    fn switching_protocols_is_an_answer() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\n";
        assert_eq!(judge(&probe(&[101..=101]), answer), Ok(Judged::Good));
    }
}
