//! The resources that a request names, and the check of a key's policy against them.

use model::{AccountId, BucketName, Decision};
use scf::{Code, Error};

use super::{Principal, scope};

/// A resource named by a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceRef<'a> {
    /// The account as a whole.
    Account,
    /// A namespace.
    Namespace(&'a str),
    /// The function that the action is on.
    Function {
        /// The namespace.
        space: &'a str,
        /// The name.
        name: &'a str,
    },
    /// A function that is invoked through the action's subject: by a domain, or as a dead-letter target.
    Target {
        /// The namespace.
        space: &'a str,
        /// The name.
        name: &'a str,
    },
    /// The layer that the action is on.
    Layer(&'a str),
    /// A layer that a function uses.
    UsedLayer(&'a str),
    /// A custom domain.
    Domain(&'a str),
    /// The execution role of a function.
    Role(&'a str),
    /// The object that code is read from, by SCF's name of its bucket.
    Object {
        /// The bucket.
        bucket: &'a str,
        /// The function.
        key: &'a str,
    },
    /// The host of a bucket whose changes trigger a function.
    Bucket(&'a str),
}

/// The permissions for a resource: at least one action must be allowed, and none may be denied.
struct Requirement<'a> {
    service: &'a str,
    actions: Vec<&'a str>,
    /// The resource's paths in policies.
    paths: Vec<String>,
}

impl<'a> ResourceRef<'a> {
    fn requirement(&self, action: &'a str, account: AccountId) -> Requirement<'a> {
        let (service, actions, paths) = match *self {
            Self::Account => ("scf", vec![action], vec!["*".to_owned()]),
            Self::Namespace(name) => ("scf", vec![action], vec![scope::namespace(name)]),
            Self::Function { space, name } => {
                ("scf", vec![action], vec![scope::function(space, name)])
            }
            Self::Target { space, name } => {
                let path = scope::function(space, name);
                ("scf", vec![action, "Invoke"], vec![path])
            }
            Self::Layer(name) => ("scf", vec![action], vec![scope::layer(name)]),
            Self::UsedLayer(name) => {
                let path = scope::layer(name);
                ("scf", vec![action, "GetLayerVersion"], vec![path])
            }
            Self::Domain(name) => ("scf", vec![action], vec![scope::domain(name)]),
            Self::Role(name) => ("cam", vec!["PassRole"], vec![format!("roleName/{name}")]),
            Self::Object { bucket, key } => {
                let bucket = full_name(bucket, account);
                let key = key.strip_prefix('/').unwrap_or(key);
                ("cos", vec!["GetObject"], vec![format!("{bucket}/{key}")])
            }
            Self::Bucket(host) => {
                let bucket = BucketName::of_host(host).filter(|(_, owner, _)| *owner == account);
                let bucket = bucket.map_or(host.to_owned(), |(name, ..)| name.full(account));
                // The events of a bucket reveal as much as a list of its objects.
                let paths = vec![format!("{bucket}/"), bucket];
                ("cos", vec!["GetBucket"], paths)
            }
        };
        Requirement {
            service,
            actions,
            paths,
        }
    }
}

/// Returns a bucket's name with the AppId of its owner. An invalid name is returned unchanged and refused later.
fn full_name(bucket: &str, account: AccountId) -> String {
    BucketName::of(account, bucket).map_or(bucket.to_owned(), |name| name.full(account))
}

impl Principal {
    /// Checks the key's policy against all resources that a request names.
    ///
    /// # Errors
    /// `UnauthorizedOperation`, naming the first resource that is not allowed.
    pub fn authorize(
        &self,
        action: &str,
        region: &str,
        named: &[ResourceRef<'_>],
    ) -> Result<(), Error> {
        if !self.has_policy() {
            return Ok(());
        }
        let mut named = named.iter();
        named.try_for_each(|one| {
            self.check_requirement(region, &one.requirement(action, self.owner.id))
        })
    }

    fn check_requirement(&self, region: &str, requirement: &Requirement<'_>) -> Result<(), Error> {
        let Requirement {
            service,
            actions,
            paths,
        } = requirement;
        let refused = |action: &str, path: &str, why: &str| {
            let resource = self.resource(service, region, path);
            let service = scope::service_of(action, service);
            let message = format!(
                "you are not authorized to perform operation ({service}:{action})\nresource ({resource}) has no permission: {why}"
            );
            Err(Error::new(Code::UnauthorizedOperation, message))
        };
        let mut allowed = false;
        for path in paths {
            for action in actions {
                match self.decide(action, &self.resource(service, region, path)) {
                    Decision::ExplicitDeny => {
                        return refused(action, path, "a statement denies it");
                    }
                    Decision::Allowed => allowed = true,
                    Decision::ImplicitDeny => {}
                }
            }
        }
        match (allowed, actions.first(), paths.first()) {
            (false, Some(action), Some(path)) => refused(action, path, "no statement allows it"),
            _ => Ok(()),
        }
    }

    /// Returns whether a list shows a resource: the policy allows some action on it, and denies neither the list nor the
    /// action that shows the resource alone.
    pub fn lists(&self, list: &str, alone: &str, region: &str, path: &str) -> bool {
        let Some(policy) = self.policy() else {
            return true;
        };
        let resource = self.resource("scf", region, path);
        let denied = [list, alone]
            .into_iter()
            .any(|action| self.decide(action, &resource) == Decision::ExplicitDeny);
        !denied && policy.allows_any_action(&["scf", scope::service_of(list, "scf")], &resource)
    }
}
