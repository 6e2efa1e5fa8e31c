//! Test support: runs the real binary on a port and in a directory of its own, and calls it as any client does.
//!
//! Functions panic on every unexpected failure, which fails the test.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a panic fails the test")]

mod client;
mod delivery;
mod expected;
mod objects;
mod server;

pub use client::{ApiError, Client, HttpResponse, OPERATOR_SERVICE, OPERATOR_VERSION};
pub use delivery::{DeliveryLog, DeliveryReport, Recorder};
pub use objects::Objects;
pub use seeded::Random;
pub use server::{AS_USER, Options, Server};

use std::io::{Cursor, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Builds a zipped package of files.
pub fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .expect("a valid zip entry name");
        writer.write_all(content).expect("memory");
    }
    writer.finish().expect("an archive").into_inner()
}

/// Builds a package of executable files, base64-encoded for the API.
pub fn programs(files: &[(&str, &[u8])]) -> String {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let options = SimpleFileOptions::default().unix_permissions(0o755);
        writer
            .start_file(*name, options)
            .expect("a valid zip entry name");
        writer.write_all(content).expect("memory");
    }
    base64(&writer.finish().expect("an archive").into_inner())
}

/// Builds a package of files, base64-encoded for the API.
pub fn package(files: &[(&str, &str)]) -> String {
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (*name, text.as_bytes()))
        .collect();
    base64(&zip(&files))
}

/// Encodes bytes in base64, as the API requires.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Polls until a condition holds; for effects that cannot be awaited.
///
/// # Panics
/// If the condition does not hold within two minutes, a timeout that a slow machine does not reach.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !check() {
        assert!(begun.elapsed().as_secs() < 120, "timed out: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
