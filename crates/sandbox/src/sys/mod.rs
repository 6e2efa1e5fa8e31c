//! Safe wrappers of system calls that the standard library lacks. Each reports `errno`.

mod check;
mod descriptors;
mod interfaces;
mod loop_devices;
mod mounts;
mod namespaces;
mod notifications;
mod pidfd;
mod privileges;
mod processes;
mod scheduling;
mod signals;
mod sockets;

pub use self::descriptors::*;
pub(crate) use self::interfaces::*;
pub(crate) use self::loop_devices::*;
pub use self::mounts::*;
pub(crate) use self::namespaces::*;
pub(crate) use self::notifications::*;
pub use self::pidfd::*;
pub use self::privileges::*;
pub(crate) use self::processes::*;
pub use self::scheduling::*;
pub(crate) use self::signals::*;
pub(crate) use self::sockets::*;
