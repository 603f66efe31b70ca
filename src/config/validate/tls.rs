//! `[listener.tls]` to how TLS ends here, `[pool.NAME.tls]` to how it begins.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::routes::texts;
use super::{Check, section, word};
use crate::config::choices::{TLS_VERSIONS, meaning};
use crate::config::model::{
    Certificate, ClientAuth, ClientCa, PoolSni, PoolTls, Termination, Tickets, Verify,
};
use crate::config::report::Finding;
use crate::config::table::{Table, Value};

impl Check<'_> {
    /// How TLS ends here; of use only when no fault was found.
    pub(super) fn termination(&mut self, table: &Table) -> Termination {
        let certificates = self.certificates(table);
        let min_version = meaning(&TLS_VERSIONS, word(table, "min_version"));
        let max_version = meaning(&TLS_VERSIONS, word(table, "max_version"));
        if min_version > max_version {
            let (min, max) = (word(table, "min_version"), word(table, "max_version"));
            let message = format!(
                "`min_version` is above `max_version`, got \"{min}\", expected at most \"{max}\""
            );
            // One of the two is not at its default, or they would fit.
            let given = ["min_version", "max_version"].map(|name| table.changed(name));
            let place = given.into_iter().flatten().next();
            let place = place.map_or(table.place, |entry| entry.place);
            self.faults.push(Finding::at(place, message));
        }
        Termination {
            default_certificate: self.default_certificate(table, certificates.len()),
            certificates,
            min_version,
            max_version,
            alpn: texts(table, "alpn"),
            client_auth: self.client_auth(section(table, "client_auth")),
            tickets: self.tickets(table),
            handshakes_max: table.number("handshakes_max"),
            handshake_rate: match table.entry("handshake_rate").map(|entry| &entry.value) {
                Some(Value::Rate(rate)) => Some(*rate),
                _ => None,
            },
        }
    }

    fn certificates(&mut self, table: &Table) -> Vec<Certificate> {
        let mut seen = HashMap::new();
        let mut certificates = Vec::new();
        for entry in table.tables("certificates") {
            let (Some(chain), Some(key)) = (path(entry, "chain"), path(entry, "key")) else {
                continue;
            };
            if let Some(first) = seen.insert((chain.clone(), key.clone()), entry.place) {
                let message = "the certificate has no effect: it is in the list twice";
                let finding = Finding::at(entry.place, message);
                self.warnings
                    .push(finding.also(first, "it is first given here"));
            }
            certificates.push(Certificate {
                chain,
                key,
                ocsp: path(entry, "ocsp"),
            });
        }
        certificates
    }

    fn default_certificate(&mut self, table: &Table, count: usize) -> Option<usize> {
        let entry = table.entry("default_certificate")?;
        let Value::Number(number) = entry.value else {
            return None;
        };
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        // Where certificates have faults of their own their count is too low.
        let all = table.tables("certificates").len().max(count);
        if let Some(last) = all.checked_sub(1)
            && number > last
        {
            let message = format!(
                "`default_certificate` is out of range, got the number {number}, \
                 expected the place of one of {all} in `certificates`, from 0 to {last}"
            );
            self.faults.push(Finding::at(entry.place, message));
        }
        Some(number)
    }

    fn client_auth(&mut self, table: &Table) -> ClientAuth {
        let mode = word(table, "mode");
        if mode == "off" {
            for name in ["ca", "crl"] {
                self.idle_setting(table, name, "no client is asked for a certificate");
            }
            return ClientAuth::Off;
        }
        if !table.is_given("ca") {
            let place = table.entry("mode").map_or(table.place, |entry| entry.place);
            let message = format!(
                "`ca` is missing in `client_auth`, got mode = \"{mode}\" without it, \
                 expected the file of the authorities that vouch for clients"
            );
            self.faults.push(Finding::at(place, message));
        }
        let ca = ClientCa {
            ca: path(table, "ca").unwrap_or_default(),
            crl: path(table, "crl"),
        };
        if mode == "request" {
            ClientAuth::Request(ca)
        } else {
            ClientAuth::Require(ca)
        }
    }

    fn tickets(&mut self, table: &Table) -> Tickets {
        if let Some(file) = path(table, "ticket_keys") {
            self.idle_setting(table, "ticket_rotation", "the keys come from `ticket_keys`");
            return Tickets::File(file);
        }
        let rotation = table.time_or_off("ticket_rotation");
        rotation.map_or(Tickets::Off, Tickets::Rotating)
    }

    /// How connections to the backends of a pool are encrypted; of use only when no fault was found.
    pub(super) fn pool_tls(&mut self, table: &Table) -> PoolTls {
        let sni = match table.text("sni") {
            Some(word) if &**word == "client" => PoolSni::Client,
            Some(name) => PoolSni::Fixed(Arc::clone(name)),
            None => PoolSni::Backend,
        };
        PoolTls {
            verify: self.verify(table),
            sni,
            certificate: self.own_certificate(table),
            alpn: texts(table, "alpn"),
            min_version: meaning(&TLS_VERSIONS, word(table, "min_version")),
        }
    }

    fn verify(&mut self, table: &Table) -> Verify {
        let entry = table.entry("verify");
        let place = entry.map_or(table.place, |entry| entry.place);
        match (table.text("verify").map(|word| &**word), path(table, "ca")) {
            (None | Some("ca"), Some(ca)) => Verify::Ca(ca),
            (Some("ca"), None) if !table.is_given("ca") => {
                let message = "`ca` is missing in [pool.NAME.tls], got verify = \"ca\" without it, \
                               expected the file of the authorities that vouch for backends";
                self.faults.push(Finding::at(place, message));
                Verify::System
            }
            (Some("none"), _) => {
                let message = "backends are not verified: whoever can redirect their traffic can \
                               read and change it";
                self.warnings.push(Finding::at(place, message));
                self.idle_setting(table, "ca", "`verify` is \"none\"");
                Verify::None
            }
            _ => {
                self.idle_setting(table, "ca", "`verify` is \"system\"");
                Verify::System
            }
        }
    }

    fn own_certificate(&mut self, table: &Table) -> Option<(PathBuf, PathBuf)> {
        let (given, missing) = match (path(table, "certificate"), path(table, "key")) {
            (Some(certificate), Some(key)) => return Some((certificate, key)),
            (None, None) => return None,
            (Some(_), None) => ("certificate", "key"),
            (None, Some(_)) => ("key", "certificate"),
        };
        if table.is_given(missing) {
            return None;
        }
        let place = table.entry(given).map_or(table.place, |entry| entry.key);
        let message = format!("`{given}` without `{missing}`, expected both or none of the two");
        self.faults.push(Finding::at(place, message));
        None
    }
}

/// The path under a key, as the file gives it: relative to where the process runs.
fn path(table: &Table, name: &str) -> Option<PathBuf> {
    table.text(name).map(|path| PathBuf::from(&**path))
}
