//! The demo's backends: two HTTP responders and an echo, on one thread.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The most that `/bytes/N` sends.
pub(super) const BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Where the backends are.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) red: SocketAddr,
    pub(super) blue: SocketAddr,
    pub(super) echo: SocketAddr,
}

/// Starts the backends, which run until the process ends.
pub(super) fn start() -> io::Result<Addresses> {
    let (started, addresses) = mpsc::channel();
    thread::Builder::new()
        .name("demo".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(serve(&started)),
                // The other side waits for exactly one message.
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
    addresses
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the backends' thread ended")))
}

async fn serve(started: &mpsc::Sender<io::Result<Addresses>>) {
    let bound = async {
        Ok((
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        ))
    };
    let outcome: io::Result<_> = bound.await;
    let told = outcome.and_then(|(red, blue, echo)| {
        let addresses = Addresses {
            red: red.local_addr()?,
            blue: blue.local_addr()?,
            echo: echo.local_addr()?,
        };
        Ok((addresses, red, blue, echo))
    });
    match told {
        Ok((addresses, red, blue, echo)) => {
            let _ = started.send(Ok(addresses));
            tokio::join!(
                accept(red, |stream| respond(stream, "red")),
                accept(blue, |stream| respond(stream, "blue")),
                accept(echo, repeat),
            );
        }
        Err(error) => drop(started.send(Err(error))),
    }
}

async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it only the latency is worse.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream));
            }
            // Out of descriptors: others get their turn, and some connection its end.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn respond(stream: TcpStream, name: &'static str) {
    let service = service_fn(move |request: Request<_>| {
        let response = answer(name, request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    // Errors are those of the client, which knows them.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(name: &'static str, path: &str) -> Response<Content> {
    let bytes = path.strip_prefix("/bytes/").map(str::parse);
    let (status, content) = match bytes {
        None => (
            StatusCode::OK,
            Content::text(format!("hello from {name}\n")),
        ),
        Some(Ok(bytes @ 0..=BYTES_MAX)) => (StatusCode::OK, Content::filler(bytes)),
        Some(_) => (
            StatusCode::NOT_FOUND,
            Content::text(format!("/bytes/N takes 0 to {BYTES_MAX}\n")),
        ),
    };
    let mut response = Response::new(content);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("x-backend", HeaderValue::from_static(name));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// What is sent: one block, as often as needed.
struct Content {
    block: Bytes,
    left: u64,
}

impl Content {
    fn text(text: String) -> Self {
        Self {
            left: text.len() as u64,
            block: Bytes::from(text),
        }
    }

    fn filler(bytes: u64) -> Self {
        static BLOCK: [u8; 64 * 1024] = [b'.'; 64 * 1024];
        Self {
            left: bytes,
            block: Bytes::from_static(&BLOCK),
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length =
            usize::try_from(self.left).map_or(self.block.len(), |left| left.min(self.block.len()));
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(self.block.slice(..length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

async fn repeat(mut stream: TcpStream) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};

    use super::*;

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn backends_name_themselves_and_send_what_is_asked_for() {
        let addresses = start().unwrap();
        assert!(ask(addresses.red, "/").ends_with("\r\n\r\nhello from red\n"));
        assert!(ask(addresses.blue, "/any").ends_with("\r\n\r\nhello from blue\n"));
        let response = ask(addresses.red, "/bytes/200001");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-length: 200001"), "{head}");
        assert_eq!(body.len(), 200_001);
        for path in ["/bytes/", "/bytes/x", "/bytes/1073741825", "/bytes/-1"] {
            assert!(
                ask(addresses.red, path).starts_with("HTTP/1.1 404"),
                "{path}"
            );
        }
    }

    #[test]
    fn the_echo_sends_everything_back_and_then_ends() {
        let addresses = start().unwrap();
        let mut stream = TcpStream::connect(addresses.echo).unwrap();
        stream.write_all(b"around").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"around");
    }
}
