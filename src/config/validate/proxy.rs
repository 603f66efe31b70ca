//! `proxy_protocol` of listeners and pools: who may speak for others, and what is said onwards.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::routes::{networks, texts};
use super::{Check, section, word};
use crate::base::address::Endpoint;
use crate::config::choices::{RECEIVES, SENDS, TLVS, meaning};
use crate::config::model::{ProxyReceive, ProxySend, ProxyTlvs, ProxyVersion};
use crate::config::report::Finding;
use crate::config::source::Place;
use crate::config::table::{Table, Value};

/// Fields that mean something only in the header they came in: its checksum and its padding.
const NOT_PASSED: [u32; 2] = [0x03, 0x04];

impl Check<'_> {
    /// Who says whom it speaks for on a listener with these addresses.
    pub(super) fn proxy_receive(
        &mut self,
        listener: &Table,
        listen: &[Endpoint],
    ) -> Option<ProxyReceive> {
        let table = section(listener, "proxy_protocol");
        let Some(header) = meaning(&RECEIVES, word(table, "receive")) else {
            self.idle_setting(table, "trusted", "`receive` is \"off\"");
            return None;
        };
        let all_unix = listen.iter().all(|at| matches!(at, Endpoint::Unix(_)));
        let all_unix = all_unix && !listen.is_empty();
        if all_unix {
            let why = "every address of the listener is a unix socket, and its peers are trusted";
            self.idle_setting(table, "trusted", why);
        } else if !table.is_given("trusted") {
            let got = word(table, "receive");
            let place = table
                .entry("receive")
                .map_or(table.place, |entry| entry.place);
            let message = format!(
                "`trusted` is missing in `proxy_protocol`, got receive = \"{got}\" without it, \
                 expected the networks of the proxies in front"
            );
            let help = "from anybody else a header could claim any address: \
                        trusted = [\"10.0.0.0/8\"]";
            self.faults
                .push(Finding::at(place, message).help(Some(help.to_owned())));
        }
        Some(ProxyReceive {
            header,
            trusted: networks(table, "trusted"),
        })
    }

    /// What the backends of a pool are told.
    pub(super) fn proxy_send(&mut self, pool: &Table) -> Option<ProxySend> {
        let table = section(pool, "proxy_protocol");
        let Some(version) = meaning(&SENDS, word(table, "send")) else {
            for name in FIELDS {
                self.idle_setting(table, name, "`send` is \"off\"");
            }
            return None;
        };
        if version == ProxyVersion::V1 {
            for entry in FIELDS.iter().filter_map(|name| table.changed(name)) {
                let message = "only version 2 has further fields, got send = \"v1\", \
                               expected send = \"v2\"";
                self.faults.push(Finding::at(entry.key, message));
            }
            let tlvs = ProxyTlvs::default();
            return Some(ProxySend { version, tlvs });
        }
        let tlvs = self.fields(table);
        Some(ProxySend { version, tlvs })
    }

    fn fields(&mut self, table: &Table) -> ProxyTlvs {
        let words = texts(table, "tlvs");
        let has = |name: &str| words.iter().any(|word| &**word == name);
        let mut tlvs = ProxyTlvs {
            alpn: has("alpn"),
            authority: has("authority"),
            unique_id: has("unique_id"),
            ssl: has("ssl"),
            crc32c: has("crc32c"),
            ..ProxyTlvs::default()
        };
        let mut taken = HashMap::new();
        for (place, value) in table.list("tlvs") {
            if let Value::Text(word) = value {
                self.field(&mut taken, (meaning(&TLVS, word), *place));
            }
        }
        for (place, value) in table.list("pass") {
            let Value::Number(kind) = *value else {
                continue;
            };
            if NOT_PASSED.contains(&kind) {
                let message = format!(
                    "field 0x{kind:02X} cannot be passed on, expected none of 0x03 and 0x04: \
                     a checksum and padding belong to one header"
                );
                self.faults.push(Finding::at(*place, message));
            } else {
                self.field(&mut taken, (kind, *place));
            }
            tlvs.pass.extend(u8::try_from(kind));
        }
        for entry in table.tables("custom") {
            let (Some(kind), Some(value)) = (entry.entry("type"), entry.text("value")) else {
                continue;
            };
            if let Value::Number(number) = kind.value {
                self.field(&mut taken, (number, kind.place));
                let custom = u8::try_from(number).map(|number| (number, Arc::clone(value)));
                tlvs.custom.extend(custom);
            }
        }
        tlvs
    }

    fn field(&mut self, taken: &mut HashMap<u32, Place>, (kind, place): (u32, Place)) {
        match taken.entry(kind) {
            Entry::Vacant(entry) => {
                entry.insert(place);
            }
            Entry::Occupied(first) => {
                let message =
                    format!("field 0x{kind:02X} is given twice, expected it once in the header");
                let finding = Finding::at(place, message);
                self.faults
                    .push(finding.also(*first.get(), "it is first given here"));
            }
        }
    }
}

/// What only version 2 can say.
const FIELDS: [&str; 3] = ["tlvs", "pass", "custom"];
