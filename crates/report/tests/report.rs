//! The stage from artifacts to page, on invented numbers of two models with eight blocks each.

#[path = "report/known.rs"]
mod known;
#[path = "report/made.rs"]
mod made;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use made::{Made, scores, subject, text, write, write_bounds};
use rote_artifact::tables::{Bound, Reach, Summary, Tightness};
use rote_report::Inputs;

const FIGURES: [&str; 14] = [
    "memorization",
    "benchmarks",
    "losses",
    "trade-off",
    "heads",
    "prefix",
    "times-seen",
    "entropy",
    "displacement",
    "direct-share",
    "certificates",
    "probabilities",
    "bounds",
    "tightness",
];

#[test]
fn the_page_needs_nothing_else() {
    let made = Made::new();
    let place = made.report("report", &made.everything()).unwrap();
    let page = text(&place, "page.html");
    for foreign in
        ["<script", "http:", "https:", "@import", "url(", "src=", "NaN", made.folder.path().to_str().unwrap()]
    {
        assert!(!page.contains(foreign), "page.html holds `{foreign}`");
    }
    for name in FIGURES {
        assert!(page.contains(&format!("href=\"figures/{name}.svg\"")), "{name}");
        let svg = text(&place, &format!("figures/{name}.svg"));
        assert!(svg.contains("<style>") && svg.contains("<desc") && !svg.contains("var(--"), "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("\"inf") && !svg.contains(" inf;"), "{name}");
    }
    assert!(
        page.contains("GPT-Neo 4.3M · 8 blocks: best is block 6. Recall lost 96.7\u{202f}% ("),
        "best set"
    );
    for promised in ["GPT-NeoX 4.2M · 8 blocks", "GPT-Neo 4.3M · 8 blocks", "(J1)", "ARC-Easy and PIQA"] {
        assert!(page.contains(promised), "{promised}");
    }
}

#[test]
fn a_figures_numbers_are_those_of_its_csv() {
    let made = Made::new();
    let place = made.report("report", &made.everything()).unwrap();
    for name in FIGURES {
        let svg = text(&place, &format!("figures/{name}.svg"));
        let mut drawn: Vec<(String, String)> = svg
            .split("data-x=\"")
            .skip(1)
            .map(|rest| {
                let (x, rest) = rest.split_once("\" data-y=\"").unwrap();
                (x.to_string(), rest.split_once('"').unwrap().0.to_string())
            })
            .collect();
        let csv = text(&place, &format!("figures/{name}.csv"));
        let mut listed: Vec<(String, String)> = csv
            .lines()
            .skip(1)
            .map(|line| {
                // Only the names may be quoted, and none of these holds a quote.
                let plain: String = line
                    .split('"')
                    .enumerate()
                    .map(|(i, part)| if i % 2 == 1 { "quoted" } else { part })
                    .collect();
                let cells: Vec<&str> = plain.split(',').collect();
                assert!((10..=15).contains(&cells.len()), "{line}");
                (cells[3].to_string(), cells[4].to_string())
            })
            .collect();
        drawn.sort();
        listed.sort();
        assert!(drawn.len() >= 16, "{name}: {} points", drawn.len());
        assert_eq!(drawn, listed, "{name}");
    }
}

#[test]
fn joined_roles_heads_prefixes_and_the_harness_have_their_places() {
    let made = Made::new();
    let place = made.report("report", &made.everything()).unwrap();
    let page = text(&place, "page.html");
    assert!(page.contains("<td>Min-K%: AUC</td><td>336</td><td>99.0\u{202f}%<br><small>40.0 to 100.0"));
    assert!(page.contains("p class=\"lede\"") && !page.contains("single heads (no"));
    let heads = text(&place, "figures/heads.csv");
    // Block 1 keeps the fourth root of 0.18 when one of its heads is bypassed: a third is lost.
    let line = heads.lines().find(|line| line.contains("GPT-NeoX") && line.contains("@1:h2")).unwrap();
    let loss: f64 = line.split(',').nth(10).unwrap().parse().unwrap();
    assert!((0.2..0.5).contains(&loss) && line.contains("95 % interval"), "{line}");
    let prefix = text(&place, "figures/prefix.csv");
    assert!(prefix.lines().any(|line| line.contains("unchanged,none,48,1,")), "{prefix}");
    let frontier = text(&place, "figures/trade-off.csv");
    let unbeaten: Vec<f64> = frontier
        .lines()
        .filter(|line| line.starts_with("GPT-NeoX") && line.contains(",unbeaten,"))
        .map(|line| line.split(',').nth(4).unwrap().parse().unwrap())
        .collect();
    assert!(unbeaten.len() > 1 && unbeaten.is_sorted_by(|a, b| a < b), "{unbeaten:?}");
    let table = text(&place, "table.txt");
    assert!(table.contains("|    Tasks     |Version|Filter|n-shot|"), "{table}");
    let summary: serde_json::Value = serde_json::from_str(&text(&place, "summary.json")).unwrap();
    let none = &summary["models"][0]["changes"][0];
    assert_eq!(none["memorization"]["exact_match"]["value"], 1.0);
    assert_eq!(none["memorization"]["min_k_auc"]["n"], 336);
    assert!(summary["models"][0]["reach"]["attn.identity@7"]["radius"]["median"] == 4.0);
}

#[test]
fn every_number_has_its_interval_its_source_and_its_controls() {
    let made = Made::new();
    let inputs = made.everything();
    let place = made.report("report", &inputs).unwrap();
    let content = |place: &PathBuf| rote_store::Manifest::read(place).unwrap().content_id.short();
    let bounds: Vec<String> = inputs.bounds.iter().map(content).collect();
    for name in FIGURES {
        let csv = text(&place, &format!("figures/{name}.csv"));
        let source = csv.lines().next().unwrap().split(',').position(|name| name == "source");
        let source = source.unwrap_or_else(|| panic!("{name}: no column of sources"));
        let cells = |line: &str| -> Vec<String> {
            let mut quoted = false;
            let cut = |letter: char| {
                quoted ^= letter == '"';
                letter == ',' && !quoted
            };
            line.split(cut).map(str::to_string).collect()
        };
        let of_bounds = FIGURES[8..].contains(&name);
        for line in csv.lines().skip(1) {
            let cells = cells(line);
            assert!(!cells[source].is_empty(), "{name}: {line}");
            if of_bounds {
                // Each model's numbers are from its own bounds.
                let model = usize::from(cells[0].starts_with("GPT-Neo "));
                assert_eq!(cells[source], bounds[model], "{name}: {line}");
            }
            let (low, high) = if name == "heads" { (11, 12) } else { (5, 6) };
            assert!(!cells[low].is_empty() && !cells[high].is_empty(), "{name}: {line}");
            assert!(!cells[9].is_empty(), "{name}, n: {line}");
        }
        if !of_bounds {
            assert!(csv.contains("attn.zero@") || name == "prefix", "{name}: no zeroed control");
            assert!(csv.contains(":random") || name == "heads", "{name}: no random heads");
        }
    }
    for told in [text(&place, "page.html"), text(&place, "summary.json")] {
        let told = told.replace('\u{202f}', " ");
        // The fourth root of 10 · 5.5 · 4 · 3.25.
        assert!(told.contains("by a factor of 5.17 (5.17 to 5.17, n 15) for the first 4 blocks"), "growth");
    }
    let page = text(&place, "page.html").replace('\u{202f}', " ");
    for told in [
        "the greedy token of at most 100.0 % of positions (block 7; 95 % interval 80.6 % to 100.0 %, n 16)",
        "certified radius is 4.00 (4.00 to 4.00, n 16) in the median",
        "of 96 control sequences the unchanged model recites 0.0 % (0.0 % to 0.0 %), and with any one block bypassed \
         at most 0.0 % (0.0 % to 0.0 %)",
    ] {
        assert!(page.contains(told), "{told}");
    }
    let csv = text(&place, "figures/memorization.csv");
    // Each drawing of four heads, beside the axis; the unchanged model's band; none of a single head.
    assert!(csv.contains("random4#1,,") && csv.contains("exact match,none,,1,") && !csv.contains("random1,"));
    let heads = text(&place, "figures/heads.csv");
    assert!(heads.contains("random1,") && heads.contains("drawn by lot") && heads.contains("attn.zero@1:h2"));
    let svg = text(&place, "figures/memorization.svg");
    assert!(svg.contains("class=\"band s0\"") && svg.contains(">random<"));
}

#[test]
fn every_position_is_certified_or_not_or_changed() {
    let made = Made::new();
    let place = made.report("report", &made.everything()).unwrap();
    let csv = text(&place, "figures/certificates.csv");
    let mut shares: BTreeMap<(String, String), f64> = BTreeMap::new();
    for line in csv.lines().skip(1) {
        let cells: Vec<&str> = line.rsplitn(10, ',').collect();
        let (of, series) = (cells[8], cells[9].rsplit_once(',').map_or("", |cell| cell.1));
        if ["certified", "by distance", "changed", "certified\""].iter().any(|name| series.ends_with(name)) {
            let panel = cells[9].split(',').next().unwrap();
            *shares.entry((panel.into(), of.into())).or_default() += cells[6].parse::<f64>().unwrap();
        }
    }
    assert_eq!(shares.len(), 16, "{csv}");
    assert!(shares.values().all(|sum| (sum - 1.0).abs() < 1e-12), "{shares:?}");
    let page = text(&place, "page.html");
    for promised in [
        "The bound alone certifies the greedy token of at most 100.0",
        "Differences made early grow on their way",
        "of the norm of the state there",
        "<td>E trajectory</td><td class=\"l\"><code>out.trajectory</code></td>",
        "informative at 15 of 36, vacuous at 21 of 36",
        "which is no bound and may lie on either side",
    ] {
        assert!(page.contains(promised), "{promised}");
    }
}

#[test]
fn order_of_inputs_and_place_change_nothing() {
    let made = Made::new();
    let mut inputs = made.everything();
    let first = made.report("one", &inputs).unwrap();
    inputs.scores.reverse();
    inputs.bounds.reverse();
    inputs.scores.push(inputs.scores[0].clone());
    let second = made.report("two", &inputs).unwrap();
    let content = |place: &Path| rote_store::Manifest::read(place).unwrap().content_id;
    assert_eq!(content(&first), content(&second));
}

#[test]
fn the_terminal_table_is_narrow_and_whole() {
    let made = Made::new();
    let table = text(&made.report("report", &made.everything()).unwrap(), "table.txt");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    insta::assert_snapshot!("table", table);
}

#[test]
fn what_is_missing_is_said() {
    let made = Made::new();
    let none = Vec::new;
    let inputs = Inputs {
        scores: vec![made.scores("gpt_neox", &["memorization"])],
        extractions: none(),
        bounds: none(),
    };
    let place = made.report("report", &inputs).unwrap();
    let page = text(&place, "page.html");
    assert!(page.contains("LAMBADA, HellaSwag, WikiText, ARC-Easy and PIQA"));
    assert!(page.contains("no artifact of rote-bound given"));
    // A figure without rows is no empty figure: it stands in the list alone.
    for name in ["benchmarks", "bounds", "tightness"] {
        assert!(!page.contains(&format!("<h2 id=\"{name}\">")), "{name}");
    }
    assert!(!place.join("figures/benchmarks.svg").exists());

    let (_, rows) = scores("gpt_neox", &["memorization"]);
    let undrawn: Vec<_> = rows.into_iter().filter(|row| !row.change.contains("random")).collect();
    let scores = vec![made.artifact("score-undrawn", "gpt_neox", |output| write(output, undrawn))];
    let inputs = Inputs { scores, extractions: none(), bounds: none() };
    let page = text(&made.report("undrawn", &inputs).unwrap(), "page.html");
    assert!(page.contains("no attn.identity@all:randomN") && !page.contains("Control, before the axis"));

    let only = vec![made.artifact("bound-alone", "gpt_neo", |output| write_bounds(output, "gpt_neo"))];
    let inputs = Inputs { scores: none(), extractions: none(), bounds: only };
    let page = text(&made.report("bare", &inputs).unwrap(), "page.html");
    assert!(page.contains("the question is not answered"));

    let empty = made.artifact("bound-empty", "gpt_neo", |output| {
        write(output, Vec::<Bound>::new());
        write(output, Vec::<Reach>::new());
        write(output, Vec::<Tightness>::new());
    });
    let inputs = Inputs { scores: none(), extractions: none(), bounds: vec![empty] };
    made.report("empty", &inputs).unwrap();
}

#[test]
fn the_answer_follows_the_numbers() {
    let made = Made::new();
    let place = made.report("report", &made.everything()).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&text(&place, "summary.json")).unwrap();
    let models = summary["models"].as_array().unwrap();
    let said = |model: &serde_json::Value| model["answer"].to_string();
    assert_eq!(models[0]["label"], "GPT-Neo 4.3M · 8 blocks");
    assert_eq!(models[0]["best"]["change"], "attn.identity@6");
    assert_eq!(models[1]["best"]["change"], "attn.identity@1");
    assert!(said(&models[1]).contains("recall hangs more on early blocks"), "{}", said(&models[1]));
    assert!(said(&models[0]).contains("recites 241 of 576 sequences"), "{}", said(&models[0]));
}

#[test]
fn a_task_at_guessing_is_left_out_of_losses() {
    let made = Made::new();
    let (items, mut rows) = scores("gpt_neox", &["memorization", "hellaswag", "lambada_openai"]);
    for row in rows.iter_mut().filter(|row| row.suite == "hellaswag") {
        (row.value, row.baseline, row.ci_low, row.ci_high) = (0.26, 0.26, Some(0.21), Some(0.31));
    }
    let scores = made.artifact("score-guess", "gpt_neox", |output| {
        write(output, items);
        write(output, rows);
    });
    let inputs = Inputs { scores: vec![scores], extractions: Vec::new(), bounds: Vec::new() };
    let place = made.report("report", &inputs).unwrap();
    assert!(text(&place, "table.txt").contains("HellaSwag: unchanged not above guessing"));
    assert!(text(&place, "page.html").contains("losses on HellaSwag"));
    let csv = text(&place, "figures/losses.csv");
    assert!(csv.contains("language tasks") && !csv.contains("reasoning tasks"), "{csv}");
    let summary: serde_json::Value = serde_json::from_str(&text(&place, "summary.json")).unwrap();
    let change = &summary["models"][0]["changes"][1];
    let lambada = &change["benchmarks"]["lambada_openai"];
    let expected = 1.0 - lambada["value"].as_f64().unwrap() / lambada["baseline"].as_f64().unwrap();
    assert_eq!(change["benchmark_loss"]["value"].as_f64(), Some(expected));
}

#[test]
fn what_does_not_fit_is_refused() {
    let made = Made::new();
    let refused = |inputs: &Inputs, because: &str| {
        let error = made.report("report", inputs).unwrap_err();
        assert_eq!(rote_stage::exit_code(&error), 3, "{error:#}");
        assert!(format!("{error:#}").contains(because), "{error:#}");
        assert!(!made.path("report").exists());
    };
    let with = |scores: Vec<PathBuf>| Inputs { scores, extractions: Vec::new(), bounds: Vec::new() };
    let first = made.scores("gpt_neox", &["memorization"]);
    let row = |change: &str, value: f64| Summary {
        change: change.into(),
        suite: "memorization".into(),
        role: "memorized".into(),
        seen: None,
        metric: "exact_match".into(),
        value,
        stderr: None,
        ci_low: None,
        ci_high: None,
        n: 3,
        baseline: 1.0,
        relative_change: None,
        ..Summary::default()
    };
    let summary =
        |name: &str, rows: Vec<Summary>| made.artifact(name, "gpt_neox", |output| write(output, rows));
    let other = summary("score-other", vec![row("none", 0.5)]);
    refused(&with(vec![first.clone(), other]), "in another artifact of the same model");
    refused(&with(vec![summary("score-wrong", vec![row("attn.upside@1", 0.5)])]), "unknown intervention");
    refused(&with(vec![summary("score-headless", vec![row("attn.identity@1", 0.5)])]), "no rows for `none`");
    refused(
        &with(vec![made.artifact("bound-x", "gpt_neox", |output| write_bounds(output, "gpt_neox"))]),
        "summary",
    );
    refused(&with(vec![made.path("nowhere")]), "is no artifact");
    let both = made.artifact("score-both", "gpt_neox", |output| {
        output.add_subject(subject("gpt_neo"));
        write(output, vec![row("none", 1.0)]);
    });
    refused(&with(vec![both]), "2 models in one artifact");
}
