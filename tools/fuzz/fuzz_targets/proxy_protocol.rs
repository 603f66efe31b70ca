//! Any bytes for the reader of PROXY headers.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/proxy_protocol.rs"]
mod proxy_protocol;

fuzz_target!(|data: &[u8]| proxy_protocol::check(data));
