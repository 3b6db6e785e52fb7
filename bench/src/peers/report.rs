//! Everything that was measured, as tables in Markdown.

use serde::Serialize;

use super::compare::{Line, RowReport, median_of};
use super::row::Measures;
use crate::rig::machine::Machine;
use crate::rig::markdown::{show_ratio, show_time, table_head, table_row};
use crate::rig::window::OTHERS_BUSY_MAX;

/// Everything that was measured.
#[derive(Serialize, Debug)]
pub(super) struct Report {
    pub(super) machine: Machine,
    /// Rounds in which each server ran once in each row.
    pub(super) pairs: usize,
    /// Time that each run was measured.
    pub(super) seconds: f64,
    /// What each server of the table is.
    pub(super) servers: Vec<(&'static str, &'static str)>,
    pub(super) rows: Vec<RowReport>,
    /// Servers that could not be measured.
    pub(super) left_out: Vec<LeftOut>,
}

/// A server that was left out, and why.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub(super) struct LeftOut {
    pub(super) server: &'static str,
    /// The row, or all of them.
    pub(super) row: Option<&'static str>,
    pub(super) reason: String,
}

impl Report {
    /// The tables, in Markdown.
    pub(super) fn text(&self) -> String {
        let machine = &self.machine;
        let mut text = format!("{machine}. {} pairs of {} s.\n", self.pairs, self.seconds);
        if !self.counts_instructions() {
            text += "User instructions per message: not counted on this machine.\n";
        }
        for row in &self.rows {
            text += &format!("\n**{}** — {}\n\n", row.name, row.title);
            text += &row.table();
            text += &row.remarks();
        }
        text += "\n";
        for (name, about) in &self.servers {
            text += &format!("* {name}: {about}\n");
        }
        for LeftOut { server, row, reason } in &self.left_out {
            let row = row.map(|row| format!(" in {row}")).unwrap_or_default();
            text += &format!("* {server} is left out{row}: {reason}\n");
        }
        text
    }
}

impl Report {
    fn counts_instructions(&self) -> bool {
        self.rows.iter().any(RowReport::counts_instructions)
    }
}

impl RowReport {
    fn table(&self) -> String {
        let mut head = match self.measures {
            Measures::MessageCpu => {
                vec!["server", "CPU per message", "user", "system", "wsgate ÷ it", "server busy", "load busy"]
            }
            Measures::ConnectionBytes => vec!["server", "bytes per connection", "wsgate ÷ it"],
        };
        if self.counts_instructions() {
            head.push("user instructions");
        }
        let mut text = table_head(&head);
        for line in &self.lines {
            let ratio = line.ratio.map(show_ratio).unwrap_or_default();
            let mut cells = match self.measures {
                Measures::MessageCpu => {
                    let user = median_of(&line.samples, |work| work.user_share);
                    let percent = |of| format!("{:.0} %", median_of(&line.samples, of) * 100.0);
                    vec![
                        line.server.to_owned(),
                        show_time(line.median),
                        show_time(line.median * user),
                        show_time(line.median * (1.0 - user)),
                        ratio,
                        percent(|work| work.server_busy),
                        percent(|work| work.load_busy),
                    ]
                }
                Measures::ConnectionBytes => vec![line.server.to_owned(), format!("{:.0}", line.median), ratio],
            };
            if self.counts_instructions() {
                let count = median_of(&line.samples, |work| work.user_instructions.unwrap_or(f64::NAN));
                cells.push(format!("{count:.0}"));
            }
            text += &table_row(&cells);
        }
        text
    }

    fn remarks(&self) -> String {
        let mut text = String::new();
        for verdict in &self.verdicts {
            text += &format!("* {verdict}\n");
        }
        for line in self.lines.iter().filter(|line| line.load_was_bottleneck) {
            text += &format!("* the load was the bottleneck of {}, which waited for it\n", line.server);
        }
        let others_busy = self.lines.iter().map(|line| line.others_busy).fold(0.0, f64::max);
        if others_busy > OTHERS_BUSY_MAX {
            let percent = others_busy * 100.0;
            text += &format!("* other programs took up to {percent:.0} % of a processor meanwhile: measure again\n");
        }
        for line in &self.lines {
            text += &self.sends(line).unwrap_or_default();
        }
        if text.is_empty() { text } else { format!("\n{text}") }
    }

    /// What wsgate counted itself.
    fn sends(&self, line: &Line) -> Option<String> {
        let sends = || line.samples.iter().flatten().filter_map(|sample| sample.work.as_ref()?.sends);
        let calls: u64 = sends().map(|sends| sends.calls).sum();
        let messages: u64 = sends().map(|sends| sends.messages).sum();
        let turns: u64 = sends().map(|sends| sends.turns).sum();
        let short: u64 = sends().map(|sends| sends.short).sum();
        if messages == 0 || turns == 0 {
            return None;
        }
        let per_message = calls as f64 / messages as f64;
        let window = match self.window {
            1 => String::new(),
            window => format!(" ({:.2} for each connection and {window} messages)", per_message * window as f64),
        };
        let per_flush = match sends().map(|sends| sends.flushes).sum() {
            0u64 => String::new(),
            flushes => format!("{:.3} sends per connection and turn, ", calls as f64 / flushes as f64),
        };
        let (per_turn, name) = (messages as f64 / turns as f64, line.server);
        Some(format!(
            "* {name}: {per_message:.3} sends per message{window}, {per_flush}{short} short, \
             {per_turn:.1} messages per turn\n"
        ))
    }
}
