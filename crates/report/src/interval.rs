//! `Interval`: the ends between which a number lies, either of which may be unknown.

/// Ends, of 95 % where nothing else is said. Where one is missing the number has no bound on that side; where both are,
/// no interval is known, and nothing is certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl Interval {
    /// What is not finite is no end.
    pub fn new(low: Option<f64>, high: Option<f64>) -> Interval {
        let end = |end: Option<f64>| end.filter(|end| end.is_finite());
        Interval { low: end(low), high: end(high) }
    }

    /// Between two ends.
    pub fn between(low: f64, high: f64) -> Interval {
        Interval::new(Some(low), Some(high))
    }

    /// Whether all of it is known to lie above `limit`.
    pub fn is_above(self, limit: f64) -> bool {
        self.low.is_some_and(|low| low > limit)
    }

    /// Whether all of it is known to lie below `limit`.
    pub fn is_below(self, limit: f64) -> bool {
        self.high.is_some_and(|high| high < limit)
    }

    /// Both ends for a drawing, a missing one at infinity; none where no interval is known.
    pub fn ends(self) -> Option<(f64, f64)> {
        let known = self.low.is_some() || self.high.is_some();
        known.then_some((self.low.unwrap_or(f64::NEG_INFINITY), self.high.unwrap_or(f64::INFINITY)))
    }

    /// In words, its ends as `write` writes them; none where no interval is known.
    pub fn text(self, write: impl Fn(f64) -> String) -> Option<String> {
        match (self.low, self.high) {
            (Some(low), Some(high)) => Some(format!("{} to {}", write(low), write(high))),
            (None, Some(high)) => Some(format!("at most {}", write(high))),
            (Some(low), None) => Some(format!("at least {}", write(low))),
            (None, None) => None,
        }
    }
}

impl From<(f64, f64)> for Interval {
    fn from((low, high): (f64, f64)) -> Interval {
        Interval::between(low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_certain() {
        let open = Interval::between(f64::NAN, 0.5);
        assert_eq!((open.is_above(-1e9), open.is_below(0.6), open.is_below(0.5)), (false, true, false));
        assert_eq!(open.ends(), Some((f64::NEG_INFINITY, 0.5)));
        let unknown = Interval::default();
        assert_eq!((unknown.is_above(-1e9), unknown.is_below(1e9), unknown.ends()), (false, false, None));
    }

    #[test]
    fn a_missing_end_is_said() {
        let text = |low: f64, high: f64| Interval::between(low, high).text(|end| end.to_string());
        let told = [text(1.0, 2.0), text(f64::NAN, 2.0), text(1.0, f64::INFINITY), text(f64::NAN, f64::NAN)];
        assert_eq!(told.map(Option::unwrap_or_default), ["1 to 2", "at most 2", "at least 1", ""]);
    }
}
