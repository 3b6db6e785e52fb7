//! Why io_uring cannot be used.

use std::io;

use rustix::io::Errno;

use crate::driver::machine;

/// What lets a process use io_uring that the kernel, or who rules over it, refused so.
pub fn hint(error: &io::Error) -> String {
    hint_where(error, machine::io_uring_disabled().as_deref())
}

/// `disabled`: what the system's rule is, if it has one.
fn hint_where(error: &io::Error, disabled: Option<&str>) -> String {
    const SECCOMP: &str =
        "a container's seccomp profile must allow io_uring_setup, io_uring_enter and io_uring_register";
    match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => match disabled {
            Some(level) if level != "0" => {
                format!("sysctl kernel.io_uring_disabled is {level}: set it to 0")
            }
            _ => SECCOMP.to_owned(),
        },
        Some(Errno::NOSYS) => format!("the kernel must have it (CONFIG_IO_URING), and {SECCOMP}"),
        Some(Errno::INVAL) => "it takes Linux 6.12 or newer".to_owned(),
        Some(Errno::NOMEM) => "give the process more memory to lock (ulimit -l)".to_owned(),
        Some(Errno::MFILE) => "give the process more open files (ulimit -n)".to_owned(),
        _ => "see the log of the kernel".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_remedy_of_its_own() {
        for (errno, disabled, remedy) in [
            (Errno::PERM, Some("2"), "sysctl kernel.io_uring_disabled is 2: set it to 0"),
            (Errno::PERM, Some("0"), "seccomp"),
            (Errno::ACCESS, None, "seccomp"),
            (Errno::NOSYS, None, "CONFIG_IO_URING"),
            (Errno::INVAL, Some("0"), "Linux 6.12"),
            (Errno::NOMEM, Some("0"), "ulimit -l"),
            (Errno::MFILE, Some("0"), "ulimit -n"),
            (Errno::IO, None, "log of the kernel"),
        ] {
            let hint = hint_where(&errno.into(), disabled);
            assert!(hint.contains(remedy), "{errno:?} with {disabled:?}: {hint}");
        }
    }
}
