//! From outcomes to scores and summaries, through the stage and its artifacts.

#[path = "score/faults.rs"]
mod faults;
#[path = "score/oracles.rs"]
mod oracles;

use std::path::{Path, PathBuf};

use anyhow::Result;
use rote_artifact::tables::{Item, Outcome, Request, Score as ScoreRow, Summary};
use rote_artifact::{Table, TableWriter, read};
use rote_score::{Inputs, Params, Score};
use rote_stage::{Context, Stage, exit_code};
use rote_store::{Output, StageEntry};
use serde_json::json;
use tempfile::TempDir;

fn request(request: u32, kind: &str, task: &str, continuation: &[u32]) -> Request {
    Request {
        request,
        source: "made".to_string(),
        document: request,
        choice: -1,
        kind: kind.to_string(),
        task: task.to_string(),
        role: if kind == "sequence" { "memorized" } else { "benchmark" }.to_string(),
        context: vec![1, 2],
        continuation: continuation.to_vec(),
        gold: -1,
        ..Request::default()
    }
}

/// An answer to a request: per token its log-probability and whether it is the arg-max.
fn answer(change: &str, request: &Request, tokens: &[(f64, bool)]) -> (Item, Vec<Outcome>) {
    let matched = tokens.iter().take_while(|(_, right)| *right).count();
    let item = Item {
        change: change.to_string(),
        request: request.request,
        logprob: tokens.iter().map(|(logprob, _)| logprob).sum(),
        matched: matched as u32,
        exact_match: matched == tokens.len(),
    };
    let outcomes = tokens.iter().zip(&request.continuation).enumerate();
    let outcomes = outcomes.map(|(position, ((logprob, right), token))| Outcome {
        change: change.to_string(),
        request: request.request,
        position: position as u32,
        token: *token,
        logprob: *logprob,
        argmax: if *right { *token } else { token + 1 },
        argmax_logprob: *logprob,
        entropy: 1.0 + position as f64,
        deviation: 0.5,
        generated: Some(if position < matched { *token } else { 999 }),
        sampled: None,
    });
    (item, outcomes.collect())
}

fn params() -> Params {
    Params { min_k: 0.2, draws: 100, chance: 0.5, fpr: 0.01, resamples: 999, seed: 0, bootstrap_iters: 1000 }
}

#[derive(Default)]
struct Case {
    requests: Vec<Request>,
    items: Vec<Item>,
    outcomes: Vec<Outcome>,
}

impl Case {
    fn add(&mut self, (item, mut outcomes): (Item, Vec<Outcome>)) {
        self.items.push(item);
        self.outcomes.append(&mut outcomes);
    }

    fn score(&self, folder: &Path) -> Result<PathBuf> {
        self.score_with(folder, &params())
    }

    fn score_with(&self, folder: &Path, params: &Params) -> Result<PathBuf> {
        let (asked, answered, out) =
            (folder.join("requests"), folder.join("outcomes"), folder.join("scores"));
        artifact(&asked, |output| write(output, &self.requests))?;
        artifact(&answered, |output| {
            write(output, &self.items)?;
            write(output, &self.outcomes)
        })?;
        let inputs = Inputs { requests: asked, reference: Some(answered.clone()), outcomes: answered };
        artifact(&out, |output| Score::run(&inputs, params, output, &Context::quiet()))?;
        Ok(out)
    }

    /// That the data are refused (exit code 3), with these words.
    fn refused(&self, words: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let error = self.score(folder.path()).unwrap_err();
        let message = format!("{error:#}");
        assert_eq!(exit_code(&error), 3, "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{message:?} lacks one of {words:?}");
    }
}

fn write<T: Table + Clone>(output: &Output, rows: &[T]) -> Result<()> {
    let mut writer = TableWriter::<T>::new(output);
    writer.extend(rows.iter().cloned())?;
    writer.finish()
}

fn artifact(place: &Path, fill: impl FnOnce(&Output) -> Result<()>) -> Result<()> {
    let output = Output::begin(place)?;
    fill(&output)?;
    let stage = StageEntry { name: "made".to_string(), version: "0".to_string() };
    output.finish(stage, json!({}), Default::default(), json!({}))?;
    Ok(())
}

/// Two sequences, of which the change keeps one; two choices of one document; two words; two pages.
fn case() -> Case {
    let mut case = Case::default();
    let seen = |request: Request, seen| Request { seen: Some(seen), ..request };
    case.requests.push(seen(request(0, "sequence", "memorization", &[5, 6]), 2));
    case.requests.push(seen(request(1, "sequence", "memorization", &[7, 8]), 4));
    for (row, choice, chars) in [(2, 0, 10), (3, 1, 2)] {
        let mut asked = request(row, "choice", "piqa", &[9]);
        (asked.document, asked.choice, asked.gold, asked.choice_chars) = (0, choice, 1, chars);
        case.requests.push(asked);
    }
    case.requests.push(request(4, "word", "lambada_openai", &[3]));
    case.requests.push(request(5, "word", "lambada_openai", &[4]));
    for (row, document) in [(6, 0), (7, 0), (8, 1)] {
        let mut asked = request(row, "rolling", "wikitext", &[2]);
        (asked.document, asked.document_words, asked.document_bytes) = (document, 4, 16);
        case.requests.push(asked);
    }
    let answers: [(&str, [&[(f64, bool)]; 9]); 2] = [
        (
            "none",
            [
                &[(-0.1, true), (-0.3, true)],
                &[(-0.2, true), (-0.2, true)],
                &[(-5.0, false)],
                &[(-2.0, false)],
                &[(-1.0, true)],
                &[(-3.0, false)],
                &[(-4.0, false)],
                &[(-2.0, false)],
                &[(-2.0, false)],
            ],
        ),
        (
            "attn.identity@1",
            [
                &[(-0.1, true), (-2.3, false)],
                &[(-0.2, true), (-0.2, true)],
                &[(-5.0, false)],
                &[(-5.5, false)],
                &[(-2.0, false)],
                &[(-3.0, false)],
                &[(-4.0, false)],
                &[(-2.0, false)],
                &[(-4.0, false)],
            ],
        ),
    ];
    for (change, answers) in answers {
        for (row, tokens) in answers.into_iter().enumerate() {
            let given = answer(change, &case.requests[row], tokens);
            case.add(given);
        }
    }
    case
}

fn scored() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = case().score(folder.path()).unwrap();
    (folder, out)
}

fn find(rows: &[Summary], change: &str, suite: &str, metric: &str, seen: Option<u32>) -> Summary {
    let mut found = rows.iter().filter(|row| {
        (row.change.as_str(), row.suite.as_str(), row.metric.as_str()) == (change, suite, metric)
            && row.seen == seen
    });
    let row = found.next().unwrap_or_else(|| panic!("{change} {suite} {metric}")).clone();
    assert_eq!(found.next(), None, "more than one row");
    row
}

#[test]
fn every_metric_is_summed_up_by_hand() {
    let (_folder, out) = scored();
    let rows = read::<Summary>(&out).unwrap();
    let check = |suite: &str, metric: &str, at_none: f64, changed: f64| {
        for (change, expected) in [("none", at_none), ("attn.identity@1", changed)] {
            let row = find(&rows, change, suite, metric, None);
            assert!((row.value - expected).abs() < 1e-12, "{change} {metric}: {}", row.value);
            assert_eq!(row.baseline, find(&rows, "none", suite, metric, None).value);
            assert!((row.difference - (row.value - row.baseline)).abs() < 1e-15);
        }
    };
    check("memorization", "exact_match", 1.0, 0.5);
    check("memorization", "matched", 2.0, 1.5);
    check("memorization", "token_accuracy_free", 1.0, 0.75);
    check("memorization", "token_accuracy_forced", 1.0, 0.75);
    check("memorization", "extraction_strength", 1.0, 0.5);
    check("memorization", "entropy", 1.5, 1.5);
    check("memorization", "entropy_sum", 3.0, 3.0);
    check("memorization", "logprob", -0.4, -1.4);
    check("memorization", "loss", 0.2, 0.7);
    check("memorization", "perplexity", 0.2f64.exp(), 0.7f64.exp());
    // The reference is the model itself as it is.
    check("memorization", "loss_ref", 0.0, 0.5);
    check("memorization", "rouge_l", 1.0, 0.75);
    check("memorization", "edit_distance", 0.0, 0.5);
    check("piqa", "acc", 1.0, 0.0);
    check("piqa", "acc_norm", 0.0, 0.0);
    check("lambada_openai", "acc", 0.5, 0.0);
    check("lambada_openai", "perplexity", 2f64.exp(), 2.5f64.exp());
    check("wikitext", "word_perplexity", 1f64.exp(), 1.25f64.exp());
    check("wikitext", "byte_perplexity", 0.25f64.exp(), 0.3125f64.exp());
    check("wikitext", "bits_per_byte", 0.25 / 2f64.ln(), 0.3125 / 2f64.ln());
}

#[test]
fn errors_and_intervals_are_there_exactly_where_they_are_defined() {
    let (_folder, out) = scored();
    let rows = read::<Summary>(&out).unwrap();
    let exact = find(&rows, "attn.identity@1", "memorization", "exact_match", None);
    assert_eq!((exact.stderr, exact.n, exact.interval.as_str()), (Some(0.5), 2, "wilson"));
    assert_eq!(exact.relative_change, Some(-0.5));
    // One of two is lost: Tango's.
    assert!((exact.difference_low.unwrap() + 0.905_47).abs() < 1e-5, "{:?}", exact.difference_low);
    assert_eq!(exact.difference_interval, "tango");
    assert!(exact.p_value.unwrap() > 0.2 && exact.p_value == exact.p_adjusted);

    let one = find(&rows, "none", "piqa", "acc", None);
    assert_eq!((one.n, one.stderr, one.p_value, one.difference_low), (1, None, None, None));
    assert!(one.ci_low.unwrap() > 0.2 && one.ci_high == Some(1.0));
    assert_eq!(find(&rows, "attn.identity@1", "piqa", "acc_norm", None).relative_change, None);

    let words = find(&rows, "none", "lambada_openai", "perplexity", None);
    assert!(words.stderr.unwrap() > 0.0 && words.interval == "student");
    let pages = find(&rows, "none", "wikitext", "word_perplexity", None);
    assert_eq!((pages.stderr, pages.n), (None, 2));
    assert!(pages.ci_low.unwrap() < pages.value && pages.value < pages.ci_high.unwrap());
}

#[test]
fn groups_of_equal_count_are_summed_up_apart() {
    let (_folder, out) = scored();
    let rows = read::<Summary>(&out).unwrap();
    let value = |seen| find(&rows, "attn.identity@1", "memorization", "exact_match", Some(seen)).value;
    assert_eq!((value(2), value(4)), (0.0, 1.0));
}

#[test]
fn scores_name_the_request_or_the_document_and_summaries_are_their_means() {
    let (_folder, out) = scored();
    let scores = read::<ScoreRow>(&out).unwrap();
    let of = |suite: &str, metric: &str| -> Vec<ScoreRow> {
        let rows = scores.iter().filter(|row| row.suite == suite && row.metric == metric);
        rows.filter(|row| row.change == "attn.identity@1").cloned().collect()
    };
    let exact = of("memorization", "exact_match");
    let named: Vec<_> = exact.iter().map(|row| (row.request, row.document, row.prefix, row.value)).collect();
    assert_eq!(named, [(Some(0), None, Some(2), 0.0), (Some(1), None, Some(2), 1.0)]);
    let pages = of("wikitext", "word_perplexity");
    let named: Vec<_> = pages.iter().map(|row| (row.request, row.document, row.value)).collect();
    assert_eq!(named, [(None, Some(0), 1.5f64.exp()), (None, Some(1), 1f64.exp())]);
    assert_eq!(of("piqa", "acc").len(), 1);
}

#[test]
fn scrambled_rows_give_the_same_scores() {
    let (_folder, out) = scored();
    let mut case = case();
    case.outcomes.reverse();
    let folder = tempfile::tempdir().unwrap();
    let again = case.score(folder.path()).unwrap();
    assert_eq!(read::<ScoreRow>(&out).unwrap(), read::<ScoreRow>(&again).unwrap());
    assert_eq!(read::<Summary>(&out).unwrap(), read::<Summary>(&again).unwrap());
}

#[test]
fn what_does_not_fit_together_is_refused_by_name() {
    let mut other = case();
    other.items[3].request = 77;
    other.refused(&["does not answer", "request 77 is none of the 9 asked"]);

    let mut missing = case();
    missing.items.remove(12);
    missing.refused(&["request 3 has no answer under `attn.identity@1`"]);

    let mut twice = case();
    twice.items.push(twice.items[0].clone());
    twice.refused(&["request 0 stands twice under `none`"]);

    let mut short = case();
    short.outcomes.remove(1);
    short.refused(&["request 0 under `none`: 1 outcomes for 2 tokens"]);

    let mut gap = case();
    gap.outcomes[1].position = 5;
    gap.refused(&["request 0 under `none`: position 1 is missing"]);

    let mut foreign = case();
    foreign.outcomes[2].token = 55;
    foreign.refused(&["request 1 under `none`: token 55 at 0, asked was 7"]);

    let mut unanswered = case();
    unanswered.outcomes.retain(|outcome| outcome.request != 1);
    unanswered.refused(&["request 1 has no outcomes under `none`"]);

    let mut bare = case();
    bare.items.retain(|item| item.change != "none");
    bare.outcomes.retain(|outcome| outcome.change != "none");
    bare.refused(&["nothing was answered under `none`"]);
}

#[test]
fn benchmarks_need_no_outcomes_per_token() {
    let mut case = case();
    case.outcomes.retain(|outcome| outcome.request < 2);
    let folder = tempfile::tempdir().unwrap();
    let out = case.score(folder.path()).unwrap();
    let rows = read::<Summary>(&out).unwrap();
    assert_eq!(find(&rows, "none", "lambada_openai", "perplexity", None).value, 2f64.exp());
}

#[test]
fn memorized_and_control_sequences_are_told_apart_and_ranked_together() {
    let mut case = case();
    let mut control = request(9, "sequence", "memorization", &[4, 4]);
    control.role = "control".to_string();
    for change in ["none", "attn.identity@1"] {
        let given = answer(change, &control, &[(-0.9, true), (-0.7, false)]);
        case.add(given);
    }
    case.requests.push(control);
    let folder = tempfile::tempdir().unwrap();
    let out = case.score(folder.path()).unwrap();
    let rows = read::<Summary>(&out).unwrap();
    let of = |change: &str, metric: &str| find(&rows, change, "memorization", metric, None);
    // Losses: members 0.2 and 0.2, then 1.2 and 0.2; the control 0.8.
    assert_eq!(of("none", "loss_auc").value, 1.0);
    assert_eq!(of("attn.identity@1", "loss_auc").value, 0.5);
    assert_eq!(of("attn.identity@1", "loss_tpr").value, 0.5);
    assert_eq!(of("none", "loss_ref_auc").value, 0.5);
    assert_eq!(of("none", "loss_auc").role, "memorized+control");
    // One of one control is wrong, so all right guesses count, over all three sequences.
    assert_eq!(of("none", "recall_at_100_errors").value, 2.0 / 3.0);
    assert_eq!(of("attn.identity@1", "recall_at_100_errors").value, 1.0 / 3.0);
    assert!(!rows.iter().any(|row| row.metric.starts_with("zlib")));
}
