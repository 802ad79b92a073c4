//! How much work an input makes: steps and memory, both counted, so that a slow machine changes nothing.

/// The most that an input may take, by its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Edges of the control flow in logweir's own code, for each byte and besides. Only counted under libFuzzer.
    pub steps: (u64, u64),
    /// Bytes that are allocated at the same time, for each byte and besides. What C code allocates (zstd) isn't
    /// seen.
    pub memory: (u64, u64),
}

/// Runs `job`, whose input is `len` bytes long.
///
/// # Panics
/// When it takes more than `most`.
pub fn bounded<T>(len: usize, most: Work, job: impl FnOnce() -> T) -> T {
    let mut result = None;
    let before = steps();
    let memory = allocation_counter::measure(|| result = Some(job()));
    let steps = steps() - before;
    let len = u64::try_from(len).unwrap_or(u64::MAX);
    let limit = |(each, besides): (u64, u64)| len.saturating_mul(each).saturating_add(besides);
    assert!(steps <= limit(most.steps), "{steps} steps for {len} bytes, over {}", limit(most.steps));
    assert!(
        memory.bytes_max <= limit(most.memory),
        "{} bytes of memory for {len} bytes, over {}",
        memory.bytes_max,
        limit(most.memory)
    );
    result.expect("it was run")
}

#[cfg(fuzzing_libfuzzer)]
use crate::libfuzzer::steps;

#[cfg(not(fuzzing_libfuzzer))]
const fn steps() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    const MOST: Work = Work { steps: (10, 100), memory: (2, 100) };

    #[test]
    fn the_result_comes_back() {
        assert_eq!(bounded(100, MOST, || black_box(vec![7_u8; 300]).len()), 300);
    }

    #[test]
    #[should_panic(expected = "301 bytes of memory for 100 bytes, over 300")]
    fn too_much_memory_is_seen() {
        bounded(100, MOST, || black_box(vec![7_u8; 301]).len());
    }

    #[cfg(fuzzing_libfuzzer)]
    #[test]
    #[should_panic(expected = "steps for 100 bytes, over 1100")]
    fn too_many_steps_are_seen() {
        bounded(100, MOST, || (0..100 * 100).filter(|n| black_box(*n) % 3 == 0).count());
    }
}
