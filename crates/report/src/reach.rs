//! `Reached`: what one intervention does to the states, over all positions: displacement, amplification, final
//! difference, decomposition, certificates; from the `reach` table of rote-bound.

use std::collections::{BTreeMap, BTreeSet};

use rote_artifact::tables::Reach;

use crate::study::wilson;

/// Differences at or below this are taken for none: a token that sees only itself is not displaced by a bypass.
const NOTHING: f64 = 1e-9;

/// Median and quartiles over positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Middle {
    /// A quarter of the positions is below.
    pub low: f64,
    /// Half of them are.
    pub median: f64,
    /// Three quarters are.
    pub high: f64,
    /// Positions.
    pub n: u64,
}

impl Middle {
    fn of(values: impl Iterator<Item = f64>) -> Option<Middle> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (values.len().checked_sub(1)? as f64);
            let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
            Some(low + (high - low) * place.fract())
        };
        Some(Middle { low: at(0.25)?, median: at(0.5)?, high: at(0.75)?, n: values.len() as u64 })
    }
}

/// A share of positions with its Wilson interval, which takes positions as independent.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Share {
    /// The share.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Positions.
    pub n: u64,
}

impl Share {
    fn of(hits: u64, n: u64) -> Share {
        let (low, high) = wilson(hits, n);
        Share { value: hits as f64 / n as f64, low, high, n }
    }

    /// Of what this share holds or another of the same positions, which has none in common with it.
    pub fn or(self, other: Share) -> Share {
        Share::of(((self.value + other.value) * self.n as f64).round() as u64, self.n)
    }
}

/// One intervention.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Reached {
    /// Sequences behind it.
    pub requests: u64,
    /// Displacement of the first changed module's output, residual units.
    pub local: Option<Middle>,
    /// Difference at the last block's output, residual units.
    pub output: Option<Middle>,
    /// The same over the norm of the unchanged final state.
    pub relative: Option<Middle>,
    /// Final difference over local displacement.
    pub amplification: Option<Middle>,
    /// Share of the final difference that is the local displacement itself (K).
    pub direct: Option<Middle>,
    /// Share that later attention makes of it.
    pub later_attn: Option<Middle>,
    /// Share that later MLPs make of it.
    pub later_mlp: Option<Middle>,
    /// First-order estimate of the final difference; no bound.
    pub estimate: Option<Middle>,
    /// The same over the norm of the unchanged final state.
    pub estimate_relative: Option<Middle>,
    /// Bound on the final difference along the trajectory (E).
    pub bound: Option<Middle>,
    /// The same over the norm of the unchanged final state.
    pub bound_relative: Option<Middle>,
    /// Any final difference below it leaves the greedy token (I2).
    pub radius: Option<Middle>,
    /// Divergence of the next-token distributions, nats.
    pub kl: Option<Middle>,
    /// Fall of the true next token's log-probability, nats; negative where it rises.
    pub fall: Option<Middle>,
    /// Size of its change, nats.
    pub log_change: Option<Middle>,
    /// Bound on its fall, and so on the size of its change, nats (I3).
    pub fall_bound: Option<Middle>,
    /// Positions whose greedy token the bound alone proves unchanged.
    pub certified: Share,
    /// Positions whose greedy token the measured difference proves unchanged.
    pub within: Share,
    /// Positions unchanged without a proof from either.
    pub unproven: Share,
    /// Positions whose greedy token changes.
    pub changed: Share,
}

/// By intervention.
pub fn reached(rows: &[Reach]) -> BTreeMap<String, Reached> {
    let mut groups: BTreeMap<&str, Vec<&Reach>> = BTreeMap::new();
    for row in rows {
        groups.entry(&row.change).or_default().push(row);
    }
    groups.into_iter().map(|(change, rows)| (change.to_string(), one(&rows))).collect()
}

fn one(rows: &[&Reach]) -> Reached {
    let of = |value: fn(&Reach) -> f64| Middle::of(rows.iter().map(|row| value(row)));
    // The last position has no next token.
    let asked = |value: fn(&Reach) -> Option<f64>| Middle::of(rows.iter().filter_map(|row| value(row)));
    // Where nothing is displaced there is nothing to grow and nothing to share out.
    let moved = |value: fn(&Reach) -> f64| {
        let moved = rows.iter().filter(|row| row.local > NOTHING && row.output > NOTHING);
        Middle::of(moved.map(|row| value(row)))
    };
    let n = rows.len() as u64;
    let share = |holds: fn(&Reach) -> bool| Share::of(rows.iter().filter(|row| holds(row)).count() as u64, n);
    Reached {
        requests: rows.iter().map(|row| row.request).collect::<BTreeSet<_>>().len() as u64,
        local: of(|row| row.local),
        output: of(|row| row.output),
        relative: of(|row| row.output / row.state),
        amplification: moved(|row| row.output / row.local),
        direct: moved(|row| row.direct),
        later_attn: moved(|row| row.later_attn),
        later_mlp: moved(|row| row.later_mlp),
        estimate: of(|row| row.estimate),
        estimate_relative: of(|row| row.estimate / row.state),
        bound: of(|row| row.bound),
        bound_relative: of(|row| row.bound / row.state),
        radius: of(|row| row.radius),
        kl: of(|row| row.kl),
        fall: asked(|row| row.logprob_change.map(|change| -change)),
        log_change: asked(|row| row.logprob_change.map(f64::abs)),
        fall_bound: asked(|row| row.logprob_fall),
        certified: share(|row| row.certified),
        within: share(|row| row.within && !row.certified),
        unproven: share(|row| !row.changed && !row.within && !row.certified),
        changed: share(|row| row.changed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(position: u32, local: f64, output: f64, radius: f64, bound: f64, changed: bool) -> Reach {
        Reach {
            change: "attn.identity@1".into(),
            position,
            local,
            output,
            state: 10.0,
            bound,
            radius,
            changed,
            certified: bound < radius,
            within: output < radius,
            ..Reach::default()
        }
    }

    #[test]
    fn a_token_that_is_not_displaced_has_no_amplification() {
        let rows = [
            row(0, 0.0, 0.0, 1.0, 0.0, false),
            row(1, 1.0, 3.0, 2.0, 9.0, true),
            row(2, 2.0, 4.0, 5.0, 9.0, false),
            row(3, 1.0, 4.0, 2.0, 9.0, false),
        ];
        let reached = &reached(&rows)["attn.identity@1"];
        assert_eq!(reached.amplification.map(|middle| (middle.median, middle.n)), Some((3.0, 3)));
        assert_eq!(reached.relative.map(|middle| (middle.median, middle.n)), Some((0.35, 4)));
        let shares = [reached.certified, reached.within, reached.unproven, reached.changed];
        assert_eq!(shares.map(|share| share.value), [0.25; 4]);
    }

    #[test]
    fn quartiles_lie_between_values() {
        let middle = Middle::of([4.0, 1.0, 2.0, 3.0].into_iter()).unwrap();
        assert_eq!((middle.low, middle.median, middle.high, middle.n), (1.75, 2.5, 3.25, 4));
        assert_eq!(Middle::of(std::iter::empty()), None);
    }
}
