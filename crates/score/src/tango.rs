//! The difference of two shares of the same items, where few items differ: Tango's score interval, McNemar's mid-p.
//!
//! Of n items b hold under the change alone and c unchanged alone; δ = (b − c) / n. The interval holds all δ at which the
//! score statistic (b − c − nδ) / √(n (2p + δ (1 − δ))) lies within ±1.96, p being the likeliest chance of "unchanged
//! alone" given δ. Every resample of few differing items is a number of few values, and BCa then holds the truth in as
//! little as 72 % of studies (20 items, one in twenty of which changes); this holds it in 92 % or more (`coverage`).
//!
//! Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
//! design", Statistics in Medicine 17 (1998); recommended, with the mid-p test, by Fagerland, Lydersen and Laake,
//! Statistics in Medicine 33 (2014).

use crate::interval::Z;

/// Items that hold under the change alone, unchanged alone, and all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Discordant {
    /// Under the change alone.
    pub gained: u32,
    /// Unchanged alone.
    pub lost: u32,
    /// All items.
    pub n: u32,
}

impl Discordant {
    /// Of paired zeros and ones.
    pub fn of(new: &[f64], old: &[f64]) -> Discordant {
        let count =
            |more: fn(f64, f64) -> bool| new.iter().zip(old).filter(|(a, b)| more(**a, **b)).count() as u32;
        Discordant {
            gained: count(|new, old| new > old),
            lost: count(|new, old| new < old),
            n: new.len() as u32,
        }
    }

    /// Whether the difference rests on fewer than `few` differing items: by n² times its variance, and not because
    /// nearly all differ, as where nearly everything recited is lost.
    pub fn is_scarce(&self, few: f64) -> bool {
        let (gained, lost, n) = (f64::from(self.gained), f64::from(self.lost), f64::from(self.n));
        gained + lost - (gained - lost).powi(2) / n < few && 2.0 * (gained + lost) <= n
    }

    /// The 95 % interval of δ.
    pub fn interval(&self) -> (f64, f64) {
        let (b, c, n) = (f64::from(self.gained), f64::from(self.lost), f64::from(self.n));
        let value = (b - c) / n;
        let statistic = |delta: f64| {
            let half = 0.5 * (-b - c + (2.0 * n - b + c) * delta);
            let product = -c * delta * (1.0 - delta);
            let chance = (-half + (half * half - 2.0 * n * product).max(0.0).sqrt()) / (2.0 * n);
            let spread = n * (2.0 * chance + delta * (1.0 - delta));
            let far = b - c - n * delta;
            if far == 0.0 { 0.0 } else { far / spread.max(0.0).sqrt() }
        };
        let search = |mut near: f64, mut end: f64| {
            for _ in 0..60 {
                let middle = 0.5 * (near + end);
                if statistic(middle).abs() <= Z { near = middle } else { end = middle }
            }
            near
        };
        (search(value, -1.0), search(value, 1.0))
    }

    /// McNemar's two-sided level of no difference: of the differing items either side is as likely; the observed split
    /// counts half.
    pub fn level(&self) -> f64 {
        let all = self.gained + self.lost;
        if all == 0 {
            return 1.0;
        }
        let chance = |k: u32| {
            let (all, k) = (f64::from(all), f64::from(k));
            let ways = libm::lgamma(all + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(all - k + 1.0);
            (ways - all * std::f64::consts::LN_2).exp()
        };
        let fewer = self.gained.min(self.lost);
        let below: f64 = (0..=fewer).map(chance).sum();
        (2.0 * below - chance(fewer)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: (f64, f64), expected: (f64, f64)) {
        assert!((found.0 - expected.0).abs() < 1e-6 && (found.1 - expected.1).abs() < 1e-6, "{found:?}");
    }

    /// Numbers from `tests/intervals.py`, which finds the likeliest chances numerically; the first are those of the
    /// example of Fagerland and others.
    #[test]
    fn the_interval_is_that_of_the_likeliest_chances() {
        near(Discordant { gained: 1, lost: 7, n: 21 }.interval(), (-0.517_232_27, -0.026_003_03));
        near(Discordant { gained: 0, lost: 3, n: 50 }.interval(), GOLDEN[0]);
        near(Discordant { gained: 0, lost: 0, n: 50 }.interval(), GOLDEN[1]);
        near(Discordant { gained: 0, lost: 40, n: 40 }.interval(), GOLDEN[2]);
        near(Discordant { gained: 9, lost: 4, n: 200 }.interval(), GOLDEN[3]);
    }

    const GOLDEN: [(f64, f64); 4] = [
        (-0.162_170_92, 0.015_628_46),
        (-0.071_347_60, 0.071_347_60),
        (-1.0, -0.824_756_80),
        (-0.011_821_96, 0.066_250_29),
    ];

    #[test]
    fn the_level_is_mid_p() {
        let level = |gained, lost| Discordant { gained, lost, n: 100 }.level();
        // One in eight and less: 2 · (1 + 8/2) / 256.
        assert!((level(1, 7) - 2.0 * 5.0 / 256.0).abs() < 1e-12);
        assert!((level(0, 5) - 1.0 / 32.0).abs() < 1e-12);
        assert!((Discordant { gained: 9, lost: 4, n: 200 }.level() - 0.179_565_429_687_5).abs() < 1e-12);
        assert_eq!(level(0, 0), 1.0);
        assert!(level(0, 60) < 1e-15);
    }

    #[test]
    fn items_are_counted_by_who_holds() {
        let found = Discordant::of(&[1.0, 0.0, 0.0, 1.0, 0.0], &[1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(found, Discordant { gained: 1, lost: 2, n: 5 });
        // 2.8 items' worth, but most of them differ.
        assert!(!found.is_scarce(10.0));
        assert!(Discordant { gained: 1, lost: 2, n: 6 }.is_scarce(3.0));
        assert!(!Discordant { gained: 1, lost: 2, n: 6 }.is_scarce(2.8));
    }
}
