//! Tables as polars frames, and back: the only file of this crate that knows how polars keeps a column.

use anyhow::Result;
use polars::prelude::*;
use polars::sql::SQLContext;
use rote_artifact::{Cells, Misfit, NamedCells, read_cells};

use crate::Wrong;
use crate::source::Source;

/// The answer to `sql`. A table that it doesn't mention is not read.
pub fn ask(sources: &[Source], sql: &str) -> Result<DataFrame> {
    let mut context = SQLContext::new();
    let words: Vec<String> =
        sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_').map(str::to_lowercase).collect();
    for source in sources.iter().filter(|source| words.contains(&source.name.to_lowercase())) {
        let cells = read_cells(&source.folder, &source.table)?;
        context.register(&source.name, frame(cells)?.lazy());
    }
    context.execute(sql).and_then(LazyFrame::collect).map_err(|error| wrong(sources, &error))
}

/// polars' first line, and the tables where one is missing.
fn wrong(sources: &[Source], error: &PolarsError) -> anyhow::Error {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(300).collect();
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let is_table = text.contains("relation") && text.contains("not found");
    let help = if is_table {
        format!("; tables here: {}", names.join(", "))
    } else if matches!(error, PolarsError::ColumnNotFound(_)) {
        "; without SQL, the same command lists the columns".to_string()
    } else {
        String::new()
    };
    Wrong::error(format!("the SQL can't be answered: {short}{help}"))
}

fn frame(columns: Vec<NamedCells>) -> PolarsResult<DataFrame> {
    let height = columns.first().map_or(0, |(_, cells)| cells.len());
    let column = |(name, cells): NamedCells| {
        let name = PlSmallStr::from(name);
        let series = match cells {
            Cells::Bool(values) => Series::new(name, values),
            Cells::I32(values) => Series::new(name, values),
            Cells::I64(values) => Series::new(name, values),
            Cells::U32(values) => Series::new(name, values),
            Cells::U64(values) => Series::new(name, values),
            Cells::F32(values) => Series::new(name, values),
            Cells::F64(values) => Series::new(name, values),
            Cells::Text(values) => Series::new(name, values),
            Cells::Tokens(lists) => {
                let inner = lists.iter().map(|list| list.as_ref().map(|list| u32s(list)));
                inner
                    .collect::<ListChunked>()
                    .with_name(name)
                    .into_series()
                    .cast(&list_of(DataType::UInt32))?
            }
            Cells::Vector(lists) => {
                let inner = lists.iter().map(|list| list.as_ref().map(|list| f32s(list)));
                inner
                    .collect::<ListChunked>()
                    .with_name(name)
                    .into_series()
                    .cast(&list_of(DataType::Float32))?
            }
        };
        Ok(series.into_column())
    };
    DataFrame::new(height, columns.into_iter().map(column).collect::<PolarsResult<Vec<Column>>>()?)
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Box::new(item))
}

fn u32s(values: &[u32]) -> Series {
    Series::new(PlSmallStr::EMPTY, values)
}

fn f32s(values: &[f32]) -> Series {
    Series::new(PlSmallStr::EMPTY, values)
}

/// The columns of a frame, to be written.
pub fn cells(frame: &DataFrame) -> Result<Vec<NamedCells>> {
    frame.columns().iter().map(|column| Ok((column.name().to_string(), cells_of(column)?))).collect()
}

fn cells_of(column: &Column) -> Result<Cells> {
    let column = column.as_materialized_series().rechunk();
    Ok(match column.dtype() {
        DataType::Boolean => Cells::Bool(column.bool()?.iter().collect()),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => {
            Cells::I32(column.cast(&DataType::Int32)?.i32()?.iter().collect())
        }
        DataType::Int64 => Cells::I64(column.i64()?.iter().collect()),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
            Cells::U32(column.cast(&DataType::UInt32)?.u32()?.iter().collect())
        }
        DataType::UInt64 => Cells::U64(column.u64()?.iter().collect()),
        DataType::Float32 => Cells::F32(column.f32()?.iter().collect()),
        DataType::Float64 => Cells::F64(column.f64()?.iter().collect()),
        DataType::String => Cells::Text(column.str()?.iter().map(|text| text.map(str::to_string)).collect()),
        DataType::List(item) if **item == DataType::UInt32 => {
            let lists = column.list()?;
            let own = |list: Series| Ok(list.u32()?.iter().flatten().collect());
            let each = (0..lists.len()).map(|row| lists.get_as_series(row).map(own).transpose());
            Cells::Tokens(each.collect::<PolarsResult<_>>()?)
        }
        DataType::List(item) if **item == DataType::Float32 => {
            let lists = column.list()?;
            let own = |list: Series| Ok(list.f32()?.iter().flatten().collect());
            let each = (0..lists.len()).map(|row| lists.get_as_series(row).map(own).transpose());
            Cells::Vector(each.collect::<PolarsResult<_>>()?)
        }
        other => {
            let what =
                format!("column `{}` is {other}, which is not written; cast it in the SQL", column.name());
            return Err(Misfit(what).into());
        }
    })
}
