//! What happens to a subscriber that reads too slowly, by topic.

#![forbid(unsafe_code)]

/// What is done when more waits for a subscriber than may.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum SlowConsumerPolicy {
    /// It is told and closed; a client with history resumes from there.
    #[default]
    Disconnect,
    /// It loses the oldest messages and is told how many, if its dialect can say so; else
    /// it is closed.
    DropOldest,
    /// Of what it has not received, it gets the newest message alone. For topics whose
    /// messages replace each other.
    LatestOnly,
}

impl SlowConsumerPolicy {
    /// The words of the configuration, in the order of the variants.
    pub const WORDS: [&'static str; 3] = ["disconnect", "drop_oldest", "latest_only"];

    /// What a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "disconnect" => Some(Self::Disconnect),
            "drop_oldest" => Some(Self::DropOldest),
            "latest_only" => Some(Self::LatestOnly),
            _ => None,
        }
    }
}

/// Topics by name; `*` stands for any characters, slashes included, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicPattern(String);

impl TopicPattern {
    /// A pattern as written.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// Whether the pattern has this name.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // Each part at its first place leaves the most for the others.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// Policies by topic pattern; the first that matches counts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TopicPolicies(Vec<(TopicPattern, SlowConsumerPolicy)>);

impl TopicPolicies {
    /// Rules in the order in which they are tried.
    pub fn new(rules: Vec<(TopicPattern, SlowConsumerPolicy)>) -> Self {
        Self(rules)
    }

    /// Reads a rule as the configuration writes it: `PATTERN = POLICY`.
    pub fn parse_rule(text: &str) -> Option<(TopicPattern, SlowConsumerPolicy)> {
        let (pattern, policy) = text.rsplit_once('=')?;
        let pattern = pattern.trim();
        let policy = SlowConsumerPolicy::from_word(policy.trim())?;
        (!pattern.is_empty()).then(|| (TopicPattern::new(pattern), policy))
    }

    /// The policy of a topic.
    pub fn of(&self, name: &str) -> SlowConsumerPolicy {
        self.0.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, policy)| *policy).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, matches) in [
            ("room", "room", true),
            ("room", "rooms", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("prices/*", "prices/eur/usd", true),
            ("prices/*", "price", false),
            ("*/usd", "prices/eur/usd", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(TopicPattern::new(pattern).matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rules = ["prices/slow = disconnect", "prices/* = latest_only", "a=b=drop_oldest"];
        let policies = TopicPolicies::new(rules.iter().map(|rule| TopicPolicies::parse_rule(rule).unwrap()).collect());
        assert_eq!(policies.of("prices/slow"), SlowConsumerPolicy::Disconnect);
        assert_eq!(policies.of("prices/fast"), SlowConsumerPolicy::LatestOnly);
        assert_eq!(policies.of("a=b"), SlowConsumerPolicy::DropOldest);
        assert_eq!(policies.of("other"), SlowConsumerPolicy::Disconnect);
    }

    #[test]
    fn rules_that_are_none() {
        for text in ["", "prices", "prices = slow", "= disconnect"] {
            assert_eq!(TopicPolicies::parse_rule(text), None, "{text:?}");
        }
    }
}
