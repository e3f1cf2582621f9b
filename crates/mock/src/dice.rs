//! Repeatable chance: the same seed gives the same faults on every machine and with every version of every library.

/// A splitmix64 generator.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True with probability `p`; always for 1 and never for 0.
    pub fn chance(&mut self, p: f64) -> bool {
        // 53 bits fill a double's mantissa, so the quotient is uniform in [0, 1).
        ((self.roll() >> 11) as f64) < p * (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_rolls_the_same_and_extremes_are_certain() {
        let (mut one, mut two) = (Dice::new(7), Dice::new(7));
        assert!((0..100).all(|_| one.roll() == two.roll()));
        assert!((0..1000).all(|_| one.chance(1.0)));
        assert!((0..1000).all(|_| !one.chance(0.0)));
        let hits = (0..10_000).filter(|_| two.chance(0.25)).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
    }
}
