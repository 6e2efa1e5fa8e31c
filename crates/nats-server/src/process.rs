//! The server's process: started, awaited, started again when it ends, and stopped with virga.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::configuration::{Configuration, InvalidConfiguration, path};

/// The pause after the server ended; it doubles up to [`LONGEST_PAUSE`], and begins anew after [`STEADY`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a server has to run for its end to be the first.
const STEADY: Duration = Duration::from_secs(60);
/// How long a server may take to stop.
const STOP: Duration = Duration::from_secs(30);
/// The server's warning of passwords in its configuration, which only its user reads.
const PASSWORDS: &str = "Plaintext passwords detected";
/// The line of its log by which it accepts connections.
const READY: &str = "Server is ready";

/// A server that runs until it is stopped.
#[derive(Debug)]
pub struct NatsServer {
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It does not accept connections yet.
    Starting,
    /// It accepts connections.
    Ready {
        /// Its process.
        pid: u32,
    },
    /// It ended, and is started again after a pause.
    Ended {
        /// Why.
        reason: String,
    },
    /// It was stopped.
    Stopped,
}

/// Why a server cannot be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting cannot be written.
    #[error(transparent)]
    Invalid(#[from] InvalidConfiguration),
    /// A file cannot be written.
    #[error("failed to write {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The program cannot be run.
    #[error("failed to run the NATS server {}: {error}", binary.display())]
    Binary {
        /// The program.
        binary: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The program does not take the configuration.
    #[error("the NATS server {} refuses its configuration {}: {reason}", binary.display(), path.display())]
    Refused {
        /// The program.
        binary: PathBuf,
        /// The configuration.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
}

/// Where the server's files are.
#[derive(Clone, Debug)]
struct Files {
    binary: PathBuf,
    configuration: PathBuf,
    pid: PathBuf,
}

impl NatsServer {
    /// Writes the configuration into a directory and starts the server. A server that an earlier virga left behind there is stopped first.
    ///
    /// # Errors
    /// Fails if the configuration cannot be written, or the program does not take it.
    pub async fn start(
        binary: &Path,
        directory: &Path,
        configuration: &Configuration,
    ) -> Result<Self, StartError> {
        let files = Files {
            binary: binary.to_owned(),
            configuration: directory.join("nats-server.conf"),
            pid: directory.join("nats-server.pid"),
        };
        let mut text = configuration.render()?;
        text.push_str(&format!("pid_file: {}\n", path("pid file", &files.pid)?));
        write_secret(&files.configuration, &text).map_err(|error| StartError::File {
            path: files.configuration.clone(),
            error,
        })?;
        test(&files).await?;
        stop_earlier(&files).await;
        let (report, state) = watch::channel(State::Starting);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(look_after(files, report, stopped));
        Ok(Self { state, stop, task })
    }

    /// Returns how the server is, and every change of it.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Waits until the server accepts connections, however often it has to be started, and returns its process.
    pub async fn ready(&self) -> Option<u32> {
        let mut state = self.state.clone();
        let ended = |state: &State| matches!(state, State::Ready { .. } | State::Stopped);
        let state = state.wait_for(ended).await.ok()?;
        match *state {
            State::Ready { pid } => Some(pid),
            _ => None,
        }
    }

    /// Stops the server: it gives its leaderships away, syncs and ends.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            warn!(%error, "the task that looks after the NATS server failed");
        }
    }
}

/// Runs the server until it is to be stopped. When the handle is dropped, the server ends, too.
async fn look_after(files: Files, report: watch::Sender<State>, mut stop: watch::Receiver<bool>) {
    let mut pause = FIRST_PAUSE;
    loop {
        report.send_replace(State::Starting);
        let begun = Instant::now();
        let ended = match spawn(&files) {
            Ok((child, log)) => run(child, log, &report, &mut stop).await,
            Err(error) => Some(error.to_string()),
        };
        let Some(reason) = ended else {
            report.send_replace(State::Stopped);
            return;
        };
        if begun.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        warn!(reason, ?pause, "the NATS server ended; it is started again");
        report.send_replace(State::Ended { reason });
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            _ = stop.wait_for(|stop| *stop) => {
                report.send_replace(State::Stopped);
                return;
            }
        }
    }
}

/// Waits until the server ends, and returns why, or `None` if it was stopped.
async fn run(
    mut child: Child,
    log: ChildStderr,
    report: &watch::Sender<State>,
    stop: &mut watch::Receiver<bool>,
) -> Option<String> {
    let pid = child.id().unwrap_or_default();
    let mut lines = BufReader::new(log).lines();
    let mut last = String::new();
    let stopping = loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => {
                    if line.contains(READY) {
                        report.send_replace(State::Ready { pid });
                    }
                    last = pass_on(line, last);
                }
                // Its log ends with it.
                Ok(None) | Err(_) => break false,
            },
            _ = stop.wait_for(|stop| *stop) => break true,
        }
    };
    if stopping {
        end(&mut child, &mut lines).await;
        return None;
    }
    match child.wait().await {
        Ok(status) if last.is_empty() => Some(status.to_string()),
        Ok(status) => Some(format!("{status}: {last}")),
        Err(error) => Some(error.to_string()),
    }
}

/// Logs a line of the server, and returns the last one that was an error.
fn pass_on(line: String, last: String) -> String {
    let has = |part: &str| line.contains(part);
    let error = has("[ERR]") || has("[FTL]");
    if error || (has("[WRN]") && !has(PASSWORDS)) {
        warn!("nats-server: {line}");
    } else {
        debug!("nats-server: {line}");
    }
    // Before it has a log, it writes why it cannot run.
    if error || !has(" [") { line } else { last }
}

async fn end(child: &mut Child, lines: &mut tokio::io::Lines<BufReader<ChildStderr>>) {
    if let Some(pid) = child.id().and_then(process) {
        // It may have ended, which the wait notices.
        let _ = kill_process(pid, Signal::TERM);
    }
    let ended = async {
        // A server whose log is not read would wait.
        while let Ok(Some(line)) = lines.next_line().await {
            debug!("nats-server: {line}");
        }
        child.wait().await
    };
    if tokio::time::timeout(STOP, ended).await.is_err() {
        warn!("the NATS server does not stop; killing it");
        let _ = child.kill().await;
    }
}

fn spawn(files: &Files) -> io::Result<(Child, ChildStderr)> {
    let mut child = Command::new(&files.binary)
        .arg("-c")
        .arg(&files.configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C is for virga, which stops the server last.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    info!(pid = child.id(), "started the NATS server");
    let log = child.stderr.take();
    log.map(|log| (child, log))
        .ok_or_else(|| io::Error::other("its log cannot be read"))
}

/// Has the program check the configuration.
async fn test(files: &Files) -> Result<(), StartError> {
    let tested = Command::new(&files.binary)
        .arg("-t")
        .arg("-c")
        .arg(&files.configuration)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| StartError::Binary {
            binary: files.binary.clone(),
            error,
        })?;
    if tested.status.success() {
        return Ok(());
    }
    let said = [tested.stdout, tested.stderr].concat();
    Err(StartError::Refused {
        binary: files.binary.clone(),
        path: files.configuration.clone(),
        reason: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// Stops the server that a killed virga left behind, which has the ports and the data.
async fn stop_earlier(files: &Files) {
    let Some(pid) = earlier(files) else {
        return;
    };
    info!(
        pid = pid.as_raw_nonzero().get(),
        "stopping the NATS server of an earlier virga"
    );
    let _ = kill_process(pid, Signal::TERM);
    let begun = Instant::now();
    while test_kill_process(pid).is_ok() && earlier(files).is_some() {
        if begun.elapsed() > STOP {
            warn!("it does not stop; killing it");
            let _ = kill_process(pid, Signal::KILL);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the process of the pid file if it is a server with this configuration.
fn earlier(files: &Files) -> Option<Pid> {
    let pid = std::fs::read_to_string(&files.pid).ok()?;
    let pid: u32 = pid.trim().parse().ok()?;
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let configuration = files.configuration.as_os_str().as_encoded_bytes();
    let mut arguments = arguments.split(|byte| *byte == 0);
    arguments
        .any(|argument| argument == configuration)
        .then(|| process(pid))?
}

fn process(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Writes a file that only this user reads.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    io::Write::write_all(&mut options.open(&new)?, text.as_bytes())?;
    std::fs::rename(new, path)
}
