//! The operator's API: accounts and keys.
//!
//! It is spoken as SCF's is (`POST /`, TC3, the same envelope) under a version of its own, so that every client that signs
//! can speak it, from wherever it reaches the server. SCF leaves these to other services of the cloud, so there are no
//! names to keep.

use scf::Action;
use scf::types::Empty;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What `X-TC-Version` says.
pub(crate) const VERSION: &str = "virga-1";

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
    CreateAccount(CreateAccountRequest) -> CreatedAccount,
    CreateKey(CreateKeyRequest) -> NewKey,
    DeleteAccount(OfAccount) -> Empty,
    DeleteKey(KeyRequest) -> Empty,
    DescribeAccount(OfAccount) -> AccountInfo,
    ListAccounts(Empty) -> Accounts,
    ListKeys(OfAccount) -> Keys,
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
    struct OfAccount {
        account: Option<String>,
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
        namespaces: u64,
        functions: u64,
        layers: u64,
        keys: u64,
        added: String,
    }
    struct Accounts {
        accounts: Vec<AccountInfo>,
    }
    struct CreateKeyRequest {
        account: Option<String>,
        description: Option<String>,
        /// What it may do; everything within the account where it is left out.
        policy: Option<Value>,
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
    }
    struct KeyInfo {
        secret_id: String,
        description: String,
        /// `Active` or `Disabled`.
        status: String,
        policy: Option<Value>,
        added: String,
    }
    struct Keys {
        keys: Vec<KeyInfo>,
    }
}
