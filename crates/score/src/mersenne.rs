//! The Mersenne Twister as Python seeds and reads it, so that bootstrap errors equal the harness's.

const N: usize = 624;
const M: usize = 397;

/// MT19937, Python's `random.Random`.
pub struct Mersenne {
    state: [u32; N],
    next: usize,
}

impl Mersenne {
    /// `random.Random(seed)` for a small non-negative integer: initialised by the array `[seed]`.
    pub fn new(seed: u32) -> Self {
        let mut state = [0u32; N];
        state[0] = 19_650_218;
        for i in 1..N {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        // The key has one word, so the usual second index stays 0.
        let mut i = 1;
        for _ in 0..N {
            let before = state[i - 1];
            let mixed = (before ^ (before >> 30)).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ mixed).wrapping_add(seed);
            i += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        for _ in 1..N {
            let before = state[i - 1];
            let mixed = (before ^ (before >> 30)).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ mixed).wrapping_sub(i as u32);
            i += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Mersenne { state, next: N }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if joined & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[i] = self.state[(i + M) % N] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// `random()`: 53 bits in [0, 1).
    pub fn unit(&mut self) -> f64 {
        let high = f64::from(self.bits() >> 5);
        let low = f64::from(self.bits() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// The index that `choices` takes from `n` items.
    pub fn choice(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_pythons() {
        let mut random = Mersenne::new(0);
        let mut draw = || (0..5).map(|_| random.choice(10)).collect::<Vec<_>>();
        assert_eq!(draw(), [8, 7, 4, 2, 5]);
        assert_eq!(draw(), [4, 7, 3, 4, 5]);
    }

    #[test]
    fn the_first_bits_are_pythons() {
        assert_eq!(Mersenne::new(0).unit(), 0.844_421_851_525_048_1);
        assert_eq!(Mersenne::new(99).unit(), 0.403_978_074_943_666_33);
    }
}
