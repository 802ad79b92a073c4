//! New inputs from old ones, the same ones for the same seed.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// The largest input that is made.
const MAX_BYTES: usize = 4 << 10;

/// Numbers at the edges of what code expects.
const NUMBERS: [&[u8]; 10] = [
    b"0",
    b"1",
    b"-1",
    b"4294967296",
    b"9223372036854775806",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1e999",
];

/// Makes inputs.
pub(crate) struct Mutator<'a> {
    random: SmallRng,
    seeds: &'a [Vec<u8>],
    words: Vec<Vec<u8>>,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(seed: u64, seeds: &'a [Vec<u8>], words: Vec<Vec<u8>>) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), seeds, words }
    }

    /// One of the seeds, changed in one to eight places.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..1_u32 << self.random.random_range(0..4) {
            self.change(&mut input);
        }
        input.truncate(MAX_BYTES);
        input
    }

    fn seed(&mut self) -> &'a [u8] {
        self.seeds.choose(&mut self.random).map_or(&[], Vec::as_slice)
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.random_range(0..=input.len());
        let to = self.random.random_range(at..=input.len().min(at + 64));
        match self.random.random_range(0..10) {
            0 | 1 if at < input.len() => input[at] ^= 1 << self.random.random_range(0..8_u32),
            2 if at < input.len() => input[at] = self.random.random(),
            3 => input.insert(at, self.random.random()),
            4 => drop(input.drain(at..to)),
            // Twice what stands there, or often.
            5 => {
                let times = if self.random.random_range(0..4) == 0 { 40 } else { 1 };
                let part = input[at..to].repeat(times);
                input.splice(at..at, part);
            }
            6 => {
                let word = self.words.choose(&mut self.random).cloned().unwrap_or_default();
                let end = if self.random.random() { at } else { to };
                input.splice(at..end, word);
            }
            7 => {
                let number = NUMBERS.choose(&mut self.random).copied().unwrap_or_default();
                let digits = input[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                input.splice(at..at + digits, number.iter().copied());
            }
            // The end of another.
            8 => {
                let other = self.seed();
                let from = self.random.random_range(0..=other.len());
                input.splice(at.., other[from..].iter().copied());
            }
            9 => input.truncate(at.max(1)),
            // At the end there is no byte to change.
            _ => input.push(self.random.random()),
        }
        input.truncate(2 * MAX_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn inputs_are_many_and_the_same_for_the_same_seed() {
        let seeds = [b"{\"a\":17}".to_vec(), b"second".to_vec()];
        let all = |seed| {
            let mut mutator = Mutator::new(seed, &seeds, vec![b"word".to_vec()]);
            (0..1_000).map(|_| mutator.next()).collect::<Vec<_>>()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        let inputs: HashSet<Vec<u8>> = all(1).into_iter().collect();
        assert!(inputs.len() > 800, "{}", inputs.len());
        assert!(inputs.iter().all(|input| input.len() <= MAX_BYTES));
        let has = |part: &[u8]| inputs.iter().any(|input| input.windows(part.len()).any(|at| at == part));
        assert!(has(b"word") && has(b"9223372036854775808"));
    }
}
