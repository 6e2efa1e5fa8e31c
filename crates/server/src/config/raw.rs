//! The text of each option and its source: default < file < environment < flag.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::opt::{Opt, flag, variable};
use super::parse::Parsed;

/// Unparsed values, each with its source.
pub(super) struct RawConfig {
    /// All options.
    options: Vec<&'static Opt>,
    values: BTreeMap<&'static str, (String, String)>,
    /// The file's table of quotas.
    pub(super) limits: toml::Table,
    pub(super) problems: Vec<String>,
    pub(super) deprecations: Vec<String>,
}

impl RawConfig {
    /// Collects the values of a command line, with its environment and its file.
    pub(super) fn collect(options: Vec<&'static Opt>, matches: &ArgMatches) -> Self {
        let mut raw = Self {
            options,
            values: BTreeMap::new(),
            limits: toml::Table::new(),
            problems: Vec::new(),
            deprecations: Vec::new(),
        };
        if let Some(path) = matches.get_one::<String>("config") {
            raw.read_file(Path::new(path));
        }
        for option in raw.options.clone() {
            raw.read_matches(option, matches);
        }
        raw
    }

    /// Parses an option. A refused value is reported, and the default stands in for it.
    #[expect(clippy::expect_used, reason = "a test parses each default")]
    pub(super) fn read<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Parsed<T>) -> T {
        let (text, source) = self.text(name);
        parse(&text).unwrap_or_else(|wrong| {
            for wrong in wrong {
                self.refuse(name, wrong.given, &source, &wrong.allowed);
            }
            parse(self.default(name)).expect("the default is allowed")
        })
    }

    /// Returns whether an option was given, even if the value is empty.
    pub(super) fn is_configured(&self, name: &'static str) -> bool {
        self.values.contains_key(name)
    }

    /// Returns whether an option has a value.
    pub(super) fn is_set(&self, name: &'static str) -> bool {
        !self.text(name).0.is_empty()
    }

    /// Reports a value that other options do not allow.
    pub(super) fn refuse_value(&mut self, name: &'static str, allowed: &str) {
        let (text, source) = self.text(name);
        self.refuse(name, text, &source, allowed);
    }

    fn refuse(&mut self, name: &str, given: impl Display, source: &str, allowed: &str) {
        self.problems.push(format!(
            "{name} (from {source}): {given:?} is not allowed; {allowed}",
            given = given.to_string()
        ));
    }

    /// Returns the configured value or the default, and its source.
    pub(super) fn text(&self, name: &'static str) -> (String, String) {
        let given = self.values.get(name).cloned();
        given.unwrap_or_else(|| (self.default(name).to_owned(), "default".to_owned()))
    }

    fn read_matches(&mut self, option: &'static Opt, matches: &ArgMatches) {
        let given = option.names().filter_map(|name| {
            let text = matches.get_one::<String>(name)?;
            let is_variable = matches.value_source(name) == Some(ValueSource::EnvVariable);
            Some((name, text, is_variable))
        });
        // A flag wins over a variable, then the current name over an earlier one.
        let Some((name, text, is_variable)) = given.min_by_key(|(_, _, is_variable)| *is_variable)
        else {
            return;
        };
        let shown = |name: &str| match is_variable {
            true => variable(name),
            false => format!("--{}", flag(name)),
        };
        let source = shown(name);
        if name != option.name {
            self.deprecate(&source, &shown(option.name));
        }
        self.values.insert(option.name, (text.clone(), source));
    }

    fn read_file(&mut self, path: &Path) {
        let shown = path.display();
        let read = std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"));
        let table = read.and_then(|text| {
            let table: Result<toml::Table, _> = text.parse();
            table.map_err(|e| format!("is not TOML: {}", e.message()))
        });
        match table {
            Ok(table) => {
                for (key, value) in table {
                    self.read_key(&key, value, &shown.to_string());
                }
            }
            Err(why) => self.problems.push(format!("config: {shown} {why}")),
        }
    }

    fn read_key(&mut self, key: &str, value: toml::Value, file: &str) {
        let named = |option: &&&Opt| option.names().any(|name| name == key);
        let Some(option) = self.options.iter().find(named).copied() else {
            let known: Vec<_> = self.options.iter().map(|option| option.name).collect();
            self.problems.push(format!(
                "{key} (in {file}): unknown option; the options are {}",
                known.join(", ")
            ));
            return;
        };
        if option.name != key {
            self.deprecate(&format!("{key} (in {file})"), option.name);
            // The current name wins.
            if self.values.contains_key(option.name) {
                return;
            }
        }
        match value {
            toml::Value::Table(limits) if option.name == "limits" => self.limits = limits,
            value => match toml_to_text(&value) {
                Some(text) => drop(self.values.insert(option.name, (text, file.to_owned()))),
                None => self
                    .problems
                    .push(format!("{key} (in {file}): a table is not allowed here")),
            },
        }
    }

    fn deprecate(&mut self, given: &str, current: &str) {
        self.deprecations
            .push(format!("{given} is deprecated; use {current}"));
    }

    fn default(&self, name: &str) -> &'static str {
        let option = self.options.iter().find(|option| option.name == name);
        option.map_or("", |option| option.default)
    }
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
