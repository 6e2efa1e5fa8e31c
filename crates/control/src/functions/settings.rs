//! The checks of a function's settings.

use std::collections::BTreeMap;

use model::{
    AccountId, DeadLetter, Field, Invalid, Language, Limits, Namespace, RoleName, Runtime, Seconds,
};

use crate::{Control, Error, Limit, Reason};

/// Prefixes of environment variables that SCF reserves.
const RESERVED: &[&str] = &["SCF_", "QCLOUD_", "TENCENTCLOUD_", "TECENTCLOUD_"];

impl Control {
    /// Parses a runtime that this machine serves.
    ///
    /// # Errors
    /// There is no such runtime, or no interpreter for it.
    pub fn runtime(&self, name: &str) -> Result<Runtime, Error> {
        let runtime = Runtime::parse(name)?;
        match self.worker.interpreters().serve(runtime) {
            Ok(_) => Ok(runtime),
            Err(e) => Err(Error::invalid(Field::Runtime, e.to_string())),
        }
    }

    /// Finds the role that a function is to have; an empty name removes it. The caller's permission to pass the role was
    /// checked before.
    ///
    /// # Errors
    /// The account has no such role.
    pub fn function_role(&self, account: AccountId, name: &str) -> Result<Option<RoleName>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        let role = self.role(account, name)?;
        Ok(Some(role.value.name.clone()))
    }

    /// Parses a dead-letter target; empty texts remove it. `own` = the namespace of the function.
    ///
    /// # Errors
    /// There is no such kind of target, or the operator does not allow the endpoint.
    pub fn dead_letter(
        &self,
        kind: &str,
        name: &str,
        own: &Namespace,
    ) -> Result<Option<DeadLetter>, Error> {
        let target = DeadLetter::parse(kind, name, own)?;
        match &target {
            Some(target) if !self.runner.may_send_to(target) => {
                let allowed = "endpoints in the operator's option dead_letter_endpoints are";
                Err(Invalid::new(Field::DeadLetter, target.name(), allowed).into())
            }
            _ => Ok(target),
        }
    }
}

/// Checks environment variables. One without name and value is left out.
///
/// # Errors
/// A name or value is not allowed, or all together are too large.
pub fn environment<'a>(
    given: impl IntoIterator<Item = (&'a str, &'a str)>,
    limits: &Limits,
) -> Result<BTreeMap<String, String>, Error> {
    let mut environment = BTreeMap::new();
    let mut bytes = 0;
    for (key, value) in given {
        if key.is_empty() && value.is_empty() {
            continue;
        }
        check_variable(key, value)?;
        bytes += key.len() + value.len();
        environment.insert(key.to_owned(), value.to_owned());
    }
    if bytes > limits.environment_bytes as usize {
        let message = format!(
            "{bytes} bytes are not allowed; up to {} are",
            limits.environment_bytes
        );
        let reason = Reason::LimitReached(Limit::EnvironmentBytes);
        return Err(Error::of(Field::Environment, reason, message));
    }
    Ok(environment)
}

fn check_variable(key: &str, value: &str) -> Result<(), Error> {
    let well_formed = key.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let shown: String = key.chars().take(80).collect();
    if !well_formed {
        let message =
            format!("key {shown:?} is not allowed; a letter, then letters, digits and _ are");
        return Err(Error::invalid(Field::Environment, message));
    }
    if RESERVED.iter().any(|prefix| key.starts_with(prefix)) {
        let message = format!(
            "key {shown:?} is not allowed; the prefixes {} are reserved",
            RESERVED[..3].join(", ")
        );
        return Err(Error::of(Field::Environment, Reason::ReservedName, message));
    }
    if value.contains('\0') {
        let message = format!("the value of {shown:?} contains a NUL byte; remove it");
        return Err(Error::invalid(Field::Environment, message));
    }
    Ok(())
}

/// Parses a timeout (s). Asynchronous functions may run for a day.
///
/// # Errors
/// It is out of range.
pub fn timeout(given: i64, async_run: bool, limits: &Limits) -> Result<Seconds, Invalid> {
    if async_run {
        Seconds::async_timeout(given, limits)
    } else {
        Seconds::timeout(given, limits)
    }
}

/// Checks that a package's dependencies can be installed, if they are to be.
///
/// # Errors
/// The runtime has no package manager.
pub fn check_install(install: bool, runtime: Runtime) -> Result<(), Error> {
    if install && runtime.description().packages.is_none() {
        let message = format!(
            "only dependencies of {} are installed; put those of {runtime} into the package",
            Language::with_packages().join(" and ")
        );
        return Err(Error::of(
            Field::InstallDependencies,
            Reason::Unsupported,
            message,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_checked_by_name_and_size() {
        let limits = Limits {
            environment_bytes: 10,
            ..Limits::default()
        };
        let reason = |key: &str, value: &str| {
            let checked = environment([(key, value)], &limits);
            checked.map(|all| all.len()).map_err(|e| e.reason)
        };
        assert_eq!(reason("A_1", "x"), Ok(1));
        // The tool-kit sends this to clear the list.
        assert_eq!(reason("", ""), Ok(0));
        for bad in ["1A", "A-B", "", "\u{e4}"] {
            assert_eq!(reason(bad, "x"), Err(Reason::Invalid), "{bad}");
        }
        assert_eq!(reason("SCF_X", "x"), Err(Reason::ReservedName));
        let excess = Reason::LimitReached(Limit::EnvironmentBytes);
        assert_eq!(reason("A", "0123456789"), Err(excess));
        assert_eq!(reason("A", "\0"), Err(Reason::Invalid));
    }
}
