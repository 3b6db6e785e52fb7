//! `wss://`: whom to trust, and how a connection begins.
//!
//! Callers: `cli` makes the settings of a run, `worker` a stream for each connection.
//! Reads the files of certificates at the start; never touches a socket.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use wsgate::tls::ClientStream;

/// How the connections of a run speak TLS.
#[derive(Clone, Debug)]
pub struct TlsPlan {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Whose certificates are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust<'a> {
    /// Those of authorities that the system trusts.
    System,
    /// Those of authorities in this file.
    File(&'a Path),
    /// Any.
    Anybody,
}

impl TlsPlan {
    /// For a server that goes by `name`, a host name or an address: it is asked for
    /// (SNI) unless it is an address, and looked for in the certificate.
    ///
    /// # Errors
    /// In words: a file that cannot be used, a name that is none.
    pub fn new(trust: Trust<'_>, name: &str) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is not the name of a server"))?;
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = match trust {
            Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny::new(&provider))),
            Trust::System => builder.with_root_certificates(system_roots()?),
            Trust::File(path) => builder.with_root_certificates(roots_in(path)?),
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Every handshake is a whole one, as if each connection were a client of its own.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name })
    }

    /// The stream of a new connection.
    ///
    /// # Errors
    /// What rustls finds wrong with the settings.
    pub fn connect(&self) -> Result<ClientStream, Error> {
        ClientStream::client(self.config.clone(), self.name.clone())
    }
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no list of authorities; name one with --ca, or use --insecure".to_owned());
    }
    Ok(roots)
}

fn roots_in(path: &Path) -> Result<RootCertStore, String> {
    let refused = |error: &dyn std::fmt::Display| format!("--ca {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refused(&error))? {
        roots.add(certificate.map_err(|error| refused(&error))?).map_err(|error| refused(&error))?;
    }
    if roots.is_empty() { Err(refused(&"no certificate in PEM")) } else { Ok(roots) }
}

/// Accepts every certificate whose key the server has.
#[derive(Debug)]
struct AcceptAny(WebPkiSupportedAlgorithms);

impl AcceptAny {
    fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
