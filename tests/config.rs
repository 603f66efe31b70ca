//! The configuration as operators meet it: reports word by word, the example file, the round trip.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringlane::base::address::Endpoint;
use ringlane::base::name::NamePattern;
use ringlane::base::random::Random;
use ringlane::config::model::{
    Balance, ClientAuth, ClientCa, Listener, Memory, Overload, OverloadAction, OverloadReady,
    PoolSni, ProxyHeader, ProxyVersion, Route, RouteNames, Routes, Routing, SessionLog, StartTls,
    Target, Tickets, TlsVersion, Verify,
};
use ringlane::config::{Checked, Machine, Report, diff, load, parse, print, schema};

const MACHINE: Machine = Machine {
    cores: 4,
    somaxconn: 4096,
    descriptors: 1 << 20,
    memory: 8 << 30,
};

const EXAMPLE: &str = include_str!("../config/example.toml");

const MINIMAL: &str = r#"
[[listener]]
name = "web"
listen = "0.0.0.0:8080"
pool = "web"
[pool.web]
backends = ["127.0.0.1:9000"]
"#;

fn accept(text: &str) -> Checked {
    parse("test.toml", text, &MACHINE)
        .unwrap_or_else(|report| unreachable!("{}", report.render(false)))
}

fn refuse(text: &str) -> String {
    let report = parse("test.toml", text, &MACHINE).expect_err("it must be refused");
    assert!(!report.is_empty());
    report.render(false)
}

/// What `check` would show: the faults, or else the warnings.
fn outcome(result: &Result<Checked, Report>) -> String {
    match result {
        Ok(checked) if checked.warnings.is_empty() => "ok\n".to_owned(),
        Ok(checked) => checked.warnings.render(false),
        Err(report) => report.render(false),
    }
}

fn is_blessing() -> bool {
    std::env::var_os("RINGLANE_BLESS").is_some()
}

/// Compares `actual` with a file, or rewrites the file when asked to.
fn same_as_file(path: &Path, actual: &str) -> Result<(), String> {
    if is_blessing() {
        return std::fs::write(path, actual).map_err(|error| error.to_string());
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    Err(format!(
        "{}:\n--- expected\n{expected}--- got\n{actual}",
        path.display()
    ))
}

#[test]
fn one_mistake_is_one_fault() {
    for mistake in ["[log]\non = []\n", "[log]\nlevel = []\n"] {
        let report = refuse(&format!("{mistake}{MINIMAL}"));
        assert_eq!(report.matches("error:").count(), 1, "{report}");
    }
}

#[test]
fn every_golden_file_has_exactly_its_report() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    names.sort();
    assert!(names.len() >= 25, "only {} golden files", names.len());
    let mut wrong = String::new();
    for path in names {
        let report = outcome(&load(&path, &MACHINE));
        // The report names files as they were opened; the directory differs from place to place.
        let report = report.replace(&format!("{}/", directory.display()), "");
        if let Err(difference) = same_as_file(&path.with_extension("txt"), &report) {
            writeln!(wrong, "{difference}").unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong}(RINGLANE_BLESS=1 rewrites the texts)"
    );
}

#[test]
fn example_holds_exactly_the_defaults() {
    let example = accept(EXAMPLE);
    assert!(
        example.warnings.is_empty(),
        "{}",
        example.warnings.render(false)
    );
    assert_eq!(example.model, accept(MINIMAL).model);
}

#[test]
fn example_mentions_every_key_at_its_default() {
    let mut missing = Vec::new();
    keys(&schema(), &mut |name, property| {
        let is_mentioned = match property.get("default") {
            Some(default) => {
                let line = format!("{name} = {}", default.to_string().replace("\\\"", "\""));
                EXAMPLE
                    .lines()
                    .any(|text| text.trim_start_matches("# ").starts_with(&line))
            }
            None => EXAMPLE.lines().any(|text| {
                let text = text.trim_start_matches("# ").trim_start_matches('[');
                // A table of one line mentions several.
                text.split(['{', ','])
                    .any(|part| part.trim_start().starts_with(&format!("{name} =")))
                    || text.split([']', '.']).any(|part| part == name)
            }),
        };
        if !is_mentioned {
            missing.push(name.to_owned());
        }
    });
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn example_mentions_every_key_of_a_route_and_of_a_backend() {
    let schema = schema();
    for (heading, of) in [
        (
            "[[listener.route]]",
            &schema["properties"]["listener"]["items"]["properties"]["route"],
        ),
        (
            "[[pool.web.backend]]",
            &schema["properties"]["pool"]["additionalProperties"]["properties"]["backend"],
        ),
    ] {
        let keys = of["items"]["properties"].as_object().unwrap();
        let begin = EXAMPLE.find(&format!("# {heading}\n")).unwrap();
        let text = EXAMPLE[begin..].split("\n\n").next().unwrap();
        for key in keys.keys() {
            let line = format!("\n# {key} = ");
            assert!(text.contains(&line), "{heading} lacks {key}");
        }
    }
}

#[test]
fn what_the_example_has_commented_out_is_valid() {
    let is_toml = |text: &str| {
        let key = text.split(" = ").next().unwrap_or_default();
        let is_key = key != text
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_key || text.starts_with(['[', ']']) || text.starts_with("  {")
    };
    let whole = EXAMPLE.lines().map(|line| match line.strip_prefix("# ") {
        Some(text) if is_toml(text) => text,
        _ => line,
    });
    // What excludes each other, and what some of the keys need.
    let is_kept = |line: &&str| {
        let left_out = ["pool = \"web\"  ", "backends", "exchange = "];
        !left_out.iter().any(|beginning| line.starts_with(beginning))
    };
    let text: Vec<_> = whole.filter(is_kept).collect();
    assert!(text.len() > EXAMPLE.lines().count() - 5);
    let text = text
        .join("\n")
        .replace("\"least_connections\" ", "\"source_hash\" ")
        .replace("terminate = false", "terminate = true")
        .replace("mode = \"off\"", "mode = \"require\"")
        .replace("receive = \"off\"", "receive = \"require\"")
        .replace("type = \"tcp\"", "type = \"http\"");
    let model = accept(&text).model;
    let all = routes(&model.listeners[0]);
    assert!(all.routes[0].names.sni.len() == 2 && all.termination.is_some());
    assert!(model.pools[0].tls.is_some() && model.global.workers == 4);
}

/// Calls `visit` with every property of a schema and what is below it.
fn keys(schema: &serde_json::Value, visit: &mut dyn FnMut(&str, &serde_json::Value)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        visit(name, property);
        keys(property, visit);
    }
    for inner in ["items", "additionalProperties"]
        .iter()
        .filter_map(|inner| schema.get(inner))
    {
        keys(inner, visit);
    }
    for inner in schema["anyOf"].as_array().into_iter().flatten() {
        keys(inner, visit);
    }
}

#[test]
fn schema_in_the_repository_is_the_code_s() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/ringlane.schema.json");
    let text = format!("{:#}\n", schema());
    same_as_file(&path, &text).unwrap_or_else(|difference| panic!("{difference}"));
}

#[test]
fn schema_describes_every_key() {
    let mut count = 0;
    keys(&schema(), &mut |name, property| {
        count += 1;
        assert!(
            property["description"]
                .as_str()
                .is_some_and(|text| text.len() > 5),
            "{name}"
        );
    });
    assert!(count > 50, "{count}");
}

/// A file in which no key has its default.
const UNUSUAL: &str = r#"
[global]
workers = 3
pin = false
driver = "epoll"
shutdown = { pre_stop = "1500ms", drain = "0s" }
overload = { memory = "6g", loop_lag = "150ms", resume = "50%", action = "reject", ready = "fail" }
resolver = { nameservers = ["10.0.0.53:53", "[fd00::53]:5353"] }
[admin]
listen = "unix:/run/ringlane/admin.sock"
token_file = "/etc/ringlane/\"admin\" token"
[log]
level = "debug"
sessions = "/var/log/ringlane/sessions.log"
format = "text"
on = "open+close"
[[listener]]
name = "a \"b\" ü"
listen = ["0.0.0.0:5000-5003", "[::1]:80", "unix:/run/a b.sock"]
pool = "long name."
relay = "splice"
timeouts = { idle = "1h30m", half_closed = "90s", first_byte = "2s", max_lifetime = "7d", lifetime_jitter = "0%" }
backlog = 100
defer_accept = "3s"
fastopen = 16
nodelay = false
keepalive = { idle = "30s", interval = "5s", count = 3 }
transparent = true
mptcp = true
v6only = false
unix_mode = "600"
[[listener]]
listen = "127.0.0.1:1"
pool = "p"
keepalive = "off"
relay = "copy"
timeouts = { handshake = "2s" }
proxy_protocol = { receive = "optional", trusted = ["10.0.0.0/8", "::1"] }
[[listener]]
name = "tls"
listen = "127.0.0.1:2"
timeouts = { sniff = "1s", handshake = "3s" }
plain = "p"
silent_after = "100ms"
sniff_max = "5000"
starttls = "postgres"
proxy_protocol = { receive = "require", trusted = "10.1.2.3" }
[listener.tls]
certificates = [{ chain = "a \"b\".pem", key = "a.key", ocsp = "a.ocsp" }, { chain = "b.pem", key = "b.key" }]
default_certificate = 1
min_version = "1.3"
max_version = "1.3"
alpn = ["h2", "http/1.1"]
client_auth = { mode = "request", ca = "clients.pem", crl = "clients.crl" }
ticket_keys = "tickets.keys"
handshakes_max = 7
handshake_rate = "50/m"
[[listener.route]]
sni = ["A.example.", "*.b.example", "**.c.example"]
alpn = ["h2"]
client = ["10.0.0.0/8", "2001:db8::/32"]
ja4 = ["t13d1516h2_8daaf6152771_02713d6af862"]
terminate = true
client_names = ["client.example", "*.staff.example"]
pool = "p"
[[listener.route]]
name = "no entry"
no_sni = true
client = "192.0.2.1"
reject = true
[[listener.route]]
default = true
pool = "long name."
allow = "10.0.0.0/8"
deny = ["10.1.0.0/16", "10.2.0.0/16"]
deny_file = "more.txt"
max_connections = 5
limits = { per_source = 3, bytes_per_source = "1536k/s" }
[[listener.route]]
name = "near"
plain = true
client = "192.0.2.0/24"
pool = "p"
[[listener]]
name = "whole"
listen = "127.0.0.1:3"
allow = ["10.0.0.0/8", "192.0.2.1"]
allow_file = "allow.txt"
deny = ["2001:db8::/32"]
deny_file = "deny.txt"
max_connections = 7
limits = { per_source = 3, rate_per_source = "100/m", burst = 7, bytes_per_source = "10m/s", action = "tarpit 1m30s", exempt = ["fd00::/8"], ipv4_prefix = 24, ipv6_prefix = 48, log_only = true }
pool = "p"
tls = { certificates = [{ chain = "a.pem", key = "a.key" }], client_auth = { mode = "require", ca = "c.pem" }, ticket_rotation = "0s" }
[pool.p]
balance = "round_robin"
proxy_protocol = { send = "v2", tlvs = ["crc32c", "alpn", "unique_id", "ssl"], pass = [0x02, 0xea], custom = [{ type = 0xe0, value = "a\nb" }, { type = 0xf7, value = "" }] }
tls = { ca = "internal.pem", sni = "WWW.internal", certificate = "me.pem", key = "me.key", alpn = ["h2"], min_version = "1.3" }
backends = ["DB.example.com.:5432", "[fd00::1]:80", "unix:/run/b.sock", "10.0.0.1:80"]
all_down = "closed"
outliers = { connect_failures = 2, failure_rate = "40%", window = "1m", min_samples = 7, eject = "7s", eject_most = "8s", max_eject = "100%" }
breaker = { max_connections = 100, max_pending = 10, failure_rate = "off", window = "3s", min_samples = 9, open = "1s", probes = 1 }
health = { type = "http", interval = "1s", timeout = "500ms", rise = 1, fall = 9, address = "10.0.0.7", port = 81, initial = "check", http = { method = "HEAD", path = "/up?a=\"b\"", host = "www.internal:80", status = ["200", "300-399"] } }
[pool."long name."]
balance = "source_hash"
connect = { timeout = "100ms", attempts = 16, total = "1s" }
retry_budget = "100%"
proxy_protocol = { send = "v1" }
source = "10.0.0.9"
source_hash = { ipv6_prefix = 64 }
all_down = "open"
health = { type = "exchange", initial = "down", exchange = { send = '\x00\xffPING"\r\n', expect = '\0\\+' } }
[[pool."long name.".backend]]
name = "'one'"
address = "10.0.0.1:8080"
weight = 65535
tier = 255
[[pool."long name.".backend]]
address = "10.0.0.2:8080"
weight = 0
"#;

#[test]
fn print_is_a_fixed_point_and_gives_the_same_model() {
    for text in [EXAMPLE, MINIMAL, UNUSUAL] {
        let first = accept(text);
        let printed = print(&first.model);
        let second = accept(&printed);
        assert_eq!(first.model, second.model, "{printed}");
        assert_eq!(printed, print(&second.model));
        assert!(diff(&first.model, &second.model).is_empty());
    }
}

#[test]
fn print_has_every_key() {
    let mut printed = print(&accept(UNUSUAL).model);
    printed.push_str(&print(&accept(MINIMAL).model));
    keys(&schema(), &mut |name, _| {
        // The short form of backends is printed in the long form.
        let has = printed
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word == name);
        assert!(has || name == "backends", "{name} is not in\n{printed}");
    });
}

#[test]
fn print_warns_of_nothing_that_the_file_did_not() {
    assert!(accept(&print(&accept(MINIMAL).model)).warnings.is_empty());
}

#[test]
fn values_arrive_in_the_model() {
    let model = accept(UNUSUAL).model;
    assert_eq!(model.global.workers, 3);
    assert_eq!(model.global.nameservers.len(), 2);
    let overload = Overload {
        memory: Some(Memory::Bytes(6 << 30)),
        loop_lag: Some(Duration::from_millis(150)),
        resume: 50,
        action: OverloadAction::Reject,
        ready: OverloadReady::Fail,
    };
    assert_eq!(model.global.overload, Some(overload));
    assert_eq!(
        model.admin.listen,
        Some(Endpoint::Unix("/run/ringlane/admin.sock".into()))
    );
    assert_eq!(
        model.log.sessions,
        SessionLog::File("/var/log/ringlane/sessions.log".into())
    );
    let [first, second, ..] = &model.listeners[..] else {
        panic!("{:?}", model.listeners)
    };
    assert_eq!(first.listen.len(), 6);
    assert_eq!(first.timeouts.idle.as_secs(), 5400);
    assert_eq!(first.socket.unix_mode, 0o600);
    assert_eq!(
        (second.name.as_ref(), second.socket.keepalive),
        ("127.0.0.1:1", None)
    );
    let [long, short] = &model.pools[..] else {
        panic!("{:?}", model.pools)
    };
    assert_eq!(long.balance, Balance::SourceHash { ipv6_prefix: 64 });
    assert_eq!(
        (long.backends[0].weight, long.backends[0].tier),
        (65535, 255)
    );
    let names: Vec<_> = short
        .backends
        .iter()
        .map(|backend| backend.name.as_ref())
        .collect();
    let expected = [
        "db.example.com:5432",
        "[fd00::1]:80",
        "unix:/run/b.sock",
        "10.0.0.1:80",
    ];
    assert_eq!(names, expected);
}

fn routes(listener: &Listener) -> &Routes {
    match &listener.routing {
        Routing::ByHello(routes) => routes,
        Routing::Pool(pool) => unreachable!("everything goes to {pool}"),
    }
}

fn target(route: &Route) -> (&str, &Target) {
    (&route.name, &route.target)
}

#[test]
fn routes_arrive_in_the_model() {
    let model = accept(UNUSUAL).model;
    let listener = &model.listeners[2];
    assert_eq!(listener.timeouts.sniff.as_secs(), 1);
    assert_eq!(listener.timeouts.handshake.as_secs(), 3);
    let receive = listener.proxy_protocol.as_ref().unwrap();
    assert_eq!(receive.header, ProxyHeader::Require);
    assert_eq!(receive.trusted, ["10.1.2.3/32".parse().unwrap()]);
    let all = routes(listener);
    assert_eq!(
        (all.sniff_max, all.starttls),
        (5000, Some(StartTls::Postgres))
    );
    assert_eq!(all.silent_after, None, "its clients speak first");
    let silent = accept(&UNUSUAL.replace("starttls = \"postgres\"\n", "")).model;
    let silent_after = routes(&silent.listeners[2]).silent_after;
    assert_eq!(silent_after, Some(Duration::from_millis(100)));
    let (p, long) = (Arc::<str>::from("p"), Arc::<str>::from("long name."));
    let targets: Vec<_> = all.routes.iter().map(target).collect();
    let expected = [
        ("a.example", &Target::Terminate(Arc::clone(&p))),
        ("no entry", &Target::Reject),
        ("default", &Target::Pass(long)),
        ("near", &Target::Pass(Arc::clone(&p))),
        ("plain", &Target::Pass(p)),
    ];
    assert_eq!(targets, expected);
    let first = &all.routes[0];
    let names: Vec<_> = first.names.sni.iter().map(NamePattern::to_string).collect();
    assert_eq!(names, ["a.example", "*.b.example", "**.c.example"]);
    assert_eq!((first.client.len(), first.client_names.len()), (2, 2));
    let kinds: Vec<_> = all.routes[1..]
        .iter()
        .map(|route| (route.names.no_sni, route.names.default, route.names.plain))
        .collect();
    let expected = [
        (true, false, false),
        (false, true, false),
        (false, false, true),
        (false, false, true),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn tls_arrives_in_the_model() {
    let model = accept(UNUSUAL).model;
    let tls = routes(&model.listeners[2]).termination.as_ref().unwrap();
    assert_eq!(tls.certificates.len(), 2);
    assert_eq!(tls.certificates[0].ocsp, Some("a.ocsp".into()));
    assert_eq!(tls.default_certificate, Some(1));
    assert_eq!(
        (tls.min_version, tls.max_version),
        (TlsVersion::Tls13, TlsVersion::Tls13)
    );
    assert_eq!(tls.alpn, ["h2".into(), "http/1.1".into()]);
    let ca = ClientCa {
        ca: "clients.pem".into(),
        crl: Some("clients.crl".into()),
    };
    assert_eq!(tls.client_auth, ClientAuth::Request(ca));
    assert_eq!(tls.tickets, Tickets::File("tickets.keys".into()));
    assert_eq!(tls.handshakes_max, 7);
    let rate = tls.handshake_rate.unwrap();
    assert_eq!((rate.count, rate.per), (50, Duration::from_secs(60)));
    let pool = &model.pools[1];
    let tls = pool.tls.as_ref().unwrap();
    assert_eq!(tls.verify, Verify::Ca("internal.pem".into()));
    assert_eq!(tls.sni, PoolSni::Fixed("www.internal".into()));
    assert_eq!(tls.certificate, Some(("me.pem".into(), "me.key".into())));
    let send = pool.proxy_protocol.as_ref().unwrap();
    assert_eq!(send.version, ProxyVersion::V2);
    let tlvs = &send.tlvs;
    assert!(tlvs.alpn && !tlvs.authority && tlvs.unique_id && tlvs.ssl && tlvs.crc32c);
    assert_eq!(tlvs.pass, [0x02, 0xea]);
    assert_eq!(tlvs.custom, [(0xe0, "a\nb".into()), (0xf7, "".into())]);
}

#[test]
fn tls_beside_a_pool_is_one_route_that_terminates_everything() {
    let model = accept(UNUSUAL).model;
    let all = routes(&model.listeners[3]);
    assert_eq!(all.silent_after, None);
    let [route] = &all.routes[..] else {
        panic!("{:?}", all.routes)
    };
    assert_eq!(target(route), ("all", &Target::Terminate("p".into())));
    let names = RouteNames {
        no_sni: true,
        default: true,
        ..RouteNames::default()
    };
    assert_eq!(route.names, names);
    let tls = all.termination.as_ref().unwrap();
    assert_eq!(tls.tickets, Tickets::Off);
    assert_eq!((tls.handshakes_max, tls.handshake_rate), (1000, None));
}

#[test]
fn routes_know_where_they_stand() {
    let model = accept(UNUSUAL).model;
    let place = |number: usize| format!("test.toml:{number}");
    let lines: Vec<_> = UNUSUAL.lines().collect();
    let find = |text| lines.iter().position(|line| *line == text).unwrap() + 1;
    let all = &routes(&model.listeners[2]).routes;
    let last = all.last().unwrap();
    assert_eq!(*all[0].place, place(find("[[listener.route]]")));
    assert_eq!(*last.place, place(find("plain = \"p\"")));
    let whole = &routes(&model.listeners[3]).routes[0];
    assert_eq!(*whole.place, place(find("name = \"whole\"") - 1));
}

#[test]
fn a_tls_that_nothing_uses_is_left_out() {
    let text = "[[listener]]\nlisten = \"0.0.0.0:1\"\n\
        tls = { certificates = [{ chain = \"a\", key = \"b\" }] }\n\
        route = [{ default = true, pool = \"p\" }]\n[pool.p]\nbackends = [\"10.0.0.1:1\"]\n";
    let checked = accept(text);
    assert_eq!(checked.warnings.len(), 1);
    assert_eq!(routes(&checked.model.listeners[0]).termination, None);
}

#[test]
fn a_hundred_thousand_names_are_accepted() {
    let mut names = String::new();
    for n in 0..100_000 {
        write!(names, "\"n{n}.example\", ").unwrap();
    }
    let text = format!(
        "[[listener]]\nlisten = \"0.0.0.0:1\"\nroute = [{{ sni = [{names}], pool = \"p\" }}]\n\
         [pool.p]\nbackends = [\"10.0.0.1:1\"]\n"
    );
    let checked = accept(&text);
    assert!(checked.warnings.is_empty());
    assert_eq!(
        routes(&checked.model.listeners[0]).routes[0]
            .names
            .sni
            .len(),
        100_000
    );
}

#[test]
fn workers_default_to_the_cores() {
    assert_eq!(accept(MINIMAL).model.global.workers, 4);
    let here = Machine::here();
    assert!(
        here.cores > 0 && here.somaxconn > 0 && here.descriptors > 0,
        "{here:?}"
    );
}

const OLD: &str = r#"
global = { workers = 2 }
[[listener]]
name = "web"
listen = "0.0.0.0:80"
pool = "p"
[[listener]]
name = "old"
listen = "0.0.0.0:81"
pool = "p"
[[listener]]
name = "tls"
listen = "0.0.0.0:443"
[[listener.route]]
sni = "a.example"
pool = "p"
[[listener.route]]
sni = "gone.example"
pool = "p"
[[listener.route]]
default = true
pool = "p"
[[listener]]
name = "turned"
listen = "0.0.0.0:444"
pool = "p"
[pool.p]
source = "10.0.0.9"
[[pool.p.backend]]
name = "a"
address = "10.0.0.1:80"
[[pool.p.backend]]
name = "c"
address = "10.0.0.3:80"
[[pool.p.backend]]
name = "d"
address = "10.0.0.4:80"
"#;

const NEW: &str = r#"
global = { workers = 3, shutdown = { drain = "1m" } }
log.level = "warn"
[[listener]]
name = "web"
listen = ["0.0.0.0:80", "[::]:80"]
pool = "p"
timeouts.idle = "5m"
keepalive = "off"
[[listener]]
name = "new"
listen = "0.0.0.0:82"
pool = "q"
[[listener]]
name = "tls"
listen = "0.0.0.0:443"
sniff_max = "16k"
tls = { certificates = [{ chain = "a.pem", key = "a.key" }] }
[[listener.route]]
default = true
pool = "q"
[[listener.route]]
name = "new"
sni = "new.example"
reject = true
[[listener.route]]
sni = "a.example"
client = "10.0.0.0/8"
terminate = true
pool = "p"
[[listener]]
name = "turned"
listen = "0.0.0.0:444"
[[listener.route]]
default = true
pool = "p"
[pool.p]
balance = "source_hash"
proxy_protocol.send = "v1"
[[pool.p.backend]]
name = "d"
address = "10.0.0.4:80"
[[pool.p.backend]]
name = "a"
address = "10.0.0.1:8080"
weight = 5
[[pool.p.backend]]
name = "b"
address = "10.0.0.2:80"
[pool.q]
backends = ["10.0.0.1:80"]
"#;

#[test]
fn difference_names_what_changes() {
    let (old, new) = (accept(OLD), accept(NEW));
    let expected = [
        "global.workers 2 -> 3 (needs a restart)",
        "global.shutdown.drain 30s -> 1m",
        "log.level info -> warn",
        "listener \"old\" removed",
        "listener \"web\": listen [\"0.0.0.0:80\"] -> [\"0.0.0.0:80\", \"[::]:80\"]",
        "listener \"web\": timeouts.idle 1h -> 5m",
        "listener \"web\": keepalive { count = 6, idle = \"1m\", interval = \"10s\" } -> off",
        "listener \"tls\": sniff_max 64k -> 16k",
        "listener \"tls\": tls.certificates (not set) -> [{ chain = \"a.pem\", key = \"a.key\" }]",
        "listener \"tls\": tls.min_version (not set) -> 1.2",
        "listener \"tls\": tls.max_version (not set) -> 1.3",
        "listener \"tls\": tls.alpn (not set) -> []",
        "listener \"tls\": tls.client_auth.mode (not set) -> off",
        "listener \"tls\": tls.ticket_rotation (not set) -> 12h",
        "listener \"tls\": tls.handshakes_max (not set) -> 1000",
        "listener \"tls\": tls.handshake_rate (not set) -> off",
        "listener \"tls\": route \"gone.example\" removed",
        "listener \"tls\": route \"default\": pool p -> q",
        "listener \"tls\": route \"a.example\": client (not set) -> [\"10.0.0.0/8\"]",
        "listener \"tls\": route \"a.example\": terminate false -> true",
        "listener \"tls\": route \"new\" added",
        "listener \"tls\": routes come in another order",
        "listener \"turned\": plain (not set) -> reject",
        "listener \"turned\": sniff_max (not set) -> 64k",
        "listener \"turned\": starttls (not set) -> off",
        "listener \"turned\": pool p -> (not set)",
        "listener \"turned\": route \"default\" added",
        "listener \"new\" added",
        "pool \"p\": balance least_connections -> source_hash",
        "pool \"p\": source_hash.ipv6_prefix (not set) -> 128",
        "pool \"p\": source 10.0.0.9 -> (not set)",
        "pool \"p\": proxy_protocol.send off -> v1",
        "pool \"p\": backend \"c\" removed",
        "pool \"p\": backend \"a\": address 10.0.0.1:80 -> 10.0.0.1:8080",
        "pool \"p\": backend \"a\": weight 1 -> 5",
        "pool \"p\": backend \"b\" added",
        "pool \"p\": backends come in another order",
        "pool \"q\" added",
    ];
    assert_eq!(diff(&old.model, &new.model), expected);
}

#[test]
fn ten_thousand_backends_are_accepted_and_compared() {
    let mut text = String::from("[[listener]]\nlisten = \"0.0.0.0:80\"\npool = \"p\"\n");
    for n in 0..10_000 {
        let address = format!("10.{}.{}.1:80", n / 250, n % 250);
        write!(
            text,
            "[[pool.p.backend]]\nname = \"b{n}\"\naddress = \"{address}\"\n"
        )
        .unwrap();
    }
    let model = accept(&text).model;
    assert_eq!(model.pools[0].backends.len(), 10_000);
    assert_eq!(accept(&print(&model)).model, model);
    assert!(diff(&model, &model).is_empty());
}

#[test]
fn ten_thousand_faults_give_a_bounded_report() {
    let mut text = MINIMAL.to_owned();
    for n in 0..10_000 {
        write!(
            text,
            "[[listener]]\nlisten = \"0.0.0.0:80{n}x\"\npool = \"weg\"\n"
        )
        .unwrap();
    }
    let report = parse("test.toml", &text, &MACHINE).expect_err("every listener is wrong");
    assert_eq!(report.len(), 20_000);
    let text = report.render(false);
    assert_eq!(text.matches("error: test.toml:").count(), 100);
    assert!(
        text.ends_with("and 19900 more\n"),
        "{}",
        &text[text.len() - 100..]
    );
}

#[test]
fn small_files_cannot_ask_for_boundless_memory() {
    // Each would take gigabytes if everything were read and spelt out before it is counted.
    let tables = refuse(&"[[listener]]\n".repeat(200_000));
    assert!(
        tables.contains("and 199901 more"),
        "{}",
        &tables[tables.len() - 100..]
    );
    let routes = format!("[[listener]]\n{}", "[[listener.route]]\n".repeat(200_000));
    let report = parse("test.toml", &routes, &MACHINE).expect_err("no route is complete");
    assert!(
        (199_990..200_010).contains(&report.len()),
        "{}",
        report.len()
    );
    let ranges = "\"0.0.0.0:1-4096\", ".repeat(200_000);
    let text = MINIMAL.replace("\"0.0.0.0:8080\"", &format!("[{ranges}]"));
    let report = parse("test.toml", &text, &MACHINE).expect_err("the addresses repeat");
    assert_eq!(report.len(), 199_999);
    let ranges: String = (1..100)
        .map(|n| format!("\"10.0.0.{n}:1-4096\", "))
        .collect();
    let text = MINIMAL.replace("\"0.0.0.0:8080\"", &format!("[{ranges}]"));
    assert!(refuse(&text).contains("too many addresses, expected at most 16384"));
    let nested = format!("x = {}", "[".repeat(100_000));
    assert!(refuse(&nested).contains("bad TOML"));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let directory = std::env::temp_dir().join(format!("ringlane-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let report = |path: &Path| {
        load(path, &MACHINE)
            .expect_err("it must be refused")
            .render(false)
    };
    let missing = directory.join("missing.toml");
    assert_eq!(
        report(&missing),
        format!(
            "error: {}: cannot be read: no such file\n",
            missing.display()
        )
    );
    assert!(report(&directory).contains("cannot be read: it is a directory"));
    let garbage = directory.join("garbage.toml");
    std::fs::write(&garbage, b"a = 1\n  \xff\xfe\x00\n").unwrap();
    let text = report(&garbage);
    assert!(
        text.contains("garbage.toml:2:3: not UTF-8, got byte 0xff"),
        "{text}"
    );
    let large = directory.join("large.toml");
    std::fs::File::create(&large)
        .unwrap()
        .set_len(17 * 1024 * 1024)
        .unwrap();
    assert!(report(&large).contains("larger than 16 MiB"));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn included_files_join_in_name_order_after_the_main_one() {
    let directory = std::env::temp_dir().join(format!("ringlane-include-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    // The pattern matches the main file, too, and `b.toml` is named a second time.
    write(
        "main.toml",
        &format!("include = [\"*.toml\", \"b.toml\"]\n{MINIMAL}"),
    );
    let listener = |port| format!("[[listener]]\nlisten = \"[::1]:{port}\"\npool = \"web\"\n");
    write("b.toml", &listener(2));
    write("a.toml", &format!("global.pin = false\n{}", listener(1)));
    let model = load(&directory.join("main.toml"), &MACHINE)
        .expect("it has no fault")
        .model;
    let names: Vec<_> = model
        .listeners
        .iter()
        .map(|listener| listener.name.as_ref())
        .collect();
    assert_eq!(names, ["web", "[::1]:1", "[::1]:2"]);
    assert!(!model.global.pin);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn text_without_a_file_includes_nothing() {
    let text = refuse(&format!("include = [\"/etc/*.toml\"]\n{MINIMAL}"));
    assert!(
        text.starts_with("error: test.toml:1:12: `include` works only in a file"),
        "{text}"
    );
}

#[test]
fn columns_survive_marks_tabs_and_line_ends() {
    let text = refuse("\u{feff}x = 1\r\n[global]\r\n\tpin = 3\r\n");
    assert!(text.contains("test.toml:1:1: unknown key"), "{text}");
    assert!(
        text.contains("test.toml:3:8: wrong type for `pin`"),
        "{text}"
    );
    assert!(!text.contains('\r'), "{text:?}");
}

#[test]
fn report_of_a_long_line_stays_narrow() {
    let line = format!("global = {{ {:300}driver = \"what\", pin = true }}", "");
    let text = refuse(&line);
    assert!(
        text.contains("test.toml:1:321: bad value for `driver`"),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() < 200),
        "{text}"
    );
}

#[test]
fn names_and_values_cannot_steer_the_terminal() {
    let text = refuse("\"a\\u001b[31m\\nb\" = 1\n");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let title = "error: test.toml:1:1: unknown key in the file, got `a\\u{1b}[31m\\nb`,";
    assert!(text.contains(title), "{text}");
}

#[test]
fn colour_changes_no_word() {
    let report = parse("test.toml", "x = 1\n", &MACHINE).expect_err("it must be refused");
    let colored = report.render(true);
    assert!(
        colored.contains('\u{1b}') && colored.contains("unknown key"),
        "{colored:?}"
    );
}

#[test]
fn mutated_examples_never_panic_and_faults_lie_in_the_file() {
    let seed = std::env::var("RINGLANE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = Random::new(seed);
    let mut refused = 0;
    for round in 0..2000 {
        let base = if round % 2 == 0 { EXAMPLE } else { UNUSUAL };
        let mut bytes = base.as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        let text = String::from_utf8_lossy(&bytes);
        match parse("test.toml", &text, &MACHINE) {
            Ok(checked) => {
                let printed = print(&checked.model);
                assert_eq!(
                    accept(&printed).model,
                    checked.model,
                    "seed {seed}, round {round}"
                );
            }
            Err(report) => {
                refused += 1;
                check_places(&report.render(false), &text)
                    .unwrap_or_else(|line| panic!("seed {seed}, round {round}: {line}\n{text}"));
            }
        }
    }
    assert!(
        refused > 500,
        "only {refused} of 2000 were refused: the mutations are too tame"
    );
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let mut below = |bound: usize| usize::try_from(random.below(bound as u64)).unwrap_or_default();
    let at = below(bytes.len());
    let end = (at + below(20)).min(bytes.len());
    match below(6) {
        0 => bytes[at] = u8::try_from(below(256)).unwrap_or_default(),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let to = below(bytes.len());
            let part = bytes[at..end].to_vec();
            bytes.splice(to..to, part);
        }
        3 => bytes.truncate(at.max(1)),
        4 => {
            let line = bytes
                .split(|&byte| byte == b'\n')
                .nth(below(80))
                .unwrap_or_default();
            let line = [line, b"\n"].concat();
            let to = bytes[..at]
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |at| at + 1);
            bytes.splice(to..to, line);
        }
        _ => bytes[at] = b"\"[]{}=.,#'\\\n0-9x"[below(16)],
    }
}

/// Every title that names a place must name one in the text; the first that does not is the error.
fn check_places(report: &str, text: &str) -> Result<(), String> {
    let lines: Vec<&str> = text.split('\n').collect();
    for title in report.lines().filter(|line| line.starts_with("error: ")) {
        let mut parts = title.split(':').skip(2);
        let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok());
        let (Some(line), Some(column)) = (number(), number()) else {
            return Err(title.to_owned());
        };
        let width = line
            .checked_sub(1)
            .and_then(|at| lines.get(at))
            .map(|line| line.chars().count());
        if width.is_none_or(|width| column == 0 || column > width + 1) {
            return Err(title.to_owned());
        }
    }
    Ok(())
}
