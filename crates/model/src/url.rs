//! What a function's URL is made with.

use serde::{Deserialize, Serialize};

/// A URL that leads to a version or an alias. Its id is its trigger's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionUrl {
    /// Who may call it.
    pub auth: UrlAuth,
    /// Whether functions reach it.
    pub intranet: bool,
    /// Whether everybody else does.
    pub extranet: bool,
    /// What browsers are told of pages of other origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

/// Who may call a function's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlAuth {
    /// Everybody.
    Open,
    /// Whoever signs as for the API.
    Signed,
}

/// Which pages of other origins may call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// The origins; `*` is any.
    pub origins: Vec<String>,
    /// Headers that they may send; all where there is none.
    pub headers: Vec<String>,
    /// Methods that they may use; all where there is none.
    pub methods: Vec<String>,
    /// Headers of replies that they may see.
    pub expose: Vec<String>,
    /// For how long a browser remembers this, seconds.
    pub max_age: Option<u32>,
    /// Whether they may send cookies.
    pub credentials: bool,
}
