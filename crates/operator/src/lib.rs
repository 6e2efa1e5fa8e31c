//! The operator's API: accounts, keys and roles; the event queue and usage; and the operator's key pair.
//!
//! The protocol is SCF's (`POST /`, TC3, the same envelope) with a version and a service of its own. A request signs its
//! action, version, time and a nonce, so that a captured one cannot be replayed or changed (crate `signing`). In the
//! cloud these actions belong to other services, so their names are virga's own.
//!
//! Owns these actions' names and fields, and the file of the key pair: all that the server and its command line share. Never
//! knows how an action is carried out.
#![forbid(unsafe_code)]

pub mod credentials;
mod events;

pub use events::{EventCount, EventInfo, EventPage, Selection, Usage, UsageList, UsageRequest};

use scf::Action;
use scf::types::Empty;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The value of `X-TC-Version`.
pub const VERSION: &str = "virga-1";
/// The service in the scope of its signatures. No host has such a label (`_`), so a client that derives the service from
/// a host, as the Node.js SDK does from `virga.internal`, never signs for it.
pub const SERVICE: &str = "virga_operator";

macro_rules! actions {
    (($dollar:tt) $($name:ident($request:ty) -> $response:ty,)*) => {
        $(action!($name($request) -> $response);)*

        /// Passes the names of all actions to a macro, as `AssumeRole, BuildLayer,`.
        #[macro_export]
        macro_rules! each_action {
            ($dollar then:ident) => {
                $dollar then! { $($name,)* }
            };
        }
    };
}

macro_rules! action {
    ($name:ident($request:ty) -> $response:ty) => {
        #[doc = concat!("The action `", stringify!($name), "`.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Action for $name {
            const NAME: &'static str = stringify!($name);
            const VERSION: &'static str = VERSION;
            type Request = $request;
            type Response = $response;
        }
    };
}

actions! {
    ($)
    AssumeRole(AssumeRoleRequest) -> TemporaryCredentials,
    BuildLayer(BuildLayerRequest) -> BuiltLayer,
    CreateAccount(CreateAccountRequest) -> CreatedAccount,
    CreateKey(CreateKeyRequest) -> NewKey,
    DeleteAccount(DeleteAccountRequest) -> Deletion,
    DeleteKey(KeyRequest) -> Empty,
    DeleteRole(DeleteRoleRequest) -> Empty,
    DescribeAccount(AccountRequest) -> AccountInfo,
    ListAccounts(Empty) -> Accounts,
    ListEvents(Selection) -> EventPage,
    ListKeys(AccountRequest) -> Keys,
    ListRoles(AccountRequest) -> Roles,
    ListRuntimes(Empty) -> Runtimes,
    ListUsage(UsageRequest) -> UsageList,
    PurgeEvents(Selection) -> EventCount,
    PutRole(PutRoleRequest) -> RoleInfo,
    ReplayEvents(Selection) -> EventCount,
    ShowEvent(Selection) -> EventInfo,
    UpdateKey(UpdateKeyRequest) -> KeyInfo,
}

macro_rules! wire {
    ($($(#[doc = $doc:literal])* struct $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $(
                $(#[$meta])*
                pub $field: $type,
            )*
        }
    )*};
}

wire! {
    /// An account, by name or AppId; the caller's own by default.
    struct AccountRequest {
        /// The account.
        account: Option<String>,
    }
    /// A request to delete an account.
    struct DeleteAccountRequest {
        /// The account, by name or AppId.
        account: Option<String>,
        /// Whether everything that the account owns is deleted with it.
        purge: bool,
    }
    /// The deletion of an account.
    struct Deletion {
        /// The account, by name or AppId.
        account: String,
        /// The AppId.
        app_id: u64,
        /// `Deleting` or `Deleted`.
        state: String,
        /// The resources of the account when the deletion began.
        had: Vec<Belonging>,
    }
    /// A number of resources of one kind. Events, logs and objects are counted up to 100,000.
    struct Belonging {
        /// The kind of resource.
        kind: String,
        /// How many there are.
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
    /// A request to create an account.
    struct CreateAccountRequest {
        /// The name.
        name: String,
        /// The next free AppId by default.
        app_id: Option<u64>,
        /// The Uin.
        uin: Option<u64>,
    }
    /// A new account.
    struct CreatedAccount {
        /// The account, by name or AppId.
        account: AccountInfo,
        /// The account's first key, with all rights in the account.
        key: NewKey,
    }
    /// An account.
    struct AccountInfo {
        /// The name.
        name: String,
        /// The AppId.
        app_id: u64,
        /// The Uin.
        uin: String,
        /// The region of the installation, which is part of hosts and of resources' names.
        region: String,
        /// Number of namespaces.
        namespaces: u64,
        /// Number of functions.
        functions: u64,
        /// Number of layers.
        layers: u64,
        /// Number of keys.
        keys: u64,
        /// Number of roles.
        roles: u64,
        /// The time of its creation.
        added: String,
        /// `Active` or `Deleting`.
        state: String,
        /// The progress of the deletion.
        deleting: Option<Deleting>,
    }
    /// All accounts.
    struct Accounts {
        /// Accounts that exist.
        accounts: Vec<AccountInfo>,
        /// Deleted accounts, whose ids are never reused.
        deleted: Vec<DeletedAccount>,
    }
    /// A deleted account.
    struct DeletedAccount {
        /// The name.
        name: String,
        /// The AppId.
        app_id: u64,
        /// The Uin.
        uin: String,
        /// The time of its creation.
        added: String,
        /// The time of its deletion.
        deleted: String,
        /// The usage of the account, as far back as the ledger reaches.
        invocations: u64,
        /// GB of memory times seconds.
        gb_seconds: f64,
        /// Bytes of responses.
        out_bytes: u64,
    }
    /// A request to create a key.
    struct CreateKeyRequest {
        /// The account, by name or AppId.
        account: Option<String>,
        /// The description.
        description: Option<String>,
        /// The policy of the key; all rights in the account by default.
        policy: Option<Value>,
        /// Whether requests must sign their action; false by default.
        sign_action: Option<bool>,
    }
    /// The only response that contains the secret.
    struct NewKey {
        /// The SecretId.
        secret_id: String,
        /// The SecretKey.
        secret_key: String,
    }
    /// A key of an account.
    struct KeyRequest {
        /// The account, by name or AppId.
        account: Option<String>,
        /// The SecretId.
        secret_id: String,
    }
    /// A request to change a key; an absent field stays.
    struct UpdateKeyRequest {
        /// The account, by name or AppId.
        account: Option<String>,
        /// The SecretId.
        secret_id: String,
        /// Whether the key is refused.
        disabled: Option<bool>,
        /// The new policy.
        policy: Option<Value>,
        /// Whether requests must sign their action.
        sign_action: Option<bool>,
    }
    /// A key without its secret.
    struct KeyInfo {
        /// The SecretId.
        secret_id: String,
        /// The description.
        description: String,
        /// `Active` or `Disabled`.
        status: String,
        /// The policy.
        policy: Option<Value>,
        /// Whether requests must sign their action.
        sign_action: bool,
        /// The time of its creation.
        added: String,
    }
    /// An account's keys.
    struct Keys {
        /// The keys.
        keys: Vec<KeyInfo>,
    }
    /// A request to create or replace a role.
    struct PutRoleRequest {
        /// The account, by name or AppId.
        account: Option<String>,
        /// The name.
        name: String,
        /// The description.
        description: Option<String>,
        /// The policy.
        policy: Value,
    }
    /// A request to delete a role.
    struct DeleteRoleRequest {
        /// The account, by name or AppId.
        account: Option<String>,
        /// The name.
        name: String,
        /// Whether to delete a role that functions use. Their credentials are refused from then on.
        force: bool,
    }
    /// A role.
    struct RoleInfo {
        /// The name.
        name: String,
        /// The description.
        description: String,
        /// The policy.
        policy: Value,
        /// The time of its creation.
        added: String,
    }
    /// An account's roles.
    struct Roles {
        /// The roles.
        roles: Vec<RoleInfo>,
    }
    /// The runtimes whose interpreters are installed.
    struct Runtimes {
        /// In the form that `CreateFunction` takes, the oldest of each language first.
        runtimes: Vec<String>,
    }
    /// A request to install the dependencies of a package's `requirements.txt` or `package.json` as a layer in the caller's
    /// account.
    struct BuildLayerRequest {
        /// The name of the layer.
        layer_name: String,
        /// The runtime whose package manager installs.
        runtime: String,
        /// The package, in base64.
        zip_file: String,
        /// The description.
        description: Option<String>,
    }
    /// The result of a build.
    struct BuiltLayer {
        /// The name of the layer.
        layer_name: String,
        /// The version of the layer.
        layer_version: u64,
        /// The runtime of functions that can use the layer.
        runtime: String,
        /// The end of the package manager's output.
        log: String,
    }
    /// A request for temporary credentials of a role.
    struct AssumeRoleRequest {
        /// The account, by name or AppId.
        account: Option<String>,
        /// The name.
        name: String,
        /// Validity in seconds; one hour by default.
        seconds: Option<u64>,
    }
    /// Temporary credentials, with the field names of the cloud's token service.
    struct TemporaryCredentials {
        /// The SecretId.
        tmp_secret_id: String,
        /// The SecretKey.
        tmp_secret_key: String,
        /// The session token.
        token: String,
        /// Unix time, seconds.
        expired_time: i64,
    }
}
