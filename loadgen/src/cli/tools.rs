//! Subcommands that put no load on anybody: they read reports, or tell about loadgen.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use crate::threshold::Threshold;

pub(super) const COMPARE_EXAMPLES: &str = "\
Examples:
  loadgen compare before.json after.json
      what changed between two runs
  loadgen compare --base a1.json a2.json a3.json --new b1.json b2.json b3.json
      what changed, with the interval in which it lies; take the runs in turns
  loadgen compare before1.json before2.json after1.json after2.json
      the same for runs with two different --label, the first one's the base
  loadgen compare before.json after.json --json | jq '.figures[] | select(.finding == \"higher\")'
      what became more, for a script
  loadgen compare before.json after.json --html compare.html
      the percentiles over each other, too";

pub(super) const MERGE_EXAMPLES: &str = "\
Examples:
  loadgen merge a.json b.json --html both.html
      the load of two machines as one run
  loadgen merge a.json b.json --fail-if 'p99 > 5ms' --json > all.json
      judged together

  Each machine sends and expects its own messages, so every latency is taken
  with one clock. In a fan-out each subscriber also gets the messages of the
  other machines' publishers, and counts them as foreign.";

/// One of them.
#[derive(Subcommand, Debug)]
pub enum Tool {
    /// What changed between two set-ups, each measured once or several times
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareArgs),
    /// Several machines' runs as one: counts and histograms are added
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(MergeArgs),
    /// Print the manual page; read it with: loadgen man | man -l -
    Man,
    /// Print completions for a shell
    Completions {
        /// For which one
        shell: Shell,
    },
}

/// What to compare.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Two JSON reports; or more, of runs with two different labels
    #[arg(value_name = "FILE", num_args = 2.., required_unless_present = "base", conflicts_with_all = ["base", "new"])]
    pub files: Vec<PathBuf>,
    /// JSON reports of what to compare with
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "new")]
    pub base: Vec<PathBuf>,
    /// JSON reports of what changed
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "base")]
    pub new: Vec<PathBuf>,
    /// Print one JSON object on standard output instead of text; docs/loadgen-json.md describes it
    #[arg(long)]
    pub json: bool,
    /// Write a page with the table and the overlaid percentiles
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// What to merge.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// JSON reports
    #[arg(value_name = "FILE", num_args = 1.., required = true)]
    pub files: Vec<PathBuf>,
    /// Print one JSON object on standard output instead of text
    #[arg(long)]
    pub json: bool,
    /// Write the report as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit with 5 if this holds of all together; may be repeated
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<Threshold>,
    /// Do not exit with 6 when a run was INVALID
    #[arg(long)]
    pub allow_invalid: bool,
}
