//! What the names in the `bound` column stand for, and where they speak.

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
    ("norm.trajectory", "E final norm", Place::Decision),
    ("estimate.linear", "estimate, no bound", Place::Output),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_labels_and_an_order() {
        assert_eq!(theorem("out.lookahead.2").label, "G look-ahead 2");
        assert_eq!(theorem("local.new").place, Place::Local);
        assert!(rank("local.exact") < rank("out.trajectory"));
    }
}
