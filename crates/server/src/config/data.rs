//! The place of the data directory.

use std::path::PathBuf;

/// Returns the default data directory. The command line looks for the credentials there, too.
pub(crate) fn default_data() -> PathBuf {
    const SYSTEM_DATA: &str = "/var/lib/virga";
    if ::sandbox::user::is_root() {
        return SYSTEM_DATA.into();
    }
    let own = |name, below: &str| Some(PathBuf::from(std::env::var_os(name)?).join(below));
    own("XDG_DATA_HOME", "virga")
        .or_else(|| own("HOME", ".local/share/virga"))
        .unwrap_or(SYSTEM_DATA.into())
}
