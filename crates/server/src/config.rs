//! The configuration of `virga up`. An option is one entry of its group's file; flags, variables, file keys, the help and the
//! reference page are made from all entries. All problems are reported together, before anything starts.

mod access;
mod api;
mod buckets;
mod builds;
mod data;
mod events;
mod instances;
mod log;
mod opt;
mod option;
mod parse;
mod raw;
mod sandbox;
mod sources;
mod traffic;
mod urls;

use ::sandbox::network::AddressPlan;
use clap::{Arg, ArgMatches};
use gateway_cos::BucketSettings;
use model::Limits;
use tls::TlsSettings;
use triggers::EventSources;

use self::access::AccessOptions;
use self::api::ApiOptions;
use self::buckets::BucketOptions;
pub(crate) use self::builds::BuildNetwork;
use self::builds::BuildOptions;
pub(crate) use self::data::default_data;
use self::events::EventOptions;
use self::instances::InstanceOptions;
pub(crate) use self::log::LogFormat;
use self::log::LogOptions;
use self::opt::{Opt, flag, variable};
use self::raw::RawConfig;
pub(crate) use self::sandbox::NetworkReach;
use self::sandbox::SandboxOptions;
use self::traffic::TrafficOptions;
use self::urls::UrlOptions;
use crate::claims::Choice;

/// The groups in the order of the help.
const GROUPS: [&[Opt]; 10] = [
    ApiOptions::OPTIONS,
    UrlOptions::OPTIONS,
    InstanceOptions::OPTIONS,
    SandboxOptions::OPTIONS,
    BuildOptions::OPTIONS,
    EventOptions::OPTIONS,
    LogOptions::OPTIONS,
    AccessOptions::OPTIONS,
    TrafficOptions::OPTIONS,
    BucketOptions::OPTIONS,
];

/// The validated configuration. Each group has a field for each of its options, and each other field depends on several.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) api: ApiOptions,
    pub(crate) urls: UrlOptions,
    pub(crate) instances: InstanceOptions,
    pub(crate) sandbox: SandboxOptions,
    pub(crate) builds: BuildOptions,
    pub(crate) events: EventOptions,
    pub(crate) logs: LogOptions,
    pub(crate) access: AccessOptions,
    pub(crate) traffic: TrafficOptions,
    /// `None` without TLS.
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) cgroup: Choice<String>,
    pub(crate) network_plan: Choice<AddressPlan>,
    pub(crate) event_sources: EventSources,
    pub(crate) limits: Limits,
    /// `None` if buckets are disabled.
    pub(crate) buckets: Option<BucketSettings>,
    /// A deprecation warning for each option that was given by an earlier name.
    pub(crate) deprecations: Vec<String>,
}

/// Reads and validates the configuration.
///
/// # Errors
/// Returns all problems. Each names the source of the value and the allowed values.
pub(crate) fn resolve(matches: &ArgMatches) -> Result<Config, Vec<String>> {
    let mut raw = RawConfig::collect(options().collect(), matches);
    let config = Config::read(&mut raw);
    if raw.problems.is_empty() {
        Ok(config)
    } else {
        Err(raw.problems)
    }
}

impl Config {
    fn read(raw: &mut RawConfig) -> Self {
        let api = ApiOptions::read(raw);
        let instances = InstanceOptions::read(raw);
        let sandbox = SandboxOptions::read(raw);
        let events = EventOptions::read(raw);
        let access = AccessOptions::read(raw);
        instances.check(raw);
        Self {
            urls: UrlOptions::read(raw),
            builds: BuildOptions::read(raw),
            logs: LogOptions::read(raw),
            traffic: TrafficOptions::read(raw),
            tls: api.tls(raw),
            cgroup: sandbox.cgroup_choice(raw),
            network_plan: sandbox.network_plan(raw),
            event_sources: sources::event_sources(raw, &events.event_sources, api.app_id),
            limits: access.quotas(raw, instances.node_memory_mb),
            buckets: BucketOptions::read(raw).settings(raw),
            deprecations: std::mem::take(&mut raw.deprecations),
            api,
            instances,
            sandbox,
            events,
            access,
        }
    }
}

/// Returns all options in the order of the help.
fn options() -> impl Iterator<Item = &'static Opt> {
    GROUPS.into_iter().flatten()
}

/// Returns the flags of `virga up`, generated from the options.
pub(crate) fn args() -> Vec<Arg> {
    let file = Arg::new("config")
        .long("config")
        .env("VIRGA_CONFIG")
        .value_name("FILE")
        .help("TOML file with any of these options");
    let current = |option: &Opt| {
        let default = if option.default.is_empty() {
            String::new()
        } else {
            format!(" [default: {}]", option.default)
        };
        arg(option.name)
            .value_name(option.value)
            .hide_env_values(true)
            .help(format!("{}{default}", option.help()))
    };
    let earlier = options().filter_map(|option| Some(arg(option.earlier?).hide(true)));
    std::iter::once(file)
        .chain(options().map(current))
        .chain(earlier)
        .collect()
}

fn arg(name: &'static str) -> Arg {
    let arg = Arg::new(name).long(flag(name)).env(variable(name));
    arg.overrides_with(name)
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
            option.help()
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

#[cfg(test)]
mod testing {
    use clap::Command;

    use super::{Config, args};

    /// Resolves a command line of `virga up`.
    pub(super) fn resolve(line: &[&str]) -> Result<Config, Vec<String>> {
        let command = Command::new("up").args(args());
        let words = std::iter::once("up").chain(line.iter().copied());
        super::resolve(&command.try_get_matches_from(words).expect("flags"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Command;

    use super::testing::resolve as configured;
    use super::*;

    #[test]
    fn defaults_are_allowed() {
        configured(&[]).expect("allowed");
    }

    #[test]
    fn names_are_unique_and_have_one_line_of_help() {
        let mut names: Vec<_> = options().flat_map(Opt::names).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for option in options() {
            let help = option.help();
            let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                !help.is_empty() && help == words,
                "{}: {help:?}",
                option.name
            );
        }
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
        assert_eq!(config.api.listen.port(), 2);
        assert_eq!(config.instances.keep_alive, Duration::from_secs(7));
        assert_eq!(config.instances.wait, Duration::from_secs(10));
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
            (config.instances.prewarm, config.deprecations)
        };
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
