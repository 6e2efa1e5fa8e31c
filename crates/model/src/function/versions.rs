//! The versions of a function, and how requests find one.

use crate::{
    Alias, CodeRef, Function, FunctionConfig, FunctionKind, PublishedVersion, Routing, RoutingKey,
    Timestamp, Version,
};

/// A resolved version with the code and settings that serve its requests.
#[derive(Clone, Copy, Debug)]
pub struct Serving<'a> {
    /// The function.
    pub function: &'a Function,
    /// Version.
    pub version: Version,
    /// Settings.
    pub config: &'a FunctionConfig,
    /// Code; none until the first package is prepared.
    pub code: Option<&'a CodeRef>,
    /// Revision of code and configuration; 0 for a published version.
    pub revision: u64,
}

impl Serving<'_> {
    /// Returns the number of concurrent requests per instance.
    pub fn slots(&self) -> u32 {
        let concurrency = self
            .config
            .web
            .concurrency
            .filter(|_| self.function.kind == FunctionKind::Http);
        concurrency.map_or(1, |concurrency| concurrency.max)
    }
}

impl Function {
    /// Resolves a version; returns `None` if it does not exist.
    pub fn serving(&self, version: Version) -> Option<Serving<'_>> {
        let (config, code, revision) = match version {
            Version::Latest => (&self.config, self.code.as_ref(), self.revision),
            Version::Number(number) => {
                let published = self.versions.get(&number)?;
                (&published.config, Some(&published.code), 0)
            }
        };
        Some(Serving {
            function: self,
            version,
            config,
            code,
            revision,
        })
    }

    /// Publishes the current code and configuration as the next version and returns its number; `None` without code.
    pub fn publish(&mut self, description: String, now: Timestamp) -> Option<u64> {
        let code = self.code.clone()?;
        self.last_version += 1;
        let published = PublishedVersion {
            description,
            config: self.config.clone(),
            code,
            added: now,
            provisioned: None,
        };
        self.versions.insert(self.last_version, published);
        Some(self.last_version)
    }

    /// Finds an alias. `$DEFAULT` always exists and points at `$LATEST` unless it was changed.
    pub fn alias(&self, name: &str) -> Option<Alias> {
        let implied = || {
            (name == Alias::DEFAULT).then(|| Alias {
                description: String::new(),
                version: Version::Latest,
                routing: Routing::default(),
                added: self.added,
                modified: self.added,
            })
        };
        self.aliases.get(name).cloned().or_else(implied)
    }

    /// Resolves an alias for a request. `draw` is a random number in [0, 1).
    pub fn route(&self, alias: &str, key: &RoutingKey, draw: f64) -> Option<Version> {
        match self.aliases.get(alias) {
            Some(alias) => Some(alias.route(key, draw)),
            None => (alias == Alias::DEFAULT).then_some(Version::Latest),
        }
    }

    /// Returns the names of the aliases that route requests to a version.
    pub fn aliases_of(&self, version: Version) -> Vec<&str> {
        let using = self.aliases.iter().filter(|(_, alias)| alias.uses(version));
        using.map(|(name, _)| name.as_str()).collect()
    }

    /// Deletes a published version, and removes it from the routing of all aliases.
    ///
    /// An alias whose main version it was is deleted too, except `$DEFAULT`, which is reset to `$LATEST`. Triggers of the
    /// deleted version and aliases are deleted.
    pub fn unpublish(&mut self, number: u64) {
        let version = Version::Number(number);
        self.versions.remove(&number);
        for (name, alias) in &mut self.aliases {
            alias
                .routing
                .weights
                .retain(|weighted| weighted.version != version);
            alias.routing.rules.retain(|rule| rule.version != version);
            if name == Alias::DEFAULT && alias.version == version {
                alias.version = Version::Latest;
            }
        }
        self.aliases.retain(|_, alias| alias.version != version);
        let mut triggers = std::mem::take(&mut self.triggers);
        triggers.retain(|trigger| self.has_qualifier(&trigger.qualifier));
        self.triggers = triggers;
    }
}
