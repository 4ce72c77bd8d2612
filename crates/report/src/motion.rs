//! How far a bypass moves the model, what becomes of the displacement on its way, and which decisions it provably
//! leaves: the `reach` table, drawn.

use crate::change::Change;
use crate::depth::{log_axis, middle_text};
use crate::figure::{Axis, Draw, Figure, Panel, Point, Series};
use crate::figures::{block_axis, from_bounds, over_blocks, panel};
use crate::frames::Spread;
use crate::number::{percent, plain};
use crate::reach::{Middle, Reached, Share};
use crate::study::{Model, Study};

type Pick = fn(&Reached) -> Option<Middle>;

/// A median over positions, block by block.
pub fn curve(model: &Model, name: &str, style: usize, pick: Pick) -> Option<Series> {
    over_blocks(name, style, None, model.blocks(), |x, change| {
        let middle = pick(model.reached.get(&change.text)?)?;
        Some(from_middle(x, middle, change))
    })
}

/// A median with its quartiles.
pub fn from_middle(x: f64, middle: Middle, change: &Change) -> Point {
    Point {
        x,
        y: middle.median,
        y_interval: (middle.low, middle.high).into(),
        n: Some(middle.n),
        of: change.text.clone(),
        ..Point::default()
    }
}

fn share_axis(label: &str, range: Option<(f64, f64)>) -> Axis {
    Axis { label: label.into(), percent: true, range, ..Axis::default() }
}

fn each<'a>(
    study: &'a Study,
    draw: impl Fn(&Model) -> Option<Panel> + 'a,
) -> impl Iterator<Item = Panel> + 'a {
    study.models.iter().filter_map(move |model| from_bounds(model, draw(model)))
}

/// Local displacement, final difference, amplification.
pub fn displacement(study: &Study) -> Figure {
    let absolute = each(study, |model| {
        let series = vec![
            curve(model, "at the block", 2, |reached| reached.local),
            curve(model, "at the end", 0, |reached| reached.output),
            curve(model, "end, estimate", 4, |reached| reached.estimate),
        ];
        panel(&model.label, block_axis(model), log_axis("difference, residual units (log scale)"), series)
    });
    let relative = each(study, |model| {
        let series = vec![
            curve(model, "at the end", 0, |reached| reached.relative),
            curve(model, "end, estimate", 4, |reached| reached.estimate_relative),
        ];
        let y = share_axis("final difference over the norm of the final state", None);
        panel(&model.label, block_axis(model), y, series)
    });
    let amplification = each(study, |model| {
        let series = vec![curve(model, "amplification", 3, |reached| reached.amplification)];
        let y = log_axis("amplification: final over local difference (log scale)");
        panel(&model.label, block_axis(model), y, series)
    });
    Figure {
        name: "displacement",
        title: "How far bypassing one block moves the states".into(),
        caption: "Measured from two runs in double precision: by how much the bypassed module's own output is \
                  displaced (at the block), by how much the last block's output then differs (at the end), the ratio of \
                  the two (amplification), and the final difference relative to the norm of the residual stream there. \
                  The first-order estimate pushes the displacement through the model's linearisation; it is an \
                  estimate, no bound. Medians over positions; bars reach from the first to the third quartile. \
                  Amplification is of positions that are displaced."
            .into(),
        columns: ("block", "difference"),
        from: &["bounds"],
        panels: absolute.chain(relative).chain(amplification).collect(),
    }
}

/// Theorem K: who makes the final difference.
pub fn direct_share(study: &Study) -> Figure {
    let panels = each(study, |model| {
        let series = vec![
            curve(model, "direct", 2, |reached| reached.direct),
            curve(model, "later attention", 0, |reached| reached.later_attn),
            curve(model, "later MLPs", 1, |reached| reached.later_mlp),
        ];
        panel(&model.label, block_axis(model), share_axis("share of the final difference", None), series)
    });
    Figure {
        name: "direct-share",
        title: "Who makes the final difference".into(),
        caption: "The final difference is exactly the local displacement plus what each later module then does \
                  differently (K). Shares are of its length, projected on its direction, and sum to one at each \
                  position; a module that works against the difference has a negative share. Direct: the local \
                  displacement itself. Medians over displaced positions; bars reach from the first to the third \
                  quartile."
            .into(),
        columns: ("block", "share"),
        from: &["bounds"],
        panels: panels.collect(),
    }
}

/// Certified radius beside the measured distance; certificates per block.
pub fn certificates(study: &Study) -> Figure {
    let radius = each(study, |model| {
        let series = vec![
            curve(model, "E, bound", 1, |reached| reached.bound),
            curve(model, "measured", 0, |reached| reached.output),
            curve(model, "radius", 2, |reached| reached.radius),
        ];
        let y = log_axis("final difference and certified radius, residual units (log scale)");
        panel(&model.label, block_axis(model), y, series)
    });
    let shares = each(study, |model| {
        let stack = |name: &str, style: usize, pick: fn(&Reached) -> Share| {
            let series = over_blocks(name, style, None, model.blocks(), |x, change| {
                let share = pick(model.reached.get(&change.text)?);
                Some(Point {
                    x,
                    y: share.value,
                    y_interval: (share.low, share.high).into(),
                    n: Some(share.n),
                    of: change.text.clone(),
                    ..Point::default()
                })
            });
            series.map(|series| Series { draw: Draw::Columns, ..series })
        };
        let series = vec![
            stack("certified", 2, |reached| reached.certified),
            stack("by distance", 6, |reached| reached.within),
            stack("unchanged, not certified", 4, |reached| reached.unproven),
            stack("changed", 1, |reached| reached.changed),
        ];
        let last = f64::from(model.n_blocks().max(1) - 1);
        let x = Axis { range: Some((-0.5, last + 0.5)), ..block_axis(model) };
        panel(&model.label, x, share_axis("share of positions", Some((0.0, 1.0))), series)
    });
    Figure {
        name: "certificates",
        title: "Which greedy tokens provably stay".into(),
        caption: "Radius: any final difference below the certified radius leaves the greedy token (I2); beside it the \
                  measured difference and its bound along the trajectory (E), medians over positions, bars from \
                  the first to the third quartile. Shares of all positions: certified unchanged by the bound alone; \
                  unchanged by the measured distance, which is below the radius, so that no state within this \
                  distance could change it; unchanged but not certified; changed. Their intervals, in the CSV, are \
                  Wilson's and take positions as independent."
            .into(),
        columns: ("block", "value"),
        from: &["bounds"],
        panels: radius.chain(shares).collect(),
    }
}

/// What becomes of probabilities: divergence, and the true next token's, each beside its bound (I3).
pub fn probabilities(study: &Study) -> Figure {
    let divergence = each(study, |model| {
        let bound = over_blocks("I3, bound", 1, None, model.blocks(), |x, change| {
            let of_change = |group: &&Spread| group.bound == "kl" && group.change == change.text;
            Some(from_middle(x, model.bounds.iter().find(of_change)?.value, change))
        });
        let series = vec![curve(model, "measured", 0, |reached| reached.kl), bound];
        panel(&model.label, block_axis(model), log_axis("KL divergence, nats (log scale)"), series)
    });
    let change = each(study, |model| {
        let series = vec![
            curve(model, "measured", 0, |reached| reached.log_change),
            curve(model, "I3, bound", 1, |reached| reached.fall_bound),
        ];
        let y = log_axis("change of the true token's log-probability, nats (log scale)");
        panel(&model.label, block_axis(model), y, series)
    });
    let fall = each(study, |model| {
        let series = vec![curve(model, "measured", 0, |reached| reached.fall)];
        let y = Axis { label: "fall of the true token's log-probability, nats".into(), ..Axis::default() };
        panel(&model.label, block_axis(model), y, series)
    });
    Figure {
        name: "probabilities",
        title: "What bypassing one block does to the next token's probability".into(),
        caption: "Divergence of the changed next-token distribution from the unchanged one, and by how much the \
                  log-probability of the true next token changes and falls (below zero: it rises), each measured and \
                  as bounded along the trajectory (I3). The bound on the fall holds for a rise as well. Medians over \
                  positions, bars from the first to the third quartile."
            .into(),
        columns: ("block", "nats"),
        from: &["bounds"],
        panels: divergence.chain(change).chain(fall).collect(),
    }
}

/// What the certificates come to, in a sentence.
pub fn sentence(model: &Model) -> Option<String> {
    let blocks: Vec<(u32, &Reached)> = model
        .blocks()
        .filter_map(|(block, change)| Some((block, model.reached.get(&change.text)?)))
        .collect();
    let best = |pick: fn(&Reached) -> f64| {
        blocks.iter().max_by(|a, b| pick(a.1).total_cmp(&pick(b.1)).then(b.0.cmp(&a.0))).copied()
    };
    let (block, most) = best(|reached| reached.certified.value)?;
    let (near, within) = best(|reached| reached.certified.value + reached.within.value)?;
    let (radius, nearest) =
        (most.radius?, best(|reached| -reached.output.map_or(f64::INFINITY, |o| o.median))?);
    let share = |block: u32, share: Share| {
        let (low, high) = (percent(share.low), percent(share.high));
        format!(
            "{} of positions (block {block}; 95 % interval {low} to {high}, n {})",
            percent(share.value),
            share.n
        )
    };
    Some(format!(
        "The bound alone certifies the greedy token of at most {}, the measured distance of at most {}; these \
         intervals take positions as independent. The certified radius is {} in the median, the measured \
         difference at least {} at block {} (in brackets quartiles).",
        share(block, most.certified),
        share(near, within.certified.or(within.within)),
        middle_text(radius, plain),
        middle_text(nearest.1.output?, plain),
        nearest.0
    ))
}
