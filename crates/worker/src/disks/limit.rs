//! How much of the host's disk each instance may have.

/// What stays free for everybody else: so much, or a tenth of a small disk.
const RESERVED_BYTES: u64 = 1 << 30;

/// The disk of the host that those of instances lie on.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostDisk {
    free: u64,
    size: u64,
}

impl HostDisk {
    pub(super) fn of((free, size): (u64, u64)) -> Self {
        Self { free, size }
    }

    /// What may still be written to it, where so much is on its way there.
    pub(super) fn available(self, pending: u64) -> u64 {
        let reserved = RESERVED_BYTES.min(self.size / 10);
        self.free.saturating_sub(reserved).saturating_sub(pending)
    }

    /// What all instances together may have, where nobody has said.
    pub(super) fn default_total(self) -> u64 {
        self.available(0) / 2
    }
}

/// What one may hold that has `own`, where all of them, it included, have `used`: half of what the others leave of the whole, so that
/// there is always room for one that comes. `available` is what the host's disk has for more.
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
        // However many there are, and however greedy: one that has nothing may have something.
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
        // Of a small one a tenth stays.
        assert_eq!(HostDisk::of((64 * MB, 100 * MB)).available(0), 54 * MB);
        // What is there stays.
        assert_eq!(bound(600 * MB, 70 * MB, 70 * MB, 0), 70 * MB);
        assert_eq!(bound(600 * MB, 70 * MB, 70 * MB, 2 * MB), 72 * MB);
    }
}
