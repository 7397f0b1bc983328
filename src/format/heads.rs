//! Fingerprints of sets of heads, which a head can join and leave at no cost that grows with the set.
//!
//! Each (path, change id) is hashed; the hashes are summed mod 2²⁵⁶; sum and count are hashed to the 16 bytes of a
//! [`HeadsFingerprint`]. It finds differences between nodes which mean well: who may sign changes could, with much work, make
//! two sets with one sum, and by that only keep a node from noticing what it lacks.

use crate::model::heads::HeadsFingerprint;
use crate::model::ids::ChangeId;
use crate::model::vpath::VPath;

/// What separates the hash of a head from any other.
pub const HEAD_TAG: &[u8] = b"ciruela head v1\0";
/// What separates the hash of a sum from any other.
pub const SUM_TAG: &[u8] = b"ciruela heads v1\0";

/// The hash of one head, as a number of 256 bits, lowest 64 bits first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadHash([u64; 4]);

/// The sum of the hashes of some heads, and their number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadsSum {
    sum: [u64; 4],
    count: u64,
}

impl HeadHash {
    /// BLAKE2b with 32 bytes of output, of [`HEAD_TAG`], change id and path, read as a little-endian number.
    pub fn new(path: &VPath, change: &ChangeId) -> Self {
        let mut params = blake2b_simd::Params::new();
        let mut state = params.hash_length(32).to_state();
        let hash = state.update(HEAD_TAG).update(change.as_bytes()).update(path.as_str().as_bytes()).finalize();
        let (words, _) = hash.as_bytes().as_chunks::<8>();
        Self(std::array::from_fn(|i| words.get(i).map_or(0, |word| u64::from_le_bytes(*word))))
    }
}

impl HeadsSum {
    /// How many heads.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// A head that isn't in it joins.
    pub fn insert(&mut self, head: HeadHash) {
        self.sum = add(self.sum, head.0);
        self.count += 1;
    }

    /// A head that is in it leaves.
    pub fn remove(&mut self, head: HeadHash) {
        self.sum = add(self.sum, negated(head.0));
        self.count = self.count.saturating_sub(1);
    }

    /// All heads of another set, which has none in common with this one, join.
    pub fn join(&mut self, other: &Self) {
        self.sum = add(self.sum, other.sum);
        self.count += other.count;
    }

    /// BLAKE2b with 16 bytes of output, of [`SUM_TAG`], sum (32 bytes) and count (8 bytes), both little-endian.
    pub fn fingerprint(&self) -> HeadsFingerprint {
        let mut params = blake2b_simd::Params::new();
        let mut state = params.hash_length(16).to_state();
        state.update(SUM_TAG);
        for word in self.sum {
            state.update(&word.to_le_bytes());
        }
        let hash = state.update(&self.count.to_le_bytes()).finalize();
        HeadsFingerprint(hash.as_bytes().try_into().expect("the hash length was set to 16 bytes"))
    }
}

impl Extend<HeadHash> for HeadsSum {
    fn extend<T: IntoIterator<Item = HeadHash>>(&mut self, heads: T) {
        heads.into_iter().for_each(|head| self.insert(head));
    }
}

fn add(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let mut carry = false;
    std::array::from_fn(|i| {
        let (sum, over) = a[i].overflowing_add(b[i]);
        let (sum, over_again) = sum.overflowing_add(carry.into());
        carry = over || over_again;
        sum
    })
}

/// What added to it gives 0.
fn negated(a: [u64; 4]) -> [u64; 4] {
    add(a.map(|word| !word), [1, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use blake2::Blake2b;
    use blake2::digest::Digest;
    use blake2::digest::consts::{U16, U32};
    use proptest::prelude::*;

    use super::*;

    fn head(n: u64) -> HeadHash {
        let path = format!("/key/{n}").parse().expect("valid");
        HeadHash::new(&path, &ChangeId::new([n.to_le_bytes()[0]; 32]))
    }

    fn sum(heads: &[u64]) -> HeadsSum {
        let mut sum = HeadsSum::default();
        sum.extend(heads.iter().map(|n| head(*n)));
        sum
    }

    /// As the protocol's page says, with another implementation of the hash.
    #[test]
    fn bytes_of_one_head() {
        let hash: [u8; 32] = Blake2b::<U32>::digest([HEAD_TAG, &[7; 32], b"/key/7"].concat()).into();
        let text = [SUM_TAG, &hash, &1_u64.to_le_bytes()].concat();
        assert_eq!(sum(&[7]).fingerprint().0, <[u8; 16]>::from(Blake2b::<U16>::digest(text)));
        let empty = [SUM_TAG, &[0; 32], &0_u64.to_le_bytes()].concat();
        assert_eq!(HeadsSum::default().fingerprint().0, <[u8; 16]>::from(Blake2b::<U16>::digest(empty)));
    }

    #[test]
    fn carries_go_through() {
        let top = [u64::MAX; 4];
        assert_eq!(add(top, [1, 0, 0, 0]), [0; 4]);
        assert_eq!(add(top, top), [u64::MAX - 1, u64::MAX, u64::MAX, u64::MAX]);
        assert_eq!(add([u64::MAX, 0, 0, 0], [1, 0, 0, 0]), [0, 1, 0, 0]);
        assert_eq!(negated([0; 4]), [0; 4]);
    }

    proptest! {
        #[test]
        fn order_does_not_matter(numbers in prop::collection::btree_set(0_u64..1_000, 0..30), gone in 2_000_u64..3_000) {
            let numbers: Vec<_> = numbers.into_iter().collect();
            let backwards: Vec<_> = numbers.iter().rev().copied().collect();
            prop_assert_eq!(sum(&numbers), sum(&backwards));
            let mut changed = sum(&numbers);
            changed.insert(head(gone));
            prop_assert_ne!(changed.fingerprint(), sum(&numbers).fingerprint());
            changed.remove(head(gone));
            prop_assert_eq!(changed, sum(&numbers));
            let (left, right) = numbers.split_at(numbers.len() / 2);
            let mut joined = sum(left);
            joined.join(&sum(right));
            prop_assert_eq!(joined, sum(&numbers));
        }

        #[test]
        fn a_number_and_its_negation_are_nothing(words in any::<[u64; 4]>()) {
            prop_assert_eq!(add(words, negated(words)), [0; 4]);
        }
    }
}
