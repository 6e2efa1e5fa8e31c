//! The real binary.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Client, Objects};

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Flags of `virga up`.
    pub flags: Vec<String>,
    /// Whether lines of the level ERROR are expected in its log.
    pub errors: bool,
    /// Whether an ordinary user starts it. Such a server cannot be started twice.
    pub user: bool,
    /// What its environment says, beside what it is by default.
    pub environment: Vec<(String, String)>,
    /// Whether it is told neither control groups nor users, and is to keep apart from others by itself.
    pub apart: bool,
    /// Where its data is, when its flags say that it is elsewhere than usual.
    pub data: Option<PathBuf>,
}

/// A server in its own directory, on its own port, with its own control groups and users. It ends with this.
#[derive(Debug)]
pub struct Server {
    binary: PathBuf,
    options: Options,
    directory: TempDir,
    number: u32,
    child: Option<Child>,
    endpoint: String,
    /// The line that it printed when it was ready.
    pub ready: String,
}

/// Users that one server of a test sets aside.
const USERS: u32 = 4096;
/// An ordinary user, whom this machine need not know.
const USER: u32 = 29_998;
/// Runs a program as an ordinary user: its number, a directory, its control groups or `-`, and the program.
pub const AS_USER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/as-user");

impl Server {
    /// Starts a server as it is by default.
    pub fn start(binary: impl AsRef<Path>) -> Self {
        Self::with(binary, Options::default())
    }

    /// Starts a server with flags.
    pub fn flags(binary: impl AsRef<Path>, flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self::with(
            binary,
            Options {
                flags,
                ..Options::default()
            },
        )
    }

    /// Starts a server.
    pub fn with(binary: impl AsRef<Path>, options: Options) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut server = Self {
            binary: binary.as_ref().to_owned(),
            options,
            directory: tempfile::tempdir().expect("a directory"),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            child: None,
            endpoint: String::new(),
            ready: String::new(),
        };
        server.restart();
        server
    }

    /// The command that starts it, for tests that expect it not to.
    pub fn command(binary: impl AsRef<Path>) -> Command {
        let mut command = Command::new(binary.as_ref());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VIRGA_")) {
            command.env_remove(name);
        }
        command
    }

    /// Starts it in its directory, for the first time or again.
    pub fn restart(&mut self) {
        self.begin();
        let output = self.child.as_mut().and_then(|child| child.stdout.take());
        let mut lines = BufReader::new(output.expect("its output"));
        self.ready.clear();
        let read = lines.read_line(&mut self.ready);
        if read.is_err() || !self.ready.starts_with("virga is ready: ") {
            panic!("it did not start: {}", self.log());
        }
        let api = self
            .ready
            .split_whitespace()
            .skip_while(|word| *word != "api")
            .nth(1);
        self.endpoint = api.expect("an address").to_owned();
    }

    /// Starts it in its directory again, with other flags.
    pub fn restart_with(&mut self, flags: &[&str]) {
        self.options.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self.restart();
    }

    /// The same, without waiting until it serves.
    pub fn begin(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log");
        let groups = ["--cgroup".to_owned(), self.cgroup()];
        let groups = groups.into_iter().filter(|_| !self.options.apart);
        let child = self
            .program()
            .args([
                "up",
                "--listen",
                "127.0.0.1:0",
                "--bucket-listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
                // No test is to send a packet beyond this machine.
                "--network",
                "internal",
                // Nor to ask DNS.
                "--domain-allow",
                "*",
                "--data",
            ])
            .arg(self.data())
            .args(groups)
            .args(["--uid-count", &USERS.to_string()])
            .args(&self.options.flags)
            .envs(self.options.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary");
        self.child = Some(child);
    }

    /// What runs the binary, as whoever is to.
    fn program(&self) -> Command {
        if !self.options.user {
            let mut command = Self::command(&self.binary);
            if !self.options.apart {
                command.env("VIRGA_UID_BASE", self.users().to_string());
            }
            return command;
        }
        let directory = self.directory.path();
        let binary = directory.join("virga");
        std::fs::copy(&self.binary, &binary).expect("a copy that the user can read");
        std::fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("opened");
        std::fs::create_dir(directory.join("own")).expect("a directory");
        chown(directory.join("own"), Some(USER), Some(USER)).expect("given away");
        let mut command = Self::command(AS_USER);
        command
            .arg(USER.to_string())
            .arg(directory)
            .arg(self.group())
            .arg(binary);
        command
    }

    /// The control groups that are an ordinary user's.
    fn group(&self) -> String {
        format!("virga-user-{}-{}", std::process::id(), self.number)
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        if let Some(data) = &self.options.data {
            return data.clone();
        }
        let own = if self.options.user {
            "own/data"
        } else {
            "data"
        };
        self.directory.path().join(own)
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Its own log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Name of its control groups.
    pub fn cgroup(&self) -> String {
        format!("virga-test-{}-{}", std::process::id(), self.number)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// A client with its credentials.
    pub fn client(&self) -> Client {
        let text = std::fs::read(self.data().join("credentials.json")).expect("credentials");
        let pair: Value = serde_json::from_slice(&text).expect("JSON");
        let part = |name: &str| pair[name].as_str().expect("text").to_owned();
        Client::new(&self.endpoint, &part("secret_id"), &part("secret_key"))
    }

    /// A client of its buckets with the same credentials.
    pub fn objects(&self) -> Objects {
        self.objects_of(&self.client())
    }

    /// The same with those of another client.
    pub fn objects_of(&self, client: &Client) -> Objects {
        let words = self.ready.split_whitespace();
        let endpoint = words.skip_while(|word| *word != "buckets").nth(1);
        let endpoint = endpoint.expect("buckets are served");
        Objects::new(endpoint, &client.id, client.key.reveal())
    }

    /// Runs virga's command line against it.
    pub fn cli(&self, args: &[&str]) -> std::process::Output {
        let mut command = Self::command(&self.binary);
        command
            .args(args)
            .env("VIRGA_ENDPOINT", &self.endpoint)
            .env("VIRGA_DATA", self.data())
            .env("XDG_STATE_HOME", self.directory.path());
        command.output().expect("the binary")
    }

    /// Asks it to end, and waits until it has. Nothing of it may be left then.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("-TERM");
        let status = self.wait();
        if !std::thread::panicking() {
            let mut left = Vec::new();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(30) {
                left = self.left();
                if left.is_empty() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(left.is_empty(), "it has left {left:#?}");
        }
        status
    }

    /// What is left of a server that has ended: control groups, mounts, processes.
    pub fn left(&self) -> Vec<String> {
        let mut left: Vec<_> = self
            .control_groups()
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let data = self.data();
        let data = data.to_string_lossy();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&*data))
                .map(str::to_owned),
        );
        for process in directories(Path::new("/proc")) {
            let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
            let user = status.lines().find_map(|line| {
                line.strip_prefix("Uid:")?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            });
            if user.is_some_and(|user: u32| (self.users()..self.users() + USERS).contains(&user)) {
                left.push(status.lines().take(1).collect());
            }
        }
        left
    }

    /// First of the users that it sets aside. Tests of other processes run at the same time.
    fn users(&self) -> u32 {
        3_000_000 + (std::process::id() % 2000) * 400_000 + self.number * USERS
    }

    /// Its directories in the host's control groups.
    pub fn control_groups(&self) -> Vec<PathBuf> {
        self.groups_named(&self.cgroup())
    }

    fn groups_named(&self, name: &str) -> Vec<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let points = mounts
            .lines()
            .filter(|line| line.contains(" - cgroup"))
            .filter_map(|line| line.split(' ').nth(4));
        let mut found = Vec::new();
        for point in points {
            below(Path::new(point), name, &mut found);
        }
        found
    }

    /// Processes of its instances.
    pub fn processes(&self) -> BTreeSet<String> {
        let mut open = self.control_groups();
        let mut found = BTreeSet::new();
        while let Some(directory) = open.pop() {
            let listed =
                std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(listed.lines().map(str::to_owned));
            open.extend(directories(&directory));
        }
        found
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        self.wait();
    }

    /// Sends it a signal, such as `-TERM`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "it is gone already"
        );
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("its state") {
                return status;
            }
            if begun.elapsed() > Duration::from_secs(60) {
                let _ = child.kill();
                panic!("it did not end: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Directories of this name, wherever they lie.
fn below(directory: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for inner in directories(directory) {
        if inner.file_name().is_some_and(|last| last == name) {
            found.push(inner);
        } else {
            below(&inner, name, found);
        }
    }
}

/// Removes a control group and all below it. The kernel takes a moment to let go of what has ended in it.
fn remove_group(group: &Path) {
    directories(group)
        .iter()
        .for_each(|below| remove_group(below));
    let begun = Instant::now();
    while std::fs::remove_dir(group).is_err() && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn directories(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.terminate();
        }
        for group in self.groups_named(&self.group()) {
            remove_group(&group);
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            eprintln!("--- the server's log\n{}", log.get(from..).unwrap_or(&log));
        } else if !self.options.errors {
            let log = self.log();
            let errors: Vec<_> = log
                .lines()
                .filter(|line| line.contains("\"level\":\"ERROR\""))
                .collect();
            assert!(errors.is_empty(), "errors in its log: {errors:#?}");
        }
    }
}
