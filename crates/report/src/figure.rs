//! `Figure`: panels of series with error bars, drawn as SVG.

use std::fmt::Write;

use crate::interval::Interval;
use crate::place;
use crate::scale::{Scale, Spread};
use crate::svg::{Anchor, Svg, escape, width};
use crate::theme;
use crate::tiles;

/// One axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// How its numbers are spread.
    pub spread: Spread,
    /// Its ends; from the data where none are given.
    pub range: Option<(f64, f64)>,
    /// Whether numbers are shares, shown as percent.
    pub percent: bool,
    /// Whether it counts things: ticks at whole numbers only.
    pub whole: bool,
    /// Places of ticks, where only these were measured.
    pub places: Vec<f64>,
    /// Name of the place before the axis, for points that have none on it.
    pub aside: Option<String>,
}

/// One number of a figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// Across.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// The 95 % interval of `y`, or what the caption says instead.
    pub y_interval: Interval,
    /// That of `x`.
    pub x_interval: Interval,
    /// Items behind it.
    pub n: Option<u64>,
    /// The intervention, or what else the point is of.
    pub of: String,
    /// Text beside it.
    pub label: Option<Label>,
    /// A third number, for cells.
    pub z: Option<f64>,
    /// That of `z`.
    pub z_interval: Interval,
    /// What else is to be said of it, in the CSV and when pointed at.
    pub note: String,
    /// First digits of the artifacts it is from.
    pub sources: Vec<String>,
    /// Whether it has no place across and stands before the axis, on its own.
    pub aside: bool,
}

/// Text beside a point.
#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    /// Before all others, if need be at a distance and with a line that leads to it.
    Sure(String),
    /// Where there is room.
    Spare(String),
}

impl Label {
    /// As written.
    pub fn text(&self) -> &str {
        match self {
            Label::Sure(text) | Label::Spare(text) => text,
        }
    }
}

/// How points are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Draw {
    /// Marks, neighbours joined; the name stands beside the last.
    #[default]
    Line,
    /// Marks alone, named in a key above.
    Marks,
    /// Columns, each series on top of the one before, named in a key above.
    Columns,
    /// A cell per point, its colour the stronger the larger its third number.
    Cells,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name, beside its last point.
    pub name: String,
    /// Mark and colour.
    pub style: usize,
    /// How it is drawn.
    pub draw: Draw,
    /// The unchanged model: a dashed rule in the band of its interval. Its `x` counts for nothing.
    pub rule: Option<Point>,
    /// Its points.
    pub points: Vec<Point>,
}

impl Point {
    /// Its place across as the CSV writes it; empty where it has none.
    pub fn across(&self) -> String {
        if self.aside { String::new() } else { self.x.to_string() }
    }

    /// Attributes by which a drawn mark and its row in the CSV can be compared.
    pub fn data(&self) -> String {
        format!(" data-x=\"{}\" data-y=\"{}\"", self.across(), self.y)
    }
}

impl Series {
    /// Every number of it: the points, then that of the unchanged model.
    pub fn numbers(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().chain(&self.rule)
    }

    /// The points that have a place on the axis.
    fn placed(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| !point.aside)
    }
}

/// One drawing: one model, one pair of axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Heading.
    pub title: String,
    /// Across.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// What is drawn.
    pub series: Vec<Series>,
    /// A faint line, from corner to corner, where both axes are equal.
    pub diagonal: bool,
}

/// Panels side by side.
#[derive(Clone, Debug)]
pub struct Figure {
    /// File name, without ending.
    pub name: &'static str,
    /// Heading.
    pub title: String,
    /// What is shown and how to read it.
    pub caption: String,
    /// Names of the two quantities, for the CSV.
    pub columns: (&'static str, &'static str),
    /// Flags of the artifacts that the numbers are from.
    pub from: &'static [&'static str],
    /// Panels; none where nothing was measured.
    pub panels: Vec<Panel>,
}

pub(crate) const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 320.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 44.0;
const LEFT: f64 = 46.0;
const LABEL: f64 = 12.0;
/// Height of the row that names unjoined series.
const KEY: f64 = 18.0;
/// Width of what stands before the axis.
const ASIDE: f64 = 46.0;
/// Room above the highest number where points carry labels.
const HEADROOM: f64 = 20.0;

impl Figure {
    /// Where plots end and names of series begin: the same for all panels, so that they compare.
    fn right(&self) -> f64 {
        let joined =
            self.panels.iter().flat_map(|panel| &panel.series).filter(|series| series.draw == Draw::Line);
        let widest = joined.map(|series| width(&series.name, LABEL)).fold(6.0, f64::max);
        WIDTH - widest.min(150.0) - 18.0
    }

    /// One SVG for the page; its style is the page's.
    pub fn panel_svg(&self, index: usize) -> String {
        let panel = &self.panels[index];
        let id = format!("{}-{index}", self.name);
        format!(
            "<svg class=\"fig\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\n\
             <title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>\n{}</svg>\n",
            escape(&format!("{}: {}", self.title, panel.title)),
            escape(&panel.description()),
            panel.draw(self.right())
        )
    }

    /// All panels in one SVG that needs nothing else.
    pub fn standalone(&self) -> String {
        let columns = self.panels.len().clamp(1, 2);
        let rows = self.panels.len().div_ceil(2).max(1);
        let (gap, head) = (28.0, 40.0);
        let full_width = columns as f64 * WIDTH + (columns + 1) as f64 * gap;
        let full_height = head + rows as f64 * (HEIGHT + gap);
        let descriptions: Vec<_> = self.panels.iter().map(Panel::description).collect();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"fig\" viewBox=\"0 0 {full_width} {full_height}\" \
             width=\"{full_width}\" height=\"{full_height}\" role=\"img\" aria-labelledby=\"t d\">\n\
             <title id=\"t\">{}</title>\n<desc id=\"d\">{}</desc>\n<style>\n{}</style>\n\
             <rect class=\"back\" width=\"100%\" height=\"100%\"/>\n\
             <text class=\"head\" x=\"{gap}\" y=\"26\">{}</text>\n",
            escape(&self.title),
            escape(&descriptions.join(" ")),
            theme::figure_style(),
            escape(&self.title),
        );
        for (index, panel) in self.panels.iter().enumerate() {
            let x = gap + (index % 2) as f64 * (WIDTH + gap);
            let y = head + (index / 2) as f64 * (HEIGHT + gap);
            let _ = write!(svg, "<g transform=\"translate({x} {y})\">\n{}</g>\n", panel.draw(self.right()));
        }
        svg.push_str("</svg>\n");
        svg
    }
}

impl Axis {
    fn scale(&self, values: impl Iterator<Item = f64>, paper: (f64, f64)) -> Scale {
        let range = self.range.unwrap_or_else(|| {
            let usable =
                values.filter(|value| value.is_finite() && (self.spread != Spread::Log || *value > 0.0));
            let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
            match self.spread {
                _ if low > high => (0.0, 1.0),
                Spread::Linear if !self.places.is_empty() => (low, high),
                Spread::Linear => {
                    let air = 0.06 * (high - low).max(1e-9);
                    (if low >= 0.0 && low < 0.5 * high { 0.0 } else { low - air }, high + air)
                }
                Spread::Log => (low / 1.4, high * 1.4),
                Spread::Doublings => (low, high),
            }
        });
        Scale::new(self.spread, range, paper)
    }

    fn ticks(&self, scale: &Scale, count: usize) -> Vec<(f64, String)> {
        let mut ticks = match self.places.as_slice() {
            [] => scale.ticks(count),
            places => places.iter().map(|place| (*place, format!("{place}"))).collect(),
        };
        if self.whole {
            ticks.retain(|(value, _)| value.fract().abs() < 1e-9);
            for (value, text) in &mut ticks {
                *text = format!("{value:.0}");
            }
        }
        if self.percent {
            for (value, text) in &mut ticks {
                *text = format!("{:.0}", *value * 100.0).replace('-', "−");
            }
            if let Some(last) = ticks.last_mut() {
                last.1.push_str(" %");
            }
        }
        ticks
    }
}

impl Panel {
    pub(crate) fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(|series| &series.points)
    }

    /// In words, for those who do not see it.
    fn description(&self) -> String {
        let mut text = format!("{}. Across: {}. Up: {}.", self.title, self.x.label, self.y.label);
        for series in &self.series {
            let _ = write!(text, " {}:", series.name);
            for point in series.numbers() {
                if let Some(z) = point.z {
                    let _ = write!(text, " {} {};", point.of, crate::number::percent(z));
                    continue;
                }
                let y = if self.y.percent {
                    crate::number::percent(point.y)
                } else {
                    crate::number::plain(point.y)
                };
                let _ = write!(text, " {} {y};", point.label.as_ref().map_or(&*point.of, Label::text));
            }
        }
        text
    }

    fn draw(&self, right: f64) -> String {
        let mut svg = Svg::default();
        let keyed = self.series.iter().any(|series| matches!(series.draw, Draw::Marks | Draw::Columns));
        let top = if keyed { TOP + KEY } else { TOP };
        let (left, bottom) = (LEFT, HEIGHT - BOTTOM);
        let first = if self.x.aside.is_some() { left + ASIDE } else { left };
        let xs = self.points().filter(|point| !point.aside).flat_map(|point| {
            let (low, high) = point.x_interval.ends().unwrap_or((point.x, point.x));
            [point.x, low, high]
        });
        let ys = self.series.iter().flat_map(Series::numbers).flat_map(|point| {
            let (low, high) = point.y_interval.ends().unwrap_or((point.y, point.y));
            [point.y, low, high]
        });
        let labelled = self.points().any(|point| point.label.is_some());
        let x = self.x.scale(xs, (first + 10.0, right - 6.0));
        let y = self.y.scale(ys, (bottom, if labelled { top + HEADROOM } else { top }));

        svg.text("head", (0.0, 13.0), Anchor::Start, &self.title);
        svg.text("soft", (0.0, 31.0), Anchor::Start, &self.y.label);
        for (value, text) in self.y.ticks(&y, 6) {
            svg.line("grid", (left, y.at(value)), (right, y.at(value)));
            svg.text("soft", (left - 7.0, y.at(value) + 4.0), Anchor::End, &text);
        }
        svg.line("axis", (left, bottom), (right, bottom));
        let room = ((right - left) / 34.0) as usize;
        for (value, text) in self.x.ticks(&x, room) {
            svg.line("axis", (x.at(value), bottom), (x.at(value), bottom + 4.0));
            svg.text("soft", (x.at(value), bottom + 17.0), Anchor::Middle, &text);
        }
        svg.text("soft", ((first + right) / 2.0, HEIGHT - 8.0), Anchor::Middle, &self.x.label);
        if let Some(aside) = &self.x.aside {
            svg.line("gap", (first - 3.0, bottom), (first + 3.0, bottom));
            svg.text("soft", (left + ASIDE / 2.0 - 2.0, bottom + 17.0), Anchor::Middle, aside);
        }
        if self.diagonal {
            let shared = self.points().flat_map(|point| [point.x, point.y]).fold(0.0, f64::max).min(1.0);
            svg.line("lead", (x.at(0.0), y.at(0.0)), (x.at(shared), y.at(shared)));
        }
        for series in &self.series {
            if let Some(rule) = &series.rule {
                let ends = ((left, y.at(rule.y)), (right, y.at(rule.y)));
                if let Some((low, high)) = rule.y_interval.ends() {
                    let (above, below) = (y.at(high), y.at(low));
                    let class = format!("band s{}", series.style);
                    svg.rect(&class, (left, above), (right - left, below - above), "", "");
                }
                svg.rule(&format!("rule s{}", series.style), ends, &rule.data(), &self.hint(series, rule));
            }
        }
        let gap = self.gap(&x);
        let beside: Vec<&Point> = self.points().filter(|point| point.aside).collect();
        let at = |index: usize, point: &Point| {
            if point.aside {
                let place = beside.iter().position(|other| std::ptr::eq(*other, point)).unwrap_or(0);
                let middle = (beside.len() - 1) as f64 / 2.0;
                let step = (0.8 * ASIDE / beside.len() as f64).min(7.0);
                return (left + ASIDE / 2.0 - 2.0 + (place as f64 - middle) * step, y.at(point.y));
            }
            // Series that share their x stand a little apart, so that their bars can be told.
            let apart = if self.series[index].draw == Draw::Line && self.series.len() > 1 {
                (index as f64 - (self.series.len() - 1) as f64 / 2.0) * gap
            } else {
                0.0
            };
            (x.at(point.x) + apart, y.at(point.y))
        };
        let mut bars = Vec::new();
        let marked = || {
            let series = self.series.iter().enumerate().rev();
            series.filter(|(_, series)| matches!(series.draw, Draw::Line | Draw::Marks))
        };
        for (index, series) in marked() {
            let class = format!("bar s{}", series.style);
            for point in &series.points {
                let place = at(index, point);
                // An end that is not known lies at the edge of the plot.
                let upright = point.y_interval.ends();
                let upright = upright.map(|(low, high)| ((place.0, y.at(high)), (place.0, y.at(low))));
                let level = point.x_interval.ends();
                let level = level.map(|(low, high)| ((x.at(low), place.1), (x.at(high), place.1)));
                for (from, to) in [upright, level].into_iter().flatten() {
                    svg.line(&class, from, to);
                    bars.push((from.0, from.1, to.0, to.1));
                }
            }
            if series.draw == Draw::Line {
                let places: Vec<_> = series.placed().map(|point| at(index, point)).collect();
                svg.path(&format!("line s{}", series.style), &places);
            }
        }
        let mut marks = Vec::new();
        tiles::columns(self, &x, &y, &mut svg);
        tiles::cells(self, &x, &y, &mut svg);
        for (index, series) in marked() {
            for point in &series.points {
                let place = at(index, point);
                svg.mark(series.style, place, &point.data(), &self.hint(series, point));
                marks.push(place);
            }
        }
        self.label_series(&mut svg, right, &at);
        self.key(&mut svg);
        let labelled: Vec<_> = self
            .series
            .iter()
            .enumerate()
            .flat_map(|(index, series)| series.points.iter().map(move |point| (index, series, point)))
            .filter_map(|(index, series, point)| {
                Some((at(index, point), point.label.as_ref()?, series.style))
            })
            .collect();
        let frame = (left, top - 8.0, WIDTH, bottom);
        for label in place::around_points(&labelled, &marks, &bars, frame) {
            if let Some(lead) = label.lead {
                svg.line("lead", lead.0, lead.1);
            }
            svg.text(&format!("soft halo s{}", label.style), label.at, Anchor::Start, &label.text);
        }
        svg.into_body()
    }

    /// By how much series that share their x stand apart: all of them within the step to the next x.
    fn gap(&self, x: &Scale) -> f64 {
        let mut places: Vec<f64> =
            self.points().filter(|point| !point.aside).map(|point| x.at(point.x)).collect();
        places.sort_by(f64::total_cmp);
        let steps = places.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0.5);
        (0.7 * steps.fold(f64::INFINITY, f64::min) / self.series.len() as f64).min(2.6)
    }

    /// What is shown when a mark is pointed at.
    pub(crate) fn hint(&self, series: &Series, point: &Point) -> String {
        let write = |axis: &Axis, value: f64| {
            if axis.percent { crate::number::percent(value) } else { crate::number::plain(value) }
        };
        let mut text = format!("{} · {}: {}", point.of, series.name, write(&self.y, point.y));
        if let Some(interval) = point.y_interval.text(|end| write(&self.y, end)) {
            let _ = write!(text, " ({interval})");
        }
        if let Some(n) = point.n {
            let _ = write!(text, ", n {n}");
        }
        if !point.note.is_empty() {
            let _ = write!(text, ", {}", point.note);
        }
        text
    }

    /// Marks and names of unjoined series, in a row above the plot.
    fn key(&self, svg: &mut Svg) {
        let mut x = LEFT + 4.0;
        for series in self.series.iter().filter(|series| matches!(series.draw, Draw::Marks | Draw::Columns)) {
            match series.draw {
                Draw::Columns => {
                    svg.rect(&format!("fill s{}", series.style), (x - 4.0, 40.0), (8.0, 8.0), "", "")
                }
                _ => svg.mark(series.style, (x, 44.0), "", ""),
            }
            svg.text("soft", (x + 8.0, 48.0), Anchor::Start, &series.name);
            x += 8.0 + width(&series.name, 11.0) + 24.0;
        }
    }

    /// Names of joined series, at the right beside their last points, none over another.
    fn label_series(&self, svg: &mut Svg, right: f64, at: &dyn Fn(usize, &Point) -> (f64, f64)) {
        let wanted: Vec<_> = self
            .series
            .iter()
            .enumerate()
            .filter(|(_, series)| series.draw == Draw::Line)
            .filter_map(|(index, series)| Some((at(index, series.placed().last()?), series)))
            .collect();
        let heights: Vec<f64> = wanted.iter().map(|(place, _)| place.1).collect();
        let placed = place::apart(&heights, 14.5, (TOP - 2.0, HEIGHT - BOTTOM + 2.0));
        for ((place, series), height) in wanted.iter().zip(placed) {
            if (height - place.1).abs() > 3.0 || right - place.0 > 16.0 {
                svg.line("lead", (place.0 + 5.0, place.1), (right + 8.0, height));
            }
            svg.text(
                &format!("s{}", series.style),
                (right + 11.0, height + 4.0),
                Anchor::Start,
                &series.name,
            );
        }
    }
}
