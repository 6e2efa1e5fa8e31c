//! Target tracking: autoscales provisioned instances by their recent peak use.

use std::collections::VecDeque;

/// Interval between samples, seconds. Source: SCF's guide, as for the window.
pub const TRACKING_INTERVAL_S: u64 = 10;
/// Number of samples in the window, ten minutes. Scale-up is immediate; scale-down waits until the whole window is
/// lower.
const WINDOW: usize = 60;

/// Target utilisation of provisioned instances, and bounds for their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackingTarget {
    /// Target utilisation in percent, 1 to 99.
    pub percent: u32,
    /// Minimum number of instances.
    pub min: usize,
    /// Maximum number of instances.
    pub max: usize,
}

/// Samples of a function's peak concurrency.
#[derive(Clone, Debug, Default)]
pub struct Tracking {
    peaks: VecDeque<usize>,
}

impl Tracking {
    /// Adds a sample and returns how many instances to provision.
    pub fn add_sample(&mut self, peak: usize, target: &TrackingTarget) -> usize {
        if self.peaks.len() == WINDOW {
            self.peaks.pop_front();
        }
        self.peaks.push_back(peak);
        self.provisioned_min(target)
    }

    /// Returns how many instances to provision for the samples so far.
    pub fn provisioned_min(&self, target: &TrackingTarget) -> usize {
        let most = self.peaks.iter().max().copied().unwrap_or(0);
        let wanted = (most * 100).div_ceil(target.percent.max(1) as usize);
        wanted.min(target.max).max(target.min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: TrackingTarget = TrackingTarget {
        percent: 70,
        min: 2,
        max: 20,
    };

    #[test]
    fn scale_up_is_immediate_and_scale_down_waits_for_the_window() {
        let mut tracking = Tracking::default();
        assert_eq!(tracking.provisioned_min(&TARGET), 2);
        assert_eq!(tracking.add_sample(7, &TARGET), 10);
        for _ in 0..WINDOW - 1 {
            assert_eq!(tracking.add_sample(3, &TARGET), 10);
        }
        assert_eq!(tracking.add_sample(3, &TARGET), 5);
        assert_eq!(tracking.add_sample(0, &TARGET), 5);
    }

    #[test]
    fn result_is_rounded_up_and_clamped() {
        let mut tracking = Tracking::default();
        let rows = [
            (0, 2),
            (1, 2),
            (2, 3),
            (7, 10),
            (8, 12),
            (14, 20),
            (900, 20),
        ];
        for (peak, provisioned_min) in rows {
            assert_eq!(
                tracking.add_sample(peak, &TARGET),
                provisioned_min,
                "{peak}"
            );
        }
        assert!(tracking.peaks.len() <= WINDOW);
    }
}
