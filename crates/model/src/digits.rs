//! Products of whole numbers of few bits: processors add them up faster than those of f32.

use std::arch::x86_64 as cpu;

/// A kind of them. Weights come in panels of `WIDE` tokens, `[k / GROUP][WIDE][GROUP]`, states as `[k]`; what `k` lacks
/// to a whole group is filled up with what stands for 0.
pub(crate) trait Digits<const WIDE: usize>: Sized + 'static {
    /// A weight's.
    type Weight: Copy + Send + Sync;
    /// A state's.
    type State: Copy + Send + Sync;
    /// Inputs that one instruction adds up.
    const GROUP: usize;
    /// What is added to every weight.
    const ADDED: i32;

    /// Whether this processor has what [`Digits::sums`] asks for.
    fn able() -> bool;
    /// The largest magnitude of which sums of `k` products fit 32 bits.
    fn most(k: usize) -> i32;
    /// Of a whole number with at most that magnitude.
    fn weight(value: i32) -> Self::Weight;
    /// The same.
    fn state(value: i32) -> Self::State;
    /// Sums of products for a panel and `R` states, each on top of its `start`.
    ///
    /// # Safety
    /// As of [`Digits::with`], in which this is compiled.
    unsafe fn sums<const R: usize>(
        weights: &[Self::Weight],
        states: &[Self::State],
        start: [i32; R],
    ) -> [[i32; WIDE]; R];
    /// Does `work`, compiled for the processors that have [`Digits::sums`].
    ///
    /// # Safety
    /// The processor is [`Digits::able`].
    unsafe fn with<W: Work<Self, WIDE>>(work: W);
}

/// What is done with digits. `run` has to be `#[inline(always)]`, and so has all that it calls.
pub(crate) trait Work<D, const WIDE: usize> {
    /// Does it.
    ///
    /// # Safety
    /// The processor is [`Digits::able`].
    unsafe fn run(self);
}

/// 8 bits, four to an instruction that adds them up at once. It takes one side without a sign.
pub(crate) struct Bytes;

/// 16 bits, two to an instruction, and another that adds them up: of the bits, as many are used as leave room for sums.
pub(crate) struct Words;

impl Digits<64> for Bytes {
    type Weight = u8;
    type State = i8;
    const GROUP: usize = 4;
    const ADDED: i32 = 128;

    fn able() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
    }

    fn most(k: usize) -> i32 {
        if k <= 1 << 15 { 127 } else { 0 }
    }

    fn weight(value: i32) -> u8 {
        (value + Self::ADDED) as u8
    }

    fn state(value: i32) -> i8 {
        value as i8
    }

    #[inline(always)]
    unsafe fn sums<const R: usize>(weights: &[u8], states: &[i8], start: [i32; R]) -> [[i32; 64]; R] {
        let k = states.len() / R;
        assert_eq!(weights.len(), 64 * k, "a panel");
        // SAFETY: as the caller promises; fours of 64 tokens and of `R` states are read within both.
        unsafe {
            let mut sums = [[cpu::_mm512_setzero_si512(); 4]; R];
            for r in 0..R {
                sums[r] = [cpu::_mm512_set1_epi32(start[r]); 4];
            }
            for four in 0..k / 4 {
                let weights = weights.as_ptr().add(four * 256);
                let mut at = [cpu::_mm512_setzero_si512(); 4];
                for vector in 0..4 {
                    at[vector] = cpu::_mm512_loadu_si512(weights.add(vector * 64).cast());
                }
                for r in 0..R {
                    let state = states.as_ptr().add(r * k + four * 4).cast::<i32>().read_unaligned();
                    let state = cpu::_mm512_set1_epi32(state);
                    for vector in 0..4 {
                        sums[r][vector] = cpu::_mm512_dpbusd_epi32(sums[r][vector], at[vector], state);
                    }
                }
            }
            std::mem::transmute_copy(&sums)
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
    unsafe fn with<W: Work<Self, 64>>(work: W) {
        // SAFETY: as the caller promises.
        unsafe { work.run() }
    }
}

impl Digits<16> for Words {
    type Weight = i16;
    type State = i16;
    const GROUP: usize = 2;
    const ADDED: i32 = 0;

    fn able() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    fn most(k: usize) -> i32 {
        let most = (f64::from(i32::MAX) / k as f64).sqrt() as i32;
        most.min(i16::MAX.into())
    }

    fn weight(value: i32) -> i16 {
        value as i16
    }

    fn state(value: i32) -> i16 {
        value as i16
    }

    #[inline(always)]
    unsafe fn sums<const R: usize>(weights: &[i16], states: &[i16], start: [i32; R]) -> [[i32; 16]; R] {
        let k = states.len() / R;
        assert_eq!(weights.len(), 16 * k, "a panel");
        // SAFETY: as the caller promises; pairs of 16 tokens and of `R` states are read within both.
        unsafe {
            let mut sums = [[cpu::_mm256_setzero_si256(); 2]; R];
            for r in 0..R {
                sums[r] = [cpu::_mm256_set1_epi32(start[r]); 2];
            }
            for pair in 0..k / 2 {
                let weights = weights.as_ptr().add(pair * 32);
                let low = cpu::_mm256_loadu_si256(weights.cast());
                let high = cpu::_mm256_loadu_si256(weights.add(16).cast());
                for r in 0..R {
                    let state = states.as_ptr().add(r * k + pair * 2).cast::<i32>().read_unaligned();
                    let state = cpu::_mm256_set1_epi32(state);
                    sums[r] = [
                        cpu::_mm256_add_epi32(sums[r][0], cpu::_mm256_madd_epi16(low, state)),
                        cpu::_mm256_add_epi32(sums[r][1], cpu::_mm256_madd_epi16(high, state)),
                    ];
                }
            }
            std::mem::transmute_copy(&sums)
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn with<W: Work<Self, 16>>(work: W) {
        // SAFETY: as the caller promises.
        unsafe { work.run() }
    }
}
