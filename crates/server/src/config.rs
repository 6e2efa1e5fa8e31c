//! The options of `virga up` and their sources: default < file < environment < flag.
//!
//! [`options`] is the single list behind flags, variables, file keys, the help and the reference page. All problems are
//! reported together, before anything starts.

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

/// A configuration option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// The key in the file. The flag is `--a-b`, the environment variable `VIRGA_A_B`.
    pub(crate) name: &'static str,
    /// The placeholder of the value in the help.
    value: &'static str,
    /// The default; empty if there is none or it depends on the host.
    default: &'static str,
    /// The line in the help and on the reference page.
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

/// Earlier names of options, each with the current one. An earlier name still works as a flag, a variable and a file key;
/// it is hidden from the help, and its use logs a deprecation warning.
const EARLIER_NAMES: &[(&str, &str)] = &[
    ("blanks", "prewarm"),
    ("brief_at_once", "short_request_concurrency"),
    ("network_refuse", "network_deny"),
];

/// Returns all options in the order of the help.
pub(crate) fn options() -> impl Iterator<Item = &'static Opt> {
    OPTIONS
        .iter()
        .chain(traffic::OPTIONS)
        .chain(buckets::OPTIONS)
}

const OPTIONS: &[Opt] = &[
    opt("listen", "ADDRESS", "127.0.0.1:9400", "Address of the API"),
    opt(
        "tls_listen",
        "ADDRESS",
        "",
        "Address of the API over TLS; empty = no TLS",
    ),
    opt(
        "tls_cert",
        "FILE",
        "",
        "Certificate chain (PEM); empty = a local authority issues one for the names that official clients use",
    ),
    opt(
        "tls_key",
        "FILE",
        "",
        "Private key of tls_cert (PEM); both files are reloaded when they change",
    ),
    opt(
        "metrics_listen",
        "ADDRESS",
        "",
        "Separate address for /metrics; empty = on the API's address, for loopback clients or with metrics_token",
    ),
    opt(
        "metrics_token",
        "FILE",
        "",
        "File with the bearer token that /metrics requires; empty = no token, loopback clients only unless metrics_listen is set",
    ),
    opt(
        "data",
        "DIR",
        "",
        "Data directory; empty = /var/lib/virga, or ~/.local/share/virga for a user other than root",
    ),
    opt(
        "public_url",
        "URL",
        "",
        "Base URL of the API in the URLs that virga returns; empty = the Host header of each request",
    ),
    opt(
        "api_hosts",
        "NAMES",
        "",
        "Additional host names of the API, as NAME or *.NAME, separated by commas; none of them can become a custom domain",
    ),
    opt(
        "url_domain",
        "NAME",
        "localhost",
        "Domain of function URLs, <app id>-<url id>.<region>.<url_domain>; its wildcard DNS record must point to this host",
    ),
    opt(
        "url_paths",
        "WHEN",
        "on",
        "Serve function URLs at /url/<url id>/ of the API's address, too: on, or off; these share one origin, so cookies are dropped",
    ),
    opt(
        "domain_allow",
        "NAMES",
        "",
        "Custom domains that need no proof of ownership, as NAME, *.NAME or *, separated by commas; all others need a DNS TXT record",
    ),
    opt(
        "domain_resolvers",
        "ADDRESSES",
        "",
        "DNS servers for checking domain ownership, as 10.0.0.2 or 10.0.0.2:5353, separated by commas; empty = those in /etc/resolv.conf",
    ),
    opt(
        "domain_check",
        "SECONDS",
        "3600",
        "Interval between ownership checks of custom domains (s)",
    ),
    opt(
        "domain_grace",
        "SECONDS",
        "259200",
        "Time that a custom domain is still served after its ownership record disappeared (s)",
    ),
    opt(
        "url_errors",
        "HOW",
        "scf",
        "HTTP status of failed requests to function URLs and custom domains: scf = SCF's own (430 to 450), http = standard 413, 500, 502, 503 and 504",
    ),
    opt(
        "region",
        "NAME",
        "ap-guangzhou",
        "Region name that functions and clients see",
    ),
    opt(
        "app_id",
        "NUMBER",
        "1250000000",
        "AppId of the first account, which is the operator's",
    ),
    opt("uin", "NUMBER", "100000000001", "Uin of the first account"),
    opt(
        "python",
        "PATHS",
        "",
        "Python interpreters, as paths separated by commas; empty = those found on the host",
    ),
    opt(
        "node",
        "PATHS",
        "",
        "Node.js interpreters, as paths separated by commas; empty = those found on the host",
    ),
    opt(
        "runtime_fallback",
        "BOOL",
        "true",
        "Run a function on the nearest newer interpreter if its runtime is not installed",
    ),
    opt(
        "keep_alive",
        "SECONDS",
        "300",
        "Idle time before an instance is evicted (s)",
    ),
    opt(
        "freeze_after_ms",
        "MILLISECONDS",
        "100",
        "Idle time before an instance is frozen (ms)",
    ),
    opt(
        "wait",
        "SECONDS",
        "10",
        "Maximum time that a request waits for an instance when limits prevent starting another (s)",
    ),
    opt(
        "max_waiting",
        "NUMBER",
        "10000",
        "Maximum number of requests that wait for one function; more are rejected",
    ),
    opt(
        "prewarm",
        "NUMBER",
        "4",
        "Pre-warmed sandboxes per interpreter; under load up to four times as many; 0 = none",
    ),
    opt(
        "node_memory_mb",
        "MB",
        "",
        "Memory of all instances together (MB); empty = four fifths of the host's",
    ),
    opt(
        "headroom_mb",
        "MB",
        "",
        "Memory kept free for the first instance of accounts that have none (MB); empty = 128 per such account, at least 10 % and at most 25 % of node_memory_mb",
    ),
    opt(
        "max_starting",
        "NUMBER",
        "",
        "Maximum number of concurrent cold starts; empty = two per processor",
    ),
    opt(
        "short_request_concurrency",
        "NUMBER",
        "",
        "Maximum number of instances that run one function's short, CPU-bound requests; empty = four per processor, 0 = unlimited",
    ),
    opt(
        "isolation",
        "LEVEL",
        "full",
        "Isolation of functions: full, or process = no namespaces, no cgroups, the host's network, for trusted code only",
    ),
    opt(
        "uid_base",
        "NUMBER",
        "",
        "First of the user ids reserved for instances, which nothing else on the host may use; empty = a free range from 2000000, or from /etc/subuid for a user other than root",
    ),
    opt(
        "uid_count",
        "NUMBER",
        "65536",
        "Number of user ids reserved for instances",
    ),
    opt(
        "cgroup",
        "NAME",
        "virga",
        "Name of the control group and of the network interface; if another virga has the default, virga-2 and so on",
    ),
    opt(
        "tmp_total_mb",
        "MB",
        "",
        "Disk space for the /tmp of all instances (MB); empty = half of the free space less 1 GB, 0 = in memory, counted as the function's",
    ),
    opt(
        "install_timeout",
        "SECONDS",
        "300",
        "Maximum time to install a package's dependencies (s)",
    ),
    opt(
        "install_memory_mb",
        "MB",
        "2048",
        "Memory of a build, with the files it writes (MB), at most half of the account's quota and of node_memory_mb; both are charged while it runs",
    ),
    opt(
        "install_index",
        "URL",
        "",
        "Package index for pip, with user and password if it needs them (builds do not see these); empty = https://pypi.org/simple",
    ),
    opt(
        "install_registry",
        "URL",
        "",
        "Package registry for npm, without credentials, since builds would see them; empty = https://registry.npmjs.org",
    ),
    opt(
        "install_directories",
        "PATHS",
        "",
        "Host directories with wheels that pip may read, separated by commas",
    ),
    opt(
        "install_network",
        "WHICH",
        "functions",
        "Network of builds (pip, npm): functions = as functions have it, host = everything that this host reaches",
    ),
    opt(
        "network",
        "REACH",
        "outbound",
        "Network of functions: outbound = virga's API and public addresses, internal = virga's API only, none = loopback only",
    ),
    opt(
        "network_range",
        "BLOCK",
        "198.18.0.0/15",
        "IP range for functions, virga and the link to the host, which must not contain destinations of functions; if another virga has the default, a part of 240.0.0.0/4",
    ),
    opt(
        "network_allow",
        "BLOCKS",
        "",
        "Private addresses that functions may reach, as blocks separated by commas",
    ),
    opt(
        "network_deny",
        "BLOCKS",
        "",
        "Public addresses that functions may not reach, as blocks separated by commas",
    ),
    opt(
        "dns",
        "ADDRESSES",
        "",
        "DNS resolvers of functions, separated by commas; empty = the host's",
    ),
    opt(
        "cloud_names",
        "STATE",
        "on",
        "Resolve the cloud's names (scf.tencentcloudapi.com, *.cos.<region>.myqcloud.com) to virga inside functions, which then trust its local authority: on, or off",
    ),
    opt(
        "dead_letter_endpoints",
        "URLS",
        "",
        "Allowed HTTP targets of dead letters, as http://host:8080, separated by commas; virga sends to them from this host; empty = none",
    ),
    opt(
        "event_sources",
        "FILE",
        "",
        "TOML file with the tokens of external storages that may post change notifications to /events/s3; empty = none",
    ),
    opt(
        "cron_zone",
        "ZONE",
        "Asia/Shanghai",
        "Time zone of cron expressions",
    ),
    opt(
        "cron_weekday_zero",
        "DAY",
        "sunday",
        "Meaning of weekday 0 in cron expressions: sunday, or monday as in earlier versions of SCF",
    ),
    opt(
        "timer_missed",
        "WHAT",
        "latest",
        "Missed timer runs after downtime: skip = none, latest = one per timer, all = every run of the last six hours",
    ),
    opt(
        "timer_grace",
        "SECONDS",
        "60",
        "Delay after which a timer run counts as missed (s)",
    ),
    opt(
        "zygote_forks",
        "NUMBER",
        "10000",
        "Number of sandboxes forked from one interpreter process before it is restarted; they share its address-space layout",
    ),
    opt(
        "zygote_age",
        "SECONDS",
        "3600",
        "Age at which an interpreter process is restarted (s)",
    ),
    opt(
        "event_store_mb",
        "MB",
        "4096",
        "Maximum size of queued and dead-lettered asynchronous events (MB); when full, new events are rejected",
    ),
    opt(
        "max_depth",
        "NUMBER",
        "16",
        "Maximum recursion depth: calls, events and bucket triggers in one call chain before the next event fails permanently",
    ),
    opt(
        "event_history",
        "NUMBER",
        "1000000",
        "Number of completed asynchronous events to remember, for up to three days; the oldest are removed first",
    ),
    opt(
        "event_retry_ms",
        "MILLISECONDS",
        "60000",
        "Delay before an asynchronous event is retried after the function failed (ms)",
    ),
    opt(
        "event_throttled_ms",
        "MILLISECONDS",
        "60000",
        "Delay before a function's asynchronous events are retried after they were throttled (ms)",
    ),
    opt(
        "event_backoff_ms",
        "MILLISECONDS",
        "1000",
        "First delay before an asynchronous event is retried after a platform failure (ms); doubles with each further failure",
    ),
    opt(
        "event_backoff_max_ms",
        "MILLISECONDS",
        "300000",
        "Maximum of that delay (ms)",
    ),
    opt(
        "usage_retention_days",
        "DAYS",
        "400",
        "Retention of the usage ledger (days)",
    ),
    opt(
        "head_timeout",
        "SECONDS",
        "75",
        "Maximum time to receive a request's headers, and idle time before a connection is closed (s)",
    ),
    opt(
        "drain_timeout",
        "SECONDS",
        "30",
        "Maximum time that running requests may take after SIGTERM (s)",
    ),
    opt(
        "log_retention_days",
        "DAYS",
        "7",
        "Retention of invocation logs (days)",
    ),
    opt(
        "log_store_mb",
        "MB",
        "1024",
        "Maximum size of the invocation logs (MB); when full, the account with the most loses its oldest",
    ),
    opt(
        "log",
        "FILTER",
        "info",
        "Level of virga's own log: error, warn, info, debug, trace, or a filter by module",
    ),
    opt(
        "log_format",
        "FORMAT",
        "auto",
        "Format of virga's own log: text, json, or auto = text on a terminal, JSON otherwise",
    ),
    opt(
        "rate_limits",
        "LIST",
        "",
        "Requests per second and account, as ACTION=NUMBER separated by commas, * for all other actions; 0 or not listed = unlimited",
    ),
    opt(
        "auth_failures",
        "NUMBER",
        "20",
        "Failed authentications per second from one IP address before it is blocked for a moment; 0 = unlimited",
    ),
    opt(
        "signature_window",
        "SECONDS",
        "300",
        "Maximum difference between a request's timestamp and the server's clock (s); bounds how long a captured request can be replayed",
    ),
    opt(
        "signature_v1",
        "STATE",
        "on",
        "Accept requests signed with version 1 (HmacSHA1, HmacSHA256): on, or off",
    ),
    opt(
        "sign_action",
        "KEYS",
        "marked",
        "Keys whose requests must sign action, version, time and region: marked = those created so, all = every permanent key (official SDKs then fail)",
    ),
    opt(
        "root_http",
        "PEERS",
        "loopback",
        "Peers from which root keys are accepted over plain HTTP: loopback, or all = any, for a TLS-terminating proxy on another host",
    ),
    opt(
        "role_session",
        "SECONDS",
        "43200",
        "Lifetime of a function's role credentials (s); an instance is replaced well before they expire",
    ),
    opt(
        "limits",
        "LIST",
        "",
        "Quotas as name=value, separated by commas; a table [limits] in the file",
    ),
];

/// The validated configuration of `virga up`.
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
    pub(crate) prewarm: usize,
    pub(crate) node_memory_mb: u64,
    /// Memory reserved for the first instances of accounts that have none, MB.
    pub(crate) headroom_mb: u64,
    /// The same per account without instances, MB; applies where the sum is larger.
    pub(crate) first_mb: u64,
    pub(crate) max_starting: u32,
    pub(crate) short_request_concurrency: usize,
    pub(crate) isolation: Isolation,
    pub(crate) uid_base: Option<u32>,
    pub(crate) uid_count: u32,
    pub(crate) cgroup: Choice<String>,
    /// Limit of all instances together; `None` derives it from the free disk space.
    pub(crate) tmp_total_mb: Option<u64>,
    pub(crate) install_timeout: Duration,
    pub(crate) install_memory_mb: u64,
    pub(crate) install_index: Option<PackageIndex>,
    /// The registry of npm.
    pub(crate) install_registry: Option<String>,
    pub(crate) install_directories: Vec<PathBuf>,
    pub(crate) install_on_host_network: bool,
    pub(crate) network: NetworkReach,
    pub(crate) network_plan: Choice<AddressPlan>,
    pub(crate) network_allow: Vec<AddressBlock>,
    pub(crate) network_deny: Vec<AddressBlock>,
    pub(crate) dns: Vec<Ipv4Addr>,
    /// Whether functions resolve the cloud's names to virga.
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
    /// `None` if buckets are disabled.
    pub(crate) buckets: Option<BucketSettings>,
    /// A deprecation warning for each option that was given by an earlier name.
    pub(crate) deprecations: Vec<String>,
}

/// The format of virga's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
    Auto,
}

/// The network that functions reach beyond their loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkReach {
    Outbound,
    Internal,
    Nothing,
}

/// Returns the flags of `virga up`, generated from the options.
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
    let earlier = |(name, _): &(&'static str, &'static str)| {
        Arg::new(*name)
            .long(flag(name))
            .env(variable(name))
            .hide(true)
            .overrides_with(*name)
    };
    std::iter::once(file)
        .chain(options().map(one))
        .chain(EARLIER_NAMES.iter().map(earlier))
        .collect()
}

fn flag(name: &str) -> String {
    name.replace('_', "-")
}

fn variable(name: &str) -> String {
    format!("VIRGA_{}", name.to_uppercase())
}

impl Opt {
    fn flag(&self) -> String {
        flag(self.name)
    }

    fn variable(&self) -> String {
        variable(self.name)
    }

    /// Returns the current name and then the earlier ones.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        let current = self.name;
        let earlier = EARLIER_NAMES.iter().filter(move |(_, now)| *now == current);
        std::iter::once(current).chain(earlier.map(|(name, _)| *name))
    }
}

/// Returns the table of options for the reference page.
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

/// Returns the table of quotas and their defaults for the reference page.
pub(crate) fn limits_reference() -> String {
    let mut page = String::from("| quota | default |\n| --- | --- |\n");
    if let Ok(toml::Value::Table(table)) = toml::Value::try_from(Limits::default()) {
        for (name, value) in table {
            page.push_str(&format!("| `{name}` | {value} |\n"));
        }
    }
    page
}

/// Default memory of a function, MB.
const DEFAULT_FUNCTION_MB: u64 = 128;

/// Lowers memory quotas to the memory of the node.
fn clamp_to_node(mut limits: Limits, node_memory_mb: u64) -> Limits {
    let node = u32::try_from(node_memory_mb).unwrap_or(u32::MAX);
    if limits.concurrency_mb > node {
        limits.concurrency_mb = node;
        // The same fraction of the quota as in SCF.
        limits.unreservable_mb = limits.unreservable_mb.min(node / 10);
    }
    let largest = node / 128 * 128;
    limits.memory_max_mb = limits.memory_max_mb.min(largest);
    limits
}

/// Reads and validates the configuration.
///
/// # Errors
/// Returns all problems. Each names the source of the value and the allowed values.
pub(crate) fn resolve(matches: &ArgMatches) -> Result<Config, Vec<String>> {
    let mut configured = RawConfig::default();
    if let Some(path) = matches.get_one::<String>("config") {
        configured.read_file(Path::new(path));
    }
    for option in options() {
        let given = option.names().filter_map(|name| {
            let text = matches.get_one::<String>(name)?;
            let is_variable = matches.value_source(name) == Some(ValueSource::EnvVariable);
            Some((name, text, is_variable))
        });
        // A flag wins over a variable, then the current name over an earlier one.
        let Some((name, text, is_variable)) = given.min_by_key(|(_, _, is_variable)| *is_variable)
        else {
            continue;
        };
        let source = match is_variable {
            true => variable(name),
            false => format!("--{}", flag(name)),
        };
        if name != option.name {
            let current = match is_variable {
                true => option.variable(),
                false => format!("--{}", option.flag()),
            };
            configured.deprecate(&source, &current);
        }
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

/// Unparsed values, each with its source.
#[derive(Default)]
struct RawConfig {
    values: BTreeMap<&'static str, (String, String)>,
    limits: toml::Table,
    problems: Vec<String>,
    deprecations: Vec<String>,
}

impl RawConfig {
    fn deprecate(&mut self, given: &str, current: &str) {
        self.deprecations
            .push(format!("{given} is deprecated; use {current}"));
    }
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
            let option = options().find(|option| option.names().any(|name| name == key));
            if let Some(option) = option.filter(|option| option.name != key) {
                self.deprecate(&format!("{key} (in {shown})"), option.name);
                // The current name wins.
                if self.values.contains_key(option.name) {
                    continue;
                }
            }
            match (option, value) {
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
                        "{key} (in {shown}): unknown option; the options are {}",
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
            prewarm: self.number("prewarm", 0, 1000) as usize,
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
            short_request_concurrency: self.number_or_else(
                "short_request_concurrency",
                0,
                10_000,
                || 4 * processors(),
            ) as usize,
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
            network_deny: self.list("network_deny", "blocks such as 203.0.113.0/24"),
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
            deprecations: std::mem::take(&mut self.deprecations),
        }
    }

    /// Returns the configured value or the default, and its source.
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
            let problem =
                "tls_listen: it is missing; tls_cert and tls_key need it, such as 127.0.0.1:9443";
            self.problems.push(problem.to_owned());
        }
        if cert != key {
            let missing = if cert { "tls_key" } else { "tls_cert" };
            self.problems.push(format!(
                "{missing}: it is missing; set tls_cert and tls_key together, or neither"
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

    /// Reads the token file. Error messages never contain the token.
    fn metrics_token(&mut self) -> Option<MetricsToken> {
        let (path, source) = self.raw("metrics_token");
        if path.is_empty() {
            return None;
        }
        let read = std::fs::read_to_string(&path).map_err(|e| format!("failed to read it: {e}"));
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

    /// Parses one of a few words. Reports any other value and returns the first word's meaning.
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

    /// Returns a value with whether the operator configured it, so that it is not replaced by another.
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

/// A placeholder for an invalid value, so that parsing goes on and all problems are listed.
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

/// Returns the default data directory. The command line looks for the credentials there, too.
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

/// Splits a comma-separated list.
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

/// Returns four fifths of the host's memory, MB.
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
    fn earlier_option_names_still_work_with_a_deprecation_warning() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("virga.toml");
        let path = file.to_str().expect("a path");
        let with_file = |text: &str, line: &[&str]| {
            std::fs::write(&file, text).expect("written");
            let line: Vec<_> = ["--config", path].iter().chain(line).copied().collect();
            let config = configured(&line).expect("allowed");
            (config.prewarm, config.deprecations)
        };
        for (earlier, current) in EARLIER_NAMES {
            assert!(options().any(|option| option.name == *current), "{current}");
            assert!(options().all(|option| option.name != *earlier), "{earlier}");
        }
        assert_eq!(with_file("", &[]), (4, Vec::new()));
        let by_flag = vec!["--blanks is deprecated; use --prewarm".to_owned()];
        assert_eq!(with_file("", &["--blanks", "7"]), (7, by_flag.clone()));
        assert_eq!(
            with_file("", &["--blanks", "7", "--prewarm", "8"]),
            (8, Vec::new())
        );
        assert_eq!(with_file("prewarm = 6\n", &["--blanks", "7"]), (7, by_flag));
        let in_file = vec![format!("blanks (in {path}) is deprecated; use prewarm")];
        assert_eq!(with_file("blanks = 5\n", &[]), (5, in_file.clone()));
        assert_eq!(with_file("blanks = 5\nprewarm = 6\n", &[]), (6, in_file));
        let help = Command::new("up").args(args()).render_help().to_string();
        assert!(
            help.contains("--prewarm") && !help.contains("--blanks"),
            "{help}"
        );
        let problems = configured(&["--blanks", "many"]).expect_err("refused");
        assert!(
            problems[0].starts_with("prewarm (from --blanks): \"many\""),
            "{problems:?}"
        );
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
