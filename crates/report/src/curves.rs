//! Curves against something other than the block: general ability, length of the prefix, times seen.

use crate::change::{Change, Sort};
use crate::figure::Panel;
use crate::figure::{Axis, Draw, Figure, Label, Point, Series};
use crate::figures::{from_loss, from_row, loss_axis, panel, share_axis};
use crate::number::listing;
use crate::scale::Spread;
use crate::study::{Loss, Model, Study, wilson};

/// Recall lost against general ability lost, with the curve of the bypasses that none beats on both.
pub fn trade_off(study: &Study) -> Figure {
    let panels = study.models.iter().filter_map(|model| {
        let points = model.trade_off();
        let best = model.best().map(|best| best.0.text.clone());
        let group = |name: &str, style: usize, belongs: fn(Sort) -> bool| {
            let points: Vec<_> = points
                .iter()
                .filter(|(change, recall, general)| {
                    belongs(change.sort) && recall.value.is_finite() && general.value.is_finite()
                })
                .map(|(change, recall, general)| Point {
                    x: general.value,
                    x_interval: general.interval,
                    // Controls are told by their mark; their names would crowd out those of the bypasses.
                    label: change.is_bypass().then(|| match best.as_ref() == Some(&change.text) {
                        true => Label::Sure(format!("best: {}", change.label)),
                        false => Label::Spare(change.label.clone()),
                    }),
                    sources: model.named(recall.origin | general.origin),
                    ..from_loss(model, 0.0, change, *recall)
                })
                .collect();
            (!points.is_empty()).then(|| Series {
                name: name.into(),
                style,
                draw: Draw::Marks,
                rule: None,
                points,
            })
        };
        let series = vec![
            group("one block", 0, |sort| matches!(sort, Sort::Block(_))),
            group("several blocks", 2, |sort| sort == Sort::Set),
            group("heads", 3, |sort| sort == Sort::Heads),
            group("random heads", 1, |sort| sort == Sort::Random),
            group("attention zeroed", 5, |sort| matches!(sort, Sort::Zero(_) | Sort::ZeroHeads)),
            group("MLP zeroed", 6, |sort| matches!(sort, Sort::Mlp(_))),
            group("other", 4, |sort| sort == Sort::Other),
            frontier(model, &points),
        ];
        let x = loss_axis("mean relative loss on the benchmarks", points.iter().map(|point| point.2));
        let y = loss_axis("relative loss of recall", points.iter().map(|point| point.1));
        panel(&model.label, x, y, series).map(|panel| Panel { diagonal: true, ..panel })
    });
    Figure {
        name: "trade-off",
        title: "Recall lost against general ability lost".into(),
        caption: "Each point is one intervention; numbers are blocks. Upper left: recall goes and ability stays. \
                  The curve joins the bypasses, of one block, sets or heads, that no other beats on both. On the thin \
                  straight line both lose the same share. Attention zeroed and heads drawn by lot are controls, \
                  without labels; other points without one found no room for it. All are in the table."
            .into(),
        columns: ("benchmark_loss", "recall_loss"),
        from: &["scores"],
        panels: panels.collect(),
    }
}

/// The bypasses that no other beats on both counts, from the cheapest to the most thorough.
fn frontier(model: &Model, points: &[(&Change, Loss, Loss)]) -> Option<Series> {
    let mut bypasses: Vec<_> = points
        .iter()
        .filter(|(change, recall, general)| {
            change.is_bypass() && recall.value.is_finite() && general.value.is_finite()
        })
        .collect();
    bypasses.sort_by(|a, b| a.2.value.total_cmp(&b.2.value).then(b.1.value.total_cmp(&a.1.value)));
    let mut highest = f64::NEG_INFINITY;
    bypasses.retain(|(_, recall, _)| {
        let beats = recall.value > highest;
        highest = highest.max(recall.value);
        beats
    });
    let points = bypasses.iter().map(|(change, recall, general)| Point {
        x: general.value,
        x_interval: general.interval,
        sources: model.named(recall.origin | general.origin),
        ..from_loss(model, 0.0, change, *recall)
    });
    (bypasses.len() > 1).then(|| Series {
        name: "unbeaten".into(),
        style: 7,
        draw: Draw::Line,
        rule: None,
        points: points.collect(),
    })
}

/// Recall against the length of the prefix; nothing where all prefixes are of one length.
pub fn prefix(study: &Study) -> Figure {
    let panels = study.models.iter().filter_map(|model| {
        let (role, lengths) = model.prefixes()?;
        let of = |name: String, style: usize, (role, seen): (&str, Option<u32>), change: &Change| {
            let points: Vec<_> = lengths
                .iter()
                .filter_map(|&length| {
                    let row = model.recall_at_prefix(&change.text, role, seen, length)?;
                    Some(from_row(model, f64::from(length), change, row))
                })
                .collect();
            (!points.is_empty()).then_some(Series { name, style, draw: Draw::Line, rule: None, points })
        };
        let none = model.changes.first()?;
        let mut series = vec![of("unchanged".into(), 0, (role, None), none)];
        for (index, change) in telling(model).into_iter().enumerate() {
            series.push(of(change.phrase(), style(index + 1, change), (role, None), change));
        }
        let never = of("never seen".into(), 4, ("candidate", Some(0)), none);
        let control = || of("control sequences".into(), 4, ("control", None), none);
        series.push(never.or_else(control));
        let places = lengths.iter().copied().map(f64::from).collect();
        let x = Axis { label: "tokens given".into(), places, ..Axis::default() };
        panel(&model.label, x, share_axis("share of suffixes recited exactly"), series)
    });
    Figure {
        name: "prefix",
        title: "Recall against the length of the prefix".into(),
        caption: "Exact match by the number of tokens given: the unchanged model, and the bypasses with the best \
                  trade-off, with the most and with the least recall lost. Of all candidates where these were scored; else \
                  of those the unchanged model recites from that prefix, which it then does by choice. Controls: \
                  attention's output set to zero instead, heads drawn by lot, sequences the unchanged model should not \
                  know. Bars are 95 % intervals."
            .into(),
        columns: ("prefix", "share"),
        from: &["scores"],
        panels: panels.collect(),
    }
}

/// The bypasses that the curves against times seen show: best trade-off, most and least recall lost; and two
/// controls, the first of these zeroed instead, and heads drawn by lot.
pub(crate) fn telling(model: &Model) -> Vec<&Change> {
    let mut blocks: Vec<_> = model
        .blocks()
        .filter_map(|(_, change)| Some((change, model.recall_loss(&change.text)?.value)))
        .collect();
    blocks.sort_by(|a, b| b.1.total_cmp(&a.1));
    let ends = [blocks.first(), blocks.last()].into_iter().flatten().map(|(change, _)| *change);
    let best = model.best().map(|best| best.0);
    let zeroed = model.zeros().find(|(block, _)| best.is_some_and(|best| best.sort == Sort::Block(*block)));
    let controls = zeroed.map(|(_, change)| change).into_iter().chain(model.random());
    let mut telling: Vec<&Change> = Vec::new();
    for change in best.into_iter().chain(ends).chain(controls) {
        if !telling.contains(&change) {
            telling.push(change);
        }
    }
    telling
}

/// Controls look the same in every figure; the others by their place.
fn style(place: usize, change: &Change) -> usize {
    match change.sort {
        Sort::Zero(_) => 5,
        Sort::Random => 6,
        _ => place,
    }
}

/// Recall against the times a text was shown in training.
pub fn times_seen(study: &Study) -> Figure {
    let mut longest = Vec::new();
    let panels = study.models.iter().filter_map(|model| {
        let counts = model.seen_counts();
        let role = model.role()?;
        if counts.len() < 2 {
            return None;
        }
        let prefix = seen_prefix(model, role);
        let changed = telling(model);
        let none = model.changes.first();
        let series = none.into_iter().chain(changed).enumerate().map(|(style, change)| {
            let points: Vec<_> =
                counts.iter().filter_map(|&seen| seen_point(model, role, prefix, change, seen)).collect();
            let name = if change.sort == Sort::None { "unchanged".to_string() } else { change.phrase() };
            let style = self::style(style, change);
            (!points.is_empty()).then_some(Series { name, style, draw: Draw::Line, rule: None, points })
        });
        let x =
            Axis { label: "times shown in training".into(), spread: Spread::Doublings, ..Axis::default() };
        let of = if model.recited.whole().is_some() || role == "candidate" { "all" } else { "memorized" };
        let y = share_axis(&format!("share of {of} records recited exactly"));
        let panel = panel(&model.label, x, y, series.collect())?;
        longest.extend(prefix.map(|prefix| format!("{prefix} tokens ({})", model.label)));
        Some(panel)
    });
    let panels: Vec<Panel> = panels.collect();
    let mut caption = "Exact match by the number of times a record was shown in training: the unchanged model, and the \
                       bypasses with the best trade-off, with the most and with the least recall lost, and as \
                       controls attention's output set to zero instead and heads drawn by lot. A record that \
                       rote-extract did not pick out as memorized was not tested under a bypass and counts as not \
                       recited there. Bars are 95 % intervals."
        .to_string();
    if !longest.is_empty() {
        caption += &format!(
            " Of several prefixes of a record only the longest counts, which decides whether it is memorized: {}.",
            listing(&longest)
        );
    }
    Figure {
        name: "times-seen",
        title: "Recall against how often a text was seen in training".into(),
        caption,
        columns: ("times_seen", "share"),
        from: &["scores", "extractions"],
        panels,
    }
}

/// Tokens given where records were asked after several prefixes: the most.
fn seen_prefix(model: &Model, role: &str) -> Option<u32> {
    let scored = || model.prefixes_of(role).into_iter().next_back();
    if role == "candidate" { scored() } else { model.recited.prefix().or_else(scored) }
}

/// Recall among all records seen so often, after `prefix` tokens where there are several prefixes.
fn seen_point(model: &Model, role: &str, prefix: Option<u32>, change: &Change, seen: u32) -> Option<Point> {
    let x = f64::from(seen);
    let whole = || model.row(&change.text, "memorization", role, Some(seen), "exact_match");
    let row = match prefix {
        Some(prefix) => model.recall_at_prefix(&change.text, role, Some(seen), prefix),
        None => whole(),
    };
    // Candidates were all scored; else only those that were picked out are, so that their share is not that of all.
    let Some(count) = model.recited.of(seen).filter(|_| role != "candidate") else {
        return Some(from_row(model, x, change, row?));
    };
    let asked = model.origin_of("extractions");
    let (hits, origin) = if change.sort == Sort::None || (count.exact, count.picked) == (0, 0) {
        (count.exact, asked)
    } else {
        // Of the picked records all, and no others.
        let row = [row, whole()].into_iter().flatten().find(|row| u64::from(row.n) == count.picked)?;
        ((row.value * f64::from(row.n)).round() as u64, asked | model.origin(row))
    };
    Some(Point {
        x,
        y: hits as f64 / count.asked as f64,
        y_interval: wilson(hits, count.asked).into(),
        n: Some(count.asked),
        of: change.text.clone(),
        sources: model.named(origin),
        ..Point::default()
    })
}
