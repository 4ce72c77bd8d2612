//! NumPy's `.npy` format, as far as two-dimensional integers need it.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rote_artifact::Misfit;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads a two-dimensional array of any integer type: one row of token ids per sequence.
pub fn read(path: &Path) -> Result<Vec<Vec<u32>>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    parse(&bytes).map_err(|error| Misfit(format!("reading {}: {error:#}", path.display())).into())
}

/// A number type: its bytes, whether it has a sign, whether the highest byte comes first.
#[derive(Clone, Copy)]
struct Kind {
    size: usize,
    signed: bool,
    big: bool,
}

fn parse(bytes: &[u8]) -> Result<Vec<Vec<u32>>> {
    ensure!(!bytes.is_empty(), "the file is empty");
    ensure!(bytes.len() >= 10 && bytes.starts_with(MAGIC), "not a .npy file");
    let (length, begins) = match bytes[6] {
        1 => (usize::from(u16::from_le_bytes([bytes[8], bytes[9]])), 10),
        2 | 3 => {
            ensure!(bytes.len() >= 12, "the header is cut off");
            (u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize, 12)
        }
        version => bail!("version {version} of the format is not known here"),
    };
    let header = bytes.get(begins..begins + length).context("the header is cut off")?;
    let header = std::str::from_utf8(header).context("the header is not text")?;
    let descr = entry(header, "descr")?;
    let kind = kind(descr.trim_matches(['\'', '"']))?;
    let by_column = match entry(header, "fortran_order")? {
        "True" => true,
        "False" => false,
        other => bail!("fortran_order is `{other}`"),
    };
    let shape = shape(entry(header, "shape")?)?;
    let [rows, columns] = shape[..] else {
        bail!("an array of {} dimensions; sequences are rows of two", shape.len());
    };
    ensure!(rows > 0 && columns > 0, "an array of {rows} x {columns} holds no sequence");
    let data = &bytes[begins + length..];
    let expected = rows
        .checked_mul(columns)
        .and_then(|cells| cells.checked_mul(kind.size))
        .with_context(|| format!("{rows} x {columns} is too large"))?;
    ensure!(
        data.len() == expected,
        "{} bytes of data, {rows} x {columns} of `{descr}` take {expected}",
        data.len()
    );
    (0..rows)
        .map(|row| {
            let cell = |column| {
                let index = if by_column { column * rows + row } else { row * columns + column };
                token(&data[index * kind.size..][..kind.size], kind)
                    .with_context(|| format!("row {row}, column {column}"))
            };
            (0..columns).map(cell).collect()
        })
        .collect()
}

/// The text of one entry of the header, which is a Python dictionary of three known keys.
fn entry<'a>(header: &'a str, key: &str) -> Result<&'a str> {
    let missing = || format!("the header has no `{key}`");
    let at = header.find(&format!("'{key}'")).with_context(missing)?;
    let rest = header[at..].split_once(':').with_context(missing)?.1.trim_start();
    let ends = if rest.starts_with('(') { rest.find(')').map(|at| at + 1) } else { rest.find([',', '}']) };
    Ok(rest[..ends.with_context(missing)?].trim())
}

fn kind(descr: &str) -> Result<Kind> {
    let refused = || format!("type `{descr}`; token ids are integers (`<u2`, `<i4`, `<i8`, …)");
    let mut chars = descr.chars();
    let order = chars.next().with_context(refused)?;
    let signed = match chars.next() {
        Some('i') => true,
        Some('u') => false,
        _ => bail!(refused()),
    };
    let size = match chars.as_str() {
        "1" => 1,
        "2" => 2,
        "4" => 4,
        "8" => 8,
        _ => bail!(refused()),
    };
    match order {
        '<' | '=' | '|' => Ok(Kind { size, signed, big: false }),
        '>' => Ok(Kind { size, signed, big: true }),
        _ => bail!(refused()),
    }
}

fn shape(text: &str) -> Result<Vec<usize>> {
    text.trim_matches(['(', ')'])
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().with_context(|| format!("shape {text}")))
        .collect()
}

fn token(bytes: &[u8], kind: Kind) -> Result<u32> {
    let mut wide = [0; 8];
    for (place, &byte) in bytes.iter().enumerate() {
        let place = if kind.big { bytes.len() - 1 - place } else { place };
        wide[place] = byte;
    }
    let value = u64::from_le_bytes(wide);
    let negative = kind.signed && value >> (8 * kind.size - 1) != 0;
    ensure!(!negative, "a negative token id");
    u32::try_from(value).with_context(|| format!("token id {value} is beyond every vocabulary"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}          \n")
    }

    #[test]
    fn every_integer_type_and_both_orders_are_read() {
        let expected = vec![vec![1, 2, 300], vec![4, 5, 6]];
        let values = [1u64, 2, 300, 4, 5, 6];
        for version in [1, 2, 3] {
            for descr in ["<u2", ">u2", "<i4", ">i4", "<u4", "<i8", ">u8"] {
                let size = descr[2..].parse::<usize>().unwrap();
                let data: Vec<u8> = values
                    .iter()
                    .flat_map(|value| match descr.starts_with('>') {
                        true => value.to_be_bytes()[8 - size..].to_vec(),
                        false => value.to_le_bytes()[..size].to_vec(),
                    })
                    .collect();
                let bytes = file(version, &header(descr, "False", "(2, 3)"), &data);
                assert_eq!(parse(&bytes).unwrap(), expected, "{descr}, version {version}");
            }
        }
        let bytes = file(1, &header("|u1", "True", "(2, 3)"), &[1, 4, 2, 5, 3, 6]);
        assert_eq!(parse(&bytes).unwrap(), [[1, 2, 3], [4, 5, 6]]);
    }

    #[test]
    fn what_is_no_array_of_tokens_is_refused_with_the_cause() {
        let check = |bytes: &[u8], expected: &str| {
            let error = format!("{:#}", parse(bytes).unwrap_err());
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        };
        check(b"", "empty");
        check(b"PK\x03\x04 and so on", "not a .npy file");
        check(&file(1, &header("<f4", "False", "(1, 1)"), &[0; 4]), "type `<f4`");
        check(&file(1, &header("<u2", "False", "(3,)"), &[0; 6]), "1 dimensions");
        check(&file(1, &header("<u2", "False", "(2, 3)"), &[0; 11]), "11 bytes of data");
        check(&file(1, &header("<u2", "False", "(0, 3)"), &[]), "holds no sequence");
        check(&file(1, &header("<i2", "False", "(1, 2)"), &[1, 0, 255, 255]), "row 0, column 1: a negative");
        let wide = file(1, &header("<u8", "False", "(1, 1)"), &[0, 0, 0, 0, 1, 0, 0, 0]);
        check(&wide, "row 0, column 0: token id 4294967296");
        let mut cut = file(1, &header("<u2", "False", "(1, 1)"), &[0; 2]);
        cut.truncate(40);
        check(&cut, "cut off");
    }
}
