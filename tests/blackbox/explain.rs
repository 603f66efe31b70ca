//! `ringlane explain`: what it says word by word, and that it says what a running ringlane does.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use ringlane::base::random::Random;
use ringlane::tls::rehearsal;
use serde_json::{Value, json};

use crate::support::load::{Named, connect};
use crate::support::{PATIENCE, Ringlane, address, binary};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Writes `NAME.pem` and `NAME.key`.
fn issue(directory: &Path, name: &str, host: &str, key: &KeyPair) {
    let params = CertificateParams::new([host.to_owned()]).unwrap();
    let pem = params.self_signed(key).unwrap().pem();
    fs::write(directory.join(format!("{name}.pem")), pem).unwrap();
    fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// With a certificate of each kind for `web.example`, and hellos that are none.
fn stage(name: &str) -> PathBuf {
    let name = format!("ringlane-{name}-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    fs::create_dir_all(&directory).unwrap();
    let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    issue(&directory, "web", "web.example", &ecdsa);
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    issue(&directory, "web-rsa", "web.example", &rsa);
    symlink(tests().join("hellos"), directory.join("hellos")).unwrap();
    let hello = fs::read(tests().join("hellos/curl-h2.bin")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).unwrap();
    write("http.bin", b"GET / HTTP/1.1\r\n\r\n");
    write("cut.bin", &hello[..100]);
    write("empty.bin", b"");
    write("alert.bin", &[21, 3, 1, 0, 2, 2, 40]);
    // A record with an empty one before it.
    write("twice.bin", &[&[22, 3, 1, 0, 0], &hello[..]].concat());
    directory
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn explanations_are_worded_like_this() {
    let directory = stage("explain");
    let golden = tests().join("golden/explain");
    fs::copy(golden.join("routes.toml"), directory.join("routes.toml")).unwrap();
    let path = golden.join("cases.txt");
    let expected = fs::read_to_string(&path).unwrap();
    let mut actual = String::new();
    let commands = expected
        .lines()
        .filter_map(|line| line.strip_prefix("$ ringlane "));
    for command in commands {
        let mut ringlane = binary();
        ringlane.args(command.split(' ')).current_dir(&directory);
        let output = ringlane.stdin(Stdio::null()).output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let code = output.status.code().unwrap();
        actual += &format!("$ ringlane {command}\n{out}{err}exit code {code}\n\n");
    }
    fs::remove_dir_all(&directory).unwrap();
    if std::env::var_os("RINGLANE_BLESS").is_some() {
        fs::write(&path, &actual).unwrap();
    }
    assert!(actual.matches("exit code 0").count() >= 10, "{actual}");
    assert!(
        expected == actual,
        "--- expected\n{expected}--- got\n{actual}(RINGLANE_BLESS=1 rewrites the texts)"
    );
}

#[test]
fn a_configuration_with_faults_is_refused_as_by_check() {
    let directory = stage("explain-faults");
    for (name, faulty) in [
        (
            "five",
            fs::read_to_string(tests().join("golden/five_faults.toml")).unwrap(),
        ),
        (
            "files",
            "[[listener]]\nlisten = \"127.0.0.1:1\"\npool = \"a\"\n\
             tls.certificates = [{ chain = \"web.pem\", key = \"gone.key\" }]\n\
             [pool.a]\nbackends = [\"127.0.0.1:2\"]\n"
                .to_owned(),
        ),
    ] {
        let file = format!("{name}.toml");
        fs::write(directory.join(&file), faulty).unwrap();
        let run = |arguments: &[&str]| {
            let mut ringlane = binary();
            ringlane.args(arguments).current_dir(&directory);
            ringlane.output().unwrap()
        };
        let check = run(&["check", &file]);
        let explained = run(&["explain", "-c", &file, "--listener", "web"]);
        assert_eq!(explained.status.code(), Some(2));
        assert_eq!(text(&explained.stdout), "");
        assert!(!explained.stderr.is_empty());
        assert_eq!(text(&explained.stderr), text(&check.stderr));
    }
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_captured_hello_may_come_by_standard_input() {
    let directory = stage("explain-input");
    fs::copy(
        tests().join("golden/explain/routes.toml"),
        directory.join("routes.toml"),
    )
    .unwrap();
    let run = |hello: &str| {
        let mut ringlane = binary();
        ringlane
            .args([
                "explain",
                "-c",
                "routes.toml",
                "-l",
                "web",
                "--hello",
                hello,
            ])
            .current_dir(&directory)
            .stdin(File::open(directory.join("hellos/go119.bin")).unwrap());
        ringlane.output().unwrap()
    };
    let (piped, named) = (run("-"), run("hellos/go119.bin"));
    assert_eq!(piped.status.code(), Some(0), "{}", text(&piped.stderr));
    assert_eq!(text(&piped.stdout), text(&named.stdout));
    fs::remove_dir_all(&directory).unwrap();
}

/// Backends that say their name, as the pools of one configuration.
struct Pools {
    toml: String,
    _backends: Vec<Named>,
}

impl Pools {
    fn start(pools: &[(&str, usize)]) -> Self {
        let (mut toml, mut backends) = (String::new(), Vec::new());
        for (pool, count) in pools {
            toml += &format!("[pool.{pool}]\nbalance = \"source_hash\"\n");
            for number in 0..*count {
                let name = format!("{pool}-{number}");
                let backend = Named::start(&name);
                toml += &format!(
                    "[[pool.{pool}.backend]]\nname = \"{name}\"\naddress = \"{}\"\nweight = {}\n\
                     tier = {}\n",
                    backend.address,
                    1 + number % 3,
                    number / 4,
                );
                backends.push(backend);
            }
        }
        Self {
            toml,
            _backends: backends,
        }
    }
}

/// What a client saw.
#[derive(Debug, PartialEq)]
enum Met {
    Backend(String),
    Alert(u8),
    Handshake,
    /// The end of the connection, and nothing before.
    Nothing,
}

/// Says `hello` and looks at the beginning of the answer.
fn meet(stream: &TcpStream, hello: &[u8]) -> Met {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut to, mut from) = (stream, BufReader::new(stream));
    // It may be refused while it is on its way.
    let _ = to.write_all(hello);
    let mut answer = Vec::new();
    match from.fill_buf().map(|bytes| bytes.first().copied()) {
        Ok(Some(21)) => {
            let mut alert = [0; 7];
            from.read_exact(&mut alert).unwrap();
            Met::Alert(alert[6])
        }
        Ok(Some(22)) => Met::Handshake,
        Ok(Some(_)) => {
            from.read_until(b'\n', &mut answer).unwrap();
            Met::Backend(text(&answer).trim_end().to_owned())
        }
        Ok(None) => Met::Nothing,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            Met::Nothing
        }
    }
}

/// What the explanation says that a client will see.
fn foretold(explanation: &Value) -> Met {
    let outcome = &explanation["outcome"];
    match outcome["result"].as_str().unwrap() {
        "passed" => {
            let pool = &explanation["pool"];
            assert_eq!(pool["order"], "certain", "{explanation:#}");
            Met::Backend(pool["candidates"][0]["name"].as_str().unwrap().to_owned())
        }
        "terminated" => Met::Handshake,
        "refused" => match outcome["alert"].as_u64() {
            Some(alert) => Met::Alert(u8::try_from(alert).unwrap()),
            None => Met::Nothing,
        },
        other => panic!("{other}"),
    }
}

/// Runs `ringlane explain --json` for a running ringlane's own configuration.
fn explain(ringlane: &Ringlane, listener: &str, arguments: &[String]) -> Value {
    let mut command = binary();
    command.args(["explain", "--json", "--listener", listener, "-c"]);
    command.arg(ringlane.file()).args(arguments);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let explanation: Value =
        serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{}", text(&stderr)));
    let taken = !explanation["route"].is_null() || !explanation["pool"].is_null();
    let code = if taken { 0 } else { 4 };
    assert_eq!(status.code(), Some(code), "{explanation:#}");
    explanation
}

/// The session lines by their clients' addresses.
fn lines(ringlane: &Ringlane, count: usize) -> HashMap<String, Value> {
    let lines = ringlane.session_lines(count).into_iter();
    lines
        .map(|line| (line["client"].as_str().unwrap().to_owned(), line))
        .collect()
}

/// Compares what is said of a client with the line that its session left.
fn assert_logged(explanation: &Value, line: &Value, what: &str) {
    let route = match &explanation["outcome"]["reason"] {
        Value::String(reason) => {
            assert_eq!(line["reason"], *reason, "{what}\n{explanation:#}\n{line:#}");
            return;
        }
        _ => &explanation["route"]["name"],
    };
    assert_eq!(line["route"], *route, "{what}\n{explanation:#}\n{line:#}");
}

const CASES: usize = 1000;
const SEED: u64 = 20;

fn every_kind_of_route(tls: SocketAddr, tcp: SocketAddr, pools: &Pools) -> Ringlane {
    Ringlane::start(&format!(
        r#"
        [[listener]]
        name = "tls"
        listen = "{tls}"
        plain = "three"
        [[listener.route]]
        name = "a of the lower half"
        sni = "a.example"
        client = "127.0.0.0/9"
        pool = "one"
        [[listener.route]]
        name = "a"
        sni = "a.example"
        pool = "two"
        [[listener.route]]
        name = "any depth"
        sni = "**.b.example"
        pool = "three"
        [[listener.route]]
        name = "one label"
        sni = "*.b.example"
        alpn = ["h2", "h3"]
        pool = "one"
        [[listener.route]]
        sni = "refused.example"
        reject = true
        [[listener.route]]
        no_sni = true
        client = ["127.128.0.0/9", "127.1.0.0/16"]
        pool = "two"
        [[listener.route]]
        default = true
        alpn = "http/1.1"
        pool = "three"
        [[listener.route]]
        name = "checks"
        default = true
        alpn = "acme-tls/1"
        pool = "one"
        [[listener]]
        name = "tcp"
        listen = "{tcp}"
        pool = "one"
        {}"#,
        pools.toml
    ))
}

#[test]
fn explained_backends_are_those_that_clients_reach() {
    let (tls, tcp) = (address(), address());
    let pools = Pools::start(&[("one", 5), ("two", 3), ("three", 7)]);
    let ringlane = every_kind_of_route(tls, tcp, &pools);
    let mut random = Random::new(SEED);
    // Their streams are kept, so that each has an address of its own.
    let mut visits = Vec::new();
    let mut kinds = HashMap::<String, usize>::new();
    for number in 0..CASES {
        let case = Case::draw(&mut random);
        let what = format!("seed {SEED}, case {number}: {case:?}");
        let front = if case.listener == "tls" { tls } else { tcp };
        let explanation = explain(&ringlane, case.listener, &case.arguments());
        let stream = connect(front, Some(case.source)).unwrap();
        let met = meet(&stream, &case.bytes());
        assert_eq!(met, foretold(&explanation), "{what}\n{explanation:#}");
        let kind = match met {
            Met::Backend(name) => name,
            other => format!("{other:?}"),
        };
        *kinds.entry(kind).or_default() += 1;
        let _ = stream.shutdown(Shutdown::Both);
        visits.push((stream, explanation, what));
    }
    let lines = lines(&ringlane, CASES);
    for (stream, explanation, what) in &visits {
        let client = stream.local_addr().unwrap().to_string();
        assert_logged(explanation, &lines[&client], what);
    }
    // Every backend of the first tiers, every way of being refused.
    assert_eq!(kinds.len(), 4 + 3 + 4 + 2, "{kinds:?}");
}

#[derive(Debug)]
struct Case {
    listener: &'static str,
    source: IpAddr,
    name: Option<&'static str>,
    alpn: Vec<Arc<str>>,
    plain: bool,
}

impl Case {
    fn draw(random: &mut Random) -> Self {
        const NAMES: [Option<&str>; 9] = [
            None,
            Some("a.example"),
            Some("a.example"),
            Some("x.b.example"),
            Some("y.x.b.example"),
            Some("b.example"),
            Some("refused.example"),
            Some("127.0.0.1"),
            Some("nobody.example"),
        ];
        const PROTOCOLS: [&str; 4] = ["h2", "http/1.1", "h3", "acme-tls/1"];
        let mut below = |bound: usize| usize::try_from(random.below(bound as u64)).unwrap();
        let [a, b, c] = [256, 256, 254].map(|bound| u8::try_from(below(bound)).unwrap());
        let name = NAMES[below(NAMES.len())];
        let alpn = PROTOCOLS.iter().filter(|_| below(3) == 0);
        let alpn = alpn.map(|one| Arc::from(*one)).collect();
        Self {
            listener: if below(8) == 0 { "tcp" } else { "tls" },
            source: Ipv4Addr::new(127, a, b, 1 + c).into(),
            name,
            alpn,
            plain: below(10) == 0,
        }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--src".to_owned(), format!("{}:4711", self.source)];
        if self.plain {
            arguments.push("--plain".to_owned());
            return arguments;
        }
        if let Some(name) = self.name {
            arguments.extend(["--sni".to_owned(), name.to_owned()]);
        }
        if !self.alpn.is_empty() {
            arguments.extend(["--alpn".to_owned(), self.alpn.join(",")]);
        }
        arguments
    }

    fn bytes(&self) -> Vec<u8> {
        if self.plain {
            return b"GET / HTTP/1.1\r\n\r\n".to_vec();
        }
        rehearsal::hello(self.name, &self.alpn).unwrap()
    }
}

fn every_end_of_tls(front: SocketAddr, shown: &str, pools: &Pools) -> Ringlane {
    Ringlane::start(&format!(
        r#"
        [[listener]]
        name = "tls"
        listen = "{front}"
        plain = "two"
        timeouts = {{ sniff = "300ms" }}
        tls.certificates = [{{ chain = "{shown}/web.pem", key = "{shown}/web.key" }}]
        tls.default_certificate = 0
        tls.alpn = ["h2"]
        [[listener.route]]
        sni = "a.example"
        pool = "one"
        [[listener.route]]
        sni = ["*.a.example", "old.example", "g.example", "go.example", "r.example"]
        terminate = true
        pool = "one"
        [[listener.route]]
        sni = "ruby.example"
        reject = true
        [[listener.route]]
        no_sni = true
        alpn = "h2"
        pool = "two"
        [[listener.route]]
        name = "chromium"
        ja4 = "t13d1517h2_8daaf6152771_cb7bf5808d99"
        default = true
        pool = "two"
        {}"#,
        pools.toml
    ))
}

#[test]
fn captured_hellos_meet_what_is_explained() {
    let front = address();
    let directory = stage("explain-hellos");
    let pools = Pools::start(&[("one", 3), ("two", 3)]);
    let ringlane = every_end_of_tls(front, &directory.display().to_string(), &pools);
    let files = fs::read_dir(tests().join("hellos")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "bin"));
    files.extend(["http", "cut", "alert", "twice"].map(|it| directory.join(format!("{it}.bin"))));
    files.sort();
    let mut met = HashMap::<String, usize>::new();
    // Their streams are kept, so that each has an address of its own.
    let mut visits = Vec::new();
    for file in &files {
        let source: SocketAddr = "127.3.2.1:0".parse().unwrap();
        let arguments = [
            "--hello".to_owned(),
            file.display().to_string(),
            "--src".to_owned(),
            source.ip().to_string(),
        ];
        let explanation = explain(&ringlane, "tls", &arguments);
        let stream = connect(front, Some(source.ip())).unwrap();
        let seen = meet(&stream, &fs::read(file).unwrap());
        let what = file.display().to_string();
        assert_eq!(seen, foretold(&explanation), "{what}\n{explanation:#}");
        *met.entry(format!("{seen:?}")).or_default() += 1;
        let _ = stream.shutdown(Shutdown::Both);
        visits.push((stream, explanation, what));
    }
    let lines = lines(&ringlane, files.len());
    for (stream, explanation, what) in &visits {
        let line = &lines[&stream.local_addr().unwrap().to_string()];
        assert_logged(explanation, line, what);
        let asking = &explanation["client"];
        assert_eq!(asking["name"], line["sni"], "{what}");
        let is_whole = !explanation["hello"].is_null();
        let ja4 = if is_whole {
            &asking["ja4"]
        } else {
            &json!(null)
        };
        assert_eq!(*ja4, line["ja4"], "{what}");
        assert_eq!(asking["speaks"] == "tls", is_whole, "{what}");
    }
    // Backends, the alerts of a bad hello, of a name, of a version, of a protocol; handshakes; resets.
    for number in [10, 70, 112, 120] {
        assert!(met.contains_key(&format!("Alert({number})")), "{met:?}");
    }
    assert!(met.len() >= 7, "{met:?}");
    fs::remove_dir_all(&directory).unwrap();
}
