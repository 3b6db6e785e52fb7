//! Reports as HTML: one file that needs no other, for a browser, a phone or a printer.
//!
//! No script, no font, no image from elsewhere: plots are SVG, drawn here.

use crate::compare::Comparison;
use crate::report::{Report, Verdict};

mod compare;
mod plot;
mod plots;
mod run;
mod scale;

const STYLE: &str = include_str!("style.css");

/// The page about one run.
pub fn report(report: &Report) -> String {
    page(&format!("loadgen {} {}", report.scenario, report.url), &run::body(report))
}

/// The page about a comparison.
pub fn comparison(comparison: &Comparison) -> String {
    let title = format!("{} and {}", comparison.base.name, comparison.new.name);
    page(&title, &compare::body(comparison))
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n<main>\n{body}</main>\n</html>\n",
        escape(title)
    )
}

/// The class of a verdict's colour.
fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "good",
        Verdict::Invalid => "odd",
        Verdict::Faults | Verdict::NotConnected | Verdict::ThresholdFailed => "bad",
    }
}

/// Text as it may stand in HTML, between tags and in quoted attributes. Control characters are
/// none that HTML allows, so they are written as on a terminal.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
