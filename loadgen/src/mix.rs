//! What runs at the same time: the one population of a scenario, or the several of a file.
//!
//! Each population has workers of its own, so that a worker carries out one scenario with
//! one plan and one tally. Only the times are shared: all populations connect, start,
//! drain and close together.

use std::sync::Arc;
use std::time::Duration;

use crate::course::Course;
use crate::plan::Plan;
use crate::sockets::Io;

/// Clients that do the same.
#[derive(Clone, Debug)]
pub struct Population {
    /// Its name in the report; empty if it is alone.
    pub name: String,
    /// What it does.
    pub plan: Arc<Plan>,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Mix {
    /// The file that it is from; `None` for a scenario of its own.
    pub file: Option<String>,
    /// The server, as far as it is one.
    pub url: String,
    /// Never empty. The phases of all have the same names and lengths.
    pub populations: Vec<Population>,
    /// Connects per second of all together.
    pub ramp: f64,
}

impl From<Plan> for Mix {
    /// A scenario of its own.
    fn from(plan: Plan) -> Self {
        let (url, ramp) = (plan.target.to_string(), plan.ramp);
        let populations = vec![Population { name: String::new(), plan: Arc::new(plan) }];
        Self { file: None, url, populations, ramp }
    }
}

impl Mix {
    /// What it is called in reports: the scenario, or that there are several.
    pub fn scenario(&self) -> &'static str {
        if self.file.is_some() { "mixed" } else { self.populations[0].plan.kind.name() }
    }

    /// The phases; their loads are the first population's.
    pub fn course(&self) -> &Course {
        &self.populations[0].plan.course
    }

    /// All connections, publishers included.
    pub fn connections_total(&self) -> usize {
        self.plans().map(Plan::connections_total).sum()
    }

    /// Worker threads of all populations.
    pub fn threads(&self) -> usize {
        self.plans().map(|plan| plan.threads).sum()
    }

    /// How workers wait for their sockets, the same in all populations.
    pub fn io(&self) -> Io {
        self.populations[0].plan.io
    }

    /// How long answers are waited for.
    pub fn grace(&self) -> Duration {
        self.plans().map(|plan| plan.grace).max().unwrap_or_default()
    }

    /// Whether messages are sent, or connects timed, in any population.
    pub fn sends(&self) -> bool {
        self.plans().any(|plan| plan.pace.is_some())
    }

    /// Whether there is a rate, so that every message has a time at which it is meant to
    /// leave; in all populations that send.
    pub fn is_open_loop(&self) -> bool {
        self.target_rate().is_some()
    }

    /// Messages per second that are asked for, in the mean over what is measured; `None`
    /// if a population sends without a rate.
    pub fn target_rate(&self) -> Option<f64> {
        let rates = self.plans().filter(|plan| plan.pace.is_some()).map(Plan::target_rate);
        rates.sum::<Option<f64>>().filter(|_| self.sends())
    }

    /// Messages per second that are asked for at the beginning and at the end of a phase;
    /// `None` as for [`Mix::target_rate`].
    pub fn asked_in(&self, phase: &str) -> Option<(f64, f64)> {
        let asked = self.plans().filter(|plan| plan.pace.is_some()).map(|plan| plan.asked_in(phase));
        asked.reduce(|sum, asked| Some((sum?.0 + asked?.0, sum?.1 + asked?.1)))?
    }

    /// What each population does.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.populations.iter().map(|population| &*population.plan)
    }
}
