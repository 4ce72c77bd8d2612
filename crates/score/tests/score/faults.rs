//! Faults of other tools, as listed when this one was begun; none may come back.
//!
//! | fault elsewhere | held here by |
//! |---|---|
//! | a loop over interventions keeps no scores, or stops before writing | `every_item_is_scored_under_every_change` |
//! | token accuracy cast to an integer | `accuracy_is_not_rounded_down` |
//! | entropy over the whole sequence, summed, shifted by one | `entropy_is_a_mean_over_the_suffix_alone` |
//! | the unchanged run uses another batch size; results depend on it | `content_does_not_depend_on_batch_or_threads` (intervene), `a_row_does_not_depend_on_its_neighbours` (model) |
//! | summaries kept without their items | `scores_name_the_request_or_the_document_and_summaries_are_their_means` (score) |
//! | a bypass that cannot work on a cache | `a_cached_continuation_equals_the_full_pass` (model) |
//! | no single heads, no combinations of blocks | `every_checkpoint_computes_what_transformers_computes` (model; one head, all blocks, each alone) |
//! | half a sequence's log-likelihood over its whole length | `perplexity_divides_by_as_many_tokens_as_it_adds_up` |
//! | guesses ranked by a shifted window | `guesses_are_ranked_by_all_their_tokens_and_no_others` |
//! | extraction strength never 0, the last token dropped | `extraction_strength_reaches_zero_and_counts_the_last_token` |
//! | (n, p) in plain floating point | `small_chances_are_not_lost` |
//! | an estimate of disk without the activations' width | `what_a_capture_takes_on_disk_is_told_with_its_width` (runner) |
//! | endings scored after their common prefix, per token | `acc_norm_divides_the_whole_choice_by_its_characters` |
//! | tasks of one name with other prompts | `documents_have_the_harness_hashes_whatever_file_they_come_from` (prepare) |

use rote_artifact::read;
use rote_artifact::tables::{Item, Outcome, Request, Score as ScoreRow, Summary};

use super::{Case, answer, case, find, request, scored};

/// Summaries of sequences with these outcomes under `none`.
fn summaries(requests: Vec<(Request, Vec<Outcome>)>) -> Vec<Summary> {
    let mut case = Case::default();
    for (request, outcomes) in requests {
        let matched = outcomes.iter().take_while(|out| out.argmax == out.token).count();
        let item = Item {
            change: "none".to_string(),
            request: request.request,
            logprob: outcomes.iter().map(|out| out.logprob).sum(),
            matched: matched as u32,
            exact_match: matched == outcomes.len(),
        };
        case.add((item, outcomes));
        case.requests.push(request);
    }
    let folder = tempfile::tempdir().unwrap();
    read(&case.score(folder.path()).unwrap()).unwrap()
}

fn value(rows: &[Summary], metric: &str) -> f64 {
    find(rows, "none", "memorization", metric, None).value
}

/// A sequence of two tokens with these log-probabilities, both the arg-max.
fn sequence(number: u32, logprobs: [f64; 2]) -> (Request, Vec<Outcome>) {
    let asked = request(number, "sequence", "memorization", &[5, 6]);
    let (_, outcomes) = answer("none", &asked, &logprobs.map(|logprob| (logprob, true)));
    (asked, outcomes)
}

/// One tool's loop over interventions never appended what it computed.
#[test]
fn every_item_is_scored_under_every_change() {
    let (_folder, out) = scored();
    let scores: Vec<ScoreRow> = read(&out).unwrap();
    let case = case();
    let count = |change: &str, metric: &str| {
        scores.iter().filter(|row| row.change == change && row.metric == metric).count()
    };
    for metric in ["exact_match", "entropy", "token_accuracy_free", "loss"] {
        assert_eq!((count("none", metric), count("attn.identity@1", metric)), (2, 2), "{metric}");
    }
    let mut names: Vec<&str> = scores.iter().map(|row| row.change.as_str()).collect();
    names.dedup();
    assert_eq!(names, ["none", "attn.identity@1"]);
    assert!(case.items.iter().all(|item| names.contains(&item.change.as_str())));
}

/// A mean cast to an integer is 0 unless everything is right.
#[test]
fn accuracy_is_not_rounded_down() {
    let asked = request(0, "sequence", "memorization", &[5, 6, 7, 8]);
    let tokens = [(-0.1, true), (-0.1, true), (-0.1, true), (-2.0, false)];
    let (_, outcomes) = answer("none", &asked, &tokens);
    let rows = summaries(vec![(asked, outcomes)]);
    assert_eq!(value(&rows, "token_accuracy_free"), 0.75);
    assert_eq!(value(&rows, "token_accuracy_forced"), 0.75);
}

/// Entropy was summed over all positions, prefix and all.
#[test]
fn entropy_is_a_mean_over_the_suffix_alone() {
    let mut given = sequence(0, [-0.1, -0.2]);
    given.0.context = vec![1; 40];
    (given.1[0].entropy, given.1[1].entropy) = (3.0, 0.5);
    let rows = summaries(vec![given]);
    assert_eq!((value(&rows, "entropy"), value(&rows, "entropy_sum")), (1.75, 3.5));
}

/// Half a sequence's log-likelihood was divided by the whole length.
#[test]
fn perplexity_divides_by_as_many_tokens_as_it_adds_up() {
    let mut long = sequence(0, [-1.0, -2.0]);
    long.0.context = vec![1; 400];
    assert_eq!(value(&summaries(vec![long]), "perplexity"), 1.5f64.exp());
    assert_eq!(value(&summaries(vec![sequence(0, [-1.0, -2.0])]), "perplexity"), 1.5f64.exp());
}

/// Guesses were ranked by a window that left out the last suffix token.
#[test]
fn guesses_are_ranked_by_all_their_tokens_and_no_others() {
    // A hundred wrong guesses whose confidence lies between that of a right guess with and without its last
    // token: with it, the right one comes after all of them and counts no more.
    let recall = |last: f64| {
        let mut all: Vec<_> = (0..100)
            .map(|number| {
                let (asked, mut outcomes) = sequence(number, [-0.5, -0.5]);
                outcomes[1].argmax = 77;
                (asked, outcomes)
            })
            .collect();
        all.push(sequence(100, [-0.1, last]));
        value(&summaries(all), "recall_at_100_errors")
    };
    assert_eq!(recall(-0.2), 1.0 / 101.0);
    assert_eq!(recall(-5.0), 0.0);
}

/// Extraction strength could not be 0, and the last token was dropped as if it ended the text.
#[test]
fn extraction_strength_reaches_zero_and_counts_the_last_token() {
    let (asked, mut outcomes) = sequence(0, [-0.1, -0.1]);
    outcomes[1].argmax = 77;
    assert_eq!(value(&summaries(vec![(asked, outcomes)]), "extraction_strength"), 0.0);
    let (asked, mut outcomes) = sequence(0, [-0.1, -0.1]);
    outcomes[0].argmax = 77;
    assert_eq!(value(&summaries(vec![(asked, outcomes)]), "extraction_strength"), 0.5);
}

/// 1 − (1 − p)ⁿ in plain floating point is 0 for every p below 1e-16.
#[test]
fn small_chances_are_not_lost() {
    let rows = summaries(vec![sequence(0, [-25.0, -25.0])]);
    let expected = 100.0 * (-50f64).exp();
    assert!((value(&rows, "discoverable") / expected - 1.0).abs() < 1e-12);
    assert_eq!(1.0 - (1.0 - (-50f64).exp()).powi(100), 0.0, "the plain form");
    assert!((value(&rows, "draws_log10") - (50.0 + 2f64.ln().ln()) / 10f64.ln()).abs() < 1e-9);
}

/// Endings were compared after what they have in common, per token.
#[test]
fn acc_norm_divides_the_whole_choice_by_its_characters() {
    let (_folder, out) = scored();
    let scores: Vec<ScoreRow> = read(&out).unwrap();
    let of = |metric: &str| {
        let found = scores.iter().find(|row| row.suite == "piqa" && row.metric == metric);
        found.unwrap().value
    };
    // −5 over 10 characters and −2 over 2, the second right: per request −2 is more, per character −0.5 is.
    assert_eq!((of("acc"), of("acc_norm")), (1.0, 0.0));
}
