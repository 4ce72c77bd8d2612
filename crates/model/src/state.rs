//! `State`: keys and values of what a row has read, as stretches that rows can share.

use std::sync::Arc;

use crate::kernels::LANES;
use crate::{Real, Spec};

/// Keys of a panel.
pub(crate) const PANEL: usize = 2 * LANES;

/// Keys and values of one block for a stretch of positions.
#[derive(Debug)]
pub(crate) struct KeysValues<T> {
    /// `[n_kv_heads, capacity / 32, d_head, 32]`: a panel of keys by coordinate, so that scores are computed for many keys
    /// at once.
    pub(crate) keys: Vec<T>,
    /// `[n_kv_heads, capacity, d_head]`.
    pub(crate) values: Vec<T>,
    pub(crate) capacity: usize,
}

/// A stretch of positions at every block. A bypassed block keeps nothing: nobody attends to it.
#[derive(Clone, Debug)]
pub struct Stretch<T> {
    pub(crate) capacity: usize,
    pub(crate) len: usize,
    pub(crate) blocks: Vec<Option<Arc<KeysValues<T>>>>,
}

/// What a row has read so far: shared stretches, then one of its own that grows.
#[derive(Clone, Debug)]
pub struct State<T> {
    /// Finished stretches and how many of their first positions count.
    pub(crate) past: Vec<(Arc<Stretch<T>>, usize)>,
    /// The stretch that the next tokens are written to.
    pub(crate) own: Stretch<T>,
    /// Whether keys and values outlive the block that made them.
    pub(crate) keep: bool,
}

impl<T: Real> KeysValues<T> {
    pub(crate) fn new(spec: &Spec, capacity: usize) -> Self {
        let width = spec.d_kv();
        let capacity = capacity.next_multiple_of(PANEL);
        KeysValues {
            keys: vec![T::ZERO; width * capacity],
            values: vec![T::ZERO; width * capacity],
            capacity,
        }
    }
}

impl<T: Real> Stretch<T> {
    fn new(spec: &Spec, capacity: usize) -> Self {
        Stretch { capacity, len: 0, blocks: vec![None; spec.n_blocks] }
    }

    /// Positions read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T: Real> State<T> {
    /// Nothing read yet, room for `capacity` tokens. Without `keep`, keys and values live for one block only:
    /// enough for a pass that nobody continues.
    pub fn new(spec: &Spec, capacity: usize, keep: bool) -> Self {
        State { past: Vec::new(), own: Stretch::new(spec, capacity), keep }
    }

    /// A state that goes on after the first `take` positions of this one, with room for `capacity` more.
    /// The past is shared, not copied.
    pub fn continued(self: &State<T>, spec: &Spec, take: usize, capacity: usize, keep: bool) -> Self {
        let mut past = Vec::new();
        let mut left = take;
        for (stretch, len) in &self.past {
            past.push((stretch.clone(), left.min(*len)));
            left -= left.min(*len);
        }
        assert!(left <= self.own.len, "a state continues what was read");
        past.push((Arc::new(self.own.clone()), left));
        past.retain(|(_, len)| *len > 0);
        State { past, own: Stretch::new(spec, capacity), keep }
    }

    /// A state for running the same tokens again from block `from` on: below it this state's keys and values
    /// hold.
    pub fn restarted(&self, from: usize, keep: bool) -> Self {
        let mut own = Stretch { capacity: self.own.capacity, len: 0, blocks: self.own.blocks.clone() };
        own.blocks[from..].iter_mut().for_each(|block| *block = None);
        if !keep {
            own.blocks.iter_mut().for_each(|block| *block = None);
        }
        State { past: self.past.clone(), own, keep }
    }

    /// The same own stretch after another past of equal length.
    pub fn moved_to(mut self, past: &State<T>) -> Self {
        let len = past.len();
        assert_eq!(len, self.past.iter().map(|(_, len)| len).sum::<usize>(), "a past of equal length");
        self.past = past.past.clone();
        self.past.push((Arc::new(past.own.clone()), past.own.len));
        self
    }

    /// Positions read in all.
    pub fn len(&self) -> usize {
        self.past.iter().map(|(_, len)| len).sum::<usize>() + self.own.len
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The own stretch's keys and values of block `block`, to be written to.
    pub(crate) fn own_block(&mut self, spec: &Spec, block: usize) -> &mut KeysValues<T> {
        let capacity = self.own.capacity;
        if !self.keep && block > 0 && self.own.blocks[block].is_none() {
            self.own.blocks[block] = self.own.blocks[..block].iter_mut().rev().find_map(Option::take);
        }
        let slot = self.own.blocks[block].get_or_insert_with(|| Arc::new(KeysValues::new(spec, capacity)));
        Arc::get_mut(slot).expect("the own stretch is shared only when it is finished")
    }
}
