//! The promise: every row of a proven bound is compared with what was measured, and one that is exceeded is
//! a defect, told with its place.

use std::borrow::Cow;

use anyhow::{Result, bail};

/// What a row of the `bound` table claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `measured <= value`.
    Bound,
    /// `measured = value` up to the slack that is in `value`.
    Equality,
    /// Nothing: an estimate.
    Estimate,
}

/// The theorems, in the order of the rows.
pub const THEOREMS: [(&str, Claim); 21] = [
    ("local.exact", Claim::Equality),
    ("local.heads", Claim::Bound),
    ("local.spread", Claim::Bound),
    ("local.farthest", Claim::Bound),
    ("local.row", Claim::Bound),
    ("local.weights", Claim::Bound),
    ("local.subset", Claim::Bound),
    ("local.anypattern", Claim::Bound),
    ("first.token", Claim::Equality),
    ("out.trajectory", Claim::Bound),
    ("out.additive", Claim::Bound),
    ("out.product", Claim::Bound),
    ("out.lookahead", Claim::Bound),
    ("norm.trajectory", Claim::Bound),
    ("logit.max", Claim::Bound),
    ("margin.loss", Claim::Bound),
    ("logp.fall", Claim::Bound),
    ("logp.rise", Claim::Bound),
    ("kl", Claim::Bound),
    ("tv", Claim::Bound),
    ("estimate.linear", Claim::Estimate),
];

/// The claim of a row by its name; `out.lookahead.2` is an `out.lookahead`.
pub fn claim(name: &str) -> Option<Claim> {
    let known = THEOREMS.iter().find(|(known, _)| {
        name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || *known == "out.lookahead")
    });
    known.map(|(_, claim)| *claim)
}

/// One row before it is written.
#[derive(Clone, Debug)]
pub struct Row {
    /// Block whose output differs; -1 the final norm, -2 the logits.
    pub block: i32,
    /// Index in context ++ continuation.
    pub position: u32,
    /// The theorem.
    pub bound: Cow<'static, str>,
    /// Upper bound, with its slack.
    pub value: f64,
    /// What it bounds.
    pub measured: f64,
    /// How much of `value` was added for rounding, step by step; what an equality may be off by on each side.
    pub slack: f64,
    /// What holds without any theorem, or what a bound must stay below to say anything.
    pub trivial: f64,
}

impl Row {
    /// Fails where the row is exceeded, or is no number.
    ///
    /// # Errors
    /// Names change, block, request, position and theorem.
    pub fn check(&self, change: &str, request: u32) -> Result<()> {
        let Row { block, position, bound, value, measured, slack, .. } = self;
        let place =
            || format!("{bound} of `{change}` at block {block}, request {request}, position {position}");
        if !value.is_finite() || !measured.is_finite() {
            bail!("{}: value {value}, measured {measured}: weights or states are too large for f64", place());
        }
        let claim = claim(bound);
        let broken = match claim {
            Some(Claim::Bound) => measured > value,
            Some(Claim::Equality) => measured > value || *measured < value - 2.0 * slack,
            Some(Claim::Estimate) => false,
            None => bail!("{bound} is no theorem of this program"),
        };
        if broken {
            bail!("{}: measured {measured:e}, bound {value:e}: this is a defect of the program", place());
        }
        Ok(())
    }
}
