//! What is particular to Python: the zygote's root and command, an instance's environment and context.

use std::path::{Path, PathBuf};

use sandbox::launch::{Program, ZygoteSpec};
use sandbox::{Bind, Names, RootSpec};
use serde_json::{Value, json};

use crate::{InstanceSpec, Interpreter};

/// The shim that an interpreter runs.
pub(crate) const SHIM: &str = include_str!("../../../runtimes/python/shim.py");
/// The function that each new process loads before it waits for a real one.
pub(crate) const REHEARSAL: &str = include_str!("../../../runtimes/python/rehearsal.py");
/// The sandbox's library.
pub(crate) const LIBRARY: &[u8] = include_bytes!(env!("VIRGA_GUEST_LIBRARY"));

/// Where shim and library show inside.
const RUNTIME: &str = "/var/runtime/virga";
/// Where code and layers show inside.
const CODE: &str = "/var/user";
const LAYERS: &str = "/opt";
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
const LOCALE: &str = "en_US.UTF8";

/// The root for an interpreter: the system, its prefix where that is elsewhere, and `extra`.
pub(crate) fn root(
    interpreter: &Interpreter,
    staging: PathBuf,
    extra: Vec<Bind>,
    names: Names,
) -> RootSpec {
    let mut binds = extra;
    if !interpreter.prefix.starts_with("/usr") {
        binds.push(read_only(&interpreter.prefix, &interpreter.prefix));
    }
    // The paths that SCF documents.
    let model::Runtime::Python { major, minor } = interpreter.runtime;
    let links = [
        format!("/var/lang/python{major}"),
        format!("/var/lang/python{major}{minor}"),
    ]
    .map(|link| (PathBuf::from(link), interpreter.prefix.clone()))
    .to_vec();
    RootSpec {
        staging,
        binds,
        links,
        names,
    }
}

pub(crate) fn read_only(source: &Path, target: &Path) -> Bind {
    Bind {
        source: source.to_owned(),
        target: target.to_owned(),
        writable: false,
    }
}

/// A zygote of this interpreter. `runtime` is the directory that holds the shim and the library. A root of its own is put
/// together in a directory.
pub(crate) fn zygote(
    interpreter: &Interpreter,
    runtime: &Path,
    own: Option<(PathBuf, Names)>,
) -> ZygoteSpec {
    let shown = match own {
        Some(_) => Path::new(RUNTIME),
        None => runtime,
    };
    let shim = shown.join("shim.py").to_string_lossy().into_owned();
    let library = shown.join("libsandbox.so").to_string_lossy().into_owned();
    let args = [
        &interpreter.program.to_string_lossy(),
        "-I",
        "-S",
        "-B",
        shim.as_str(),
        library.as_str(),
    ];
    ZygoteSpec {
        root: own.map(|(staging, names)| {
            let runtime = read_only(runtime, Path::new(RUNTIME));
            root(interpreter, staging, vec![runtime], names)
        }),
        program: Program {
            args: args.map(str::to_owned).to_vec(),
            env: vec![
                format!("PATH={PATH}"),
                // The documented locale may not be installed; Python 3.6 would take names as ASCII then.
                "LANG=C.UTF-8".to_owned(),
                "LC_ALL=C.UTF-8".to_owned(),
            ],
        },
    }
}

/// What an instance is told when it is assigned.
pub(crate) fn assignment(
    spec: &InstanceSpec,
    hostname: &str,
    response_bytes: u64,
    room: Option<&Path>,
) -> Value {
    let seen = Seen::by(spec, room);
    json!({
        "handler": spec.handler.as_str(),
        "environment": environment(spec, hostname, &seen),
        "context": context(spec),
        "response_bytes": response_bytes,
        "code": seen.code,
        "layers": seen.layers,
        // Without a control group it is all that bounds a process' memory.
        "memory_bytes": room.map(|_| spec.memory.bytes()),
    })
}

/// Where an instance sees its files.
struct Seen {
    code: String,
    layers: String,
    /// Where that is not `/tmp`.
    tmp: Option<String>,
}

impl Seen {
    fn by(spec: &InstanceSpec, room: Option<&Path>) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        match room {
            None => Self {
                code: CODE.into(),
                layers: LAYERS.into(),
                tmp: None,
            },
            Some(room) => Self {
                code: text(&spec.code),
                layers: spec.layers.as_deref().map_or(LAYERS.into(), text),
                tmp: Some(text(room)),
            },
        }
    }
}

/// The environment that SCF documents; the user's variables win where SCF lets them.
fn environment(spec: &InstanceSpec, hostname: &str, seen: &Seen) -> Value {
    let function = &spec.function;
    let paths = format!("{}:{}", seen.code, seen.layers);
    let root = format!("{}/", seen.code);
    let tmp = seen.tmp.as_deref().map(|path| ("TMPDIR", path));
    let fixed = [
        ("PATH", PATH),
        ("LANG", LOCALE),
        ("LC_ALL", LOCALE),
        ("HOME", "/home/qcloud"),
        ("USER", "qcloud"),
        ("LOGNAME", "qcloud"),
        ("PWD", seen.code.as_str()),
        ("HOSTNAME", hostname),
        ("PYTHONPATH", paths.as_str()),
        ("PYTHONDONTWRITEBYTECODE", "x"),
        ("LD_LIBRARY_PATH", paths.as_str()),
        ("USER_CODE_ROOT", root.as_str()),
    ];
    let account = function.account.to_string();
    let version = spec.version.to_string();
    let own = [
        ("TENCENTCLOUD_RUNENV", "SCF"),
        ("TENCENTCLOUD_REGION", spec.place.region.as_str()),
        ("TENCENTCLOUD_APPID", account.as_str()),
        ("TENCENTCLOUD_UIN", spec.place.uin.as_str()),
        ("SCF_FUNCTIONNAME", function.name.as_str()),
        ("SCF_FUNCTIONVERSION", version.as_str()),
        ("SCF_NAMESPACE", function.namespace.as_str()),
        ("_SCF_SERVER_PORT", "28902"),
    ];
    let endpoint = spec.place.endpoint.as_deref().filter(|_| spec.public_net);
    let endpoint = endpoint.map(|endpoint| ("VIRGA_ENDPOINT", endpoint));
    let users = spec
        .environment
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let all = fixed
        .into_iter()
        .chain(tmp)
        .chain(endpoint)
        .chain(users)
        .chain(own);
    Value::Object(
        all.map(|(key, value)| (key.to_owned(), Value::from(value)))
            .collect(),
    )
}

/// What every request's context has; each request adds its own id.
fn context(spec: &InstanceSpec) -> Value {
    let namespace = spec.function.namespace.as_str();
    let mut environment: serde_json::Map<String, Value> = spec
        .environment
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    environment.insert("SCF_NAMESPACE".into(), namespace.into());
    let pairs: Vec<String> = spec
        .environment
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let environ = [pairs, vec![format!("SCF_NAMESPACE={namespace}"); 2]]
        .concat()
        .join(";");
    json!({
        "memory_limit_in_mb": spec.memory.mb(),
        "time_limit_in_ms": spec.timeout.as_millis() as u64,
        "environment": Value::Object(environment).to_string(),
        "environ": environ,
        "function_version": spec.version.to_string(),
        "function_name": spec.function.name.as_str(),
        "namespace": namespace,
        "tencentcloud_region": spec.place.region,
        "tencentcloud_appid": spec.function.account.to_string(),
        "tencentcloud_uin": spec.place.uin,
    })
}
