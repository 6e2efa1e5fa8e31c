//! For tests alone: starts and stops the real binary on a port and in a directory of its own, and talks to it as any
//! client does.
//!
//! Everything here panics when something is not as a test needs it.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "as said")]

mod client;
mod judge;
mod objects;
mod server;

pub use client::{Answer, Client, OPERATOR_SERVICE, OPERATOR_VERSION, Refused};
pub use judge::{Promises, Recorder, Verdict};
pub use objects::Objects;
pub use server::{AS_USER, Options, Server};

use std::io::{Cursor, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A package of these files, as bytes.
pub fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .expect("a name that zip takes");
        writer.write_all(content).expect("memory");
    }
    writer.finish().expect("an archive").into_inner()
}

/// A package of these files, all of them executable, as the API takes it.
pub fn programs(files: &[(&str, &[u8])]) -> String {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let options = SimpleFileOptions::default().unix_permissions(0o755);
        writer
            .start_file(*name, options)
            .expect("a name that zip takes");
        writer.write_all(content).expect("memory");
    }
    base64(&writer.finish().expect("an archive").into_inner())
}

/// A package of these files, as the API takes it.
pub fn package(files: &[(&str, &str)]) -> String {
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (*name, text.as_bytes()))
        .collect();
    base64(&zip(&files))
}

/// Bytes as the API takes them.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Asks until the answer is yes; for what happens behind the server's back and cannot be awaited.
///
/// # Panics
/// When it stays no for two minutes: however slow the machine is, a test fails for what is wrong alone.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !check() {
        assert!(
            begun.elapsed().as_secs() < 120,
            "it never came to be: {what}"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
