//! Certificates made for a test, and clients that speak TLS.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};
use wsgate::config::{CertificateFiles, Config};

use super::{PATIENCE, RawClient, TestServer};

/// The name that certificates have unless a test says otherwise.
pub const NAME: &str = "gateway.example";

/// An authority with a folder of certificates that it has signed; gone when dropped.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pub folder: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wsgate-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        Self { issuer: Issuer::new(params, key), certificate, folder }
    }

    /// A certificate for these names; its file and its key's are called after `file`.
    pub fn issue(&self, file: &str, names: &[&str]) -> CertificateFiles {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("valid names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(file, &certificate.pem(), &key.serialize_pem())
    }

    pub fn write(&self, file: &str, certificates: &str, key: &str) -> CertificateFiles {
        let files = CertificateFiles {
            certificates: self.folder.join(format!("{file}.pem")),
            key: self.folder.join(format!("{file}.key")),
        };
        fs::write(&files.certificates, certificates).expect("a file of our own");
        fs::write(&files.key, key).expect("a file of our own");
        files
    }

    /// A client that trusts this authority.
    pub fn client(&self) -> ClientConfig {
        self.client_of(rustls::ALL_VERSIONS)
    }

    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority");
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions that there are")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The first certificate in a file.
pub fn certificate_in(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("a certificate")
}

/// A gateway that speaks TLS with one certificate for [`NAME`].
pub fn start(authority: &Authority, change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.tls.certificates = vec![authority.issue("gateway", &[NAME])];
        // The Host of these clients is the certificate's name.
        config.security.allowed_hosts = vec![NAME.to_owned()];
        change(config);
    })
}

/// A TLS connection with nothing said inside.
pub struct TlsClient(pub StreamOwned<ClientConnection, TcpStream>);

impl TlsClient {
    /// A connection with its handshake complete.
    pub fn connect(server: &TestServer, config: ClientConfig, name: &str) -> io::Result<Self> {
        Self::over(server.raw().0, config, name)
    }

    pub fn over(stream: TcpStream, config: ClientConfig, name: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).expect("a valid name");
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = stream;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Self(StreamOwned::new(connection, stream)))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the gateway reads");
        self.0.flush().expect("the gateway reads");
    }

    /// Upgrades; panics unless answered by 101.
    pub fn upgrade(&mut self, path: &str) {
        self.send(
            format!(
                "GET {path} HTTP/1.1\r\nHost: {NAME}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        );
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.read_bytes(1));
        }
        let head = String::from_utf8(head).expect("heads are text");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    pub fn read_bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).expect("the bytes arrive in time");
        bytes
    }

    /// Everything until close_notify; an end without it is a failure.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).expect("close_notify comes before the end");
        bytes
    }

    /// Ends the TCP connection in our direction without a word of TLS.
    pub fn cut(&mut self) {
        self.0.sock.shutdown(std::net::Shutdown::Write).expect("the connection is there");
    }

    /// Says close_notify.
    pub fn end(&mut self) {
        self.0.conn.send_close_notify();
        self.0.flush().expect("the gateway reads");
    }
}

/// A tungstenite client over TLS.
pub struct WssClient(pub WebSocket<StreamOwned<ClientConnection, TcpStream>>);

impl WssClient {
    pub fn connect(server: &TestServer, config: ClientConfig, path: &str) -> Self {
        Self::over(server.raw().0, config, path)
    }

    pub fn over(stream: TcpStream, config: ClientConfig, path: &str) -> Self {
        let tls = TlsClient::over(stream, config, NAME).expect("the TLS handshake succeeds");
        let request = format!("wss://{NAME}{path}").into_client_request().expect("a valid address");
        let (socket, _) = tungstenite::client(request, tls.0).expect("the upgrade is accepted");
        Self(socket)
    }

    pub fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).expect("sends");
    }

    pub fn receive(&mut self) -> Message {
        loop {
            match self.0.read().expect("a message arrives in time") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    pub fn receive_text(&mut self) -> String {
        self.receive().into_text().expect("a text message").to_string()
    }
}

/// A plain connection on which nothing comes but an end, after some bytes.
pub fn read_until_gone(client: &mut RawClient) -> Vec<u8> {
    client.0.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
    let mut bytes = Vec::new();
    match client.0.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("neither an end nor a reset within {PATIENCE:?}: {error}"),
    }
}
