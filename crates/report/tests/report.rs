//! The stage from artifacts to page, on invented numbers of two models with eight blocks each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rote_artifact::TableWriter;
use rote_artifact::tables::{Bound, Extraction, Reach, Score, Summary, Tightness};
use rote_report::{Inputs, Params, Report};
use rote_stage::{Context, Stage};
use rote_store::{Digest, Output, StageEntry, Subject};
use serde_json::json;

const BLOCKS: u32 = 8;

/// A number in [0, 1) that looks random and is always the same.
fn noise(parts: &[&str]) -> f64 {
    let digest = Digest::of(parts.join("/").as_bytes()).to_string();
    f64::from(u32::from_str_radix(&digest[..8], 16).unwrap()) / 2f64.powi(32)
}

fn subject(family: &str) -> Subject {
    Subject {
        family: family.into(),
        parameters: if family == "gpt_neox" { 4_240_000 } else { 4_310_000 },
        n_blocks: BLOCKS,
        n_heads: 4,
        d_model: 192,
        content_id: Digest::of(family.as_bytes()),
    }
}

fn changes() -> Vec<String> {
    let mut changes = vec!["none".to_string()];
    changes.extend((0..BLOCKS).map(|block| format!("attn.identity@{block}")));
    changes.extend(["0-1", "2-3", "4-5", "6-7"].map(|range| format!("attn.identity@{range}")));
    changes.extend((0..BLOCKS).map(|block| format!("attn.zero@{block}")));
    changes.extend((4..12).map(|head| format!("attn.identity@{}:h{}", head / 4, head % 4)));
    changes
}

/// What is kept of recall (and of skill) under a change; the one family recites early, the other late.
fn kept(family: &str, change: &str) -> (f64, f64) {
    let Some((name, place)) = change.split_once('@') else { return (1.0, 1.0) };
    let one = |block: u32| -> (f64, f64) {
        match (family, block) {
            ("gpt_neox", 0) => (0.02, 0.35),
            ("gpt_neox", 1) => (0.18, 0.95),
            ("gpt_neox", 2) => (0.45, 0.93),
            ("gpt_neox", _) => (0.80 + 0.02 * f64::from(block), 0.97),
            (_, 0) => (0.03, 0.30),
            (_, 6) => (0.12, 0.92),
            (_, 7) => (0.30, 0.96),
            (_, block) => (0.93 - 0.03 * f64::from(block), 0.95),
        }
    };
    let (blocks, head) = place.split_once(":h").map_or((place, false), |(blocks, _)| (blocks, true));
    let (low, high) = blocks.split_once('-').unwrap_or((blocks, blocks));
    let range = low.parse::<u32>().unwrap()..=high.parse::<u32>().unwrap();
    let (recall, skill) =
        range.map(one).fold((1.0, 1.0), |all: (f64, f64), one| (all.0 * one.0, all.1 * one.1));
    match (name, head) {
        (_, true) => (recall.sqrt().sqrt(), skill.sqrt()),
        ("attn.zero", _) => (recall * 0.6, skill * 0.85),
        _ => (recall, skill),
    }
}

struct Group {
    suite: &'static str,
    role: &'static str,
    metric: &'static str,
    n: u32,
}

/// Scores item by item, and their summary as rote-score makes it.
fn scores(family: &str, suites: &[&str]) -> (Vec<Score>, Vec<Summary>) {
    let group = |suite, role, metric, n| Group { suite, role, metric, n };
    let groups = [
        group("memorization", "memorized", "exact_match", 240),
        group("memorization", "memorized", "token_accuracy_free", 240),
        group("memorization", "memorized", "entropy", 240),
        group("memorization", "control", "exact_match", 96),
        group("memorization", "control", "entropy", 96),
        group("lambada_openai", "benchmark", "acc", 300),
        group("lambada_openai", "benchmark", "perplexity", 300),
        group("hellaswag", "benchmark", "acc", 300),
        group("hellaswag", "benchmark", "acc_norm", 300),
        group("wikitext", "benchmark", "word_perplexity", 40),
    ];
    let mut scores = Vec::new();
    let mut summaries: Vec<Summary> = Vec::new();
    let mut baselines = BTreeMap::new();
    for change in changes() {
        let (recall, skill) = kept(family, &change);
        for group in groups.iter().filter(|group| suites.contains(&group.suite)) {
            let value = |item: u32| -> f64 {
                let luck = noise(&[family, group.suite, group.role, &item.to_string()]);
                let own = noise(&[family, &change, group.suite, group.role, &item.to_string()]);
                let hit = |share: f64| f64::from(u8::from(0.7 * luck + 0.3 * own < share));
                match (group.suite, group.role, group.metric) {
                    (_, "memorized", "exact_match") => hit(recall),
                    (_, "memorized", "token_accuracy_free") => {
                        if hit(recall) == 1.0 {
                            1.0
                        } else {
                            (own * 0.6 * 32.0).round() / 32.0
                        }
                    }
                    (_, "memorized", "entropy") => 0.1 + 2.6 * (1.0 - recall) * (0.7 + 0.6 * own),
                    (_, "control", "entropy") => 2.9 + own + (1.0 - skill),
                    (_, "control", _) => 0.0,
                    (_, _, "perplexity" | "word_perplexity") => (3.4 + 0.5 * own + 2.5 * (1.0 - skill)).exp(),
                    ("hellaswag", ..) => hit(0.25 + 0.2 * skill),
                    _ => hit(0.38 * skill),
                }
            };
            let mut add = |seen: Option<u32>, prefix: Option<u32>, items: Vec<u32>| {
                let values: Vec<f64> = items.iter().map(|&item| value(item)).collect();
                let n = values.len() as f64;
                let mean = values.iter().sum::<f64>() / n;
                let deviation =
                    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
                let stderr = deviation / n.sqrt();
                let key = (group.suite, group.role, seen, prefix, group.metric);
                let baseline = *baselines.entry(key).or_insert(mean);
                summaries.push(Summary {
                    change: change.clone(),
                    suite: group.suite.into(),
                    role: group.role.into(),
                    seen,
                    prefix,
                    metric: group.metric.into(),
                    value: mean,
                    stderr: Some(stderr),
                    ci_low: Some((mean - 1.96 * stderr).max(0.0)),
                    ci_high: Some(mean + 1.96 * stderr),
                    n: items.len() as u32,
                    baseline,
                    relative_change: (baseline != 0.0).then(|| (mean - baseline) / baseline),
                    ..Summary::default()
                });
            };
            add(None, None, (0..group.n).collect());
            if group.role == "memorized" {
                for (place, prefix) in [16, 32, 48].into_iter().enumerate() {
                    add(None, Some(prefix), (0..group.n).filter(|item| item % 3 == place as u32).collect());
                }
                for power in 2..8 {
                    add(
                        Some(1 << power),
                        None,
                        (0..group.n).filter(|&item| power_of(item) == power).collect(),
                    );
                }
            }
            // Pairs are counted of recall alone.
            let items = if group.metric == "exact_match" { group.n } else { 0 };
            scores.extend((0..items).map(|item| Score {
                change: change.clone(),
                suite: group.suite.into(),
                metric: group.metric.into(),
                request: Some(item),
                document: None,
                role: group.role.into(),
                seen: None,
                prefix: None,
                value: value(item),
            }));
        }
    }
    if suites.contains(&"memorization") {
        summaries.extend(changes().into_iter().map(|change| Summary {
            value: 0.5 + 0.49 * kept(family, &change).0,
            change,
            suite: "memorization".into(),
            role: "memorized+control".into(),
            metric: "min_k_auc".into(),
            ci_low: Some(0.4),
            ci_high: Some(1.0),
            n: 336,
            ..Summary::default()
        }));
    }
    (scores, summaries)
}

/// Items are spread over the counts 4 … 128, more of them on the higher ones.
fn power_of(item: u32) -> u32 {
    [2, 3, 4, 4, 5, 5, 6, 6, 6, 7, 7, 7][(item % 12) as usize]
}

fn extraction() -> Vec<Extraction> {
    let recited = [(0, 0), (1, 0), (2, 1), (4, 20), (8, 20), (16, 40), (32, 40), (64, 60), (128, 60)];
    let rows = recited.into_iter().flat_map(|(seen, exact)| (0..64).map(move |item| (seen, item < exact)));
    rows.enumerate()
        .map(|(request, (seen, exact_match))| Extraction {
            request: request as u32,
            role: if exact_match { "memorized" } else { "dropped" }.into(),
            seen: Some(seen),
            matched: if exact_match { 32 } else { 3 },
            exact_match,
            logprob: -10.0,
            ..Extraction::default()
        })
        .collect()
}

fn bounds(family: &str) -> Vec<Bound> {
    let mut rows = Vec::new();
    for block in 0..BLOCKS {
        for position in 0..16u32 {
            let own = noise(&[family, "bound", &block.to_string(), &position.to_string()]);
            let local = if position == 0 { 0.0 } else { (0.4 + f64::from(block) * 0.25) * (0.5 + own) };
            let last = local * (1.0 + 9.0 / f64::from(block + 1));
            let mut add = |name: &str, at: u32, value: f64, measured: f64| {
                rows.push(Bound {
                    change: format!("attn.identity@{block}"),
                    block: at as i32,
                    request: 0,
                    position,
                    bound: name.into(),
                    value,
                    measured,
                });
            };
            add("local.exact", block, local * (1.0 + 1e-12), local);
            add("local.heads", block, local * 2.1, local);
            add("local.row", block, local * 6.0, local);
            add("local.weights", block, 900.0, local);
            for at in block..BLOCKS {
                let here =
                    local + (last - local) * f64::from(at - block) / f64::from((BLOCKS - 1 - block).max(1));
                let far = f64::from(at - block);
                add("out.trajectory", at, here * 4f64.powf(far), here);
                add("out.additive", at, 900.0 * f64::from(BLOCKS - block), here);
                add("out.product", at, 3.0 + 4.0 * far, here.max(1e-300).log10());
            }
        }
    }
    rows
}

/// States and certificates that go with [`bounds`]: late blocks are certified, early ones change tokens.
fn reach(family: &str) -> Vec<Reach> {
    let rows = bounds(family);
    let local = |row: &&Bound| row.bound == "local.exact";
    rows.iter()
        .filter(local)
        .map(|row| {
            let last = |name: &str| {
                let same = |other: &&Bound| {
                    other.bound == name
                        && other.change == row.change
                        && other.block == BLOCKS as i32 - 1
                        && other.position == row.position
                };
                rows.iter().find(same).expect("every local row has one at the last block")
            };
            let output = last("out.trajectory").measured;
            Reach {
                change: row.change.clone(),
                block: row.block,
                position: row.position,
                local: row.measured,
                output,
                state: 20.0,
                direct: 0.5,
                later_attn: 0.3,
                later_mlp: 0.2,
                estimate: 1.1 * output,
                bound: last("out.trajectory").value,
                radius: 4.0,
                changed: output > 5.0,
                certified: last("out.trajectory").value < 4.0,
                within: output < 4.0,
                ..Reach::default()
            }
        })
        .collect()
}

fn tightness(family: &str) -> Vec<Tightness> {
    let mut rows: Vec<Tightness> = Vec::new();
    for bound in bounds(family).into_iter().filter(|bound| bound.position == 1) {
        let ratio = match bound.bound.as_str() {
            "out.product" => bound.value - bound.measured,
            _ => (bound.value / bound.measured).log10(),
        };
        let equal = bound.bound == "local.exact";
        let verdict = if ratio < 1.0 { "informative" } else { "vacuous" };
        rows.push(Tightness {
            change: bound.change,
            block: bound.block,
            claim: if equal { "equality" } else { "bound" }.into(),
            bound: bound.bound,
            n: 16,
            compared: 15,
            log10_median: Some(ratio),
            log10_p90: Some(ratio + 0.2),
            log10_max: Some(ratio + 0.4),
            informative: f64::from(u8::from(ratio < 1.0)),
            verdict: if equal { "exact" } else { verdict }.into(),
        });
    }
    rows
}

fn write_bounds(output: &Output, family: &str) {
    write(output, bounds(family));
    write(output, reach(family));
    write(output, tightness(family));
}

struct Made {
    folder: tempfile::TempDir,
}

impl Made {
    fn new() -> Made {
        Made { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn artifact(&self, name: &str, family: &str, fill: impl FnOnce(&Output)) -> PathBuf {
        let output = Output::begin(&self.path(name)).unwrap();
        output.add_subject(subject(family));
        fill(&output);
        let stage = StageEntry { name: name.split('-').next().unwrap().into(), version: "0.1.0".into() };
        output.finish(stage, json!({ "confidence": 0.95 }), BTreeMap::new(), json!({})).unwrap();
        self.path(name)
    }

    fn scores(&self, family: &str, suites: &[&str]) -> PathBuf {
        let (scores, summaries) = scores(family, suites);
        self.artifact(&format!("score-{family}"), family, |output| {
            write(output, scores);
            write(output, summaries);
        })
    }

    fn everything(&self) -> Inputs {
        let suites = ["memorization", "lambada_openai", "hellaswag", "wikitext"];
        let each = ["gpt_neox", "gpt_neo"];
        Inputs {
            scores: each.map(|family| self.scores(family, &suites)).to_vec(),
            extractions: each
                .map(|family| {
                    self.artifact(&format!("extract-{family}"), family, |output| write(output, extraction()))
                })
                .to_vec(),
            bounds: each
                .map(|family| {
                    self.artifact(&format!("bound-{family}"), family, |output| write_bounds(output, family))
                })
                .to_vec(),
        }
    }

    fn report(&self, name: &str, inputs: &Inputs) -> anyhow::Result<PathBuf> {
        let output = Output::begin(&self.path(name))?;
        let params = Params { title: "What does each attention block recite?".into() };
        Report::run(inputs, &params, &output, &Context::quiet())?;
        let stage = StageEntry { name: "report".into(), version: "0.1.0".into() };
        output.finish(stage, serde_json::to_value(&params)?, BTreeMap::new(), json!({}))?;
        Ok(self.path(name))
    }
}

fn write<T: rote_artifact::Table>(output: &Output, rows: Vec<T>) {
    let mut writer = TableWriter::new(output);
    writer.extend(rows).unwrap();
    writer.finish().unwrap();
}

fn text(place: &Path, name: &str) -> String {
    fs::read_to_string(place.join(name)).unwrap()
}

const FIGURES: [&str; 13] = [
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
                assert!((10..=12).contains(&cells.len()), "{line}");
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
fn every_position_is_certified_or_not_or_changed() {
    let made = Made::new();
    let place = made.report("report", &made.everything()).unwrap();
    let csv = text(&place, "figures/certificates.csv");
    let mut shares: BTreeMap<(String, String), f64> = BTreeMap::new();
    for line in csv.lines().skip(1) {
        let cells: Vec<&str> = line.rsplitn(9, ',').collect();
        let (of, series) = (cells[7], cells[8].rsplit_once(',').map_or("", |cell| cell.1));
        if ["certified", "by distance", "changed", "certified\""].iter().any(|name| series.ends_with(name)) {
            let panel = cells[8].split(',').next().unwrap();
            *shares.entry((panel.into(), of.into())).or_default() += cells[5].parse::<f64>().unwrap();
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
    assert!(page.contains("Not measured: no rows for this figure were given."));
    assert!(!place.join("figures/benchmarks.svg").exists());

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
