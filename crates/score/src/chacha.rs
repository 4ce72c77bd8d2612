//! ChaCha with 8 rounds as a source of random words: any stream of any seed, without what came before it.
//!
//! The same words as `rand_chacha::ChaCha8Rng`, which a test holds it to; written out here because resampling
//! is what this stage spends its time on and the library is compiled without optimisation.

/// Words of one stream.
pub struct ChaCha8 {
    seed: u64,
    stream: u64,
    counter: u64,
    block: [u32; 16],
    next: usize,
}

impl ChaCha8 {
    /// Stream number `stream` of the key that holds `seed` in its first eight bytes.
    pub fn new(seed: u64, stream: u64) -> Self {
        ChaCha8 { seed, stream, counter: 0, block: [0; 16], next: 16 }
    }

    /// 32 random bits.
    pub fn word(&mut self) -> u32 {
        if self.next == 16 {
            self.block = block(self.seed, self.stream, self.counter);
            self.counter += 1;
            self.next = 0;
        }
        let word = self.block[self.next];
        self.next += 1;
        word
    }

    /// An index below `n`: the high half of word times n, uniform to within n / 2³².
    pub fn index(&mut self, n: usize) -> usize {
        ((u64::from(self.word()) * n as u64) >> 32) as usize
    }
}

fn block(seed: u64, stream: u64, counter: u64) -> [u32; 16] {
    let halves = |wide: u64| [wide as u32, (wide >> 32) as u32];
    let mut start = [0u32; 16];
    start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    start[4..6].copy_from_slice(&halves(seed));
    start[12..14].copy_from_slice(&halves(counter));
    start[14..16].copy_from_slice(&halves(stream));
    let mut x = start;
    for _ in 0..4 {
        for column in 0..4 {
            quarter(&mut x, column, 4 + column, 8 + column, 12 + column);
        }
        for column in 0..4 {
            quarter(&mut x, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4);
        }
    }
    for (word, start) in x.iter_mut().zip(start) {
        *word = word.wrapping_add(start);
    }
    x
}

#[inline(always)]
fn quarter(x: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (left, right) in [(16, 12), (8, 7)] {
        x[a] = x[a].wrapping_add(x[b]);
        x[d] = (x[d] ^ x[a]).rotate_left(left);
        x[c] = x[c].wrapping_add(x[d]);
        x[b] = (x[b] ^ x[c]).rotate_left(right);
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    #[test]
    fn words_are_the_librarys() {
        for (seed, stream) in [(0u64, 0u64), (7, 1), (0x0123_4567_89ab_cdef, 5_000_000_000)] {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            let mut library = ChaCha8Rng::from_seed(key);
            library.set_stream(stream);
            let mut ours = ChaCha8::new(seed, stream);
            assert!((0..1000).all(|_| ours.word() == library.next_u32()), "seed {seed}, stream {stream}");
        }
    }

    #[test]
    fn indices_are_uniform() {
        let mut random = ChaCha8::new(3, 0);
        let mut counts = [0; 7];
        (0..70_000).for_each(|_| counts[random.index(7)] += 1);
        assert!(counts.iter().all(|&count: &i32| (count - 10_000).abs() < 400), "{counts:?}");
    }
}
