//! How many messages are due by when: a rate that may change over time.
//!
//! A profile is a row of parts, in each of which the rate goes evenly from one value
//! to another. Plain arithmetic; knows no clock.

use std::time::Duration;

const NANOS: f64 = 1e9;

/// A rate over time, in messages per second of all senders.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    parts: Vec<Part>,
}

/// Times in nanoseconds, rates in messages per nanosecond.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Part {
    begins: f64,
    lasts: f64,
    from: f64,
    to: f64,
    /// Messages that are due before it begins.
    before: f64,
}

impl Part {
    /// Messages that are due in it.
    fn messages(&self) -> f64 {
        if self.from == 0.0 && self.to == 0.0 { 0.0 } else { (self.from + self.to) / 2.0 * self.lasts }
    }
}

impl Profile {
    /// The same rate for ever.
    pub fn constant(rate: f64) -> Self {
        assert!(rate > 0.0, "a rate of {rate} has no schedule");
        let rate = rate / NANOS;
        Self { parts: vec![Part { begins: 0.0, lasts: f64::INFINITY, from: rate, to: rate, before: 0.0 }] }
    }

    /// Rates that go from one value to another, each in its time; 0 is a pause.
    pub fn ramps(parts: impl IntoIterator<Item = (Duration, f64, f64)>) -> Self {
        let (mut begins, mut before) = (0.0, 0.0);
        let parts = parts.into_iter().map(|(lasts, from, to)| {
            let lasts = lasts.as_nanos() as f64;
            let part = Part { begins, lasts, from: from / NANOS, to: to / NANOS, before };
            begins += lasts;
            before += part.messages();
            part
        });
        Self { parts: parts.collect() }
    }

    /// When that many messages have become due; `None`: never.
    pub fn reaches(&self, messages: f64) -> Option<Duration> {
        // The last part that begins with no more than these behind it; one without
        // messages is stepped over.
        let index = self.parts.partition_point(|part| part.before <= messages).checked_sub(1)?;
        let part = self.parts[..=index].iter().rev().find(|part| part.from > 0.0 || part.to > 0.0)?;
        let due = messages - part.before;
        // Exact to a nanosecond for as long as a run may last. A ramp is a parabola; this
        // form of its inverse loses nothing where the rate hardly changes.
        let after = if part.from == part.to {
            due / part.from
        } else {
            let slope = (part.to - part.from) / part.lasts;
            let root = (part.from * part.from + 2.0 * due * slope).max(0.0).sqrt();
            if part.from + root > 0.0 { 2.0 * due / (part.from + root) } else { 0.0 }
        };
        // Rounding may put the last one of a part a hair behind its end.
        let is_last = index + 1 == self.parts.len();
        if is_last && after >= part.lasts {
            return None;
        }
        Some(Duration::from_nanos((part.begins + after.min(part.lasts)).round() as u64))
    }

    /// Messages that are due in `time` from the beginning.
    pub fn messages_in(&self, time: Duration) -> f64 {
        let time = time.as_nanos() as f64;
        let due = |part: &Part| {
            let passed = (time - part.begins).clamp(0.0, part.lasts);
            let slope = if part.lasts.is_finite() { (part.to - part.from) / part.lasts } else { 0.0 };
            part.from * passed + slope * passed * passed / 2.0
        };
        self.parts.iter().map(due).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_constant_rate_is_a_division() {
        let profile = Profile::constant(1_000.0);
        assert_eq!(profile.reaches(0.0), Some(Duration::ZERO));
        assert_eq!(profile.reaches(1_500.0), Some(Duration::from_millis(1_500)));
        assert_eq!(profile.messages_in(2 * SECOND).round(), 2_000.0);
    }

    #[test]
    fn a_ramp_gathers_speed_as_its_area_says() {
        // From 0 to 100 per second in 2 s: 100 messages, a quarter of them in the first half.
        let profile = Profile::ramps([(2 * SECOND, 0.0, 100.0), (SECOND, 100.0, 100.0), (SECOND, 100.0, 0.0)]);
        assert_eq!(profile.reaches(25.0), Some(SECOND));
        assert_eq!(profile.reaches(100.0), Some(2 * SECOND));
        assert_eq!(profile.reaches(150.0), Some(Duration::from_millis(2_500)));
        // Half of the last ramp's time holds three quarters of its 50.
        assert_eq!(profile.reaches(237.5), Some(Duration::from_millis(3_500)));
        assert_eq!(profile.reaches(250.1), None);
        assert_eq!(profile.messages_in(SECOND).round(), 25.0);
        assert_eq!(profile.messages_in(9 * SECOND).round(), 250.0);
    }

    #[test]
    fn times_never_go_back_over_the_parts() {
        let parts = [(SECOND, 10.0, 1_000.0), (SECOND, 0.0, 0.0), (SECOND, 333.3, 333.4), (SECOND, 1_000.0, 0.0)];
        let profile = Profile::ramps(parts);
        let times: Vec<_> = (0..).map_while(|k| profile.reaches(f64::from(k))).collect();
        let total = profile.messages_in(4 * SECOND);
        assert!((times.len() as f64 - total).abs() <= 1.0, "{} for {total}", times.len());
        assert!(times.is_sorted());
        assert!(times.iter().all(|at| !(SECOND + SECOND / 1_000..2 * SECOND).contains(at)), "nothing in the pause");
    }

    #[test]
    fn a_pause_alone_reaches_nothing() {
        assert_eq!(Profile::ramps([(SECOND, 0.0, 0.0)]).reaches(0.0), None);
    }
}
