//! embed → blocks → logits: the only loop over blocks.
//!
//! A batch is a list of rows of any lengths, their tokens packed one after another: nothing is padded, and
//! nothing a row computes depends on its neighbours (see `kernels.rs`). A row carries its own intervention.
//! So a batch is cut into groups of rows, each small enough to stay near its processor, and each thread takes
//! groups through the blocks on its own (`groups.rs`).

use std::ops::Range;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use rote_plan::{BlockChange, Hook};

use crate::groups::{Group, groups, share, split};
use crate::kernels::{Threads, add, for_rows, for_rows2};
use crate::mlp::MlpOut;
use crate::norm::normalise;
use crate::product::product;
use crate::rotary::Turns;
use crate::{Linear, Norm, NormPlace, Positions, Real, Residual, Spec, State, Tap, Weights};

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
    /// The last so many of them are read out. What the last block makes of the others only matters as keys and values,
    /// so nothing else is computed, and their states are left as that block found them.
    pub scored: usize,
    /// What it has read; grows by `new`.
    pub state: &'a mut State<T>,
    /// Its intervention, one entry per block.
    pub change: &'a [BlockChange],
    /// For `attn.mean`.
    pub means: Option<&'a Means<T>>,
    /// What the MLP of the first block that is run gives.
    pub mlp_out: MlpOut<'a, T>,
}

/// What `attn.mean` puts in attention's place: means over other texts, block by block. What no change needs may be
/// empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Means<T> {
    /// Of the module's output, `[n_blocks][d_model]`: for whole blocks.
    pub attn_out: Vec<Vec<T>>,
    /// Of the heads' weighted values ([`Hook::Z`]), `[n_blocks][n_heads * d_head]`: for single heads.
    pub z: Vec<Vec<T>>,
}

impl<'a, T> Row<'a, T> {
    /// A row that adds `new` tokens to `state` and reads all of them out.
    pub fn new(
        state: &'a mut State<T>,
        new: usize,
        change: &'a [BlockChange],
        means: Option<&'a Means<T>>,
    ) -> Self {
        Row { new, scored: new, state, change, means, mlp_out: MlpOut::New }
    }

    /// One block's mean.
    pub(crate) fn mean(&self, which: impl Fn(&Means<T>) -> &Vec<Vec<T>>, block: usize) -> Result<&[T]> {
        let mean = self.means.and_then(|means| which(means).get(block));
        mean.filter(|mean| !mean.is_empty())
            .map(Vec::as_slice)
            .context("attn.mean needs means over a reference")
    }
}

/// What outlives a call: buffers, so that memory is touched for the first time once, and the angles of rotary
/// positions.
#[derive(Debug, Default)]
pub struct Workspace<T> {
    turns: Option<Turns<T>>,
    buffers: Mutex<Vec<Buffers<T>>>,
}

/// Buffers of one group at work.
#[derive(Debug, Default)]
pub(crate) struct Buffers<T> {
    pub(crate) normed: Vec<T>,
    pub(crate) qkv: Vec<T>,
    pub(crate) mixed: Vec<T>,
    pub(crate) attn: Vec<T>,
    pub(crate) hidden: Vec<T>,
    pub(crate) gate: Vec<T>,
    pub(crate) mlp: Vec<T>,
}

/// How a group goes through the blocks.
pub(crate) struct Way<'a, T> {
    pub(crate) turns: Option<&'a Turns<T>>,
    pub(crate) threads: Threads,
    pub(crate) work: &'a mut Buffers<T>,
    pub(crate) tap: &'a mut dyn Tap<T>,
}

/// Rows next to each other that a block treats alike.
pub(crate) struct Run {
    pub(crate) rows: Range<usize>,
    pub(crate) tokens: Range<usize>,
}

pub(crate) fn sized<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
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
            out.extend(embed.row(token as usize));
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
        let d = self.spec.d_model;
        let count: usize = rows.iter().map(|row| row.new).sum();
        assert_eq!(x.len(), count * d, "one residual state per token");
        let end = rows.iter().map(|row| row.state.len() + row.new).max().unwrap_or(0);
        let Workspace { turns, buffers } = work;
        let turns = match &self.spec.positions {
            Positions::Rotary(rotary) => Some(Turns::kept(turns, rotary, end)),
            Positions::Learned { .. } => None,
        };
        let count_threads = rayon::current_num_threads();
        let groups = groups(count, count_threads);
        let (together, apart) = if self.is_tapped(&blocks, tap) || groups < count_threads {
            (vec![(x, &mut *rows)], Vec::new())
        } else {
            share(split(x, d, rows, groups), count_threads, |(x, _)| x.len())
        };
        for (x, rows) in together {
            self.group(blocks.clone(), (x, rows), turns, Threads::All, buffers, tap)?;
        }
        apart.into_iter().par_bridge().try_for_each(|group| {
            self.group(blocks.clone(), group, turns, Threads::One, buffers, &mut crate::NoTap)
        })?;
        if blocks.end == self.spec.n_blocks {
            rows.iter_mut().for_each(|row| row.state.own.len += row.new);
        }
        Ok(())
    }

    fn group(
        &self,
        blocks: Range<usize>,
        (x, rows): Group<'_, '_, T>,
        turns: Option<&Turns<T>>,
        threads: Threads,
        buffers: &Mutex<Vec<Buffers<T>>>,
        tap: &mut dyn Tap<T>,
    ) -> Result<()> {
        let work = &mut take(buffers);
        let mut way = Way { turns, threads, work, tap };
        self.blocks(blocks, x, rows, &mut way)?;
        put(buffers, std::mem::take(way.work));
        Ok(())
    }

    fn is_tapped(&self, blocks: &Range<usize>, tap: &dyn Tap<T>) -> bool {
        Hook::ALL.iter().any(|&hook| blocks.clone().any(|block| tap.wants(hook, Some(block))))
    }

    fn blocks(
        &self,
        blocks: Range<usize>,
        x: &mut [T],
        rows: &mut [Row<'_, T>],
        way: &mut Way<'_, T>,
    ) -> Result<()> {
        let last = self.spec.n_blocks - 1;
        for index in blocks {
            let whole = index < last || self.is_tapped(&(last..last + 1), way.tap);
            if whole || rows.iter().all(|row| row.scored == row.new) {
                self.block(index, x, rows, way)?;
            } else {
                self.last_block(x, rows, way)?;
            }
            rows.iter_mut().for_each(|row| row.mlp_out = MlpOut::New);
        }
        Ok(())
    }

    /// The last block: keys and values of all tokens, and then, as a chunk of its own, the tokens that are scored.
    fn last_block(&self, x: &mut [T], rows: &mut [Row<'_, T>], way: &mut Way<'_, T>) -> Result<()> {
        let (d, index) = (self.spec.d_model, self.spec.n_blocks - 1);
        let (mut before, mut scored) = (Vec::new(), Vec::new());
        let mut rest = &*x;
        for row in &*rows {
            let (first, after) = rest.split_at((row.new - row.scored) * d);
            let (last, after) = after.split_at(row.scored * d);
            before.extend_from_slice(first);
            scored.extend_from_slice(last);
            rest = after;
        }

        let parts = |row: &Row<'_, T>| (row.new - row.scored, row.scored);
        let counts: Vec<(usize, usize)> = rows.iter().map(parts).collect();
        rows.iter_mut().zip(&counts).for_each(|(row, (first, _))| row.new = *first);
        let mut normed = std::mem::take(&mut way.work.normed);
        let normed_now = sized(&mut normed, before.len());
        self.before_attention(index, normed_now, &before, way.threads);
        self.remember_only(index, normed_now, rows, way);
        way.work.normed = normed;

        for (row, (first, last)) in rows.iter_mut().zip(&counts) {
            row.state.own.len += first;
            row.new = *last;
            row.mlp_out = std::mem::take(&mut row.mlp_out).skip(first * d);
        }
        self.block(index, &mut scored, rows, way)?;
        let (mut x, mut scored) = (x, &scored[..]);
        for (row, (first, last)) in rows.iter_mut().zip(&counts) {
            row.state.own.len -= first;
            row.new = first + last;
            let (here, after) = std::mem::take(&mut x).split_at_mut(row.new * d);
            let (done, left) = scored.split_at(last * d);
            here[first * d..].copy_from_slice(done);
            (x, scored) = (after, left);
        }
        Ok(())
    }

    /// What attention reads of the states `x`.
    fn before_attention(&self, index: usize, out: &mut [T], x: &[T], threads: Threads) {
        match self.spec.norm_place {
            NormPlace::Pre => self.norm_rows(out, x, &self.weights.blocks[index].attn_norm, threads),
            NormPlace::Post => out.copy_from_slice(x),
        }
    }

    fn block(&self, index: usize, x: &mut [T], rows: &mut [Row<'_, T>], way: &mut Way<'_, T>) -> Result<()> {
        let Spec { d_model: d, norm_place, residual, .. } = self.spec;
        let block = &self.weights.blocks[index];
        let at = Some(index);
        let count = x.len() / d;
        let threads = way.threads;
        see(way.tap, Hook::ResidPre, at, x, d);

        let mut normed = std::mem::take(&mut way.work.normed);
        let normed_now = sized(&mut normed, count * d);
        self.before_attention(index, normed_now, x, threads);
        self.attention(index, normed_now, rows, way)?;
        see(way.tap, Hook::AttnOut, at, &way.work.attn[..count * d], d);

        match (residual, norm_place) {
            (Residual::Parallel, _) => {
                self.mlp_beside(index, x, normed_now, rows, way);
                see(way.tap, Hook::MlpOut, at, &way.work.mlp[..count * d], d);
                let (attn, mlp) = (&way.work.attn, &mut way.work.mlp[..count * d]);
                for_rows2((x, d), (mlp, d), threads, |row, x, mlp| {
                    add(mlp, &attn[row * d..(row + 1) * d]);
                    add(x, mlp);
                });
            }
            (Residual::Sequential, NormPlace::Pre) => {
                let attn = &way.work.attn;
                let norm = &block.mlp_norm;
                for_rows2((&mut *x, d), (&mut *normed_now, d), threads, |row, x, normed| {
                    add(x, &attn[row * d..(row + 1) * d]);
                    normalise(normed, x, self.spec.norm, self.spec.eps, norm);
                });
                see(way.tap, Hook::ResidMid, at, x, d);
                self.mlp(index, normed_now, rows, way);
                see(way.tap, Hook::MlpOut, at, &way.work.mlp[..count * d], d);
                let mlp = &way.work.mlp;
                for_rows(x, d, threads, |row, x| add(x, &mlp[row * d..(row + 1) * d]));
            }
            (Residual::Sequential, NormPlace::Post) => {
                self.add_then_norm(x, normed_now, &way.work.attn, &block.attn_norm, threads);
                see(way.tap, Hook::ResidMid, at, x, d);
                normed_now.copy_from_slice(x);
                self.mlp(index, normed_now, rows, way);
                see(way.tap, Hook::MlpOut, at, &way.work.mlp[..count * d], d);
                self.add_then_norm(x, normed_now, &way.work.mlp, &block.mlp_norm, threads);
            }
        }
        see(way.tap, Hook::ResidPost, at, x, d);
        way.work.normed = normed;
        Ok(())
    }

    /// `x := norm(x + add)`; `spare` is overwritten.
    fn add_then_norm(&self, x: &mut [T], spare: &mut [T], more: &[T], norm: &Norm<T>, threads: Threads) {
        let d = self.spec.d_model;
        for_rows2((x, d), (spare, d), threads, |row, x, spare| {
            spare.copy_from_slice(x);
            add(spare, &more[row * d..(row + 1) * d]);
            normalise(x, spare, self.spec.norm, self.spec.eps, norm);
        });
    }

    /// What the unembedding reads: the final norm (and projection) of residual states `[n, d_model]`, as
    /// `[n, d_embed]`.
    pub fn final_norm(&self, x: &[T]) -> Vec<T> {
        let mut normed = vec![T::ZERO; x.len()];
        match &self.weights.final_norm {
            Some(norm) => self.norm_rows(&mut normed, x, norm, Threads::All),
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

    pub(crate) fn norm_rows(&self, out: &mut [T], x: &[T], norm: &Norm<T>, threads: Threads) {
        let d = self.spec.d_model;
        for_rows(out, d, threads, |row, out| {
            normalise(out, &x[row * d..(row + 1) * d], self.spec.norm, self.spec.eps, norm);
        });
    }

    fn linear(&self, linear: &Linear<T>, x: &[T]) -> Vec<T> {
        let mut out = vec![T::ZERO; x.len() / linear.n_in() * linear.n_out()];
        product(&mut out, x, &linear.weight, 0..linear.n_out(), Threads::All);
        add_bias(&mut out, linear, Threads::All);
        out
    }
}

pub(crate) fn add_bias<T: Real>(out: &mut [T], linear: &Linear<T>, threads: Threads) {
    if let Some(bias) = &linear.bias {
        for_rows(out, linear.n_out(), threads, |_, row| add(row, bias));
    }
}

fn take<T: Real>(buffers: &Mutex<Vec<Buffers<T>>>) -> Buffers<T> {
    buffers.lock().ok().and_then(|mut held| held.pop()).unwrap_or_default()
}

fn put<T>(buffers: &Mutex<Vec<Buffers<T>>>, done: Buffers<T>) {
    if let Ok(mut held) = buffers.lock() {
        held.push(done);
    }
}

fn see<T: Real>(tap: &mut dyn Tap<T>, hook: Hook, block: Option<usize>, values: &[T], width: usize) {
    if tap.wants(hook, block) {
        tap.see(hook, block, values, width);
    }
}

/// The rows in runs of equal `kind`.
pub(crate) fn runs<T, K: PartialEq>(rows: &[Row<'_, T>], kind: impl Fn(&Row<'_, T>) -> K) -> Vec<(K, Run)> {
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
