//! `ringlane explain`: what becomes of a client, by the data path's own code.

mod backends;
mod client;
mod decide;
mod shown;
mod skipped;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::base::clock::now;
use crate::config::model::Model;
use crate::config::{self, Checked, Machine, Report};
use crate::limits::store as lists;
use crate::metrics;
use crate::snapshot::{Made, Registries, Snapshot};
use crate::tls::DefaultTimeProvider;
use crate::tls::store::Store;

use super::{CONFIG_FILE, EXIT_CONFIGURATION, complain, print, refuse};
use client::Client;
use decide::Scene;

/// Nothing takes the client.
const EXIT_NO_MATCH: u8 = 4;

#[derive(clap::Args, Debug)]
pub(super) struct Explain {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,
    /// The listener that the client connects to
    #[arg(short, long, value_name = "NAME")]
    listener: String,
    /// Where the client comes from: IP or IP:PORT
    #[arg(long, value_name = "ADDR", value_parser = source)]
    src: Option<IpAddr>,
    /// The server name that it asks for; without it, a client that speaks TLS and gives no name
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// The application protocols that it offers, such as h2,http/1.1
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    alpn: Vec<String>,
    /// Its JA4 fingerprint
    #[arg(long, value_name = "JA4")]
    ja4: Option<String>,
    /// What it sends first, as captured: the bytes of its ClientHello; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sni", "alpn", "ja4", "plain"])]
    hello: Option<PathBuf>,
    /// It does not speak TLS
    #[arg(long, conflicts_with_all = ["sni", "alpn", "ja4"])]
    plain: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Exits with 0 where the client has a route, with 4 where it has none.
pub(super) fn explain(flags: &Explain) -> ExitCode {
    let snapshot = match config::load(&flags.config, &Machine::here()).and_then(snapshot) {
        Ok(snapshot) => snapshot,
        Err(report) => return refuse(&report),
    };
    let scene = Scene::find(&snapshot, &flags.listener);
    let (scene, client) = match (scene, Client::read(flags)) {
        (Ok(scene), Ok(client)) => (scene, client),
        (Err(message), _) | (_, Err(message)) => {
            complain(&message);
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let explanation = scene.explain(&client);
    let printed = print(&if flags.json {
        format!("{:#}\n", serde_json::json!(explanation))
    } else {
        explanation.to_string()
    });
    if printed == ExitCode::SUCCESS && !explanation.is_taken() {
        return ExitCode::from(EXIT_NO_MATCH);
    }
    printed
}

/// What a ringlane that has just started would go by, but for host names: see [`backends`].
fn snapshot(checked: Checked) -> Result<Snapshot, Report> {
    let store = Store::new(Arc::new(DefaultTimeProvider));
    let prepared = store.prepare(&checked.model, &checked.places, now())?;
    let lists = lists::Store::default().prepare(&checked.model, &checked.places, now())?;
    let answers = backends::stand_ins(&checked.model);
    let registries = Registries::new(Arc::new(metrics::Registry::new(1)));
    let model: Arc<Model> = Arc::new(checked.model);
    let made = Made {
        tls: prepared.settings(),
        lists: lists.lists(),
    };
    Ok(registries.build(model, &answers, made, 1))
}

fn source(text: &str) -> Result<IpAddr, String> {
    let address = text.parse().map(|address: SocketAddr| address.ip());
    let address = address.or_else(|_| text.parse::<IpAddr>());
    address.map_err(|_| "expected an IP address, alone or with a port".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_may_have_a_port() {
        for text in ["10.1.2.3", "10.1.2.3:5000"] {
            assert_eq!(source(text).unwrap().to_string(), "10.1.2.3");
        }
        for text in ["2001:db8::1", "[2001:db8::1]:5000"] {
            assert_eq!(source(text).unwrap().to_string(), "2001:db8::1");
        }
        for text in ["", "a.example", "10.1.2.3:99999", "10.1.2", "[::1]"] {
            assert!(source(text).is_err(), "{text}");
        }
    }
}
