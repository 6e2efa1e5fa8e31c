//! The supported services of the cloud.

/// A service of the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name: the first label of its host, and part of the credential scope.
    pub name: &'static str,
    /// API version.
    pub version: &'static str,
}

/// Serverless Cloud Function.
pub const SCF: Service = Service {
    name: crate::SERVICE,
    version: crate::VERSION,
};

/// The tag service.
pub const TAG: Service = Service {
    name: "tag",
    version: "2018-08-13",
};

/// All supported services.
pub const SERVICES: [Service; 2] = [SCF, TAG];
