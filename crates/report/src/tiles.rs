//! Areas instead of marks: stacked columns for shares of a whole, cells for a map of two places.

use crate::figure::{Draw, Panel, WIDTH};
use crate::number::{percent, whole_percent};
use crate::scale::Scale;
use crate::svg::{Anchor, Svg};

/// The narrowest step between neighbours on an axis; the whole axis where there is one place only.
fn step(places: impl Iterator<Item = f64>) -> f64 {
    let mut places: Vec<f64> = places.collect();
    places.sort_by(f64::total_cmp);
    let steps = places.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 1e-9);
    steps.fold(1.0, f64::min)
}

/// Stacked columns: series upon series, in their order, from zero up.
pub fn columns(panel: &Panel, x: &Scale, y: &Scale, svg: &mut Svg) {
    let stacked = || panel.series.iter().filter(|series| series.draw == Draw::Columns);
    let step = step(stacked().flat_map(|series| &series.points).map(|point| point.x));
    let wide = 0.72 * (x.at(step) - x.at(0.0)).abs();
    for (index, series) in stacked().enumerate() {
        for point in &series.points {
            let below: f64 = stacked()
                .take(index)
                .flat_map(|series| &series.points)
                .filter(|other| other.x == point.x)
                .map(|other| other.y)
                .sum();
            let (top, bottom) = (y.at(below + point.y), y.at(below));
            let corner = (x.at(point.x) - wide / 2.0, top);
            let class = format!("fill s{}", series.style);
            svg.rect(&class, corner, (wide, bottom - top), &point.data(), &panel.hint(series, point));
        }
    }
}

/// Ends of the scale of shades, the smallest that holds all.
const SCALES: [f64; 3] = [0.25, 0.5, 1.0];

/// Cells: a square of the map per point, its colour the stronger the larger its third number; below zero in another colour.
pub fn cells(panel: &Panel, x: &Scale, y: &Scale, svg: &mut Svg) {
    for series in panel.series.iter().filter(|series| series.draw == Draw::Cells) {
        let wide = (x.at(1.0) - x.at(0.0)).abs();
        let high = (y.at(1.0) - y.at(0.0)).abs();
        let largest = series.points.iter().filter_map(|point| point.z).fold(0.0, |a: f64, b| b.abs().max(a));
        let full = SCALES.into_iter().find(|scale| largest <= *scale).unwrap_or(largest);
        for point in &series.points {
            let z = point.z.unwrap_or(f64::NAN);
            let shade = if z.is_finite() { z.abs() / full } else { 0.0 };
            let style = if z < 0.0 { series.style + 1 } else { series.style };
            let corner = (x.at(point.x) - wide / 2.0, y.at(point.y) - high / 2.0);
            let attributes = format!("{} fill-opacity=\"{shade:.3}\"", point.data());
            let title = format!("{}: {}", panel.hint(series, point), percent(z));
            // What lies below, such as the grid, is covered first.
            svg.rect("blank", corner, (wide, high), "", "");
            let lot = if point.note.starts_with("drawn by lot") { " lot" } else { "" };
            svg.rect(&format!("cell fill{lot} s{style}"), corner, (wide, high), &attributes, &title);
            // Written into the cell where it fits: the map can then be read without its colours.
            if wide >= 26.0 && high >= 12.0 && z.is_finite() {
                let class = if shade > 0.55 { "on dark" } else { "on" };
                let text = whole_percent(z).replace('\u{202f}', "").replace('-', "−").replace("−0%", "0%");
                let sure = point.z_interval.is_above(0.0) || point.z_interval.is_below(0.0);
                let text = format!("{}{}", text.trim_end_matches('%'), if sure { "\u{2217}" } else { "" });
                let at = (x.at(point.x), y.at(point.y) + 3.5);
                svg.text(class, at, Anchor::Middle, &text);
            }
        }
        shades(svg, full, series.style, series.points.iter().any(|point| point.z.is_some_and(|z| z < 0.0)));
    }
}

/// A scale of shades at the upper right; with those below zero where there are any.
fn shades(svg: &mut Svg, full: f64, style: usize, gains: bool) {
    let (wide, top) = (13.0, 22.0);
    let text = whole_percent(full);
    svg.text("soft", (WIDTH, 31.0), Anchor::End, &text);
    let mut x = WIDTH - crate::svg::width(&text, 11.0) - 6.0;
    for step in (if gains { -4 } else { 0 }..=4).rev() {
        x -= wide;
        let style = if step < 0 { style + 1 } else { style };
        let shade = format!(" fill-opacity=\"{:.2}\"", f64::from(step).abs() / 4.0);
        svg.rect(&format!("cell fill s{style}"), (x, top), (wide, 10.0), &shade, "");
    }
    let low = if gains { format!("\u{2212}{text}") } else { "0".to_string() };
    svg.text("soft", (x - 5.0, 31.0), Anchor::End, &low);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Axis, Point, Series};

    fn panel(draw: Draw, points: Vec<Vec<Point>>) -> Panel {
        let series = points.into_iter().enumerate().map(|(style, points)| Series {
            name: format!("s{style}"),
            style,
            draw,
            rule: None,
            points,
        });
        Panel {
            title: String::new(),
            x: Axis::default(),
            y: Axis::default(),
            series: series.collect(),
            diagonal: false,
        }
    }

    fn scales() -> (Scale, Scale) {
        let linear = crate::scale::Spread::Linear;
        (Scale::new(linear, (0.0, 10.0), (0.0, 100.0)), Scale::new(linear, (0.0, 1.0), (100.0, 0.0)))
    }

    #[test]
    fn columns_stand_on_each_other() {
        let point = |x: f64, y: f64| Point { x, y, ..Point::default() };
        let series = vec![vec![point(1.0, 0.25), point(2.0, 0.5)], vec![point(1.0, 0.75), point(2.0, 0.5)]];
        let (x, y) = scales();
        let mut svg = Svg::default();
        columns(&panel(Draw::Columns, series), &x, &y, &mut svg);
        let body = svg.into_body();
        assert!(body.contains(r#"x="6.40" y="75.00" width="7.20" height="25.00""#), "{body}");
        assert!(body.contains(r#"x="6.40" y="0.00" width="7.20" height="75.00""#), "{body}");
        assert!(body.contains(r#"x="16.40" y="0.00" width="7.20" height="50.00""#), "{body}");
    }

    #[test]
    fn the_largest_cell_is_darkest_and_gains_have_their_own_colour() {
        let point = |x: f64, z: f64| Point { x, y: 0.5, z: Some(z), ..Point::default() };
        let (x, y) = scales();
        let mut svg = Svg::default();
        cells(&panel(Draw::Cells, vec![vec![point(1.0, 0.4), point(2.0, -0.1)]]), &x, &y, &mut svg);
        let body = svg.into_body();
        assert!(body.contains("fill s0") && body.contains("fill-opacity=\"0.800\""), "{body}");
        assert!(body.contains("fill s1") && body.contains("fill-opacity=\"0.200\""), "{body}");
    }
}
