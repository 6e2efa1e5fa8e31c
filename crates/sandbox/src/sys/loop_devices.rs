//! Loop devices: block devices on files.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use super::check::check;

/// Returns the number of an unused loop device. `control` is `/dev/loop-control`.
pub(crate) fn free_loop_device(control: impl AsFd) -> io::Result<c_int> {
    /// Source: linux/loop.h.
    const GET_FREE: libc::Ioctl = 0x4C82;
    // SAFETY: this request takes no memory.
    check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), GET_FREE) })
}

/// Attaches a loop device to a file, until it is neither open nor mounted.
pub(crate) fn configure_loop_device(device: impl AsFd, file: impl AsFd) -> io::Result<()> {
    // Source: linux/loop.h.
    const CONFIGURE: libc::Ioctl = 0x4C0A;
    const AUTOMATICALLY_CLEARED: u32 = 4;
    /// Direct I/O to the file: the file system above caches writes already.
    const DIRECT: u32 = 16;
    /// `struct loop_config`, with `struct loop_info64` in it.
    #[repr(C)]
    struct Configuration {
        descriptor: u32,
        block_size: u32,
        numbers: [u64; 5],
        number: u32,
        encryption: [u32; 2],
        flags: u32,
        names_and_key: [u8; 160],
        more: [u64; 2],
        reserved: [u64; 8],
    }
    const {
        assert!(mem::size_of::<Configuration>() == 304);
    }
    let configuration = Configuration {
        descriptor: file.as_fd().as_raw_fd().cast_unsigned(),
        block_size: 4096,
        numbers: [0; 5],
        number: 0,
        encryption: [0; 2],
        flags: AUTOMATICALLY_CLEARED | DIRECT,
        names_and_key: [0; 160],
        more: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the kernel reads the structure, which has its layout and lives through the call.
    check(unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            CONFIGURE,
            &raw const configuration,
        )
    })
    .map(drop)
}
