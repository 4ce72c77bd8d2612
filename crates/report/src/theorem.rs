//! What the names in the `bound` column stand for, and when a bound is called informative.

use crate::frames::Spread;

/// Where a quantity is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At the bypassed block.
    Local,
    /// At the output of a later block.
    Output,
    /// At the logits, decisions and probabilities.
    Decision,
}

/// A theorem as the report shows it.
pub struct Theorem {
    /// Letter and short name.
    pub label: String,
    /// Where it speaks.
    pub place: Place,
    /// Whether it is an equality: its value is what was measured.
    pub equality: bool,
    /// Whether it is an estimate, which may fall below what was measured.
    pub estimate: bool,
    /// Whether both sides are logarithms to base ten.
    pub logarithmic: bool,
    /// Whether the row is a measurement only.
    pub measured_only: bool,
}

/// Name, label, place; by exact name, or by the start where the name ends in a dot.
const KNOWN: [(&str, &str, Place); 21] = [
    ("local.exact", "A0 exact", Place::Local),
    ("local.heads", "A1 heads", Place::Local),
    ("local.spread", "A2 spread", Place::Local),
    ("local.farthest", "A3 farthest", Place::Local),
    ("local.row", "A4 row", Place::Local),
    ("local.weights", "A5 weights", Place::Local),
    ("local.subset", "H2 subset", Place::Local),
    ("local.anypattern", "H3 any pattern", Place::Local),
    ("first.token", "B1 first token", Place::Output),
    ("out.trajectory", "E trajectory", Place::Output),
    ("out.additive", "F2 additive", Place::Output),
    ("out.product", "F1 product (log₁₀)", Place::Output),
    ("out.lookahead.", "G look-ahead", Place::Output),
    ("logit.max", "I1 logits", Place::Decision),
    ("margin.loss", "I2 margin", Place::Decision),
    ("logp.fall", "I3 log p, fall", Place::Decision),
    ("logp.rise", "I3 log p, rise", Place::Decision),
    ("kl", "I3 KL", Place::Decision),
    ("tv", "I3 total variation", Place::Decision),
    ("estimate.", "estimate", Place::Output),
    ("measured.", "measured", Place::Output),
];

/// What `name` stands for.
pub fn theorem(name: &str) -> Theorem {
    let known = KNOWN
        .iter()
        .find(|(known, _, _)| if known.ends_with('.') { name.starts_with(known) } else { name == *known });
    let (label, place) = match known {
        Some((known, label, place)) if known.ends_with('.') => {
            (format!("{label} {}", &name[known.len()..]), *place)
        }
        Some((_, label, place)) => (label.to_string(), *place),
        None if name.starts_with("local.") => (name.to_string(), Place::Local),
        None if name.starts_with("out.") => (name.to_string(), Place::Output),
        None => (name.to_string(), Place::Decision),
    };
    Theorem {
        label,
        place,
        equality: matches!(name, "local.exact" | "first.token"),
        estimate: name.starts_with("estimate."),
        logarithmic: name == "out.product",
        measured_only: name.starts_with("measured."),
    }
}

/// Place of a theorem in tables.
pub fn rank(name: &str) -> (usize, String) {
    let known =
        KNOWN.iter().position(
            |(known, _, _)| if known.ends_with('.') { name.starts_with(known) } else { name == *known },
        );
    (known.unwrap_or(KNOWN.len()), name.to_string())
}

/// The median of bound / measured up to which a bound is called informative.
pub const INFORMATIVE: f64 = 10.0;
/// From here on a bound says nothing about the measured value.
pub const VACUOUS: f64 = 1000.0;

/// What a bound is worth.
pub fn verdict(spread: &Spread) -> &'static str {
    let theorem = theorem(&spread.bound);
    if theorem.measured_only {
        return "measured";
    }
    if theorem.estimate {
        return "estimate, no bound";
    }
    if spread.violations > 0 {
        return "VIOLATED";
    }
    if theorem.equality {
        return "exact";
    }
    if theorem.logarithmic {
        // Both sides are exponents: their difference is the power of ten.
        return if spread.value - spread.measured >= VACUOUS.log10() { "says nothing" } else { "loose" };
    }
    match spread.ratio_median {
        None => "no difference to bound",
        Some(ratio) if ratio <= INFORMATIVE => "informative",
        Some(ratio) if ratio < VACUOUS => "loose",
        Some(_) => "says nothing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_median() {
        let check = |bound: &str, ratio: Option<f64>, violations: u64, expected: &str| {
            let spread = Spread {
                bound: bound.into(),
                change: String::new(),
                block: 0,
                n: 10,
                value: 40.0,
                measured: 1.0,
                ratio_median: ratio,
                ratio_p90: ratio,
                n_ratio: 9,
                violations,
            };
            assert_eq!(verdict(&spread), expected);
        };
        check("local.row", Some(2.0), 0, "informative");
        check("local.row", Some(2.0), 1, "VIOLATED");
        check("local.weights", Some(1e5), 0, "says nothing");
        check("local.exact", Some(1.0), 0, "exact");
        check("out.product", Some(40.0), 0, "says nothing");
        check("estimate.jvp", Some(0.4), 3, "estimate, no bound");
        check("kl", None, 0, "no difference to bound");
    }

    #[test]
    fn names_have_labels_and_an_order() {
        assert_eq!(theorem("out.lookahead.2").label, "G look-ahead 2");
        assert_eq!(theorem("local.new").place, Place::Local);
        assert!(rank("local.exact") < rank("out.trajectory"));
    }
}
