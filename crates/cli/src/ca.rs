//! `virga ca`.

use std::path::Path;

use super::failure::Failure;
use super::output::Output;

/// Prints the certificate as PEM, also in a pipe.
pub(super) fn run(path: &Path, output: &Output) -> Result<(), Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let path = path.display();
        Failure::Usage(format!(
            "failed to read {path}: {e}; virga up --tls-listen ADDRESS creates it, --data sets its directory"
        ))
    })?;
    output.text(&text);
    Ok(())
}
