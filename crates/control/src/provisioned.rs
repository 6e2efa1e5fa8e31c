//! Provisioned concurrency: the minimum number of warm instances of a published version.

use dispatch::cron::Cron;
use engine::provisioner::{ProvisionProgress, ProvisionState};
use model::{
    Field, Function, FunctionKey, Provisioned, ProvisionedPolicy, ScheduledAction, TriggerName,
    Version,
};

use crate::change::{Check, Refusal};
use crate::{Control, Error, Limit, Reason, text};

impl Control {
    /// Sets the provisioned concurrency of a published version.
    ///
    /// # Errors
    /// The function or version does not exist, its last configuration is still being applied, or the memory is not there.
    pub async fn put_provisioned(
        &self,
        key: &FunctionKey,
        version: &str,
        policy: &ProvisionedPolicy,
    ) -> Result<(), Error> {
        let provisioned = || Provisioned {
            set: clock::now_ms(),
            policy: policy.clone(),
        };
        self.set_provisioned(key, |function| {
            let number = published(function, version)?;
            let progress = self.provisioner.progress(function, number);
            match progress.map(|progress| progress.state) {
                Some(ProvisionState::InProgress(why)) => {
                    let message = format!(
                        "version {number} is still applying its last configuration ({why}); wait until its Status is Done, or delete it"
                    );
                    Err(Error::new(Reason::ProvisionedInProgress, message))
                }
                _ => Ok((number, Some(provisioned()))),
            }
        })
        .await
    }

    /// Removes the provisioned concurrency of a published version.
    ///
    /// # Errors
    /// The function or version does not exist.
    pub async fn delete_provisioned(&self, key: &FunctionKey, version: &str) -> Result<(), Error> {
        self.set_provisioned(key, |function| Ok((published(function, version)?, None)))
            .await
    }

    async fn set_provisioned(
        &self,
        key: &FunctionKey,
        choose: impl Fn(&Function) -> Result<(u64, Option<Provisioned>), Error>,
    ) -> Result<(), Error> {
        let edit = |function: &mut Function| {
            let (number, provisioned) = choose(function)?;
            let was = function.provisioned_mb();
            if let Some(published) = function.versions.get_mut(&number) {
                published.provisioned = provisioned;
            }
            let kept = function.provisioned_mb();
            match function.reserved_mb.filter(|mb| kept > was.max(*mb)) {
                Some(mb) => {
                    let message = format!(
                        "all versions of the function would keep {kept} MB ready, and its reserved concurrency is {mb} MB"
                    );
                    Err(Error::new(Reason::ProvisionedExceedsReserved, message))
                }
                None => Ok(()),
            }
        };
        let explain = |function: &Function, refusal: Refusal| match refusal {
            Refusal::Memory(left) => {
                let kept = function.provisioned_mb();
                let message = format!(
                    "all versions of the function would keep {kept} MB ready, and {left} MB can be had"
                );
                Error::new(Reason::ProvisionedExceedsAvailable, message)
            }
            other => other.into_error(),
        };
        self.change_checked(key, Check::Concurrency, Self::function, edit, explain)
            .await
    }

    /// Returns how far a version's provisioned concurrency is applied. `None` if it has none.
    pub fn provision_progress(
        &self,
        function: &Function,
        number: u64,
    ) -> Option<ProvisionProgress> {
        self.provisioner.progress(function, number)
    }

    /// Returns the memory that is left for a function's provisioned concurrency, MB.
    pub fn provisionable_mb(&self, function: &Function) -> u32 {
        let key = &function.key;
        let own = match function.reserved_mb {
            Some(mb) => mb,
            None => self.catalog.reservable_mb(key, &self.limits),
        };
        let node = self.driver.provisionable_mb();
        let node = self.catalog.provisionable_mb(key, node);
        own.min(node).saturating_sub(function.provisioned_mb())
    }

    /// Checks a scheduled action.
    ///
    /// # Errors
    /// A value is not allowed.
    pub fn scheduled_action(
        &self,
        name: &str,
        instances: Option<i64>,
        cron: &str,
    ) -> Result<ScheduledAction, Error> {
        let name = TriggerName::parse(name)
            .map_err(|error| Error::invalid_as(Field::ActionName, error))?;
        let Some(number) = instances.and_then(count) else {
            let shown = instances.map_or("nothing".into(), |number| number.to_string());
            let message = format!("{shown} is not allowed; 0 and more is");
            return Err(Error::invalid(Field::ActionInstances, message));
        };
        let cron = cron.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        Cron::parse(&cron, self.weekday_zero)
            .map_err(|e| Error::invalid(Field::ActionSchedule, e.to_string()))?;
        Ok(ScheduledAction {
            name: name.as_str().to_owned(),
            instances: number,
            cron,
        })
    }

    /// Checks the number of scheduled actions of a version.
    ///
    /// # Errors
    /// There are too many.
    pub fn check_scheduled_actions(&self, given: usize) -> Result<(), Error> {
        let most = self.limits.scheduled_actions_per_version as usize;
        if given <= most {
            return Ok(());
        }
        let message = format!("{given} are not allowed; up to {most} are");
        let reason = Reason::LimitReached(Limit::ScheduledActions);
        Err(Error::of(Field::ScheduledActions, reason, message))
    }
}

/// Adds a scheduled action.
///
/// # Errors
/// There is one of the same name or schedule.
pub fn add_action(actions: &mut Vec<ScheduledAction>, new: ScheduledAction) -> Result<(), Error> {
    let twice = |field, reason, text: &str| {
        let message = format!("{text:?} is there twice");
        Err(Error::of(field, reason, message))
    };
    if actions.iter().any(|other| other.name == new.name) {
        let reason = Reason::ActionNameTaken;
        return twice(Field::ActionName, reason, &new.name);
    }
    if actions.iter().any(|other| other.cron == new.cron) {
        let reason = Reason::ActionScheduleTaken;
        return twice(Field::ActionSchedule, reason, &new.cron);
    }
    actions.push(new);
    Ok(())
}

/// Checks a number of provisioned instances.
///
/// # Errors
/// It is negative or too large.
pub fn instances(given: i64) -> Result<u32, Error> {
    count(given).ok_or_else(|| {
        let message = format!("{given} is not allowed; 0 and more is");
        Error::invalid(Field::ProvisionedInstances, message)
    })
}

/// Returns the policy that keeps a fraction of the instances busy, between `min` and `max` of them.
///
/// # Errors
/// A value is not allowed.
pub fn tracking(target: f64, min: i64, max: i64) -> Result<ProvisionedPolicy, Error> {
    let percent = (target * 100.0).round();
    if !(1.0..=99.0).contains(&percent) {
        let message = format!("{target} is not allowed; 0.01 to 0.99 is");
        return Err(Error::invalid(Field::TrackingTarget, message));
    }
    match (count(min), count(max)) {
        (Some(min @ 1..), Some(max)) if min <= max => Ok(ProvisionedPolicy::Tracking {
            percent: percent as u32,
            min,
            max,
        }),
        _ => {
            let message =
                format!("{min} with MaxCapacity {max} is not allowed; 1 to MaxCapacity is");
            Err(Error::invalid(Field::MinInstances, message))
        }
    }
}

/// Parses the number of a published version. `$LATEST` and aliases are not allowed, since they change.
///
/// # Errors
/// It is no number, or the function has no such version.
pub fn published(function: &Function, version: &str) -> Result<u64, Error> {
    let shown = text::shortened(version);
    let Ok(Version::Number(number)) = Version::parse(version) else {
        let message = format!("{shown:?} is not allowed; numbers of published versions are");
        return Err(Error::invalid(Field::Qualifier, message));
    };
    if function.versions.contains_key(&number) {
        return Ok(number);
    }
    let message = format!("function {} has no version {shown}", function.key.name);
    Err(Error::of(Field::Qualifier, Reason::VersionMissing, message))
}

fn count(given: i64) -> Option<u32> {
    u32::try_from(given).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracking_keeps_within_its_bounds() {
        let policy = ProvisionedPolicy::Tracking {
            percent: 50,
            min: 1,
            max: 4,
        };
        assert_eq!(tracking(0.5, 1, 4), Ok(policy));
        for (target, min, max, field) in [
            (0.0, 1, 4, Field::TrackingTarget),
            (1.0, 1, 4, Field::TrackingTarget),
            (f64::NAN, 1, 4, Field::TrackingTarget),
            (0.5, 0, 4, Field::MinInstances),
            (0.5, 5, 4, Field::MinInstances),
            (0.5, 1, -1, Field::MinInstances),
        ] {
            let refused = tracking(target, min, max).expect_err("refused");
            assert_eq!(refused.field, Some(field), "{target} {min} {max}");
        }
    }

    #[test]
    fn scheduled_actions_differ_in_name_and_schedule() {
        let action = |name: &str, cron: &str| ScheduledAction {
            name: name.to_owned(),
            instances: 1,
            cron: cron.to_owned(),
        };
        let mut actions = Vec::new();
        assert_eq!(
            add_action(&mut actions, action("a", "0 0 8 * * * *")),
            Ok(())
        );
        let reason = |refused: Result<(), Error>| refused.map_err(|error| error.reason);
        let same_name = add_action(&mut actions, action("a", "0 0 9 * * * *"));
        assert_eq!(reason(same_name), Err(Reason::ActionNameTaken));
        let same_schedule = add_action(&mut actions, action("b", "0 0 8 * * * *"));
        assert_eq!(reason(same_schedule), Err(Reason::ActionScheduleTaken));
        assert_eq!(actions.len(), 1);
    }
}
