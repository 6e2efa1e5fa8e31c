//! Fixed descriptors of a zygote and of its maker of sandbox inits.

/// The socket of the zygote.
pub(crate) const ZYGOTE_SOCKET: i32 = 3;

/// The socket of the maker of sandbox inits.
pub(crate) const INIT_SOCKET: i32 = 4;

/// The pipe in which a zygote reports exits of its copies.
pub(crate) const EXITS_PIPE: i32 = 5;
