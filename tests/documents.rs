//! The documents hold against the code: what they show parses, and what the code names they explain.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use ringlane::base::reason::Reason;
use ringlane::config::{self, Machine};
use ringlane::metrics::names;

/// Where the configurations in the repository have their certificates, and which names those carry.
const CERTIFICATES: &str = "/etc/ringlane/certs";
const NAMES: [(&str, &str); 6] = [
    ("internal-ca", "authority.internal"),
    ("orders", "orders.internal"),
    ("reports", "reports.db.example.com"),
    ("shop", "shop.internal"),
    ("www", "www.example.com"),
    ("www-rsa", "www.example.com"),
];

/// A page of architecture that nobody reads to its end holds nothing together.
const ARCHITECTURE_LINES_MAX: usize = 300;

#[test]
fn every_configuration_in_the_readme_is_valid_and_without_warnings() {
    let machine = Machine {
        cores: 4,
        somaxconn: 4096,
        descriptors: 1 << 20,
        memory: 8 << 30,
    };
    let readme = read("README.md");
    let blocks: Vec<&str> = toml_blocks(&readme).collect();
    assert!(blocks.len() >= 7, "only {} TOML blocks", blocks.len());
    for block in blocks {
        let report = match config::parse("README.md", block, &machine) {
            Ok(checked) => checked.warnings,
            Err(faults) => faults,
        };
        assert!(report.is_empty(), "{}\n{block}", report.render(false));
    }
}

#[test]
fn every_configuration_in_the_manual_is_valid_and_without_warnings() {
    let machine = Machine {
        cores: 4,
        somaxconn: 4096,
        descriptors: 1 << 20,
        memory: 8 << 30,
    };
    let page = read("src/manual/operations.md");
    let (mut whole, mut parts) = (0, 0);
    for block in toml_blocks(&page) {
        let text = completed(block);
        if text == block {
            whole += 1;
        } else {
            parts += 1;
        }
        let report = match config::parse("operations.md", &text, &machine) {
            Ok(checked) => checked.warnings,
            Err(faults) => faults,
        };
        assert!(report.is_empty(), "{}\n{text}", report.render(false));
    }
    assert!(whole >= 5 && parts >= 3, "{whole} and {parts}");
}

/// The manual shows parts of a configuration, too: they get the listener and the backends that they lack.
fn completed(block: &str) -> String {
    let mut text = block.to_owned();
    let pool = block.lines().find_map(|line| {
        let rest = line.trim_start_matches('[').strip_prefix("pool.")?;
        rest.split(['.', ']']).next()
    });
    if let Some(pool) = pool.filter(|_| !block.contains("[[listener]]")) {
        text += &format!("[[listener]]\nlisten = \"127.0.0.1:1\"\npool = \"{pool}\"\n");
        if !block.contains("10.0.0.1") {
            let backends = "backends = [\"10.0.0.1:80\", \"10.0.0.2:80\"]";
            text += &format!("[pool.{pool}]\n{backends}\n");
        }
    }
    text
}

#[test]
fn check_takes_every_configuration_in_the_repository_without_a_word() {
    let directory = std::env::temp_dir().join(format!("ringlane-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    for (file, name) in NAMES {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        // A validity that no warning mentions.
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        let chain = params.self_signed(&key).unwrap().pem();
        fs::write(directory.join(format!("{file}.pem")), chain).unwrap();
        fs::write(directory.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
    let mut seen = 0;
    let mut wrong = String::new();
    for file in fs::read_dir(root().join("config")).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let copy = directory.join(file.file_name().unwrap());
        let here = directory.to_str().unwrap();
        let text = text.replace(CERTIFICATES, here);
        fs::write(&copy, with_a_small_backlog(&text)).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_ringlane"))
            .arg("check")
            .arg(&copy)
            .output()
            .unwrap();
        if !output.status.success() || !output.stderr.is_empty() {
            wrong += &format!("{}\n", file.display());
            wrong += &String::from_utf8_lossy(&output.stderr);
        }
        seen += 1;
    }
    fs::remove_dir_all(&directory).unwrap();
    assert!(wrong.is_empty(), "{wrong}");
    assert!(seen >= 5, "only {seen} files");
}

#[test]
fn the_readme_shows_a_change_as_the_program_words_it() {
    let machine = Machine {
        cores: 4,
        somaxconn: 4096,
        descriptors: 1 << 20,
        memory: 8 << 30,
    };
    let model = |weight: u32| {
        let text = format!(
            "[[listener]]\nlisten = \"127.0.0.1:80\"\npool = \"http\"\n[pool.http]\nbackend = \
             [{{ name = \"red\", address = \"127.0.0.1:81\", weight = {weight} }}]\n"
        );
        config::parse("red.toml", &text, &machine).unwrap().model
    };
    let changes = config::diff(&model(1), &model(5));
    assert_eq!(changes.len(), 1);
    let shown = format!("\n  {}\n", changes[0]);
    assert!(read("README.md").contains(&shown), "{shown}");
}

#[test]
fn the_manual_explains_every_metric_and_no_other() {
    let page = read("src/manual/operations.md");
    let explained = rows(&page)
        .filter(|word| word.starts_with("ringlane_"))
        .collect();
    let exported: BTreeSet<&str> = names::ALL.iter().map(|metric| metric.name).collect();
    assert_same("metric", &explained, &exported);
}

#[test]
fn the_manual_explains_every_reason() {
    let page = read("src/manual/operations.md");
    let explained: BTreeSet<&str> = rows(section(&page, "## Reasons")).collect();
    let reasons = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_same("reason", &explained, &reasons);
}

#[test]
fn the_manual_explains_every_field_of_the_session_line() {
    let page = read("src/manual/operations.md");
    let explained: BTreeSet<&str> = rows(section(&page, "## The session line")).collect();
    let code = read("src/log/session.rs");
    let code = code.split("#[cfg(test)]").next().unwrap();
    // Every field is written by a call such as `fields.word("reason", ...)`.
    let mut written: BTreeSet<&str> = code
        .split("fields.")
        .skip(1)
        .filter_map(first_text)
        .collect();
    // The one field whose name stands in the writer itself.
    assert!(code.contains("self.unescaped(\"session\""));
    written.insert("session");
    assert_same("field", &explained, &written);
}

#[test]
fn every_command_and_flag_in_the_documents_exists() {
    let mut shown = 0;
    for document in ["README.md", "src/manual/operations.md"] {
        for command in commands(&read(document)) {
            let mut words = command.split_whitespace();
            let name = words.next().unwrap();
            let help = help(name);
            for flag in words.filter(|word| word.starts_with('-')) {
                assert!(
                    help.contains(flag),
                    "{document}: `ringlane {command}`\n{help}"
                );
            }
            shown += 1;
        }
    }
    assert!(shown > 10, "only {shown} commands found");
}

#[test]
fn the_readme_shows_every_command() {
    let readme: BTreeSet<String> = commands(&read("README.md"))
        .iter()
        .filter_map(|command| command.split_whitespace().next().map(str::to_owned))
        .collect();
    let help = help_of(&["--help"]);
    let listed = section(&help, "Commands:");
    let named = listed
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    for command in named.filter(|name| *name != "help") {
        assert!(readme.contains(command), "README.md lacks {command}");
    }
}

#[test]
fn the_readme_gives_one_test_command() {
    let readme = read("README.md");
    let block = readme.split("<!-- test command -->").nth(1).unwrap();
    let lines: Vec<&str> = block
        .lines()
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"))
        .collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("cargo test"), "{lines:?}");
}

#[test]
fn the_architecture_stays_short_and_names_files_that_exist() {
    let code = read("src/lib.rs");
    let page: Vec<&str> = code
        .lines()
        .filter(|line| line.starts_with("//!"))
        .collect();
    assert!(page.len() > 100, "the architecture is gone");
    assert!(
        page.len() <= ARCHITECTURE_LINES_MAX,
        "{} lines, at most {ARCHITECTURE_LINES_MAX}",
        page.len()
    );
    // Rustdoc holds links to what is public; of private modules it knows nothing.
    let private = page
        .iter()
        .flat_map(|line| line.split("[`").skip(1))
        .filter_map(|link| link.split_once("`](").map(|(path, _)| path));
    let mut seen = 0;
    for path in private.filter(|path| path.contains("::")) {
        let file = path.replace("::", "/");
        let exists = [format!("src/{file}.rs"), format!("src/{file}/mod.rs")]
            .iter()
            .any(|file| root().join(file).exists());
        assert!(exists, "there is no module {path}");
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} links to private modules");
}

#[test]
fn every_module_is_in_the_table_of_layers() {
    let code = read("src/lib.rs");
    let table = section(&code, "//! # Layers");
    let modules = code
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    for module in modules.filter(|module| *module != "manual") {
        assert!(table.contains(&format!("[`{module}`]")), "{module}");
    }
}

#[test]
fn files_that_the_readme_links_to_exist() {
    let readme = read("README.md");
    let links = readme.split("](").skip(1).filter_map(|rest| {
        let (target, _) = rest.split_once(')')?;
        (!target.starts_with("http") && !target.starts_with('#')).then_some(target)
    });
    let links: Vec<&str> = links.collect();
    assert!(!links.is_empty());
    for link in links {
        assert!(root().join(link).exists(), "{link}");
    }
}

/// No machine warns of this one.
fn with_a_small_backlog(text: &str) -> String {
    if text.contains("\nbacklog = 4096") {
        return text.replace("\nbacklog = 4096", "\nbacklog = 16");
    }
    text.replace("\n[[listener]]\n", "\n[[listener]]\nbacklog = 16\n")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn toml_blocks(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```toml\n").skip(1);
    blocks.filter_map(|block| block.split("```").next())
}

/// From the line that is `heading` to the next heading of any level, or to the end.
fn section<'t>(page: &'t str, heading: &str) -> &'t str {
    let start = page.find(&format!("{heading}\n")).unwrap();
    let text = &page[start..];
    let end = ["\n# ", "\n## ", "\n//! # "]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min();
    &text[..end.unwrap_or(text.len())]
}

/// What stands in backquotes in the first column of tables.
fn rows(page: &str) -> impl Iterator<Item = &str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
}

/// The text that a call's first argument is.
fn first_text(call: &str) -> Option<&str> {
    let (name, arguments) = call.split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase());
    let text = arguments.strip_prefix('"').filter(|_| is_name)?;
    text.split('"').next()
}

/// What follows `ringlane ` in code that is typed: in tables and prose in backquotes, in blocks at the
/// start of a line or after a prompt.
fn commands(page: &str) -> Vec<String> {
    let inline = page
        .split("`ringlane ")
        .skip(1)
        .filter_map(|rest| rest.split('`').next());
    let typed = page.lines().filter_map(|line| {
        line.strip_prefix("$ ")
            .unwrap_or(line)
            .strip_prefix("ringlane ")
    });
    inline.chain(typed).map(str::to_owned).collect()
}

fn help(command: &str) -> String {
    help_of(&[command, "--help"])
}

fn help_of(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ringlane"))
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ringlane {arguments:?}\n{text}");
    String::from_utf8(output.stdout).unwrap()
}

fn assert_same(what: &str, explained: &BTreeSet<&str>, existing: &BTreeSet<&str>) {
    let lacks: Vec<_> = existing.difference(explained).collect();
    assert!(lacks.is_empty(), "the manual lacks the {what}s {lacks:?}");
    let gone: Vec<_> = explained.difference(existing).collect();
    assert!(gone.is_empty(), "there are no such {what}s: {gone:?}");
}
