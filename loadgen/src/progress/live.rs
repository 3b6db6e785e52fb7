//! Some lines on a terminal, drawn over and over, and gone at the end.

use std::io::{Write, stderr};

use super::sparkline::sparkline;
use super::{State, fit};
use crate::numbers::{decimal, duration, grouped};
use crate::series::Second;
use crate::tally::Outcome;
use crate::timeline::{CONNECT, DRAIN};
use crate::watch::{Moment, Watch};

/// Columns and rows of a terminal that does not say.
const SIZE_DEFAULT: (usize, usize) = (80, 24);
/// Columns that lines use at most: figures far apart are hard to read together.
const COLUMNS_MAX: usize = 100;
/// Columns of the bar.
const BAR_COLUMNS: usize = 30;

/// Draws on `out`, a terminal of the size that `size` says.
#[derive(Debug)]
pub struct Live<W> {
    out: W,
    size: fn() -> (usize, usize),
    state: State,
    /// Lines that are on the screen, the cursor in the last of them.
    drawn: usize,
}

/// Columns and rows of the terminal on standard error.
pub(super) fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => SIZE_DEFAULT,
    }
}

impl<W: Write> Live<W> {
    /// Nothing is drawn until the first moment is shown.
    pub fn new(out: W, size: fn() -> (usize, usize)) -> Self {
        Self { out, size, state: State::default(), drawn: 0 }
    }

    fn draw(&mut self, lines: &[String]) {
        // To the first line's start, then the rest of the screen is free.
        let up = match self.drawn.saturating_sub(1) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        };
        // A terminal that is gone is no reason to end the run.
        let _ = write!(self.out, "\r{up}\x1b[J{}", lines.join("\r\n"));
        let _ = self.out.flush();
        self.drawn = lines.len();
    }
}

impl<W: Write> Watch for Live<W> {
    fn tick(&mut self, moment: Moment<'_>) {
        let (columns, rows) = (self.size)();
        // A line that reached the edge would be two, and the cursor would end up elsewhere.
        let columns = columns.saturating_sub(1).clamp(1, COLUMNS_MAX);
        let mut lines = lines(moment, &self.state, columns);
        lines.truncate(rows.saturating_sub(1).max(1));
        let lines: Vec<_> = lines.iter().map(|line| fit(line, columns)).collect();
        self.draw(&lines);
    }

    fn second(&mut self, second: &Second, outcome: &Outcome) {
        self.state.add(second, outcome);
    }

    fn end(&mut self, _moment: Moment<'_>) {
        self.draw(&[]);
    }
}

fn lines(moment: Moment<'_>, state: &State, columns: usize) -> Vec<String> {
    let Moment { mix, counts, .. } = moment;
    let mut lines = vec![format!("{} {}", mix.scenario(), mix.url), position(moment, state)];
    let total = grouped(mix.connections_total() as u64);
    lines.push(row("connections", format!("{:>14}  of {total} opened", grouped(counts.opened))));
    let last = state.last.as_ref().filter(|second| second.phase != CONNECT);
    if mix.sends() {
        let per_second = |count: fn(&Second) -> u64| {
            let rate = last.map(|second| count(second) as f64 / second.seconds.max(0.001));
            rate.map_or_else(|| "-".to_owned(), decimal)
        };
        let asked = mix.target_rate().map_or(String::new(), |rate| format!("  of {} asked", decimal(rate)));
        let (sent, received) = (per_second(|second| second.sent), per_second(|second| second.received));
        lines.push(row("sent", format!("{:>14}  {sent} per second{asked}", grouped(counts.sent))));
        lines.push(row("received", format!("{:>14}  {received} per second", grouped(counts.received))));
    }
    if let Some(latency) = last.and_then(|second| second.latency_us) {
        let [p50, p99, max] = [latency.p50, latency.p99, latency.max].map(duration);
        lines.push(row("latency", format!("     p50 {p50:<10}p99 {p99:<10}max {max}")));
        let room = columns.saturating_sub(NAME_COLUMNS + 28).min(state.p99_us.len());
        let recent = state.p99_us.iter().copied().skip(state.p99_us.len() - room);
        let greatest = duration(recent.clone().fold(0.0, f64::max));
        lines.push(row("p99", format!("     {}  up to {greatest}", sparkline(recent))));
    }
    let faults: Vec<_> = state.faults().iter().map(|(kind, count)| format!("{kind} {}", grouped(*count))).collect();
    let faults = if faults.is_empty() { "none".to_owned() } else { faults.join(", ") };
    lines.push(row("faults", format!("     {faults}")));
    lines
}

/// Columns of a row's name.
const NAME_COLUMNS: usize = 14;

fn row(name: &str, rest: String) -> String {
    format!("  {name:<width$}{rest}", width = NAME_COLUMNS - 2)
}

/// The bar, and where in the run we are.
fn position(Moment { mix, window, now, counts }: Moment<'_>, state: &State) -> String {
    let (part, text) = match window {
        None => {
            let part = counts.opened as f64 / mix.connections_total().max(1) as f64;
            (part, CONNECT.to_owned())
        }
        Some(window) => {
            let sending = mix.course().sending();
            let elapsed = now.since(window.start).min(sending).as_secs_f64();
            let total = sending.as_secs_f64();
            let last = state.last.as_ref().map_or("", |second| second.phase.as_str());
            let phase = if now >= window.end { DRAIN } else { last };
            (elapsed / total, format!("{elapsed:.1} of {total:.1} s  {phase}"))
        }
    };
    let filled = (part.clamp(0.0, 1.0) * BAR_COLUMNS as f64).round() as usize;
    format!("  {}{}  {text}", "█".repeat(filled), "░".repeat(BAR_COLUMNS - filled))
}
