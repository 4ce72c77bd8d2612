//! Where labels stand so that none lies over another, over a mark or bar, or outside the frame.

use crate::figure::Label;

/// A label that found its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Its text.
    pub text: String,
    /// Series it belongs to.
    pub style: usize,
    /// Left end of its baseline.
    pub at: (f64, f64),
    /// A thin line to its point, where it stands off.
    pub lead: Option<((f64, f64), (f64, f64))>,
}

/// Heights as near to `wanted` as can be with `gap` between each two, inside `range` as far as they fit.
pub fn apart(wanted: &[f64], gap: f64, (top, bottom): (f64, f64)) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]).then(a.cmp(&b)));
    // Runs of labels that touch move as one, to the mean of what they want.
    let mut runs: Vec<(f64, usize)> = Vec::new();
    for &index in &order {
        runs.push((wanted[index], 1));
        while let [.., before, last] = runs.as_slice() {
            let (before, last) = (*before, *last);
            let reach = (before.1 + last.1) as f64 * gap / 2.0;
            if last.0 - before.0 >= reach - 1e-9 {
                break;
            }
            let count = before.1 + last.1;
            // Means of what the members want when the run is laid out around its middle.
            let middle = (before.0 * before.1 as f64 + last.0 * last.1 as f64) / count as f64;
            runs.truncate(runs.len() - 2);
            runs.push((middle, count));
        }
    }
    let mut heights = vec![0.0; wanted.len()];
    let mut next = order.into_iter();
    for (middle, count) in runs {
        for step in 0..count {
            let index = next.next().expect("runs hold every label once");
            heights[index] = middle + (step as f64 - (count - 1) as f64 / 2.0) * gap;
        }
    }
    // Push back in from the bottom, then from the top.
    let mut order: Vec<usize> = (0..heights.len()).collect();
    order.sort_by(|&a, &b| heights[a].total_cmp(&heights[b]).then(a.cmp(&b)));
    let mut limit = bottom;
    for &index in order.iter().rev() {
        heights[index] = heights[index].min(limit);
        limit = heights[index] - gap;
    }
    let mut limit = top;
    for &index in &order {
        heights[index] = heights[index].max(limit);
        limit = heights[index] + gap;
    }
    heights
}

const SIZE: f64 = 11.0;
const CLEAR: f64 = 4.5;
const THIN: f64 = 0.5;
/// Up to where a label plainly belongs to its point.
const BESIDE: f64 = 14.0;

type Box4 = (f64, f64, f64, f64);

/// Labels beside their points, clear of `marks` and `bars`; sure ones first, then the first given first served. One
/// that finds no place is left out.
pub fn around_points(
    labels: &[((f64, f64), &Label, usize)],
    marks: &[(f64, f64)],
    bars: &[Box4],
    frame: Box4,
) -> Vec<Placed> {
    let around = |&(x, y): &(f64, f64)| (x - CLEAR, y - CLEAR, x + CLEAR, y + CLEAR);
    let along = |&(x, y, right, bottom): &Box4| (x - THIN, y - THIN, right + THIN, bottom + THIN);
    let mut taken: Vec<Box4> = marks.iter().map(around).chain(bars.iter().map(along)).collect();
    let mut placed = Vec::new();
    let mut labels = labels.to_vec();
    labels.sort_by_key(|(_, label, _)| matches!(label, Label::Spare(_)));
    for ((x, y), label, style) in labels {
        let text = label.text();
        let most = if matches!(label, Label::Sure(_)) { f64::INFINITY } else { BESIDE };
        let wide = crate::svg::width(text, SIZE);
        let found = candidates().filter(|(_, radius)| *radius <= most).find_map(|(angle, radius)| {
            let (sine, cosine) = angle.sin_cos();
            let (cx, cy) = (x + radius * cosine, y - radius * sine);
            // The text's nearest side touches the end of the ray.
            let left = cx - wide / 2.0 + cosine * wide / 2.0;
            let middle = cy - sine * SIZE / 2.0;
            let area = (left - 3.0, middle - SIZE / 2.0, left + wide + 3.0, middle + SIZE / 2.0);
            let inside = area.0 >= frame.0 && area.1 >= frame.1 && area.2 <= frame.2 && area.3 <= frame.3;
            let free = taken.iter().all(|other| !overlap(&area, other));
            (inside && free).then_some((area, radius, (cx, cy)))
        });
        if let Some((area, radius, end)) = found {
            taken.push(area);
            let lead = (radius > BESIDE).then(|| {
                let away = (end.0 - x).hypot(end.1 - y);
                let begin = (x + (end.0 - x) * 5.0 / away, y + (end.1 - y) * 5.0 / away);
                (begin, end)
            });
            let at = (area.0 + 3.0, area.3 - 2.0);
            placed.push(Placed { text: text.to_string(), style, at, lead });
        }
    }
    placed
}

/// Directions and distances to try, the nearest first.
fn candidates() -> impl Iterator<Item = (f64, f64)> {
    let radii = [9.0, 12.0, 17.0, 24.0, 34.0, 46.0, 60.0];
    radii.into_iter().flat_map(|radius| {
        [45.0f64, 315.0, 135.0, 225.0, 0.0, 180.0, 70.0, 290.0, 110.0, 250.0, 20.0, 340.0, 160.0, 200.0]
            .into_iter()
            .map(move |degrees| (degrees.to_radians(), radius))
    })
}

fn overlap(a: &Box4, b: &Box4) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_keep_their_distance_and_order() {
        let heights = apart(&[10.0, 11.0, 50.0, 99.0, 100.0], 10.0, (0.0, 100.0));
        assert_eq!(heights, [5.5, 15.5, 50.0, 90.0, 100.0]);
        assert_eq!(apart(&[5.0, 5.0], 10.0, (0.0, 100.0)), [0.0, 10.0]);
        assert!(apart(&[], 10.0, (0.0, 1.0)).is_empty());
    }

    #[test]
    fn labels_of_a_crowd_do_not_overlap() {
        let points: Vec<(f64, f64)> = (0..30)
            .map(|index| (100.0 + f64::from(index % 6) * 7.0, 100.0 + f64::from(index / 6) * 7.0))
            .collect();
        let (sure, spare) = (Label::Sure("6–7".into()), Label::Spare("0–1".into()));
        let bar = (60.0, 90.0, 180.0, 90.0);
        let place = |label: &Label| {
            let labels: Vec<_> = points.iter().map(|&point| (point, label, 0)).collect();
            around_points(&labels, &points, &[bar], (0.0, 0.0, 400.0, 300.0))
        };
        let placed = place(&sure);
        assert!(placed.len() >= 20, "{}", placed.len());
        let beside = place(&spare);
        assert!((2..placed.len()).contains(&beside.len()) && beside.iter().all(|label| label.lead.is_none()));
        let boxes: Vec<Box4> = placed
            .iter()
            .map(|label| {
                (label.at.0, label.at.1 - 9.0, label.at.0 + crate::svg::width("6–7", SIZE), label.at.1 + 2.0)
            })
            .collect();
        assert!(boxes.iter().all(|one| !overlap(one, &bar)), "a label lies over a bar");
        for (index, one) in boxes.iter().enumerate() {
            assert!(boxes[index + 1..].iter().all(|other| !overlap(one, other)));
        }
    }
}
