//! When a continuation counts as memorized: when greedy decoding gives it, or when so many draws give it at
//! least once with such a chance, which is called (n, p)-discoverable (Hayes and others, NAACL 2025).

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Criterion {
    /// Greedy decoding gives all of it.
    Exact,
    /// `draws` draws give it at least once with a chance of `chance` or more.
    Discoverable {
        /// n.
        draws: f64,
        /// p, between 0 and 1.
        chance: f64,
    },
}

impl Criterion {
    /// Whether a continuation is memorized that greedy decoding gives or not (`exact`) and that one draw
    /// gives with log-probability `sampled`.
    pub fn holds(self, exact: bool, sampled: f64) -> bool {
        match self {
            Criterion::Exact => exact,
            // 1 − (1 − e^s)^n ≥ p, in logs, where 1 − e^s would be 1 below e^−37.
            Criterion::Discoverable { draws, chance } => {
                let missed = if sampled < -30.0 { -sampled.exp() } else { (-sampled.exp()).ln_1p() };
                draws * missed <= (-chance).ln_1p()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_decoding_decides_unless_draws_are_asked_for() {
        assert!(Criterion::Exact.holds(true, -100.0));
        assert!(!Criterion::Exact.holds(false, -0.1));
        let drawn = |draws, chance, sampled| Criterion::Discoverable { draws, chance }.holds(false, sampled);
        // 1 − 0.75³ = 0.578.
        assert!(drawn(3.0, 0.57, 0.25f64.ln()));
        assert!(!drawn(3.0, 0.58, 0.25f64.ln()));
        assert!(drawn(1.0, 0.999, 0.0));
        assert!(!drawn(1e9, 1e-9, f64::NEG_INFINITY));
    }

    #[test]
    fn small_chances_add_up_over_many_draws() {
        // e^−50 · 10^21 is 0.19, and 1 − e^−0.19 = 0.175; in plain floating point 1 − e^−50 is 1.
        let drawn = |chance| Criterion::Discoverable { draws: 1e21, chance }.holds(false, -50.0);
        assert!(drawn(0.17));
        assert!(!drawn(0.18));
    }
}
