//! Paths inside an instance, and values that every process in it shares.

/// Path of the code.
pub(crate) const CODE: &str = "/var/user";

/// Path of the layers.
pub(crate) const LAYERS: &str = "/opt";

/// The value of `PATH`.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// SCF documents en_US.UTF8, which few hosts have. This locale comes with the C library or the distribution.
pub(crate) const LOCALE: &str = "C.UTF-8";

/// Directory of the shims and the sandbox's library.
pub(crate) const RUNTIME: &str = "/var/runtime/virga";

/// Directory of the `sitecustomize` module, beside the shims.
pub(crate) const SITE_DIRECTORY: &str = "site";
