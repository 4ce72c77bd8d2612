//! The attention module of a block for a group of rows, and the place where a bypass happens.

use anyhow::Result;
use rayon::prelude::*;
use rote_plan::{Action, AttnChange, BlockChange, Hook};

use crate::attend::{Task, attend, attend_with_weights};
use crate::forward::{Buffers, Row, Run, Way, add_bias, runs, sized};
use crate::kernels::{Threads, add, for_rows, wide_fn};
use crate::norm::normalise;
use crate::product::product;
use crate::rotary::Turns;
use crate::state::{KeysValues, PANEL};
use crate::{Block, Model, Real, Spec, Tap};

/// What a block's attention computes for a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// Queries, keys, values, weights.
    Full,
    /// Values only.
    Values,
    /// Nothing.
    Skip,
}

fn treatment(change: &BlockChange) -> Treatment {
    match &change.attn {
        AttnChange::None => Treatment::Full,
        AttnChange::Identity => Treatment::Values,
        AttnChange::Zero | AttnChange::Mean => Treatment::Skip,
        AttnChange::Heads(heads) if heads.iter().all(|head| *head == Some(Action::Identity)) => {
            Treatment::Values
        }
        AttnChange::Heads(_) => Treatment::Full,
    }
}

impl<T: Real> Model<T> {
    /// The attention module's output for all rows, into `work.attn`.
    ///
    /// A product is done once for all rows of the group, whatever happens to each: what a row does not need is
    /// left out where no row needs it, and thrown away where another does.
    pub(crate) fn attention(
        &self,
        index: usize,
        input: &[T],
        rows: &mut [Row<'_, T>],
        way: &mut Way<'_, T>,
    ) -> Result<()> {
        let spec = &self.spec;
        let (d, d_query, d_kv) = (spec.d_model, spec.d_query(), spec.d_kv());
        let width = d_query + 2 * d_kv;
        let block = &self.weights.blocks[index];
        let count = input.len() / d;
        let Way { turns, threads, work, tap } = way;
        let threads = *threads;
        let Buffers { qkv, mixed, attn, .. } = &mut **work;
        let qkv = sized(qkv, count * width);
        let mixed = sized(mixed, count * d_query);
        let attn = sized(attn, count * d);
        let runs = runs(rows, |row| treatment(&row.change[index]));
        let any = |kind: Treatment| runs.iter().any(|(run, _)| *run == kind);

        let full = any(Treatment::Full);
        if full {
            product(qkv, input, &block.qkv.weight, 0..width, threads);
            self.finish_qkv(index, qkv, rows, *turns, threads);
        } else if any(Treatment::Values) {
            product(&mut qkv[..count * d_kv], input, &block.qkv.weight, block.value_rows(spec), threads);
        }
        for (kind, run) in &runs {
            if *kind != Treatment::Full && tap.wants(Hook::Pattern, Some(index)) {
                for (place, row) in run.rows.clone().zip(&rows[run.rows.clone()]) {
                    let first = row.state.len();
                    let keys = first + row.new;
                    let mut weights = vec![T::ZERO; spec.n_heads * row.new * keys];
                    replace(&mut weights, keys, first, *kind == Treatment::Values);
                    tap.see_pattern(index, place, &weights, keys);
                }
            }
            let tokens = run.tokens.clone();
            let mixed = &mut mixed[tokens.start * d_query..tokens.end * d_query];
            match kind {
                Treatment::Full => {
                    let qkv = &qkv[tokens.start * width..tokens.end * width];
                    self.remember(index, qkv, &mut rows[run.rows.clone()], threads);
                    self.mix(index, qkv, mixed, &rows[run.rows.clone()], run.rows.start, threads, *tap)?;
                }
                Treatment::Values => {
                    // Alone, values stand side by side and lack their bias.
                    let (stride, at) = if full { (width, d_query + d_kv) } else { (d_kv, 0) };
                    let bias = block.qkv.bias.as_ref().map(|bias| &bias[block.value_rows(spec)]);
                    let bias = bias.filter(|_| !full);
                    let qkv = &*qkv;
                    for_rows(mixed, d_query, threads, |row, mixed| {
                        let from = (tokens.start + row) * stride + at;
                        spread(mixed, &qkv[from..from + d_kv], bias, spec);
                    });
                }
                Treatment::Skip => {}
            }
        }
        if tap.wants(Hook::Z, Some(index)) {
            for (_, run) in runs.iter().filter(|(kind, _)| *kind == Treatment::Skip) {
                mixed[run.tokens.start * d_query..run.tokens.end * d_query].fill(T::ZERO);
            }
            tap.see(Hook::Z, Some(index), mixed, d_query);
        }
        if full || any(Treatment::Values) {
            product(attn, mixed, &block.o.weight, 0..d, threads);
            add_bias(attn, &block.o, threads);
        }
        for (_, run) in runs.iter().filter(|(kind, _)| *kind == Treatment::Skip) {
            let mut out = &mut attn[run.tokens.start * d..run.tokens.end * d];
            for row in &rows[run.rows.clone()] {
                let (here, rest) = out.split_at_mut(row.new * d);
                out = rest;
                if row.change[index].attn == AttnChange::Mean {
                    let mean = row.mean(|means| &means.attn_out, index)?;
                    here.chunks_exact_mut(d).for_each(|out| out.copy_from_slice(mean));
                } else {
                    here.fill(T::ZERO);
                }
            }
        }
        Ok(())
    }

    /// Keys and values of all rows go to their states, as [`Model::attention`] does it, and nothing else is done.
    pub(crate) fn remember_only(
        &self,
        index: usize,
        input: &[T],
        rows: &mut [Row<'_, T>],
        way: &mut Way<'_, T>,
    ) {
        let spec = &self.spec;
        let width = spec.d_query() + 2 * spec.d_kv();
        let runs = runs(rows, |row| treatment(&row.change[index]));
        let kept = runs.iter().filter(|(kind, _)| *kind == Treatment::Full);
        for Run { rows: places, tokens } in kept.map(|(_, run)| run) {
            let rows = &mut rows[places.clone()];
            let input = &input[tokens.start * spec.d_model..tokens.end * spec.d_model];
            let qkv = sized(&mut way.work.qkv, tokens.len() * width);
            product(qkv, input, &self.weights.blocks[index].qkv.weight, 0..width, way.threads);
            self.finish_qkv(index, qkv, rows, way.turns, way.threads);
            self.remember(index, qkv, rows, way.threads);
        }
    }

    /// Biases, query and key norms, rotary positions.
    fn finish_qkv(
        &self,
        index: usize,
        qkv: &mut [T],
        rows: &[Row<'_, T>],
        turns: Option<&Turns<T>>,
        threads: Threads,
    ) {
        let spec = &self.spec;
        let block = &self.weights.blocks[index];
        let width = spec.d_query() + 2 * spec.d_kv();
        let places: Vec<usize> =
            rows.iter().flat_map(|row| row.state.len()..row.state.len() + row.new).collect();
        for_rows(qkv, width, threads, |row, qkv| {
            if let Some(bias) = &block.qkv.bias {
                add(qkv, bias);
            }
            let (queries, keys) = qkv[..spec.d_query() + spec.d_kv()].split_at_mut(spec.d_query());
            for (part, norm) in [(queries, &block.q_norm), (keys, &block.k_norm)] {
                if let Some(norm) = norm {
                    for head in part.chunks_exact_mut(spec.d_head) {
                        let copy = head.to_vec();
                        normalise(head, &copy, spec.norm, spec.eps, norm);
                    }
                }
                if let Some(turns) = turns {
                    turn(part, spec.d_head, turns, places[row]);
                }
            }
        });
    }

    /// Keys and values go to the rows' states.
    fn remember(&self, index: usize, qkv: &[T], rows: &mut [Row<'_, T>], threads: Threads) {
        let spec = &self.spec;
        let width = spec.d_query() + 2 * spec.d_kv();
        let mut rest = qkv;
        let shares = rows.iter_mut().map(|row| {
            let (share, after) = rest.split_at(row.new * width);
            rest = after;
            (&mut *row.state, share)
        });
        let keep = |(state, share): (&mut crate::State<T>, &[T])| {
            let from = state.own.len;
            store(state.own_block(spec, index), share, from, spec);
        };
        match threads {
            Threads::One => shares.for_each(keep),
            Threads::All => shares.collect::<Vec<_>>().into_par_iter().for_each(keep),
        }
    }

    /// Weighted values of rows whose attention is computed, with single heads bypassed, zeroed or averaged.
    #[expect(clippy::too_many_arguments, reason = "a step of a block")]
    fn mix(
        &self,
        index: usize,
        qkv: &[T],
        mixed: &mut [T],
        rows: &[Row<'_, T>],
        first_row: usize,
        threads: Threads,
        tap: &mut dyn Tap<T>,
    ) -> Result<()> {
        let spec = &self.spec;
        let (d_query, d_kv, d_head) = (spec.d_query(), spec.d_kv(), spec.d_head);
        let width = d_query + 2 * d_kv;
        let mut tasks = Vec::with_capacity(rows.len());
        let (mut queries_left, mut out_left) = (qkv, &mut *mixed);
        for row in rows {
            let (queries, after) = queries_left.split_at(row.new * width);
            queries_left = after;
            let (out, after) = std::mem::take(&mut out_left).split_at_mut(row.new * d_query);
            out_left = after;
            let state = &*row.state;
            let past = state.past.iter().map(|(stretch, take)| (stretch.blocks[index].as_deref(), *take));
            let own = (state.own.blocks[index].as_deref(), state.own.len + row.new);
            let stretches = past
                .chain([own])
                .map(|(block, take)| (block.expect("a block attended to was computed"), take))
                .collect();
            let window = spec.windows[index];
            tasks.push(Task { queries, stride: width, out, first: state.len(), stretches, window });
        }
        if tap.wants(Hook::Pattern, Some(index)) {
            for (place, (task, row)) in tasks.into_iter().zip(rows).enumerate() {
                let first = task.first;
                let keys = first + row.new;
                let mut weights = attend_with_weights(spec, task);
                if let AttnChange::Heads(heads) = &row.change[index].attn {
                    let each = weights.chunks_exact_mut((row.new * keys).max(1));
                    for (action, weights) in heads.iter().zip(each).filter(|(action, _)| action.is_some()) {
                        replace(weights, keys, first, *action == Some(Action::Identity));
                    }
                }
                tap.see_pattern(index, first_row + place, &weights, keys);
            }
        } else {
            attend(spec, tasks, threads);
        }

        let group = spec.n_heads / spec.n_kv_heads;
        let mut from = 0;
        for row in rows {
            let AttnChange::Heads(heads) = &row.change[index].attn else {
                from += row.new;
                continue;
            };
            for token in from..from + row.new {
                for (head, action) in heads.iter().enumerate() {
                    let out = &mut mixed[token * d_query + head * d_head..][..d_head];
                    match action {
                        Some(Action::Identity) => {
                            let value = token * width + d_query + d_kv + head / group * d_head;
                            out.copy_from_slice(&qkv[value..value + d_head]);
                        }
                        Some(Action::Zero) => out.fill(T::ZERO),
                        Some(Action::Mean) => {
                            let mean = row.mean(|means| &means.z, index)?;
                            out.copy_from_slice(&mean[head * d_head..][..d_head]);
                        }
                        None => {}
                    }
                }
            }
            from += row.new;
        }
        Ok(())
    }
}

/// Attention weights `[.., t, keys]` of heads that do not use theirs: of each query, whose first stands at `first`, its
/// own position's alone, or none.
fn replace<T: Real>(weights: &mut [T], keys: usize, first: usize, own: bool) {
    weights.fill(T::ZERO);
    let new = keys - first;
    for (row, weights) in weights.chunks_exact_mut(keys).enumerate().filter(|_| own) {
        weights[first + row % new] = T::ONE;
    }
}

impl<T: Real> Block<T> {
    /// Rows of `qkv` that make values.
    pub fn value_rows(&self, spec: &Spec) -> std::ops::Range<usize> {
        spec.d_query() + spec.d_kv()..spec.d_query() + 2 * spec.d_kv()
    }
}

wide_fn! {
/// Each head's own value, where every token attends to itself alone: `mixed := value + bias`, for all heads that
/// share a value.
fn spread<T>(mixed: &mut [T], values: &[T], bias: Option<&[T]>, spec: &Spec) {
    let group = spec.n_heads / spec.n_kv_heads * spec.d_head;
    for (kv_head, heads) in mixed.chunks_exact_mut(group).enumerate() {
        let from = kv_head * spec.d_head;
        for head in heads.chunks_exact_mut(spec.d_head) {
            head.copy_from_slice(&values[from..from + spec.d_head]);
            if let Some(bias) = bias {
                head.iter_mut().zip(&bias[from..]).for_each(|(value, &bias)| *value += bias);
            }
        }
    }
}
}

wide_fn! {
/// Turns every head of `part`, which stands at `position`.
fn turn<T>(part: &mut [T], d_head: usize, turns: &Turns<T>, position: usize) {
    part.chunks_exact_mut(d_head).for_each(|head| turns.turn(head, position));
}
}

/// Puts the keys and values of `share`, `[t, d_query + 2 d_kv]`, into `kept` from position `from` on.
pub(crate) fn store<T: Real>(kept: &mut KeysValues<T>, share: &[T], from: usize, spec: &Spec) {
    let (d_query, d_kv) = (spec.d_query(), spec.d_kv());
    let width = d_query + 2 * d_kv;
    let capacity = kept.capacity;
    // Keys are turned over a panel at a time, so that each line of memory is written once.
    let mut rest = share;
    let mut at = from;
    while !rest.is_empty() {
        let (lane, left) = (at % PANEL, rest.len() / width);
        let count = left.min(PANEL - lane);
        let (tokens, after) = rest.split_at(count * width);
        for head in 0..spec.n_kv_heads {
            let first = (head * capacity + at - lane) * spec.d_head + lane;
            for place in 0..spec.d_head {
                let keys = &mut kept.keys[first + place * PANEL..][..count];
                let from = d_query + head * spec.d_head + place;
                for (key, token) in keys.iter_mut().zip(tokens.chunks_exact(width)) {
                    *key = token[from];
                }
            }
        }
        (rest, at) = (after, at + count);
    }
    for (at, token) in share.chunks_exact(width).enumerate() {
        for (head, value) in token[d_query + d_kv..].chunks_exact(spec.d_head).enumerate() {
            kept.values[(head * capacity + from + at) * spec.d_head..][..spec.d_head].copy_from_slice(value);
        }
    }
}
