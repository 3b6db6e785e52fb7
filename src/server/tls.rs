//! Certificates and keys: read from files, chosen by the name that a client asks for,
//! exchanged while connections live.
//!
//! Read and exchanged by the main thread; shards look certificates up without a lock.
//! What was read replaces the old only if all of it is good.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, Ticketer};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig, version};
use webpki::EndEntityCert;

use crate::config::{CertificateFiles, Tls};
use crate::connection::TlsSettings;

/// The only protocol inside TLS that is spoken: WebSocket begins with HTTP/1.1.
const ALPN: &[u8] = b"http/1.1";
/// Tickets for a shorter handshake next time that a client gets. Clients of a gateway
/// have one connection each, so one is enough.
const TICKETS_PER_CONNECTION: usize = 1;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what it should be.
        problem: String,
    },
    /// A key that does not belong to its certificate.
    #[error("the key in {} does not belong to the first certificate in {}", key.display(), certificates.display())]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificates: PathBuf,
    },
    /// The system has no random numbers, or rustls refuses the configuration.
    #[error("{0}")]
    Refused(#[from] rustls::Error),
}

/// The certificates that are in force.
#[derive(Debug)]
pub(super) struct Certificates {
    files: Vec<CertificateFiles>,
    provider: CryptoProvider,
    current: ArcSwap<CertificateSet>,
}

/// What was read at one moment.
#[derive(Debug)]
struct CertificateSet {
    default: Arc<CertifiedKey>,
    /// By the names in the certificates, in lower case; `*.example.org` as it is.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Reads them; nothing if there are none.
    pub(super) fn load(tls: &Tls) -> Result<Option<Self>, TlsError> {
        let provider = ring::default_provider();
        let Some(set) = CertificateSet::read(&tls.certificates, &provider)? else { return Ok(None) };
        Ok(Some(Self { files: tls.certificates.clone(), provider, current: ArcSwap::from_pointee(set) }))
    }

    /// Reads them to see whether they can be used.
    pub(super) fn check(tls: &Tls) -> Result<(), TlsError> {
        CertificateSet::read(&tls.certificates, &ring::default_provider()).map(drop)
    }

    /// Reads them anew.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        if let Some(set) = CertificateSet::read(&self.files, &self.provider)? {
            self.current.store(Arc::new(set));
        }
        Ok(())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().choose(hello.server_name()).clone())
    }
}

impl CertificateSet {
    fn read(files: &[CertificateFiles], provider: &CryptoProvider) -> Result<Option<Self>, TlsError> {
        let mut default = None;
        let mut by_name = HashMap::new();
        for files in files {
            let certified = Arc::new(read_pair(files, provider)?);
            for name in names(&certified, &files.certificates)? {
                by_name.entry(name).or_insert_with(|| certified.clone());
            }
            default.get_or_insert(certified);
        }
        Ok(default.map(|default| Self { default, by_name }))
    }

    /// The certificate for a name, which rustls gives in lower case.
    fn choose(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let named = name.and_then(|name| {
            // A wildcard stands for one label (RFC 6125, section 6.4.3).
            let wildcard = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
            self.by_name.get(name).or_else(wildcard)
        });
        named.unwrap_or(&self.default)
    }
}

/// The names that a certificate is for.
fn names(certified: &CertifiedKey, path: &Path) -> Result<Vec<String>, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::File {
        path: path.to_owned(),
        problem: format!("begins with a certificate that cannot be used: {error}"),
    };
    let certificate = certified.end_entity_cert().map_err(|error| unusable(&error))?;
    let parsed = EndEntityCert::try_from(certificate).map_err(|error| unusable(&error))?;
    Ok(parsed.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

fn read_pair(files: &CertificateFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let CertificateFiles { certificates, key } = files;
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect)
        .and_then(|chain: Vec<_>| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(|error| file_error(certificates, "certificate (BEGIN CERTIFICATE)", error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        file_error(key, "private key (BEGIN PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY)", error)
    })?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { key: key.clone(), certificates: certificates.clone() }
        }
        rustls::Error::InvalidCertificate(error) => TlsError::File {
            path: certificates.clone(),
            problem: format!("begins with a certificate that cannot be used: {error}"),
        },
        error => TlsError::File { path: key.clone(), problem: format!("has a key that cannot be used: {error}") },
    })
}

fn file_error(path: &Path, wanted: &str, error: pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(error) => TlsError::Unreadable { path, error },
        pem::Error::NoItemsFound => TlsError::File { path, problem: format!("has no {wanted} in PEM") },
        // Some of its errors quote the file, which may hold a key.
        _ => TlsError::File { path, problem: format!("is not PEM with a {wanted}") },
    }
}

/// What shards speak TLS with.
pub(super) fn settings(tls: &Tls, certificates: Arc<Certificates>) -> Result<TlsSettings, TlsError> {
    let versions: &[_] = if tls.only_version_1_3 { &[&version::TLS13] } else { &[&version::TLS13, &version::TLS12] };
    let provider = Arc::new(certificates.provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Tickets hold what a session needs: no memory here, and no lock between shards but
    // the one in front of the keys of tickets, which change every six hours.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = TICKETS_PER_CONNECTION;
    Ok(TlsSettings { config: Arc::new(config), allow_plaintext: tls.allow_plaintext })
}
