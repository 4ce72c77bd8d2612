//! Tables as polars frames: medians and quantiles of bounds, differences paired by item. The only file that
//! knows polars; it never touches the disk.

use anyhow::{Error, Result};
use polars::prelude::*;
use rote_artifact::tables::{Bound, Score};

/// Differences at or below this are taken for none when a ratio is formed: a token that sees only itself is
/// not displaced by a bypass, and 0 / 0 says nothing about a bound.
const NOTHING: f64 = 1e-9;

/// A bound over a group of positions.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    /// The theorem's name.
    pub bound: String,
    /// Intervention.
    pub change: String,
    /// Block whose output differs.
    pub block: i32,
    /// Positions.
    pub n: u64,
    /// Median bound.
    pub value: f64,
    /// Median measured difference.
    pub measured: f64,
    /// Median of bound / measured, over positions with a difference.
    pub ratio_median: Option<f64>,
    /// 90th percentile of it.
    pub ratio_p90: Option<f64>,
    /// Positions with a difference.
    pub n_ratio: u64,
    /// Positions whose measured difference is above the bound, rounding aside.
    pub violations: u64,
}

/// Items under an intervention against the same items under `none`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Paired {
    /// Intervention.
    pub change: String,
    /// Suite.
    pub suite: String,
    /// Role of the items.
    pub role: String,
    /// Metric.
    pub metric: String,
    /// Items that have both values.
    pub n: u64,
    /// Mean of (value under the intervention − value at `none`).
    pub difference: f64,
    /// Standard error of that mean; null for a single item.
    pub stderr: Option<f64>,
    /// Items whose value fell.
    pub fell: u64,
    /// Items whose value rose.
    pub rose: u64,
}

fn bound_frame(rows: &[Bound]) -> PolarsResult<LazyFrame> {
    let ratio = |row: &Bound| {
        let ratio = row.value / row.measured;
        (row.measured > NOTHING && !ratio.is_nan()).then_some(ratio)
    };
    let violated = |row: &Bound| u64::from(row.measured > row.value + 1e-9 * row.value.abs().max(1.0));
    let frame = df!(
        "bound" => rows.iter().map(|row| row.bound.as_str()).collect::<Vec<_>>(),
        "change" => rows.iter().map(|row| row.change.as_str()).collect::<Vec<_>>(),
        "block" => rows.iter().map(|row| row.block).collect::<Vec<_>>(),
        "value" => rows.iter().map(|row| row.value).collect::<Vec<_>>(),
        "measured" => rows.iter().map(|row| row.measured).collect::<Vec<_>>(),
        "ratio" => rows.iter().map(ratio).collect::<Vec<_>>(),
        "violated" => rows.iter().map(violated).collect::<Vec<_>>(),
    )?;
    Ok(frame.lazy())
}

fn spread() -> [Expr; 7] {
    [
        col("value").count().cast(DataType::UInt64).alias("n"),
        col("value").median().alias("value_median"),
        col("measured").median().alias("measured_median"),
        col("ratio").median().alias("ratio_median"),
        col("ratio").quantile(lit(0.9), QuantileMethod::Linear).alias("ratio_p90"),
        col("ratio").count().cast(DataType::UInt64).alias("n_ratio"),
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
                n: whole(frame, "n", row)?,
                value: number(frame, "value_median", row)?.unwrap_or(f64::NAN),
                measured: number(frame, "measured_median", row)?.unwrap_or(f64::NAN),
                ratio_median: number(frame, "ratio_median", row)?,
                ratio_p90: number(frame, "ratio_p90", row)?,
                n_ratio: whole(frame, "n_ratio", row)?,
                violations: whole(frame, "violations", row)?,
            })
        })
        .collect()
}

fn score_frame(rows: &[&Score]) -> PolarsResult<LazyFrame> {
    // A row is about a request or about a document; both kinds in one column, apart by sign.
    let item = |row: &&Score| match (row.request, row.document) {
        (Some(request), _) => i64::from(request),
        (None, Some(document)) => -1 - i64::from(document),
        (None, None) => i64::MIN,
    };
    let frame = df!(
        "change" => rows.iter().map(|row| row.change.as_str()).collect::<Vec<_>>(),
        "suite" => rows.iter().map(|row| row.suite.as_str()).collect::<Vec<_>>(),
        "role" => rows.iter().map(|row| row.role.as_str()).collect::<Vec<_>>(),
        "metric" => rows.iter().map(|row| row.metric.as_str()).collect::<Vec<_>>(),
        "item" => rows.iter().map(item).collect::<Vec<_>>(),
        "value" => rows.iter().map(|row| row.value).collect::<Vec<_>>(),
    )?;
    Ok(frame.lazy())
}

/// Differences from `none`, item by item, per intervention, suite, role and metric; sorted by these.
pub fn paired(rows: &[Score]) -> Result<Vec<Paired>> {
    let (base, changed): (Vec<&Score>, Vec<&Score>) = rows.iter().partition(|row| row.change == "none");
    let keys = ["change", "suite", "role", "metric"];
    let same = ["suite", "role", "metric", "item"].map(col);
    let work = || -> PolarsResult<Vec<Paired>> {
        let base = score_frame(&base)?.select([
            col("suite"),
            col("role"),
            col("metric"),
            col("item"),
            col("value").alias("base"),
        ]);
        let frame = score_frame(&changed)?
            .join(base, same.clone(), same, JoinArgs::new(JoinType::Inner))
            .with_columns([(col("value") - col("base")).alias("difference")])
            .group_by(keys.map(col))
            .agg([
                col("difference").count().cast(DataType::UInt64).alias("n"),
                col("difference").mean().alias("mean"),
                col("difference").std(1).alias("deviation"),
                col("difference").lt(lit(0.0)).sum().cast(DataType::UInt64).alias("fell"),
                col("difference").gt(lit(0.0)).sum().cast(DataType::UInt64).alias("rose"),
            ])
            .sort(keys, SortMultipleOptions::default())
            .collect()?;
        (0..frame.height())
            .map(|row| {
                let n = whole(&frame, "n", row)?;
                let deviation = number(&frame, "deviation", row)?;
                Ok(Paired {
                    change: text(&frame, "change", row)?,
                    suite: text(&frame, "suite", row)?,
                    role: text(&frame, "role", row)?,
                    metric: text(&frame, "metric", row)?,
                    n,
                    difference: number(&frame, "mean", row)?.unwrap_or(f64::NAN),
                    stderr: deviation.map(|deviation| deviation / (n as f64).sqrt()),
                    fell: whole(&frame, "fell", row)?,
                    rose: whole(&frame, "rose", row)?,
                })
            })
            .collect()
    };
    work().map_err(during("pairing scores with the unchanged model's"))
}

/// Says what was being done.
fn during(what: &'static str) -> impl Fn(PolarsError) -> Error {
    move |error| Error::new(error).context(what)
}

fn text(frame: &DataFrame, column: &str, row: usize) -> PolarsResult<String> {
    Ok(frame.column(column)?.str()?.get(row).unwrap_or_default().to_string())
}

fn number(frame: &DataFrame, column: &str, row: usize) -> PolarsResult<Option<f64>> {
    Ok(frame.column(column)?.f64()?.get(row))
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
    fn ratios_leave_out_positions_without_a_difference() {
        let rows = [bound(0, 0.0, 0.0), bound(1, 2.0, 1.0), bound(2, 8.0, 2.0), bound(3, 6.0, 1.0)];
        let spreads = bounds_by_block(&rows).unwrap();
        assert_eq!(spreads.len(), 1);
        let spread = &spreads[0];
        assert_eq!((spread.n, spread.n_ratio, spread.violations), (4, 3, 0));
        assert_eq!((spread.ratio_median, spread.ratio_p90), (Some(4.0), Some(5.6)));
        assert_eq!((spread.value, spread.measured), (4.0, 1.0));
        assert_eq!(bounds_by_block(&[bound(1, 1.0, 2.0)]).unwrap()[0].violations, 1);
    }

    #[test]
    fn pairs_are_formed_item_by_item() {
        let score = |change: &str, request: u32, value: f64| Score {
            change: change.into(),
            suite: "memorization".into(),
            metric: "exact_match".into(),
            request: Some(request),
            document: None,
            role: "memorized".into(),
            seen: None,
            prefix: None,
            value,
        };
        let rows = [
            score("none", 0, 1.0),
            score("none", 1, 1.0),
            score("none", 2, 0.0),
            score("none", 3, 1.0),
            score("attn.identity@0", 0, 0.0),
            score("attn.identity@0", 1, 1.0),
            score("attn.identity@0", 2, 1.0),
            score("attn.identity@0", 9, 1.0),
        ];
        let pairs = paired(&rows).unwrap();
        assert_eq!(pairs.len(), 1);
        assert_eq!((pairs[0].n, pairs[0].fell, pairs[0].rose, pairs[0].difference), (3, 1, 1, 0.0));
        assert!((pairs[0].stderr.unwrap() - (1.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!(paired(&[]).unwrap().is_empty());
    }
}
