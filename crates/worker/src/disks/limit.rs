//! Computes how much of the host's disk each instance may use.

/// Space that stays free for everything else, bytes; at most a tenth of the disk.
const RESERVED_BYTES: u64 = 1 << 30;

/// The host's disk that holds the disks of instances.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostDisk {
    free: u64,
    size: u64,
}

impl HostDisk {
    pub(super) fn of((free, size): (u64, u64)) -> Self {
        Self { free, size }
    }

    /// Returns the bytes that may still be written, given `pending` bytes not written back yet.
    pub(super) fn available(self, pending: u64) -> u64 {
        let reserved = RESERVED_BYTES.min(self.size / 10);
        self.free.saturating_sub(reserved).saturating_sub(pending)
    }

    /// Returns the default limit of all instances together.
    pub(super) fn default_total(self) -> u64 {
        self.available(0) / 2
    }
}

/// Returns the limit of a disk that holds `own` bytes while all disks together hold `used`: half of what the others
/// leave of `total`, so that new instances always find space. `available` is the host's free space.
pub(super) fn bound(total: u64, used: u64, own: u64, available: u64) -> u64 {
    let others = used.saturating_sub(own);
    let limit = total.saturating_sub(others) / 2;
    limit.min(own.saturating_add(available))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn one_instance_may_use_half_and_leaves_space_for_others() {
        let available = 50_000 * MB;
        assert_eq!(bound(600 * MB, 0, 0, available), 300 * MB);
        assert_eq!(bound(600 * MB, 200 * MB, 200 * MB, available), 300 * MB);
        // However many instances grow as far as they can, a new one gets some space.
        let mut have = [0; 20];
        for _ in 0..1000 {
            for one in 0..have.len() {
                let used: u64 = have.iter().sum();
                let most = bound(600 * MB, used, have[one], available);
                have[one] = have[one].max(most.min(have[one] + MB));
            }
        }
        let used: u64 = have.iter().sum();
        assert!(used < 600 * MB, "{used}");
        assert!(bound(600 * MB, used, 0, available) > 10 * MB);
    }

    #[test]
    fn full_host_disk_allows_no_growth() {
        let host = |free_mb: u64| HostDisk::of((free_mb * MB, 100_000 * MB));
        assert_eq!(host(1024).available(0), 0);
        assert_eq!(host(1034).available(8 * MB), 2 * MB);
        assert_eq!(host(1034).default_total(), 5 * MB);
        // Of a small disk a tenth stays free.
        assert_eq!(HostDisk::of((64 * MB, 100 * MB)).available(0), 54 * MB);
        // Existing data stays.
        assert_eq!(bound(600 * MB, 70 * MB, 70 * MB, 0), 70 * MB);
        assert_eq!(bound(600 * MB, 70 * MB, 70 * MB, 2 * MB), 72 * MB);
    }
}
