//! `ringlane reload`: asks a running ringlane over its admin listener, and says how it went.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use toml::de::DeTable;

use crate::admin::access::read_token;
use crate::admin::{Applied, CONFIGURATION_HEADER, real_path};
use crate::base::address::Endpoint;
use crate::config::model::Admin;
use crate::config::{self, Machine};

use super::{CONFIG_FILE, EXIT_CONFIGURATION, complain, print};

#[derive(clap::Args, Debug)]
pub(super) struct Reload {
    /// The configuration file that ringlane runs with: says where its admin listener is
    /// [default: /etc/ringlane/ringlane.toml, without --admin]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin listener, in place of the file's: IP:PORT or unix:PATH
    #[arg(long, value_name = "ADDR", value_parser = endpoint)]
    admin: Option<Endpoint>,
}

/// Exits with 0 where the configuration is in use, with 2 where it has faults.
pub(super) fn reload(flags: &Reload) -> ExitCode {
    let file = flags
        .config
        .as_deref()
        .unwrap_or_else(|| Path::new(CONFIG_FILE));
    let configured = admin(file);
    let listen = match &flags.admin {
        Some(named) => Ok(Some(named.clone())),
        None => configured.listen,
    };
    let at = match listen {
        Ok(Some(at)) => at,
        Ok(None) => {
            let file = file.display();
            return fail(&format!("admin.listen is \"off\" in {file}; {OTHERWISE}"));
        }
        Err(message) => return fail(&message),
    };
    // Who names a listener and no file means whichever ringlane is there.
    let is_file_meant = flags.config.is_some() || flags.admin.is_none();
    let token = match configured.token_file.as_deref().map(read_token).transpose() {
        Ok(token) => token,
        Err(error) => return fail(&format!("admin.token_file: {error}; {OTHERWISE}")),
    };
    let wish = Wish {
        token,
        file: is_file_meant.then(|| real_path(file)),
    };
    match ask(&at, &wish) {
        Ok((StatusCode::OK, body)) => print(&applied(&body)),
        Ok((StatusCode::UNPROCESSABLE_ENTITY, report)) => {
            complain(&format!(
                "the configuration was rejected\n{}",
                report.trim_end()
            ));
            ExitCode::from(EXIT_CONFIGURATION)
        }
        Ok((status, body)) => fail(&format!("{at} answered {status}: {}", body.trim_end())),
        Err(error) => fail(&format!(
            "{at}: {error}; is ringlane running there? {OTHERWISE}"
        )),
    }
}

/// What works without the admin listener.
const OTHERWISE: &str = "`kill -HUP PID` (SIGHUP) reloads as well, and logs the result";

fn fail(message: &str) -> ExitCode {
    complain(message);
    ExitCode::FAILURE
}

/// What the configuration says about its admin listener.
struct Configured {
    /// `None`: it is off.
    listen: Result<Option<Endpoint>, String>,
    token_file: Option<PathBuf>,
}

/// `[admin]` of the file, even where it has faults: the running ringlane is to report those.
fn admin(path: &Path) -> Configured {
    let report = match config::load(path, &Machine::here()) {
        Ok(checked) => {
            let Admin { listen, token_file } = checked.model.admin;
            return Configured {
                listen: Ok(listen),
                token_file,
            };
        }
        Err(report) => report,
    };
    let texts = config::texts(path);
    if texts.is_empty() {
        let report = report.render(false);
        return Configured {
            listen: Err(format!("{UNKNOWN}\n{}", report.trim_end())),
            token_file: None,
        };
    }
    salvage(&texts)
}

const UNKNOWN: &str =
    "cannot tell where the admin listener is; name it with --admin ADDR, or send SIGHUP";

/// What a request says.
struct Wish {
    token: Option<String>,
    /// The configuration file that is to be read again.
    file: Option<PathBuf>,
}

/// What can be made out of `[admin]` in broken files, the main one first.
fn salvage(texts: &[String]) -> Configured {
    let roots: Vec<_> = texts
        .iter()
        .map(|text| DeTable::parse_recoverable(text).0)
        .collect();
    let value = |key| {
        let mut tables = roots.iter().filter_map(|root| root.get_ref().get("admin"));
        tables.find_map(|admin| Some(admin.get_ref().as_table()?.get(key)?.get_ref()))
    };
    let listen = match value("listen").map(|listen| listen.as_str().ok_or(listen)) {
        Some(Ok("off")) => Ok(None),
        Some(Ok(text)) => endpoint(text).map(Some).map_err(|_| UNKNOWN.to_owned()),
        Some(Err(_)) => Err(UNKNOWN.to_owned()),
        // It may stand in a file that was not found: another ringlane may have the default.
        None if texts.first().is_some_and(|main| includes(main)) => Err(UNKNOWN.to_owned()),
        None => Ok(Some(DEFAULT_ADMIN)),
    };
    Configured {
        listen,
        token_file: value("token_file")
            .and_then(|path| path.as_str())
            .map(PathBuf::from),
    }
}

/// Whether a main file seems to include others.
fn includes(main: &str) -> bool {
    let (root, _faults) = DeTable::parse_recoverable(main);
    match root.get_ref().get("include").map(|value| value.get_ref()) {
        Some(value) => value.as_array().is_none_or(|patterns| !patterns.is_empty()),
        None => main.lines().any(|line| {
            line.trim_start()
                .trim_start_matches('"')
                .starts_with("include")
        }),
    }
}

const DEFAULT_ADMIN: Endpoint =
    Endpoint::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9900));

fn endpoint(text: &str) -> Result<Endpoint, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("a path must follow `unix:`".to_owned()),
        Some(path) => Ok(Endpoint::Unix(path.into())),
        None => SocketAddr::from_str(text)
            .map(Endpoint::Inet)
            .map_err(|_| "expected IP:PORT, [IPV6]:PORT or unix:PATH".to_owned()),
    }
}

/// The status and the text of the answer.
fn ask(at: &Endpoint, wish: &Wish) -> io::Result<(StatusCode, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match at {
            Endpoint::Inet(address) => {
                let stream = within(CONNECT_TIMEOUT, TcpStream::connect(reachable(*address)));
                exchange(stream.await?, wish).await
            }
            Endpoint::Unix(path) => {
                let stream = within(CONNECT_TIMEOUT, UnixStream::connect(path));
                exchange(stream.await?, wish).await
            }
        }
    })
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A reload may wait for name servers and for the workers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A listener on all addresses is reached over the loopback one.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn within<T>(limit: Duration, outcome: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, outcome)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    wish: &Wish,
) -> io::Result<(StatusCode, String)> {
    let mut request = Request::post("/reload").header(HOST, "localhost");
    if let Some(token) = &wish.token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    // A path with a line break has no place in a header, and goes unsaid.
    let file = wish.file.as_deref().map(|file| file.as_os_str().as_bytes());
    if let Some(Ok(file)) = file.map(HeaderValue::from_bytes) {
        request = request.header(CONFIGURATION_HEADER, file);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    within(ANSWER_TIMEOUT, async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Its errors come out of the request as well.
        tokio::spawn(connection);
        let response = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(io::Error::other)?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok((status, text))
    })
    .await
}

/// The answer of a reload that went well, for people.
fn applied(body: &str) -> String {
    let Ok(applied) = serde_json::from_str::<Applied>(body) else {
        return "reloaded\n".to_owned();
    };
    let mut text = applied.warnings;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str("reloaded: version ");
    text.push_str(&applied.version.to_string());
    if applied.changes.is_empty() {
        text.push_str(", nothing changed");
    }
    text.push('\n');
    for change in &applied.changes {
        text.push_str("  ");
        text.push_str(change);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use parking_lot::RwLock;

    use super::*;
    use crate::admin::socket::bind;
    use crate::admin::{Reloaded, Surface};
    use crate::control::{Control, Strain};
    use crate::metrics::Registry;

    fn wish(token: Option<&str>) -> Wish {
        Wish {
            token: token.map(str::to_owned),
            file: None,
        }
    }

    fn listen(texts: &[&str]) -> Result<Option<Endpoint>, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        salvage(&texts).listen
    }

    #[test]
    fn a_broken_file_still_says_where_the_admin_listener_is() {
        let text = "[admin]\nlisten = \"unix:/run/a.sock\"\ntoken_file = \"t\"\n[global\nx = \n";
        let admin = salvage(&[text.to_owned()]);
        assert_eq!(admin.listen, Ok(Some(Endpoint::Unix("/run/a.sock".into()))));
        assert_eq!(admin.token_file.as_deref(), Some(Path::new("t")));
        for text in ["", "[admin]", "admin = 1", "include = []\n[global\n"] {
            assert_eq!(listen(&[text]), Ok(Some(DEFAULT_ADMIN)), "{text}");
        }
        assert_eq!(listen(&["[admin]\nlisten = \"off\""]), Ok(None));
    }

    #[test]
    fn no_listener_is_guessed_where_another_file_may_name_it() {
        let main = "include = [\"*.toml\"]\n[global]\nx = \n";
        let included = "[admin]\nlisten = \"127.0.0.1:7\"\n";
        let named = Endpoint::Inet("127.0.0.1:7".parse().unwrap());
        assert_eq!(listen(&[main, included]), Ok(Some(named)));
        for text in [
            main,
            "include = \"a.toml\"",
            "include = [\"a.toml\n[global]",
            "include [\n",
            "[admin]\nlisten = 5",
            "[admin]\nlisten = \"x\"",
        ] {
            assert_eq!(listen(&[text]), Err(UNKNOWN.to_owned()), "{text}");
        }
    }

    #[test]
    fn admin_addresses_are_ip_port_or_unix() {
        assert_eq!(endpoint("127.0.0.1:9900"), Ok(DEFAULT_ADMIN));
        assert_eq!(endpoint("unix:/a"), Ok(Endpoint::Unix("/a".into())));
        for text in ["unix:", "localhost:9900", "127.0.0.1", ":9900", ""] {
            assert!(endpoint(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_over_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(reached("[::]:1"), "[::1]:1");
        assert_eq!(reached("10.0.0.1:1"), "10.0.0.1:1");
    }

    #[test]
    fn what_changed_is_listed() {
        let body = r#"{"version":3,"changes":["pool \"a\" added"],"warnings":"warning: w"}"#;
        assert_eq!(
            applied(body),
            "warning: w\nreloaded: version 3\n  pool \"a\" added\n"
        );
        assert_eq!(
            applied(r#"{"version":3,"changes":[],"warnings":""}"#),
            "reloaded: version 3, nothing changed\n"
        );
    }

    #[test]
    fn a_running_ringlane_is_asked_with_the_token() {
        let surface = Arc::new(Surface {
            metrics: Box::new(String::new),
            healthy: Box::new(|| Ok(())),
            ready: AtomicBool::new(true),
            signal: Arc::default(),
            reload: Box::new(|| Reloaded::Rejected {
                report: "a.toml:1:1: no\n".to_owned(),
            }),
            token: RwLock::new(Some("secret".to_owned())),
            source: None,
        });
        let (sender, _) = crossbeam::channel::bounded(1);
        let strain = Strain::new(Arc::new(Registry::new(1)));
        let control = Control::start(&[], surface, strain, sender).unwrap();
        let path =
            std::env::temp_dir().join(format!("ringlane-reload-{}.sock", std::process::id()));
        let unix = Endpoint::Unix(path);
        control.serve_admin(Some(bind(&unix).unwrap()));
        let (status, _) = ask(&unix, &wish(None)).unwrap();
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let (status, report) = ask(&unix, &wish(Some("secret"))).unwrap();
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(report, "a.toml:1:1: no\n");
        let inet = bind(&Endpoint::Inet("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = inet.local().unwrap();
        control.serve_admin(Some(inet));
        let (status, _) = ask(&address, &wish(Some("secret"))).unwrap();
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        control.stop();
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_cause() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = ask(&Endpoint::Inet(free), &wish(None)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = ask(
            &Endpoint::Unix("/nonexistent/admin.sock".into()),
            &wish(None),
        )
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
