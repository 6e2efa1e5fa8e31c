//! Starting a tool of the platform in a sandbox of its own: pip, or the compiler.

use std::io;
use std::path::Path;
use std::process::Stdio;

use sandbox::launch::{self, RunSpec};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// Starts it with no environment but its own; it ends when the handle is dropped.
pub(crate) async fn start(
    virga: &Path,
    spec: &RunSpec,
    output: fn() -> Stdio,
) -> io::Result<Child> {
    let mut child = Command::new(virga)
        .arg(launch::RUN)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(output())
        .stderr(output())
        .kill_on_drop(true)
        .spawn()?;
    let text = serde_json::to_vec(spec).map_err(io::Error::other)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&text).await?;
    }
    Ok(child)
}
