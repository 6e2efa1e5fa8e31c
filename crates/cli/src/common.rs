//! The options of all client commands.

use std::path::PathBuf;

use clap::Args;

// Options of all client commands. A doc comment here would become the help of each command.
#[derive(Args, Clone, Debug)]
pub(super) struct CommonArgs {
    /// Address of the API
    #[arg(
        long,
        env = "VIRGA_ENDPOINT",
        default_value = "http://127.0.0.1:9400",
        global = true
    )]
    pub(super) endpoint: String,
    /// CA certificates (PEM) for an https endpoint, as virga ca prints [default: the system's]
    #[arg(long, value_name = "FILE", env = "VIRGA_CA", global = true)]
    pub(super) ca: Option<PathBuf>,
    /// The server's data directory, from which credentials are read unless VIRGA_SECRET_ID and VIRGA_SECRET_KEY are set
    #[arg(long, env = "VIRGA_DATA", global = true, hide_env_values = true)]
    pub(super) data: PathBuf,
    /// Namespace of the function
    #[arg(long, short, default_value = "default", global = true)]
    pub(super) namespace: String,
    /// Print JSON, also on a terminal
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Print text, also in a pipe
    #[arg(long, global = true, conflicts_with = "json")]
    pub(super) text: bool,
}
