//! Lines that a terminal shows whole.

/// Columns of a terminal that nobody has made wider.
pub(crate) const COLUMNS: usize = 80;

/// The text with lines of at most [`COLUMNS`], broken between words. What continues a line
/// stands under its second column, or a little further in than its first. A word that is
/// longer stays whole. Control characters are written as [`printable`] does.
pub(crate) fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        fold(&mut out, &printable(line));
    }
    out
}

/// The text without control characters, which a terminal would obey: `\u{1b}` stands for
/// Escape, `\n` for a new line.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A name in at most that many columns: [`printable`], and in place of its middle, if it is
/// longer, an ellipsis.
pub(crate) fn shortened(name: &str, columns: usize) -> String {
    let name = printable(name);
    let count = name.chars().count();
    if count <= columns {
        return name;
    }
    let kept = columns - 1;
    let (first, last) = (kept.div_ceil(2), kept / 2);
    name.chars().take(first).chain(['…']).chain(name.chars().skip(count - last)).collect()
}

fn fold(out: &mut String, line: &str) {
    let indent = line.len() - line.trim_start().len();
    let hang = line[indent..].find("  ").map(|gap| {
        let column = indent + gap;
        column + line[column..].len() - line[column..].trim_start().len()
    });
    let hang = hang.filter(|&column| column <= COLUMNS / 2).unwrap_or(indent + 2);
    let (mut rest, mut from) = (line.to_owned(), indent);
    while rest.chars().count() > COLUMNS {
        // Behind the indentation, and the last one that leaves what is before it short enough.
        let spaces = rest.char_indices().enumerate().filter(|&(_, (at, c))| c == ' ' && at > from);
        let (mut fitting, mut wider) = (None, None);
        for (column, (at, _)) in spaces {
            if column <= COLUMNS {
                fitting = Some(at);
            } else {
                wider = wider.or(Some(at));
            }
        }
        let Some(at) = fitting.or(wider) else { break };
        out.push_str(rest[..at].trim_end());
        out.push('\n');
        rest = format!("{:hang$}{}", "", rest[at..].trim_start());
        from = hang;
    }
    out.push_str(&rest);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        let words = "word ".repeat(20);
        let line = words.trim_end();
        let expected = format!("  {}\n    {}\n", &line[..74], &line[75..]);
        assert_eq!(folded(&format!("  {line}\n")), expected);
        assert_eq!(folded(&format!("{}\n", &line[..80])), format!("{}\n", &line[..80]), "what fits is left alone");
    }

    #[test]
    fn what_goes_on_stands_under_the_second_column() {
        let words = "word ".repeat(30);
        let text = folded(&format!("  a name   {}", words.trim_end()));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.len() == 3 && lines[1..].iter().all(|line| line.starts_with("           word")), "{text}");
        assert!(lines.iter().all(|line| line.len() <= COLUMNS), "{text}");
    }

    #[test]
    fn no_text_commands_the_terminal() {
        assert_eq!(folded("a\u{1b}[31mb\tc\u{9b}\n"), "a\\u{1b}[31mb\\tc\\u{9b}\n");
        assert_eq!(printable("a\r\nb\u{7f}é"), "a\\r\\nb\\u{7f}é");
    }

    #[test]
    fn a_name_that_is_too_long_keeps_both_ends() {
        assert_eq!((shortened("0123456", 7), shortened("01234567", 7)), ("0123456".to_owned(), "012…567".to_owned()));
        assert_eq!(shortened("0123é\n", 6), "012…\\n", "as it is shown");
    }

    #[test]
    fn a_long_word_stays_whole_and_characters_count_once() {
        let long = "x".repeat(100);
        assert_eq!(folded(&format!("a {long} b")), format!("a\n  {long}\n  b\n"));
        let accents = "é".repeat(80);
        assert_eq!(folded(&accents), format!("{accents}\n"));
    }
}
