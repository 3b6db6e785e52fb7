//! Certificates for one run, and clients that speak TLS.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use wsgate::buffer::BufferPool;
use wsgate::tls::ClientStream;

use super::client;

const NAME: &str = "localhost";
const READ_BYTES: usize = 16 * 1024;

/// Files for servers, and what their clients trust.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    /// The server's certificate, in PEM.
    pub(crate) certificate: PathBuf,
    /// Its key, in PEM.
    pub(crate) key: PathBuf,
    client: Arc<ClientConfig>,
}

impl Certificates {
    /// Makes an authority and a certificate (ECDSA, P-256), into `folder`.
    pub(crate) fn make(folder: &Path) -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = params.self_signed(&key).map_err(io::Error::other)?;
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let params = CertificateParams::new(vec![NAME.to_owned()]).map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &issuer).map_err(io::Error::other)?;

        let files = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&files.0, certificate.pem())?;
        fs::write(&files.1, key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).map_err(io::Error::other)?;
        let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        Ok(Self { certificate: files.0, key: files.1, client: Arc::new(client) })
    }

    /// What tells wsgate to speak TLS with those who do, and plainly with others.
    pub(crate) fn server_options(&self) -> [String; 4] {
        let pair = format!("{} = {}", self.certificate.display(), self.key.display());
        ["--tls-allow-plaintext", "true", "--tls-certificates", &pair].map(str::to_owned)
    }

    /// The first bytes of a client, which a server answers whoever sends them.
    pub(crate) fn client_hello(&self) -> io::Result<Vec<u8>> {
        Ok(Tls::begin(self.client.clone())?.stream.unsent().to_vec())
    }

    /// Completes a handshake on a connection that has said nothing.
    pub(crate) fn secure(&self, stream: TcpStream) -> io::Result<SecureStream> {
        SecureStream::secure(stream, self.client.clone())
    }

    /// Opens a connection for each path, upgraded and ready.
    pub(crate) fn open(&self, server: SocketAddr, paths: &[String]) -> io::Result<Vec<SecureStream>> {
        paths.iter().map(|path| SecureStream::open(server, path, self.client.clone())).collect()
    }
}

/// A connection with its TLS.
#[derive(Debug)]
pub(crate) struct SecureStream {
    pub(crate) stream: TcpStream,
    pub(crate) tls: Tls,
}

/// What a client needs to understand what it reads.
#[derive(Debug)]
pub(crate) struct Tls {
    stream: ClientStream,
    plaintext: Vec<u8>,
    pool: BufferPool,
}

impl SecureStream {
    fn open(server: SocketAddr, path: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let Self { mut stream, mut tls } = Self::secure(client::connect(server, None)?, config)?;
        let request = client::request(server, path);
        tls.stream.encrypt(request.as_bytes(), &mut tls.pool).map_err(io::Error::other)?;
        tls.send(&mut stream)?;
        while !client::is_upgraded(&tls.plaintext)? {
            tls.read(&mut stream)?;
        }
        tls.plaintext = Vec::new();
        Ok(Self { stream, tls })
    }

    fn secure(mut stream: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        let mut tls = Tls::begin(config)?;
        while tls.stream.is_handshaking() {
            tls.send(&mut stream)?;
            tls.read(&mut stream)?;
        }
        tls.send(&mut stream)?;
        Ok(Self { stream, tls })
    }
}

impl Tls {
    /// With a ClientHello that is to be sent.
    fn begin(config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let mut stream = ClientStream::client(config, name).map_err(io::Error::other)?;
        let mut pool = BufferPool::default();
        stream.begin(&mut pool).map_err(io::Error::other)?;
        Ok(Self { stream, plaintext: Vec::new(), pool })
    }

    fn send(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let len = self.stream.unsent().len();
        stream.write_all(self.stream.unsent())?;
        self.stream.sent(len, &mut self.pool);
        Ok(())
    }

    fn read(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        match stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => self.stream.receive(&mut buffer[..n], &mut self.plaintext, &mut self.pool).map_err(io::Error::other),
        }
    }

    /// Puts what `bytes` say in their place, where it fits since records only grow; how
    /// long it is.
    pub(crate) fn decrypt(&mut self, buffer: &mut [u8], received: usize) -> io::Result<usize> {
        self.plaintext.clear();
        self.stream.receive(&mut buffer[..received], &mut self.plaintext, &mut self.pool).map_err(io::Error::other)?;
        buffer[..self.plaintext.len()].copy_from_slice(&self.plaintext);
        Ok(self.plaintext.len())
    }
}
