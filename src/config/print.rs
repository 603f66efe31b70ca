//! The model back to TOML, every default spelt out.

use std::fmt::Write;

use toml::Value;

use super::model::Model;
use super::settings::{self, Setting};

/// The effective configuration as TOML, with every default; fed back, it gives the same model.
pub fn print(model: &Model) -> String {
    let mut text = String::from(
        "# The effective configuration: every default is spelt out, included files are joined.\n\
         include = []\n",
    );
    table(&mut text, "[global]", &settings::global(&model.global));
    table(&mut text, "[admin]", &settings::admin(&model.admin));
    table(&mut text, "[log]", &settings::log(&model.log));
    for listener in &model.listeners {
        let mut all = vec![named(&listener.name)];
        all.extend(settings::listener(listener));
        table(&mut text, "[[listener]]", &all);
        for route in settings::routes_of(listener) {
            let mut all = vec![named(&route.name)];
            all.extend(settings::route(route));
            table(&mut text, "[[listener.route]]", &all);
        }
    }
    for pool in &model.pools {
        let key = key(&pool.name);
        table(&mut text, &format!("[pool.{key}]"), &settings::pool(pool));
        for backend in &pool.backends {
            let mut all = vec![named(&backend.name)];
            all.extend(settings::backend(backend));
            table(&mut text, &format!("[[pool.{key}.backend]]"), &all);
        }
    }
    text
}

fn named(name: &str) -> Setting {
    ("name", Some(name.into()))
}

fn table(text: &mut String, header: &str, settings: &[Setting]) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{header}");
    for (key, value) in settings {
        let _ = match value {
            Some(value) => writeln!(text, "{key} = {value}"),
            None => writeln!(text, "# {key} is not set"),
        };
    }
}

/// A name as one part of a key: quoted unless it is bare (TOML 1.0, "Keys").
fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_bare) {
        name.to_owned()
    } else {
        // Names have no control characters, so this stays a text of one line.
        Value::from(name).to_string()
    }
}
