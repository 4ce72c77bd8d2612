//! What sampling would give: p_z, the chance that one draw is the whole suffix, and (n, p)-discoverable
//! extraction made of it (Hayes and others, "Measuring memorization in language models via probabilistic
//! extraction", NAACL 2025).
//!
//! Draws are as the outcomes say: at temperature 1 from the model's own distribution, or, where
//! `rote-intervene` was told a temperature, top-k or top-p, from what these make of it. All in logs: the plain
//! form 1 − (1 − p)ⁿ loses every p below 1e-16, and no real suffix is that likely.

use super::{Metric, Options, Pool, Sample, Spread};
use crate::answers::Answer;

/// exp(Σ log p̃), the chance of one draw.
pub(super) const P_Z: Metric = Metric {
    name: "p_z",
    kind: "sequence",
    sample: |answers, _| Sample::one(log_p_z(answers)?.exp()),
    pool: Pool::Mean,
    spread: Spread::Unit,
};

/// Share of suffixes that the sampler can give at all: top-k and top-p may leave out a token.
pub(super) const REACHABLE: Metric = Metric {
    name: "reachable",
    kind: "sequence",
    sample: |answers, _| Sample::of(drawn(answers)? > f64::NEG_INFINITY),
    pool: Pool::Mean,
    spread: Spread::Share,
};

/// Decimal logarithm of p_z under the sampler, of suffixes that are reachable under every intervention.
pub(super) const LOG10_P_Z: Metric = Metric {
    name: "log10_p_z",
    kind: "sequence",
    sample: |answers, _| {
        let reached = drawn(answers).filter(|logprob| *logprob > f64::NEG_INFINITY)?;
        Sample::one(reached / std::f64::consts::LN_10)
    },
    pool: Pool::Mean,
    spread: Spread::Mean,
};

/// The chance that `n` draws give the suffix at least once: 1 − (1 − p_z)ⁿ.
pub(super) const DISCOVERABLE: Metric = Metric {
    name: "discoverable",
    kind: "sequence",
    sample: |answers, options| Sample::one(at_least_once(log_p_z(answers)?, options.draws)),
    pool: Pool::Mean,
    spread: Spread::Unit,
};

/// Share of (n, p)-discoverable suffixes: those that `n` draws give at least once with chance `p` or more.
pub(super) const EXTRACTABLE: Metric = Metric {
    name: "np_discoverable",
    kind: "sequence",
    sample: |answers, options| Sample::of(is_discoverable(log_p_z(answers)?, options)),
    pool: Pool::Mean,
    spread: Spread::Share,
};

/// Draws until the suffix is given with chance `p`, as a decimal logarithm (the number itself overflows); at
/// least one draw. Of suffixes that are reachable under every intervention.
pub(super) const DRAWS: Metric = Metric {
    name: "draws_log10",
    kind: "sequence",
    sample: |answers, options| Sample::one(draws_log10(reachable(answers)?, options.chance)),
    pool: Pool::Mean,
    spread: Spread::Mean,
};

/// Log-probability of one draw from the outcomes' sampler, if they have one; −∞ where a token is never drawn.
fn drawn(answers: &[Answer]) -> Option<f64> {
    let tokens = answers.first()?.tokens;
    tokens.first()?;
    tokens.iter().map(|token| token.sampled).sum()
}

/// The same, or without a sampler from the model's own distribution.
fn log_p_z(answers: &[Answer]) -> Option<f64> {
    drawn(answers).or(Some(answers.first()?.logprob))
}

fn reachable(answers: &[Answer]) -> Option<f64> {
    log_p_z(answers).filter(|logprob| *logprob > f64::NEG_INFINITY)
}

/// ln(−ln(1 − e^logprob)): how fast draws miss. Below e^−30 it is `logprob` to the last digit, where 1 − p
/// would be 1.
fn log_rate(logprob: f64) -> f64 {
    if logprob < -30.0 { logprob } else { (-(-logprob.exp()).ln_1p()).ln() }
}

fn at_least_once(logprob: f64, draws: f64) -> f64 {
    -(-(draws.ln() + log_rate(logprob)).exp()).exp_m1()
}

/// n · −ln(1 − p_z) ≥ −ln(1 − p).
fn is_discoverable(logprob: f64, options: &Options) -> bool {
    options.draws.ln() + log_rate(logprob) >= (-(-options.chance).ln_1p()).ln()
}

fn draws_log10(logprob: f64, chance: f64) -> f64 {
    (((-(-chance).ln_1p()).ln() - log_rate(logprob)) / std::f64::consts::LN_10).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Token;
    use crate::metrics::tests::{of_tokens, token};

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-12 * expected.abs(), "{value} is not {expected}");
    }

    #[test]
    fn discoverable_extraction_agrees_with_the_plain_form_where_that_works() {
        close(at_least_once(0.25f64.ln(), 3.0), 1.0 - 0.75f64.powi(3));
        close(at_least_once(0.0, 1.0), 1.0);
        close(draws_log10(0.25f64.ln(), 0.5), (0.5f64.ln() / 0.75f64.ln()).log10());
    }

    #[test]
    fn discoverable_extraction_keeps_probabilities_far_below_one_unit_in_the_last_place() {
        // 1 − e^−50 is 1 in plain floating point, so the plain form gives 0 here.
        close(at_least_once(-50.0, 1e6), 1e6 * (-50f64).exp());
        close(draws_log10(-2000.0, 0.5), (2000.0 + (2f64.ln()).ln()) / std::f64::consts::LN_10);
        close(draws_log10(-30.000_1, 0.5), draws_log10(-29.999_9, 0.5) + 0.000_2 / std::f64::consts::LN_10);
        assert_eq!(draws_log10(0.0, 0.5), 0.0);
    }

    #[test]
    fn a_suffix_is_discoverable_from_the_chance_on() {
        let with = |draws, chance, logprob: f64| {
            is_discoverable(logprob, &Options { draws, chance, ..Options::default() })
        };
        // 1 − 0.75³ = 0.578125.
        assert!(with(3.0, 0.578, 0.25f64.ln()) && !with(3.0, 0.579, 0.25f64.ln()));
        assert!(with(1.0, 0.999, 0.0) && !with(1e300, 1e-9, f64::NEG_INFINITY));
        // e^−50 · 10^21 = 0.193, and 1 − e^−0.193 = 0.175.
        assert!(with(1e21, 0.17, -50.0) && !with(1e21, 0.18, -50.0));
    }

    #[test]
    fn draws_are_from_the_sampler_where_the_outcomes_have_one() {
        let plain = [token(7, 7, None); 3];
        close(of_tokens(&P_Z, &plain).unwrap(), 0.125);
        assert_eq!((of_tokens(&REACHABLE, &plain), of_tokens(&LOG10_P_Z, &plain)), (None, None));
        let sampled = [-0.5, 0.0, -1.0].map(|s| Token { sampled: Some(s), ..token(7, 7, None) });
        close(of_tokens(&P_Z, &sampled).unwrap(), (-1.5f64).exp());
        close(of_tokens(&LOG10_P_Z, &sampled).unwrap(), -1.5 / std::f64::consts::LN_10);
        close(of_tokens(&DISCOVERABLE, &sampled).unwrap(), 1.0 - (1.0 - (-1.5f64).exp()).powi(100));
        assert_eq!(of_tokens(&EXTRACTABLE, &sampled), Some(1.0));
    }

    #[test]
    fn a_suffix_out_of_reach_has_no_chance_and_no_number_of_draws() {
        let never = [-0.5, f64::NEG_INFINITY].map(|s| Token { sampled: Some(s), ..token(7, 7, None) });
        assert_eq!(of_tokens(&P_Z, &never), Some(0.0));
        assert_eq!(of_tokens(&REACHABLE, &never), Some(0.0));
        assert_eq!(of_tokens(&DISCOVERABLE, &never), Some(0.0));
        assert_eq!(of_tokens(&EXTRACTABLE, &never), Some(0.0));
        assert_eq!((of_tokens(&DRAWS, &never), of_tokens(&LOG10_P_Z, &never)), (None, None));
    }
}
