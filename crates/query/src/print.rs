//! Rows as text: aligned for people, comma-separated for programs.

use anyhow::Result;
use polars::prelude::{AnyValue, DataFrame};

/// Items of a list that are shown to people.
const SHOWN: usize = 8;

/// Aligned columns, numbers to the right, a line below the head and the number of rows below all.
pub fn table(frame: &DataFrame) -> Result<String> {
    let mut columns = Vec::new();
    for column in frame.columns() {
        let mut cells = vec![column.name().to_string()];
        for row in 0..frame.height() {
            cells.push(text(&column.get(row)?, Some(SHOWN)));
        }
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        columns.push((cells, width, column.dtype().is_primitive_numeric()));
    }
    let mut out = String::new();
    for row in 0..=frame.height() {
        let pad = |(cells, width, right): &(Vec<String>, usize, bool)| match right {
            true => format!("{:>width$}", cells[row]),
            false => format!("{:<width$}", cells[row]),
        };
        let line = columns.iter().map(pad).collect::<Vec<_>>().join("  ");
        out += &format!("{}\n", line.trim_end());
        if row == 0 {
            let lines: Vec<_> = columns.iter().map(|(_, width, _)| "─".repeat(*width)).collect();
            out += &format!("{}\n", lines.join("──"));
        }
    }
    Ok(out + &format!("{} rows\n", frame.height()))
}

/// Comma-separated values with a head; quoted where they must be, nothing where there is no value.
pub fn csv(frame: &DataFrame) -> Result<String> {
    let mut out = String::new();
    let names: Vec<_> = frame.columns().iter().map(|column| quoted(column.name())).collect();
    out += &format!("{}\n", names.join(","));
    for row in 0..frame.height() {
        let mut cells = Vec::new();
        for column in frame.columns() {
            let value = column.get(row)?;
            cells.push(if value.is_null() { String::new() } else { quoted(&text(&value, None)) });
        }
        out += &format!("{}\n", cells.join(","));
    }
    Ok(out)
}

fn quoted(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

/// Numbers in full for programs, with six digits for people; lists cut for people.
fn text(value: &AnyValue, shown: Option<usize>) -> String {
    match value {
        AnyValue::Null => "–".to_string(),
        AnyValue::String(text) => text.to_string(),
        AnyValue::StringOwned(text) => text.to_string(),
        AnyValue::Float32(number) => float(f64::from(*number), number.to_string(), shown),
        AnyValue::Float64(number) => float(*number, number.to_string(), shown),
        AnyValue::List(items) => {
            let all = items.len();
            let some = shown.map_or(all, |most| all.min(most));
            let each =
                (0..some).map(|at| items.get(at).map_or_else(|_| String::new(), |item| text(&item, shown)));
            let dots = if some < all { format!(" … {all} in all") } else { String::new() };
            format!("[{}{dots}]", each.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

fn float(number: f64, full: String, shown: Option<usize>) -> String {
    let size = number.abs();
    match shown {
        Some(_) if size != 0.0 && !(1e-4..1e9).contains(&size) && number.is_finite() => {
            format!("{number:.3e}")
        }
        Some(_) if number.fract() != 0.0 && number.is_finite() => format!("{number:.6}"),
        _ => full,
    }
}
