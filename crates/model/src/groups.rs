//! Which rows of a batch a thread takes through the blocks on its own, and which all threads take together.

use crate::Row;

/// Tokens of a group: its activations fit the caches, and the weights are read seldom enough.
const GROUP: usize = 512;
/// Tokens below which a group is not worth a thread of its own.
const SMALL_GROUP: usize = 32;
/// How much longer than an even share, as a quotient, the busiest thread may take: together, threads wait for each
/// other after every step, which costs some hundredths as well.
const UNEVEN: (usize, usize) = (17, 16);

/// Rows next to each other and their states.
pub(crate) type Group<'a, 'b, T> = (&'a mut [T], &'a mut [Row<'b, T>]);

/// Groups that `count` tokens are cut into: as many for each thread.
pub(crate) fn groups(count: usize, threads: usize) -> usize {
    let most = (count / SMALL_GROUP).max(1);
    count.div_ceil(GROUP).next_multiple_of(threads).min(most)
}

/// States and rows in at most `groups` groups of about as many tokens.
pub(crate) fn split<'a, 'b, T>(
    mut x: &'a mut [T],
    d: usize,
    mut rows: &'a mut [Row<'b, T>],
    groups: usize,
) -> Vec<Group<'a, 'b, T>> {
    let total = x.len() / d;
    let mut parts = Vec::with_capacity(groups);
    let mut done = 0;
    while !rows.is_empty() {
        let goal = ((parts.len() + 1) * total).div_ceil(groups);
        let (mut count, mut tokens) = (0, 0);
        while count < rows.len() && (count == 0 || done + tokens + rows[count].new / 2 < goal) {
            tokens += rows[count].new;
            count += 1;
        }
        done += tokens;
        let (some, rest) = std::mem::take(&mut rows).split_at_mut(count);
        let (states, rest_x) = std::mem::take(&mut x).split_at_mut(tokens * d);
        parts.push((states, some));
        (rows, x) = (rest, rest_x);
    }
    parts
}

/// The longest of `groups`, which all `threads` take together, one after another, and the rest, longest first: few
/// enough of the former that the latter, each taken by the first thread that is free, keep all threads busy.
pub(crate) fn share<G>(mut groups: Vec<G>, threads: usize, size: impl Fn(&G) -> usize) -> (Vec<G>, Vec<G>) {
    groups.sort_by_key(|group| std::cmp::Reverse(size(group)));
    let even = |groups: &[G]| {
        let mut loads = vec![0; threads];
        for group in groups {
            *loads.iter_mut().min().expect("there is a thread") += size(group);
        }
        let busiest = loads.iter().max().expect("there is a thread");
        busiest * threads * UNEVEN.1 <= loads.iter().sum::<usize>() * UNEVEN.0
    };
    let together = (0..groups.len()).find(|&first| even(&groups[first..])).unwrap_or(groups.len());
    let rest = groups.split_off(together);
    (groups, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(sizes: &[usize], threads: usize) -> (Vec<usize>, Vec<usize>) {
        share(sizes.to_vec(), threads, |&size| size)
    }

    #[test]
    fn no_thread_waits_for_a_long_row() {
        let none = vec![];
        assert_eq!(shared(&[], 2), (none.clone(), none.clone()));
        assert_eq!(shared(&[2048; 4], 2), (none.clone(), vec![2048; 4]));
        assert_eq!(shared(&[2048; 3], 2), (vec![2048], vec![2048; 2]));
        assert_eq!(shared(&[100, 2048, 100], 2), (vec![2048], vec![100, 100]));
        assert_eq!(shared(&[1300, 2048, 1000, 2048], 2), (none.clone(), vec![2048, 2048, 1300, 1000]));
        assert_eq!(shared(&[512; 20], 16), (vec![512; 4], vec![512; 16]));
        assert_eq!(shared(&[700, 30], 2), (vec![700, 30], none.clone()));
        assert_eq!(shared(&[700, 30], 1), (none, vec![700, 30]));
    }
}
