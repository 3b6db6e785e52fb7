//! A listening socket in the file system.
//!
//! The file outlives a process that is killed, so one may be in the way at the next start.
//! It is removed if nobody answers there. Between looking and removing, another gateway
//! could bind the path; so whoever serves it holds a lock on a file beside it.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::socket::listen;

/// What is appended to the path for the lock's file, which stays.
const LOCK_SUFFIX: &str = ".lock";
/// Permissions of the lock's file.
const LOCK_MODE: u32 = 0o600;

/// A socket bound to a path. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    socket: Socket,
    file: SocketFile,
}

/// The file of a socket, gone when dropped: then nobody serves it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: a file that somebody else has put there stays.
    identity: (u64, u64),
    /// Held for as long as the path is ours; the system lets go of it when we die.
    _lock: File,
}

impl UnixSocket {
    /// Binds a socket to a path, with these permissions; nobody can connect before
    /// [`UnixSocket::listen`].
    ///
    /// # Errors
    /// `AddrInUse` if somebody serves the path, `AlreadyExists` if something that is no
    /// socket is there, and those of the file system.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        let lock = lock(path)?;
        let address = SockAddr::unix(path)?;
        remove_stale(path, &address)?;
        let socket = new_socket()?;
        socket.bind(&address)?;
        let metadata = fs::symlink_metadata(path)?;
        let identity = (metadata.dev(), metadata.ino());
        let file = SocketFile { path: path.to_owned(), identity, _lock: lock };
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok(Self { socket, file })
    }

    /// Makes it listen. The file is to be kept for as long as somebody takes connections.
    pub fn listen(self) -> io::Result<(Socket, SocketFile)> {
        listen(&self.socket)?;
        Ok((self.socket, self.file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let own = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(own)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file is left behind");
        }
    }
}

fn new_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Locks the file beside the path, or says that somebody has the path.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(LOCK_SUFFIX);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(LOCK_MODE).open(&name)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(ErrorKind::AddrInUse, "another gateway serves this path")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the file of a socket that nobody serves.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket is there"));
    }
    match new_socket()?.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Somebody answers, or would if its queue were not full.
        Ok(()) => Err(io::Error::new(ErrorKind::AddrInUse, "somebody answers there")),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(io::Error::new(ErrorKind::AddrInUse, "somebody listens there"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wsgate-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self) -> PathBuf {
            self.0.join("socket")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_socket_is_removed_with_its_owner_and_its_permissions_are_those_that_were_asked_for() {
        let directory = Directory::new("owner");
        let bound = UnixSocket::bind(&directory.path(), 0o640).unwrap();
        let mode = fs::metadata(directory.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let (_socket, file) = bound.listen().unwrap();
        drop(file);
        assert!(!directory.path().exists());
    }

    #[test]
    fn what_nobody_serves_is_removed_and_what_somebody_serves_is_not() {
        let directory = Directory::new("stale");
        drop(std::os::unix::net::UnixListener::bind(directory.path()).unwrap());
        assert!(directory.path().exists(), "left behind, as after a crash");
        drop(UnixSocket::bind(&directory.path(), 0o600).unwrap());

        let other = std::os::unix::net::UnixListener::bind(directory.path()).unwrap();
        let error = UnixSocket::bind(&directory.path(), 0o600).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        std::os::unix::net::UnixStream::connect(directory.path()).unwrap();
        drop(other);
    }

    #[test]
    fn a_gateway_that_does_not_listen_yet_has_its_path_already() {
        let directory = Directory::new("early");
        let _first = UnixSocket::bind(&directory.path(), 0o600).unwrap();
        assert_eq!(UnixSocket::bind(&directory.path(), 0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let directory = Directory::new("file");
        fs::write(directory.path(), "precious").unwrap();
        assert_eq!(UnixSocket::bind(&directory.path(), 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(directory.path()).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_somebody_else_has_put_there_stays() {
        let directory = Directory::new("replaced");
        let bound = UnixSocket::bind(&directory.path(), 0o600).unwrap();
        // Kept, so that its inode is not used again.
        fs::rename(directory.path(), directory.0.join("moved")).unwrap();
        fs::write(directory.path(), "new").unwrap();
        drop(bound);
        assert!(directory.path().exists());
    }
}
