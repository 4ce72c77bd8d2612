//! Small studies whose numbers are known by hand.

use std::path::Path;

use rote_artifact::tables::{Extraction, Score, Summary};
use rote_report::Inputs;

use crate::made::{BLOCKS, Made, text, write};

/// Exact match of memorized sequences: `hits` of `n`.
fn recall(change: &str, seen: Option<u32>, prefix: Option<u32>, hits: u32, n: u32) -> Summary {
    let (share, n_items) = (f64::from(hits) / f64::from(n), f64::from(n));
    // Wilson's, as rote-score gives it.
    let z2 = 1.959963984540054f64.powi(2);
    let middle = (share + z2 / (2.0 * n_items)) / (1.0 + z2 / n_items);
    let half = (share * (1.0 - share) / n_items + z2 / (4.0 * n_items * n_items)).sqrt() * z2.sqrt()
        / (1.0 + z2 / n_items);
    Summary {
        change: change.into(),
        suite: "memorization".into(),
        role: "memorized".into(),
        seen,
        prefix,
        metric: "exact_match".into(),
        value: share,
        ci_low: Some(middle - half),
        ci_high: Some(middle + half),
        n,
        baseline: 1.0,
        ..Summary::default()
    }
}

fn asked(seen: u32, prefix: u32, role: &str, exact_match: bool) -> Extraction {
    Extraction {
        role: role.into(),
        seen: Some(seen),
        prefix: Some(prefix),
        exact_match,
        ..Extraction::default()
    }
}

/// A report on scores and an extraction.
fn report(
    made: &Made,
    scores: (Vec<Score>, Vec<Summary>),
    extraction: Vec<Extraction>,
) -> std::path::PathBuf {
    let inputs = Inputs {
        scores: vec![made.artifact("score-known", "gpt_neox", |output| {
            if !scores.0.is_empty() {
                write(output, scores.0);
            }
            write(output, scores.1);
        })],
        extractions: match extraction.is_empty() {
            true => Vec::new(),
            false => vec![made.artifact("extract-known", "gpt_neox", |output| write(output, extraction))],
        },
        bounds: Vec::new(),
    };
    made.report("report", &inputs).unwrap()
}

/// Value, ends and n of a figure's row, as its CSV has them.
fn row(place: &Path, figure: &str, of: &str, x: &str) -> Vec<String> {
    let csv = text(place, &format!("figures/{figure}.csv"));
    let cells = csv.lines().map(|line| line.split(',').map(str::to_string).collect::<Vec<_>>());
    let mut found = cells.filter(|cells| cells[2] == of && cells[3] == x);
    let cells = found.next().unwrap_or_else(|| panic!("no row of {of} at {x}: {csv}"));
    vec![cells[4].clone(), cells[5].clone(), cells[6].clone(), cells[9].clone()]
}

fn numbers(cells: &[String]) -> Vec<f64> {
    cells.iter().map(|cell| cell.parse().unwrap()).collect()
}

fn answer(place: &Path) -> String {
    let summary: serde_json::Value = serde_json::from_str(&text(place, "summary.json")).unwrap();
    let sentences = summary["models"][0]["answer"].as_array().unwrap().iter();
    let sentences: Vec<&str> = sentences.map(|sentence| sentence.as_str().unwrap()).collect();
    sentences.join("\n").replace('\u{202f}', " ")
}

#[test]
fn what_alters_nothing_lies_on_the_unchanged_curve_with_its_interval() {
    let made = Made::new();
    let extraction = (0..48).map(|item| match item < 20 {
        true => asked(4, 32, "memorized", true),
        false => asked(4, 32, "dropped", false),
    });
    let never = (0..48).map(|_| asked(0, 32, "dropped", false));
    let summaries = [("none", 20), ("attn.identity@0", 20), ("attn.identity@1", 10)];
    let summaries = summaries
        .into_iter()
        .flat_map(|(change, hits)| [None, Some(4)].map(|seen| recall(change, seen, None, hits, 20)));
    let place = report(&made, (Vec::new(), summaries.collect()), extraction.chain(never).collect());
    let unchanged = row(&place, "times-seen", "none", "4");
    assert_eq!(row(&place, "times-seen", "attn.identity@0", "4"), unchanged);
    let [share, low, high, n] = numbers(&unchanged)[..] else { panic!() };
    assert!((share - 20.0 / 48.0).abs() < 1e-12 && n == 48.0);
    assert!((low - 0.2885).abs() < 1e-3 && (high - 0.5572).abs() < 1e-3, "{low} {high}");
    // Ten of 48.
    let [share, low, high, _] = numbers(&row(&place, "times-seen", "attn.identity@1", "4"))[..] else {
        panic!()
    };
    assert!((share - 10.0 / 48.0).abs() < 1e-12);
    assert!((low - 0.1173).abs() < 1e-3 && (high - 0.3426).abs() < 1e-3, "{low} {high}");
    // Of what was never recited nothing is asked under a bypass.
    assert_eq!(numbers(&row(&place, "times-seen", "attn.identity@1", "0"))[0], 0.0);
    let told = answer(&place);
    assert!(told.contains("recites 20 of 96 sequences word for word: 20.8 % (13.9 % to 30.0 %)"), "{told}");
    let table = text(&place, "table.txt");
    assert!(
        table.contains("20 of 96 sequences recited exactly (20.8 %, 95 % interval 13.9 to 30.0)"),
        "{table}"
    );
}

#[test]
fn of_several_prefixes_the_longest_counts() {
    let made = Made::new();
    let prefixes = [(8, 0), (16, 5), (32, 10)];
    let mut extraction = Vec::new();
    let mut summaries = Vec::new();
    for (prefix, hits) in prefixes {
        extraction.extend((0..10).map(|item| asked(4, prefix, "memorized", item < hits)));
        extraction.extend((0..10).map(|_| asked(0, prefix, "dropped", false)));
        for change in ["none", "attn.identity@0", "attn.identity@1"] {
            let hits = if change.ends_with('1') { hits / 5 } else { hits };
            for seen in [None, Some(4)] {
                summaries.push(Summary {
                    baseline: 0.1 * f64::from(hits),
                    ..recall(change, seen, Some(prefix), hits, 10)
                });
            }
        }
    }
    for (change, hits) in [("none", 15), ("attn.identity@0", 15), ("attn.identity@1", 3)] {
        summaries.extend(
            [None, Some(4)].map(|seen| Summary { baseline: 0.5, ..recall(change, seen, None, hits, 30) }),
        );
    }
    let place = report(&made, (Vec::new(), summaries), extraction);
    let unchanged = row(&place, "times-seen", "none", "4");
    assert_eq!(numbers(&unchanged)[0], 1.0);
    assert_eq!(unchanged[3], "10");
    assert_eq!(row(&place, "times-seen", "attn.identity@0", "4"), unchanged);
    assert_eq!(numbers(&row(&place, "times-seen", "attn.identity@1", "4"))[0], 0.2);
    let page = text(&place, "page.html");
    assert!(page.contains("only the longest counts, which decides whether it is memorized: 32 tokens"));
    let told = answer(&place);
    assert!(told.contains("recites 10 of 20 sequences word for word after 32 tokens"), "{told}");
}

#[test]
fn what_draws_discover_need_not_be_recited() {
    let made = Made::new();
    // Six are discoverable, four of them greedily; of ten.
    let extraction = (0..10).map(|item| match item {
        0..4 => asked(4, 32, "memorized", true),
        4..6 => asked(4, 32, "memorized", false),
        _ => asked(4, 32, "dropped", false),
    });
    let never = (0..10).map(|_| asked(0, 32, "dropped", false));
    let rows = ["none", "attn.identity@0"].into_iter().flat_map(|change| {
        [None, Some(4)].map(|seen| Summary { baseline: 4.0 / 6.0, ..recall(change, seen, None, 4, 6) })
    });
    let place = report(&made, (Vec::new(), rows.collect()), extraction.chain(never).collect());
    let unchanged = row(&place, "times-seen", "none", "4");
    assert_eq!(numbers(&unchanged)[0], 0.4);
    assert_eq!(row(&place, "times-seen", "attn.identity@0", "4"), unchanged);
}

/// Twenty sequences, of which the early blocks lose the first `early` and the late ones all others.
fn halves(early: u32) -> (Vec<Score>, Vec<Summary>) {
    let (mut scores, mut summaries) = (Vec::new(), Vec::new());
    let changes = (0..BLOCKS).map(|block| (format!("attn.identity@{block}"), Some(block < BLOCKS / 2)));
    for (change, is_early) in std::iter::once(("none".to_string(), None)).chain(changes) {
        let kept = |item: u32| is_early.is_none_or(|is_early| (item < early) != is_early);
        scores.extend((0..20).map(|item| Score {
            change: change.clone(),
            suite: "memorization".into(),
            metric: "exact_match".into(),
            request: Some(item),
            role: "memorized".into(),
            value: f64::from(u8::from(kept(item))),
            ..Score::default()
        }));
        summaries.push(recall(&change, None, None, (0..20).filter(|item| kept(*item)).count() as u32, 20));
    }
    (scores, summaries)
}

#[test]
fn blocks_measured_on_the_same_sequences_are_not_independent() {
    let told = |scores| {
        let made = Made::new();
        answer(&report(&made, scores, Vec::new()))
    };
    // Thirteen against seven: p = 0.26.
    let near = told(halves(13));
    assert!(near.contains("costs 65.0 % (4"), "{near}");
    assert!(
        near.contains("the first less the second: 30.0 % (−15.3 % to 69.8 %): the halves cannot"),
        "{near}"
    );
    let far = told(halves(18));
    assert!(far.contains("recall hangs more on early blocks"), "{far}");
    assert!(told(halves(2)).contains("recall hangs more on late blocks"));
    // Sums alone say nothing of it, however far apart they are.
    let blind = told((Vec::new(), halves(18).1));
    assert!(
        blind.contains("without scores sequence by sequence") && !blind.contains("hangs more"),
        "{blind}"
    );
    assert!(blind.contains("costs 90.0 % (69.9 % to 97.2 %)"), "{blind}");
}

/// Block 0 loses all recall, block 1 none; a perplexity rises by two hundredths at both.
fn pages(row: &Summary) -> Vec<Summary> {
    let mut rows: Vec<Summary> = Vec::new();
    for (change, hits) in [("none", 20), ("attn.identity@0", 0), ("attn.identity@1", 20)] {
        rows.push(recall(change, None, None, hits, 20));
        let page = Summary {
            change: change.into(),
            suite: "wikitext".into(),
            role: "benchmark".into(),
            metric: "word_perplexity".into(),
            baseline: 20.09,
            ..row.clone()
        };
        rows.push(match change {
            "none" => Summary { value: 20.09, difference_low: None, difference_high: None, ..page },
            _ => page,
        });
    }
    rows
}

#[test]
fn a_single_page_is_no_certainty() {
    let made = Made::new();
    let rows = pages(&Summary { value: 20.49, n: 1, ..Summary::default() });
    let place = report(&made, (Vec::new(), rows), Vec::new());
    let told = answer(&place);
    assert!(told.contains("block 0: 2.0 % (no interval)"), "{told}");
    assert!(told.contains("For block 0 the interval is not known to end below 10 %"), "{told}");
    assert!(told.contains("Not both intervals are known, so this could be chance"), "{told}");
    let language = text(&place, "figures/losses.csv");
    let language = language.lines().find(|line| line.contains("language tasks,attn.identity@0,")).unwrap();
    let cells: Vec<&str> = language.split(',').collect();
    assert_eq!((&cells[5..7], cells[9]), (&["", ""][..], "1"), "{language}");
    let table = text(&place, "table.txt");
    assert!(table.contains("benchmarks lost 2.0 % (no interval)"), "{table}");
    let page = text(&place, "page.html").replace('\u{202f}', " ");
    assert!(page.contains("<td>2.0 %<br><small>no interval</small></td>"));
}

#[test]
fn an_interval_down_to_no_perplexity_has_no_lower_end() {
    let made = Made::new();
    let (difference_low, difference_high) = (Some(-34.5), Some(36.6));
    let rows = pages(&Summary { value: 20.49, n: 3, difference_low, difference_high, ..Summary::default() });
    let place = report(&made, (Vec::new(), rows), Vec::new());
    let told = answer(&place);
    assert!(told.contains("block 0: 2.0 % (at most 64.6 %)"), "{told}");
    assert!(told.contains("For block 0 the interval reaches beyond 10 %"), "{told}");
    let summary: serde_json::Value = serde_json::from_str(&text(&place, "summary.json")).unwrap();
    let loss = &summary["models"][0]["changes"][1]["benchmark_loss"];
    assert!(loss["low"].is_null() && (loss["high"].as_f64().unwrap() - 0.6456).abs() < 1e-4, "{loss}");
    assert!(!text(&place, "figures/losses.svg").contains("inf"));
}
