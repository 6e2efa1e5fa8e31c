//! The verified caller of a request.

use std::sync::Arc;

use catalog::Stored;
use model::{AccountId, Decision, Policy, RecursionDepth, Resource, Role};

use crate::action::Action;
use crate::limits::RateLimiters;

/// An account with its rate limiters.
#[derive(Debug)]
pub struct Owner {
    /// The AppId.
    pub id: AccountId,
    /// The Uin.
    pub uin: String,
    pub(crate) limiters: RateLimiters,
}

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
    pub(crate) fn new(owner: Arc<Owner>, rights: Rights) -> Arc<Self> {
        Self::within(owner, rights, RecursionDepth::default())
    }

    pub(crate) fn within(owner: Arc<Owner>, rights: Rights, depth: RecursionDepth) -> Arc<Self> {
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

    pub(crate) fn policy(&self) -> Option<&Policy> {
        match &self.rights {
            Rights::Operator | Rights::Root => None,
            Rights::Policy(policy) => Some(policy),
            Rights::Role(role) => Some(&role.value.policy),
        }
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
    pub(crate) fn decide(&self, action: &Action<'_>, resource: &Resource<'_>) -> Decision {
        let policy = self.policy();
        policy.map_or(Decision::Allowed, |policy| {
            policy.decide(action.service, action.names, resource)
        })
    }

    /// Returns whether the policy allows an action on a resource, which policies can name by each of several paths: it must
    /// allow one and deny none.
    pub fn allows(&self, action: &Action<'_>, region: &str, paths: &[String]) -> bool {
        let mut allowed = false;
        for path in paths {
            match self.decide(action, &self.resource(action.service, region, path)) {
                Decision::ExplicitDeny => return false,
                Decision::Allowed => allowed = true,
                Decision::ImplicitDeny => {}
            }
        }
        allowed
    }
}
