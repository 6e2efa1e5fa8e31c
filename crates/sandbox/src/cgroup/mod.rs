//! Resource limits of instances by control groups, versions 1 and 2.
//!
//! A [`CgroupSlot`] is an instance's directory in every controller. Virga creates it, sets its limits and reads its
//! counters through open files. The guest enters it by itself: under version 1 attaching another process waits for a
//! grace period of the kernel (10 ms measured), while attaching oneself does not. Slots are reused, because creating
//! one costs more than resetting it.

mod files;
mod hierarchy;
mod removal;
mod slot;
mod tree;

pub use hierarchy::place_of_trees;
pub(crate) use removal::end;
pub use slot::CgroupSlot;
pub use tree::CgroupTree;

/// Resource limits of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory, including page cache and `/tmp`, bytes. Swap is disabled. Socket buffers count towards it, or have a
    /// limit of their own in proportion.
    pub memory_bytes: u64,
    /// Number of processes and threads.
    pub pids: u32,
    /// CPU weight relative to other instances, 1 to 10,000.
    pub cpu_weight: u32,
    /// CPU quota in thousandths of a processor.
    pub cpu_milli: u32,
}

/// Version of the control group interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy.
    V2,
}

/// Slots of one group share further limits. `None` is the platform itself.
pub type LimitGroup = Option<u64>;
