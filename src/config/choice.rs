//! Options that take one of a few words: each word declared once, beside its variant.

/// An enum whose variants have the names by which the configuration knows them.
macro_rules! choice {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All words, in the order in which help lists them.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it in the configuration.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What a word stands for; nothing if it is none of [`Self::WORDS`].
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

choice! {
    /// How much has to be decided before strangers can connect.
    pub enum Mode {
        /// Serves this machine only, and whoever uses it.
        Development = "development",
        /// Serves any address, once everything that matters there is decided.
        Production = "production",
    }
}

choice! {
    /// What a shard waits for its sockets with.
    pub enum Io {
        /// Readiness by epoll(7), through mio.
        Epoll = "epoll",
        /// Completions by io_uring(7).
        IoUring = "io_uring",
    }
}

choice! {
    /// The least severe kind of log line that is written.
    pub enum LogLevel {
        /// Nothing at all.
        Off = "off",
        /// What keeps wsgate from its work.
        Error = "error",
        /// What an operator should look at.
        Warn = "warn",
        /// Start, stop, and what changed.
        Info = "info",
        /// What happens to single connections.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_leads_to_its_variant_and_back() {
        for word in LogLevel::WORDS {
            assert_eq!(LogLevel::from_word(word).map(LogLevel::word), Some(*word));
        }
        assert_eq!(Io::from_word("io_uring"), Some(Io::IoUring));
        assert_eq!(Mode::from_word("Production"), None);
    }
}
