//! Finds a client's way: the look-ups that a session makes, in a session's order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::backends::backends;
use super::client::{Client, Said, Wishes};
use super::shown::{
    Asking, CertificateShown, ClientCertificate, Explanation, HelloRead, LimitsShown, Outcome,
    Refused, Speaks, Taken,
};
use super::skipped::Search;
use crate::base::reason::Reason;
use crate::config::limits_in_force;
use crate::config::model::{self, ClientAuth, Limits, StartTls, Target};
use crate::snapshot::routes::{Asked, Entry, Routes};
use crate::snapshot::{Listener, Pool, Routing, Snapshot};
use crate::sni::{Alert, ClientHello, Sniff, is_grease, ja4, sniff};
use crate::tls::certificates::Loaded;
use crate::tls::live::Terminating;
use crate::tls::rehearsal;

/// The largest hello that is read where the listener does not look at it; `sniff_max` can be no larger.
const HELLO_BYTES_MAX: usize = 64 * 1024;

/// A listener, and what it was configured as.
pub(super) struct Scene<'a> {
    snapshot: &'a Snapshot,
    listener: &'a Listener,
    settings: &'a model::Listener,
}

/// What a hello is like to the handshake that it begins.
struct Handshake<'a> {
    name: Option<&'a str>,
    bytes: &'a [u8],
    /// The signature algorithms that the client knows; `None`: some client's hello.
    algorithms: Option<Vec<u16>>,
}

impl<'a> Scene<'a> {
    pub(super) fn find(snapshot: &'a Snapshot, name: &str) -> Result<Self, String> {
        let listeners = &snapshot.model.listeners;
        let settings = listeners.iter().find(|listener| *listener.name == *name);
        let listener = snapshot.listener_id(name);
        let listener = listener.and_then(|id| snapshot.listener(id));
        let (Some(settings), Some(listener)) = (settings, listener) else {
            let names = listeners.iter().map(|it| format!("\"{}\"", it.name));
            let names: Vec<String> = names.collect();
            let names = names.join(", ");
            return Err(format!(
                "--listener: there is no listener \"{name}\", expected one of {names}"
            ));
        };
        Ok(Self {
            snapshot,
            listener,
            settings,
        })
    }

    pub(super) fn explain(&self, client: &Client) -> Explanation {
        let mut explanation = Explanation {
            listener: self.listener.name.to_string(),
            client: Asking {
                source: client.source,
                speaks: Speaks::Unknown,
                name: None,
                alpn: Vec::new(),
                ja4: None,
            },
            hello: None,
            route: None,
            limits: Vec::new(),
            outcome: Outcome::Passed,
            pool: None,
            skipped: Vec::new(),
            notes: Vec::new(),
        };
        if self.listener.proxy_protocol.is_some() {
            let note = "the listener takes PROXY headers: --src is the client that one names";
            explanation.notes.push(note.to_owned());
        }
        let guard = self.listener.guard.as_deref();
        if let (Some(guard), Some(source)) = (guard, client.source)
            && !guard.is_allowed(source)
        {
            let why = "the listener's lists of networks do not let it in".to_owned();
            explanation.refuse(Reason::Denied, None, why);
            return explanation;
        }
        explanation.limit("listener", &self.settings.limits, client.source);
        match &self.listener.routing {
            Routing::Pool(pool) => {
                if let Said::Bytes(bytes) = &client.said
                    && let Sniff::Hello(hello) = sniff(bytes, HELLO_BYTES_MAX)
                {
                    explanation.read(&hello, bytes.len());
                }
                let note = "the listener has no routes: it sends every client to its pool";
                explanation.notes.push(note.to_owned());
                self.lead_to(pool, client.source, &mut explanation);
            }
            Routing::ByHello(routes) => self.route(routes, client, &mut explanation),
        }
        explanation
    }

    fn route(&self, routes: &Routes, client: &Client, explanation: &mut Explanation) {
        if let Some(StartTls::Postgres) = routes.starttls {
            let note =
                "a client that speaks TLS asks for it in PostgreSQL's way first, or begins at once";
            explanation.notes.push(note.to_owned());
        }
        match &client.said {
            Said::Plain => self.plain(routes, client.source, explanation),
            Said::Tls(wishes) => self.wished(routes, wishes, client.source, explanation),
            Said::Bytes(bytes) => match sniff(bytes, routes.sniff_max) {
                Sniff::Hello(hello) => {
                    explanation.read(&hello, bytes.len());
                    let asked = routes.asked(&hello, client.source);
                    let handshake = Handshake {
                        name: hello.server_name(),
                        bytes,
                        algorithms: Some(hello.signature_algorithms().collect()),
                    };
                    self.by_hello(routes, &asked, Some(&handshake), explanation);
                }
                Sniff::NotTls => self.plain(routes, client.source, explanation),
                Sniff::Bad(fault) => explanation.refuse(
                    Reason::TlsError,
                    Some(fault.alert() as u8),
                    fault.to_string(),
                ),
                Sniff::Incomplete { needs } => {
                    let had = bytes.len();
                    let after = self.listener.timeouts.sniff;
                    explanation.refuse(
                        Reason::SniffTimeout,
                        None,
                        format!(
                            "client hello: cut off after {had} bytes, needs {needs} at least; \
                             the rest is waited for {after:?}"
                        ),
                    );
                }
            },
        }
    }

    fn plain(&self, routes: &Routes, source: Option<IpAddr>, explanation: &mut Explanation) {
        explanation.client.speaks = Speaks::Plain;
        let asked = Asked {
            source,
            ..Asked::default()
        };
        let search = Search {
            routes,
            asked: &asked,
            speaks: Speaks::Plain,
            taken: routes.for_plain(source),
        };
        explanation.found(&search);
        match search.taken {
            Some(entry) => self.follow(entry, source, None, explanation),
            None => explanation.refuse(
                Reason::NoRoute,
                None,
                "no route takes what is not TLS".to_owned(),
            ),
        }
    }

    /// For a client that is described, not captured.
    fn wished(
        &self,
        routes: &Routes,
        wishes: &Wishes,
        source: Option<IpAddr>,
        explanation: &mut Explanation,
    ) {
        let Wishes { name, alpn, ja4 } = wishes;
        let name = name.as_deref();
        explanation.client.name = name.map(str::to_owned);
        explanation.client.alpn = alpn.iter().map(ToString::to_string).collect();
        explanation.client.ja4.clone_from(ja4);
        let asked = Asked {
            name: name.map(Cow::Borrowed),
            alpn: alpn
                .iter()
                .map(|one| Cow::Borrowed(one.as_bytes()))
                .collect(),
            ja4: ja4.clone(),
            source,
        };
        // Some names are host names to us and not to TLS; how that goes on is not known here.
        let bytes = rehearsal::hello(name, alpn);
        let handshake = bytes.as_deref().ok().map(|bytes| Handshake {
            name,
            bytes,
            algorithms: None,
        });
        self.by_hello(routes, &asked, handshake.as_ref(), explanation);
    }

    fn by_hello(
        &self,
        routes: &Routes,
        asked: &Asked<'_>,
        handshake: Option<&Handshake<'_>>,
        explanation: &mut Explanation,
    ) {
        explanation.client.speaks = Speaks::Tls;
        let search = Search {
            routes,
            asked,
            speaks: Speaks::Tls,
            taken: routes.for_hello(asked),
        };
        explanation.found(&search);
        match search.taken {
            Some(entry) => self.follow(entry, asked.source, handshake, explanation),
            None => explanation.refuse(
                Reason::NoRoute,
                Some(Alert::UnrecognizedName as u8),
                "no route takes the client".to_owned(),
            ),
        }
    }

    /// What the route does with its client.
    fn follow(
        &self,
        entry: &Entry,
        source: Option<IpAddr>,
        handshake: Option<&Handshake<'_>>,
        explanation: &mut Explanation,
    ) {
        let Some(pool) = &entry.pool else {
            let why = "the route refuses its clients".to_owned();
            return explanation.refuse(Reason::Denied, None, why);
        };
        if let (Some(guard), Some(source)) = (&entry.guard, source)
            && !guard.is_allowed(source)
        {
            let why = "the route's lists of networks do not let it in".to_owned();
            return explanation.refuse(Reason::Denied, None, why);
        }
        if let Some(entrance) = &entry.route.entrance {
            explanation.limit("route", &entrance.limits, source);
        }
        if let Target::Terminate(_) = entry.route.target
            && let Some(terminating) = &self.listener.tls
        {
            explanation.outcome = self.terminate(entry, terminating, handshake);
            if let Outcome::Refused(_) = explanation.outcome {
                return;
            }
        }
        self.lead_to(pool, source, explanation);
    }

    fn terminate(
        &self,
        entry: &Entry,
        terminating: &Terminating,
        handshake: Option<&Handshake<'_>>,
    ) -> Outcome {
        if let Some(handshake) = handshake
            && let Err(refusal) = rehearsal::answer(terminating, handshake.bytes)
        {
            return Outcome::Refused(Refused {
                reason: Reason::TlsError.as_str(),
                alert: refusal.alert,
                why: refusal.fault.to_string(),
            });
        }
        let index = &terminating.index;
        let certificates = match handshake {
            Some(Handshake {
                name,
                algorithms: Some(algorithms),
                ..
            }) => index.shown_to(*name, algorithms).into_iter().collect(),
            Some(handshake) => index.shown(handshake.name),
            None => Vec::new(),
        };
        Outcome::Terminated {
            certificates: certificates.iter().map(certificate).collect(),
            client_certificate: self.client_certificate(),
            client_names: texts(&entry.route.client_names),
        }
    }

    fn client_certificate(&self) -> ClientCertificate {
        let termination = match &self.settings.routing {
            model::Routing::ByHello(routes) => routes.termination.as_ref(),
            model::Routing::Pool(_) => None,
        };
        match termination.map(|termination| &termination.client_auth) {
            None | Some(ClientAuth::Off) => ClientCertificate::Off,
            Some(ClientAuth::Request(_)) => ClientCertificate::Requested,
            Some(ClientAuth::Require(_)) => ClientCertificate::Required,
        }
    }

    fn lead_to(&self, pool: &Pool, source: Option<IpAddr>, explanation: &mut Explanation) {
        let mut pools = self.snapshot.model.pools.iter();
        let settings = pools.find(|settings| settings.name == pool.name);
        explanation.pool =
            settings.map(|settings| backends((pool, settings), source, &mut explanation.notes));
    }
}

impl Explanation {
    /// Shows what a hello says.
    fn read(&mut self, hello: &ClientHello<'_>, bytes: usize) {
        let fingerprint = ja4(hello);
        self.client.speaks = Speaks::Tls;
        self.client.name = hello.server_name().map(str::to_owned);
        self.client.alpn = hello
            .alpn()
            .map(|one| one.escape_ascii().to_string())
            .collect();
        self.client.ja4 = Some(fingerprint.clone());
        let mut versions: Vec<u16> = hello.supported_versions().collect();
        versions.retain(|version| !is_grease(*version));
        if versions.is_empty() {
            versions.push(hello.version());
        }
        self.hello = Some(HelloRead {
            bytes,
            versions: versions.into_iter().map(version).collect(),
            ja4: fingerprint,
        });
    }

    fn found(&mut self, search: &Search<'_>) {
        self.skipped = search.skipped();
        self.route = search.taken.map(|entry| Taken {
            name: entry.route.name.to_string(),
            place: entry.route.place.to_string(),
            by: search.by(entry),
        });
    }

    fn limit(&mut self, of: &'static str, limits: &Limits, source: Option<IpAddr>) {
        let keys: BTreeMap<_, _> = limits_in_force(limits).into_iter().collect();
        if !keys.is_empty() {
            let is_in = |source: IpAddr| limits.exempt.iter().any(|it| it.contains(&source));
            self.limits.push(LimitsShown {
                of,
                keys,
                is_exempt: source.is_some_and(|source| is_in(source.to_canonical())),
            });
        }
    }

    fn refuse(&mut self, reason: Reason, alert: Option<u8>, why: String) {
        self.outcome = Outcome::Refused(Refused {
            reason: reason.as_str(),
            alert,
            why,
        });
    }
}

fn certificate(loaded: &Loaded) -> CertificateShown {
    CertificateShown {
        name: loaded.title().to_string(),
        key: loaded.kind.as_str(),
        file: loaded.file().display().to_string(),
    }
}

fn version(number: u16) -> String {
    match number {
        0x0300 => "SSL 3".to_owned(),
        0x0301..=0x0304 => format!("1.{}", number - 0x0301),
        other => format!("0x{other:04x}"),
    }
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
