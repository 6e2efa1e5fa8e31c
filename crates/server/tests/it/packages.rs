//! Packages: taken, refused, installed into, and given back.

use serde_json::{Value, json};
use testkit::{base64, package, zip};

use crate::server;

#[test]
fn package_is_downloaded_by_a_signed_url_that_expires() {
    let server = server();
    let client = server.client();
    let bytes = zip(&[("index.py", b"def main_handler(e, c):\n    return 1\n")]);
    client.ok("CreateFunction", &json!({"FunctionName": "one", "Runtime": "Python3.6", "Code": {"ZipFile": base64(&bytes)}}));
    let address = client.ok("GetFunctionAddress", &json!({"FunctionName": "one"}));
    let url = address["Url"].as_str().expect("a URL");
    let path = url.strip_prefix(&client.endpoint).expect("of this server");
    let got = client.get(path);
    assert_eq!((got.status, got.body), (200, bytes));
    assert_eq!(address["CodeSha256"].as_str().map(str::len), Some(64));
    for tampered in [
        path.replace("expires=", "expires=9"),
        path.replace(".zip", "0.zip"),
        path[..path.len() - 1].to_owned(),
        path.split('?').next().expect("a path").to_owned(),
    ] {
        assert_eq!(client.get(&tampered).status, 403, "{tampered}");
    }
}

#[test]
fn invalid_package_is_refused_with_a_reason() {
    let server = server();
    let client = server.client();
    let create = |code: Value| {
        client.call(
            "CreateFunction",
            &json!({"FunctionName": "bad", "Runtime": "Python3.6", "Code": code}),
        )
    };
    let zipped = |bytes: &[u8]| json!({"ZipFile": base64(bytes)});
    let bomb = {
        let zeros = vec![0; 60 << 20];
        let files: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
            .iter()
            .map(|name| (*name, &zeros[..]))
            .collect();
        zip(&files)
    };
    assert!(bomb.len() < 1 << 20);
    // 175,000 directories that no entry lists, in a package of half a megabyte.
    let implied = {
        let names: Vec<_> = (0..1750)
            .map(|n| {
                (0..99)
                    .map(|part| format!("{n}.{part}/"))
                    .collect::<String>()
                    + "f"
            })
            .collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        zip(&files)
    };
    let twice = {
        let mut bytes = zip(&[("index.py", b"x = 1"), ("indey.py", b"x = 2")]);
        for at in 0..bytes.len() {
            if bytes[at..].starts_with(b"indey.py") {
                bytes[at + 4] = b'x';
            }
        }
        bytes
    };
    let rows = [
        (json!({}), "MissingParameter.Code", "ZipFile"),
        (
            json!({"ZipFile": "no base64!"}),
            "InvalidParameterValue.ZipFileBase64BinasciiError",
            "not base64",
        ),
        (
            zipped(b"no zip"),
            "InvalidParameterValue.ZipFile",
            "not a zip archive",
        ),
        (
            zipped(&zip(&[("../up", b"")])),
            "InvalidParameterValue.ZipFile",
            "leaves the package",
        ),
        (
            zipped(&zip(&[("/etc/x", b"")])),
            "InvalidParameterValue.ZipFile",
            "absolute path",
        ),
        (
            zipped(&bomb),
            "InvalidParameterValue.ZipFile",
            "over 500 MB unpacked",
        ),
        (
            zipped(&implied),
            "InvalidParameterValue.ZipFile",
            "up to 100000 are allowed",
        ),
        (
            zipped(&twice),
            "InvalidParameterValue.ZipFile",
            "\"index.py\" is in the package twice",
        ),
        (
            zipped(&vec![0; (50 << 20) + 1]),
            "InvalidParameterValue.ZipFile",
            "up to 52428800",
        ),
        (
            json!({"CosBucketName": "b", "CosObjectName": "/o"}),
            "ResourceNotFound.Cos",
            "there is no such bucket",
        ),
        (
            json!({"ZipFile": "UEs=", "DemoId": "demo"}),
            "InvalidParameterValue.Code",
            "exactly one",
        ),
    ];
    for (code, expected, message) in rows {
        let refused = create(code).expect_err(expected);
        assert_eq!(refused.code, expected, "{}", refused.message);
        assert!(refused.message.contains(message), "{}", refused.message);
    }
    assert_eq!(client.ok("ListFunctions", &json!({}))["TotalCount"], 0);
    let left = std::fs::read_dir(server.data().join("code/aside"))
        .expect("listed")
        .count();
    assert_eq!(left, 0, "nothing half done is left");
}

#[test]
fn package_near_the_limit_is_accepted() {
    let server = server();
    let client = server.client();
    // Random bytes do not shrink.
    let mut random = testkit::Random::new(1);
    let noise: Vec<u8> = (0..(48 << 20) / 8)
        .flat_map(|_| random.next_number().to_le_bytes())
        .collect();
    let source =
        b"import os\ndef main_handler(e, c):\n    return os.path.getsize('/var/user/data')\n";
    let bytes = zip(&[("index.py", source), ("data", &noise)]);
    client.ok("CreateFunction", &json!({"FunctionName": "large", "Runtime": "Python3.6", "Code": {"ZipFile": base64(&bytes)}}));
    assert_eq!(client.answer("large", &json!({})), 48 << 20);
}

#[test]
fn dependencies_are_installed_when_asked_for() {
    let server = server();
    let client = server.client();
    // A dependency that lies in the package itself needs no index.
    let files = [
        (
            "index.py",
            "import dependency\ndef main_handler(e, c):\n    return dependency.VALUE\n",
        ),
        ("requirements.txt", "./source\n"),
        (
            "source/pyproject.toml",
            "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
        ),
        ("source/backend.py", BACKEND),
    ];
    let create = |name: &str, files: &[(&str, &str)]| {
        client.ok("CreateFunction", &json!({
            "FunctionName": name, "Runtime": "Python3.9", "InstallDependency": "TRUE", "Code": {"ZipFile": package(files)},
        }));
        client.wait_until_ready(name)
    };
    let shown = create("with", &files);
    assert_eq!(shown["Status"], "Active", "{shown}");
    let reasons = shown["StatusReasons"].as_array().expect("a list");
    let log = reasons[0]["ErrorMessage"].as_str().expect("a log");
    assert!(
        log.contains("Successfully installed dependency-1.0"),
        "{log}"
    );
    assert_eq!(client.answer("with", &json!({})), 42);
    let shown = create("without", &files[..1]);
    assert_eq!(shown["Status"], "Active", "{shown}");
    assert_eq!(client.invoke("without", &json!({}))["InvokeResult"], 1);
    let shown = create("wrong", &[("requirements.txt", "./nowhere\n")]);
    assert_eq!(shown["Status"], "CreateFailed", "{shown}");
    let log = shown["StatusReasons"][0]["ErrorMessage"]
        .as_str()
        .expect("a log");
    assert!(
        log.contains("pip failed") && log.contains("nowhere"),
        "{log}"
    );
    assert_eq!(
        client.code("Invoke", &json!({"FunctionName": "wrong"})),
        "FailedOperation.FunctionStatusError"
    );
    // Code that fails to install leaves the old one serving.
    client.ok("UpdateFunctionCode", &json!({
        "FunctionName": "with", "InstallDependency": "TRUE", "ZipFile": package(&[("requirements.txt", "./nowhere\n")]),
    }));
    assert_eq!(client.wait_until_ready("with")["Status"], "UpdateFailed");
    assert_eq!(client.answer("with", &json!({})), 42);
}

/// The smallest thing that pip can build.
pub(crate) const BACKEND: &str = r#"
import os, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "dependency-1.0-py3-none-any.whl"
    info = "dependency-1.0.dist-info/"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("dependency.py", "VALUE = 42\n")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: dependency\nVersion: 1.0\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(info + "RECORD", "")
    return name
"#;

#[test]
fn code_is_compiled_once_when_it_is_published() {
    let server = server();
    let client = server.client();
    let files = [
        (
            "index.py",
            "from pkg import deep\ndef main_handler(e, c):\n    return [deep.__cached__, deep.VALUE]\n",
        ),
        ("pkg/deep.py", "VALUE = 7\n"),
        ("pkg/broken.py", "def ("),
    ];
    client.ok(
        "CreateFunction",
        &json!({"FunctionName": "fun", "Runtime": "Python3.9", "Code": {"ZipFile": package(&files)}}),
    );
    let digest =
        client.ok("GetFunctionAddress", &json!({"FunctionName": "fun"}))["CodeSha256"].clone();
    let tree = server
        .data()
        .join("code/trees")
        .join(digest.as_str().expect("a digest"));
    let compiled = |directory: &str| {
        let listed = std::fs::read_dir(tree.join(directory).join("__pycache__"))
            .into_iter()
            .flatten()
            .flatten();
        listed
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    testkit::eventually("both are compiled", || {
        compiled("").len() == 1 && compiled("pkg").len() == 1
    });
    assert!(
        compiled("pkg")[0].starts_with("deep.cpython-3"),
        "{:?}",
        compiled("pkg")
    );
    let answer = client.answer("fun", &json!({}));
    assert_eq!(answer[1], 7);
    assert!(
        answer[0]
            .as_str()
            .is_some_and(|path| path.starts_with("/var/user/pkg/__pycache__/deep.cpython-3"))
    );
}

#[test]
fn a_start_after_compilation_uses_compiled_code_whatever_started_before() {
    let server = server();
    let client = server.client();
    let create = |name: &str, files: &[(&str, &str)]| {
        client.ok(
            "CreateFunction",
            &json!({"FunctionName": name, "Runtime": "Python3.9", "Code": {"ZipFile": package(files)}}),
        );
    };
    // The interpreter is running when the second function is called, so that its first start precedes the compilation.
    create(
        "first",
        &[("index.py", "def main_handler(e, c):\n    return 1\n")],
    );
    client.answer("first", &json!({}));
    let handler = "import os\nfrom pkg import deep\ndef main_handler(e, c):\n    return [os.path.exists(deep.__cached__)]\n";
    create("fun", &[("index.py", handler), ("pkg/deep.py", "")]);
    client.answer("fun", &json!({}));
    let mut change = 0;
    testkit::eventually("a new instance sees compiled code", || {
        // The change replaces the instance.
        change += 1;
        let variables = [json!({"Key": "CHANGE", "Value": change.to_string()})];
        client.ok(
            "UpdateFunctionConfiguration",
            &json!({"FunctionName": "fun", "Environment": {"Variables": variables}}),
        );
        client.answer("fun", &json!({}))[0] == true
    });
}

/// A build reports through its result the parts of the operator's environment that it sees.
#[test]
fn a_build_sees_nothing_of_the_operators_environment() {
    let secrets = [
        (
            "PIP_INDEX_URL",
            "http://user:secret-of-the-index@127.0.0.1:1/simple",
        ),
        (
            "PIP_EXTRA_INDEX_URL",
            "http://user:secret-of-another@127.0.0.1:1/simple",
        ),
        ("HTTPS_PROXY", "http://user:secret-of-the-proxy@127.0.0.1:1"),
        ("REQUESTS_CA_BUNDLE", "/secret-path"),
        ("VIRGA_MASTER_KEY_NOTE", "secret-note"),
        ("AWS_SECRET_ACCESS_KEY", "secret-of-the-cloud"),
    ];
    let environment = secrets.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = testkit::Options {
        environment: environment.to_vec(),
        ..testkit::Options::default()
    };
    let server = testkit::Server::with(crate::VIRGA, options);
    let client = server.client();
    let telling = BACKEND.replace(
        "\"VALUE = 42\\n\"",
        "'VALUE = ' + repr([dict(os.environ), open('/proc/self/environ').read(), os.path.exists('/etc/pip.conf')])",
    );
    let files = [
        (
            "index.py",
            "import dependency\ndef main_handler(e, c):\n    return dependency.VALUE\n",
        ),
        ("requirements.txt", "./source\n"),
        (
            "source/pyproject.toml",
            "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
        ),
        ("source/backend.py", &telling),
    ];
    client.ok("CreateFunction", &json!({
        "FunctionName": "sees", "Runtime": "Python3.9", "InstallDependency": "TRUE", "Code": {"ZipFile": package(&files)},
    }));
    let shown = client.wait_until_ready("sees");
    assert_eq!(shown["Status"], "Active", "{shown}");
    let seen = client.answer("sees", &json!({}));
    assert!(seen[0]["PATH"].is_string(), "{seen}");
    assert!(!seen.to_string().contains("secret"), "{seen}");
    assert_eq!(seen[2], false, "{seen}");
}
