//! What intervened logits say of each position, beside those of the model as it is.

use rote_model::Model;

use crate::decision::Decision;
use crate::intervened::Intervened;
use crate::linear::distance;
use crate::request::Base;
use crate::wide::{compare_logits, exp_into, largest};

/// What intervened logits say of one position.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `max_v |Dz_v|`.
    pub logit: f64,
    /// By how much the baseline's greedy token leads.
    pub margin: f64,
    /// Of the true next token, nats.
    pub logp_change: Option<f64>,
    /// `KL(p || p~)`, nats.
    pub divergence: f64,
    /// Total variation.
    pub variation: f64,
    /// Whether another token is the greedy one.
    pub changed: bool,
}

/// Logits that are held at once.
const LOGITS: usize = 1 << 20;

/// Per run: `|D_i|` behind the final norm (of models that do not project there), and the logits, compared.
pub(crate) fn readouts(
    model: &Model<f64>,
    base: &Base<'_>,
    runs: &[Intervened],
) -> Vec<(Vec<f64>, Vec<Seen>)> {
    let (n, vocab) = (base.tokens.len(), model.spec.vocab.max(1));
    let mut found: Vec<(Vec<f64>, Vec<Seen>)> = Vec::with_capacity(runs.len());
    // Positions whose state differs: run, position; and what the unembedding reads there.
    let (mut places, mut rows) = (Vec::new(), Vec::new());
    for (at, run) in runs.iter().enumerate() {
        let normed = model.final_norm(&run.last.data);
        let width = normed.len() / n;
        let pairs = || normed.chunks_exact(width).zip(base.final_norm.chunks_exact(width));
        let differ = match model.weights.project_out {
            None => pairs().map(|(after, before)| distance(after, before)).collect(),
            Some(_) => Vec::new(),
        };
        for (i, (after, before)) in pairs().enumerate().filter(|(_, (after, before))| after != before) {
            debug_assert_eq!(after.len(), before.len());
            places.push((at, i));
            rows.extend_from_slice(after);
        }
        found.push((differ, (0..n).map(|i| unchanged(base, i)).collect()));
    }
    let together = (LOGITS / vocab).max(16);
    let width = rows.len() / places.len().max(1);
    let mut e = vec![0.0; vocab];
    for (places, rows) in places.chunks(together).zip(rows.chunks((together * width).max(1))) {
        let logits = model.logits(rows);
        for (&(at, i), after) in places.iter().zip(logits.chunks_exact(vocab)) {
            let next = base.tokens.get(i + 1).copied();
            found[at].1[i] = compare(&base.decisions[i], base.logits[i], after, next, &mut e);
        }
    }
    found
}

fn unchanged(base: &Base<'_>, i: usize) -> Seen {
    let logp_change = base.tokens.get(i + 1).map(|_| 0.0);
    let margin = base.decisions[i].margin;
    Seen { logit: 0.0, margin, logp_change, divergence: 0.0, variation: 0.0, changed: false }
}

/// `e` is overwritten.
fn compare(decision: &Decision, before: &[f64], after: &[f64], next: Option<u32>, e: &mut [f64]) -> Seen {
    let greedy = decision.greedy;
    let (earlier, later) = (largest(&after[..greedy]), largest(&after[greedy + 1..]));
    let others = earlier.max(later);
    let top = after[greedy].max(others);
    let sum = exp_into(e, after, top);
    let log_sum = top + sum.ln();
    let shift = log_sum - decision.log_sum;
    let (logit, divergence, variation) = compare_logits(before, after, &decision.p, e, 1.0 / sum, shift);
    Seen {
        logit,
        margin: after[greedy] - others,
        logp_change: next.map(|next| after[next as usize] - before[next as usize] - shift),
        divergence: divergence.max(0.0),
        variation,
        // The first of the largest wins.
        changed: after[greedy] < top || earlier == top,
    }
}
