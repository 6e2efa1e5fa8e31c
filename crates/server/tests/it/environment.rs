//! Variables that a process reads at its start hold for handlers, as in a process that was started with them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::{Client, Options, Server, programs};

use crate::{VIRGA, server};

/// Makes a shared library of a function in C, which may call one of another library in the directory.
fn library(directory: &Path, name: &str, source: &str, needs: &[&str]) -> Vec<u8> {
    let (file, code) = (
        directory.join(format!("lib{name}.so")),
        directory.join(format!("{name}.c")),
    );
    std::fs::write(&code, source).expect("written");
    let needs = needs.iter().map(|needed| format!("-l{needed}"));
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&file, &code])
        .arg("-L")
        .arg(directory)
        .args(needs)
        .status();
    assert!(made.expect("a C compiler").success());
    std::fs::read(file).expect("a library")
}

/// Two libraries, of which the second needs the first.
fn libraries() -> [Vec<u8>; 2] {
    let directory = tempfile::tempdir().expect("a directory");
    let inner = "int inner(void) { return 40; }\n";
    let outer = "int inner(void); int outer(void) { return inner() + 2; }\n";
    [
        library(directory.path(), "inner", inner, &[]),
        library(directory.path(), "outer", outer, &["inner"]),
    ]
}

fn create(client: &Client, name: &str, files: &[(&str, &[u8])], more: Value) {
    let mut request = json!({
        "FunctionName": name, "Runtime": "Python3.6", "Timeout": 30, "Code": {"ZipFile": programs(files)},
    });
    if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
        request.extend(more);
    }
    client.ok("CreateFunction", &request);
}

fn variables(variables: &[(&str, &str)]) -> Value {
    let variables: Vec<_> = variables
        .iter()
        .map(|(key, value)| json!({"Key": key, "Value": value}))
        .collect();
    json!({"Environment": {"Variables": variables}})
}

const LOADS: &str = "import ctypes\n\
    def main_handler(e, c):\n    return [getattr(ctypes.CDLL('lib%s.so' % name), name)() for name in e]\n";

/// Servers with all of the isolation and without, of the administrator and of an ordinary user.
fn servers() -> impl Iterator<Item = (Server, String)> {
    [("full", false), ("full", true), ("process", false)]
        .into_iter()
        .map(|(isolation, user)| {
            let flags = ["--isolation", isolation].map(str::to_owned).to_vec();
            let options = Options {
                flags,
                user,
                ..Options::default()
            };
            let name = format!("isolation {isolation}, ordinary user: {user}");
            (Server::with(VIRGA, options), name)
        })
}

#[test]
fn libraries_of_code_and_layers_are_found_by_their_names() {
    let [inner, outer] = libraries();
    let code = ("index.py", LOADS.as_bytes());
    for (server, place) in servers() {
        let client = server.client();
        let ask = |name: &str, event: Value| {
            assert_eq!(client.answer(name, &event), json!([42]), "{place}: {name}");
        };
        create(
            &client,
            "beside",
            &[code, ("libinner.so", &inner), ("libouter.so", &outer)],
            json!({}),
        );
        ask("beside", json!(["outer"]));
        create(
            &client,
            "below",
            &[
                code,
                ("lib/libinner.so", &inner),
                ("lib/libouter.so", &outer),
            ],
            json!({}),
        );
        ask("below", json!(["outer"]));
        for (layer, directory) in [("flat", ""), ("deep", "lib/")] {
            let name = format!("{directory}libinner.so");
            let content = programs(&[(&name, &inner)]);
            let request = json!({
                "LayerName": layer, "CompatibleRuntimes": ["Python3.6"], "Content": {"ZipFile": content},
            });
            client.ok("PublishLayerVersion", &request);
            let layers = json!({"Layers": [{"LayerName": layer, "LayerVersion": 1}]});
            let name = format!("layer-{layer}");
            create(&client, &name, &[code, ("libouter.so", &outer)], layers);
            ask(&name, json!(["outer"]));
        }
        // What finds none says so as ever.
        create(&client, "without", &[code], json!({}));
        let failed = client.invoke("without", &json!(["inner"]));
        assert!(
            failed["RetMsg"]
                .as_str()
                .expect("text")
                .contains("libinner.so"),
            "{failed}"
        );
    }
}

#[test]
fn environment_read_at_process_start_applies_to_handlers() {
    // A variable, what a handler asks, and what it must hear. The same is asked in a child, which is started with it.
    let rows: &[(&str, &str, &str)] = &[
        ("PYTHONHASHSEED", "0", "hash('virga')"),
        ("PYTHONUNBUFFERED", "1", "type(sys.stdout.buffer).__name__"),
        ("PYTHONOPTIMIZE", "2", "sys.flags.optimize"),
        ("PYTHONUTF8", "1", "sys.flags.utf8_mode"),
        ("PYTHONDEVMODE", "1", "sys.flags.dev_mode"),
        ("PYTHONWARNINGS", "error::UserWarning", "sys.warnoptions"),
        ("PYTHONIOENCODING", "latin-1", "sys.stdout.encoding"),
        (
            "PYTHONTRACEMALLOC",
            "1",
            "__import__('tracemalloc').is_tracing()",
        ),
        (
            "PYTHONFAULTHANDLER",
            "1",
            "__import__('faulthandler').is_enabled()",
        ),
        (
            "PYTHONPATH",
            "/var/user/vendor",
            "__import__('vendored').WORD",
        ),
        (
            "PYTHONPATH",
            "vendor:/nowhere",
            "__import__('vendored').WORD",
        ),
        (
            "LD_PRELOAD",
            "/var/user/native/libinner.so",
            "ctypes.CDLL(None).inner()",
        ),
        (
            "LD_LIBRARY_PATH",
            "/var/user/native",
            "ctypes.CDLL('libouter.so').outer()",
        ),
        ("MALLOC_PERTURB_", "165", "perturbed()"),
        ("GLIBC_TUNABLES", "glibc.malloc.perturb=165", "perturbed()"),
        ("LC_ALL", "POSIX", "sys.getfilesystemencoding()"),
        ("TZ", "XYZ-3", "time.strftime('%Z')"),
        ("PLAIN", "value", "os.environ['PLAIN']"),
    ];
    let source = "\
import ctypes, json, os, subprocess, sys, time
def perturbed():
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    return ctypes.string_at(malloc(4096) + 64, 1).hex()
def ask(question):
    return repr(eval(question))
def main_handler(question, context):
    child = 'import sys; sys.path.insert(0, \"/var/user\"); import index; print(index.ask(sys.argv[1]))'
    output = subprocess.run([sys.executable, '-S', '-c', child, question], stdout=subprocess.PIPE)
    return [ask(question), output.stdout.decode().strip(), sorted(os.environ)]
";
    let [inner, outer] = libraries();
    let files: &[(&str, &[u8])] = &[
        ("index.py", source.as_bytes()),
        ("vendor/vendored.py", b"WORD = 'vendored'\n"),
        ("native/libinner.so", &inner),
        ("native/libouter.so", &outer),
    ];
    let server = server();
    let client = server.client();
    create(&client, "plain", files, json!({}));
    for runtime in ["Python3.6", "Python3.10"] {
        for (number, (name, value, question)) in rows.iter().enumerate() {
            // These came with 3.7.
            if runtime == "Python3.6" && ["PYTHONUTF8", "PYTHONDEVMODE"].contains(name) {
                continue;
            }
            let function = format!("f{number}-{}", runtime.len());
            let mut more = variables(&[(name, value)]);
            more["Runtime"] = runtime.into();
            create(&client, &function, files, more);
            let answer = client.answer(&function, &json!(question));
            assert_eq!(answer[0], answer[1], "{runtime}: {name}={value}");
            let names = answer[2].as_array().expect("a list");
            assert!(names.contains(&json!(name)), "{names:?}");
        }
    }
    // Others go on without: a copy of the same interpreter is as it was.
    for question in ["sys.flags.optimize", "sys.warnoptions"] {
        let answer = client.answer("plain", &json!(question));
        assert_eq!(answer[0], answer[1], "{question}");
    }
}

#[test]
fn a_handler_that_is_started_afresh_is_served_like_any_other() {
    let source = "\
import logging, os, random, sys
logging.getLogger().setLevel(logging.INFO)
n = 0
def main_handler(event, context):
    global n
    n += 1
    logging.getLogger().info('info %d', n)
    print('printed', n)
    os.system('echo of a child')
    if event == 'exit':
        sys.exit(3)
    return [n, random.WORD, context['function_name'], sys.path[:2], __file__, os.getcwd(), os.environ['PYTHONUNBUFFERED']]
";
    let files: &[(&str, &[u8])] = &[
        ("index.py", source.as_bytes()),
        // It shadows the library's, of which virga's own part makes use.
        ("random.py", b"WORD = 'mine'\n"),
    ];
    for (server, place) in servers() {
        let client = server.client();
        create(
            &client,
            "fresh",
            files,
            variables(&[("PYTHONUNBUFFERED", "1"), ("COLOUR", "gr\u{fc}n")]),
        );
        for n in 1..=2 {
            let result = client.invoke("fresh", &json!({}));
            assert_eq!(result["InvokeResult"], 0, "{place}: {result}");
            let answer: Value =
                serde_json::from_str(result["RetMsg"].as_str().expect("text")).expect("JSON");
            let began = [&answer[0], &answer[1], &answer[2]];
            assert_eq!(
                began,
                [&json!(n), &json!("mine"), &json!("fresh")],
                "{place}"
            );
            let log = result["Log"].as_str().expect("text");
            for line in [
                &format!("[INFO] info {n}"),
                &format!("printed {n}"),
                "of a child",
            ] {
                assert!(log.contains(line), "{place}: {log}");
            }
            let code = answer[5].as_str().expect("a path");
            assert_eq!(answer[3][0], code, "{place}");
            assert_eq!(answer[4], format!("{code}/index.py"), "{place}");
        }
        let ended = client.invoke("fresh", &json!("exit"));
        let document: Value =
            serde_json::from_str(ended["RetMsg"].as_str().expect("text")).expect("a document");
        assert_eq!(document["statusCode"], 439, "{place}: {ended}");
        for (name, code, status) in [
            ("broken", "def main_handler(:\n", 443),
            ("raises", "1 / 0\n", 430),
        ] {
            create(
                &client,
                name,
                &[("index.py", code.as_bytes())],
                variables(&[("PYTHONUNBUFFERED", "1")]),
            );
            let result = client.invoke(name, &json!({}));
            let document: Value =
                serde_json::from_str(result["RetMsg"].as_str().expect("text")).expect("a document");
            assert_eq!(document["statusCode"], status, "{place}: {result}");
        }
    }
}

#[test]
fn node_reads_its_options_at_its_start() {
    let server = server();
    let client = server.client();
    let source = b"exports.main_handler = async () => [global.before, require('given').word];\n";
    let files: &[(&str, &[u8])] = &[
        ("index.js", source),
        ("before.js", b"global.before = 'ran';\n"),
        ("modules/given.js", b"exports.word = 'given';\n"),
    ];
    let set = variables(&[
        ("NODE_OPTIONS", "--require /var/user/before.js"),
        ("NODE_PATH", "/var/user/modules"),
    ]);
    let request = json!({
        "FunctionName": "node", "Runtime": "Nodejs16.13", "Code": {"ZipFile": programs(files)}, "Environment": set["Environment"],
    });
    client.ok("CreateFunction", &request);
    assert_eq!(client.answer("node", &json!({})), json!(["ran", "given"]));
}

#[test]
fn configured_locale_exists() {
    let python = "\
import locale, subprocess, sys
def run(*command):
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return [output.returncode, output.stdout.decode()]
def main_handler(event, context):
    locale.setlocale(locale.LC_ALL, '')
    return [
        locale.getpreferredencoding(), sys.getfilesystemencoding(), run('bash', '-c', 'true'), run('bash', '-c', 'x=\u{e4}; echo ${#x}'),
        run('perl', '-e', 'print 1'),
    ]
";
    let bash = "#!/bin/bash\n\
        api=\"http://$SCF_RUNTIME_API:$SCF_RUNTIME_API_PORT/runtime\"\n\
        curl -s -X POST -d ' ' \"$api/init/ready\"\n\
        while true; do\n  curl -s \"$api/invocation/next\" > ${TMPDIR:-/tmp}/event\n  output=$(bash -c 'locale 2>&1 >/dev/null; echo end' 2>&1)\n\
        \u{20} curl -s -X POST -d \"\\\"$output\\\"\" \"$api/invocation/response\"\ndone\n";
    for (server, place) in servers() {
        let client = server.client();
        for (name, more) in [
            ("copy", json!({})),
            ("fresh", variables(&[("PYTHONUNBUFFERED", "1")])),
        ] {
            create(&client, name, &[("index.py", python.as_bytes())], more);
            let expected = json!(["UTF-8", "utf-8", [0, ""], [0, "1\n"], [0, "1"]]);
            assert_eq!(client.answer(name, &json!({})), expected, "{place}: {name}");
        }
        let more = json!({"Runtime": "CustomRuntime"});
        create(&client, "bash", &[("bootstrap", bash.as_bytes())], more);
        let result = client.invoke("bash", &json!({}));
        assert_eq!(result["RetMsg"], "\"end\"", "{place}: {result}");
        let log = result["Log"].as_str().expect("text");
        assert!(!log.contains("locale"), "{place}: {log}");
    }
}
