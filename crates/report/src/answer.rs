//! What the numbers say, in plain sentences: which blocks cost recall, which spare generality, early or late.
//! Nothing is assumed; each sentence carries its intervals and is left out where its numbers are.

use rote_artifact::tables::Summary;

use crate::change::{Change, Sort};
use crate::interval::Interval;
use crate::items::average;
use crate::number::{count, listing, percent, whole_percent};
use crate::recited::Count;
use crate::study::{Loss, Model};

/// A loss of recall from which a bypass is said to cost recall heavily.
pub const HEAVY: f64 = 0.5;
/// A mean loss on the benchmarks up to which a bypass is said to spare them.
pub const SPARED: f64 = 0.1;

/// A mean loss of recall from which a half of the blocks is said to be needed as it is.
const NEARLY_ALL: f64 = 0.9;

/// A share with its interval.
fn share_text(value: f64, interval: Interval) -> String {
    format!("{} ({})", percent(value), interval.text(percent).unwrap_or("no interval".into()))
}

/// A loss with its interval.
pub fn loss_text(loss: Loss) -> String {
    share_text(loss.value, loss.interval)
}

fn row_text(row: &Summary) -> String {
    share_text(row.value, Interval::new(row.ci_low, row.ci_high))
}

/// The answer for one model.
pub fn sentences(model: &Model) -> Vec<String> {
    let parts =
        [unchanged(model), costliest(model), selective(model), halves(model), best(model), controls(model)];
    let sentences: Vec<String> = parts.into_iter().flatten().collect();
    if sentences.is_empty() {
        return vec!["No scores were given for this model, so the question is not answered.".to_string()];
    }
    sentences
}

fn unchanged(model: &Model) -> Option<String> {
    let Some(whole) = model.recited.whole() else {
        let row = model.recall("none")?;
        return Some(format!(
            "Unchanged, the model recites {} of the {} sequences studied word for word.",
            row_text(row),
            count(u64::from(row.n))
        ));
    };
    let given = model.recited.prefix().map(|prefix| format!(" after {prefix} tokens, the longest prefix"));
    let mut text = format!(
        "Unchanged, the model recites {} of {} sequences word for word{}: {}.",
        count(whole.exact),
        count(whole.asked),
        given.unwrap_or_default(),
        share_text(whole.share(), whole.interval())
    );
    let one = |of: Count| format!("{} of {}, {}", of.exact, of.asked, share_text(of.share(), of.interval()));
    let most = model.recited.counts().filter_map(|(seen, count)| Some((seen?, count))).next_back();
    if let Some((seen, most)) = most.filter(|(seen, _)| *seen > 0) {
        text += &format!(" Of those it was shown {seen} times it recites {}", one(most));
        if let Some(never) = model.recited.of(0) {
            text += &format!("; of those never shown, {}", one(never));
        }
        text.push('.');
    }
    Some(text)
}

fn block_losses(model: &Model) -> Vec<(u32, &Change, Loss)> {
    let mut losses: Vec<_> = model
        .blocks()
        .filter_map(|(block, change)| Some((block, change, model.recall_loss(&change.text)?)))
        .collect();
    losses.sort_by(|a, b| b.2.value.total_cmp(&a.2.value).then(a.0.cmp(&b.0)));
    losses
}

fn blocks_text(blocks: &[u32]) -> String {
    let mut blocks = blocks.to_vec();
    blocks.sort_unstable();
    let word = if blocks.len() == 1 { "block" } else { "blocks" };
    format!("{word} {}", listing(&blocks.iter().map(ToString::to_string).collect::<Vec<_>>()))
}

fn costliest(model: &Model) -> Option<String> {
    let losses = block_losses(model);
    let (_, change, loss) = losses.first()?;
    let certain: Vec<u32> =
        losses.iter().filter(|(_, _, loss)| loss.interval.is_above(0.0)).map(|loss| loss.0).collect();
    let most: Vec<u32> =
        losses.iter().filter(|other| other.2.value == loss.value).map(|loss| loss.0).collect();
    let mut text = format!(
        "Of the {} blocks bypassed one at a time, {} cost{} the most recall: {} of it is lost",
        losses.len(),
        blocks_text(&most),
        if most.len() == 1 { "s" } else { "" },
        loss_text(*loss)
    );
    if let Some((fallen, all)) = model.fallen(change) {
        text += &format!("; {fallen} of {all} sequences are no longer recited");
    }
    text += match certain.len() {
        0 => ". For no block is the loss beyond its interval",
        len if len == losses.len() => ". For every block the loss is beyond its interval",
        _ => ". ",
    };
    if !certain.is_empty() && certain.len() < losses.len() {
        text += &format!("The loss is beyond its interval for {}", blocks_text(&certain));
    }
    text.push('.');
    Some(text)
}

fn selective(model: &Model) -> Option<String> {
    let losses = block_losses(model);
    let heavy: Vec<u32> =
        losses.iter().filter(|(_, _, loss)| loss.value >= HEAVY).map(|(block, _, _)| *block).collect();
    let general = |block: u32| {
        losses.iter().find(|loss| loss.0 == block).and_then(|loss| model.general_loss(&loss.1.text, None))
    };
    if losses.is_empty() || general(losses[0].0).is_none() {
        return None;
    }
    if heavy.is_empty() {
        return Some(format!("No single block costs {} of recall or more.", whole_percent(HEAVY)));
    }
    let mut spared: Vec<u32> = heavy
        .iter()
        .copied()
        .filter(|block| general(*block).is_some_and(|loss| loss.value <= SPARED))
        .collect();
    spared.sort_unstable();
    let names = blocks_text(&heavy);
    Some(if spared.is_empty() {
        format!(
            "{} of recall or more is lost at {names}; none of them spares general ability (mean loss on the \
             benchmarks at most {}).",
            whole_percent(HEAVY),
            whole_percent(SPARED)
        )
    } else {
        let each: Vec<String> = spared
            .iter()
            .filter_map(|block| Some(format!("block {block}: {}", loss_text(general(*block)?))))
            .collect();
        let open: Vec<u32> = spared
            .iter()
            .copied()
            .filter(|block| general(*block).is_some_and(|loss| !loss.interval.is_below(SPARED)))
            .collect();
        let doubt = match open.len() {
            0 => String::new(),
            _ => {
                let known = |block: &u32| general(*block).is_some_and(|loss| loss.interval.high.is_some());
                let end = if open.iter().all(known) { "reaches beyond" } else { "is not known to end below" };
                let (open, limit) = (blocks_text(&open), whole_percent(SPARED));
                format!(" For {open} the interval {end} {limit}, so that is not settled.")
            }
        };
        format!(
            "{} of recall or more is lost at {names}; of these, {} spare{} general ability (mean loss on the \
             benchmarks at most {}: {}).{doubt}",
            whole_percent(HEAVY),
            blocks_text(&spared),
            if spared.len() == 1 { "s" } else { "" },
            whole_percent(SPARED),
            each.join("; ")
        )
    })
}

fn halves(model: &Model) -> Option<String> {
    let n_blocks = model.n_blocks();
    let half = n_blocks / 2;
    let of = |early: bool| -> Vec<&Change> {
        let scored = model.blocks().filter(|(_, change)| model.recall_loss(&change.text).is_some());
        scored.filter(|(block, _)| (*block < half) == early).map(|(_, change)| change).collect()
    };
    let (first, second) = (of(true), of(false));
    let (early, late) = (model.mean_recall_loss(&first)?, model.mean_recall_loss(&second)?);
    let names = |first: u32, last: u32| {
        if first == last { format!("block {first}") } else { format!("blocks {first}–{last}") }
    };
    let mut text = format!(
        "On average a bypass in the first half ({}) costs {} of recall, in the second half ({}) {}",
        names(0, half.max(1) - 1),
        loss_text(early),
        names(half, n_blocks - 1),
        loss_text(late)
    );
    let gap = model.recall_gap(&first, &second);
    if let Some((gap, interval)) = gap {
        text += &format!("; the first less the second: {}", share_text(gap, interval));
    }
    text += match gap {
        _ if early.value.min(late.value) >= NEARLY_ALL => ": recall hangs on both",
        Some((_, gap)) if gap.is_above(0.0) => ": recall hangs more on early blocks",
        Some((_, gap)) if gap.is_below(0.0) => ": recall hangs more on late blocks",
        Some(_) => ": the halves cannot be told apart",
        None => ": without scores sequence by sequence that tells nothing of which half matters more",
    };
    let general = |changes: &[&Change]| {
        let losses = changes.iter().map(|change| model.general_loss(&change.text, None));
        average(&losses.collect::<Option<Vec<_>>>()?)
    };
    if let (Some(first), Some(second)) = (general(&first), general(&second)) {
        text += &format!(
            ". On the benchmarks the first half costs {}, the second {}",
            loss_text(first),
            loss_text(second)
        );
    }
    text.push('.');
    Some(text)
}

fn best(model: &Model) -> Option<String> {
    let (change, recall, general) = model.best()?;
    let mut text = format!(
        "The best trade-off (largest loss of recall minus mean loss on the benchmarks) is {}: recall loses {}, the \
         benchmarks {}",
        change.phrase(),
        loss_text(recall),
        loss_text(general)
    );
    text += match (recall.interval.low, general.interval.high) {
        (Some(low), Some(high)) if low > high => ". The two intervals do not meet",
        (Some(_), Some(_)) => ". The two intervals meet, so this could be chance",
        _ => ". Not both intervals are known, so this could be chance",
    };
    let tried = model.trade_off().iter().filter(|point| point.0.is_bypass()).count();
    text += &format!("; it is the best of {tried} tried, and no correction is made for that choice.");
    Some(text)
}

fn controls(model: &Model) -> Option<String> {
    let mut parts = Vec::new();
    if let Some((role, seen, name)) = model.control()
        && let Some(row) = model.row("none", "memorization", role, seen, "exact_match")
    {
        let under =
            |(_, change): (u32, &Change)| model.row(&change.text, "memorization", role, seen, "exact_match");
        let highest = model.blocks().filter_map(under).max_by(|a, b| a.value.total_cmp(&b.value));
        let kind = if name == "never seen" { "sequences never seen" } else { name };
        let mut part = format!("of {} {kind} the unchanged model recites {}", row.n, row_text(row));
        if let Some(highest) = highest {
            part += &format!(", and with any one block bypassed at most {}", row_text(highest));
        }
        parts.push(part);
    }
    let both: Vec<(&Change, &Change)> = model
        .zeros()
        .filter_map(|(block, zero)| {
            let bypass = model.changes.iter().find(|change| change.sort == Sort::Block(block))?;
            model.recall_loss(&zero.text).and(model.recall_loss(&bypass.text)).map(|_| (zero, bypass))
        })
        .collect();
    let (zeros, bypasses): (Vec<_>, Vec<_>) = both.into_iter().unzip();
    if let (Some(zero), Some(bypass)) = (model.mean_recall_loss(&zeros), model.mean_recall_loss(&bypasses)) {
        parts.push(format!(
            "setting attention's output to zero at the same {} blocks costs {} of recall on average, the bypass {}",
            zeros.len(),
            loss_text(zero),
            loss_text(bypass)
        ));
    }
    let drawn: Vec<Loss> = model.randoms().filter_map(|change| model.recall_loss(&change.text)).collect();
    if !drawn.is_empty() {
        let each: Vec<String> = drawn.iter().map(|loss| loss_text(*loss)).collect();
        parts.push(format!(
            "bypassing as many heads as a block has, drawn by lot from all blocks, costs {} of recall",
            listing(&each)
        ));
    }
    (!parts.is_empty()).then(|| format!("Controls: {}.", parts.join("; ")))
}
