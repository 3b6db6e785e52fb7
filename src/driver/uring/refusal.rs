//! Why io_uring cannot be used.

use std::io;

use rustix::io::Errno;

use crate::driver::machine;

/// What lets a process use io_uring that the kernel, or who rules over it, refused so.
pub fn hint(error: &io::Error) -> String {
    const SECCOMP: &str =
        "a container's seccomp profile must allow io_uring_setup, io_uring_enter and io_uring_register";
    match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => match machine::io_uring_disabled() {
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
