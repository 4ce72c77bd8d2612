//! The area under a ROC curve with its uncertainty: the chance that a member ranks above an outsider.
//!
//! Error: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), from each item's share of the pairs it wins; the same
//! of paired differences. Interval: that error on the scale of log odds, where an area near 1, as memorized sequences
//! have, is not cut off. On simulated scores, 2000 times 60 + 60 of them, the plain interval holds an area of 0.96 in 90 %
//! and one of 0.99 in 81 %, this one in 95 % and 93 %. Where all pairs are won there is no error to go by: Newcombe's,
//! "Confidence intervals for an effect size measure based on the Mann–Whitney statistic, part 2", Statistics in Medicine
//! 25 (2006) 559, method 5, which needs none. A difference has MOVER of the two intervals with DeLong's correlation.

use crate::interval::{Estimate, Z, deviation, difference, mean};

/// The area, with each item's share in it.
pub struct Area {
    /// The share of pairs that members win, ties half.
    pub value: f64,
    /// Per member: the share of outsiders below it, ties half.
    members: Vec<f64>,
    /// Per outsider: the share of members above it, ties half.
    outsiders: Vec<f64>,
}

impl Area {
    /// Of the measures of members and outsiders.
    pub fn of(members: &[f64], outsiders: &[f64]) -> Area {
        let below = |sorted: &[f64], value: f64| {
            let less = sorted.partition_point(|other| *other < value);
            let equal = sorted.partition_point(|other| *other <= value) - less;
            (less as f64 + 0.5 * equal as f64) / sorted.len() as f64
        };
        let sort = |values: &[f64]| {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted
        };
        let (inside, outside) = (sort(members), sort(outsiders));
        let members: Vec<f64> = members.iter().map(|value| below(&outside, *value)).collect();
        let outsiders = outsiders.iter().map(|value| 1.0 - below(&inside, *value)).collect();
        Area { value: mean(&members), members, outsiders }
    }

    /// DeLong's standard error; none of a single member or outsider.
    pub fn error(&self) -> Option<f64> {
        delong(&self.members, &self.outsiders)
    }

    /// The 95 % interval and its name.
    pub fn interval(&self) -> (Option<(f64, f64)>, &'static str) {
        match self.error() {
            None => (None, "none"),
            Some(error) if error > 0.0 && self.value > 0.0 && self.value < 1.0 => {
                let odds = (self.value / (1.0 - self.value)).ln();
                let half = Z * error / (self.value * (1.0 - self.value));
                let back = |odds: f64| 1.0 / (1.0 + (-odds).exp());
                (Some((back(odds - half), back(odds + half))), "delong_logit")
            }
            Some(_) => (Some(self.newcombe()), "newcombe"),
        }
    }

    /// All areas that this one is within 1.96 of their own standard errors of.
    fn newcombe(&self) -> (f64, f64) {
        let (m, n) = (self.members.len() as f64, self.outsiders.len() as f64);
        let size = (m + n) / 2.0 - 1.0;
        let far = |area: f64| {
            let weight = 1.0 + size * (1.0 - area) / (2.0 - area) + size * area / (1.0 + area);
            (self.value - area).abs() > Z * (area * (1.0 - area) * weight / (m * n)).sqrt()
        };
        let search = |mut near: f64, mut end: f64| {
            if near == end || !far(end) {
                return end;
            }
            for _ in 0..60 {
                let middle = 0.5 * (near + end);
                if far(middle) { end = middle } else { near = middle }
            }
            near
        };
        // At the very ends the standard error is zero: a little inside, they are far like their neighbours.
        let tiny: f64 = 1e-12;
        (search(self.value, tiny.min(self.value)), search(self.value, (1.0 - tiny).max(self.value)))
    }

    /// The difference from another area of the same items: ends of its 95 % interval, and the level of none; no level where
    /// all members differ alike and all outsiders do, which leaves no error to go by.
    pub fn less(&self, old: &Area) -> Option<(f64, f64, Option<f64>)> {
        let minus = |new: &[f64], old: &[f64]| -> Vec<f64> {
            new.iter().zip(old).map(|(new, old)| new - old).collect()
        };
        let error = delong(&minus(&self.members, &old.members), &minus(&self.outsiders, &old.outsiders))?;
        let (one, other) = (self.error()?, old.error()?);
        let together = (one * one + other * other - error * error) / (2.0 * one * other);
        let together = if together.is_finite() { together.clamp(-1.0, 1.0) } else { 0.0 };
        let estimate = |area: &Area| {
            let (low, high) = area.interval().0?;
            Some(Estimate { value: area.value, low, high })
        };
        let (low, high) = difference(estimate(self)?, estimate(old)?, together);
        Some((low, high, level(self.value - old.value, error)))
    }
}

/// DeLong's standard error of a number made of the shares of members and of outsiders.
fn delong(members: &[f64], outsiders: &[f64]) -> Option<f64> {
    let part = |shares: &[f64]| {
        let deviation = deviation(shares)?;
        Some(deviation * deviation / shares.len() as f64)
    };
    Some((part(members)? + part(outsiders)?).sqrt())
}

/// The two-sided normal level of a value at so many standard errors from zero.
fn level(value: f64, error: f64) -> Option<f64> {
    match (value == 0.0, error == 0.0) {
        (true, _) => Some(1.0),
        (false, true) => None,
        (false, false) => Some(libm::erfc((value / error).abs() / std::f64::consts::SQRT_2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_counts_pairs_with_ties_half() {
        let area = Area::of(&[3.0, 2.0], &[1.0, 2.0, 4.0]);
        // Of six pairs 3 > 1, 3 > 2 and 2 > 1 count whole, 2 = 2 half.
        assert!((area.value - 3.5 / 6.0).abs() < 1e-15);
        assert!((mean(&area.outsiders) - area.value).abs() < 1e-15);
        assert_eq!(Area::of(&[5.0, 6.0], &[1.0, 2.0]).value, 1.0);
    }

    #[test]
    fn the_areas_error_is_delongs() {
        // Members' shares 2/3, 1/2; outsiders' 1, 3/4, 0: 1/72 / 2 + 13/48 / 3.
        let area = Area::of(&[3.0, 2.0], &[1.0, 2.0, 4.0]);
        let error = delong(&area.members, &area.outsiders).unwrap();
        assert!((error * error - (1.0 / 144.0 + 13.0 / 144.0)).abs() < 1e-12, "{error}");
    }

    /// 30 members all above 20 outsiders: the area whose own 1.96 standard errors just reach 1, from the equation's root.
    #[test]
    fn a_whole_area_is_not_taken_for_certain() {
        let (members, outsiders): (Vec<f64>, Vec<f64>) =
            ((0..30).map(|i| 100.0 + f64::from(i)).collect(), (0..20).map(f64::from).collect());
        let area = Area::of(&members, &outsiders);
        let ((low, high), name) = (area.interval().0.unwrap(), area.interval().1);
        assert_eq!((area.value, high, name), (1.0, 1.0, "newcombe"));
        let weight = 1.0 + 24.0 * (1.0 - low) / (2.0 - low) + 24.0 * low / (1.0 + low);
        assert!((1.0 - low - Z * (low * (1.0 - low) * weight / 600.0).sqrt()).abs() < 1e-9, "{low}");
        assert!((0.85..0.95).contains(&low), "{low}");
        let none = Area::of(&outsiders, &members);
        let (bottom, top) = none.interval().0.unwrap();
        assert!((bottom, (top - (1.0 - low)).abs() < 1e-6) == (0.0, true), "{top}");
        // Both whole: no difference, and room for one.
        let (below, above, level) = area.less(&area).unwrap();
        assert!(below < -0.05 && above > 0.05 && level == Some(1.0), "{below} {above} {level:?}");
    }

    #[test]
    fn an_interval_on_the_scale_of_log_odds_stays_inside() {
        let area = Area::of(&[3.0, 2.0, 9.0, 8.0], &[1.0, 2.0, 4.0]);
        let (low, high) = area.interval().0.unwrap();
        let odds = |share: f64| (share / (1.0 - share)).ln();
        assert!(low > 0.0 && high < 1.0 && low < area.value && area.value < high);
        assert!((odds(low) + odds(high) - 2.0 * odds(area.value)).abs() < 1e-9);
    }
}
