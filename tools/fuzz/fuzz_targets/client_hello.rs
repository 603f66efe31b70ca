//! Any bytes for the reader of ClientHellos.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/client_hello.rs"]
mod client_hello;

fuzz_target!(|data: &[u8]| client_hello::check(data));
