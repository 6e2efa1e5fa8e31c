//! A package whose build is an attacker: its attempts while dependencies are installed, and their traces.

mod index;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};
use testkit::{Client, Options, Server, eventually, package};

use crate::VIRGA;
use crate::packages::BACKEND;

/// A package whose dependency runs some code while it is built; the function gives back what `attack` returned.
fn attacking(code: &str) -> String {
    let found = "\"VALUE = 42\\n\"";
    assert!(BACKEND.contains(found), "the backend has changed");
    let backend = format!(
        "{code}\n{}",
        BACKEND.replace(found, "'VALUE = ' + repr(attack())")
    );
    package(&[
        (
            "index.py",
            "import dependency\ndef main_handler(e, c):\n    return dependency.VALUE\n",
        ),
        ("requirements.txt", "./source\n"),
        (
            "source/pyproject.toml",
            "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
        ),
        ("source/backend.py", &backend),
    ])
}

fn build(client: &Client, name: &str, code: &str) {
    client.ok("CreateFunction", &json!({
        "FunctionName": name, "Runtime": "Python3.9", "InstallDependency": "TRUE", "Code": {"ZipFile": attacking(code)},
    }));
}

/// What a build's attack returned.
fn attack(client: &Client, name: &str, code: &str) -> Value {
    build(client, name, code);
    let shown = client.wait_until_ready(name);
    assert_eq!(shown["Status"], "Active", "{shown}");
    client.answer(name, &json!({}))
}

/// Why a build failed.
fn failure(client: &Client, name: &str, code: &str) -> String {
    build(client, name, code);
    let shown = client.wait_until_ready(name);
    assert_eq!(shown["Status"], "CreateFailed", "{shown}");
    let reason = &shown["StatusReasons"][0]["ErrorMessage"];
    reason.as_str().expect("a reason").to_owned()
}

fn with(flags: &[&str]) -> Server {
    Server::flags(VIRGA, flags)
}

/// Processes of this machine whose command line has a word in it.
fn named(word: &str) -> usize {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|one| fs::read(one.path().join("cmdline")).ok());
    let words = lines.filter(|line| String::from_utf8_lossy(line).contains(word));
    words.count()
}

/// Starts a process in a session of its own whose parents end, one that ignores signals, and ten that wait for nothing;
/// then never ends.
fn lingering(mark: &str) -> String {
    format!(
        r"
import os, signal, subprocess, sys, time
def attack():
    forever = 'import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 13, 14, 15)]; time.sleep(600)'
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            subprocess.Popen([sys.executable, '-c', forever, '{mark}'], close_fds=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os._exit(0)
    for _ in range(10):
        subprocess.Popen([sys.executable, '-c', forever, '{mark}'], start_new_session=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
"
    )
}

fn mark(test: &str) -> String {
    format!("build-{test}-{}", std::process::id())
}

#[test]
fn build_ends_with_a_killed_virga() {
    for user in [false, true] {
        let mut server = Server::with(
            VIRGA,
            Options {
                user,
                ..Options::default()
            },
        );
        let mark = mark(if user { "killed-user" } else { "killed" });
        build(&server.client(), "lingers", &lingering(&mark));
        eventually("the build has started all", || named(&mark) >= 11);
        server.kill();
        eventually("nothing of it runs", || named(&mark) == 0);
    }
}

#[test]
fn build_ends_with_a_stopped_virga() {
    let mut server = with(&["--drain-timeout", "1"]);
    let mark = mark("stopped");
    build(&server.client(), "lingers", &lingering(&mark));
    eventually("the build has started all", || named(&mark) >= 11);
    // Asserts that no process, mount or control group is left.
    assert!(server.terminate().success());
    assert_eq!(named(&mark), 0);
    // It begins again with the next start, and ends as it began.
    server.restart();
    eventually("the build has started all again", || named(&mark) >= 11);
}

#[test]
fn build_ends_with_its_timeout() {
    let server = with(&["--install-timeout", "4"]);
    let (client, mark) = (server.client(), mark("late"));
    let why = failure(&client, "lingers", &lingering(&mark));
    assert!(
        why.contains("pip ran for over 4 s, which is the limit"),
        "{why}"
    );
    eventually("nothing of it runs", || named(&mark) == 0);
}

#[test]
fn build_ends_with_its_deleted_function() {
    let server = with(&[]);
    let (client, mark) = (server.client(), mark("deleted"));
    build(&client, "lingers", &lingering(&mark));
    eventually("the build has started all", || named(&mark) >= 11);
    client.ok("DeleteFunction", &json!({"FunctionName": "lingers"}));
    eventually("nothing of it runs", || named(&mark) == 0);
    // Its turn is over, too.
    assert_eq!(attack(&client, "next", "def attack():\n    return 7"), 7);
}

#[test]
fn without_isolation_a_build_ends_whole_too() {
    let mut server = with(&["--isolation", "process", "--install-timeout", "4"]);
    let (client, mark) = (server.client(), mark("process"));
    let why = failure(&client, "lingers", &lingering(&mark));
    assert!(why.contains("which is the limit"), "{why}");
    eventually("nothing of it runs", || named(&mark) == 0);
    build(&client, "again", &lingering(&mark));
    eventually("the build has started all", || named(&mark) >= 11);
    server.kill();
    eventually("nothing of it runs", || named(&mark) == 0);
}

#[test]
fn a_build_is_limited_like_an_instance() {
    for user in [false, true] {
        let flags = ["--install-memory-mb", "256", "--limits", "pids=60"];
        let options = Options {
            user,
            flags: flags.map(str::to_owned).to_vec(),
            ..Options::default()
        };
        let server = Server::with(VIRGA, options);
        let client = server.client();
        let found = attack(
            &client,
            "forks",
            r"
import os, time
def attack():
    made = 0
    try:
        while made < 5000:
            if os.fork() == 0:
                os.closerange(0, 100)
                time.sleep(600)
            made += 1
    except OSError as e:
        return [made, e.errno]
    return [made, 0]
",
        );
        // EAGAIN.
        assert_eq!(found[1], 11, "{found}");
        assert!(found[0].as_u64().is_some_and(|made| made < 60), "{found}");
        let why = failure(
            &client,
            "takes-all",
            "def attack():\n    kept = []\n    while True: kept.append(b'x' * (1 << 22))\n",
        );
        assert!(
            why.contains("ran out of memory") && why.contains("may have 256 MB"),
            "{why}"
        );
        let found = attack(
            &client,
            "is",
            "import os\ndef attack():\n    status = open('/proc/self/status').read()\n    caps = [l.split()[1] for l in status.split('\\n') \
             if l.startswith('Cap')]\n    return [os.getuid() > 0, sorted(set(caps)), os.path.exists('/etc/shadow'), \
             len([p for p in os.listdir('/proc') if p.isdigit()]) < 20]\n",
        );
        assert_eq!(found, json!([true, ["0000000000000000"], false, true]));
    }
}

#[test]
fn build_output_is_bounded_while_it_is_written() {
    let server = with(&[
        "--limits",
        "unpacked_bytes=20000000,unpacked_entries=2000,tmp_mb=20",
    ]);
    let client = server.client();
    let found = attack(
        &client,
        "writes",
        r"
import os, shutil
def fill(path):
    done = 0
    try:
        with open(path, 'wb', buffering=0) as file:
            while done < 10 << 30:
                done += file.write(bytes(1 << 20))
    except OSError:
        pass
    return done
def attack():
    found = []
    for place in ('/var/user', '/tmp'):
        own, written, made = os.path.join(place, 'own'), 0, 0
        os.mkdir(own)
        while written < 10 << 30:
            one = fill(os.path.join(own, 'f%d' % written))
            written += one
            if one == 0:
                break
        shutil.rmtree(own)
        os.mkdir(own)
        try:
            while made < 1000000:
                os.mkdir(os.path.join(own, str(made)))
                made += 1
        except OSError:
            pass
        shutil.rmtree(own)
        found.append([written, made])
    others = []
    for place in ('/', '/var', '/var/tmp', '/dev', '/dev/shm', '/usr', '/etc', '/opt', '/home/qcloud'):
        try:
            open(os.path.join(place, 'x'), 'w').close()
            if os.path.realpath(place) != '/tmp':
                others.append(place)
        except OSError:
            pass
    return [found, others]
",
    );
    for (written, made) in found[0]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (&one[0], &one[1]))
    {
        // Files take whole pages.
        assert!(
            written.as_u64().is_some_and(|bytes| bytes < 30_000_000),
            "{found}"
        );
        assert!(made.as_u64().is_some_and(|made| made < 2000), "{found}");
    }
    assert_eq!(found[1], json!([]), "{found}");
    let why = failure(
        &client,
        "leaves",
        "def attack():\n    [open('/var/user/f%d' % n, 'wb').write(bytes(1 << 20)) for n in range(22)]\n",
    );
    assert!(why.contains("over 19 MB"), "{why}");
    let why = failure(
        &client,
        "never-ends",
        "def attack():\n    [open('/var/user/f%d' % n, 'wb').write(bytes(1 << 20)) for n in range(1000)]\n",
    );
    assert!(why.contains("may have 19 MB in 2000 files"), "{why}");
    let why = failure(
        &client,
        "deep",
        "import os\ndef attack():\n    for _ in range(150):\n        os.mkdir('d'); os.chdir('d')\n    os.chdir('/var/user/source')\n",
    );
    assert!(why.contains("up to 100 parts"), "{why}");
    let aside = server.data().join("code/aside");
    eventually("nothing half done is left", || {
        fs::read_dir(&aside).is_ok_and(|listed| listed.count() == 0)
    });
}

#[test]
fn a_build_reaches_what_functions_reach_and_no_more() {
    let server = with(&[]);
    let client = server.client();
    let everywhere = TcpListener::bind("0.0.0.0:0").expect("bound");
    let port = everywhere.local_addr().expect("an address").port();
    let host = std::process::Command::new("hostname").arg("-I").output();
    let host = String::from_utf8(host.expect("hostname").stdout).expect("text");
    let host = host
        .split_whitespace()
        .next()
        .unwrap_or("127.0.0.2")
        .to_owned();
    let api = client
        .endpoint
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    let found = attack(
        &client,
        "reaches",
        &format!(
            r"
import socket
def reached(address):
    try:
        socket.create_connection(address, 3).close()
        return True
    except OSError:
        return False
def attack():
    hosts = [('127.0.0.1', {port}), ('{host}', {port}), ('127.0.0.1', {api}), ('{host}', 22), ('169.254.169.254', 80)]
    return [[reached(address) for address in hosts], reached(('virga.internal', 9400))]
"
        ),
    );
    assert_eq!(found, json!([[false, false, false, false, false], true]));
}

/// Links that lead out of the tree, swapped with directories for as long as anything runs.
#[test]
fn build_result_is_copied_without_following_links() {
    let server = with(&[]);
    let client = server.client();
    let secret = tempfile::tempdir().expect("a directory");
    fs::write(secret.path().join("key"), "secret-of-the-host").expect("written");
    fs::write(secret.path().join("module.py"), "x = 1").expect("written");
    let found = attack(
        &client,
        "links",
        &format!(
            r"
import os, subprocess, sys
SWAP = '''
import ctypes, os
os.chdir('/var/user')
os.mkdir('d'); os.symlink('{secret}', 'l')
open('d/f.py', 'w').write('x = 1')
libc = ctypes.CDLL(None)
while True:
    libc.renameat2(-100, b'd', -100, b'l', 2)
'''
def attack():
    os.symlink('{secret}', '/var/user/straight')
    os.symlink('/', '/var/user/root')
    quiet = subprocess.DEVNULL
    subprocess.Popen([sys.executable, '-c', SWAP], start_new_session=True, stdout=quiet, stderr=quiet)
    while not os.path.lexists('/var/user/l'):
        pass
    return 1
",
            secret = secret.path().display()
        ),
    );
    assert_eq!(found, 1);
    let trees = server.data().join("code/trees");
    eventually("it is compiled", || {
        let all = fs::read_dir(&trees).into_iter().flatten().flatten();
        let mut compiled = all.map(|tree| tree.path().join("__pycache__"));
        compiled.any(|cache| cache.is_dir())
    });
    assert_eq!(holding(&trees, "secret-of-the-host"), 0);
    let beside = fs::read_dir(secret.path()).expect("listed").count();
    assert_eq!(beside, 2, "something was put through a link");
}

/// Files below a directory that hold a text, links not followed.
fn holding(directory: &Path, text: &str) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let count = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => holding(&entry.path(), text),
        Ok(kind) if kind.is_file() => {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            usize::from(
                bytes
                    .windows(text.len())
                    .any(|part| part == text.as_bytes()),
            )
        }
        _ => 0,
    });
    count.sum()
}

/// Calls of a function of 128 MB that are under way for so many seconds.
fn busy(client: &Client, count: usize, seconds: u32) {
    let sleeps =
        "import time\ndef main_handler(e, c):\n    time.sleep(e['s'])\n    return 'done'\n";
    client.create("sleeps", sleeps, json!({"Timeout": 60}));
    for _ in 0..count {
        let client = client.clone();
        let event = json!({"s": seconds}).to_string();
        let request = json!({"FunctionName": "sleeps", "ClientContext": event});
        std::thread::spawn(move || client.attempt("Invoke", &request));
    }
    let name = "virga_instances{state=\"busy\"}";
    eventually("they run", || client.metric(name) == Some(count as f64));
}

const PLAIN: &str = "def attack():\n    return 7\n";

#[test]
fn a_build_that_finds_no_memory_in_time_is_refused_plainly() {
    let quota = ["--limits", "concurrency_mb=512"];
    let node = ["--node-memory-mb", "512", "--headroom-mb", "0"];
    for (flags, whose) in [
        (&quota[..], "256 MB of the account's quota"),
        (&node[..], "256 MB of the"),
    ] {
        let server = with(&[flags, &["--install-timeout", "3"]].concat());
        let client = server.client();
        busy(&client, 3, 20);
        let why = failure(&client, "late", PLAIN);
        let wanted = format!("no memory for the build within 3 s: it needs {whose}");
        assert!(why.contains(&wanted), "{why}");
    }
}

#[test]
fn a_build_waits_for_memory_of_its_account_and_then_runs() {
    let server = with(&["--limits", "concurrency_mb=512"]);
    let client = server.client();
    busy(&client, 3, 6);
    assert_eq!(attack(&client, "waits", PLAIN), 7);
}

#[test]
fn a_build_that_runs_takes_memory_of_its_account_and_gives_it_back() {
    let server = with(&["--limits", "concurrency_mb=512", "--wait", "1"]);
    let (client, mark) = (server.client(), mark("holds"));
    let returns = "def main_handler(e, c):\n    return 'done'\n";
    client.create("large", returns, json!({"MemorySize": 384}));
    client.create("small", returns, json!({}));
    build(&client, "lingers", &lingering(&mark));
    eventually("the build has started all", || named(&mark) >= 11);
    // It has half of the quota, and the other half is left.
    let refused = client.invoke("large", &json!({}));
    let why = refused["ErrMsg"].to_string();
    assert!(why.contains("unreserved quota 512MB"), "{refused}");
    assert_eq!(client.answer("small", &json!({})), "done");
    client.ok("DeleteFunction", &json!({"FunctionName": "lingers"}));
    eventually("its memory is free", || {
        client.invoke("large", &json!({}))["InvokeResult"] == 0
    });
}

#[test]
fn builds_of_one_account_leave_another_its_first_call_and_its_build() {
    let flags = ["--node-memory-mb", "2048", "--install-memory-mb", "512"];
    let server = with(&flags);
    let (operator, mark) = (server.client(), mark("crowds"));
    let created = operator.operate("CreateAccount", &json!({"Name": "other"}));
    let other = operator.with_new_key(&created.expect("an account")["Key"]);
    for name in ["one", "two", "three", "four"] {
        build(&operator, name, &lingering(&mark));
    }
    eventually("the first has started all", || named(&mark) >= 11);
    other.create(
        "fun",
        "def main_handler(e, c):\n    return 'done'\n",
        json!({}),
    );
    assert_eq!(other.answer("fun", &json!({})), "done");
    assert_eq!(attack(&other, "builds", PLAIN), 7);
}
