//! A plot of lines or bars as SVG that scales to its place on the page. Colours are
//! the page's, by class.

use std::fmt::Write as _;

use super::escape;
use super::scale::Scale;

/// Of the drawing, in its own units. Narrow, so that its text can be read on a phone.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 36.0;

/// One line, or one row of bars.
pub(super) struct Line {
    pub(super) name: String,
    /// Class of its colour and pattern: `a` to `f`, or `target`.
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// What is drawn.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) x_name: &'static str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) lines: Vec<Line>,
    /// Parts of the horizontal axis that are shaded.
    pub(super) shades: Vec<(f64, f64)>,
    /// Bars from the axis up, in place of lines.
    pub(super) bars: bool,
}

impl Plot {
    /// A figure with its title and what its lines are.
    pub(super) fn to_html(&self) -> String {
        let mut html = format!("<figure><figcaption><h2>{}</h2>", escape(self.title));
        if self.lines.len() > 1 || self.lines.iter().any(|line| line.class == "target") {
            html += "<ul class=legend>";
            for Line { name, class, .. } in &self.lines {
                let key = "<svg viewBox=\"0 0 24 8\" aria-hidden=true><path";
                write!(html, "<li>{key} class=\"line {class}\" d=\"M0 4H24\"/></svg>{}</li>", escape(name))
                    .expect("text");
            }
            html += "</ul>";
        }
        let names: Vec<_> = self.lines.iter().map(|line| line.name.as_str()).collect();
        write!(
            html,
            "</figcaption><svg class=plot role=img viewBox=\"0 0 {WIDTH} {HEIGHT}\" aria-label=\"{}: {}\">",
            escape(self.title),
            escape(&names.join(", "))
        )
        .expect("text");
        self.draw_axes(&mut html);
        for line in &self.lines {
            if self.bars { self.draw_bars(&mut html, line) } else { self.draw_line(&mut html, line) }
        }
        html + "</svg></figure>\n"
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let across = LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT);
        let down = HEIGHT - BOTTOM - self.y.place(y) * (HEIGHT - TOP - BOTTOM);
        (across, down)
    }

    fn draw_axes(&self, html: &mut String) {
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
        for &(from, to) in &self.shades {
            let [from, to] = [from, to].map(|value| left + self.x.place(value) * (right - left));
            let (width, height) = (to - from, bottom - TOP);
            write!(html, "<rect class=shade x=\"{from:.1}\" y={TOP} width=\"{width:.1}\" height={height} />")
                .expect("text");
        }
        for (value, label) in &self.y.marks {
            let y = bottom - self.y.place(*value) * (HEIGHT - TOP - BOTTOM);
            let (text_x, text_y) = (left - 6.0, y + 3.5);
            write!(html, "<path class=grid d=\"M{left} {y:.1}H{right}\"/>").expect("text");
            write!(html, "<text class=y x={text_x} y=\"{text_y:.1}\">{}</text>", escape(label)).expect("text");
        }
        let marks = &self.x.marks;
        for (i, (value, label)) in marks.iter().enumerate() {
            let x = left + self.x.place(*value) * (right - left);
            let class = if i + 1 == marks.len() && x > right - 20.0 { "x last" } else { "x" };
            let (end, text_y) = (bottom + 4.0, bottom + 16.0);
            write!(html, "<path class=axis d=\"M{x:.1} {bottom}V{end}\"/>").expect("text");
            write!(html, "<text class=\"{class}\" x=\"{x:.1}\" y={text_y}>{}</text>", escape(label)).expect("text");
        }
        let (middle, text_y) = ((left + right) / 2.0, HEIGHT - 4.0);
        write!(html, "<path class=axis d=\"M{left} {TOP}V{bottom}H{right}\"/>").expect("text");
        write!(html, "<text class=x x={middle} y={text_y}>{}</text>", escape(self.x_name)).expect("text");
    }

    fn draw_line(&self, html: &mut String, line: &Line) {
        let mut path = String::new();
        for (i, &point) in line.points.iter().enumerate() {
            let (x, y) = self.at(point);
            write!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' }).expect("text");
        }
        if let [point] = line.points[..] {
            // A line of one point would not be seen.
            let (x, y) = self.at(point);
            write!(html, "<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=3 />", line.class).expect("text");
        }
        write!(html, "<path class=\"line {}\" d=\"{path}\"/>", line.class).expect("text");
    }

    fn draw_bars(&self, html: &mut String, line: &Line) {
        let mut path = String::new();
        for &(x, y) in line.points.iter().filter(|&&(_, y)| y > 0.0) {
            let ((x, top), bottom) = (self.at((x, y)), HEIGHT - BOTTOM);
            write!(path, "M{x:.1} {bottom}V{top:.1}").expect("text");
        }
        write!(html, "<path class=\"bar {}\" d=\"{path}\"/>", line.class).expect("text");
    }
}
