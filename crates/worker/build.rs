//! Builds the sandbox's library for interpreters, which the worker carries inside itself.
//!
//! The library is the crate `sandbox` once more, as a shared object. Cargo cannot depend on that form of a
//! crate, so it is built here, in a directory of its own.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = manifest.join("../..");
    let target = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("guest");
    println!("cargo::rerun-if-changed=../sandbox/src");
    println!("cargo::rerun-if-changed=../sandbox/Cargo.toml");
    println!("cargo::rerun-if-changed=../../runtimes");

    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "rustc",
            "--package",
            "sandbox",
            "--lib",
            "--profile",
            "guest",
            "--crate-type",
            "cdylib",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(root)
        // A linter stands in for the compiler when it checks this workspace; the library needs the compiler.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        .status();
    match status {
        Ok(status) if status.success() => {}
        other => panic!("building the sandbox's library failed: {other:?}"),
    }
    let library = target.join("guest").join("libsandbox.so");
    println!("cargo::rustc-env=VIRGA_GUEST_LIBRARY={}", library.display());
}
