//! The string functions of Python on which benchmark prompts rest, where Rust's differ from them.

/// Whether Python's `str.isspace` holds, which is also what `\s` and `strip` go by: Unicode White_Space and
/// the four separators U+001C to U+001F.
pub fn is_space(char: char) -> bool {
    char.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&char)
}

/// `str.strip`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.rstrip`.
pub fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `str.capitalize`: the first character in title case, all others in lower case.
pub fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else { return String::new() };
    // Lower case of the whole, not of the rest: a final sigma depends on what stands before it.
    let lower = text.to_lowercase();
    let begins = first.to_lowercase().map(char::len_utf8).sum::<usize>();
    title(first) + &lower[begins..]
}

/// The title case of one character. Rust knows upper case only; the two differ for the digraphs and for the
/// characters whose upper case is several letters or a capital iota.
fn title(char: char) -> String {
    match char {
        'Ǆ'..='ǆ' => "ǅ".to_string(),
        'Ǉ'..='ǉ' => "ǈ".to_string(),
        'Ǌ'..='ǌ' => "ǋ".to_string(),
        'Ǳ'..='ǳ' => "ǲ".to_string(),
        // Greek with iota subscript: title case is one letter, upper case is two.
        '\u{1f80}'..='\u{1faf}' => shift(char, 8),
        '\u{1fb3}' => "\u{1fbc}".to_string(),
        '\u{1fc3}' => "\u{1fcc}".to_string(),
        '\u{1ff3}' => "\u{1ffc}".to_string(),
        '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}' => char.to_string(),
        // Georgian has no title case of its own.
        '\u{10d0}'..='\u{10fa}' | '\u{10fd}'..='\u{10ff}' => char.to_string(),
        'ŉ' => "ʼN".to_string(),
        // Iota subscripts under an accent stay marks.
        '\u{1fb2}' => "\u{1fba}\u{345}".to_string(),
        '\u{1fb4}' => "\u{386}\u{345}".to_string(),
        '\u{1fb7}' => "\u{391}\u{342}\u{345}".to_string(),
        '\u{1fc2}' => "\u{1fca}\u{345}".to_string(),
        '\u{1fc4}' => "\u{389}\u{345}".to_string(),
        '\u{1fc7}' => "\u{397}\u{342}\u{345}".to_string(),
        '\u{1ff2}' => "\u{1ffa}\u{345}".to_string(),
        '\u{1ff4}' => "\u{38f}\u{345}".to_string(),
        '\u{1ff7}' => "\u{3a9}\u{342}\u{345}".to_string(),
        _ => {
            // Several letters (`ß` → `SS`, `ﬁ` → `FI`): the first stays a capital, the others become small.
            let mut upper = char.to_uppercase();
            let first = upper.next().unwrap_or(char);
            let rest: String = upper.flat_map(char::to_lowercase).collect();
            format!("{first}{rest}")
        }
    }
}

fn shift(char: char, by: u32) -> String {
    let low = u32::from(char);
    let high = if low & 8 == 0 { low + by } else { low };
    char::from_u32(high).unwrap_or(char).to_string()
}

/// `len(re.split(r"\s+", text))`: runs of whitespace cut, and the empty pieces at the ends count.
pub fn count_pieces(text: &str) -> usize {
    let mut pieces = 1;
    let mut inside = false;
    for char in text.chars() {
        let space = is_space(char);
        if space && !inside {
            pieces += 1;
        }
        inside = space;
    }
    pieces
}

/// `len(text)`: code points.
pub fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitalize_titles_the_first_character_and_lowers_the_others() {
        let check = |text: &str, expected: &str| assert_eq!(capitalize(text), expected, "{text:?}");
        check("he is McDonald's NEW boss", "He is mcdonald's new boss");
        check("ßeta", "Sseta");
        check("ǆ X", "ǅ x");
        check("", "");
        check("ﬁsh", "Fish");
        check("ΟΔΟΣ", "Οδος");
        check("ᾳ", "ᾼ");
        check("İX", "İx");
        check("1ABC", "1abc");
        check("ŉOV", "ʼNov");
        check("\u{1fb7}", "\u{391}\u{342}\u{345}");
    }

    #[test]
    fn whitespace_is_pythons() {
        assert_eq!(strip("\u{1c}\u{a0} a b\u{1f}\n"), "a b");
        assert_eq!(rstrip(" a \u{85}"), " a");
        assert_eq!(rstrip(" a\u{200b}"), " a\u{200b}");
    }

    #[test]
    fn pieces_count_the_empty_ends() {
        assert_eq!(count_pieces(""), 1);
        assert_eq!(count_pieces("a b"), 2);
        assert_eq!(count_pieces(" a  b\n"), 4);
        assert_eq!(count_pieces("a\u{1d}b"), 2);
    }
}
