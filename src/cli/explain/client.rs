//! The client that is asked about, as the command line describes it.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::Explain;
use crate::sni::name_asked;

/// What is read of a captured hello, bytes: more than any listener looks at.
const CAPTURE_BYTES_MAX: u64 = 1 << 20;

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    /// Where it comes from, as far as that is known.
    pub(super) source: Option<IpAddr>,
    pub(super) said: Said,
}

/// What it says first.
#[derive(Debug)]
pub(super) enum Said {
    /// These bytes, at least one.
    Bytes(Vec<u8>),
    /// Some ClientHello that asks for this.
    Tls(Wishes),
    /// Something that is not TLS.
    Plain,
}

/// What a ClientHello asks for.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) name: Option<Box<str>>,
    /// Each of 1 to 255 bytes.
    pub(super) alpn: Vec<Arc<str>>,
    pub(super) ja4: Option<String>,
}

impl Client {
    pub(super) fn read(flags: &Explain) -> Result<Self, String> {
        let said = match &flags.hello {
            Some(path) => Said::Bytes(capture(path)?),
            None if flags.plain => Said::Plain,
            None => Said::Tls(Wishes::read(flags)?),
        };
        Ok(Self {
            source: flags.src,
            said,
        })
    }
}

impl Wishes {
    fn read(flags: &Explain) -> Result<Self, String> {
        let name = flags.sni.as_deref().map(name_asked).transpose();
        let name = name.map_err(|_| {
            let text = flags.sni.as_deref().unwrap_or_default();
            format!("--sni: got {text:?}, expected a host name")
        })?;
        // RFC 7301 §3.1.
        let fits = |protocol: &&String| (1..=255).contains(&protocol.len());
        if let Some(protocol) = flags.alpn.iter().find(|one| !fits(one)) {
            return Err(format!(
                "--alpn: got {protocol:?}, expected protocols of 1 to 255 bytes"
            ));
        }
        Ok(Self {
            name: name.flatten(),
            alpn: flags.alpn.iter().map(|one| Arc::from(&**one)).collect(),
            ja4: flags.ja4.clone(),
        })
    }
}

fn capture(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        let mut input = io::stdin().lock().take(CAPTURE_BYTES_MAX);
        input.read_to_end(&mut bytes)
    } else {
        let file = File::open(path);
        file.and_then(|file| file.take(CAPTURE_BYTES_MAX).read_to_end(&mut bytes))
    };
    let shown = path.display();
    match read {
        Ok(0) => Err(format!(
            "--hello {shown}: it is empty, expected the bytes of a ClientHello"
        )),
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("--hello {shown}: {error}")),
    }
}
