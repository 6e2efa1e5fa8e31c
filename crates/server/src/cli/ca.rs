//! `virga ca`.

use std::path::Path;

use super::Failure;
use super::output::Output;
use crate::tls::{CA, DIRECTORY};

/// Prints the certificate as it is, in a pipe, too: that is where it is wanted.
pub(super) fn run(data: &Path, output: &Output) -> Result<(), Failure> {
    let path = data.join(DIRECTORY).join(CA);
    let text = std::fs::read_to_string(&path).map_err(|e| {
        let path = path.display();
        Failure::Usage(format!(
            "{path}: {e}; virga up --tls-listen ADDRESS makes it, and --data says where"
        ))
    })?;
    output.text(&text);
    Ok(())
}
