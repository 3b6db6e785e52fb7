//! Gets what is measured: builds what is in this repository, installs the rest into
//! `target/bench`, without touching the system.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use wsgate::driver::machine;

use super::secure::Certificates;

/// Debian packages that make nginx with nchan, unpacked rather than installed: nothing
/// of the system changes, and no root is needed.
const NCHAN_PACKAGES: [&str; 2] = ["nginx", "libnginx-mod-nchan"];

/// Where things are.
#[derive(Debug)]
pub(crate) struct Workshop {
    /// The repository.
    root: PathBuf,
    target: PathBuf,
    /// This program.
    pub(crate) bench: PathBuf,
    /// The build of wsgate that is measured.
    pub(crate) wsgate: PathBuf,
    /// Another build of it to compare with.
    pub(crate) baseline: Option<PathBuf>,
    /// For rows over TLS.
    pub(crate) certificates: Certificates,
}

impl Workshop {
    /// Builds wsgate unless a build is named.
    pub(crate) fn open(wsgate: Option<&Path>, baseline: Option<&Path>) -> io::Result<Self> {
        let bench = std::env::current_exe()?;
        let target =
            bench.ancestors().nth(2).ok_or_else(|| io::Error::other("this program lies in no target directory"))?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        fs::create_dir_all(target.join("bench"))?;
        let mut workshop = Self {
            certificates: Certificates::make(&target.join("bench"))?,
            root: root.to_owned(),
            target: target.to_owned(),
            wsgate: target.join("release/wsgate"),
            baseline: baseline.map(Path::to_owned),
            bench,
        };
        match wsgate {
            Some(file) => workshop.wsgate = file.to_owned(),
            None => workshop.cargo_build(&["--package", "wsgate", "--bin", "wsgate"])?,
        }
        for file in [Some(&workshop.wsgate), workshop.baseline.as_ref()].into_iter().flatten() {
            if !file.is_file() {
                return Err(io::Error::other(format!("{} is no file", file.display())));
            }
        }
        Ok(workshop)
    }

    /// Where everything is put that is not built by cargo.
    pub(crate) fn directory(&self) -> PathBuf {
        self.target.join("bench")
    }

    /// Where the peers' own files are.
    fn sources(&self) -> PathBuf {
        self.root.join("bench/peers")
    }

    /// Where npm's packages and the servers that use them are.
    pub(crate) fn npm(&self) -> PathBuf {
        self.directory().join("npm")
    }

    /// Where nginx is unpacked.
    pub(crate) fn nchan(&self) -> PathBuf {
        self.directory().join("nchan")
    }

    /// The program with the servers of other crates.
    pub(crate) fn peer_server(&self) -> PathBuf {
        self.target.join("release/peer-server")
    }

    /// Builds the servers of other crates.
    pub(crate) fn build_peer_server(&self) -> io::Result<()> {
        self.cargo_build(&["--package", "bench", "--bin", "peer-server", "--features", "peers"])
    }

    /// Builds loadgen; the program.
    pub(crate) fn build_loadgen(&self) -> io::Result<PathBuf> {
        self.cargo_build(&["--package", "loadgen", "--bin", "loadgen"])?;
        Ok(self.target.join("release/loadgen"))
    }

    /// Installs npm's packages, once for each state of `bench/peers/package.json`.
    pub(crate) fn install_npm(&self) -> io::Result<()> {
        let directory = self.npm();
        fs::create_dir_all(&directory)?;
        for script in ["bun.js", "ws.js"] {
            fs::copy(self.sources().join(script), directory.join(script))?;
        }
        let wanted = fs::read(self.sources().join("package.json"))?;
        let installed = directory.join("installed.json");
        if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        fs::write(directory.join("package.json"), &wanted)?;
        run(Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&directory))?;
        fs::write(installed, wanted)
    }

    /// Unpacks nginx and nchan from Debian's packages.
    pub(crate) fn unpack_nchan(&self) -> io::Result<()> {
        let directory = self.nchan();
        if directory.join("usr/sbin/nginx").is_file() {
            return Ok(());
        }
        let packages = self.directory().join("packages");
        // What an earlier attempt left would be unpacked too.
        let _ = fs::remove_dir_all(&packages);
        fs::create_dir_all(&packages)?;
        fs::create_dir_all(&directory)?;
        run(Command::new("apt-get").arg("--quiet=2").arg("download").args(NCHAN_PACKAGES).current_dir(&packages))?;
        for package in fs::read_dir(&packages)? {
            run(Command::new("dpkg-deb").arg("--extract").arg(package?.path()).arg(&directory))?;
        }
        Ok(())
    }

    /// Writes the configuration of one run of nginx and returns its path.
    pub(crate) fn write_nchan_configuration(&self, listen: SocketAddr) -> io::Result<PathBuf> {
        let template = fs::read_to_string(self.sources().join("nginx.conf"))?;
        let directory = self.nchan();
        let text = template
            .replace("@DIRECTORY@", &directory.display().to_string())
            .replace("@LISTEN@", &listen.to_string())
            .replace("@CONNECTIONS@", &machine::raise_descriptor_limit().saturating_sub(64).to_string());
        let file = directory.join("nginx.conf");
        fs::write(&file, text)?;
        Ok(file)
    }

    fn cargo_build(&self, what: &[&str]) -> io::Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--release", "--quiet"]).args(what);
        run(command.arg("--target-dir").arg(&self.target).current_dir(&self.root))
    }
}

/// Runs a command to its end; an error quotes what it wrote.
pub(crate) fn run(command: &mut Command) -> io::Result<()> {
    let name = |program: &OsStr| program.to_string_lossy().into_owned();
    let output = command.output().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot run {}: {error}", name(command.get_program())))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    let arguments: Vec<_> = command.get_args().map(name).collect();
    let program = name(command.get_program());
    Err(io::Error::other(format!("{program} {} ended with {}: {text}", arguments.join(" "), output.status)))
}
