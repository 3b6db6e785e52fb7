//! Random numbers for masking keys and handshake nonces.
//!
//! xoshiro256++ seeded by the operating system, one generator per worker: a key
//! must be fresh for each frame (RFC 6455, section 5.3) and cost next to nothing.

use std::fs::File;
use std::io::{self, Read as _};

/// A generator; not for secrets that outlive a run.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// Seeded by the operating system.
    pub fn from_system() -> io::Result<Self> {
        let mut bytes = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(Self::from_seed([0, 1, 2, 3].map(|i| u64::from_ne_bytes(words[i]))))
    }

    /// A generator that repeats itself, for tests. An all-zero seed is replaced.
    pub fn from_seed(mut state: [u64; 4]) -> Self {
        if state == [0; 4] {
            state[0] = 1;
        }
        Self { state }
    }

    /// A generator that repeats itself: one of many streams that belong to a seed.
    pub fn from_stream(seed: u64, stream: u64) -> Self {
        // Splitmix64, as the authors of xoshiro advise for seeds with few bits set.
        let mut state = seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mut word = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        };
        Self::from_seed([word(), word(), word(), word()])
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Exponentially distributed, with a mean of 1: the gaps of a Poisson process.
    pub fn exponential(&mut self) -> f64 {
        // 53 bits are what a fraction holds; one half more keeps it above zero.
        let fraction = ((self.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -fraction.ln()
    }

    /// A masking key.
    pub fn mask_key(&mut self) -> [u8; 4] {
        ((self.next_u64() >> 32) as u32).to_ne_bytes()
    }

    /// A handshake nonce.
    pub fn nonce(&mut self) -> [u8; 16] {
        let (high, low) = (self.next_u64(), self.next_u64());
        (u128::from(high) << 64 | u128::from(low)).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_sequence() {
        // First outputs of the reference implementation for the state 1, 2, 3, 4.
        let mut random = Random::from_seed([1, 2, 3, 4]);
        assert_eq!(random.next_u64(), 41_943_041);
        assert_eq!(random.next_u64(), 58_720_359);
    }

    #[test]
    fn exponential_numbers_have_mean_and_deviation_one() {
        let mut random = Random::from_seed([1, 2, 3, 4]);
        let numbers: Vec<_> = (0..100_000).map(|_| random.exponential()).collect();
        let mean = numbers.iter().sum::<f64>() / 1e5;
        let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.01 && (variance - 1.0).abs() < 0.03, "{mean}, {variance}");
        assert!(numbers.iter().all(|&number| number > 0.0));
    }

    #[test]
    fn two_generators_of_the_system_differ() {
        let (mut a, mut b) = (Random::from_system().unwrap(), Random::from_system().unwrap());
        assert_ne!(a.nonce(), b.nonce());
    }
}
