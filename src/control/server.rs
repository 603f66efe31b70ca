//! The admin server: few connections, each bounded in time and size, none of which can hold up
//! another.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::admin::access::Peer;
use crate::admin::answer::{Answer, Asked, Decision, decide, reloaded};
use crate::admin::socket::AdminSocket;
use crate::admin::{Reloaded, Surface};
use crate::base::clock::now_coarse;
use crate::base::seldom::Seldom;

/// Connections served at once; more wait in the socket's queue.
const CONNECTIONS_MAX: usize = 64;

/// For the head of a request, from the connection or the response before it: the idle bound too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// For the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest body, bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest head, bytes, and the most that is buffered of what a client has not read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// After this long a connection ends with its current response, so that a client that reads slowly
/// keeps its place for a bounded time only.
const LIFETIME: Duration = Duration::from_secs(60);

/// For the last response of a connection that has to end.
const LAST_RESPONSE: Duration = Duration::from_secs(10);

/// The server and the socket that it serves, if any.
pub(super) struct Server {
    shared: Arc<Shared>,
    /// Dropped to make the listener and its connections end.
    serving: Option<watch::Sender<()>>,
}

struct Shared {
    surface: Arc<Surface>,
    slots: Arc<Semaphore>,
    /// One reload at a time: each has a thread of its own while it runs.
    reload: Arc<Semaphore>,
}

impl Server {
    /// Serves nothing so far.
    pub(super) fn new(surface: Arc<Surface>) -> Self {
        Self {
            shared: Arc::new(Shared {
                surface,
                slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
                reload: Arc::new(Semaphore::new(1)),
            }),
            serving: None,
        }
    }

    /// Serves `socket` in place of the one before.
    pub(super) fn serve(&mut self, socket: Option<AdminSocket>) {
        self.serving = socket.map(|socket| {
            let (serving, ended) = watch::channel(());
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                if let Err(error) = listen(socket, shared, ended).await {
                    tracing::error!("admin listener: {error}");
                }
            });
            serving
        });
    }

    /// Ends all connections after their current responses, for which it waits a second.
    pub(super) async fn stop(mut self) {
        const LAST_WAIT: Duration = Duration::from_secs(1);
        self.serving = None;
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let _ = timeout(LAST_WAIT, self.shared.slots.acquire_many(all)).await;
    }
}

async fn listen(
    socket: AdminSocket,
    shared: Arc<Shared>,
    mut ended: watch::Receiver<()>,
) -> io::Result<()> {
    // Bound to a name, since dropping it removes the socket's file.
    let (listener, _file) = match socket {
        AdminSocket::Tcp(listener) => (Listener::Tcp(TcpListener::from_std(listener)?), None),
        AdminSocket::Unix(listener, file) => (
            Listener::Unix(UnixListener::from_std(listener)?),
            Some(file),
        ),
    };
    let told = ended.clone();
    let mut seldom = Seldom::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(&shared, &told) => accepted,
            _ = ended.changed() => return Ok(()),
        };
        if let Err(error) = accepted {
            // Out of descriptors, most likely; those of the admin server alone are bounded.
            if seldom.is_due(now_coarse()) {
                tracing::warn!("admin listener: accept: {error}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Waits for a free slot, then for a connection, and starts serving it.
    async fn accept(&self, shared: &Arc<Shared>, ended: &watch::Receiver<()>) -> io::Result<()> {
        let slot = Arc::clone(&shared.slots)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let visit = |peer| Visit {
            peer,
            shared: Arc::clone(shared),
            ended: ended.clone(),
            slot,
        };
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(visit(Peer::of(address)).serve(stream));
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(visit(Peer::Unix).serve(stream));
            }
        }
        Ok(())
    }
}

/// One connection.
struct Visit {
    peer: Peer,
    shared: Arc<Shared>,
    ended: watch::Receiver<()>,
    slot: OwnedSemaphorePermit,
}

impl Visit {
    async fn serve(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let (peer, shared) = (self.peer, Arc::clone(&self.shared));
        let service = service_fn(move |request| respond(request, peer, Arc::clone(&shared)));
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service)
        );
        tokio::select! {
            // Its errors are those of the client: a head cut short, a reset, a timeout.
            _ = connection.as_mut() => return,
            _ = self.ended.changed() => {}
            () = sleep(LIFETIME) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_RESPONSE, connection).await;
        drop(self.slot);
    }
}

async fn respond(
    request: Request<Incoming>,
    peer: Peer,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    if let Err(answer) = read(body).await {
        let mut response = response(answer);
        // The rest of the body may still be on its way; do not take it for a request.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        return Ok(response);
    }
    let asked = Asked {
        method: &head.method,
        path: head.uri.path(),
        headers: &head.headers,
        peer,
    };
    Ok(response(match decide(&shared.surface, asked) {
        Decision::Answer(answer) => answer,
        Decision::Reload => reloaded(reload(&shared).await),
    }))
}

/// Reads a body and forgets it: no request that is served so far has a use for one.
async fn read(body: Incoming) -> Result<(), Answer> {
    match timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Answer::line(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is longer than 64 KiB",
        )),
        Ok(Err(_)) => Err(Answer::line(StatusCode::BAD_REQUEST, "the body is broken")),
        Err(_) => Err(Answer::line(
            StatusCode::REQUEST_TIMEOUT,
            "the body took longer than 5 s",
        )),
    }
}

/// Runs the reload on a thread that lives as long as the reload does.
async fn reload(shared: &Shared) -> Reloaded {
    let Ok(only) = Arc::clone(&shared.reload).try_acquire_owned() else {
        return Reloaded::Busy;
    };
    let surface = Arc::clone(&shared.surface);
    let (done, result) = oneshot::channel();
    let started = thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || {
            let result = (surface.reload)();
            drop(only);
            // Nobody listens any more where the client has gone away.
            let _ = done.send(result);
        });
    let outcome = match started {
        Ok(_) => result.await.map_err(|_| "the reload broke off".to_owned()),
        Err(error) => Err(format!("thread for the reload: {error}")),
    };
    outcome.unwrap_or_else(|report| Reloaded::Rejected {
        report: format!("{report}\n"),
    })
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if let Some((name, value)) = answer.extra {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}
