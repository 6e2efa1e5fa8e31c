//! The verified caller of a request.

use std::sync::Arc;

use catalog::Stored;
use model::{Decision, Policy, RecursionDepth, Resource, Role};
use scf::{Code, Error};

use super::{Owner, scope};

/// An account, with the rights to act in it.
#[derive(Debug)]
pub struct Principal {
    /// The account of the caller.
    pub owner: Arc<Owner>,
    rights: Rights,
    /// The recursion depth of the caller in its call chain.
    pub depth: RecursionDepth,
}

/// The rights of a caller in an account.
#[derive(Debug)]
pub(crate) enum Rights {
    /// Everything in the account, and the management of all accounts.
    Operator,
    /// Everything in the account.
    Root,
    /// Limited by a key's policy.
    Policy(Policy),
    /// Limited by a role's policy.
    Role(Arc<Stored<Role>>),
}

impl Principal {
    pub(super) fn new(owner: Arc<Owner>, rights: Rights) -> Arc<Self> {
        Self::within(owner, rights, RecursionDepth::default())
    }

    pub(super) fn within(owner: Arc<Owner>, rights: Rights, depth: RecursionDepth) -> Arc<Self> {
        Arc::new(Self {
            owner,
            rights,
            depth,
        })
    }

    /// Returns whether a policy limits the rights.
    pub fn has_policy(&self) -> bool {
        self.policy().is_some()
    }

    /// Returns whether the caller may manage accounts.
    pub fn is_operator(&self) -> bool {
        matches!(self.rights, Rights::Operator)
    }

    pub(super) fn policy(&self) -> Option<&Policy> {
        match &self.rights {
            Rights::Operator | Rights::Root => None,
            Rights::Policy(policy) => Some(policy),
            Rights::Role(role) => Some(&role.value.policy),
        }
    }

    /// Checks an action on a resource.
    ///
    /// # Errors
    /// `UnauthorizedOperation`, in the cloud's wording.
    pub fn check(
        &self,
        service: &str,
        action: &str,
        region: &str,
        path: &str,
    ) -> Result<(), Error> {
        let resource = self.resource(service, region, path);
        let why = match self.decide(action, &resource) {
            Decision::Allowed => return Ok(()),
            Decision::ExplicitDeny => "a statement denies it",
            Decision::ImplicitDeny => "no statement allows it",
        };
        let message = format!(
            "you are not authorized to perform operation ({service}:{action})\nresource ({resource}) has no permission: {why}"
        );
        Err(Error::new(Code::UnauthorizedOperation, message))
    }

    /// Returns a resource of the caller's own account.
    pub fn resource<'a>(
        &'a self,
        service: &'a str,
        region: &'a str,
        path: &'a str,
    ) -> Resource<'a> {
        Resource {
            service,
            region,
            uin: &self.owner.uin,
            app_id: self.owner.id.0,
            path,
        }
    }

    /// Returns the policy's decision on an action; everything is allowed without a policy.
    pub fn decide(&self, action: &str, resource: &Resource<'_>) -> Decision {
        let policy = self.policy();
        policy.map_or(Decision::Allowed, |policy| {
            let service = scope::service_of(action, resource.service);
            policy.decide(service, &scope::names(action), resource)
        })
    }
}
