//! The package index of builds, and its credentials.

use super::*;

/// A package index that asks for credentials, with one package; it says what it was asked for.
fn private_index() -> (u16, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead, BufReader, Write};
    // A wheel is a zip archive.
    let info = "private_one-1.0.dist-info/";
    let wheel = testkit::zip(&[
        ("private_one.py", b"VALUE = 42\n"),
        (
            &format!("{info}METADATA"),
            b"Metadata-Version: 2.1\nName: private-one\nVersion: 1.0\n",
        ),
        (
            &format!("{info}WHEEL"),
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (&format!("{info}RECORD"), b""),
    ]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let (request_sender, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut lines = BufReader::new(&stream);
            loop {
                let mut line = String::new();
                if lines.read_line(&mut line).is_err() || line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            let path = head
                .first()
                .and_then(|line| line.split(' ').nth(1))
                .unwrap_or("/")
                .to_owned();
            // "operator:se:cret", in base64.
            let known = head.iter().any(|line| {
                line.eq_ignore_ascii_case("authorization: Basic b3BlcmF0b3I6c2U6Y3JldA==")
            });
            let _ = request_sender.send(format!("{known} {path}"));
            let file = "/repo/files/private_one-1.0-py3-none-any.whl";
            let (status, kind, body) = match path.as_str() {
                _ if !known => ("401 Unauthorized", "text/plain", b"no".to_vec()),
                "/repo/simple/private-one/" => {
                    // Once by a whole URL, as many indexes write them.
                    let link = format!("http://127.0.0.1:{port}{file}");
                    let page = format!("<a href=\"{link}\">private_one-1.0-py3-none-any.whl</a>");
                    ("200 OK", "text/html", page.into_bytes())
                }
                path if path == file => ("200 OK", "application/octet-stream", wheel.clone()),
                _ => ("404 Not Found", "text/plain", b"nothing".to_vec()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = (&stream)
                .write_all(head.as_bytes())
                .and_then(|()| (&stream).write_all(&body));
        }
    });
    (port, requests)
}

/// Requests packages from the index as pip is configured, and paths that builds may not have; returns the answers with everything a
/// build sees.
const CURIOUS: &str = r"
import base64, glob, os, subprocess, sys, urllib.request, urllib.error
def attack():
    seen = [open(p, 'rb').read().decode('latin1') for p in glob.glob('/proc/*/cmdline') + glob.glob('/proc/*/environ') if os.access(p, os.R_OK)]
    args = next(one for one in seen if '--index-url' in one).split('\0')
    url = args[args.index('--index-url') + 1]
    user, host = url.split('://')[1].split('/')[0].rsplit('@', 1)
    def status(path, method='GET', user=user):
        request = urllib.request.Request('http://' + host + path, method=method)
        if user:
            request.add_header('Authorization', 'Basic ' + base64.b64encode(user.encode()).decode())
        try:
            return urllib.request.urlopen(request, timeout=5).status
        except urllib.error.HTTPError as e:
            return e.code
    return [[status('/repo/simple/private-one/'), status('/repo/simple/private-one/', user=None), status('/admin/keys'),
             status('/repo/simple/../../admin/keys'), status('/repo/simple/private-one/', 'DELETE'),
             status('/repo/simple/private-one/', user='build:guess')], seen, url]
";

#[test]
fn an_index_with_credentials_serves_builds_that_never_see_them() {
    for network in ["functions", "host"] {
        let (port, asked) = private_index();
        let index = format!("http://operator:se%3Acret@127.0.0.1:{port}/repo/simple");
        let options = Options {
            flags: ["--install-network", network].map(str::to_owned).to_vec(),
            environment: vec![("VIRGA_INSTALL_INDEX".to_owned(), index)],
            ..Options::default()
        };
        let server = Server::with(VIRGA, options);
        let client = server.client();
        let source = "import private_one\ndef main_handler(e, c):\n    return private_one.VALUE\n";
        client.ok("CreateFunction", &json!({
            "FunctionName": "uses", "Runtime": "Python3.9", "InstallDependency": "TRUE",
            "Code": {"ZipFile": package(&[("index.py", source), ("requirements.txt", "private-one\n")])},
        }));
        let shown = client.wait_until_ready("uses");
        assert_eq!(shown["Status"], "Active", "{network}: {shown}");
        assert_eq!(client.answer("uses", &json!({})), 42);
        let found = attack(&client, "curious", CURIOUS);
        assert_eq!(
            found[0],
            json!([200, 401, 403, 403, 405, 401]),
            "{network}: {}",
            found[0]
        );
        for secret in ["se:cret", "se%3Acret", "b3BlcmF0b3I6c2U6Y3JldA"] {
            assert!(!found.to_string().contains(secret), "{network}: {found}");
            assert!(!shown.to_string().contains(secret) && !server.log().contains(secret));
        }
        let all: Vec<_> = asked.try_iter().collect();
        assert!(
            !all.is_empty() && all.iter().all(|one| one.starts_with("true /repo/")),
            "{all:?}"
        );
        // A build that has ended, or a function, has no way any more.
        let url = found[2].as_str().expect("a URL");
        let (user, host) = url["http://".len()..]
            .split_once('/')
            .map_or((url, ""), |(authority, _)| {
                authority.rsplit_once('@').expect("a token")
            });
        let late = format!(
            "import base64, urllib.request, urllib.error\ndef main_handler(e, c):\n    request = urllib.request.Request('http://{host}/repo/simple/private-one/')\n    \
             request.add_header('Authorization', 'Basic ' + base64.b64encode(b'{user}').decode())\n    try:\n        return urllib.request.urlopen(request, timeout=5).status\n    \
             except urllib.error.HTTPError as e:\n        return e.code\n    except OSError as e:\n        return 0\n"
        );
        client.create("late", &late, json!({"Timeout": 10}));
        let expected = if network == "functions" { 401 } else { 0 };
        assert_eq!(client.answer("late", &json!({})), expected, "{network}");
    }
}
