//! The page about a comparison: table and overlaid percentiles.

use super::{escape, plots};
use crate::compare::{Comparison, Group};

pub(super) fn body(comparison: &Comparison) -> String {
    let Comparison { base, new, rows, warnings } = comparison;
    let mut html = format!("<h1>{} and {}</h1>\n", escape(&base.name), escape(&new.name));
    for group in [base, new] {
        let (first, runs) = (&group.reports[0], group.reports.len());
        let text = format!("{} ({runs} runs): {} {}, {}", group.name, first.scenario, first.url, first.set_up);
        html += &format!("<p class=quiet>{}</p>\n", escape(&text));
    }
    if !warnings.is_empty() {
        let items: String = warnings.iter().map(|warning| format!("<li>{}</li>", escape(warning))).collect();
        html += &format!("<div class=\"verdict odd\"><strong>Before you believe it</strong><ul>{items}</ul></div>\n");
    }
    let rows = rows.iter().map(|row| {
        let cells: String = row.cells().map(|cell| format!("<td>{}</td>", escape(&cell))).concat();
        format!("<tr><th scope=row>{}</th>{cells}<td class=text>{}</td></tr>", escape(&row.title()), row.finding)
    });
    html += &format!(
        "<section><h2>What changed</h2><div class=wide><table><thead><tr><th></th><th>{}</th><th>{}</th><th>change</th>\
         <th>95 % interval</th><th></th></tr></thead>{}</table></div></section>\n<div class=plots>\n",
        escape(&base.name),
        escape(&new.name),
        rows.collect::<String>()
    );
    let latencies = [base, new].map(|group: &Group| (group.name.clone(), group.latency()));
    let lines: Vec<_> = latencies.iter().map(|(name, latency)| (name.clone(), latency)).collect();
    if let Some(plot) = plots::percentiles("Latency by percentile, all runs of each", &lines) {
        html += &plot.to_html();
    }
    html + "</div>\n"
}
