//! `wsgate.toml`: from text to keys and values, with their lines.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::value::Given;

/// One assignment in the file.
pub(super) struct Assignment {
    /// The key with its section: `limits.topics_max`.
    pub(super) key: String,
    pub(super) given: Given,
    /// The line of the value, counted from 1.
    pub(super) line: usize,
}

/// Reads all assignments. `path` is for messages only.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Assignment>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::FileSyntax {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        // The error's own `Display` quotes the line, and with it perhaps a secret.
        message: error.message().to_owned(),
    })?;
    let mut assignments = Vec::new();
    flatten(text, "", table.get_ref(), &mut assignments);
    assignments.sort_by_key(|assignment| assignment.line);
    Ok(assignments)
}

fn flatten(text: &str, section: &str, table: &DeTable<'_>, assignments: &mut Vec<Assignment>) {
    for (name, value) in table {
        let key = if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
        match value.get_ref() {
            DeValue::Table(table) if !table.is_empty() => flatten(text, &key, table, assignments),
            // A section that is there but empty, as when all its lines are comments.
            DeValue::Table(_) if super::setting::is_section(&key) => {}
            other => {
                assignments.push(Assignment { key, given: given(other), line: line_of(text, value.span().start) });
            }
        }
    }
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Boolean(on) => Given::Switch(*on),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Given::Number(number),
            Err(_) => Given::Other(number.to_string()),
        },
        DeValue::Array(items) => {
            let texts = items.iter().map(Spanned::get_ref).map(|item| item.as_str().map(str::to_owned));
            match texts.collect() {
                Some(list) => Given::List(list),
                None => Given::Other("a list with an item that is no text".to_owned()),
            }
        }
        DeValue::Float(number) => Given::Other(number.to_string()),
        DeValue::Datetime(date) => Given::Other(date.to_string()),
        DeValue::Table(_) => Given::Other("{}".to_owned()),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_have_whole_keys_and_lines() {
        let text =
            "listen = \"a\"\n\n[limits]\n# topics\ntopics_max = 0x10\n[dialects]\n[security]\nanonymous = [\n]\n";
        let assignments = parse(text, Path::new("f")).unwrap();
        let found: Vec<_> = assignments.iter().map(|found| (found.key.as_str(), found.line)).collect();
        assert_eq!(found, [("listen", 1), ("limits.topics_max", 5), ("security.anonymous", 8)]);
        assert!(matches!(assignments[1].given, Given::Number(16)));
    }

    #[test]
    fn an_unknown_section_is_reported_even_if_empty() {
        assert_eq!(parse("[limit]\n", Path::new("f")).unwrap()[0].key, "limit");
    }

    #[test]
    fn a_syntax_error_names_the_line_but_quotes_nothing() {
        let error = parse("mode = \"production\"\n[admin_api]\nkey = \"hush-hush-hush-hush\n", Path::new("f"));
        let message = error.map(|_| ()).unwrap_err().to_string();
        assert!(message.starts_with("f line 3 is not TOML: "), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
}
