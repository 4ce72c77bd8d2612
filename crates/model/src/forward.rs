//! embed → blocks → logits: the only loop over blocks, and the place where a bypass happens.
//!
//! A batch is a list of rows of any lengths, their tokens packed one after another: nothing is padded, and
//! nothing a row computes depends on its neighbours (see `kernels.rs`). A row carries its own intervention.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use rote_plan::{Action, AttnChange, BlockChange, Hook, MlpChange};

use crate::attention::{Task, attend, attend_with_weights};
use crate::kernels::{for_rows, for_rows2, product};
use crate::mlp::{activate, activate_gated};
use crate::norm::normalise;
use crate::rotary::Turns;
use crate::{Block, Linear, MlpKind, Norm, NormPlace, Positions, Real, Residual, Spec, State, Tap, Weights};

/// A decoder: its axes and its weights. No interior state.
#[derive(Clone, Debug)]
pub struct Model<T> {
    /// Axes.
    pub spec: Spec,
    /// Weights.
    pub weights: Weights<T>,
}

/// One row of a batch.
pub struct Row<'a, T> {
    /// Tokens it adds.
    pub new: usize,
    /// What it has read; grows by `new`.
    pub state: &'a mut State<T>,
    /// Its intervention, one entry per block.
    pub change: &'a [BlockChange],
    /// Mean of each block's attention output, `[n_blocks][d_model]`, for `attn.mean`.
    pub means: Option<&'a [Vec<T>]>,
}

/// Buffers that outlive a call, so that memory is touched for the first time once.
#[derive(Debug)]
pub struct Workspace<T> {
    normed: Vec<T>,
    qkv: Vec<T>,
    mixed: Vec<T>,
    attn: Vec<T>,
    hidden: Vec<T>,
    gate: Vec<T>,
    mlp: Vec<T>,
}

impl<T> Default for Workspace<T> {
    fn default() -> Self {
        Workspace {
            normed: Vec::new(),
            qkv: Vec::new(),
            mixed: Vec::new(),
            attn: Vec::new(),
            hidden: Vec::new(),
            gate: Vec::new(),
            mlp: Vec::new(),
        }
    }
}

/// Rows next to each other that a block treats alike.
struct Run {
    rows: Range<usize>,
    tokens: Range<usize>,
}

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

fn sized<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::ZERO);
    }
    &mut buffer[..len]
}

impl<T: Real> Model<T> {
    /// Embeddings of the tokens of all rows, packed, `[N, d_model]`; each row is its tokens and the position
    /// of the first.
    ///
    /// # Errors
    /// A token beyond the vocabulary, a position beyond the learned ones.
    pub fn embed(&self, rows: &[(&[u32], usize)]) -> Result<Vec<T>> {
        let Weights { embed, positions, project_in, .. } = &self.weights;
        let count: usize = rows.iter().map(|(tokens, _)| tokens.len()).sum();
        let mut out = Vec::with_capacity(count * embed.cols);
        for &token in rows.iter().flat_map(|(tokens, _)| *tokens) {
            ensure!(
                (token as usize) < embed.rows,
                "token {token} is beyond the vocabulary of {}",
                embed.rows
            );
            out.extend_from_slice(embed.row(token as usize));
        }
        if let Some(project) = project_in {
            out = self.linear(project, &out);
        }
        if let (Some(table), Positions::Learned { offset }) = (positions, &self.spec.positions) {
            let d = self.spec.d_model;
            let places = rows.iter().flat_map(|(tokens, first)| *first..first + tokens.len());
            for (row, place) in out.chunks_exact_mut(d).zip(places) {
                ensure!(
                    place + offset < table.rows,
                    "position {place} is beyond the {} this model has learned",
                    table.rows - offset
                );
                row.iter_mut().zip(table.row(place + offset)).for_each(|(value, &add)| *value += add);
            }
        }
        Ok(out)
    }

    /// Runs `blocks` over the packed residual states `x`, `[N, d_model]`, in place. The rows' states have
    /// grown by their new tokens once the last block was run.
    ///
    /// # Errors
    /// `attn.mean` without means.
    pub fn run(
        &self,
        blocks: Range<usize>,
        x: &mut [T],
        rows: &mut [Row<'_, T>],
        work: &mut Workspace<T>,
        tap: &mut dyn Tap<T>,
    ) -> Result<()> {
        let count: usize = rows.iter().map(|row| row.new).sum();
        assert_eq!(x.len(), count * self.spec.d_model, "one residual state per token");
        let end = rows.iter().map(|row| row.state.len() + row.new).max().unwrap_or(0);
        let turns = match &self.spec.positions {
            Positions::Rotary(rotary) => Some(Turns::new(rotary, end)),
            Positions::Learned { .. } => None,
        };
        for index in blocks.clone() {
            self.block(index, x, rows, turns.as_ref(), work, tap)?;
        }
        if blocks.end == self.spec.n_blocks {
            rows.iter_mut().for_each(|row| row.state.own.len += row.new);
        }
        Ok(())
    }

    fn block(
        &self,
        index: usize,
        x: &mut [T],
        rows: &mut [Row<'_, T>],
        turns: Option<&Turns<T>>,
        work: &mut Workspace<T>,
        tap: &mut dyn Tap<T>,
    ) -> Result<()> {
        let Spec { d_model: d, norm_place, residual, .. } = self.spec;
        let block = &self.weights.blocks[index];
        let at = Some(index);
        let count = x.len() / d;
        see(tap, Hook::ResidPre, at, x, d);

        let mut normed = std::mem::take(&mut work.normed);
        let normed_now = sized(&mut normed, count * d);
        match norm_place {
            NormPlace::Pre => self.norm_rows(normed_now, x, &block.attn_norm),
            NormPlace::Post => normed_now.copy_from_slice(x),
        }
        self.attention(index, normed_now, rows, turns, work, tap)?;
        see(tap, Hook::AttnOut, at, &work.attn[..count * d], d);

        match (residual, norm_place) {
            (Residual::Parallel, _) => {
                self.norm_rows(normed_now, x, &block.mlp_norm);
                self.mlp(index, normed_now, rows, work);
                see(tap, Hook::MlpOut, at, &work.mlp[..count * d], d);
                let (attn, mlp) = (&work.attn, &work.mlp);
                for_rows(x, d, |row, x| {
                    let from = row * d;
                    let added = attn[from..from + d].iter().zip(&mlp[from..from + d]);
                    x.iter_mut().zip(added).for_each(|(x, (&attn, &mlp))| *x = (mlp + attn) + *x);
                });
            }
            (Residual::Sequential, NormPlace::Pre) => {
                let attn = &work.attn;
                let norm = &block.mlp_norm;
                for_rows2((&mut *x, d), (&mut *normed_now, d), |row, x, normed| {
                    x.iter_mut().zip(&attn[row * d..(row + 1) * d]).for_each(|(x, &add)| *x += add);
                    normalise(normed, x, self.spec.norm, self.spec.eps, norm);
                });
                see(tap, Hook::ResidMid, at, x, d);
                self.mlp(index, normed_now, rows, work);
                see(tap, Hook::MlpOut, at, &work.mlp[..count * d], d);
                let mlp = &work.mlp;
                for_rows(x, d, |row, x| {
                    x.iter_mut().zip(&mlp[row * d..(row + 1) * d]).for_each(|(x, &add)| *x += add);
                });
            }
            (Residual::Sequential, NormPlace::Post) => {
                self.add_then_norm(x, normed_now, &work.attn, &block.attn_norm);
                see(tap, Hook::ResidMid, at, x, d);
                normed_now.copy_from_slice(x);
                self.mlp(index, normed_now, rows, work);
                see(tap, Hook::MlpOut, at, &work.mlp[..count * d], d);
                self.add_then_norm(x, normed_now, &work.mlp, &block.mlp_norm);
            }
        }
        see(tap, Hook::ResidPost, at, x, d);
        work.normed = normed;
        Ok(())
    }

    /// `x := norm(x + add)`; `spare` is overwritten.
    fn add_then_norm(&self, x: &mut [T], spare: &mut [T], add: &[T], norm: &Norm<T>) {
        let d = self.spec.d_model;
        for_rows2((x, d), (spare, d), |row, x, spare| {
            let sum = x.iter().zip(&add[row * d..(row + 1) * d]);
            spare.iter_mut().zip(sum).for_each(|(spare, (&x, &add))| *spare = x + add);
            normalise(x, spare, self.spec.norm, self.spec.eps, norm);
        });
    }

    /// The attention module's output for all rows, into `work.attn`.
    fn attention(
        &self,
        index: usize,
        input: &[T],
        rows: &mut [Row<'_, T>],
        turns: Option<&Turns<T>>,
        work: &mut Workspace<T>,
        tap: &mut dyn Tap<T>,
    ) -> Result<()> {
        let spec = &self.spec;
        let (d, d_query, d_kv) = (spec.d_model, spec.d_query(), spec.d_kv());
        let width = d_query + 2 * d_kv;
        let block = &self.weights.blocks[index];
        let count = input.len() / d;
        let qkv = sized(&mut work.qkv, count * width);
        let mixed = sized(&mut work.mixed, count * d_query);
        let attn = sized(&mut work.attn, count * d);

        for (kind, run) in runs(rows, |row| treatment(&row.change[index])) {
            let tokens = run.tokens.clone();
            let input = &input[tokens.start * d..tokens.end * d];
            let mixed = &mut mixed[tokens.start * d_query..tokens.end * d_query];
            let attn = &mut attn[tokens.start * d..tokens.end * d];
            match kind {
                Treatment::Full => {
                    let qkv = &mut qkv[tokens.start * width..tokens.end * width];
                    product(qkv, input, &block.qkv.weight, 0..width);
                    self.finish_qkv(index, qkv, &mut rows[run.rows.clone()], turns);
                    self.mix(index, qkv, mixed, &rows[run.rows.clone()], run.rows.start, tap);
                }
                Treatment::Values => {
                    let values = &mut qkv[tokens.start * width..][..tokens.len() * d_kv];
                    product(values, input, &block.qkv.weight, d_query + d_kv..width);
                    let bias = block.qkv.bias.as_ref().map(|bias| &bias[d_query + d_kv..]);
                    let group = spec.n_heads / spec.n_kv_heads * spec.d_head;
                    let values = &*values;
                    for_rows(mixed, d_query, |row, mixed| {
                        let value = &values[row * d_kv..(row + 1) * d_kv];
                        for (kv_head, heads) in mixed.chunks_exact_mut(group).enumerate() {
                            let from = kv_head * spec.d_head;
                            for head in heads.chunks_exact_mut(spec.d_head) {
                                head.copy_from_slice(&value[from..from + spec.d_head]);
                                if let Some(bias) = bias {
                                    head.iter_mut().zip(&bias[from..]).for_each(|(v, &b)| *v += b);
                                }
                            }
                        }
                    });
                }
                Treatment::Skip => {
                    let mut from = 0;
                    for row in &rows[run.rows.clone()] {
                        let out = &mut attn[from * d..(from + row.new) * d];
                        from += row.new;
                        if row.change[index].attn == AttnChange::Mean {
                            let means = row.means.context("attn.mean needs means of a reference")?;
                            out.chunks_exact_mut(d).for_each(|out| out.copy_from_slice(&means[index]));
                        } else {
                            out.fill(T::ZERO);
                        }
                    }
                    continue;
                }
            }
            product(attn, mixed, &block.o.weight, 0..d);
            add_bias(attn, d, &block.o);
        }
        Ok(())
    }

    /// Biases, query and key norms, rotary; keys and values go to the rows' states.
    fn finish_qkv(&self, index: usize, qkv: &mut [T], rows: &mut [Row<'_, T>], turns: Option<&Turns<T>>) {
        let spec = &self.spec;
        let block = &self.weights.blocks[index];
        let (d_query, d_kv, d_head) = (spec.d_query(), spec.d_kv(), spec.d_head);
        let width = d_query + 2 * d_kv;
        let places: Vec<usize> =
            rows.iter().flat_map(|row| row.state.len()..row.state.len() + row.new).collect();
        for_rows(qkv, width, |row, qkv| {
            if let Some(bias) = &block.qkv.bias {
                qkv.iter_mut().zip(bias).for_each(|(value, &bias)| *value += bias);
            }
            let (queries, keys) = qkv[..d_query + d_kv].split_at_mut(d_query);
            for (part, norm) in [(queries, &block.q_norm), (keys, &block.k_norm)] {
                for head in part.chunks_exact_mut(d_head) {
                    if let Some(norm) = norm {
                        let copy = head.to_vec();
                        normalise(head, &copy, spec.norm, spec.eps, norm);
                    }
                    if let Some(turns) = turns {
                        turns.turn(head, places[row]);
                    }
                }
            }
        });

        let mut rest = &*qkv;
        let mut shares = Vec::with_capacity(rows.len());
        for row in rows.iter_mut() {
            let (share, after) = rest.split_at(row.new * width);
            rest = after;
            shares.push((&mut *row.state, share));
        }
        shares.into_par_iter().for_each(|(state, share)| {
            let from = state.own.len;
            let kept = state.own_block(spec, index);
            let capacity = kept.capacity;
            for (at, token) in share.chunks_exact(width).enumerate() {
                let (keys, values) = token[d_query..].split_at(d_kv);
                for (coordinate, &key) in keys.iter().enumerate() {
                    kept.keys[coordinate * capacity + from + at] = key;
                }
                kept.values[(from + at) * d_kv..(from + at + 1) * d_kv].copy_from_slice(values);
            }
        });
    }

    /// Weighted values of rows whose attention is computed, with single heads bypassed or zeroed.
    fn mix(
        &self,
        index: usize,
        qkv: &[T],
        mixed: &mut [T],
        rows: &[Row<'_, T>],
        first_row: usize,
        tap: &mut dyn Tap<T>,
    ) {
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
            for (row, task) in tasks.into_iter().enumerate() {
                let keys = task.first + rows[row].new;
                let weights = attend_with_weights(spec, task);
                tap.see_pattern(index, first_row + row, &weights, keys);
            }
        } else {
            attend(spec, tasks);
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
                        Some(_) => out.fill(T::ZERO),
                        None => {}
                    }
                }
            }
            from += row.new;
        }
    }

    /// The MLP's output for all rows, into `work.mlp`.
    fn mlp(&self, index: usize, input: &[T], rows: &[Row<'_, T>], work: &mut Workspace<T>) {
        let Spec { d_model: d, d_mlp: m, .. } = self.spec;
        let block = &self.weights.blocks[index];
        let count = input.len() / d;
        let out = sized(&mut work.mlp, count * d);
        for (change, run) in runs(rows, |row| row.change[index].mlp) {
            let tokens = run.tokens;
            let out = &mut out[tokens.start * d..tokens.end * d];
            if change == MlpChange::Zero {
                out.fill(T::ZERO);
                continue;
            }
            let input = &input[tokens.start * d..tokens.end * d];
            let hidden = sized(&mut work.hidden, tokens.len() * m);
            product(hidden, input, &block.up.weight, 0..m);
            match (self.spec.mlp, &block.gate) {
                (MlpKind::Gated(act), Some(gate_weight)) => {
                    let gate = sized(&mut work.gate, tokens.len() * m);
                    product(gate, input, &gate_weight.weight, 0..m);
                    let (up_bias, gate_bias) = (block.up.bias.as_deref(), gate_weight.bias.as_deref());
                    activate_gated(hidden, gate, m, up_bias, gate_bias, act);
                }
                (MlpKind::Plain(act) | MlpKind::Gated(act), _) => {
                    activate(hidden, m, block.up.bias.as_deref(), act);
                }
            }
            product(out, hidden, &block.down.weight, 0..d);
            add_bias(out, d, &block.down);
        }
    }

    /// What the unembedding reads: the final norm (and projection) of residual states `[n, d_model]`, as
    /// `[n, d_embed]`.
    pub fn final_norm(&self, x: &[T]) -> Vec<T> {
        let mut normed = vec![T::ZERO; x.len()];
        match &self.weights.final_norm {
            Some(norm) => self.norm_rows(&mut normed, x, norm),
            None => normed.copy_from_slice(x),
        }
        match &self.weights.project_out {
            Some(project) => self.linear(project, &normed),
            None => normed,
        }
    }

    /// Logits `[n, vocab]` of what [`Model::final_norm`] gives. For a few positions only: a long sequence's do
    /// not fit into memory, and [`Model::readout`] does not need them.
    pub fn logits(&self, normed: &[T]) -> Vec<T> {
        self.linear(&self.weights.unembed, normed)
    }

    fn norm_rows(&self, out: &mut [T], x: &[T], norm: &Norm<T>) {
        let d = self.spec.d_model;
        for_rows(out, d, |row, out| {
            normalise(out, &x[row * d..(row + 1) * d], self.spec.norm, self.spec.eps, norm);
        });
    }

    fn linear(&self, linear: &Linear<T>, x: &[T]) -> Vec<T> {
        let mut out = vec![T::ZERO; x.len() / linear.n_in() * linear.n_out()];
        product(&mut out, x, &linear.weight, 0..linear.n_out());
        add_bias(&mut out, linear.n_out(), linear);
        out
    }
}

impl<T: Real> Block<T> {
    /// Rows of `qkv` that make values.
    pub fn value_rows(&self, spec: &Spec) -> Range<usize> {
        spec.d_query() + spec.d_kv()..spec.d_query() + 2 * spec.d_kv()
    }
}

fn add_bias<T: Real>(out: &mut [T], width: usize, linear: &Linear<T>) {
    if let Some(bias) = &linear.bias {
        for_rows(out, width, |_, row| row.iter_mut().zip(bias).for_each(|(value, &bias)| *value += bias));
    }
}

fn see<T: Real>(tap: &mut dyn Tap<T>, hook: Hook, block: Option<usize>, values: &[T], width: usize) {
    if tap.wants(hook, block) {
        tap.see(hook, block, values, width);
    }
}

/// The rows in runs of equal `kind`.
fn runs<T, K: PartialEq>(rows: &[Row<'_, T>], kind: impl Fn(&Row<'_, T>) -> K) -> Vec<(K, Run)> {
    let mut runs: Vec<(K, Run)> = Vec::new();
    let mut token = 0;
    for (index, row) in rows.iter().enumerate() {
        let kind = kind(row);
        let end = token + row.new;
        match runs.last_mut() {
            Some((last, run)) if *last == kind => {
                run.rows.end = index + 1;
                run.tokens.end = end;
            }
            _ => runs.push((kind, Run { rows: index..index + 1, tokens: token..end })),
        }
        token = end;
    }
    runs
}
