//! A row of figures as a row of bars.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One bar for each value, from 0 to the greatest of them.
pub(super) fn sparkline(values: impl Iterator<Item = f64> + Clone) -> String {
    let max = values.clone().fold(0.0, f64::max);
    let bar = |value: f64| match max > 0.0 {
        true => BARS[((value / max * BARS.len() as f64).ceil() as usize).clamp(1, BARS.len()) - 1],
        false => BARS[0],
    };
    values.map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_part_of_the_greatest() {
        let line = |values: &[f64]| sparkline(values.iter().copied());
        assert_eq!(line(&[0.0, 1.0, 2.0, 4.0, 7.9, 8.0]), "▁▁▂▄██");
        assert_eq!(line(&[5.0]), "█");
        assert_eq!(line(&[0.0, 0.0]), "▁▁");
        assert_eq!(line(&[]), "");
    }
}
