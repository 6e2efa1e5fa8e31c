//! Running the real binary.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::expected::{AFTER_KILL, ANYWHERE, Fault, OF_A_USER, WITHOUT_ISOLATION};
use crate::{Client, Objects};

/// Start options of a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Flags of `virga up`.
    pub flags: Vec<String>,
    /// Whether any fault in its log is expected, as on a full disk. Otherwise ERROR and WARN lines and panics fail the test, except for those
    /// that it allows by [`Server::expect`].
    pub errors: bool,
    /// Whether an unprivileged user starts it. Such a server cannot be restarted.
    pub user: bool,
    /// Additional environment variables.
    pub environment: Vec<(String, String)>,
    /// Whether it is started without cgroup and user id options, so that it must itself stay disjoint from other servers.
    pub apart: bool,
    /// Data directory, if the flags change the default.
    pub data: Option<PathBuf>,
}

/// A running server with its own directory, ports, cgroups and users. It is terminated on drop.
#[derive(Debug)]
pub struct Server {
    binary: PathBuf,
    options: Options,
    directory: TempDir,
    number: u32,
    child: Option<Child>,
    endpoint: String,
    /// Faults that the test expects in the log.
    expected: Mutex<Vec<&'static str>>,
    /// Line printed when it became ready.
    pub ready: String,
}

/// Number of user ids reserved per server.
const USERS: u32 = 4096;
/// User id of an unprivileged user, which need not exist on the host.
const USER: u32 = 29_998;
/// Script that runs a program as an unprivileged user. Arguments: user id, directory, cgroup or `-`, program.
pub const AS_USER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/as-user");

impl Server {
    /// Starts a server with default options.
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

    /// Starts a server with options.
    pub fn with(binary: impl AsRef<Path>, options: Options) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut server = Self {
            binary: binary.as_ref().to_owned(),
            options,
            directory: tempfile::tempdir().expect("a directory"),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            child: None,
            endpoint: String::new(),
            expected: Mutex::default(),
            ready: String::new(),
        };
        server.restart();
        server
    }

    /// Returns a command for the binary without `VIRGA_*` variables, for tests that expect a failing start.
    pub fn command(binary: impl AsRef<Path>) -> Command {
        let mut command = Command::new(binary.as_ref());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VIRGA_")) {
            command.env_remove(name);
        }
        command
    }

    /// Starts or restarts it in its directory, and waits until it is ready.
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

    /// Restarts it in its directory with other flags.
    pub fn restart_with(&mut self, flags: &[&str]) {
        self.options.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self.restart();
    }

    /// Starts it without waiting until it is ready.
    pub fn begin(&mut self) {
        assert!(self.child.is_none(), "it is still running");
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
                // Tests send no packets beyond this host.
                "--network",
                "internal",
                // Nor DNS queries.
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

    /// Returns the command that runs the binary as the configured user.
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
        std::fs::copy(&self.binary, &binary).expect("a copy readable by the user");
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

    /// Name of the cgroup delegated to the unprivileged user.
    fn group(&self) -> String {
        format!("virga-user-{}-{}", std::process::id(), self.number)
    }

    /// Returns the data directory.
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

    /// Returns its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Allows warnings and errors in the log whose message begins so, because the test provokes them.
    pub fn expect(&self, message: &'static str) {
        self.expected().push(message);
    }

    fn expected(&self) -> std::sync::MutexGuard<'_, Vec<&'static str>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the faults in the log that are not expected.
    fn faults(&self) -> Vec<String> {
        let mut expected = self.expected().clone();
        expected.extend(ANYWHERE);
        if self.options.user {
            expected.extend(OF_A_USER);
        }
        if self
            .options
            .flags
            .iter()
            .any(|flag| flag == "process" || flag == "--isolation=process")
        {
            expected.extend(WITHOUT_ISOLATION);
        }
        let log = self.log();
        let faults = log.lines().filter_map(Fault::read);
        let faults = faults.filter(|fault| !fault.is_expected(&expected));
        faults.map(|fault| fault.line.to_owned()).collect()
    }

    /// Returns the name of its cgroups.
    pub fn cgroup(&self) -> String {
        format!("virga-test-{}-{}", std::process::id(), self.number)
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// Creates a client with the operator's credentials.
    pub fn client(&self) -> Client {
        let text = std::fs::read(self.data().join("credentials.json")).expect("credentials");
        let pair: Value = serde_json::from_slice(&text).expect("JSON");
        let part = |name: &str| pair[name].as_str().expect("text").to_owned();
        Client::new(&self.endpoint, &part("secret_id"), &part("secret_key"))
    }

    /// Creates a client of its buckets with the operator's credentials.
    pub fn objects(&self) -> Objects {
        self.objects_of(&self.client())
    }

    /// Creates a client of its buckets with the credentials of another client.
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

    /// Shuts it down with SIGTERM and waits for its exit. Asserts that it leaves no cgroups, mounts or processes.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("-TERM");
        let status = self.wait();
        if !std::thread::panicking() {
            let mut leftovers = Vec::new();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(30) {
                leftovers = self.leftovers();
                if leftovers.is_empty() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(leftovers.is_empty(), "leftovers after exit: {leftovers:#?}");
        }
        status
    }

    /// Returns the cgroups, mounts and processes that remain after its exit.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found: Vec<_> = self
            .control_groups()
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let data = self.data();
        let data = data.to_string_lossy();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        found.extend(
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
                found.push(status.lines().take(1).collect());
            }
        }
        found
    }

    /// Returns the first of its reserved user ids, disjoint from those of concurrent test processes.
    fn users(&self) -> u32 {
        3_000_000 + (std::process::id() % 2000) * 400_000 + self.number * USERS
    }

    /// Returns its cgroup directories on the host.
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

    /// Returns the process ids in its cgroups.
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

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.expected().extend(AFTER_KILL);
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
            "the process does not exist"
        );
    }

    /// Waits for its exit.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it is running");
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("its state") {
                return status;
            }
            if begun.elapsed() > Duration::from_secs(60) {
                let _ = child.kill();
                panic!("it did not exit: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Finds all directories of a name below a directory.
fn below(directory: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for inner in directories(directory) {
        if inner.file_name().is_some_and(|last| last == name) {
            found.push(inner);
        } else {
            below(&inner, name, found);
        }
    }
}

/// Removes a cgroup and its descendants. Retries, because the kernel releases exited processes with a delay.
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
            eprintln!("--- server log\n{}", log.get(from..).unwrap_or(&log));
        } else if !self.options.errors {
            let faults = self.faults();
            assert!(
                faults.is_empty(),
                "its log has warnings or errors that the test does not expect (Server::expect): {faults:#?}"
            );
        }
    }
}
