//! Actions, as policies and rate limits name them.

/// An action of an API, as policies and rate limits name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action<'a> {
    /// Its service in policies.
    pub service: &'a str,
    /// Its names in policies: its own first, then coarser ones that include it.
    pub names: &'a [&'a str],
}

impl<'a> Action<'a> {
    /// Returns the action's own name.
    pub fn name(&self) -> &'a str {
        self.names.first().copied().unwrap_or_default()
    }
}

/// The actions that policies and rate limits can name.
#[derive(Clone, Debug, Default)]
pub struct KnownActions {
    /// The platform's actions, which rate limits apply to.
    pub platform: Vec<Action<'static>>,
    /// The actions on buckets and objects.
    pub objects: Vec<&'static str>,
}

/// The call of a function.
pub const INVOKE: Action<'static> = Action {
    service: "scf",
    names: &["Invoke", "InvokeFunction"],
};

/// A signed request to a function's URL, which is no action of the API.
pub const INVOKE_URL: Action<'static> = Action {
    service: "scf",
    names: &["InvokeFunctionUrl"],
};

/// The use of a layer by a function.
pub const GET_LAYER_VERSION: Action<'static> = Action {
    service: "scf",
    names: &["GetLayerVersion"],
};

/// The use of a role by a function.
pub(crate) const PASS_ROLE: Action<'static> = Action {
    service: "cam",
    names: &["PassRole"],
};

/// The download of an object.
pub const GET_OBJECT: Action<'static> = Action {
    service: "cos",
    names: &["GetObject"],
};

/// The list of a bucket's objects.
pub(crate) const GET_BUCKET: Action<'static> = Action {
    service: "cos",
    names: &["GetBucket"],
};
