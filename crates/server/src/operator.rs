//! The operator's API: accounts, keys and roles; the event queue and usage.
//!
//! It is spoken as SCF's is (`POST /`, TC3, the same envelope) under a version and a service of its own. A request signs its
//! action, version, time and a nonce, so that a captured one is of no use (`access::signing`). SCF leaves these to other services of the cloud, so there are no
//! names to keep.

mod events;

pub(crate) use events::{
    EventCount, EventInfo, EventPage, ListEvents, ListUsage, PurgeEvents, ReplayEvents, Selection,
    ShowEvent, Usage, UsageList, UsageRequest,
};

use scf::Action;
use scf::types::Empty;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What `X-TC-Version` says.
pub(crate) const VERSION: &str = "virga-1";
/// The service in the scope of its signatures. No host has such a label (`_`), so that a client which takes the service from a host,
/// as the Node.js SDK does from `virga.internal`, never signs for it.
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
    /// An account, by name or AppId; the caller's own where it is left out.
    struct AccountRequest {
        account: Option<String>,
    }
    struct DeleteAccountRequest {
        account: Option<String>,
        /// Whether all that it owns goes with it.
        purge: bool,
    }
    /// The deletion of an account.
    struct Deletion {
        account: String,
        app_id: u64,
        /// `Deleting` or `Deleted`.
        state: String,
        /// What it had when the deletion began.
        had: Vec<Belonging>,
    }
    /// How much there is of a kind; large numbers of events, logs and objects are counted up to 100,000.
    struct Belonging {
        kind: String,
        count: u64,
    }
    /// How far a deletion is.
    struct Deleting {
        /// What is being deleted.
        step: String,
        /// What was deleted since virga started.
        removed: u64,
        /// Why the last try failed.
        trouble: Option<String>,
    }
    struct CreateAccountRequest {
        name: String,
        /// Else the next that is free.
        app_id: Option<u64>,
        uin: Option<u64>,
    }
    struct CreatedAccount {
        account: AccountInfo,
        /// Its first key, which may do everything within it.
        key: NewKey,
    }
    struct AccountInfo {
        name: String,
        app_id: u64,
        uin: String,
        /// That of the installation, which is part of hosts and of resources' names.
        region: String,
        namespaces: u64,
        functions: u64,
        layers: u64,
        keys: u64,
        roles: u64,
        added: String,
        /// `Active` or `Deleting`.
        state: String,
        /// How far the deletion is.
        deleting: Option<Deleting>,
    }
    struct Accounts {
        accounts: Vec<AccountInfo>,
        /// Those that were, whose ids are never given again.
        deleted: Vec<DeletedAccount>,
    }
    struct DeletedAccount {
        name: String,
        app_id: u64,
        uin: String,
        added: String,
        deleted: String,
        /// What it had used, as far as the ledger reached back.
        invocations: u64,
        gb_seconds: f64,
        out_bytes: u64,
    }
    struct CreateKeyRequest {
        account: Option<String>,
        description: Option<String>,
        /// What it may do; everything within the account where it is left out.
        policy: Option<Value>,
        /// Whether its requests must sign their action; they need not where it is left out.
        sign_action: Option<bool>,
    }
    /// The only answer that ever holds the secret.
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
        /// Also while functions act in its name: their credentials are refused from then on.
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
        /// As `CreateFunction` takes them, the oldest of each language first.
        runtimes: Vec<String>,
    }
    /// A layer of what a package's `requirements.txt` or `package.json` asks for, in the caller's own account.
    struct BuildLayerRequest {
        layer_name: String,
        /// Whose package manager installs.
        runtime: String,
        /// The package, in base64.
        zip_file: String,
        description: Option<String>,
    }
    struct BuiltLayer {
        layer_name: String,
        layer_version: u64,
        /// For which functions it is.
        runtime: String,
        /// The end of the package manager's output.
        log: String,
    }
    struct AssumeRoleRequest {
        account: Option<String>,
        name: String,
        /// For how long; an hour where it is left out.
        seconds: Option<u64>,
    }
    /// Temporary credentials, in the words of the cloud's token service.
    struct TemporaryCredentials {
        tmp_secret_id: String,
        tmp_secret_key: String,
        token: String,
        /// Unix time, seconds.
        expired_time: i64,
    }
}
