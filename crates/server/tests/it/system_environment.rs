//! What programs expect of any machine: standard streams by name, names of users and hosts, links to the system.

use std::io::{Cursor, Write};

use serde_json::{Value, json};
use testkit::{Client, Options, Server, base64, programs};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::{VIRGA, server};

/// Servers with all of the isolation, of the administrator and of an ordinary user.
fn servers() -> impl Iterator<Item = Server> {
    [false, true].into_iter().map(|user| {
        let options = Options {
            user,
            ..Options::default()
        };
        Server::with(VIRGA, options)
    })
}

fn create(client: &Client, name: &str, runtime: &str, zip_file: &str, more: Value) {
    let mut request = json!({
        "FunctionName": name, "Runtime": runtime, "Timeout": 30, "Code": {"ZipFile": zip_file},
    });
    if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
        request.extend(more);
    }
    client.ok("CreateFunction", &request);
}

fn answer_and_log(client: &Client, name: &str) -> (Value, String) {
    let result = client.invoke(name, &json!({}));
    assert_eq!(result["InvokeResult"], 0, "{name}: {result}");
    let answer = serde_json::from_str(result["RetMsg"].as_str().expect("text")).expect("JSON");
    (answer, result["Log"].as_str().expect("text").to_owned())
}

/// A custom runtime that answers each event with what a command prints, as a JSON text.
fn bootstrap(command: &str) -> String {
    format!(
        "#!/bin/bash\n\
         api=\"http://$SCF_RUNTIME_API:$SCF_RUNTIME_API_PORT/runtime\"\n\
         curl -s -X POST -d ' ' \"$api/init/ready\"\n\
         while true; do\n\
         curl -s \"$api/invocation/next\" > /tmp/event\n\
         output=$({command})\n\
         curl -s -X POST -d \"\\\"$output\\\"\" \"$api/invocation/response\"\n\
         done\n"
    )
}

#[test]
fn standard_streams_can_be_opened_by_name() {
    let python = "\
import os, subprocess
PATHS = ['/dev/stdout', '/dev/stderr', '/dev/fd/1', '/dev/fd/2', '/proc/self/fd/1', '/proc/self/fd/2', '/proc/%d/fd/2' % os.getpid()]
def main_handler(event, context):
    count = 0
    for path in PATHS:
        for mode in ('w', 'wb'):
            with open(path, mode) as stream:
                line = 'python %d\\n' % count
                stream.write(line.encode() if 'b' in mode else line)
            count += 1
        fd = os.open(path, os.O_RDWR)
        os.write(fd, b'both ways\\n')
        os.close(fd)
        subprocess.run(['bash', '-c', 'echo shell %d > %s' % (count, path)], check=True)
        subprocess.run('echo tee %d | tee %s >&2' % (count, path), shell=True, check=True)
    return count
";
    let node = "\
const fs = require('fs');
exports.main_handler = async () => {
  ['/dev/stdout', '/dev/stderr', '/dev/fd/1', '/proc/self/fd/2'].forEach((path, n) => {
    fs.writeFileSync(path, `node ${n}\\n`);
    fs.appendFileSync(path, `more ${n}\\n`);
  });
  return 4;
};
";
    let shell = bootstrap(
        "echo bash 0 > /dev/stderr; echo bash 1 >> /dev/fd/2; echo bash 2 > /proc/self/fd/2; exec 7<> /dev/stderr; echo bash 3 >&7; echo 4",
    );
    for server in servers() {
        let client = server.client();
        let file = |name: &str, text: &str| programs(&[(name, text.as_bytes())]);
        create(
            &client,
            "python",
            "Python3.6",
            &file("index.py", python),
            json!({}),
        );
        let (count, log) = answer_and_log(&client, "python");
        assert_eq!(count, 14);
        let lines: Vec<_> = log.lines().collect();
        for number in 0..14 {
            assert!(
                lines.contains(&format!("python {number}").as_str()),
                "{number}: {log}"
            );
        }
        for number in (2..=14).step_by(2) {
            assert!(
                lines.contains(&format!("shell {number}").as_str()),
                "{number}: {log}"
            );
            assert!(
                lines.contains(&format!("tee {number}").as_str()),
                "{number}: {log}"
            );
        }
        assert_eq!(log.matches("both ways").count(), 7, "{log}");
        create(
            &client,
            "node",
            "Nodejs16.13",
            &file("index.js", node),
            json!({}),
        );
        let (_, log) = answer_and_log(&client, "node");
        for number in 0..4 {
            assert!(
                log.contains(&format!("node {number}\nmore {number}\n")),
                "{log}"
            );
        }
        create(
            &client,
            "shell",
            "CustomRuntime",
            &file("bootstrap", &shell),
            json!({}),
        );
        let (_, log) = answer_and_log(&client, "shell");
        for number in 0..4 {
            assert!(log.contains(&format!("bash {number}\n")), "{log}");
        }
    }
}

#[test]
fn users_groups_hosts_protocols_and_services_have_names() {
    let python = "\
import getpass, grp, os, pwd, socket, subprocess
def run(command):
    return subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode().split()
def main_handler(event, context):
    me = pwd.getpwuid(os.getuid())
    assert pwd.getpwnam('qcloud') == me and me.pw_gid == os.getgid()
    assert grp.getgrnam('qcloud').gr_gid == os.getgid()
    assert os.path.isdir(me.pw_dir) and me.pw_dir == os.environ['HOME'] == os.path.expanduser('~qcloud')
    host = socket.gethostname()
    assert open('/etc/hostname').read().strip() == host
    assert pwd.getpwuid(os.stat('/usr/bin/env').st_uid).pw_name in ('root', 'nobody')
    os.environ.pop('LOGNAME', None), os.environ.pop('USER', None)
    return {
        'user': [me.pw_name, getpass.getuser(), grp.getgrgid(os.getgid()).gr_name, pwd.getpwuid(0).pw_name],
        'host': [socket.gethostbyname(host), socket.gethostbyname('localhost'), sorted({one[4][0] for one in socket.getaddrinfo(host, 80)})],
        'numbers': [socket.getprotobyname('tcp'), socket.getprotobyname('udp'), socket.getservbyname('http'), socket.getservbyname('https', 'tcp')],
        'names': [socket.getservbyport(443, 'tcp')],
        'commands': [run('id -un'), run('id -gn'), run('whoami'), run('getent passwd $(id -u) | cut -d: -f1'),
            run('getent hosts $(hostname)')[:1], run('getent protocols tcp')[1:2], run('getent services http')[1:2]],
        'host-names': [os.uname().nodename == host, open('/etc/hosts').read().count(host)],
    }
";
    let node = "\
const os = require('os'), dns = require('dns').promises, fs = require('fs');
exports.main_handler = async () => {
  const me = os.userInfo();
  const at = await dns.lookup(os.hostname(), 4);
  return [me.username, me.uid === process.getuid(), me.homedir, fs.existsSync(me.homedir), at.address];
};
";
    let shell =
        bootstrap("echo $(id -un) $(id -gn) $(getent hosts $(hostname) | cut -d' ' -f1) ~qcloud");
    for server in servers() {
        let client = server.client();
        let file = |name: &str, text: &str| programs(&[(name, text.as_bytes())]);
        for (name, more) in [
            ("python", json!({})),
            (
                "fresh",
                json!({"Environment": {"Variables": [{"Key": "PYTHONUNBUFFERED", "Value": "1"}]}}),
            ),
            (
                "offline",
                json!({"PublicNetConfig": {"PublicNetStatus": "DISABLE", "EipConfig": {"EipStatus": "DISABLE"}}}),
            ),
        ] {
            create(&client, name, "Python3.6", &file("index.py", python), more);
            let answer = client.answer(name, &json!({}));
            assert_eq!(
                answer["user"],
                json!(["qcloud", "qcloud", "qcloud", "root"]),
                "{name}"
            );
            assert_eq!(
                answer["host"],
                json!(["127.0.0.1", "127.0.0.1", ["127.0.0.1"]]),
                "{name}"
            );
            assert_eq!(answer["numbers"], json!([6, 17, 80, 443]), "{name}");
            assert_eq!(answer["names"], json!(["https"]), "{name}");
            let commands = json!([
                ["qcloud"],
                ["qcloud"],
                ["qcloud"],
                ["qcloud"],
                ["127.0.0.1"],
                ["6"],
                ["80/tcp"]
            ]);
            assert_eq!(answer["commands"], commands, "{name}");
            assert_eq!(answer["host-names"], json!([true, 1]), "{name}");
        }
        create(
            &client,
            "node",
            "Nodejs16.13",
            &file("index.js", node),
            json!({}),
        );
        assert_eq!(
            client.answer("node", &json!({})),
            json!(["qcloud", true, "/home/qcloud", true, "127.0.0.1"])
        );
        create(
            &client,
            "shell",
            "CustomRuntime",
            &file("bootstrap", &shell),
            json!({}),
        );
        assert_eq!(
            client.answer("shell", &json!({})),
            "qcloud qcloud 127.0.0.1 /home/qcloud"
        );
    }
}

/// A package of a file and of links, as the API takes it.
fn linked(files: &[(&str, &str)], links: &[(&str, &str)]) -> String {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().unix_permissions(0o755);
    for (name, text) in files {
        writer.start_file(*name, options).expect("a name");
        writer.write_all(text.as_bytes()).expect("memory");
    }
    for (name, target) in links {
        writer.add_symlink(*name, *target, options).expect("a name");
    }
    base64(&writer.finish().expect("an archive").into_inner())
}

#[test]
fn links_of_a_package_resolve_to_layers_and_system_files() {
    let server = server();
    let client = server.client();
    let layer = linked(
        &[("data.txt", "of the layer")],
        &[("shell", "/bin/sh"), ("again", "/opt/data.txt")],
    );
    let request = json!({"LayerName": "data", "CompatibleRuntimes": ["Python3.6"], "Content": {"ZipFile": layer}});
    client.ok("PublishLayerVersion", &request);
    let source = "\
import os, subprocess
def main_handler(event, context):
    output = subprocess.run(['/var/user/bin/run', '-c', 'echo ran'], stdout=subprocess.PIPE).stdout.decode()
    return [open(name).read() for name in ('data', 'again', 'up')] + [output, os.path.exists('/opt/shell'), open('own').read()]
";
    let code = linked(
        &[("real.py", source), ("text", "of the code")],
        &[
            ("index.py", "/var/user/real.py"),
            ("data", "/opt/data.txt"),
            ("again", "/opt/again"),
            ("up", "../../opt/data.txt"),
            ("bin/run", "/bin/sh"),
            ("own", "/var/user/text"),
            ("missing", "/opt/not/there"),
        ],
    );
    let layers = json!({"Layers": [{"LayerName": "data", "LayerVersion": 1}]});
    create(&client, "linked", "Python3.6", &code, layers);
    let data = "of the layer";
    let expected = json!([data, data, data, "ran\n", true, "of the code"]);
    assert_eq!(client.answer("linked", &json!({})), expected);
    for target in [
        "/etc/shadow",
        "/root/.ssh/id_rsa",
        "../../etc/shadow",
        "/proc/1/environ",
        "/tmp/x",
        "/opt/../etc/passwd",
    ] {
        let code = linked(&[("index.py", source)], &[("out", target)]);
        let request =
            json!({"FunctionName": "linked", "ZipFile": code, "Handler": "index.main_handler"});
        let refusal = client
            .call("UpdateFunctionCode", &request)
            .expect_err(target);
        let message = format!("{refusal:?}");
        assert!(
            message.contains("out") && message.contains(target),
            "{message}"
        );
    }
}

/// Whatever virga itself does with a package's files, it opens none that a link names on the host.
#[test]
fn nothing_on_the_host_is_read_through_a_link_of_a_package() {
    let server = server();
    let client = server.client();
    // Both are on the host and in the sandbox: their contents, and changes of them, show whether a link was followed.
    let marker =
        std::path::Path::new("/usr/share").join(format!("virga-linked-{}", std::process::id()));
    std::fs::create_dir(&marker).expect("made");
    std::fs::write(
        marker.join("index.py"),
        "def main_handler(e, c):\n    return 'host'\n",
    )
    .expect("written");
    std::fs::write(marker.join("requirements.txt"), "").expect("written");
    let target = |name: &str| format!("{}/{name}", marker.display());
    let (source, list) = (target("index.py"), target("requirements.txt"));
    let directory = marker.display().to_string();
    let links = [
        ("index.py", &*source),
        ("requirements.txt", &*list),
        ("pkg", &*directory),
        ("__pycache__", &*directory),
    ];
    let code = linked(&[("other.py", "x = 1\n")], &links);
    create(
        &client,
        "linked",
        "Python3.6",
        &code,
        json!({"InstallDependency": "TRUE"}),
    );
    let state = client.wait_until_ready("linked");
    // The function's own process sees what its link names, as it sees all of /usr.
    let answer = client.invoke("linked", &json!({}));
    let shown = client.ok(
        "GetFunction",
        &json!({"FunctionName": "linked", "ShowCode": "TRUE"}),
    );
    let left: Vec<_> = std::fs::read_dir(&marker)
        .expect("listed")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    std::fs::remove_dir_all(&marker).expect("removed");
    assert_eq!(state["Status"], "Active", "{state}");
    assert_eq!(answer["RetMsg"], "\"host\"", "{answer}");
    assert_eq!(shown["CodeInfo"], "", "{shown}");
    assert_eq!(left.len(), 2, "{left:?}");
}
