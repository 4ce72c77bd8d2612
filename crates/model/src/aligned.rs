//! Numbers that begin where a line of the caches does, so that no vector lies across two of them.

use std::ops::{Deref, DerefMut};

/// Bytes of a line.
const LINE: usize = 64;

/// A list of fixed length.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    /// With as many more than asked for as the way to the next line may take.
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Clone> Aligned<T> {
    /// As often as this.
    pub(crate) fn of(value: T, len: usize) -> Self {
        let more = LINE / size_of::<T>();
        let data = vec![value; len + more];
        let start = data.as_ptr().align_offset(LINE).min(more);
        Aligned { data, start, len }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data[self.start..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..][..self.len]
    }
}

/// A copy has its lines elsewhere.
impl<T: Clone> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut data: Vec<T> = Vec::with_capacity(self.data.len());
        let start = data.as_ptr().align_offset(LINE).min(self.data.len() - self.len);
        data.extend_from_slice(&self.data[..start]);
        data.extend_from_slice(self);
        Aligned { data, start, len: self.len }
    }
}

impl<T: PartialEq> PartialEq for Aligned<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_at_a_line_also_in_copies() {
        for len in [0, 1, 17, 100_000] {
            let mut numbers = Aligned::of(0f32, len);
            numbers.iter_mut().enumerate().for_each(|(index, number)| *number = index as f32);
            assert_eq!(numbers.as_ptr().addr() % LINE, 0);
            let copies: Vec<_> = (0..5).map(|_| numbers.clone()).collect();
            for copy in &copies {
                assert!(*copy == numbers && copy.len() == len);
                assert_eq!(copy.as_ptr().addr() % LINE, 0);
            }
        }
    }
}
