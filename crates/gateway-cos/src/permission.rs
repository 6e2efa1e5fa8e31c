//! Authorisation of actions on buckets and objects.

use access::{Action, Principal};
use bucket::AccessRequest;

/// Service name of buckets and objects in policies.
const SERVICE: &str = "cos";

/// Returns the actions on buckets and objects that policies can name.
pub fn policy_actions() -> Vec<&'static str> {
    bucket::s3::actions().collect()
}

/// Returns whether a principal may perform an action on its own account's buckets.
pub(crate) fn may_access(identity: &Principal, region: &str, access: &AccessRequest<'_>) -> bool {
    // Another account's buckets are only open by their ACLs.
    if access.app_id != identity.owner.id.0 {
        return false;
    }
    let action = Action {
        service: SERVICE,
        names: &[access.action],
    };
    identity.allows(&action, region, &paths(access))
}

/// Returns the resource paths that policies may use. A bucket matches with and without a trailing slash.
fn paths(access: &AccessRequest<'_>) -> Vec<String> {
    let app_id = access.app_id;
    match (access.bucket, access.key) {
        (None, _) => vec!["*".to_owned()],
        (Some(bucket), None) => vec![format!("{bucket}-{app_id}/"), format!("{bucket}-{app_id}")],
        (Some(bucket), Some(key)) => vec![format!("{bucket}-{app_id}/{key}")],
    }
}
