//! The operator's API: accounts, keys and roles; the event queue and usage.
//!
//! The protocol is SCF's (`POST /`, TC3, the same envelope) with a version and a service of its own. A request signs its
//! action, version, time and a nonce, so that a captured one cannot be replayed or changed (`access::signing`). In the
//! cloud these actions belong to other services, so their names are virga's own.

mod events;

pub(crate) use events::{
    EventCount, EventInfo, EventPage, ListEvents, ListUsage, PurgeEvents, ReplayEvents, Selection,
    ShowEvent, Usage, UsageList, UsageRequest,
};

use scf::Action;
use scf::types::Empty;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The value of `X-TC-Version`.
pub(crate) const VERSION: &str = "virga-1";
/// The service in the scope of its signatures. No host has such a label (`_`), so a client that derives the service from
/// a host, as the Node.js SDK does from `virga.internal`, never signs for it.
pub(crate) const SERVICE: &str = "virga_operator";

macro_rules! actions {
    ($($name:ident($request:ty) -> $response:ty,)*) => {$(
        #[doc = concat!("The action `", stringify!($name), "`.")]
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name;

        impl Action for $name {
            const NAME: &'static str = stringify!($name);
            const VERSION: &'static str = VERSION;
            type Request = $request;
            type Response = $response;
        }
    )*};
}

actions! {
    AssumeRole(AssumeRoleRequest) -> TemporaryCredentials,
    BuildLayer(BuildLayerRequest) -> BuiltLayer,
    CreateAccount(CreateAccountRequest) -> CreatedAccount,
    CreateKey(CreateKeyRequest) -> NewKey,
    DeleteAccount(DeleteAccountRequest) -> Deletion,
    DeleteKey(KeyRequest) -> Empty,
    DeleteRole(DeleteRoleRequest) -> Empty,
    DescribeAccount(AccountRequest) -> AccountInfo,
    ListAccounts(Empty) -> Accounts,
    ListKeys(AccountRequest) -> Keys,
    ListRoles(AccountRequest) -> Roles,
    ListRuntimes(Empty) -> Runtimes,
    PutRole(PutRoleRequest) -> RoleInfo,
    UpdateKey(UpdateKeyRequest) -> KeyInfo,
}

macro_rules! wire {
    ($($(#[doc = $doc:literal])* struct $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub(crate) struct $name {
            $(
                $(#[$meta])*
                pub(crate) $field: $type,
            )*
        }
    )*};
}

wire! {
    /// An account, by name or AppId; the caller's own by default.
    struct AccountRequest {
        account: Option<String>,
    }
    struct DeleteAccountRequest {
        account: Option<String>,
        /// Whether everything that the account owns is deleted with it.
        purge: bool,
    }
    /// The deletion of an account.
    struct Deletion {
        account: String,
        app_id: u64,
        /// `Deleting` or `Deleted`.
        state: String,
        /// The resources of the account when the deletion began.
        had: Vec<Belonging>,
    }
    /// A number of resources of one kind. Events, logs and objects are counted up to 100,000.
    struct Belonging {
        kind: String,
        count: u64,
    }
    /// The progress of a deletion.
    struct Deleting {
        /// The kind of resource that is being deleted.
        step: String,
        /// Number of deleted resources since virga started.
        removed: u64,
        /// The error of the last attempt.
        trouble: Option<String>,
    }
    struct CreateAccountRequest {
        name: String,
        /// The next free AppId by default.
        app_id: Option<u64>,
        uin: Option<u64>,
    }
    struct CreatedAccount {
        account: AccountInfo,
        /// The account's first key, with all rights in the account.
        key: NewKey,
    }
    struct AccountInfo {
        name: String,
        app_id: u64,
        uin: String,
        /// The region of the installation, which is part of hosts and of resources' names.
        region: String,
        namespaces: u64,
        functions: u64,
        layers: u64,
        keys: u64,
        roles: u64,
        added: String,
        /// `Active` or `Deleting`.
        state: String,
        /// The progress of the deletion.
        deleting: Option<Deleting>,
    }
    struct Accounts {
        accounts: Vec<AccountInfo>,
        /// Deleted accounts, whose ids are never reused.
        deleted: Vec<DeletedAccount>,
    }
    struct DeletedAccount {
        name: String,
        app_id: u64,
        uin: String,
        added: String,
        deleted: String,
        /// The usage of the account, as far back as the ledger reaches.
        invocations: u64,
        gb_seconds: f64,
        out_bytes: u64,
    }
    struct CreateKeyRequest {
        account: Option<String>,
        description: Option<String>,
        /// The policy of the key; all rights in the account by default.
        policy: Option<Value>,
        /// Whether requests must sign their action; false by default.
        sign_action: Option<bool>,
    }
    /// The only response that contains the secret.
    struct NewKey {
        secret_id: String,
        secret_key: String,
    }
    struct KeyRequest {
        account: Option<String>,
        secret_id: String,
    }
    struct UpdateKeyRequest {
        account: Option<String>,
        secret_id: String,
        disabled: Option<bool>,
        policy: Option<Value>,
        sign_action: Option<bool>,
    }
    struct KeyInfo {
        secret_id: String,
        description: String,
        /// `Active` or `Disabled`.
        status: String,
        policy: Option<Value>,
        sign_action: bool,
        added: String,
    }
    struct Keys {
        keys: Vec<KeyInfo>,
    }
    struct PutRoleRequest {
        account: Option<String>,
        name: String,
        description: Option<String>,
        policy: Value,
    }
    struct DeleteRoleRequest {
        account: Option<String>,
        name: String,
        /// Whether to delete a role that functions use. Their credentials are refused from then on.
        force: bool,
    }
    struct RoleInfo {
        name: String,
        description: String,
        policy: Value,
        added: String,
    }
    struct Roles {
        roles: Vec<RoleInfo>,
    }
    struct Runtimes {
        /// In the form that `CreateFunction` takes, the oldest of each language first.
        runtimes: Vec<String>,
    }
    /// A request to install the dependencies of a package's `requirements.txt` or `package.json` as a layer in the caller's
    /// account.
    struct BuildLayerRequest {
        layer_name: String,
        /// The runtime whose package manager installs.
        runtime: String,
        /// The package, in base64.
        zip_file: String,
        description: Option<String>,
    }
    struct BuiltLayer {
        layer_name: String,
        layer_version: u64,
        /// The runtime of functions that can use the layer.
        runtime: String,
        /// The end of the package manager's output.
        log: String,
    }
    struct AssumeRoleRequest {
        account: Option<String>,
        name: String,
        /// Validity in seconds; one hour by default.
        seconds: Option<u64>,
    }
    /// Temporary credentials, with the field names of the cloud's token service.
    struct TemporaryCredentials {
        tmp_secret_id: String,
        tmp_secret_key: String,
        token: String,
        /// Unix time, seconds.
        expired_time: i64,
    }
}
