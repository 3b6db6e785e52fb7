//! Whether a target is kept, as far as the samples can say.

use std::fmt;

use serde::Serialize;

use super::interval::Interval;

/// A target, judged.
#[derive(Serialize, Debug)]
pub(crate) struct Verdict {
    pub(crate) target: String,
    pub(crate) result: Judgement,
}

/// Whether a target is kept.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Judgement {
    /// With 95 % confidence, if it was sampled; else certainly.
    Met,
    /// The same, the other way round.
    Missed,
    /// The limit lies between the bounds; more rounds may tell.
    Open,
    /// What it compares with was not measured, or in fewer than five rounds.
    NotJudged,
}

impl Judgement {
    /// Whether a figure is at most `limit`.
    pub(crate) fn at_most(limit: f64, figure: Option<Interval>) -> Self {
        match figure {
            Some(Interval { upper: Some(upper), .. }) if upper <= limit => Self::Met,
            Some(Interval { lower: Some(lower), .. }) if lower > limit => Self::Missed,
            Some(Interval { lower: Some(_), upper: Some(_), .. }) => Self::Open,
            _ => Self::NotJudged,
        }
    }

    /// Something that had to hold in every round, or did not.
    pub(crate) fn certain(holds: bool) -> Self {
        if holds { Self::Met } else { Self::Missed }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Open => "open: the limit lies within the bounds",
            Self::NotJudged => "not judged",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.target, self.result)
    }
}

#[cfg(test)]
mod tests {
    use super::super::interval::interval;
    use super::*;

    #[test]
    fn a_limit_is_kept_or_broken_only_when_the_bounds_say_so() {
        let figures = [1.0, 1.1, 1.2, 1.3, 1.4];
        for (limit, expected) in [(1.4, Judgement::Met), (1.3, Judgement::Open), (0.9, Judgement::Missed)] {
            assert_eq!(Judgement::at_most(limit, interval(&figures)), expected, "{limit}");
        }
        assert_eq!(Judgement::at_most(2.0, interval(&figures[..4])), Judgement::NotJudged);
        assert_eq!(Judgement::at_most(2.0, None), Judgement::NotJudged);
    }
}
