//! Gates that might have been: pairs drawn from those that were recorded, judged as
//! the gate judges.

use super::super::paired::judge::{Certainty, Decision, LOOKS, Quantity};
use super::super::paired::measure::Pair;
use super::super::paired::row::Row;
use super::record::Recorded;

/// Pairs that are drawn together, one after the other as they were measured: what the
/// machine did to one it may have done to its neighbour.
const BLOCK: usize = 4;

/// All pairs of one kind of one row, in the order in which they were measured.
pub(super) struct Pool<'a> {
    row: &'a Row,
    pairs: Vec<Pair>,
}

impl<'a> Pool<'a> {
    pub(super) fn new<'b>(row: &'a Row, records: impl Iterator<Item = &'b Recorded>) -> Self {
        Self { row, pairs: records.map(|recorded| recorded.pair).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// The ratios of all of them.
    pub(super) fn ratios(&self, quantity: Quantity) -> Vec<f64> {
        self.pairs.iter().filter_map(|pair| pair.ratio(quantity)).collect()
    }

    /// Draws so many pairs, in blocks. With `either_way` each block may stand the other
    /// way round: of two that are the same, either could have been the head.
    fn draw(&self, count: usize, either_way: bool, random: &mut fastrand::Rng) -> Vec<Pair> {
        let mut drawn = Vec::with_capacity(count + BLOCK);
        while drawn.len() < count {
            let from = random.usize(..self.pairs.len());
            let turned = either_way && random.bool();
            let block = (0..BLOCK).map(|n| self.pairs[(from + n) % self.pairs.len()]);
            drawn.extend(block.map(|Pair { base, head }| match turned {
                true => Pair { base: head, head: base },
                false => Pair { base, head },
            }));
        }
        drawn.truncate(count);
        drawn
    }
}

/// One gate: which quantities it accused, of at most `pairs_max` pairs of each pool. With
/// `planted`, that pool stands for its row's usual one.
pub(super) fn accused(
    usual: &[Pool<'_>],
    planted: Option<&Pool<'_>>,
    pairs_max: usize,
    random: &mut fastrand::Rng,
) -> Vec<(String, Quantity)> {
    let certainty = Certainty::of(usual.iter().map(|pool| pool.row.quantities.len()).sum());
    let mut accused = Vec::new();
    for pool in usual {
        let replaced = planted.filter(|planted| planted.row.name == pool.row.name);
        let pairs = replaced.unwrap_or(pool).draw(pairs_max, replaced.is_none(), random);
        for &quantity in &pool.row.quantities {
            let ratios: Vec<_> = pairs.iter().map(|pair| pair.ratio(quantity)).collect();
            let finding = certainty.decide(quantity, &ratios);
            if finding.is_some_and(|finding| finding.decision == Decision::Regression) {
                accused.push((pool.row.name.clone(), quantity));
            }
        }
    }
    accused
}

/// The numbers of pairs for which the power is shown: where the gate looks.
pub(super) const PAIRS: [usize; 4] = LOOKS;

/// Between which parts the true one lies with a confidence of 95 %, if `found` of `count`
/// were found (Clopper and Pearson, 1934).
pub(super) fn bounds(found: usize, count: usize) -> (f64, f64) {
    const EACH: f64 = 0.025;
    let at_least = |part: f64| 1.0 - cumulated(found as i64 - 1, count, part);
    let at_most = |part: f64| cumulated(found as i64, count, part);
    let lower = if found == 0 { 0.0 } else { bisect(|part| at_least(part) < EACH) };
    let upper = if found == count { 1.0 } else { bisect(|part| at_most(part) > EACH) };
    (lower, upper)
}

/// The largest part for which something still holds.
fn bisect(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// The probability of at most `successes` of `count` if each has the probability `part`.
fn cumulated(successes: i64, count: usize, part: f64) -> f64 {
    let mut logarithm = count as f64 * (1.0 - part).ln();
    let mut sum = 0.0;
    for success in 0..=successes {
        sum += logarithm.exp();
        let (success, count) = (success as f64, count as f64);
        logarithm += ((count - success) / (success + 1.0)).ln() + (part / (1.0 - part)).ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::super::paired::measure::Sample;
    use super::super::super::paired::row::rows;
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables_of_clopper_and_pearson() {
        for (found, count, lower, upper) in
            [(0, 10, 0.0, 0.3085), (1, 10, 0.0025, 0.4450), (95, 100, 0.8872, 0.9836), (10, 10, 0.6915, 1.0)]
        {
            let (low, high) = bounds(found, count);
            assert!((low - lower).abs() < 1e-3 && (high - upper).abs() < 1e-3, "{found} of {count}: {low} {high}");
        }
    }

    fn pool(row: &Row, percent: f64, pairs: usize) -> Pool<'_> {
        let sample = |cpu| Sample { cpu, p50: Some(cpu), p99: Some(cpu) };
        let pair = |n: usize| Pair {
            base: sample(1.0 + (n * 7 % 11) as f64 / 1000.0),
            head: sample(1.0 + percent / 100.0 + (n * 5 % 13) as f64 / 1000.0),
        };
        Pool { row, pairs: (0..pairs).map(pair).collect() }
    }

    #[test]
    fn neighbours_are_drawn_together_and_turned_together() {
        let rows = rows();
        let sample = |cpu| Sample { cpu, p50: None, p99: None };
        let pairs: Vec<_> = (0..30).map(|n| Pair { base: sample(f64::from(n)), head: sample(1000.0) }).collect();
        let pool = Pool { row: &rows[0], pairs: pairs.clone() };
        let turned: Vec<_> = pairs.iter().map(|&Pair { base, head }| Pair { base: head, head: base }).collect();
        let mut random = fastrand::Rng::with_seed(1);
        let drawn = pool.draw(4 * 25, true, &mut random);
        let is_from = |pairs: &[Pair], block: &[Pair]| {
            let from = pairs.iter().position(|pair| *pair == block[0]);
            from.is_some_and(|from| (0..4).all(|n| block[n] == pairs[(from + n) % pairs.len()]))
        };
        let (turned, straight): (Vec<_>, Vec<_>) = drawn.chunks(4).partition(|block| is_from(&turned, block));
        assert!(straight.iter().all(|block| is_from(&pairs, block)), "{straight:?}");
        assert!(!turned.is_empty() && !straight.is_empty());
        assert!(pool.draw(40, false, &mut random).iter().all(|pair| pairs.contains(pair)));
    }

    #[test]
    fn a_slowdown_is_accused_where_it_was_planted_and_nothing_else_is() {
        let rows = rows();
        let usual: Vec<_> = rows.iter().map(|row| pool(row, 0.0, 30)).collect();
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(accused(&usual, None, 40, &mut random), []);
        let planted = pool(&rows[1], 8.0, 30);
        let found = accused(&usual, Some(&planted), 40, &mut random);
        assert_eq!(found, [(rows[1].name.clone(), Quantity::Cpu)]);
    }
}
