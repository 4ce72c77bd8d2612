//! The list of figures, and those against the bypassed block: recall, benchmarks, losses, entropy.

use rote_artifact::tables::Summary;

use crate::change::Change;
use crate::figure::{Axis, Draw, Figure, Panel, Point, Series};
use crate::scale::Spread;
use crate::study::{Loss, Model, Study};
use crate::suite::{Class, falls_with_skill, metric_title};

/// Names of the figures, in the order of the page.
pub fn all(study: &Study) -> Vec<Figure> {
    vec![
        memorization(study),
        benchmarks(study),
        losses(study),
        crate::curves::trade_off(study),
        crate::heads::heads(study),
        crate::curves::prefix(study),
        crate::curves::times_seen(study),
        entropy(study),
        crate::motion::displacement(study),
        crate::motion::direct_share(study),
        crate::motion::certificates(study),
        crate::depth::bounds(study),
        crate::tightness::tightness(study),
    ]
}

pub(crate) fn block_axis(model: &Model) -> Axis {
    let last = f64::from(model.n_blocks().max(1) - 1);
    Axis { label: "bypassed block".into(), range: Some((0.0, last)), whole: true, ..Axis::default() }
}

pub(crate) fn share_axis(label: &str) -> Axis {
    Axis {
        label: label.into(),
        spread: Spread::Linear,
        range: Some((0.0, 1.0)),
        percent: true,
        ..Axis::default()
    }
}

pub(crate) fn from_row(x: f64, change: &Change, row: &Summary) -> Point {
    Point {
        x,
        y: row.value,
        y_interval: row.ci_low.zip(row.ci_high),
        n: Some(u64::from(row.n)),
        of: change.text.clone(),
        ..Point::default()
    }
}

pub(crate) fn from_loss(x: f64, change: &Change, loss: Loss) -> Point {
    Point {
        x,
        y: loss.value,
        y_interval: Some((loss.low, loss.high)),
        n: Some(u64::from(loss.n)),
        of: change.text.clone(),
        ..Point::default()
    }
}

/// A joined series over changes at single blocks; nothing where no block has a value.
pub(crate) fn over_blocks<'a>(
    name: &str,
    style: usize,
    rule: Option<f64>,
    changes: impl Iterator<Item = (u32, &'a Change)>,
    point: impl Fn(f64, &Change) -> Option<Point>,
) -> Option<Series> {
    let points: Vec<_> = changes
        .filter_map(|(block, change)| point(f64::from(block), change))
        .filter(|point| point.y.is_finite())
        .collect();
    (!points.is_empty()).then(|| Series { name: name.to_string(), style, draw: Draw::Line, rule, points })
}

/// Heads drawn by lot, which belong to no block: the same value at the first and the last.
fn by_lot(model: &Model, point: impl Fn(f64, &Change) -> Option<Point>) -> Option<Series> {
    let change = model.random()?;
    let last = f64::from(model.n_blocks().max(1) - 1);
    let points: Vec<_> = [0.0, last].into_iter().filter_map(|x| point(x, change)).collect();
    let name = "random heads".to_string();
    (!points.is_empty()).then_some(Series { name, style: 6, draw: Draw::Line, rule: None, points })
}

pub(crate) fn panel(title: &str, x: Axis, y: Axis, series: Vec<Option<Series>>) -> Option<Panel> {
    let series: Vec<_> = series.into_iter().flatten().collect();
    (!series.is_empty()).then(|| Panel { title: title.to_string(), x, y, series, diagonal: false })
}

fn memorization(study: &Study) -> Figure {
    let panels = study.models.iter().filter_map(|model| {
        let token = model.token_metric();
        let exact = |x: f64, change: &Change| Some(from_row(x, change, model.recall(&change.text)?));
        let base = |metric: &str| model.memory("none", metric).map(|row| row.value);
        let control = model.control();
        let series = vec![
            over_blocks("exact match", 0, base("exact_match"), model.blocks(), exact),
            token.and_then(|metric| {
                over_blocks(&metric_title(metric), 1, base(metric), model.blocks(), |x, change| {
                    Some(from_row(x, change, model.memory(&change.text, metric)?))
                })
            }),
            over_blocks("exact match, zeroed", 5, None, model.zeros(), exact),
            by_lot(model, exact),
            control.and_then(|(role, seen, name)| {
                over_blocks(name, 4, None, model.blocks(), |x, change| {
                    let row = model.row(&change.text, "memorization", role, seen, "exact_match")?;
                    Some(from_row(x, change, row))
                })
            }),
        ];
        panel(
            &model.label,
            block_axis(model),
            share_axis("share of the memorized sequences' suffixes"),
            series,
        )
    });
    Figure {
        name: "memorization",
        title: "What is still recited when one block's attention is bypassed".into(),
        caption:
            "Exact match: greedy decoding from the prefix gives the whole suffix. Token accuracy: share of \
                  suffix tokens it gives. Dashed: the unchanged model. Controls: the same for sequences the \
                  model should not know (hollow circles), and exact match of the memorized ones when the \
                  block's attention output is set to zero instead (hollow squares) or heads drawn by lot from all \
                  blocks are bypassed (flat line). Bars are 95 % intervals."
                .into(),
        columns: ("block", "share"),
        from: &["scores"],
        panels: panels.collect(),
    }
}

fn benchmarks(study: &Study) -> Figure {
    let styles = |model: &Model, perplexing: bool, controls: bool| -> Vec<Option<Series>> {
        let suites = model.suites();
        let suites =
            suites.iter().enumerate().filter(|(_, suite)| falls_with_skill(&suite.metric) == perplexing);
        suites
            .map(|(index, suite)| {
                let name = if perplexing {
                    format!("{}, {}", suite.title, short(&suite.metric))
                } else {
                    suite.title.clone()
                };
                let point =
                    |x: f64, change: &Change| Some(from_row(x, change, model.score(&change.text, suite)?));
                let rule =
                    if controls { model.random().map(|change| &change.text[..]) } else { Some("none") };
                let rule = rule.and_then(|change| model.score(change, suite)).map(|row| row.value);
                if controls {
                    over_blocks(&name, index % 8, rule, model.zeros(), point)
                } else {
                    over_blocks(&name, index % 8, rule, model.blocks(), point)
                }
            })
            .collect()
    };
    // The same height for all, no taller than needed.
    let highest = study.models.iter().flat_map(|model| {
        let rows = model.rows.values().filter(|row| row.role == "benchmark" && row.metric == "acc");
        rows.filter_map(|row| row.ci_high.or(Some(row.value)))
    });
    let top = ((highest.fold(0.2, f64::max) * 5.0 - 1e-9).ceil() / 5.0).min(1.0);
    let height = || Axis { range: Some((0.0, top)), ..share_axis("accuracy") };
    let perplexities = || Axis {
        label: "perplexity (log scale, lower is better)".into(),
        spread: Spread::Log,
        ..Axis::default()
    };
    let mut panels = Vec::new();
    for perplexing in [false, true] {
        for controls in [false, true] {
            panels.extend(study.models.iter().filter_map(|model| {
                let title = if controls { format!("{}, controls", model.label) } else { model.label.clone() };
                let mut x = block_axis(model);
                if controls {
                    x.label = "zeroed block".into();
                }
                let y = if perplexing { perplexities() } else { height() };
                panel(&title, x, y, styles(model, perplexing, controls))
            }));
        }
    }
    Figure {
        name: "benchmarks",
        title: "What is left of general ability".into(),
        caption:
            "Benchmark scores with one block's attention bypassed. Dashed: the unchanged model. Controls, in panels \
                  of their own: attention's output set to zero instead; there, dashed: heads drawn by lot from all \
                  blocks are bypassed. Bars are 95 % intervals."
                .into(),
        columns: ("block", "score"),
        from: &["scores"],
        panels,
    }
}

fn short(metric: &str) -> &str {
    match metric {
        "word_perplexity" => "per word",
        "byte_perplexity" => "per byte",
        "bits_per_byte" => "bits/byte",
        _ => "perplexity",
    }
}

pub(crate) fn loss_axis(label: &str, losses: impl Iterator<Item = Loss>) -> Axis {
    let low = losses.map(|loss| loss.low).filter(|low| low.is_finite()).fold(0.0, f64::min).max(-1.0);
    Axis {
        label: label.into(),
        spread: Spread::Linear,
        range: Some((low * 1.05, 1.0)),
        percent: true,
        ..Axis::default()
    }
}

fn losses(study: &Study) -> Figure {
    let panels = study.models.iter().filter_map(|model| {
        let general = |class| {
            move |x: f64, change: &Change| {
                Some(from_loss(x, change, model.general_loss(&change.text, Some(class))?))
            }
        };
        let has = |class| model.suites().iter().any(|suite| suite.class == class && !model.guesses(suite));
        let series = vec![
            over_blocks("recall", 0, None, model.blocks(), |x, change| {
                Some(from_loss(x, change, model.recall_loss(&change.text)?))
            }),
            over_blocks("recall, zeroed", 5, None, model.zeros(), |x, change| {
                Some(from_loss(x, change, model.recall_loss(&change.text)?))
            }),
            by_lot(model, |x, change| Some(from_loss(x, change, model.recall_loss(&change.text)?))),
            has(Class::Reasoning)
                .then(|| over_blocks("reasoning tasks", 2, None, model.blocks(), general(Class::Reasoning)))
                .flatten(),
            has(Class::Language)
                .then(|| over_blocks("language tasks", 3, None, model.blocks(), general(Class::Language)))
                .flatten(),
        ];
        let all = model.blocks().flat_map(|(_, change)| {
            let text = &change.text;
            let general =
                [Class::Reasoning, Class::Language].map(|class| model.general_loss(text, Some(class)));
            general.into_iter().chain([model.recall_loss(text)]).flatten()
        });
        let y = loss_axis("relative loss against the unchanged model", all);
        panel(&model.label, block_axis(model), y, series)
    });
    Figure {
        name: "losses",
        title: "Relative losses: recall, reasoning tasks, language tasks".into(),
        caption: "Relative loss: (unchanged − bypassed) / unchanged, of exact match and of accuracy; for \
                  perplexities 1 − unchanged / bypassed, which is the relative loss of the geometric mean of the \
                  probability given to the true text. Control: recall when the block's attention output is set to \
                  zero instead (hollow squares) or heads drawn by lot are bypassed (flat line). Tasks of a kind are averaged. A task at which the unchanged model is not above guessing is left out. An accuracy cannot fall much \
                  below guessing, so a task near guessing shows little loss whatever is done to the model."
            .into(),
        columns: ("block", "loss"),
        from: &["scores"],
        panels: panels.collect(),
    }
}

fn entropy(study: &Study) -> Figure {
    let panels = study.models.iter().filter_map(|model| {
        let control = model.control();
        let of = |name: &str, style: usize, role: &str, seen: Option<u32>| {
            let row = |change: &str| model.row(change, "memorization", role, seen, "entropy");
            over_blocks(name, style, row("none").map(|row| row.value), model.blocks(), |x, change| {
                Some(from_row(x, change, row(&change.text)?))
            })
        };
        let memorized = |x: f64, change: &Change| {
            let row = model.row(&change.text, "memorization", model.role()?, None, "entropy")?;
            Some(from_row(x, change, row))
        };
        let series = vec![
            model.role().and_then(|role| of("memorized", 0, role, None)),
            over_blocks("memorized, zeroed", 5, None, model.zeros(), memorized),
            by_lot(model, memorized),
            control.and_then(|(role, seen, name)| of(name, 4, role, seen)),
        ];
        let y = Axis {
            label: "completion entropy, nats per token".into(),
            spread: Spread::Linear,
            ..Axis::default()
        };
        panel(&model.label, block_axis(model), y, series)
    });
    Figure {
        name: "entropy",
        title: "How sure the model is while it completes".into(),
        caption:
            "Mean entropy of the next-token distributions over the suffix, given the true text so far. A \
                  model that recites is sure; one that guesses is not. Dashed: the unchanged model. Controls: as in \
                  the first figure. Bars are 95 % intervals."
                .into(),
        columns: ("block", "entropy"),
        from: &["scores"],
        panels: panels.collect(),
    }
}
