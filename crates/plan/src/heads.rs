//! `Heads`: which heads of some blocks are changed: named ones, or a random set as a negative control.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use crate::Span;

/// A choice of heads, written `h3`, `h0,2` or `random4`, `random4#1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Heads {
    /// These heads of every block.
    Named(Span),
    /// So many heads out of all heads of all the blocks together: what a change of so many heads does
    /// wherever they are. The same text is the same set in every model of the same shape.
    Random {
        /// How many.
        count: u32,
        /// Which drawing of so many.
        draw: u32,
    },
}

impl Heads {
    /// The (block, head) pairs of `blocks` in a model of `n_heads` heads per block, in rising order.
    ///
    /// A random set is the beginning of a permutation of all pairs, so that a drawing's smaller sets lie in
    /// its larger ones: Fisher and Yates's shuffle fed by SplitMix64, seeded with the drawing's number.
    ///
    /// # Errors
    /// A head outside the block, more heads than there are, or none.
    pub fn resolve(&self, blocks: &[usize], n_heads: usize) -> Result<Vec<(usize, usize)>> {
        let (count, draw) = match self {
            Heads::Named(span) => {
                let heads = span.resolve(n_heads, "head")?;
                return Ok(blocks.iter().flat_map(|&b| heads.iter().map(move |&head| (b, head))).collect());
            }
            Heads::Random { count, draw } => (*count as usize, *draw),
        };
        let mut pool: Vec<(usize, usize)> =
            blocks.iter().flat_map(|&block| (0..n_heads).map(move |head| (block, head))).collect();
        let n = pool.len();
        ensure!(count > 0 && count <= n, "{count} random heads: these blocks have {n} heads, {n_heads} each");
        let mut random = SplitMix(u64::from(draw));
        for place in 0..count {
            pool.swap(place, place + random.below(n - place));
        }
        pool.truncate(count);
        pool.sort_unstable();
        Ok(pool)
    }
}

/// Steele, Lea and Flood's generator of 64 bits.
struct SplitMix(u64);

impl SplitMix {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `n`: the high half of a 128-bit product, whose bias of n / 2⁶⁴ nobody can see.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.word()) * n as u128) >> 64) as usize
    }
}

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Heads::Named(span) => write!(f, "h{span}"),
            Heads::Random { count, draw: 0 } => write!(f, "random{count}"),
            Heads::Random { count, draw } => write!(f, "random{count}#{draw}"),
        }
    }
}

impl FromStr for Heads {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(span) = text.strip_prefix('h') {
            return Ok(Heads::Named(span.parse()?));
        }
        let form = || format!("`{text}` names no heads: expected for example `h3`, `h0,2`, `random4`");
        let random = text.strip_prefix("random").with_context(form)?;
        let (count, draw) = random.split_once('#').unwrap_or((random, "0"));
        let number = |digits: &str| digits.parse::<u32>().with_context(form);
        Ok(Heads::Random { count: number(count)?, draw: number(draw)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, blocks: &[usize]) -> Vec<(usize, usize)> {
        text.parse::<Heads>().unwrap().resolve(blocks, 4).unwrap()
    }

    #[test]
    fn named_heads_are_those_of_every_block() {
        assert_eq!(set("h0,2", &[1, 5]), [(1, 0), (1, 2), (5, 0), (5, 2)]);
    }

    #[test]
    fn a_random_set_is_the_same_every_time_and_another_in_another_drawing() {
        let blocks = [0, 1, 2, 3, 4, 5, 6, 7];
        // Pinned: outcomes on disk are named by this text.
        assert_eq!(set("random3", &blocks), set("random3#0", &blocks));
        assert_eq!(set("random3", &blocks), PINNED);
        assert_ne!(set("random3#1", &blocks), PINNED);
        let (few, many) = (set("random3#7", &blocks), set("random9#7", &blocks));
        assert!(few.iter().all(|head| many.contains(head)));
        assert_eq!(set("random32", &blocks).len(), 32);
    }

    #[test]
    fn random_heads_are_drawn_evenly() {
        let mut counts = [0; 8];
        for draw in 0..4000 {
            let heads = Heads::Random { count: 2, draw };
            for (block, head) in heads.resolve(&[3, 4], 4).unwrap() {
                counts[(block - 3) * 4 + head] += 1;
            }
        }
        // 1000 each expected, standard deviation about 27.
        assert!(counts.iter().all(|count| (880..1120).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_is_no_set_of_heads_is_refused() {
        let refused = |text: &str, because: &str| {
            let error = text.parse::<Heads>().and_then(|heads| heads.resolve(&[0, 1], 4)).unwrap_err();
            assert!(format!("{error:#}").contains(because), "{error:#}");
        };
        refused("random9", "9 random heads: these blocks have 8 heads, 4 each");
        refused("random0", "0 random heads");
        refused("random", "names no heads");
        refused("heads2", "not a number");
        refused("2", "names no heads");
        refused("h4", "heads 0-3");
    }

    const PINNED: [(usize, usize); 3] = [(0, 2), (3, 2), (7, 0)];
}
