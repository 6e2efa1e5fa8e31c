//! The resources that a request names, and the check of a key's policy against them.

use model::{AccountId, BucketName, Decision};

use crate::action::{Action, GET_BUCKET, GET_LAYER_VERSION, GET_OBJECT, INVOKE, PASS_ROLE};
use crate::error::Denied;
use crate::principal::Principal;
use crate::scope;

/// A request to be authorised: an action, and all resources that it names.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The action.
    pub action: Action<'a>,
    /// The resources. All of them must be allowed.
    pub resources: &'a [ResourceRef<'a>],
}

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
    service: &'static str,
    actions: [Option<Action<'a>>; 2],
    /// The resource's paths in policies.
    paths: Vec<String>,
}

impl<'a> ResourceRef<'a> {
    fn requirement(&self, action: Action<'a>, account: AccountId) -> Requirement<'a> {
        let (service, actions, paths) = match *self {
            Self::Account => ("scf", [Some(action), None], vec!["*".to_owned()]),
            Self::Namespace(name) => ("scf", [Some(action), None], vec![scope::namespace(name)]),
            Self::Function { space, name } => {
                let path = scope::function(space, name);
                ("scf", [Some(action), None], vec![path])
            }
            Self::Target { space, name } => {
                let path = scope::function(space, name);
                ("scf", [Some(action), Some(INVOKE)], vec![path])
            }
            Self::Layer(name) => ("scf", [Some(action), None], vec![scope::layer(name)]),
            Self::UsedLayer(name) => {
                let path = scope::layer(name);
                ("scf", [Some(action), Some(GET_LAYER_VERSION)], vec![path])
            }
            Self::Domain(name) => ("scf", [Some(action), None], vec![scope::domain(name)]),
            Self::Role(name) => {
                let path = format!("roleName/{name}");
                (PASS_ROLE.service, [Some(PASS_ROLE), None], vec![path])
            }
            Self::Object { bucket, key } => {
                let bucket = full_name(bucket, account);
                let key = key.strip_prefix('/').unwrap_or(key);
                let paths = vec![format!("{bucket}/{key}")];
                (GET_OBJECT.service, [Some(GET_OBJECT), None], paths)
            }
            Self::Bucket(host) => {
                let bucket = BucketName::of_host(host).filter(|(_, owner, _)| *owner == account);
                let bucket = bucket.map_or(host.to_owned(), |(name, ..)| name.full(account));
                // The events of a bucket reveal as much as a list of its objects.
                let paths = vec![format!("{bucket}/"), bucket];
                (GET_BUCKET.service, [Some(GET_BUCKET), None], paths)
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
    /// [`Denied`], naming the first resource that is not allowed.
    pub fn authorize(&self, request: &Request<'_>, region: &str) -> Result<(), Denied> {
        if !self.has_policy() {
            return Ok(());
        }
        let mut named = request.resources.iter();
        named.try_for_each(|one| {
            self.check_requirement(region, &one.requirement(request.action, self.owner.id))
        })
    }

    fn check_requirement(&self, region: &str, requirement: &Requirement<'_>) -> Result<(), Denied> {
        let Requirement {
            service,
            actions,
            paths,
        } = requirement;
        let refused = |action: &Action<'_>, path: &str, why: &'static str| {
            Err(Denied {
                service: action.service.to_owned(),
                action: action.name().to_owned(),
                resource: self.resource(service, region, path).to_string(),
                why,
            })
        };
        let mut allowed = false;
        for path in paths {
            for action in actions.iter().flatten() {
                match self.decide(action, &self.resource(service, region, path)) {
                    Decision::ExplicitDeny => {
                        return refused(action, path, "a statement denies it");
                    }
                    Decision::Allowed => allowed = true,
                    Decision::ImplicitDeny => {}
                }
            }
        }
        match (allowed, actions.iter().flatten().next(), paths.first()) {
            (false, Some(action), Some(path)) => refused(action, path, "no statement allows it"),
            _ => Ok(()),
        }
    }

    /// Returns whether a list shows a resource: the policy allows some action on it, and denies neither the list nor the
    /// action that shows the resource alone.
    pub fn lists(&self, list: &Action<'_>, alone: &Action<'_>, region: &str, path: &str) -> bool {
        let Some(policy) = self.policy() else {
            return true;
        };
        let resource = self.resource("scf", region, path);
        let denied = [list, alone]
            .into_iter()
            .any(|action| self.decide(action, &resource) == Decision::ExplicitDeny);
        !denied && policy.allows_any_action(&["scf", list.service], &resource)
    }
}
