//! The assignment that a sandbox receives: its code, its environment, and the part of the context that all requests
//! share.

use std::collections::BTreeMap;
use std::path::Path;

use sandbox::{AUTHORITIES, OWN_AUTHORITY};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::launch_mode::LaunchMode;
use crate::layout::{CODE, LAYERS, LOCALE, PATH, RUNTIME, SITE_DIRECTORY};
use crate::local_files::LocalFiles;
use crate::{Credentials, InstanceSpec};

/// The assignment as JSON. The Python shim reads it, too.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    #[serde(rename = "entry")]
    pub(crate) launch_mode: LaunchMode,
    pub(crate) handler: String,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) context: Value,
    pub(crate) response_bytes: u64,
    pub(crate) code: String,
    pub(crate) layers: String,
    /// Without a control group this is the only memory limit of a process.
    pub(crate) memory_bytes: Option<u64>,
}

impl Assignment {
    /// Builds the assignment of an instance. `work_directory` is the directory for its temporary files if it has no root
    /// of its own.
    pub(crate) fn of(
        spec: &InstanceSpec,
        files: &LocalFiles,
        launch_mode: LaunchMode,
        hostname: &str,
        response_bytes: u64,
        work_directory: Option<&Path>,
    ) -> Self {
        let instance_paths = InstancePaths::by(files, work_directory);
        Self {
            handler: spec.handler.as_str().to_owned(),
            environment: environment(spec, &launch_mode, hostname, &instance_paths),
            context: context(spec),
            response_bytes,
            code: instance_paths.code,
            layers: instance_paths.layers,
            memory_bytes: work_directory.map(|_| spec.memory.bytes()),
            launch_mode,
        }
    }

    /// Adds the credentials of its role.
    pub(crate) fn add_credentials(&mut self, credentials: &Credentials) {
        let given = [
            ("TENCENTCLOUD_SECRETID", &credentials.id),
            ("TENCENTCLOUD_SECRETKEY", &credentials.key),
            ("TENCENTCLOUD_SESSIONTOKEN", &credentials.token),
        ];
        let given = given.map(|(name, value)| (name.to_owned(), value.clone()));
        self.environment.extend(given);
    }
}

/// Paths of an instance's files as it sees them.
struct InstancePaths {
    code: String,
    layers: String,
    /// `None` for `/tmp`.
    tmp: Option<String>,
}

impl InstancePaths {
    fn by(files: &LocalFiles, work_directory: Option<&Path>) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        match work_directory {
            None => Self {
                code: CODE.into(),
                layers: LAYERS.into(),
                tmp: None,
            },
            Some(work_directory) => Self {
                code: text(&files.code),
                layers: files.layers.as_deref().map_or(LAYERS.into(), text),
                tmp: Some(text(work_directory)),
            },
        }
    }
}

/// Returns the value of `LD_LIBRARY_PATH`. SCF has the first two directories.
fn library_path(code: &str, layers: &str) -> String {
    format!("{code}:{layers}:{code}/lib:{layers}/lib")
}

/// Returns the environment that SCF documents. The user's variables take precedence where SCF lets them.
fn environment(
    spec: &InstanceSpec,
    launch_mode: &LaunchMode,
    hostname: &str,
    instance_paths: &InstancePaths,
) -> BTreeMap<String, String> {
    let function = &spec.function;
    let paths = format!("{}:{}", instance_paths.code, instance_paths.layers);
    let libraries = library_path(&instance_paths.code, &instance_paths.layers);
    let trusts = spec.platform.trusts_authority;
    // The shim does the work of this directory itself.
    let python_paths = match launch_mode {
        LaunchMode::Program { .. } | LaunchMode::Server if trusts => {
            format!("{paths}:{}/{}", RUNTIME, SITE_DIRECTORY)
        }
        _ => paths.clone(),
    };
    let root = format!("{}/", instance_paths.code);
    let modules = format!(
        "{code}:{code}/node_modules:{layers}:{layers}/node_modules",
        code = instance_paths.code,
        layers = instance_paths.layers
    );
    let tmp = instance_paths.tmp.as_deref().map(|path| ("TMPDIR", path));
    let fixed = [
        ("PATH", PATH),
        ("LANG", LOCALE),
        ("LC_ALL", LOCALE),
        ("HOME", "/home/qcloud"),
        ("USER", "qcloud"),
        ("LOGNAME", "qcloud"),
        ("PWD", instance_paths.code.as_str()),
        ("HOSTNAME", hostname),
        ("PYTHONPATH", python_paths.as_str()),
        ("PYTHONDONTWRITEBYTECODE", "x"),
        ("LD_LIBRARY_PATH", libraries.as_str()),
        ("USER_CODE_ROOT", root.as_str()),
        ("NODE_PATH", modules.as_str()),
    ];
    let account = function.account.to_string();
    let version = spec.version.to_string();
    let own = [
        ("TENCENTCLOUD_RUNENV", "SCF"),
        ("TENCENTCLOUD_REGION", spec.platform.region.as_str()),
        ("TENCENTCLOUD_APPID", account.as_str()),
        ("TENCENTCLOUD_UIN", spec.platform.uin.as_str()),
        ("SCF_FUNCTIONNAME", function.name.as_str()),
        ("SCF_FUNCTIONVERSION", version.as_str()),
        ("SCF_NAMESPACE", function.namespace.as_str()),
        ("_SCF_SERVER_PORT", "28902"),
    ];
    let handler = matches!(launch_mode, LaunchMode::Program { .. })
        .then_some(("_HANDLER", spec.handler.as_str()));
    let endpoints = [
        ("VIRGA_ENDPOINT", &spec.platform.endpoint),
        ("VIRGA_BUCKETS", &spec.platform.buckets),
    ];
    let endpoints = endpoints
        .into_iter()
        .filter_map(|(name, endpoint)| Some((name, endpoint.as_deref()?)));
    let trusted = [
        ("SSL_CERT_FILE", AUTHORITIES),
        ("REQUESTS_CA_BUNDLE", AUTHORITIES),
        ("CURL_CA_BUNDLE", AUTHORITIES),
        ("AWS_CA_BUNDLE", AUTHORITIES),
        // Node.js adds these to its built-in list.
        ("NODE_EXTRA_CA_CERTS", OWN_AUTHORITY),
    ];
    let trusted = trusted.into_iter().filter(|_| trusts);
    let endpoints = endpoints.chain(trusted);
    let users = spec
        .environment
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let all = fixed
        .into_iter()
        .chain(tmp)
        .chain(endpoints)
        .chain(users)
        .chain(own)
        .chain(handler);
    all.map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Returns the part of the context that all requests share. Each request adds its id.
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
        "tencentcloud_region": spec.platform.region,
        "tencentcloud_appid": spec.function.account.to_string(),
        "tencentcloud_uin": spec.platform.uin,
    })
}
