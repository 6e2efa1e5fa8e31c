//! Authorisation of actions on buckets and objects.

use bucket::AccessRequest;
use model::Decision;

use crate::Principal;

/// Service name of buckets and objects in policies.
const SERVICE: &str = "cos";

/// Returns whether a principal may perform an action on its own account's buckets.
pub fn may_access(identity: &Principal, region: &str, access: &AccessRequest<'_>) -> bool {
    // Another account's buckets are only open by their ACLs.
    if access.app_id != identity.owner.id.0 {
        return false;
    }
    let mut allowed = false;
    for path in paths(access) {
        let resource = identity.resource(SERVICE, region, &path);
        match identity.decide(access.action, &resource) {
            Decision::ExplicitDeny => return false,
            Decision::Allowed => allowed = true,
            Decision::ImplicitDeny => {}
        }
    }
    allowed
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
