//! WikiText-2: whole pages, with the tokenization of the data set undone.

use std::sync::LazyLock;

use anyhow::Result;
use regex::Regex;

use super::{Document, Task};
use crate::python;
use crate::records::{self, Record};

pub(super) const TASK: Task = Task { name: "wikitext", document, row: Record::clone, raw: Some(pages) };

fn document(record: &Record) -> Result<Document> {
    Ok(of_page(records::string(record, "page")?.to_string()))
}

fn of_page(page: String) -> Document {
    Document::Page { text: detokenize(&page), page }
}

/// Cuts the raw file into pages at lines of the form ` = Title = `; what stands before the first title is a
/// page only if it holds more than whitespace.
fn pages(text: &str) -> Vec<Document> {
    let mut pages = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.split('\n') {
        let joined = line.replace("= = =", "===").replace("= =", "==");
        let bare = python::strip(&joined);
        if bare.starts_with("= ") && bare.ends_with(" =") {
            pages.push(std::mem::take(&mut lines).join("\n"));
        }
        lines.push(line);
    }
    pages.push(lines.join("\n"));
    pages.into_iter().filter(|page| !python::strip(page).is_empty()).map(of_page).collect()
}

/// One step of the detokenizer: replace a literal text, or the inside of a pair of marks.
enum Step {
    Literal(&'static str, &'static str),
    Trim(&'static LazyLock<Regex>),
}

/// Python's `\s`, which holds four separators that Unicode's White_Space does not.
macro_rules! inside {
    ($open:literal, $not_close:literal, $close:literal) => {
        LazyLock::new(|| {
            let space = r"[\s\x1c-\x1f]*";
            let pattern = concat!("(", $open, "){s}(", $not_close, "*?){s}(", $close, ")");
            Regex::new(&pattern.replace("{s}", space)).expect("the pattern is valid")
        })
    };
}

static ROUND: LazyLock<Regex> = inside!(r"\(", r"[^)]", r"\)");
static SQUARE: LazyLock<Regex> = inside!(r"\[", r"[^\]]", r"\]");
static CURLY: LazyLock<Regex> = inside!(r"\{", r"[^}]", r"\}");
static DOUBLE: LazyLock<Regex> = inside!("\"", "[^\"]", "\"");
static SINGLE: LazyLock<Regex> = inside!("'", "[^']", "'");

/// In this order. The harness has one more step after the first, a pattern for `/' 5/`; its slashes were
/// meant as delimiters, and its replacement would be the literal text `/'[0-9]/`.
const STEPS: &[Step] = &[
    Step::Literal(" @-@ ", "-"),
    Step::Literal(" @,@ ", ","),
    Step::Literal(" @.@ ", "."),
    Step::Literal(" : ", ": "),
    Step::Literal(" ; ", "; "),
    Step::Literal(" . ", ". "),
    Step::Literal(" ! ", "! "),
    Step::Literal(" ? ", "? "),
    Step::Literal(" , ", ", "),
    Step::Trim(&ROUND),
    Step::Trim(&SQUARE),
    Step::Trim(&CURLY),
    Step::Trim(&DOUBLE),
    Step::Trim(&SINGLE),
    Step::Literal("= = = =", "===="),
    Step::Literal("= = =", "==="),
    Step::Literal("= =", "=="),
    Step::Literal(" ° ", "°"),
    Step::Literal(" \n", "\n"),
    Step::Literal("\n ", "\n"),
    Step::Literal(" N ", " 1 "),
    Step::Literal(" 's", "'s"),
];

fn detokenize(page: &str) -> String {
    static SLASHES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("/' [0-9]/").expect("the pattern is valid"));
    let text = page.replace("s '", "s'");
    let text = SLASHES.replace_all(&text, "/'[0-9]/").into_owned();
    STEPS.iter().fold(text, |text, step| match step {
        Step::Literal(from, to) => text.replace(from, to),
        Step::Trim(pattern) => pattern.replace_all(&text, "$1$2$3").into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_read_as_the_harness_reads_them() {
        let check = |page: &str, text: &str, words: usize, bytes: usize| {
            assert_eq!(detokenize(page), text);
            assert_eq!(python::count_pieces(page), words);
            assert_eq!(page.len(), bytes);
        };
        check(
            " = Robert = \n \n Robert 's \" 1 @,@ 000 \" films ( 2001 – 2002 ) were , on 5 @.@ 2 ° C ; good ! \n ",
            " = Robert =\n\nRobert's \"1,000\" films (2001 – 2002) were, on 5.2°C; good!\n",
            29,
            98,
        );
        check(
            " it is ' so ' and well @-@ known : yes . \n = = Career = = \n the dogs ' tail [ a ] { b } N = = = x = = = ",
            " it is'so' and well-known: yes.\n== Career ==\nthe dogs' tail [a] {b} 1 === x === ",
            37,
            104,
        );
    }

    #[test]
    fn a_raw_file_is_cut_at_titles_only() {
        let raw = " \n = One = \n \n text \n = = Part = = \n more \n \n = Two = \n \n end \n";
        let found: Vec<String> = pages(raw)
            .into_iter()
            .map(|document| match document {
                Document::Page { page, .. } => page,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, [" = One = \n \n text \n = = Part = = \n more \n ", " = Two = \n \n end \n"]);
    }
}
