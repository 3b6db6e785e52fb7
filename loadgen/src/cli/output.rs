//! Flags about what is made of a run's results; the same for all scenarios.

use clap::Args;

/// What to show, write and check.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print one JSON object on standard output instead of text
    #[arg(long)]
    pub json: bool,
}
