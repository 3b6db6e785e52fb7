//! What is printed about options: the sample file, the reference, what is in force.
//! All of it derives from the table.

use std::fmt::Write as _;

use super::Config;
use super::layers::{FILE_DEFAULT, FILE_VARIABLE, Layers, Source};
use super::setting::{Setting, by_section};
use super::value::Value;

/// Columns that a line of text has at most.
const WIDTH: usize = 80;
/// Columns that values are padded to at most; a longer list moves its own comment.
const VALUES_WIDTH_MAX: usize = 24;

/// A `wsgate.toml` that says what is in force anyway: every option, commented out.
pub(super) fn sample_file() -> String {
    let mut text = String::from(
        "# Every option of wsgate with its default. Remove the # before the ones that you\n\
         # change; wsgate reads this file as wsgate.toml from its working directory, or\n\
         # from where --config or WSGATE_CONFIG says. Environment variables go before\n\
         # this file, and flags before both. See what is in force: wsgate config check\n",
    );
    for (section, introduction, settings) in by_section() {
        if !section.is_empty() {
            let _ = write!(text, "\n# {introduction}\n[{section}]\n");
        }
        for setting in settings {
            let allowed = format!("Takes {}.", setting.allowed());
            let names = format!("{}. A change takes effect {}.", names(setting, ""), setting.takes_effect());
            text.push('\n');
            for paragraph in [format!("{} {}", setting.help, setting.reason), allowed, names] {
                text += &wrap(&paragraph, "# ");
            }
            let _ = writeln!(text, "#{} = {}", setting.name(), setting.default_as_toml());
        }
    }
    text
}

/// The same as a page of documentation, in Markdown.
pub(super) fn reference() -> String {
    let mut text = String::from("# Configuration\n\n");
    let introduction = format!(
        "wsgate runs without any configuration. What is to be different is written, in rising priority, into the \
         file `{FILE_DEFAULT}` (in the working directory, or named by `--config` or the environment variable \
         `{FILE_VARIABLE}`), into environment variables, or into flags. `wsgate config example` prints a file to \
         start from, `wsgate config check` what is in force and where it comes from. Wrong values and unknown keys \
         are refused at the start. Sizes may be written as `65536` or `\"64 KiB\"`; a list in a variable or flag has \
         commas between its items. On SIGHUP a running gateway reads all of this again: options whose change takes \
         effect on SIGHUP are followed without closing a connection, a change of another one is named in the log, and \
         if anything is wrong nothing changes."
    );
    text += &wrap(&introduction, "");
    text += "\n<!-- Printed by `wsgate config reference`: change src/config/table.rs, then print it anew. -->\n";
    for (section, introduction, settings) in by_section() {
        let heading = if section.is_empty() { "At the top".to_owned() } else { format!("`[{section}]`") };
        let _ = write!(text, "\n## {heading}\n\n{introduction}\n");
        for setting in settings {
            let _ = write!(text, "\n### `{}`\n\n", setting.key);
            text += &wrap(&format!("{} {}", setting.help, setting.reason), "");
            let _ = writeln!(text, "\n* Takes {}", setting.allowed());
            let _ = writeln!(text, "* Default: `{}`", setting.default_as_toml());
            let _ = writeln!(text, "* {}", names(setting, "`"));
            let _ = writeln!(text, "* A change takes effect {}", setting.takes_effect());
        }
    }
    text
}

/// Every option with the value in force and who gave it. Secrets are not shown.
pub(super) fn in_force(layers: &Layers, config: &Config) -> String {
    let mut text = String::from("# This configuration is valid. In force, and who said so:\n");
    let file = match &layers.file {
        Some(path) => path.display().to_string(),
        None => format!("none ({FILE_DEFAULT} is not there)"),
    };
    let _ = writeln!(text, "# file: {file}");
    for name in &layers.variables_ignored {
        let _ = writeln!(text, "# ignored, since no option has that name: environment {name}");
    }
    for (section, _, settings) in by_section() {
        text += if section.is_empty() { "" } else { "\n" };
        let entries: Vec<_> = settings.map(|setting| layers.entry(setting.key)).collect();
        let values: Vec<_> = entries.iter().map(|entry| entry.setting.kind.show(&entry.value)).collect();
        let keys_width = entries.iter().map(|entry| entry.setting.key.len()).max().unwrap_or_default();
        let values_width = values.iter().map(String::len).max().unwrap_or_default().min(VALUES_WIDTH_MAX);
        for (entry, value) in entries.into_iter().zip(values) {
            let resolved = match entry.value {
                Value::Auto => format!(", here {}", resolved(entry.setting.key, config)),
                _ => String::new(),
            };
            let source = match &entry.source {
                // Its name follows from the key, and would make lines long.
                Source::Environment(_) => "environment".to_owned(),
                Source::Flag(_) => "flag".to_owned(),
                other => other.to_string(),
            };
            let _ = writeln!(text, "{:keys_width$} = {value:values_width$} # {source}{resolved}", entry.setting.key);
        }
    }
    text
}

/// What `auto` came out as.
fn resolved(key: &str, config: &Config) -> String {
    match key {
        "shards" => config.shards.to_string(),
        "io" => config.io.word().to_owned(),
        "limits.connections_max" => config.limits.connections_max.to_string(),
        "limits.kernel_send_bytes" | "limits.kernel_receive_bytes" => "left to the system".to_owned(),
        "drain.grace_ms" => config.drain.grace.as_millis().to_string(),
        "drain.spread_ms" => config.drain.spread.as_millis().to_string(),
        "dialects.echo" => config.echo.to_string(),
        "dialects.greeting" => config.greeting.to_string(),
        _ => unreachable!("{key} has no auto"),
    }
}

/// The option's other names, each between two of `quote`.
fn names(setting: &Setting, quote: &str) -> String {
    let variable = setting.variable();
    match setting.flag() {
        Some(flag) => format!("Flag {quote}--{flag}{quote}, environment {quote}{variable}{quote}"),
        None => format!("Environment {quote}{variable}{quote}, no flag"),
    }
}

/// Lines of at most [`WIDTH`] columns, as far as words allow, each after `prefix`.
fn wrap(text: &str, prefix: &str) -> String {
    let mut lines = String::new();
    let mut line = prefix.to_owned();
    for word in text.split(' ') {
        if line.len() > prefix.len() && line.len() + 1 + word.len() > WIDTH {
            lines += &line;
            lines.push('\n');
            prefix.clone_into(&mut line);
        }
        if line.len() > prefix.len() {
            line.push(' ');
        }
        line += word;
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_before_the_edge() {
        let text = "four four four four four four four four four four four four four four four four four";
        let wrapped = wrap(text, "# ");
        assert!(wrapped.lines().all(|line| line.len() <= WIDTH && line.starts_with("# four")));
        assert_eq!(wrapped.lines().count(), 2);
        assert_eq!(wrapped.replace("\n# ", " "), format!("# {text}\n"));
    }
}
