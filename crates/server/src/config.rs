//! What `virga up` can be told, and where: default < file < environment < flag.
//!
//! [`options`] is the one list from which flags, variables, file keys, the help and the reference page are made. All
//! problems are found before anything starts.

mod buckets;
mod index;
mod sources;
mod traffic;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use dispatch::cron::WeekdayZero;
use dispatch::schedule::MissedRuns;
use jiff::tz::TimeZone;
use model::{AccountId, Limits};
use sandbox::Isolation;
use sandbox::network::{AddressBlock, AddressPlan};

pub(crate) use self::buckets::{BucketSettings, ExternalStorage};
pub(crate) use self::index::PackageIndex;
pub(crate) use self::traffic::TrafficSettings;
use crate::access::{RateLimits, Signatures, parse_rates};
use crate::call_chains::RecursionDepth;
use crate::claims::Choice;
use crate::gateway::MetricsToken;
use crate::hosts::HostPattern;
use crate::ownership;
use crate::queue::Endpoint;
use crate::tls::{Source, TlsSettings};
use crate::triggers::EventSources;
use crate::urls::UrlErrors;

/// One thing that can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// Its key in the file; `--a-b` as a flag and `VIRGA_A_B` in the environment.
    pub(crate) name: &'static str,
    /// What the help calls its value.
    value: &'static str,
    /// What holds when nothing is told; empty where that depends on the host.
    default: &'static str,
    /// The manual.
    help: &'static str,
}

const fn opt(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Opt {
    Opt {
        name,
        value,
        default,
        help,
    }
}

/// The one list, in the order in which it is shown.
pub(crate) fn options() -> impl Iterator<Item = &'static Opt> {
    OPTIONS
        .iter()
        .chain(traffic::OPTIONS)
        .chain(buckets::OPTIONS)
}

const OPTIONS: &[Opt] = &[
    opt(
        "listen",
        "ADDRESS",
        "127.0.0.1:9400",
        "Where the API is served",
    ),
    opt(
        "tls_listen",
        "ADDRESS",
        "",
        "Where the API is served over TLS, too; nowhere unless it is told",
    ),
    opt(
        "tls_cert",
        "FILE",
        "",
        "Certificate and its chain, PEM; else a local authority makes one for the names that clients have built in",
    ),
    opt(
        "tls_key",
        "FILE",
        "",
        "The certificate's key, PEM; both files are read again when they change",
    ),
    opt(
        "metrics_listen",
        "ADDRESS",
        "",
        "Where /metrics is served, and nowhere else; else beside the API, for the loopback alone unless there is a token",
    ),
    opt(
        "metrics_token",
        "FILE",
        "",
        "File with the token that readers of /metrics send as Authorization: Bearer; with it they may come from anywhere, and need it everywhere",
    ),
    opt(
        "data",
        "DIR",
        "",
        "Directory of all that virga keeps; else /var/lib/virga, or for an ordinary user ~/.local/share/virga",
    ),
    opt(
        "public_url",
        "URL",
        "",
        "How clients reach the API, for URLs that virga hands out; else taken from each request's Host",
    ),
    opt(
        "api_hosts",
        "NAMES",
        "",
        "Further hosts by which clients reach the API, as names or *.name, separated by commas; no custom domain can be one of them",
    ),
    opt(
        "url_domain",
        "NAME",
        "localhost",
        "What the hosts of functions' URLs end with: <app id>-<url id>.<region>.<url_domain>, which must lead here",
    ),
    opt(
        "url_paths",
        "WHEN",
        "on",
        "Whether functions' URLs are also at /url/<url id>/, where all share one origin and none may set cookies: on, or off",
    ),
    opt(
        "domain_allow",
        "NAMES",
        "",
        "Custom domains that need no proof of ownership, as names, *.name or *, separated by commas; each other one needs a TXT record",
    ),
    opt(
        "domain_resolvers",
        "ADDRESSES",
        "",
        "DNS servers that are asked for proofs of custom domains, as 10.0.0.2 or 10.0.0.2:5353, separated by commas; else those of /etc/resolv.conf",
    ),
    opt(
        "domain_check",
        "SECONDS",
        "3600",
        "How often it is checked whether custom domains are still proved",
    ),
    opt(
        "domain_grace",
        "SECONDS",
        "259200",
        "How long a custom domain is served on after a check first found no proof",
    ),
    opt(
        "url_errors",
        "HOW",
        "scf",
        "HTTP status of functions' failures at URLs and domains: scf, SCF's own codes (430 to 450); http, 500, 502, 503, 504 and 413, which load balancers know",
    ),
    opt(
        "region",
        "NAME",
        "ap-guangzhou",
        "Region that functions are told they run in",
    ),
    opt(
        "app_id",
        "NUMBER",
        "1250000000",
        "Account id (AppId) of the first account, the operator's own",
    ),
    opt(
        "uin",
        "NUMBER",
        "100000000001",
        "Uin of the first account, which its functions are told",
    ),
    opt(
        "python",
        "PATHS",
        "",
        "Interpreters to serve with, separated by commas; else those found on the host",
    ),
    opt(
        "node",
        "PATHS",
        "",
        "Node.js programs to serve with, separated by commas; else those found on the host",
    ),
    opt(
        "runtime_fallback",
        "BOOL",
        "true",
        "Whether a runtime that is not installed is served by the nearest newer one",
    ),
    opt(
        "keep_alive",
        "SECONDS",
        "300",
        "How long an idle instance is kept",
    ),
    opt(
        "freeze_after_ms",
        "MILLISECONDS",
        "100",
        "How long after its last answer an idle instance is frozen",
    ),
    opt(
        "wait",
        "SECONDS",
        "10",
        "How long a request waits for an instance where limits keep another from being started",
    ),
    opt(
        "max_waiting",
        "NUMBER",
        "10000",
        "Requests that may wait for one function",
    ),
    opt(
        "blanks",
        "NUMBER",
        "4",
        "Sandboxes kept ready per interpreter, for cold starts; up to four times as many where starts find none",
    ),
    opt(
        "node_memory_mb",
        "MB",
        "",
        "Memory for instances together; else four fifths of the host's",
    ),
    opt(
        "headroom_mb",
        "MB",
        "",
        "Memory kept free for the first instance of accounts that have none; else 128 MB for each of them, at least a tenth and at most a quarter of node_memory_mb",
    ),
    opt(
        "max_starting",
        "NUMBER",
        "",
        "Instances that may be starting at a time; else two per processor",
    ),
    opt(
        "brief_at_once",
        "NUMBER",
        "",
        "Requests of a function that run at a time where they are brief and wait for nothing; else four per processor; 0 is no bound",
    ),
    opt(
        "isolation",
        "LEVEL",
        "full",
        "What stands around functions: full, or process, for trusted code alone: no namespaces, no control groups, the host's network",
    ),
    opt(
        "uid_base",
        "NUMBER",
        "",
        "First of the user ids set aside for instances, which nothing else on the host may use; else the first from 2000000 on that no other virga has, or for an ordinary user of those of /etc/subuid",
    ),
    opt(
        "uid_count",
        "NUMBER",
        "65536",
        "How many user ids are set aside",
    ),
    opt(
        "cgroup",
        "NAME",
        "virga",
        "Name of virga's control groups, and of its interface on the host; one virga per name: where another has the default, it is virga-2, and so on",
    ),
    opt(
        "tmp_total_mb",
        "MB",
        "",
        "Disk that the files in /tmp of all instances together may take; else half of what is free at the start less 1 GB; 0 keeps them in memory, where they count as the function's",
    ),
    opt(
        "install_timeout",
        "SECONDS",
        "300",
        "Longest installation of a package's dependencies",
    ),
    opt(
        "install_memory_mb",
        "MB",
        "2048",
        "Memory of a build (installing dependencies, compiling), the files that it writes included, or half of the account's quota or of node_memory_mb where that is less; it counts in both while the build runs",
    ),
    opt(
        "install_index",
        "URL",
        "",
        "Package index that Python's dependencies are installed from, with a user name and a password if it asks for them, which no build sees; else pip's own, https://pypi.org/simple",
    ),
    opt(
        "install_registry",
        "URL",
        "",
        "Registry that dependencies of Node.js are installed from, without credentials, which builds would see; else npm's own, https://registry.npmjs.org",
    ),
    opt(
        "install_directories",
        "PATHS",
        "",
        "Directories of the host in which pip finds packages, as wheels, and which it may read, separated by commas",
    ),
    opt(
        "install_network",
        "WHICH",
        "functions",
        "What builds (pip, npm) reach: functions, the same as they do, or host, all that this host does",
    ),
    opt(
        "network",
        "REACH",
        "outbound",
        "What functions reach: outbound, virga's API and the world but no private address; internal, virga's API alone; none, their own loopback",
    ),
    opt(
        "network_range",
        "BLOCK",
        "198.18.0.0/15",
        "Addresses inside, for functions, virga and the link to the host; nothing that functions should reach may lie in it; where another virga has the default, a part of 240.0.0.0/4",
    ),
    opt(
        "network_allow",
        "BLOCKS",
        "",
        "Private addresses that functions may reach all the same, separated by commas",
    ),
    opt(
        "network_refuse",
        "BLOCKS",
        "",
        "Public addresses that functions may not reach, separated by commas",
    ),
    opt(
        "dns",
        "ADDRESSES",
        "",
        "Resolvers that functions ask, separated by commas; else the host's",
    ),
    opt(
        "cloud_names",
        "STATE",
        "on",
        "Whether the cloud's names (scf.tencentcloudapi.com, *.cos.<region>.myqcloud.com) lead to virga inside functions, which then trust its local authority: on, or off",
    ),
    opt(
        "dead_letter_endpoints",
        "URLS",
        "",
        "Endpoints such as http://host:8080 that dead letters may go to, separated by commas; virga posts them from this host, so none is allowed that is not named",
    ),
    opt(
        "event_sources",
        "FILE",
        "",
        "TOML file with the tokens of storage elsewhere that may tell of its changes at /events/s3; none may unless it is named there",
    ),
    opt(
        "cron_zone",
        "ZONE",
        "Asia/Shanghai",
        "Time zone by whose clocks cron expressions are due, by its name",
    ),
    opt(
        "cron_weekday_zero",
        "DAY",
        "sunday",
        "What a weekday of 0 is in a cron expression: sunday, or monday as SCF once had it",
    ),
    opt(
        "timer_missed",
        "WHAT",
        "latest",
        "What becomes of times that timers missed: skip, nothing; latest, each timer is due once; all, those of the last six hours are due",
    ),
    opt(
        "timer_grace",
        "SECONDS",
        "60",
        "How late a timer's time may be and still is not missed",
    ),
    opt(
        "zygote_forks",
        "NUMBER",
        "10000",
        "After how many sandboxes an interpreter is started anew; those of one share its memory's layout",
    ),
    opt(
        "zygote_age",
        "SECONDS",
        "3600",
        "At what age an interpreter is started anew",
    ),
    opt(
        "event_store_mb",
        "MB",
        "4096",
        "Largest size of all asynchronous events that have not ended or were given up; beyond it new ones are refused",
    ),
    opt(
        "max_depth",
        "NUMBER",
        "16",
        "How many functions may cause each other in a row, by buckets, events or calls, before the next event is given up as a loop",
    ),
    opt(
        "event_history",
        "NUMBER",
        "1000000",
        "Asynchronous events whose end is remembered, for up to three days; the oldest go first",
    ),
    opt(
        "event_retry_ms",
        "MILLISECONDS",
        "60000",
        "How long after a failure of the function an asynchronous event runs again",
    ),
    opt(
        "event_throttled_ms",
        "MILLISECONDS",
        "60000",
        "How long a function's asynchronous events rest when no instance can be had for them",
    ),
    opt(
        "event_backoff_ms",
        "MILLISECONDS",
        "1000",
        "How long after a failure of the platform an asynchronous event runs again; it doubles with each further one",
    ),
    opt(
        "event_backoff_max_ms",
        "MILLISECONDS",
        "300000",
        "The most that this becomes",
    ),
    opt(
        "usage_retention_days",
        "DAYS",
        "400",
        "How long the usage ledger is kept",
    ),
    opt(
        "head_timeout",
        "SECONDS",
        "75",
        "How long the head of a request may take, and a connection may be idle",
    ),
    opt(
        "drain_timeout",
        "SECONDS",
        "30",
        "How long running requests may go on after SIGTERM",
    ),
    opt(
        "log_retention_days",
        "DAYS",
        "7",
        "How long invocation logs are kept",
    ),
    opt(
        "log_store_mb",
        "MB",
        "1024",
        "Largest size of the kept invocation logs; beyond it the account that holds most loses its oldest",
    ),
    opt(
        "log",
        "FILTER",
        "info",
        "What virga itself logs: error, warn, info, debug, trace, or a filter by module",
    ),
    opt(
        "log_format",
        "FORMAT",
        "auto",
        "text, json, or auto: text on a terminal and JSON elsewhere",
    ),
    opt(
        "rate_limits",
        "LIST",
        "",
        "Requests a second of each account, as ACTION=NUMBER separated by commas, * for all actions not named; 0, as what is not said, is any number",
    ),
    opt(
        "auth_failures",
        "NUMBER",
        "20",
        "Requests a second of one address that may fail to authenticate before it is not heard for a while; 0 is any number",
    ),
    opt(
        "signature_window",
        "SECONDS",
        "300",
        "How far a request's timestamp may be from the server's clock; a captured request is good as long",
    ),
    opt(
        "signature_v1",
        "STATE",
        "on",
        "Whether requests signed by version 1 (HmacSHA1, HmacSHA256) are served: on or off",
    ),
    opt(
        "sign_action",
        "KEYS",
        "marked",
        "Keys whose requests must sign action, version, time and region: marked, those made so; all, every permanent key, which official SDKs cannot meet",
    ),
    opt(
        "root_http",
        "PEERS",
        "loopback",
        "Peers from which root keys are taken over plain HTTP: loopback, or all, as behind a proxy on another host that ends TLS",
    ),
    opt(
        "role_session",
        "SECONDS",
        "43200",
        "How long the credentials that a function has of its role are good; an instance is replaced well before they expire",
    ),
    opt(
        "limits",
        "LIST",
        "",
        "Quotas as name=value, separated by commas; in the file a table [limits]",
    ),
];

/// All that `virga up` was told, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) metrics_listen: Option<SocketAddr>,
    pub(crate) metrics_token: Option<MetricsToken>,
    pub(crate) data: PathBuf,
    pub(crate) public_url: Option<String>,
    pub(crate) api_hosts: Vec<HostPattern>,
    pub(crate) url_domain: String,
    pub(crate) url_paths: bool,
    pub(crate) domain_allow: Vec<HostPattern>,
    pub(crate) domain_resolvers: Vec<ownership::DnsServer>,
    pub(crate) domain_check: Duration,
    pub(crate) domain_grace: Duration,
    pub(crate) url_errors: UrlErrors,
    pub(crate) region: String,
    pub(crate) account: AccountId,
    pub(crate) uin: u64,
    pub(crate) python: Vec<PathBuf>,
    pub(crate) node: Vec<PathBuf>,
    pub(crate) runtime_fallback: bool,
    pub(crate) keep_alive: Duration,
    pub(crate) freeze_after: Duration,
    pub(crate) wait: Duration,
    pub(crate) max_waiting: usize,
    pub(crate) blanks: usize,
    pub(crate) node_memory_mb: u64,
    /// Memory that accounts with instances leave to those without, MB.
    pub(crate) headroom_mb: u64,
    /// The same for each account without instances, MB, where together that is more.
    pub(crate) first_mb: u64,
    pub(crate) max_starting: u32,
    pub(crate) brief_at_once: usize,
    pub(crate) isolation: Isolation,
    pub(crate) uid_base: Option<u32>,
    pub(crate) uid_count: u32,
    pub(crate) cgroup: Choice<String>,
    /// Of all instances; none where it follows from what is free.
    pub(crate) tmp_total_mb: Option<u64>,
    pub(crate) install_timeout: Duration,
    pub(crate) install_memory_mb: u64,
    pub(crate) install_index: Option<PackageIndex>,
    /// The registry of Node.js' packages.
    pub(crate) install_registry: Option<String>,
    pub(crate) install_directories: Vec<PathBuf>,
    pub(crate) install_on_host_network: bool,
    pub(crate) network: NetworkReach,
    pub(crate) network_plan: Choice<AddressPlan>,
    pub(crate) network_allow: Vec<AddressBlock>,
    pub(crate) network_refuse: Vec<AddressBlock>,
    pub(crate) dns: Vec<Ipv4Addr>,
    /// Whether the cloud's names lead to virga inside.
    pub(crate) cloud_names: bool,
    pub(crate) dead_letter_endpoints: Vec<Endpoint>,
    pub(crate) event_sources: EventSources,
    pub(crate) cron_zone: TimeZone,
    pub(crate) cron_weekday_zero: WeekdayZero,
    pub(crate) timer_missed: MissedRuns,
    pub(crate) timer_grace: Duration,
    pub(crate) renewal: worker::ZygoteRenewal,
    pub(crate) event_store_bytes: u64,
    pub(crate) max_depth: RecursionDepth,
    pub(crate) event_history: u64,
    pub(crate) event_retry: Duration,
    pub(crate) event_throttled: Duration,
    pub(crate) event_backoff: Duration,
    pub(crate) event_backoff_max: Duration,
    pub(crate) usage_retention: Duration,
    pub(crate) head_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) log_retention: Duration,
    pub(crate) log_store_bytes: u64,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) rate_limits: RateLimits,
    pub(crate) auth_failures: u32,
    pub(crate) signatures: Signatures,
    pub(crate) role_session: Duration,
    pub(crate) limits: Limits,
    pub(crate) traffic: TrafficSettings,
    /// None where buckets are not served.
    pub(crate) buckets: Option<BucketSettings>,
}

/// How virga's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
    Auto,
}

/// What functions reach beyond their loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkReach {
    Outbound,
    Internal,
    Nothing,
}

/// The flags of `virga up`, made from the list.
pub(crate) fn args() -> Vec<Arg> {
    let file = Arg::new("config")
        .long("config")
        .env("VIRGA_CONFIG")
        .value_name("FILE")
        .help("TOML file with any of these options");
    let one = |option: &Opt| {
        let default = if option.default.is_empty() {
            String::new()
        } else {
            format!(" [default: {}]", option.default)
        };
        Arg::new(option.name)
            .long(option.flag())
            .env(option.variable())
            .value_name(option.value)
            .hide_env_values(true)
            .overrides_with(option.name)
            .help(format!("{}{default}", option.help))
    };
    std::iter::once(file).chain(options().map(one)).collect()
}

impl Opt {
    fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    fn variable(&self) -> String {
        format!("VIRGA_{}", self.name.to_uppercase())
    }
}

/// The reference page, from the list.
pub(crate) fn reference() -> String {
    let mut page = String::from(
        "| key | flag | variable | default | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for option in options() {
        let default = if option.default.is_empty() {
            "–".to_owned()
        } else {
            format!("`{}`", option.default)
        };
        page.push_str(&format!(
            "| `{}` | `--{} {}` | `{}` | {default} | {} |\n",
            option.name,
            option.flag(),
            option.value,
            option.variable(),
            option.help
        ));
    }
    page
}

/// The reference of quotas, from their defaults.
pub(crate) fn limits_reference() -> String {
    let mut page = String::from("| quota | default |\n| --- | --- |\n");
    if let Ok(toml::Value::Table(table)) = toml::Value::try_from(Limits::default()) {
        for (name, value) in table {
            page.push_str(&format!("| `{name}` | {value} |\n"));
        }
    }
    page
}

/// Memory of a function that says nothing of it, MB.
const DEFAULT_FUNCTION_MB: u64 = 128;

/// Quotas of memory that are no more than a node has.
fn clamp_to_node(mut limits: Limits, node_memory_mb: u64) -> Limits {
    let node = u32::try_from(node_memory_mb).unwrap_or(u32::MAX);
    if limits.concurrency_mb > node {
        limits.concurrency_mb = node;
        // The same part of it as of SCF's.
        limits.unreservable_mb = limits.unreservable_mb.min(node / 10);
    }
    let largest = node / 128 * 128;
    limits.memory_max_mb = limits.memory_max_mb.min(largest);
    limits
}

/// Reads everything that was told.
///
/// # Errors
/// All problems, each with where it was told and what is allowed.
pub(crate) fn resolve(matches: &ArgMatches) -> Result<Config, Vec<String>> {
    let mut configured = RawConfig::default();
    if let Some(path) = matches.get_one::<String>("config") {
        configured.read_file(Path::new(path));
    }
    for option in options() {
        let Some(text) = matches.get_one::<String>(option.name) else {
            continue;
        };
        let source = match matches.value_source(option.name) {
            Some(ValueSource::EnvVariable) => option.variable(),
            _ => format!("--{}", option.flag()),
        };
        configured
            .values
            .insert(option.name, (text.clone(), source));
    }
    let config = configured.config();
    if configured.problems.is_empty() {
        Ok(config)
    } else {
        Err(configured.problems)
    }
}

/// Values as they were told, and where.
#[derive(Default)]
struct RawConfig {
    values: BTreeMap<&'static str, (String, String)>,
    limits: toml::Table,
    problems: Vec<String>,
}

impl RawConfig {
    fn read_file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => {
                return self
                    .problems
                    .push(format!("config: {shown} cannot be read: {e}"));
            }
        };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(e) => {
                return self
                    .problems
                    .push(format!("config: {shown} is not TOML: {}", e.message()));
            }
        };
        for (key, value) in table {
            let source = format!("{shown}");
            match (options().find(|option| option.name == key), value) {
                (Some(option), toml::Value::Table(limits)) if option.name == "limits" => {
                    self.limits = limits
                }
                (Some(option), value) => match toml_to_text(&value) {
                    Some(text) => drop(self.values.insert(option.name, (text, source))),
                    None => self
                        .problems
                        .push(format!("{key} (in {shown}): a table is not allowed here")),
                },
                (None, _) => {
                    let known: Vec<_> = options().map(|option| option.name).collect();
                    self.problems.push(format!(
                        "{key} (in {shown}): no such option; there are {}",
                        known.join(", ")
                    ));
                }
            }
        }
    }

    fn config(&mut self) -> Config {
        let uid_count = self.number("uid_count", 16, 10_000_000) as u32;
        let account = AccountId(self.parse("app_id", "a number"));
        let node_memory_mb = self.number_or_else("node_memory_mb", 128, 1 << 30, host_memory_mb);
        Config {
            listen: self.parse("listen", "an address and port, such as 127.0.0.1:9400"),
            tls: self.tls(),
            metrics_listen: self.metrics_listen(),
            metrics_token: self.metrics_token(),
            data: self.data(),
            public_url: self.public_url(),
            api_hosts: self.list(
                "api_hosts",
                "hosts such as api.example.com or *.api.example.com",
            ),
            url_domain: self.url_domain(),
            url_paths: self.one_of("url_paths", &[("on", true), ("off", false)]),
            domain_allow: self.list(
                "domain_allow",
                "names such as shop.example.com, *.example.com, or *",
            ),
            domain_resolvers: self.list(
                "domain_resolvers",
                "addresses such as 10.0.0.2 or 10.0.0.2:5353",
            ),
            domain_check: self.seconds("domain_check"),
            domain_grace: self.seconds("domain_grace"),
            url_errors: self.url_errors(),
            region: self.text("region"),
            account,
            uin: self.parse("uin", "a number"),
            python: self.paths("python"),
            node: self.paths("node"),
            runtime_fallback: self.parse("runtime_fallback", "true or false"),
            keep_alive: self.seconds("keep_alive"),
            freeze_after: Duration::from_millis(self.number("freeze_after_ms", 0, 86_400_000)),
            wait: self.seconds("wait"),
            max_waiting: self.number("max_waiting", 1, 1_000_000) as usize,
            blanks: self.number("blanks", 0, 1000) as usize,
            node_memory_mb,
            headroom_mb: self.number_or_else("headroom_mb", 0, node_memory_mb, || {
                (node_memory_mb / 10)
                    .max(DEFAULT_FUNCTION_MB)
                    .min(node_memory_mb / 2)
            }),
            first_mb: if self.raw("headroom_mb").0.is_empty() {
                DEFAULT_FUNCTION_MB
            } else {
                0
            },
            max_starting: self.number_or_else("max_starting", 1, 10_000, || 2 * processors())
                as u32,
            brief_at_once: self.number_or_else("brief_at_once", 0, 10_000, || 4 * processors())
                as usize,
            isolation: self.one_of(
                "isolation",
                &[("full", Isolation::Full), ("process", Isolation::Process)],
            ),
            uid_base: self.uid_base(),
            uid_count,
            cgroup: self.cgroup(),
            tmp_total_mb: (!self.raw("tmp_total_mb").0.is_empty())
                .then(|| self.number("tmp_total_mb", 0, 1 << 30)),
            install_timeout: self.seconds("install_timeout"),
            install_memory_mb: self.number("install_memory_mb", 128, 1 << 20),
            install_index: self.package_index(),
            install_registry: self.package_registry(),
            install_directories: self.paths("install_directories"),
            install_on_host_network: self
                .one_of("install_network", &[("functions", false), ("host", true)]),
            network: self.one_of(
                "network",
                &[
                    ("outbound", NetworkReach::Outbound),
                    ("internal", NetworkReach::Internal),
                    ("none", NetworkReach::Nothing),
                ],
            ),
            network_plan: self.network_plan(uid_count),
            network_allow: self.list("network_allow", "blocks such as 10.1.0.0/16"),
            network_refuse: self.list("network_refuse", "blocks such as 203.0.113.0/24"),
            dns: self.list("dns", "IPv4 addresses"),
            cloud_names: self.one_of("cloud_names", &[("on", true), ("off", false)]),
            dead_letter_endpoints: self.list(
                "dead_letter_endpoints",
                "endpoints such as http://host:8080, without a path",
            ),
            event_sources: self.event_sources(account),
            cron_zone: self.cron_zone(),
            cron_weekday_zero: self.one_of(
                "cron_weekday_zero",
                &[
                    ("sunday", WeekdayZero::Sunday),
                    ("monday", WeekdayZero::Monday),
                ],
            ),
            timer_missed: self.one_of(
                "timer_missed",
                &[
                    ("latest", MissedRuns::Latest),
                    ("skip", MissedRuns::Skip),
                    ("all", MissedRuns::All),
                ],
            ),
            timer_grace: self.seconds("timer_grace"),
            renewal: worker::ZygoteRenewal {
                forks: self.number("zygote_forks", 1, u64::from(u32::MAX)) as u32,
                age: self.seconds("zygote_age"),
            },
            event_store_bytes: self.number("event_store_mb", 1, 1 << 30) << 20,
            max_depth: RecursionDepth(self.number("max_depth", 1, u64::from(u32::MAX)) as u32),
            event_history: self.number("event_history", 0, 1_000_000_000),
            event_retry: self.milliseconds("event_retry_ms"),
            event_throttled: self.milliseconds("event_throttled_ms"),
            event_backoff: self.milliseconds("event_backoff_ms"),
            event_backoff_max: self.milliseconds("event_backoff_max_ms"),
            usage_retention: Duration::from_secs(
                86_400 * self.number("usage_retention_days", 1, 36_500),
            ),
            head_timeout: self.seconds("head_timeout"),
            drain_timeout: self.seconds("drain_timeout"),
            log_retention: Duration::from_secs(
                86_400 * self.number("log_retention_days", 1, 36_500),
            ),
            log_store_bytes: self.number("log_store_mb", 1, 1 << 30) << 20,
            log: self.log(),
            log_format: self.one_of(
                "log_format",
                &[
                    ("auto", LogFormat::Auto),
                    ("text", LogFormat::Text),
                    ("json", LogFormat::Json),
                ],
            ),
            rate_limits: self.rate_limits(),
            auth_failures: self.number("auth_failures", 0, 1_000_000) as u32,
            signatures: Signatures {
                window: self.number("signature_window", 10, 86_400) as i64,
                version_1: self.one_of("signature_v1", &[("on", true), ("off", false)]),
                sign_action: self.one_of("sign_action", &[("marked", false), ("all", true)]),
                root_from_anywhere: self.one_of("root_http", &[("loopback", false), ("all", true)]),
            },
            role_session: self.seconds("role_session"),
            limits: clamp_to_node(self.limits(), node_memory_mb),
            traffic: self.traffic(),
            buckets: self.buckets(),
        }
    }

    /// What was told, or the default, and where from.
    fn raw(&self, name: &'static str) -> (String, String) {
        let default = options()
            .find(|option| option.name == name)
            .map_or("", |option| option.default);
        self.values
            .get(name)
            .cloned()
            .unwrap_or((default.to_owned(), "default".to_owned()))
    }

    fn problem(&mut self, name: &str, given: impl Display, source: &str, allowed: &str) {
        self.problems.push(format!(
            "{name} (from {source}): {given:?} is not allowed; {allowed}",
            given = given.to_string()
        ));
    }

    fn text(&mut self, name: &'static str) -> String {
        let (text, source) = self.raw(name);
        if text.is_empty() {
            self.problem(name, "", &source, "it must not be empty");
        }
        text
    }

    fn parse<T: FromStr + Fallback>(&mut self, name: &'static str, allowed: &str) -> T {
        let (text, source) = self.raw(name);
        text.parse().unwrap_or_else(|_| {
            self.problem(name, &text, &source, allowed);
            T::fallback()
        })
    }

    fn number(&mut self, name: &'static str, min: u64, max: u64) -> u64 {
        let (text, source) = self.raw(name);
        match text.parse() {
            Ok(number) if (min..=max).contains(&number) => number,
            _ => {
                self.problem(
                    name,
                    &text,
                    &source,
                    &format!("a number from {min} to {max}"),
                );
                min
            }
        }
    }

    fn number_or_else(
        &mut self,
        name: &'static str,
        min: u64,
        max: u64,
        host: impl Fn() -> u64,
    ) -> u64 {
        if self.raw(name).0.is_empty() {
            host().clamp(min, max)
        } else {
            self.number(name, min, max)
        }
    }

    fn tls(&mut self) -> Option<TlsSettings> {
        let configured = |name| !self.raw(name).0.is_empty();
        let (listens, cert, key) = (
            configured("tls_listen"),
            configured("tls_cert"),
            configured("tls_key"),
        );
        if (cert || key) && !listens {
            let problem = "tls_listen: it must be told where tls_cert and tls_key are";
            self.problems.push(problem.to_owned());
        }
        if cert != key {
            let missing = if cert { "tls_key" } else { "tls_cert" };
            self.problems.push(format!(
                "{missing}: tls_cert and tls_key must be told together, or neither"
            ));
        }
        let file = |configured: &Self, name| PathBuf::from(configured.raw(name).0);
        listens.then(|| TlsSettings {
            listen: self.parse("tls_listen", "an address and port, such as 127.0.0.1:9443"),
            source: if cert && key {
                Source::Files {
                    cert: file(self, "tls_cert"),
                    key: file(self, "tls_key"),
                }
            } else {
                Source::Authority
            },
        })
    }

    fn metrics_listen(&mut self) -> Option<SocketAddr> {
        let configured = !self.raw("metrics_listen").0.is_empty();
        configured.then(|| {
            self.parse(
                "metrics_listen",
                "an address and port, such as 127.0.0.1:9402",
            )
        })
    }

    /// What it says of mistakes never holds the token.
    fn metrics_token(&mut self) -> Option<MetricsToken> {
        let (path, source) = self.raw("metrics_token");
        if path.is_empty() {
            return None;
        }
        let read = std::fs::read_to_string(&path).map_err(|e| format!("it cannot be read: {e}"));
        match read.and_then(|text| MetricsToken::parse(&text)) {
            Ok(token) => Some(token),
            Err(why) => {
                let allowed = format!("a file with a token is ({why})");
                self.problem("metrics_token", &path, &source, &allowed);
                None
            }
        }
    }

    fn data(&mut self) -> PathBuf {
        match self.raw("data").0 {
            configured if configured.is_empty() => default_data(),
            configured => configured.into(),
        }
    }

    fn uid_base(&mut self) -> Option<u32> {
        let configured = !self.raw("uid_base").0.is_empty();
        configured.then(|| self.number("uid_base", 65_536, u64::from(u32::MAX) - 10_000_000) as u32)
    }

    /// One of a few words; the first stands in where another was told.
    fn one_of<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> T {
        let (text, source) = self.raw(name);
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text) {
            return *meant;
        }
        let allowed: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        self.problem(name, &text, &source, &allowed.join(", "));
        words[0].1
    }

    fn list<T: FromStr>(&mut self, name: &'static str, allowed: &str) -> Vec<T> {
        let (text, source) = self.raw(name);
        let mut list = Vec::new();
        for item in words(&text) {
            match item.parse() {
                Ok(item) => list.push(item),
                Err(_) => self.problem(name, item, &source, allowed),
            }
        }
        list
    }

    fn network_plan(&mut self, instances: u32) -> Choice<AddressPlan> {
        let (text, source) = self.raw("network_range");
        let plan = text
            .parse()
            .and_then(|block| AddressPlan::new(block, instances));
        let plan = plan.unwrap_or_else(|why| {
            self.problem("network_range", &text, &source, &why);
            AddressPlan::default()
        });
        self.configured("network_range", plan)
    }

    fn seconds(&mut self, name: &'static str) -> Duration {
        Duration::from_secs(self.number(name, 1, 31_536_000))
    }

    fn milliseconds(&mut self, name: &'static str) -> Duration {
        Duration::from_millis(self.number(name, 1, 86_400_000))
    }

    fn paths(&mut self, name: &'static str) -> Vec<PathBuf> {
        let (text, source) = self.raw(name);
        let paths: Vec<_> = words(&text).map(PathBuf::from).collect();
        for path in paths.iter().filter(|path| !path.exists()) {
            self.problem(
                name,
                path.display(),
                &source,
                "paths that exist, separated by commas",
            );
        }
        paths
    }

    fn public_url(&mut self) -> Option<String> {
        let (url, source) = self.raw("public_url");
        if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
            self.problem(
                "public_url",
                &url,
                &source,
                "a URL that starts with http:// or https://",
            );
        }
        (!url.is_empty()).then(|| url.trim_end_matches('/').to_owned())
    }

    fn url_errors(&mut self) -> UrlErrors {
        let (text, source) = self.raw("url_errors");
        match text.as_str() {
            "scf" => UrlErrors::Scf,
            "http" => UrlErrors::Http,
            _ => {
                self.problem("url_errors", &text, &source, "scf or http");
                UrlErrors::default()
            }
        }
    }

    fn url_domain(&mut self) -> String {
        let (name, source) = self.raw("url_domain");
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !name.split('.').all(label) {
            self.problem(
                "url_domain",
                &name,
                &source,
                "a host's name, such as fn.example.com",
            );
        }
        name.to_ascii_lowercase()
    }

    fn cron_zone(&mut self) -> TimeZone {
        let (name, source) = self.raw("cron_zone");
        TimeZone::get(&name).unwrap_or_else(|_| {
            let allowed = "the name of a time zone, such as Asia/Shanghai or UTC";
            self.problem("cron_zone", &name, &source, allowed);
            TimeZone::UTC
        })
    }

    fn cgroup(&mut self) -> Choice<String> {
        let (name, source) = self.raw("cgroup");
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || !name.bytes().all(fine) {
            self.problem("cgroup", &name, &source, "letters, digits, '-' and '_'");
        }
        self.configured("cgroup", name)
    }

    /// The value of an option, and whether that is another than its default by somebody's word.
    fn configured<T>(&self, name: &'static str, value: T) -> Choice<T> {
        let configured = self.values.contains_key(name);
        Choice { value, configured }
    }

    fn log(&mut self) -> String {
        let (filter, source) = self.raw("log");
        if let Err(e) = tracing_subscriber::EnvFilter::try_new(&filter) {
            self.problem(
                "log",
                &filter,
                &source,
                &format!("a level or a filter is ({e})"),
            );
        }
        filter
    }

    fn rate_limits(&mut self) -> RateLimits {
        let (list, source) = self.raw("rate_limits");
        parse_rates(words(&list)).unwrap_or_else(|(given, allowed)| {
            self.problem("rate_limits", given, &source, &allowed);
            RateLimits::default()
        })
    }

    fn limits(&mut self) -> Limits {
        let mut table = std::mem::take(&mut self.limits);
        let (list, source) = self.raw("limits");
        for pair in words(&list) {
            match pair
                .split_once('=')
                .and_then(|(name, value)| Some((name, value.parse::<i64>().ok()?)))
            {
                Some((name, value)) => {
                    drop(table.insert(name.trim().to_owned(), toml::Value::Integer(value)))
                }
                None => self.problem("limits", pair, &source, "name=value with a number"),
            }
        }
        table.try_into().unwrap_or_else(|e: toml::de::Error| {
            self.problems.push(format!("limits: {}", e.message()));
            Limits::default()
        })
    }
}

/// What stands in for a value that is refused, until all problems are listed.
trait Fallback {
    fn fallback() -> Self;
}

impl Fallback for SocketAddr {
    fn fallback() -> Self {
        Self::from(([127, 0, 0, 1], 0))
    }
}

impl Fallback for u64 {
    fn fallback() -> Self {
        0
    }
}

impl Fallback for bool {
    fn fallback() -> Self {
        false
    }
}

/// Where all is kept when nothing is told, for the server and for those who look for its credentials.
pub(crate) fn default_data() -> PathBuf {
    const SYSTEM_DATA: &str = "/var/lib/virga";
    if sandbox::user::is_root() {
        return SYSTEM_DATA.into();
    }
    let own = |name, below: &str| Some(PathBuf::from(std::env::var_os(name)?).join(below));
    own("XDG_DATA_HOME", "virga")
        .or_else(|| own("HOME", ".local/share/virga"))
        .unwrap_or(SYSTEM_DATA.into())
}

/// The parts between commas.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn toml_to_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::Table(_) => None,
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Array(items) => items
            .iter()
            .map(toml_to_text)
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(",")),
        other => Some(other.to_string()),
    }
}

/// Four fifths of the host's memory, MB.
fn host_memory_mb() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kb: u64 = total
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(1 << 20);
    kb / 1024 * 4 / 5
}

fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    fn configured(line: &[&str]) -> Result<Config, Vec<String>> {
        let command = Command::new("up").args(args());
        let words = std::iter::once("up").chain(line.iter().copied());
        resolve(&command.try_get_matches_from(words).expect("flags"))
    }

    #[test]
    fn flag_overrides_file_and_file_overrides_default() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("virga.toml");
        std::fs::write(
            &file,
            "listen = '127.0.0.1:1'\nkeep_alive = 7\n[limits]\nmemory_max_mb = 6144\n",
        )
        .expect("written");
        let file = file.to_str().expect("a path");
        let config = configured(&["--config", file, "--listen", "127.0.0.1:2"]).expect("allowed");
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.keep_alive, Duration::from_secs(7));
        assert_eq!(config.wait, Duration::from_secs(10));
        assert_eq!(config.limits.memory_max_mb, 6144);
        assert_eq!(config.limits.timeout_max_s, 900);
    }

    #[test]
    fn all_problems_are_listed_with_their_source() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("virga.toml");
        std::fs::write(
            &file,
            "keep_alive = -1\ncolour = 'red'\n[limits]\nnothing = 1\n",
        )
        .expect("written");
        let file = file.to_str().expect("a path");
        let problems = configured(&["--config", file, "--listen", "here", "--log-format", "xml"])
            .expect_err("refused");
        let expected = [
            "colour (in",
            "limits: unknown field `nothing`",
            "keep_alive (from",
            "listen (from --listen): \"here\"",
            "log_format (from --log-format)",
        ];
        for part in expected {
            assert!(
                problems.iter().any(|problem| problem.contains(part)),
                "{part}: {problems:?}"
            );
        }
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
    }

    #[test]
    fn limits_accept_a_comma_separated_list() {
        let config = configured(&["--limits", "timeout_max_s=1800,namespaces=9"]).expect("allowed");
        assert_eq!(
            (config.limits.timeout_max_s, config.limits.namespaces),
            (1800, 9)
        );
        assert!(configured(&["--limits", "timeout_max_s"]).is_err());
    }
}
