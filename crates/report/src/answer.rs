//! What the numbers say, in plain sentences: which blocks cost recall, which spare generality, early or late.
//! Nothing is assumed; each sentence carries its intervals and is left out where its numbers are.

use crate::change::{Change, Sort};
use crate::number::{count, listing, percent, whole_percent};
use crate::study::{Loss, Model, mean, wilson};

/// A loss of recall from which a bypass is said to cost recall heavily.
pub const HEAVY: f64 = 0.5;
/// A mean loss on the benchmarks up to which a bypass is said to spare them.
pub const SPARED: f64 = 0.1;

/// A mean loss of recall from which a half of the blocks is said to be needed as it is.
const NEARLY_ALL: f64 = 0.9;

/// A loss with its interval.
pub fn loss_text(loss: Loss) -> String {
    format!("{} ({} to {})", percent(loss.value), percent(loss.low), percent(loss.high))
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
    let (asked, exact) =
        model.recited.values().fold((0, 0), |sum, (asked, exact)| (sum.0 + asked, sum.1 + exact));
    let mut text = String::new();
    if asked > 0 {
        let (low, high) = wilson(exact, asked);
        let share = percent(exact as f64 / asked as f64);
        text = format!(
            "Unchanged, the model recites {} of {} sequences word for word ({share}, {} to {}).",
            count(exact),
            count(asked),
            percent(low),
            percent(high)
        );
        let most = model.recited.iter().filter_map(|(seen, counts)| Some(((*seen)?, counts))).next_back();
        if let Some((seen, (asked, exact))) = most.filter(|(seen, _)| *seen > 0) {
            text += &format!(" Of those it was shown {seen} times it recites {exact} of {asked}");
            if let Some((asked, exact)) = model.recited.get(&Some(0)) {
                text += &format!("; of those never shown, {exact} of {asked}");
            }
            text.push('.');
        }
    } else if let Some(row) = model.recall("none") {
        text = format!(
            "Unchanged, the model recites {} of the {} sequences studied word for word.",
            percent(row.value),
            count(u64::from(row.n))
        );
    }
    (!text.is_empty()).then_some(text)
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
    let certain: Vec<u32> = losses.iter().filter(|(_, _, loss)| loss.low > 0.0).map(|loss| loss.0).collect();
    let most: Vec<u32> =
        losses.iter().filter(|other| other.2.value == loss.value).map(|loss| loss.0).collect();
    let mut text = format!(
        "Of the {} blocks bypassed one at a time, {} cost{} the most recall: {} of it is lost",
        losses.len(),
        blocks_text(&most),
        if most.len() == 1 { "s" } else { "" },
        loss_text(*loss)
    );
    if let Some(pair) = model.pair(&change.text, "memorization", model.role()?, "exact_match") {
        text += &format!("; {} of {} sequences are no longer recited", pair.fell, pair.n);
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
            .filter(|block| general(*block).is_some_and(|loss| loss.high > SPARED))
            .collect();
        let doubt = match open.len() {
            0 => String::new(),
            _ => format!(
                " For {} the interval reaches beyond {}, so that is not settled.",
                blocks_text(&open),
                whole_percent(SPARED)
            ),
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
    let losses = block_losses(model);
    let of = |early: bool, general: bool| {
        let picked: Option<Vec<Loss>> = losses
            .iter()
            .filter(|(block, _, _)| (*block < half) == early)
            .map(
                |(_, change, recall)| {
                    if general { model.general_loss(&change.text, None) } else { Some(*recall) }
                },
            )
            .collect();
        mean(&picked?)
    };
    let (early, late) = (of(true, false)?, of(false, false)?);
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
    text += if early.value.min(late.value) >= NEARLY_ALL {
        ": recall hangs on both"
    } else if early.low > late.high {
        ": recall hangs more on early blocks"
    } else if late.low > early.high {
        ": recall hangs more on late blocks"
    } else {
        ": the halves cannot be told apart"
    };
    if let (Some(first), Some(second)) = (of(true, true), of(false, true)) {
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
    text += if recall.low > general.high {
        ". The two intervals do not meet"
    } else {
        ". The two intervals meet, so this could be chance"
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
        let hits = (row.value * f64::from(row.n)).round() as u64;
        let highest = model
            .blocks()
            .filter_map(|(_, change)| model.row(&change.text, "memorization", role, seen, "exact_match"))
            .map(|row| row.value)
            .fold(f64::NEG_INFINITY, f64::max);
        let kind = if name == "never seen" { "sequences never seen" } else { name };
        let mut part = format!("of {} {kind} the unchanged model recites {hits}", row.n);
        if highest.is_finite() {
            part += &format!(", and with any one block bypassed at most {}", percent(highest));
        }
        parts.push(part);
    }
    let both: Vec<(Loss, Loss)> = model
        .zeros()
        .filter_map(|(block, zero)| {
            let bypass = model.changes.iter().find(|change| change.sort == Sort::Block(block))?;
            Some((model.recall_loss(&zero.text)?, model.recall_loss(&bypass.text)?))
        })
        .collect();
    let (zeros, bypasses): (Vec<_>, Vec<_>) = both.into_iter().unzip();
    if let (Some(zero), Some(bypass)) = (mean(&zeros), mean(&bypasses)) {
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
