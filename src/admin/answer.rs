//! A request that has been read in, an answer or the wish for a reload out.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;

use hyper::{HeaderMap, Method, StatusCode};

use super::access::{Peer, Refusal, may_change};
use super::{CONFIGURATION_HEADER, Reloaded, Surface, real_path};

/// What a client asks, without its body: nothing served so far takes one.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// GET, POST and so on.
    pub method: &'a Method,
    /// The path without the query.
    pub path: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// Who asks.
    pub peer: Peer,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The media type of `body`.
    pub content_type: &'static str,
    /// One more header, where the status asks for one (`Allow`, `WWW-Authenticate`).
    pub extra: Option<(&'static str, &'static str)>,
    /// What is sent; left out by the server where the method is HEAD.
    pub body: String,
}

/// What to do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send this.
    Answer(Answer),
    /// Call [`Surface::reload`], which blocks, and send what [`reloaded`] makes of it.
    Reload,
}

/// Decides about one request.
pub fn decide(surface: &Surface, asked: Asked<'_>) -> Decision {
    let Some(page) = Page::at(asked.path) else {
        return Decision::Answer(Answer::line(StatusCode::NOT_FOUND, "not found; see /"));
    };
    if !page.takes(asked.method) {
        let mut answer = Answer::line(
            StatusCode::METHOD_NOT_ALLOWED,
            &format!("use {}", page.allow()),
        );
        answer.extra = Some(("allow", page.allow()));
        return Decision::Answer(answer);
    }
    Decision::Answer(match page {
        Page::Index => Answer::text(StatusCode::OK, INDEX.to_owned()),
        Page::Healthz => match (surface.healthy)() {
            Ok(()) => Answer::line(StatusCode::OK, "ok"),
            Err(what) => Answer::line(StatusCode::SERVICE_UNAVAILABLE, &what),
        },
        Page::Ready if !surface.ready.load(Ordering::Relaxed) => {
            Answer::line(StatusCode::SERVICE_UNAVAILABLE, "not ready")
        }
        Page::Ready if surface.signal.is_unready() => {
            Answer::line(StatusCode::SERVICE_UNAVAILABLE, "overloaded")
        }
        Page::Ready => Answer::line(StatusCode::OK, "ready"),
        Page::Metrics => Answer {
            // The text format of Prometheus, which other collectors read as well.
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            ..Answer::text(StatusCode::OK, (surface.metrics)())
        },
        Page::Reload => {
            let token = surface.token.read();
            match may_change(asked.headers, asked.peer, token.as_deref()) {
                Ok(()) => match other_file(surface, asked.headers) {
                    None => return Decision::Reload,
                    Some(answer) => answer,
                },
                Err(refusal) => refused(refusal),
            }
        }
    })
}

/// What to answer a client that means the ringlane of another configuration file.
fn other_file(surface: &Surface, headers: &HeaderMap) -> Option<Answer> {
    let meant = headers.get(CONFIGURATION_HEADER)?.as_bytes();
    let running = real_path(surface.source.as_deref()?);
    (meant != running.as_os_str().as_bytes()).then(|| {
        let meant = String::from_utf8_lossy(meant);
        let line = format!("this ringlane runs {}, not {meant}", running.display());
        Answer::line(StatusCode::CONFLICT, &line)
    })
}

/// What a client that asked for a reload is told.
pub fn reloaded(result: Reloaded) -> Answer {
    match result {
        Reloaded::Applied(applied) => {
            let json = serde_json::to_string(&applied).expect("numbers and texts make JSON");
            Answer {
                content_type: "application/json",
                ..Answer::text(StatusCode::OK, format!("{json}\n"))
            }
        }
        Reloaded::Rejected { report } => Answer::text(StatusCode::UNPROCESSABLE_ENTITY, report),
        Reloaded::Busy => Answer::line(StatusCode::CONFLICT, "another reload is under way"),
        Reloaded::Stopping => Answer::line(StatusCode::SERVICE_UNAVAILABLE, "ringlane is stopping"),
    }
}

impl Answer {
    /// A plain text that ends its own lines.
    pub const fn text(status: StatusCode, body: String) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            extra: None,
            body,
        }
    }

    /// One line of plain text.
    pub fn line(status: StatusCode, line: &str) -> Self {
        Self::text(status, format!("{line}\n"))
    }
}

const INDEX: &str = "\
ringlane

GET  /healthz   200 while every worker ticks
GET  /ready     200 while new connections are wanted
GET  /metrics   all metrics, for Prometheus
POST /reload    read the configuration again
";

/// What is served.
#[derive(Clone, Copy)]
enum Page {
    Index,
    Healthz,
    Ready,
    Metrics,
    Reload,
}

impl Page {
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Index,
            "/healthz" => Self::Healthz,
            "/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/reload" => Self::Reload,
            _ => return None,
        })
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Reload => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    const fn allow(self) -> &'static str {
        match self {
            Self::Reload => "POST",
            _ => "GET, HEAD",
        }
    }
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::Token => Answer {
            // RFC 6750 §3 wants the scheme named.
            extra: Some(("www-authenticate", "Bearer")),
            ..Answer::line(StatusCode::UNAUTHORIZED, refusal.as_str())
        },
        Refusal::Origin | Refusal::Host | Refusal::Remote => {
            Answer::line(StatusCode::FORBIDDEN, refusal.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use hyper::header::HeaderValue;
    use parking_lot::RwLock;

    use super::*;
    use crate::admin::Applied;
    use crate::config::model::{OverloadAction, OverloadReady};

    fn surface(healthy: Result<(), String>) -> Surface {
        Surface {
            metrics: Box::new(|| "ringlane_up 1\n".to_owned()),
            healthy: Box::new(move || healthy.clone()),
            ready: AtomicBool::new(false),
            signal: Arc::default(),
            reload: Box::new(|| Reloaded::Busy),
            token: RwLock::new(None),
            source: None,
        }
    }

    fn ask(surface: &Surface, method: &Method, path: &str, peer: Peer) -> Decision {
        let headers = HeaderMap::new();
        decide(
            surface,
            Asked {
                method,
                path,
                headers: &headers,
                peer,
            },
        )
    }

    fn answer(surface: &Surface, method: &Method, path: &str) -> Answer {
        match ask(surface, method, path, Peer::Remote) {
            Decision::Answer(answer) => answer,
            Decision::Reload => panic!("{method} {path} reloads"),
        }
    }

    #[test]
    fn every_page_of_the_index_is_served() {
        let surface = surface(Ok(()));
        let index = answer(&surface, &Method::GET, "/").body;
        let mut pages = 0;
        for line in index.lines().filter(|line| line.contains('/')) {
            let mut words = line.split_whitespace();
            let method = words.next().unwrap().parse::<Method>().unwrap();
            let path = words.next().unwrap();
            match ask(&surface, &method, path, Peer::Loopback) {
                Decision::Answer(answer) => assert_ne!(answer.status, StatusCode::NOT_FOUND),
                Decision::Reload => assert_eq!(path, "/reload"),
            }
            pages += 1;
        }
        assert_eq!(pages, 4);
    }

    #[test]
    fn a_stuck_worker_is_named() {
        let answer_ok = answer(&surface(Ok(())), &Method::GET, "/healthz");
        assert_eq!((answer_ok.status.as_u16(), &*answer_ok.body), (200, "ok\n"));
        let stuck = surface(Err("worker 3 is stuck".to_owned()));
        let answer = answer(&stuck, &Method::GET, "/healthz");
        assert_eq!(
            (answer.status.as_u16(), &*answer.body),
            (503, "worker 3 is stuck\n")
        );
    }

    #[test]
    fn readiness_follows_its_flag() {
        let surface = surface(Ok(()));
        assert_eq!(
            answer(&surface, &Method::GET, "/ready").status.as_u16(),
            503
        );
        surface.ready.store(true, Ordering::Relaxed);
        assert_eq!(
            answer(&surface, &Method::HEAD, "/ready").status.as_u16(),
            200
        );
        let signal = &surface.signal;
        signal.raise(OverloadAction::Pause, OverloadReady::Keep);
        assert_eq!(answer(&surface, &Method::GET, "/ready").body, "ready\n");
        signal.raise(OverloadAction::Pause, OverloadReady::Fail);
        let overloaded = answer(&surface, &Method::GET, "/ready");
        assert_eq!(
            (overloaded.status.as_u16(), &*overloaded.body),
            (503, "overloaded\n")
        );
        assert_eq!(answer(&surface, &Method::GET, "/healthz").body, "ok\n");
    }

    #[test]
    fn metrics_carry_the_type_of_their_format() {
        let answer = answer(&surface(Ok(())), &Method::GET, "/metrics");
        assert!(answer.content_type.starts_with("text/plain; version=0.0.4"));
        assert_eq!(answer.body, "ringlane_up 1\n");
    }

    #[test]
    fn wrong_methods_and_unknown_paths_are_told_apart() {
        let surface = surface(Ok(()));
        let wrong = answer(&surface, &Method::POST, "/metrics");
        assert_eq!(wrong.status.as_u16(), 405);
        assert_eq!(wrong.extra, Some(("allow", "GET, HEAD")));
        let wrong = answer(&surface, &Method::GET, "/reload");
        assert_eq!(wrong.status.as_u16(), 405);
        assert_eq!(wrong.extra, Some(("allow", "POST")));
        for path in ["/nothing", "/metrics/", "*", ""] {
            assert_eq!(answer(&surface, &Method::GET, path).status.as_u16(), 404);
        }
    }

    #[test]
    fn a_reload_needs_leave() {
        let surface = surface(Ok(()));
        assert_eq!(
            ask(&surface, &Method::POST, "/reload", Peer::Loopback),
            Decision::Reload
        );
        assert_eq!(
            answer(&surface, &Method::POST, "/reload").status.as_u16(),
            403
        );
        *surface.token.write() = Some("secret".to_owned());
        let unauthorized = answer(&surface, &Method::POST, "/reload");
        assert_eq!(unauthorized.status.as_u16(), 401);
        assert_eq!(unauthorized.extra, Some(("www-authenticate", "Bearer")));
        assert!(!format!("{surface:?} {unauthorized:?}").contains("secret"));
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer secret"));
        let asked = Asked {
            method: &Method::POST,
            path: "/reload",
            headers: &headers,
            peer: Peer::Remote,
        };
        assert_eq!(decide(&surface, asked), Decision::Reload);
    }

    #[test]
    fn who_means_another_configuration_file_is_refused() {
        let mut surface = surface(Ok(()));
        surface.source = Some("/etc/../nonexistent/b.toml".into());
        let decided = |meant: &[u8]| {
            let mut headers = HeaderMap::new();
            let meant = HeaderValue::from_bytes(meant).unwrap();
            headers.insert(CONFIGURATION_HEADER, meant);
            let asked = Asked {
                method: &Method::POST,
                path: "/reload",
                headers: &headers,
                peer: Peer::Unix,
            };
            decide(&surface, asked)
        };
        let running = real_path(surface.source.as_deref().unwrap());
        assert_eq!(decided(running.as_os_str().as_bytes()), Decision::Reload);
        let Decision::Answer(answer) = decided(b"/nonexistent/\xffa.toml") else {
            panic!("reloads");
        };
        assert_eq!(answer.status.as_u16(), 409);
        assert!(
            answer.body.contains("b.toml, not /nonexistent/"),
            "{answer:?}"
        );
    }

    #[test]
    fn the_result_of_a_reload_is_told() {
        let applied = reloaded(Reloaded::Applied(Applied {
            version: 4,
            changes: vec!["pool \"a\": backend \"b\" added".to_owned()],
            warnings: String::new(),
        }));
        assert_eq!(applied.status.as_u16(), 200);
        let json: serde_json::Value = serde_json::from_str(&applied.body).unwrap();
        assert_eq!(json["version"], 4);
        assert_eq!(json["changes"][0], "pool \"a\": backend \"b\" added");
        let rejected = reloaded(Reloaded::Rejected {
            report: "ringlane.toml:1:1: no\n".to_owned(),
        });
        assert_eq!(
            (rejected.status.as_u16(), &*rejected.body),
            (422, "ringlane.toml:1:1: no\n")
        );
        assert_eq!(reloaded(Reloaded::Busy).status.as_u16(), 409);
        assert_eq!(reloaded(Reloaded::Stopping).status.as_u16(), 503);
    }
}
