//! Every number that a figure shows, as CSV: one row per mark, cell or rule, with its interval and count.

use std::fmt::Write;

use crate::figure::{Figure, Panel};
use crate::interval::Interval;

impl Figure {
    /// Every number, in the order drawn.
    pub fn csv(&self) -> String {
        let (x, y) = self.columns;
        let mut csv = format!("panel,series,of,{x},{y},{y}_low,{y}_high,{x}_low,{x}_high,n");
        let points = || self.panels.iter().flat_map(Panel::points);
        let third = points().any(|point| point.z.is_some());
        let noted = points().any(|point| !point.note.is_empty());
        let sourced = points().any(|point| !point.sources.is_empty());
        csv.push_str(if third { ",value,value_low,value_high" } else { "" });
        csv.push_str(if noted { ",note" } else { "" });
        csv.push_str(if sourced { ",source\n" } else { "\n" });
        for panel in &self.panels {
            for series in &panel.series {
                for point in series.numbers() {
                    let end = |end: Option<f64>| end.map(|end| end.to_string()).unwrap_or_default();
                    let interval =
                        |interval: Interval| format!("{},{}", end(interval.low), end(interval.high));
                    let _ = write!(
                        csv,
                        "{},{},{},{},{},{},{},{}",
                        quoted(&panel.title),
                        quoted(&series.name),
                        quoted(&point.of),
                        point.across(),
                        point.y,
                        interval(point.y_interval),
                        interval(point.x_interval),
                        point.n.map(|n| n.to_string()).unwrap_or_default(),
                    );
                    if third {
                        let z = point.z.map(|z| z.to_string()).unwrap_or_default();
                        let _ = write!(csv, ",{z},{}", interval(point.z_interval));
                    }
                    if noted {
                        let _ = write!(csv, ",{}", quoted(&point.note));
                    }
                    if sourced {
                        let _ = write!(csv, ",{}", point.sources.join(" "));
                    }
                    csv.push('\n');
                }
            }
        }
        csv
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}
