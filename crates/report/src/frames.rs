//! Tables as polars frames: medians and quartiles of bounds. The only file that knows polars; it never touches the
//! disk.

use anyhow::{Error, Result};
use polars::prelude::*;
use rote_artifact::tables::Bound;

use crate::reach::Middle;

/// A bound over a group of positions.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    /// The theorem's name.
    pub bound: String,
    /// Intervention.
    pub change: String,
    /// Block whose output differs.
    pub block: i32,
    /// Median and quartiles over positions.
    pub value: Middle,
    /// Positions whose measured difference is above the bound, rounding aside.
    pub violations: u64,
}

fn bound_frame(rows: &[Bound]) -> PolarsResult<LazyFrame> {
    let violated = |row: &Bound| u64::from(row.measured > row.value + 1e-9 * row.value.abs().max(1.0));
    let frame = df!(
        "bound" => rows.iter().map(|row| row.bound.as_str()).collect::<Vec<_>>(),
        "change" => rows.iter().map(|row| row.change.as_str()).collect::<Vec<_>>(),
        "block" => rows.iter().map(|row| row.block).collect::<Vec<_>>(),
        "value" => rows.iter().map(|row| row.value).collect::<Vec<_>>(),
        "violated" => rows.iter().map(violated).collect::<Vec<_>>(),
    )?;
    Ok(frame.lazy())
}

fn spread() -> [Expr; 5] {
    let quantile = |share: f64, name: &str| {
        col("value").quantile(lit(share), QuantileMethod::Linear).alias(name.to_string())
    };
    [
        col("value").count().cast(DataType::UInt64).alias("n"),
        quantile(0.25, "low"),
        quantile(0.5, "median"),
        quantile(0.75, "high"),
        col("violated").sum().alias("violations"),
    ]
}

/// Per theorem, intervention and block, in that order.
pub fn bounds_by_block(rows: &[Bound]) -> Result<Vec<Spread>> {
    let keys = ["bound", "change", "block"];
    let frame = bound_frame(rows)
        .and_then(|frame| {
            let groups = frame.group_by(keys.map(col)).agg(spread());
            groups.sort(keys, SortMultipleOptions::default()).collect()
        })
        .map_err(during("grouping bounds by block"))?;
    read_spreads(&frame).map_err(during("grouping bounds by block"))
}

fn read_spreads(frame: &DataFrame) -> PolarsResult<Vec<Spread>> {
    (0..frame.height())
        .map(|row| {
            Ok(Spread {
                bound: text(frame, "bound", row)?,
                change: text(frame, "change", row)?,
                block: frame.column("block")?.i32()?.get(row).unwrap_or(0),
                value: Middle {
                    low: number(frame, "low", row)?,
                    median: number(frame, "median", row)?,
                    high: number(frame, "high", row)?,
                    n: whole(frame, "n", row)?,
                },
                violations: whole(frame, "violations", row)?,
            })
        })
        .collect()
}

/// Says what was being done.
fn during(what: &'static str) -> impl Fn(PolarsError) -> Error {
    move |error| Error::new(error).context(what)
}

fn text(frame: &DataFrame, column: &str, row: usize) -> PolarsResult<String> {
    Ok(frame.column(column)?.str()?.get(row).unwrap_or_default().to_string())
}

fn number(frame: &DataFrame, column: &str, row: usize) -> PolarsResult<f64> {
    Ok(frame.column(column)?.f64()?.get(row).unwrap_or(f64::NAN))
}

fn whole(frame: &DataFrame, column: &str, row: usize) -> PolarsResult<u64> {
    Ok(frame.column(column)?.u64()?.get(row).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(position: u32, value: f64, measured: f64) -> Bound {
        let change = "attn.identity@0".to_string();
        Bound {
            change,
            block: 0,
            request: 0,
            position,
            bound: "local.row".into(),
            value,
            measured,
            slack: 0.0,
        }
    }

    #[test]
    fn groups_have_quartiles_and_what_is_violated() {
        let rows = [bound(0, 0.0, 0.0), bound(1, 2.0, 1.0), bound(2, 8.0, 2.0), bound(3, 6.0, 1.0)];
        let spreads = bounds_by_block(&rows).unwrap();
        assert_eq!(spreads.len(), 1);
        assert_eq!(spreads[0].value, Middle { low: 1.5, median: 4.0, high: 6.5, n: 4 });
        assert_eq!(spreads[0].violations, 0);
        assert_eq!(bounds_by_block(&[bound(1, 1.0, 2.0)]).unwrap()[0].violations, 1);
    }
}
