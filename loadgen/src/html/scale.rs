//! Axes of plots: where a value lies, and which values are marked.

use crate::numbers::duration;

/// Marks of an axis of values, about.
const MARKS: f64 = 4.0;
/// Marks of an axis of time, about.
const TIME_MARKS: f64 = 6.0;

/// How values are laid along an axis.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Linear,
    Logarithmic,
}

/// One axis.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Scale {
    kind: Kind,
    from: f64,
    to: f64,
    /// Marked values and their labels.
    pub(super) marks: Vec<(f64, String)>,
}

impl Scale {
    /// From 0 (or the least value, if that is negative) to a round number above the greatest.
    pub(super) fn linear(values: impl Iterator<Item = f64>, label: fn(f64) -> String) -> Self {
        Self::with_marks(MARKS, values, label)
    }

    fn with_marks(about: f64, values: impl Iterator<Item = f64>, label: fn(f64) -> String) -> Self {
        let (least, greatest) =
            values.fold((0.0, 0.0), |(least, greatest): (f64, f64), value| (least.min(value), greatest.max(value)));
        let span = if greatest > least { greatest - least } else { 1.0 };
        let step = round_up(span / about);
        let (first, last) = ((least / step).floor() as i64, ((least + span) / step).ceil() as i64);
        let marks = (first..=last).map(|mark| mark as f64 * step);
        Self {
            kind: Kind::Linear,
            from: first as f64 * step,
            to: last as f64 * step,
            marks: marks.map(|value| (value, label(value))).collect(),
        }
    }

    /// From the least value to the greatest, and no further: of time, which ends.
    pub(super) fn time(values: impl Iterator<Item = f64> + Clone) -> Self {
        let from = values.clone().fold(f64::INFINITY, f64::min);
        let to = values.clone().fold(f64::NEG_INFINITY, f64::max);
        let mut scale =
            Self::with_marks(TIME_MARKS, values, |seconds| format!("{}", (seconds * 100.0).round() / 100.0));
        if from < to {
            scale.marks.retain(|&(value, _)| (from..=to).contains(&value));
            (scale.from, scale.to) = (from, to);
        }
        scale
    }

    /// Microseconds, each decade as long as the others.
    pub(super) fn durations(values: impl Iterator<Item = f64>) -> Self {
        let (least, greatest) = values
            .filter(|&value| value > 0.0)
            .fold((f64::INFINITY, 0.0), |(least, greatest): (f64, f64), value| (least.min(value), greatest.max(value)));
        let (least, greatest) = if greatest > 0.0 { (least, greatest) } else { (1.0, 1.0) };
        let (from, to) = (round_down(least), round_up(greatest * 1.000_001));
        let few_decades = to / from <= 1_000.0;
        let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
        let marks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| (digit, digit * 10_f64.powi(decade))));
        let marks = marks
            .filter(|&(digit, value)| (few_decades || digit == 1.0) && (from * 0.999..=to * 1.001).contains(&value));
        let marks = marks.map(|(_, value)| (value, short_duration(value))).collect();
        Self { kind: Kind::Logarithmic, from, to, marks }
    }

    /// Percentiles up to the one that `count` values can tell: 90, 99, 99.9 and so on
    /// are as far from each other as from 0. Values are [`nines`].
    pub(super) fn percentiles(count: u64) -> Self {
        let to = (count.max(10) as f64).log10();
        let label = |nines: i32| match nines {
            0 => "0".to_owned(),
            1 => "90".to_owned(),
            2 => "99".to_owned(),
            nines => format!("99.{}", "9".repeat(nines as usize - 2)),
        };
        let marks = (0..=to as i32).map(|nines| (f64::from(nines), label(nines))).collect();
        Self { kind: Kind::Linear, from: 0.0, to, marks }
    }

    /// Where the value lies, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        let part = match self.kind {
            Kind::Linear => (value - self.from) / (self.to - self.from),
            Kind::Logarithmic => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
        };
        part.clamp(0.0, 1.0)
    }
}

/// How many nines a quantile has: 1 for 0.9, 2 for 0.99.
pub(super) fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(f64::MIN_POSITIVE).log10()
}

/// The next of 1, 2, 5, 10, 20 and so on.
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * decade >= value * 0.999_999);
    digit.unwrap_or(10.0) * decade
}

fn round_down(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let digit = [5.0, 2.0].into_iter().find(|digit| digit * decade <= value);
    digit.unwrap_or(1.0) * decade
}

/// A round time in as few characters as it takes.
fn short_duration(micros: f64) -> String {
    let long = duration(micros);
    match long.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => long,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.marks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn marks_are_round_and_hold_all_values() {
        let label = |value: f64| format!("{value}");
        assert_eq!(labels(&Scale::linear([3.0, 930.0].into_iter(), label)), ["0", "500", "1000"]);
        assert_eq!(labels(&Scale::linear([-1.2, 5.0].into_iter(), label)), ["-2", "0", "2", "4", "6"]);
        assert_eq!(labels(&Scale::linear(std::iter::empty(), label)), ["0", "0.5", "1"]);
        let times = Scale::durations([230.0, 41_000.0].into_iter());
        assert_eq!(labels(&times), ["200 us", "500 us", "1 ms", "2 ms", "5 ms", "10 ms", "20 ms", "50 ms"]);
        let times = Scale::durations([1.0, 3_000_000.0].into_iter());
        assert_eq!(labels(&times), ["1 us", "10 us", "100 us", "1 ms", "10 ms", "100 ms", "1 s"]);
        assert_eq!(labels(&Scale::percentiles(30_000)), ["0", "90", "99", "99.9", "99.99"]);
        assert_eq!(labels(&Scale::time([-0.3, 4.7].into_iter())), ["0", "1", "2", "3", "4"]);
    }

    #[test]
    fn values_lie_where_their_marks_say() {
        let times = Scale::durations([100.0, 10_000.0].into_iter());
        assert_eq!((times.place(100.0), times.place(0.0), times.place(1e9)), (0.0, 0.0, 1.0));
        assert!(
            (times.place(1_000.0) - times.place(100.0) - (times.place(10_000.0) - times.place(1_000.0))).abs() < 1e-9
        );
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
        assert_eq!(Scale::percentiles(1_000).place(nines(1.0)), 1.0);
    }
}
