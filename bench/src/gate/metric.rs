//! What is counted, and when more of it is a regression.

use std::fmt;

use serde::Serialize;

use super::callgrind::{Place, Profile};

/// Places of a difference that are named.
const PLACES_MAX: usize = 3;

/// A kind of count, each with a tolerance of its own.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Instructions,
    Allocations,
    AllocatedBytes,
    KeptBytes,
    Calls,
    ClockReadings,
}

/// More than both of these is a regression: small counts may differ by a large part, and
/// large ones by many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    pub(super) percent: f64,
    /// In the metric's own unit.
    pub(super) least: f64,
}

impl Kind {
    /// As the name of a metric ends.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Allocations => "allocations",
            Self::AllocatedBytes => "allocated-bytes",
            Self::KeptBytes => "kept-bytes",
            Self::Calls => "calls",
            Self::ClockReadings => "clock-readings",
        }
    }

    /// Counts of work that is the same each time, so tolerances are for changes too small
    /// to talk about, and not for noise. The kernel decides how many readings of a
    /// socket a message takes, so calls of whole servers do vary a little.
    pub(super) fn tolerance(self) -> Tolerance {
        match self {
            Self::Instructions => Tolerance { percent: 1.0, least: 1.0 },
            Self::Allocations => Tolerance { percent: 0.0, least: 0.004 },
            Self::AllocatedBytes | Self::KeptBytes => Tolerance { percent: 1.0, least: 1.0 },
            Self::Calls | Self::ClockReadings => Tolerance { percent: 2.0, least: 0.05 },
        }
    }
}

/// One count of one piece of work, in both revisions.
#[derive(Clone, Serialize, Debug)]
pub(super) struct Metric {
    /// The work and the kind: `publish-100/instructions`.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// What it is counted for: a message, a delivery, a connection.
    pub(super) per: String,
    /// `None` if that revision cannot do this work.
    pub(super) base: Option<f64>,
    pub(super) head: Option<f64>,
    /// Where the difference is, the largest part first; none unless it grew.
    pub(super) places: Vec<Difference>,
}

/// A part of a difference.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub(super) struct Difference {
    pub(super) function: String,
    /// Where most of it stands.
    pub(super) file: String,
    /// By how much more it is, for each unit.
    pub(super) more: f64,
}

/// What a metric says.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    /// Within the tolerance.
    Same,
    Less,
    /// A regression.
    More,
    /// The base has no such metric.
    New,
    /// The head has none any more.
    Gone,
}

impl Metric {
    /// What the metric says by itself.
    pub(super) fn change(&self) -> Change {
        let (Some(base), Some(head)) = (self.base, self.head) else {
            return if self.head.is_some() { Change::New } else { Change::Gone };
        };
        let Tolerance { percent, least } = self.kind.tolerance();
        let tolerated = (base.abs() * percent / 100.0).max(least);
        match head - base {
            more if more > tolerated => Change::More,
            less if less < -tolerated => Change::Less,
            _ => Change::Same,
        }
    }

    /// By how many per cent it grew: infinitely many where there was nothing before.
    /// `None` if only one revision has it.
    pub(super) fn percent(&self) -> Option<f64> {
        let (base, head) = self.base.zip(self.head)?;
        Some(if head == base { 0.0 } else { (head - base) / base.abs() * 100.0 })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:+.1}", self.function, self.more)?;
        match self.file.as_str() {
            "???" => Ok(()),
            file => write!(formatter, " ({file})"),
        }
    }
}

/// Where one profile has more than another: functions, of which a part of both counts
/// is given, for each unit.
pub(super) fn differences(
    (base, base_units): (&Profile, f64),
    (head, head_units): (&Profile, f64),
    cost: impl Fn(&Place, &super::callgrind::Cost) -> u64,
) -> Vec<Difference> {
    // By place first, since a function's largest part is what its file is told by.
    let mut places: Vec<(&Place, f64)> = head
        .iter()
        .map(|(place, now)| {
            let before = base.get(place).map_or(0, |before| cost(place, before));
            (place, cost(place, now) as f64 / head_units - before as f64 / base_units)
        })
        .collect();
    places.extend(
        base.iter()
            .filter(|(place, _)| !head.contains_key(*place))
            .map(|(place, before)| (place, -(cost(place, before) as f64) / base_units)),
    );
    places.sort_by(|a, b| b.1.total_cmp(&a.1));

    let mut functions: Vec<Difference> = Vec::new();
    for (place, more) in places {
        match functions.iter_mut().find(|known| known.function == place.function) {
            Some(known) => known.more += more,
            None => {
                functions.push(Difference { function: place.function.clone(), file: place.file.clone(), more });
            }
        }
    }
    functions.sort_by(|a, b| b.more.total_cmp(&a.more));
    let largest = functions.first().map_or(0.0, |largest| largest.more);
    functions.retain(|difference| difference.more > 0.0 && difference.more >= largest / 10.0);
    functions.truncate(PLACES_MAX);
    functions
}

#[cfg(test)]
mod tests {
    use super::super::callgrind::Cost;
    use super::*;

    fn metric(kind: Kind, base: Option<f64>, head: Option<f64>) -> Metric {
        Metric { name: "work".to_owned(), kind, per: "message".to_owned(), base, head, places: Vec::new() }
    }

    #[test]
    fn a_count_regresses_when_it_grows_past_both_tolerances() {
        for (kind, base, head, expected) in [
            (Kind::Instructions, 400.0, 403.9, Change::Same),
            (Kind::Instructions, 400.0, 404.1, Change::More),
            (Kind::Instructions, 400.0, 395.9, Change::Less),
            (Kind::Instructions, 10.0, 10.9, Change::Same),
            (Kind::Allocations, 0.0, 0.01, Change::More),
            (Kind::KeptBytes, 180.0, 180.0, Change::Same),
            (Kind::KeptBytes, -16.0, 0.0, Change::More),
            (Kind::Calls, 20.0, 21.0, Change::More),
        ] {
            assert_eq!(metric(kind, Some(base), Some(head)).change(), expected, "{kind:?} {base} {head}");
        }
    }

    #[test]
    fn what_only_one_revision_has_is_no_regression() {
        assert_eq!(metric(Kind::Calls, None, Some(1.0)).change(), Change::New);
        assert_eq!(metric(Kind::Calls, Some(1.0), None).change(), Change::Gone);
    }

    #[test]
    fn differences_name_the_functions_that_grew_and_the_file_of_their_largest_part() {
        let profile = |costs: &[(&str, &str, u64)]| -> Profile {
            let entry = |&(function, file, instructions): &(&str, &str, u64)| {
                let place = Place { function: function.to_owned(), file: file.to_owned() };
                (place, Cost { instructions, calls: 0 })
            };
            costs.iter().map(entry).collect()
        };
        let base = profile(&[("flush", "flush.rs", 1000), ("gone", "a.rs", 500), ("same", "a.rs", 7)]);
        let head = profile(&[
            ("flush", "flush.rs", 2100),
            ("flush", "mask.rs", 3000),
            ("tiny", "a.rs", 10),
            ("same", "a.rs", 14),
        ]);
        // Twice the units.
        let found = differences((&base, 10.0), (&head, 20.0), |_, cost| cost.instructions);
        let expected = Difference { function: "flush".to_owned(), file: "mask.rs".to_owned(), more: 155.0 };
        assert_eq!(found, [expected]);
    }
}
