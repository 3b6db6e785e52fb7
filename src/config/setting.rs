//! What the declaration of one option holds, and the names that follow from its key.
//!
//! The declarations themselves are in `table`. Flags, environment variables, the
//! sample file, the reference and the checks all derive from them.

use super::table::{RELOADABLE, SECTIONS, SETTINGS};
use super::value::{Given, Kind, Value};

/// What every environment variable of wsgate begins with.
pub const ENVIRONMENT_PREFIX: &str = "WSGATE_";

/// One option.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file: `section.name`, or `name` at the top.
    pub key: &'static str,
    /// Which values it takes. `auto` is one more where it is the default.
    pub kind: Kind,
    /// Its value when nobody gives one, as an environment variable would write it.
    pub default: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// Why it is there or has that default, and when to change it.
    pub reason: &'static str,
}

impl Setting {
    /// The section of the file that it belongs to; empty at the top.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// Its name inside its section.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// Its environment variable: `WSGATE_LIMITS_TOPICS_MAX`.
    pub fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.key.to_uppercase().replace('.', "_"))
    }

    /// Its flag without the dashes: `limits-topics-max`. Secrets have none.
    pub fn flag(&self) -> Option<String> {
        let visible = !matches!(self.kind, Kind::Secret);
        visible.then(|| self.key.replace(['.', '_'], "-"))
    }

    /// Whether a running gateway follows it on SIGHUP; else it takes effect at the next
    /// start.
    pub fn is_reloadable(&self) -> bool {
        RELOADABLE.contains(&self.key)
    }

    /// When a change takes effect, in words.
    pub(super) fn takes_effect(&self) -> &'static str {
        if self.is_reloadable() { "on SIGHUP" } else { "at the next start" }
    }

    /// Which values it takes, to follow the words "it takes".
    pub fn allowed(&self) -> String {
        match (self.takes_auto(), self.kind) {
            (false, kind) => kind.to_string(),
            (true, Kind::Switch) => format!("\"auto\", {}", self.kind),
            (true, kind) => format!("\"auto\" or {kind}"),
        }
    }

    /// The default as TOML writes it.
    pub fn default_as_toml(&self) -> String {
        self.kind.show(&self.default_value())
    }

    pub(super) fn default_value(&self) -> Value {
        self.read(&Given::Text(self.default.to_owned())).expect("the table declares allowed defaults")
    }

    pub(super) fn read(&self, given: &Given) -> Option<Value> {
        match given {
            Given::Text(text) if text == "auto" && self.takes_auto() => Some(Value::Auto),
            _ => self.kind.read(given),
        }
    }

    fn takes_auto(&self) -> bool {
        self.default == "auto"
    }
}

/// The options by section, in the order of the file, each section with its
/// introduction.
pub(super) fn by_section() -> impl Iterator<Item = (&'static str, &'static str, impl Iterator<Item = &'static Setting>)>
{
    SECTIONS.iter().map(|(section, introduction)| {
        (*section, *introduction, SETTINGS.iter().filter(move |setting| setting.section() == *section))
    })
}

/// Whether the file has a section of that name.
pub(super) fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|(section, _)| !section.is_empty() && *section == name)
}

/// The option of that key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The key that somebody meant who wrote one that there is not: the same name in
/// another section, or one that few keystrokes separate from it.
pub(super) fn nearest(wrong: &str) -> Option<&'static str> {
    let name = wrong.rsplit('.').next().unwrap_or(wrong);
    let distances = SETTINGS.iter().map(|setting| {
        let distance = if setting.name() == name { 0 } else { keystrokes_between(wrong, setting.key) };
        (distance, setting.key)
    });
    let (distance, key) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(wrong.len() / 4)).then_some(key)
}

/// Levenshtein's distance: insertions, deletions and replacements of one byte.
fn keystrokes_between(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_flags_and_variables_are_unique_and_every_section_is_declared() {
        let keys: HashSet<_> = SETTINGS.iter().map(|setting| setting.key).collect();
        let flags: HashSet<_> = SETTINGS.iter().filter_map(Setting::flag).collect();
        let variables: HashSet<_> = SETTINGS.iter().map(Setting::variable).collect();
        assert_eq!((keys.len(), variables.len()), (SETTINGS.len(), SETTINGS.len()));
        assert_eq!(flags.len(), SETTINGS.iter().filter(|s| s.flag().is_some()).count());
        assert_eq!(by_section().map(|(_, _, settings)| settings.count()).sum::<usize>(), SETTINGS.len());
    }

    #[test]
    fn what_is_reloadable_is_an_option() {
        assert!(RELOADABLE.iter().all(|key| find(key).is_some()));
    }

    #[test]
    fn every_default_is_allowed() {
        for setting in SETTINGS {
            setting.default_value();
        }
    }

    #[test]
    fn the_key_that_was_meant_is_found() {
        assert_eq!(nearest("lissten"), Some("listen"));
        assert_eq!(nearest("limit.topics_maxx"), Some("limits.topics_max"));
        assert_eq!(nearest("plaintext"), Some("security.plaintext"));
        assert_eq!(nearest("colour"), None);
    }
}
