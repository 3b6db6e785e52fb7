//! `loadgen slow`.

use clap::Args;

use super::fanout::Fanout;
use super::values::percent;
use crate::plan::{Kind, Plan};

pub(super) const EXAMPLES: &str = "\
Examples:
  loadgen slow -c 1000 -R 100 -s 1024
      a tenth of the subscribers stop reading: what do the others notice?
  loadgen slow ws://host:8000/topics/room -c 1000 -R 1000 -s 4096 --stalled 50%
      and what becomes of those that stalled, by close code";

#[derive(Args, Debug)]
pub(super) struct Slow {
    /// Part of the subscribers that read nothing while messages are sent
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = percent)]
    pub(super) stalled: f64,
    #[command(flatten)]
    pub(super) fanout: Fanout,
}

impl Slow {
    pub(super) fn into_plan(self) -> Result<Plan, String> {
        let plan = self.fanout.into_plan()?;
        let stalled = (plan.connections as f64 * self.stalled).round() as usize;
        if stalled >= plan.connections {
            return Err(format!("--stalled leaves none of {} subscribers to read\n", plan.connections));
        }
        Ok(Plan { kind: Kind::Slow { publishers: plan.publishers(), stalled }, ..plan })
    }
}
