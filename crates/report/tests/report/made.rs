//! Artifacts of invented numbers: two models with eight blocks each, one reciting early and one late.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rote_artifact::TableWriter;
use rote_artifact::tables::{Bound, Extraction, Reach, Score, Summary, Tightness};
use rote_report::{Inputs, Params, Report};
use rote_stage::{Context, Stage};
use rote_store::{Digest, Output, StageEntry, Subject};
use serde_json::json;

pub const BLOCKS: u32 = 8;

/// A number in [0, 1) that looks random and is always the same.
pub fn noise(parts: &[&str]) -> f64 {
    let digest = Digest::of(parts.join("/").as_bytes()).to_string();
    f64::from(u32::from_str_radix(&digest[..8], 16).unwrap()) / 2f64.powi(32)
}

pub fn subject(family: &str) -> Subject {
    Subject {
        family: family.into(),
        parameters: if family == "gpt_neox" { 4_240_000 } else { 4_310_000 },
        n_blocks: BLOCKS,
        n_heads: 4,
        d_model: 192,
        content_id: Digest::of(family.as_bytes()),
    }
}

pub fn changes() -> Vec<String> {
    let mut changes = vec!["none".to_string()];
    changes.extend((0..BLOCKS).map(|block| format!("attn.identity@{block}")));
    changes.extend(["0-1", "2-3", "4-5", "6-7"].map(|range| format!("attn.identity@{range}")));
    changes.extend((0..BLOCKS).map(|block| format!("attn.zero@{block}")));
    changes.extend(["random4", "random4#1", "random1"].map(|lot| format!("attn.identity@all:{lot}")));
    changes.extend((4..8).map(|head| format!("attn.zero@1:h{}", head % 4)));
    changes.extend((4..12).map(|head| format!("attn.identity@{}:h{}", head / 4, head % 4)));
    changes
}

/// What is kept of recall (and of skill) under a change; the one family recites early, the other late.
pub fn kept(family: &str, change: &str) -> (f64, f64) {
    let Some((name, place)) = change.split_once('@') else { return (1.0, 1.0) };
    if let Some((_, lot)) = place.split_once(":random") {
        return if lot.starts_with('1') { (0.97, 0.99) } else { (0.55, 0.94) };
    }
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

pub struct Group {
    suite: &'static str,
    role: &'static str,
    metric: &'static str,
    n: u32,
}

/// Scores item by item, and their summary as rote-score makes it.
pub fn scores(family: &str, suites: &[&str]) -> (Vec<Score>, Vec<Summary>) {
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
pub fn power_of(item: u32) -> u32 {
    [2, 3, 4, 4, 5, 5, 6, 6, 6, 7, 7, 7][(item % 12) as usize]
}

pub fn extraction() -> Vec<Extraction> {
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

pub fn bounds(family: &str) -> Vec<Bound> {
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
                    slack: 0.0,
                });
            };
            add("local.exact", block, local * (1.0 + 1e-12), local);
            add("kl", -2_i32 as u32, 0.1 + last * last, 0.02 * last * last);
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
pub fn reach(family: &str) -> Vec<Reach> {
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
                logprob_change: (row.position != 15).then_some(0.05 - 0.1 * output),
                logprob_fall: (row.position != 15).then_some(0.1 + 4.0 * output),
                kl: 0.02 * output * output,
                ..Reach::default()
            }
        })
        .collect()
}

pub fn tightness(family: &str) -> Vec<Tightness> {
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

pub fn write_bounds(output: &Output, family: &str) {
    write(output, bounds(family));
    write(output, reach(family));
    write(output, tightness(family));
}

pub struct Made {
    pub folder: tempfile::TempDir,
}

impl Made {
    pub fn new() -> Made {
        Made { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn artifact(&self, name: &str, family: &str, fill: impl FnOnce(&Output)) -> PathBuf {
        let output = Output::begin(&self.path(name)).unwrap();
        output.add_subject(subject(family));
        fill(&output);
        let stage = StageEntry { name: name.split('-').next().unwrap().into(), version: "0.1.0".into() };
        output.finish(stage, json!({ "confidence": 0.95 }), BTreeMap::new(), json!({})).unwrap();
        self.path(name)
    }

    pub fn scores(&self, family: &str, suites: &[&str]) -> PathBuf {
        let (scores, summaries) = scores(family, suites);
        self.artifact(&format!("score-{family}"), family, |output| {
            write(output, scores);
            write(output, summaries);
        })
    }

    pub fn everything(&self) -> Inputs {
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

    pub fn report(&self, name: &str, inputs: &Inputs) -> anyhow::Result<PathBuf> {
        let output = Output::begin(&self.path(name))?;
        let params = Params { title: "What does each attention block recite?".into() };
        Report::run(inputs, &params, &output, &Context::quiet())?;
        let stage = StageEntry { name: "report".into(), version: "0.1.0".into() };
        output.finish(stage, serde_json::to_value(&params)?, BTreeMap::new(), json!({}))?;
        Ok(self.path(name))
    }
}

pub fn write<T: rote_artifact::Table>(output: &Output, rows: Vec<T>) {
    let mut writer = TableWriter::new(output);
    writer.extend(rows).unwrap();
    writer.finish().unwrap();
}

pub fn text(place: &Path, name: &str) -> String {
    fs::read_to_string(place.join(name)).unwrap()
}
