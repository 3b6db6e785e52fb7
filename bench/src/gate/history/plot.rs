//! The history as a picture: one small plot for each metric, from zero, so that what looks
//! like much is much.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Entry, show};

const COLUMNS: usize = 3;
/// One plot, in pixels.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 170.0;
/// Room around the lines of a plot.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 26.0;

/// All metrics that any revision has.
pub(super) fn metrics(entries: &[Entry]) -> BTreeSet<String> {
    entries.iter().flat_map(|entry| entry.figures.keys().cloned()).collect()
}

/// The picture.
pub(super) fn svg(entries: &[Entry]) -> String {
    let metrics = metrics(entries);
    let rows = metrics.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (index, metric) in metrics.iter().enumerate() {
        let (x, y) = ((index % COLUMNS) as f64 * WIDTH, (index / COLUMNS) as f64 * HEIGHT);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">{}</g>", plot(entries, metric));
    }
    svg + "</svg>\n"
}

fn plot(entries: &[Entry], metric: &str) -> String {
    let most = entries.iter().filter_map(|entry| entry.figures.get(metric)).fold(f64::MIN_POSITIVE, |a, b| a.max(*b));
    let last = (entries.len() - 1).max(1) as f64;
    let x = |index: usize| LEFT + (WIDTH - LEFT - RIGHT) * index as f64 / last;
    let y = |figure: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * figure / most;
    let points: Vec<(f64, f64, &Entry, f64)> = entries
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| entry.figures.get(metric).map(|figure| (x(index), y(*figure), entry, *figure)))
        .collect();

    let (left, right, top, bottom) = (LEFT, WIDTH - RIGHT, y(most), y(0.0));
    let mut plot = format!(
        "<text x=\"{left}\" y=\"16\" font-weight=\"bold\">{}</text>\
         <path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#999\"/>",
        escape(metric)
    );
    for figure in [0.0, most] {
        let _ = write!(
            plot,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 5.0,
            y(figure) + 4.0,
            show(figure)
        );
    }
    let line: Vec<String> = points.iter().map(|(x, y, ..)| format!("{x:.1},{y:.1}")).collect();
    let _ =
        write!(plot, "<polyline points=\"{}\" fill=\"none\" stroke=\"#2563eb\" stroke-width=\"2\"/>", line.join(" "));
    for (x, y, entry, figure) in &points {
        let title = format!("{} ({}): {}", entry.name, entry.date, show(*figure));
        let _ = write!(
            plot,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#2563eb\"><title>{}</title></circle>",
            escape(&title)
        );
    }
    // The first and the last name; those between are in the table.
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let mut name = |point: &(f64, f64, &Entry, f64), anchor: &str| {
            let _ = write!(
                plot,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                point.0,
                HEIGHT - 10.0,
                escape(&point.2.name)
            );
        };
        name(first, "start");
        if points.len() > 1 {
            name(last, "end");
        }
    }
    plot
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::*;

    #[test]
    fn each_metric_has_a_plot_that_begins_at_zero() {
        let entries = [
            entry("v1", "2026-01-02", &[("echo/cpu", 4.0)]),
            entry("v<2>", "2026-02-03", &[("echo/cpu", 2.0), ("publish/instructions", 400.0)]),
        ];
        let svg = svg(&entries);
        assert_eq!(svg.matches("<polyline").count(), 2);
        // The largest at the top, half of it half way down to zero.
        assert!(svg.contains("points=\"56.0,30.0 284.0,87.0\""), "{svg}");
        assert!(svg.contains(">0.0000</text>") && svg.contains(">4.00</text>"), "{svg}");
        assert!(svg.contains("v&lt;2>") && !svg.contains("v<2>"), "{svg}");
    }
}
