//! `Work`: how much a call has to do, told from what is declared alone: requests, interventions, the size of the model.
//!
//! Neither clock nor machine counts, so a call that was interrupted and starts again is cut at the same places.

use serde::Serialize;

/// What a call has to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Work {
    /// Requests it works on one by one.
    pub requests: usize,
    /// Multiply-adds of its matrix products, about.
    pub multiply_adds: f64,
    /// Bytes of what it writes at most, about; `None` where they are few.
    pub disk: Option<f64>,
}

impl Work {
    /// Multiply-adds of a part at least: about a minute of one core with AVX-512, beside which loading a model again does
    /// not count.
    pub const PART: f64 = 5e12;
    /// Parts at most: joining reads them all.
    pub const MOST: usize = 99;

    /// Seconds that one core takes, about.
    pub fn seconds(&self) -> f64 {
        60.0 * self.multiply_adds / Work::PART
    }

    /// In how many parts it is best made: one where it is short.
    pub fn parts(&self) -> usize {
        let parts = self.multiply_adds / Work::PART;
        // A number that is none is no reason to cut.
        (parts as usize).clamp(1, Work::MOST).min(self.requests.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_work_stays_whole_and_long_work_is_cut_by_requests_at_most() {
        let parts =
            |requests, parts: f64| Work { requests, multiply_adds: parts * Work::PART, disk: None }.parts();
        assert_eq!([parts(100, 0.0), parts(100, 0.5), parts(100, 1.9), parts(0, 9.0)], [1; 4]);
        assert_eq!((parts(100, 2.0), parts(100, 7.5), parts(3, 7.5)), (2, 7, 3));
        assert_eq!((parts(1000, 1e6), parts(1000, f64::INFINITY), parts(1000, f64::NAN)), (99, 99, 1));
    }
}
