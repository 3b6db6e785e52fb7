//! Conditions under which a run counts as failed: `--fail-if 'p99 > 5ms'`.
//!
//! ```text
//! condition = product ( ">" | ">=" | "<" | "<=" | "==" | "!=" ) product
//! product   = term { ( "*" | "/" ) term }
//! term      = [ POPULATION "." ] NAME | NUMBER [ UNIT ]
//! UNIT      = "ns" | "us" | "ms" | "s" | "%"
//!           | "B" | "KB" | "MB" | "GB" | "KiB" | "MiB" | "GiB"
//! ```
//!
//! Read before the run, so that a wrong one costs nobody a run: names are looked up,
//! times are only compared with times, and sizes with memory or plain numbers of bytes.
//! Judged on a finished [`Report`].

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::numbers::{duration, size};
use crate::report::Report;

mod term;

use term::{SERVER_MEMORY, Term};
pub use term::{is_population_name, reserved_names};

/// A condition, read.
#[derive(Clone, Debug)]
pub struct Threshold {
    text: String,
    left: Product,
    comparison: Comparison,
    right: Product,
}

/// What became of a condition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Judgement {
    /// The condition.
    pub fail_if: String,
    /// Its left side, with a unit if it is a time or a size.
    pub is: String,
    /// It was met, or could not be judged.
    pub failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Comparison {
    symbol: &'static str,
    /// Whether an ordering meets it.
    meets: fn(Ordering) -> bool,
}

/// Longer symbols first: each is looked for from the start of what is left.
const COMPARISONS: [Comparison; 6] = [
    Comparison { symbol: ">=", meets: Ordering::is_ge },
    Comparison { symbol: "<=", meets: Ordering::is_le },
    Comparison { symbol: "==", meets: Ordering::is_eq },
    Comparison { symbol: "!=", meets: Ordering::is_ne },
    Comparison { symbol: ">", meets: Ordering::is_gt },
    Comparison { symbol: "<", meets: Ordering::is_lt },
];

/// What is multiplied, and what it is divided by.
#[derive(Clone, Default, Debug)]
struct Product {
    above: Vec<Term>,
    below: Vec<Term>,
}

impl Threshold {
    /// Whether the run was one that the condition is about.
    pub fn judge(&self, report: &Report) -> Judgement {
        let (left, right) = (self.left.value(report), self.right.value(report));
        let ordering = left.zip(right).and_then(|(left, right)| left.partial_cmp(&right));
        let is = match left {
            None => "unknown".to_owned(),
            Some(left) if self.left.dimension() == Dimension::TIME => duration(left),
            Some(left) if self.left.dimension() == Dimension::SIZE => size(left),
            Some(left) => format!("{}", (left * 1e6).round() / 1e6),
        };
        // Who asked for it must not be told that all is well when nothing is known.
        Judgement { fail_if: self.text.clone(), is, failed: ordering.is_none_or(self.comparison.meets) }
    }

    /// Whether it speaks of the `target` of that population, or of the whole run's; only an
    /// open loop has one.
    pub fn needs_rate(&self, of: Option<&str>) -> bool {
        self.terms().any(|term| match term {
            Term::Of(population, term) => of == Some(population) && term.is_target(),
            term => of.is_none() && term.is_target(),
        })
    }

    /// The populations of whose figures it speaks.
    pub fn populations(&self) -> impl Iterator<Item = &str> {
        self.terms().filter_map(|term| match term {
            Term::Of(population, _) => Some(population.as_str()),
            _ => None,
        })
    }

    /// Whether it speaks of what the server took, which is known of a watched one alone.
    pub fn needs_server(&self) -> bool {
        self.terms().any(Term::is_of_server)
    }

    fn terms(&self) -> impl Iterator<Item = &Term> {
        [&self.left, &self.right].into_iter().flat_map(|side| side.above.iter().chain(&side.below))
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(['<', '>', '=', '!']).ok_or("no comparison; write such as 'p99 > 5ms' or 'lost > 0'")?;
        let (left, rest) = text.split_at(at);
        let comparison = COMPARISONS.into_iter().find(|comparison| rest.starts_with(comparison.symbol));
        let comparison = comparison.ok_or("no comparison: one of > >= < <= == !=")?;
        let (left, right) = (left.parse::<Product>()?, rest[comparison.symbol.len()..].parse::<Product>()?);
        let condition = Self { text: text.trim().to_owned(), left, comparison, right };
        let (left, right) = (condition.left.dimension(), condition.right.dimension());
        if left.time != right.time {
            let unit = "a time needs a unit: ns, us, ms or s";
            return Err(format!("one side is a time and the other is not; {unit}"));
        }
        // Without a unit, a plain number beside memory is one of bytes.
        if left.size != right.size && condition.terms().any(|term| matches!(term, Term::Size(_))) {
            let memory = SERVER_MEMORY.map(|counter| counter.name).join(" and ");
            return Err(format!("one side is a size and the other is not; of the figures, {memory} are"));
        }
        Ok(condition)
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Product {
    fn value(&self, report: &Report) -> Option<f64> {
        let product = |terms: &[Term]| terms.iter().map(|term| term.value(report)).product::<Option<f64>>();
        Some(product(&self.above)? / product(&self.below)?)
    }

    fn dimension(&self) -> Dimension {
        let power = |is: fn(&Term) -> bool| {
            let count = |terms: &[Term]| terms.iter().filter(|term| is(term)).count() as i32;
            count(&self.above) - count(&self.below)
        };
        Dimension { time: power(Term::is_time), size: power(Term::is_size) }
    }
}

/// Powers of a time and of a size in a product; a plain number has neither.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Dimension {
    time: i32,
    size: i32,
}

impl Dimension {
    const TIME: Self = Self { time: 1, size: 0 };
    const SIZE: Self = Self { time: 0, size: 1 };
}

impl FromStr for Product {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut product = Self::default();
        let mut rest = text;
        let mut side = &mut product.above;
        while let Some(at) = rest.find(['*', '/']) {
            side.push(rest[..at].trim().parse()?);
            side = if rest[at..].starts_with('*') { &mut product.above } else { &mut product.below };
            rest = &rest[at + 1..];
        }
        side.push(rest.trim().parse()?);
        Ok(product)
    }
}

#[cfg(test)]
mod tests;
