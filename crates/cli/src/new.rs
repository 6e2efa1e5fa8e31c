//! `virga new`.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::output::Output;

const INDEX: &str = include_str!("../../../examples/hello/index.py");

/// Flags of `virga new`.
#[derive(Args, Debug)]
pub(super) struct NewArgs {
    /// Directory to create; its last component becomes the function's name
    directory: PathBuf,
}

pub(super) fn run(args: &NewArgs, output: &Output) -> Result<(), Failure> {
    let directory = &args.directory;
    let shown = directory.display();
    if directory.exists() && fs::read_dir(directory)?.next().is_some() {
        return Err(Failure::Usage(format!(
            "{shown} exists and is not empty; choose a new directory"
        )));
    }
    fs::create_dir_all(directory)?;
    fs::write(directory.join("index.py"), INDEX)?;
    let words = format!("{shown}/index.py is your function. Deploy it:\n  virga deploy {shown}");
    output.result(
        &words,
        &json!({"Directory": directory, "Files": ["index.py"]}),
    );
    Ok(())
}
