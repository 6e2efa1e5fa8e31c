//! Who a request is from, once its signature is verified.

use std::sync::Arc;

use catalog::Stored;
use model::{Decision, Policy, Resource, Role};
use scf::{Code, Error};

use super::{Owner, scope};
use crate::call_chains::RecursionDepth;

/// An account, and what may be done in its name.
#[derive(Debug)]
pub(crate) struct Principal {
    pub(crate) owner: Arc<Owner>,
    rights: Rights,
    /// How deep in a chain of functions it acts.
    pub(crate) depth: RecursionDepth,
}

/// What may be done in an account's name.
#[derive(Debug)]
pub(crate) enum Rights {
    /// Everything within it, and the care of all accounts.
    Operator,
    /// Everything within it.
    Root,
    /// What a key's policy says.
    Policy(Policy),
    /// What a role's policy says.
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

    /// Whether a policy says what it may.
    pub(crate) fn has_policy(&self) -> bool {
        self.policy().is_some()
    }

    /// Whether accounts are its to care for.
    pub(crate) fn is_operator(&self) -> bool {
        matches!(self.rights, Rights::Operator)
    }

    pub(super) fn policy(&self) -> Option<&Policy> {
        match &self.rights {
            Rights::Operator | Rights::Root => None,
            Rights::Policy(policy) => Some(policy),
            Rights::Role(role) => Some(&role.value.policy),
        }
    }

    /// Whether it may do this.
    ///
    /// # Errors
    /// `UnauthorizedOperation`, in the words that the cloud has for it.
    pub(crate) fn check(
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

    /// Something of its own account's.
    pub(crate) fn resource<'a>(
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

    /// What its policy says of an action on something of its account's; without a policy it may all.
    pub(crate) fn decide(&self, action: &str, resource: &Resource<'_>) -> Decision {
        let policy = self.policy();
        policy.map_or(Decision::Allowed, |policy| {
            let service = scope::service_of(action, resource.service);
            policy.decide(service, &scope::names(action), resource)
        })
    }
}
