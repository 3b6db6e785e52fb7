//! Ctrl-C and SIGTERM: the run ends early and says what it has measured so far.
//!
//! The first signal is a flag that the main thread looks at. A second one ends the
//! process at once, as if nobody had asked for the first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// Exit code of a process that a second signal ended.
const EXIT_KILLED: i32 = 130;

/// Whether somebody asked the run to end.
#[derive(Clone, Default, Debug)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// By a signal to this process.
    ///
    /// # Errors
    /// The operating system's, when a handler cannot be installed.
    pub fn by_signal() -> io::Result<Self> {
        let interrupt = Self::default();
        for &signal in TERM_SIGNALS {
            // In this order: the first signal finds the flag not set yet.
            flag::register_conditional_shutdown(signal, EXIT_KILLED, interrupt.asked.clone())?;
            flag::register(signal, interrupt.asked.clone())?;
        }
        Ok(interrupt)
    }

    /// The run is to end.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}
