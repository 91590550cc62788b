//! TLS on the listeners that ask for it.
//!
//! [`Tls::new`] reads certificates and key before root is dropped, so that a start fails rather than serve
//! what no client can verify. [`Tls::renew`] reads them again; connections made from then on use the
//! new ones, those that there are keep theirs. The only file that names rustls.
//!
//! Invariants:
//! - a handshake ends within [`HANDSHAKE_WITHIN`], in one way or the other, and an unencrypted client is
//!   closed by it: no byte of such a client reaches a session;
//! - a renewal that fails changes nothing.
//!
//! Source: memcached's `doc/tls.txt` and `tls.c`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio_rustls::server::TlsStream;

/// How long a peer may take for its handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Whose certificates are wanted (`ssl_verify_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Nobody's.
    Nobody,
    /// A client that shows one must show a good one.
    Shown,
    /// Every client must show a good one.
    Everybody,
}

/// The oldest version that is spoken (`ssl_min_version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oldest {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Which files TLS is made from, and what it asks of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The server's certificate and those that vouch for it, PEM (`ssl_chain_cert`).
    pub chain_cert: PathBuf,
    /// Its private key, PEM (`ssl_key`).
    pub key: PathBuf,
    /// Who vouches for clients, PEM (`ssl_ca_cert`).
    pub ca_cert: Option<PathBuf>,
    /// Whose certificates are wanted.
    pub verify: Verify,
    /// The oldest version spoken.
    pub oldest: Oldest,
}

/// Why certificates cannot be used: the option, and one line.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// memcached's name of the option, `ssl_chain_cert` and the like.
    pub option: &'static str,
    /// What is the matter.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.option, self.what)
    }
}

/// TLS as it is offered now.
pub struct Tls {
    options: Options,
    /// Clients without a certificate are served as `ssl_verify_mode` has it.
    usual: ArcSwap<ServerConfig>,
    /// They are not, on the `mtls:` listeners.
    mutual: ArcSwap<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tls")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn new(options: Options) -> Result<Tls, Fault> {
        let [usual, mutual] = offered(&options)?;
        Ok(Tls {
            options,
            usual: ArcSwap::new(usual),
            mutual: ArcSwap::new(mutual),
        })
    }

    /// Reads the files again, for connections made from now on.
    ///
    /// # Errors
    /// The first file that cannot be used; then nothing changes.
    pub fn renew(&self) -> Result<(), Fault> {
        let [usual, mutual] = offered(&self.options)?;
        self.usual.store(usual);
        self.mutual.store(mutual);
        Ok(())
    }

    /// Shakes hands with a client, who must show a certificate if `mutual`. Takes 10 s at most.
    ///
    /// # Errors
    /// Those of the handshake, and `TimedOut`.
    pub async fn accept<S>(&self, stream: S, mutual: bool) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = if mutual { &self.mutual } else { &self.usual };
        let handshake = TlsAcceptor::from(config.load_full()).accept(stream);
        tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await?
    }
}

/// What is offered to clients on usual and on `mtls:` listeners.
fn offered(options: &Options) -> Result<[Arc<ServerConfig>; 2], Fault> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates("ssl_chain_cert", &options.chain_cert)?;
    let key = PrivateKeyDer::from_pem_file(&options.key)
        .map_err(|why| unreadable("ssl_key", &options.key, &why))?;
    let make = |verify| {
        let made = server_config(options, verify, &provider, chain.clone(), key.clone_key())?;
        Ok(Arc::new(made))
    };
    // Without somebody who vouches for clients there can be no `mtls:` listener.
    let mutual = match options.ca_cert {
        Some(_) => Verify::Everybody,
        None => options.verify,
    };
    Ok([make(options.verify)?, make(mutual)?])
}

fn server_config(
    options: &Options,
    verify: Verify,
    provider: &Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Fault> {
    let unusable = |why: rustls::Error| Fault {
        option: "ssl_chain_cert",
        what: format!("{} and its key: {why}", options.chain_cert.display()),
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions(options.oldest))
        .map_err(unusable)?;
    let builder = match verifier(options, verify, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key).map_err(unusable)
}

fn versions(oldest: Oldest) -> &'static [&'static SupportedProtocolVersion] {
    const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    match oldest {
        Oldest::Tls12 => BOTH,
        Oldest::Tls13 => &BOTH[..1],
    }
}

fn verifier(
    options: &Options,
    verify: Verify,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Fault> {
    let Some(path) = options
        .ca_cert
        .as_deref()
        .filter(|_| verify != Verify::Nobody)
    else {
        return Ok(None);
    };
    let unusable = |why: &dyn fmt::Display| Fault {
        option: "ssl_ca_cert",
        what: format!("{}: {why}", path.display()),
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ssl_ca_cert", path)? {
        roots.add(certificate).map_err(|why| unusable(&why))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match verify {
        Verify::Everybody => builder,
        _ => builder.allow_unauthenticated(),
    };
    builder.build().map(Some).map_err(|why| unusable(&why))
}

fn certificates(option: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(|found| found.collect::<Result<Vec<_>, _>>())
        .map_err(|why| unreadable(option, path, &why))?;
    match read.is_empty() {
        true => Err(unreadable(option, path, &pem::Error::NoItemsFound)),
        false => Ok(read),
    }
}

/// Why a PEM file cannot be used; nothing of what is in it is said.
fn unreadable(option: &'static str, path: &Path, why: &pem::Error) -> Fault {
    let why = match why {
        pem::Error::Io(why) => format!("cannot be read: {why}"),
        pem::Error::NoItemsFound => "has nothing of that kind in it".to_owned(),
        _ => "is no PEM file".to_owned(),
    };
    Fault {
        option,
        what: format!("{} {why}", path.display()),
    }
}
