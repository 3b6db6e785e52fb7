//! Regressions that were decided for: what buys a feature is written down, with its price.

use std::io;

use serde::{Deserialize, Serialize};

use super::sides::Repository;

/// Where they are written down.
pub(super) const FILE: &str = "bench/accepted.toml";

/// One regression.
#[derive(Clone, PartialEq, Deserialize, Serialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Accepted {
    /// The metric, as the gate's table names it.
    pub(super) metric: String,
    /// By how many per cent it may grow at most; the least that the gate names.
    pub(super) percent: f64,
    /// What it is good for.
    pub(super) reason: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// For `scripts/gate`, which has a base to find.
    #[serde(default, rename = "landed")]
    _landed: Option<String>,
    #[serde(default)]
    accepted: Vec<Accepted>,
}

/// Those that hold: what the base has written down itself is in its figures already, so
/// an entry lasts until it is landed, and no longer.
#[derive(Default)]
pub(super) struct Register {
    holding: Vec<Accepted>,
    expired: Vec<Accepted>,
}

impl Register {
    /// Reads those of the working tree and of the base.
    pub(super) fn read(repository: &Repository, base: &str) -> io::Result<Self> {
        let ours = match std::fs::read_to_string(repository.root.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let theirs = repository.file_at(base, FILE).unwrap_or_default();
        Self::new(&ours, &theirs)
    }

    fn new(ours: &str, theirs: &str) -> io::Result<Self> {
        let parse = |text: &str| toml::from_str::<File>(text).map(|file| file.accepted);
        let ours = parse(ours).map_err(|error| io::Error::other(format!("{FILE}: {error}")))?;
        // One that the base could not read accepted nothing there.
        let theirs = parse(theirs).unwrap_or_default();
        if let Some(vague) = ours.iter().find(|accepted| accepted.reason.trim().is_empty()) {
            return Err(io::Error::other(format!("{FILE}: {:?} has no reason", vague.metric)));
        }
        let (expired, holding) = ours.into_iter().partition(|accepted| theirs.contains(accepted));
        Ok(Self { holding, expired })
    }

    /// The entry that accepts a regression of so many per cent.
    pub(super) fn accepts(&self, metric: &str, percent: f64) -> Option<&Accepted> {
        // What is shown is rounded, and what is shown is what is written down.
        const ROUNDING: f64 = 0.05;
        self.holding.iter().find(|accepted| accepted.metric == metric && percent <= accepted.percent + ROUNDING)
    }

    /// What somebody should know of the entries, when these metrics got worse.
    pub(super) fn remarks(&self, regressed: &[String]) -> Vec<String> {
        let expired = self.expired.iter().map(|accepted| {
            format!("{FILE}: {:?} has expired, since the base has it already; take it out", accepted.metric)
        });
        let is_idle = |accepted: &&Accepted| !regressed.contains(&accepted.metric);
        let idle = self.holding.iter().filter(is_idle).map(|accepted| {
            format!("{FILE}: nothing had to be accepted of {:?}; take it out if all was measured", accepted.metric)
        });
        expired.chain(idle).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "[[accepted]]\nmetric = \"echo-20/instructions\"\npercent = 3.1\nreason = \"counts pings\"\n";

    #[test]
    fn an_entry_accepts_its_metric_up_to_its_percentage() {
        let register = Register::new(ENTRY, "").unwrap();
        for (metric, percent, expected) in [
            ("echo-20/instructions", 3.1, true),
            ("echo-20/instructions", 3.2, false),
            ("echo-20/allocations", 1.0, false),
        ] {
            assert_eq!(register.accepts(metric, percent).is_some(), expected, "{metric} {percent}");
        }
    }

    #[test]
    fn an_entry_expires_when_the_base_has_it() {
        let register = Register::new(ENTRY, ENTRY).unwrap();
        assert_eq!(register.accepts("echo-20/instructions", 3.0), None);
        assert!(register.remarks(&[])[0].contains("has expired"));
        // The same metric, for more than it was.
        let again = ENTRY.replace("3.1", "5.0");
        assert!(Register::new(&again, ENTRY).unwrap().accepts("echo-20/instructions", 5.0).is_some());
    }

    #[test]
    fn an_entry_must_say_why() {
        let vague = ENTRY.replace("counts pings", " ");
        let error = Register::new(&vague, "").err().unwrap().to_string();
        assert!(error.contains("echo-20/instructions"), "{error}");
        assert!(Register::new("[[accepted]]\nmetric = \"a\"\n", "").is_err());
    }
}
