//! The list of figures, and those against the bypassed block: recall, benchmarks, losses, entropy.

use rote_artifact::tables::Summary;

use crate::change::Change;
use crate::figure::{Axis, Draw, Figure, Panel, Point, Series};
use crate::interval::Interval;
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
        crate::motion::probabilities(study),
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

pub(crate) fn from_row(model: &Model, x: f64, change: &Change, row: &Summary) -> Point {
    Point {
        x,
        y: row.value,
        y_interval: Interval::new(row.ci_low, row.ci_high),
        n: Some(u64::from(row.n)),
        of: change.text.clone(),
        sources: model.named(model.origin(row)),
        ..Point::default()
    }
}

pub(crate) fn from_loss(model: &Model, x: f64, change: &Change, loss: Loss) -> Point {
    Point {
        x,
        y: loss.value,
        y_interval: loss.interval,
        n: Some(u64::from(loss.n)),
        of: change.text.clone(),
        sources: model.named(loss.origin),
        ..Point::default()
    }
}

/// A joined series over changes at single blocks; nothing where no block has a value.
pub(crate) fn over_blocks<'a>(
    name: &str,
    style: usize,
    rule: Option<Point>,
    changes: impl Iterator<Item = (u32, &'a Change)>,
    point: impl Fn(f64, &Change) -> Option<Point>,
) -> Option<Series> {
    let points: Vec<_> = changes
        .filter_map(|(block, change)| point(f64::from(block), change))
        .filter(|point| point.y.is_finite())
        .collect();
    (!points.is_empty()).then(|| Series { name: name.to_string(), style, draw: Draw::Line, rule, points })
}

/// What `point` says of the model as it is.
fn unchanged(model: &Model, point: impl Fn(f64, &Change) -> Option<Point>) -> Option<Point> {
    let rule = model.changes.first().and_then(|none| point(0.0, none));
    rule.map(|rule| Point { aside: true, ..rule })
}

/// A series over the bypassed blocks, with the draws of as many heads by lot before the axis, as they belong to no
/// block.
fn with_lots(
    name: &str,
    style: usize,
    model: &Model,
    rule: Option<Point>,
    point: impl Fn(f64, &Change) -> Option<Point>,
) -> Option<Series> {
    let mut series = over_blocks(name, style, rule, model.blocks(), &point)?;
    let drawn = model.randoms().filter_map(|change| point(0.0, change));
    series.points.extend(drawn.map(|point| Point { aside: true, ..point }));
    Some(series)
}

/// The blocks, and before them the place of heads drawn by lot.
fn lot_axis(model: &Model) -> Axis {
    Axis { aside: model.random().map(|_| "random".to_string()), ..block_axis(model) }
}

/// What the captions say of the controls that some model has: where zeroed blocks are, and random heads.
fn controls(study: &Study, zeroed: &str) -> String {
    let mut text = String::new();
    if study.models.iter().any(|model| model.zeros().next().is_some()) {
        text += zeroed;
    }
    if study.models.iter().any(|model| model.random().is_some()) {
        text += LOTS;
    }
    text
}

/// Where zeroed blocks have panels.
const ZEROED: &str = " Control, in panels of their own: attention's output is set to zero instead.";

/// Where zeroed blocks have marks.
const HOLLOW: &str = " Control, hollow squares: the memorized ones when the block's attention output is set to zero \
                      instead.";

/// What the captions say of the controls beside the axis.
const LOTS: &str = " Control, before the axis, \u{201c}random\u{201d}: as many heads as a block has, drawn by lot from all \
                    blocks, are bypassed instead.";

/// A panel whose numbers are all from the bounds given.
pub(crate) fn from_bounds(model: &Model, panel: Option<Panel>) -> Option<Panel> {
    let mut panel = panel?;
    let sources = model.named(model.origin_of("bounds"));
    for point in panel.series.iter_mut().flat_map(|series| &mut series.points) {
        point.sources.clone_from(&sources);
    }
    Some(panel)
}

pub(crate) fn panel(title: &str, x: Axis, y: Axis, series: Vec<Option<Series>>) -> Option<Panel> {
    let series: Vec<_> = series.into_iter().flatten().collect();
    (!series.is_empty()).then(|| Panel { title: title.to_string(), x, y, series, diagonal: false })
}

fn memorization(study: &Study) -> Figure {
    let panels = study.models.iter().filter_map(|model| {
        let token = model.token_metric();
        let exact = |x: f64, change: &Change| Some(from_row(model, x, change, model.recall(&change.text)?));
        let control = model.control();
        let series = vec![
            with_lots("exact match", 0, model, unchanged(model, exact), exact),
            token.and_then(|metric| {
                let point = |x: f64, change: &Change| {
                    Some(from_row(model, x, change, model.memory(&change.text, metric)?))
                };
                with_lots(&metric_title(metric), 1, model, unchanged(model, point), point)
            }),
            over_blocks("exact match, zeroed", 5, None, model.zeros(), exact),
            control.and_then(|(role, seen, name)| {
                let point = |x: f64, change: &Change| {
                    let row = model.row(&change.text, "memorization", role, seen, "exact_match")?;
                    Some(from_row(model, x, change, row))
                };
                with_lots(name, 4, model, unchanged(model, point), point)
            }),
        ];
        panel(&model.label, lot_axis(model), share_axis("share of the memorized sequences' suffixes"), series)
    });
    Figure {
        name: "memorization",
        title: "What is still recited when one block's attention is bypassed".into(),
        caption: format!(
            "Exact match: greedy decoding from the prefix gives the whole suffix. Token accuracy: share of \
             suffix tokens it gives. Dashed, in the band of its interval: the unchanged model. Control, hollow circles: \
             exact match of sequences the model should not know.{} Bars are 95 % intervals.",
            controls(study, HOLLOW)
        ),
        columns: ("block", "share"),
        from: &["scores"],
        panels: panels.collect(),
    }
}

fn benchmarks(study: &Study) -> Figure {
    let swept = |model: &Model, perplexing: bool, zeroed: bool| -> Vec<Option<Series>> {
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
                let point = |x: f64, change: &Change| {
                    Some(from_row(model, x, change, model.score(&change.text, suite)?))
                };
                let (style, rule) = (index % 8, unchanged(model, point));
                if zeroed {
                    over_blocks(&name, style, rule, model.zeros(), point)
                } else {
                    with_lots(&name, style, model, rule, point)
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
        for zeroed in [false, true] {
            panels.extend(study.models.iter().filter_map(|model| {
                let y = if perplexing { perplexities() } else { height() };
                let series = swept(model, perplexing, zeroed);
                if zeroed {
                    zeroed_panel(model, y, series)
                } else {
                    panel(&model.label, lot_axis(model), y, series)
                }
            }));
        }
    }
    Figure {
        name: "benchmarks",
        title: "What is left of general ability".into(),
        caption: format!(
            "Benchmark scores with one block's attention bypassed. Dashed, in the band of its interval: the unchanged \
             model.{} Bars are 95 % intervals.",
            controls(study, ZEROED)
        ),
        columns: ("block", "score"),
        from: &["scores"],
        panels,
    }
}

/// The same with attention's output set to zero instead, as a control.
fn zeroed_panel(model: &Model, y: Axis, series: Vec<Option<Series>>) -> Option<Panel> {
    let x = Axis { label: "zeroed block".into(), ..block_axis(model) };
    panel(&format!("{}, control: zeroed instead", model.label), x, y, series)
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
    let ends = losses.map(|loss| loss.interval.low.unwrap_or(loss.value));
    let low = ends.filter(|low| low.is_finite()).fold(0.0, f64::min).max(-1.0);
    Axis {
        label: label.into(),
        spread: Spread::Linear,
        range: Some((low * 1.05, 1.0)),
        percent: true,
        ..Axis::default()
    }
}

fn losses(study: &Study) -> Figure {
    let mut panels = Vec::new();
    for zeroed in [false, true] {
        panels.extend(study.models.iter().filter_map(|model| {
            let has =
                |class| model.suites().iter().any(|suite| suite.class == class && !model.guesses(suite));
            let swept = |name: &str, style: usize, loss: &dyn Fn(&str) -> Option<Loss>| {
                let point = |x: f64, change: &Change| Some(from_loss(model, x, change, loss(&change.text)?));
                if zeroed {
                    over_blocks(name, style, None, model.zeros(), point)
                } else {
                    with_lots(name, style, model, None, point)
                }
            };
            let general = |name: &str, style: usize, class: Class| {
                has(class)
                    .then(|| swept(name, style, &|change| model.general_loss(change, Some(class))))
                    .flatten()
            };
            let series = vec![
                swept("recall", 0, &|change| model.recall_loss(change)),
                general("reasoning tasks", 2, Class::Reasoning),
                general("language tasks", 3, Class::Language),
            ];
            // Of all changes shown, so that a model's panels compare.
            let shown = model.blocks().map(|block| block.1).chain(model.zeros().map(|zero| zero.1));
            let all = shown.chain(model.randoms()).flat_map(|change| {
                let text = &change.text;
                let general =
                    [Class::Reasoning, Class::Language].map(|class| model.general_loss(text, Some(class)));
                general.into_iter().chain([model.recall_loss(text)]).flatten()
            });
            let y = loss_axis("relative loss against the unchanged model", all);
            if zeroed {
                zeroed_panel(model, y, series)
            } else {
                panel(&model.label, lot_axis(model), y, series)
            }
        }));
    }
    Figure {
        name: "losses",
        title: "Relative losses: recall, reasoning tasks, language tasks".into(),
        caption: format!(
            "Relative loss: (unchanged − bypassed) / unchanged, of exact match and of accuracy; for \
             perplexities 1 − unchanged / bypassed, which is the relative loss of the geometric mean of the \
             probability given to the true text. Tasks of a kind are averaged. A task at which the unchanged model is \
             not above guessing is left out. An accuracy cannot fall much below guessing, so a task near guessing \
             shows little loss whatever is done to the model.{} Bars are 95 % intervals.",
            controls(study, ZEROED)
        ),
        columns: ("block", "loss"),
        from: &["scores"],
        panels,
    }
}

fn entropy(study: &Study) -> Figure {
    let panels = study.models.iter().filter_map(|model| {
        let row = |x: f64, change: &Change, role: &str, seen: Option<u32>| {
            Some(from_row(model, x, change, model.row(&change.text, "memorization", role, seen, "entropy")?))
        };
        let memorized = |x: f64, change: &Change| row(x, change, model.role()?, None);
        let control = model.control().and_then(|(role, seen, name)| {
            let point = |x: f64, change: &Change| row(x, change, role, seen);
            with_lots(name, 4, model, unchanged(model, point), point)
        });
        let series = vec![
            with_lots("memorized", 0, model, unchanged(model, memorized), memorized),
            over_blocks("memorized, zeroed", 5, None, model.zeros(), memorized),
            control,
        ];
        let y = Axis {
            label: "completion entropy, nats per token".into(),
            spread: Spread::Linear,
            ..Axis::default()
        };
        panel(&model.label, lot_axis(model), y, series)
    });
    Figure {
        name: "entropy",
        title: "How sure the model is while it completes".into(),
        caption: format!(
            "Mean entropy of the next-token distributions over the suffix, given the true text so far. A \
             model that recites is sure; one that guesses is not. Dashed, in the band of its interval: the unchanged \
             model. Control, hollow circles: sequences the model should not know.{} Bars are 95 % intervals.",
            controls(study, HOLLOW)
        ),
        columns: ("block", "entropy"),
        from: &["scores"],
        panels: panels.collect(),
    }
}
