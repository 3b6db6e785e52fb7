//! Flags of the report.

use clap::Args;

#[derive(Args, Debug)]
pub(super) struct Output {
    /// Print one JSON object on standard output instead of text
    #[arg(long)]
    pub(super) json: bool,
}
