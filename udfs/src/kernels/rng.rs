//! Counter-based random numbers: a draw is a function of (seed, stream, counter) alone, so that
//! any draw can be repeated without having made the ones before it.

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014).
#[inline(always)]
fn finalize(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 64 random bits for a seed, a stream (what the draw is for) and a counter.
#[inline(always)]
pub fn mix(seed: u64, stream: u64, counter: u64) -> u64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let key = finalize(
        seed.wrapping_add(GAMMA).wrapping_mul(GAMMA) ^ finalize(stream.wrapping_add(GAMMA)),
    );
    finalize(key.wrapping_add(counter.wrapping_add(1).wrapping_mul(GAMMA)))
}

/// A number in `[0, 1)` from 64 random bits: the upper 24, which `f32` holds exactly.
#[inline(always)]
pub fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 * (1.0 / (1u64 << 24) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_and_differ_by_every_argument() {
        let n = 100_000;
        let mean: f64 = (0..n).map(|i| f64::from(unit(mix(1, 2, i)))).sum::<f64>() / n as f64;
        // Standard error of the mean of uniforms: 1 / sqrt(12 n) = 0.0009.
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let mut seen: Vec<u64> = (0..n).map(|i| mix(1, 2, i)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), n as usize);
        let base = mix(1, 2, 3);
        assert!(mix(2, 2, 3) != base && mix(1, 3, 3) != base && mix(1, 2, 4) != base);
        assert!((0..n).all(|i| (0.0..1.0).contains(&unit(mix(9, 9, i)))));
    }
}
