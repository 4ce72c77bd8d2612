//! How numbers are written: fixed digits, intervals beside them, the same on page and terminal.

/// A share as percent, one decimal.
pub fn percent(share: f64) -> String {
    if !share.is_finite() {
        return "–".to_string();
    }
    let text = format!("{:.1}", share * 100.0);
    let text = if text == "-0.0" { "0.0".to_string() } else { text };
    format!("{}\u{202f}%", text.replace('-', "−"))
}

/// A round share as percent, for thresholds.
pub fn whole_percent(share: f64) -> String {
    format!("{:.0}\u{202f}%", share * 100.0)
}

/// Any number, three significant digits; powers of ten where it is very large or small.
pub fn plain(value: f64) -> String {
    let size = value.abs();
    let text = if !value.is_finite() {
        return if value.is_nan() { "–" } else { "∞" }.to_string();
    } else if size == 0.0 {
        "0".to_string()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{value:.1e}")
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    };
    text.replace('-', "−")
}

/// A count of parameters, such as `4.2M`.
pub fn parameters(count: u64) -> String {
    let count = count as f64;
    let (value, unit) = match count {
        _ if count >= 1e9 => (count / 1e9, "B"),
        _ if count >= 1e6 => (count / 1e6, "M"),
        _ if count >= 1e3 => (count / 1e3, "k"),
        _ => return format!("{count}"),
    };
    if value >= 100.0 { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") }
}

/// Whole numbers with thin groups of three, for counts in prose.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `a`, `a and b`, `a, b and c`.
pub fn listing(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_fixed() {
        assert_eq!(
            [percent(0.9484), percent(-0.0001), percent(-0.25)],
            ["94.8\u{202f}%", "0.0\u{202f}%", "−25.0\u{202f}%"]
        );
        assert_eq!([plain(1234.5), plain(0.01234), plain(2.5e9)], ["1234", "0.012", "2.5e9"]);
        assert_eq!([plain(f64::NAN), plain(f64::INFINITY), plain(0.0)], ["–", "∞", "0"]);
        assert_eq!([parameters(4_240_000), parameters(134_500_000), parameters(12)], ["4.2M", "134M", "12"]);
        assert_eq!([count(1234), count(1234567)], ["1234", "1\u{202f}234\u{202f}567"]);
    }

    #[test]
    fn listings_read_as_prose() {
        let items = ["a", "b", "c"].map(String::from);
        assert_eq!(
            [listing(&items[..1]), listing(&items[..2]), listing(&items)],
            ["a", "a and b", "a, b and c"]
        );
    }
}
