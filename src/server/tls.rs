//! TLS on the listeners that ask for it.
//!
//! [`Tls::new`] reads certificates and key before root is dropped, so that a start fails rather than serve
//! what no client can verify. [`Tls::renew`] reads them again, for `refresh_certs` and SIGHUP;
//! connections made from then on use the new ones, those that there are keep theirs. `acceptor` calls
//! [`Tls::accept`] in the connection's own task, and `connection` serves what comes out of it. The only
//! file that names rustls.
//!
//! Invariants:
//! - *the handshake ends* within ten seconds, in one way or the other; until then it is a connection
//!   like any other, so `-c` bounds how many there are. An unencrypted client is closed by it: no byte
//!   of such a client reaches a session;
//! - *bounded*: of one connection rustls keeps at most a record of 18 KiB that has not arrived whole, as
//!   much that was decrypted and not read, and a record of 16 KiB that the socket has not taken; during
//!   the handshake at most 64 KiB instead. `connection` reads nothing while some of it is unsent, and
//!   an idle connection keeps 4 KiB of these. All of it is beside `--buffer-memory`;
//! - *all or nothing*: a renewal that fails changes nothing, and one that succeeds changes every listener
//!   at once and forgets the sessions that the old certificates began.
//!
//! Source: memcached's `doc/tls.txt` and `tls.c`.

mod fault;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{
    NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use tokio_rustls::rustls::{
    self, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion, version,
};
use tokio_rustls::server::TlsStream;

pub use fault::Fault;
use fault::Part;

use super::handover::files::Files;
use crate::engine::Certificates;
use crate::regular_file;

/// Longest file of certificates that is read; Debian's of all authorities has 220 KB.
const PEM_BYTES_MAX: u64 = 16 << 20;

/// How long a peer may take for its handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Most bytes that a connection takes for sending before the socket has taken them: one record.
const UNSENT_BYTES: usize = 16 << 10;

/// Sessions that are kept to be taken up again, on each kind of listener.
const SESSIONS_MAX: usize = 1024;

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
    /// Whose certificates are wanted where the listener does not say.
    pub verify: Verify,
    /// The oldest version spoken.
    pub oldest: Oldest,
    /// Sessions are kept to be taken up again (`ssl_session_cache`).
    pub session_cache: bool,
}

/// TLS as it is offered now.
pub struct Tls {
    options: Options,
    offered: ArcSwap<Offered>,
    /// One reads at a time, so that the last to begin is the last to be heard.
    renewing: Mutex<()>,
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
        Tls::reading(options, &read_pem)
    }

    /// Goes on with what another process has read from the files, all of them.
    ///
    /// # Errors
    /// The first that there is no copy of, or that cannot be used.
    pub fn of_copies(options: Options, files: &Files) -> Result<Tls, Fault> {
        let absent = || pem::Error::Io(io::ErrorKind::NotFound.into());
        Tls::reading(options, &|path| {
            files.get(path).map(<[u8]>::to_vec).ok_or_else(absent)
        })
    }

    /// What was read of the files that are in use.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        self.offered.load().files.clone()
    }

    fn reading(options: Options, read: Read<'_>) -> Result<Tls, Fault> {
        // The working folder is another one in the background, where they are read again.
        let options = Options {
            chain_cert: rooted(options.chain_cert),
            key: rooted(options.key),
            ca_cert: options.ca_cert.map(rooted),
            ..options
        };
        let offered = Offered::read(&options, read)?;
        Ok(Tls {
            options,
            offered: ArcSwap::from_pointee(offered),
            renewing: Mutex::new(()),
        })
    }

    /// Reads the files again, for connections made from now on. Blocks while they are read.
    ///
    /// # Errors
    /// The first file that cannot be used; then nothing changes.
    pub fn renew(&self) -> Result<(), Fault> {
        let _renewing = self.renewing.lock();
        let offered = Offered::read(&self.options, &read_pem)?;
        self.offered.store(Arc::new(offered));
        Ok(())
    }

    /// Shakes hands with a client, who shows a certificate as `verify` has it. Takes 10 s at most.
    ///
    /// # Errors
    /// Those of the handshake; `TimedOut`; `Unsupported` where certificates are wanted and nobody
    /// vouches for any, which `config` refuses.
    pub async fn accept<S>(&self, stream: S, verify: Verify) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.offered.load().to(verify);
        let config = config.ok_or(io::ErrorKind::Unsupported)?;
        let handshake = TlsAcceptor::from(config).accept_with(stream, |session| {
            session.set_buffer_limit(Some(UNSENT_BYTES))
        });
        tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await?
    }
}

impl Certificates for Tls {
    fn refresh(&self) -> Result<(), String> {
        match self.renew() {
            Ok(()) => {
                tracing::info!("certificates are read again, for new connections");
                Ok(())
            }
            Err(fault) => {
                tracing::error!(
                    "{fault}; the certificates read before stay in use; mend it, then send SIGHUP or refresh_certs"
                );
                Err(fault.answer())
            }
        }
    }

    fn keeps_sessions(&self) -> bool {
        self.options.session_cache
    }
}

/// The same place from every working folder; one that has none is refused when it is read.
fn rooted(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Whether the handshake was made in full, and not by taking an earlier session up.
pub fn is_new_session<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.handshake_kind() != Some(HandshakeKind::Resumed)
}

/// Tells the client that the connection ends here, if the socket takes that at once.
pub async fn say_goodbye<S: AsyncRead + AsyncWrite + Unpin>(mut stream: TlsStream<S>) {
    std::future::poll_fn(|context| {
        // One who does not listen will find out.
        let _ = Pin::new(&mut stream).poll_shutdown(context);
        Poll::Ready(())
    })
    .await;
}

/// What is offered to clients, by whose certificates are wanted.
struct Offered {
    nobody: Arc<ServerConfig>,
    /// Nothing, where there is no `ssl_ca_cert`.
    vouched: Option<Vouched>,
    /// What it was read from.
    files: Vec<(PathBuf, Vec<u8>)>,
}

struct Vouched {
    shown: Arc<ServerConfig>,
    everybody: Arc<ServerConfig>,
}

/// Reads a PEM file.
type Read<'r> = &'r dyn Fn(&Path) -> Result<Vec<u8>, pem::Error>;

impl Offered {
    fn read(options: &Options, read: Read<'_>) -> Result<Offered, Fault> {
        let files = RefCell::new(Vec::new());
        let read = |path: &Path| {
            let text = read(path)?;
            files.borrow_mut().push((path.to_owned(), text.clone()));
            Ok(text)
        };
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(Part::Chain, &options.chain_cert, &read)?;
        let key = read(&options.key)
            .and_then(|text| PrivateKeyDer::from_pem_slice(&text))
            .map_err(|why| unreadable(Part::Key, &options.key, &why))?;
        let make = |verifier| {
            server_config(options, &provider, verifier, chain.clone(), key.clone_key())
                .map(Arc::new)
                .map_err(|why| unusable(&why, options))
        };
        let nobody = make(None)?;
        let vouched = match &options.ca_cert {
            None => None,
            Some(path) => {
                let roots = Arc::new(roots(path, &read)?);
                let verifier = |verify| verifier(&roots, verify, &provider, path);
                Some(Vouched {
                    shown: make(Some(verifier(Verify::Shown)?))?,
                    everybody: make(Some(verifier(Verify::Everybody)?))?,
                })
            }
        };
        Ok(Offered {
            nobody,
            vouched,
            files: files.into_inner(),
        })
    }

    fn to(&self, verify: Verify) -> Option<Arc<ServerConfig>> {
        let vouched = self.vouched.as_ref();
        let config = match verify {
            Verify::Nobody => Some(&self.nobody),
            Verify::Shown => vouched.map(|vouched| &vouched.shown),
            Verify::Everybody => vouched.map(|vouched| &vouched.everybody),
        };
        config.cloned()
    }
}

fn server_config(
    options: &Options,
    provider: &Arc<CryptoProvider>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions(options.oldest))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    if options.session_cache {
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn versions(oldest: Oldest) -> &'static [&'static SupportedProtocolVersion] {
    const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    match oldest {
        Oldest::Tls12 => BOTH,
        Oldest::Tls13 => &BOTH[..1],
    }
}

/// Why certificate and key do not go together.
fn unusable(why: &rustls::Error, options: &Options) -> Fault {
    match why {
        rustls::Error::InconsistentKeys(_) => {
            let chain = options.chain_cert.display();
            let why = format!("is not the key of the certificate in {chain}");
            Fault::new(Part::Pair, &options.key, why)
        }
        rustls::Error::InvalidCertificate(_) => {
            let why = "its first certificate is not one of a server's (X.509 version 3)";
            Fault::new(Part::Certificate, &options.chain_cert, why)
        }
        _ => {
            let why =
                "is not a key that TLS is spoken with (RSA from 2048 bits on, ECDSA, Ed25519)";
            Fault::new(Part::Key, &options.key, why)
        }
    }
}

fn roots(path: &Path, read: Read<'_>) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(Part::Ca, path, read)? {
        let added = roots.add(certificate);
        added.map_err(|why| Fault::new(Part::Ca, path, why))?;
    }
    Ok(roots)
}

fn verifier(
    roots: &Arc<RootCertStore>,
    verify: Verify,
    provider: &Arc<CryptoProvider>,
    path: &Path,
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    let builder = match verify {
        Verify::Everybody => builder,
        _ => builder.allow_unauthenticated(),
    };
    builder
        .build()
        .map_err(|why| Fault::new(Part::Ca, path, why))
}

fn certificates(
    part: Part,
    path: &Path,
    read: Read<'_>,
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read = read(path)
        .and_then(|text| CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>())
        .map_err(|why| unreadable(part, path, &why))?;
    match read.is_empty() {
        true => Err(unreadable(part, path, &pem::Error::NoItemsFound)),
        false => Ok(read),
    }
}

fn read_pem(path: &Path) -> Result<Vec<u8>, pem::Error> {
    let read = regular_file::read(path, PEM_BYTES_MAX);
    let (text, _) = read.map_err(|unread| pem::Error::Io(unread.into()))?;
    Ok(text)
}

fn unreadable(part: Part, path: &Path, why: &pem::Error) -> Fault {
    let why = match (why, part) {
        (pem::Error::Io(why), _) => format!("cannot be read: {why}"),
        (pem::Error::NoItemsFound, Part::Key) => "has no unencrypted key in it".to_owned(),
        (pem::Error::NoItemsFound, _) => "has no certificate in it".to_owned(),
        _ => "is no PEM file".to_owned(),
    };
    Fault::new(part, path, why)
}

#[cfg(test)]
mod tests {

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::ClientConfig;
    use tokio_rustls::rustls::pki_types::ServerName;

    use crate::protocol::codec::Protocol;
    use crate::server::connection;
    use crate::server::worker::Worker;
    use crate::stats::connections::{Address, Connection, State};

    /// TLS with a certificate that vouches for itself, and a client that trusts it.
    fn tls() -> (Tls, ClientConfig) {
        let names = vec!["localhost".to_owned()];
        let own = rcgen::generate_simple_self_signed(names).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            chain_cert: folder.path().join("server.pem"),
            key: folder.path().join("server.key"),
            ca_cert: None,
            verify: Verify::Nobody,
            oldest: Oldest::Tls12,
            session_cache: false,
        };
        std::fs::write(&options.chain_cert, own.cert.pem()).unwrap();
        std::fs::write(&options.key, own.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Tls::new(options).unwrap(), client)
    }

    /// Both ends of a connection over a socket that takes so many bytes.
    async fn connected(
        socket_bytes: usize,
    ) -> (
        TlsStream<DuplexStream>,
        tokio_rustls::client::TlsStream<DuplexStream>,
    ) {
        let (tls, client) = tls();
        let (near, far) = duplex(socket_bytes);
        let name = ServerName::try_from("localhost").unwrap();
        let client = TlsConnector::from(Arc::new(client)).connect(name, near);
        let (server, client) = tokio::join!(tls.accept(far, Verify::Nobody), client);
        (server.unwrap(), client.unwrap())
    }

    /// Runs it in virtual time, which goes on as soon as everybody waits.
    fn run<T>(what: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        builder.build().unwrap().block_on(what)
    }

    #[test]
    fn a_handshake_that_does_not_go_on_ends_by_itself() {
        let (tls, _) = tls();
        for said in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
            let (mut peer, stream) = duplex(64 << 10);
            let ended = run(async {
                peer.write_all(said).await.unwrap();
                tls.accept(stream, Verify::Nobody).await
            });
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[test]
    fn files_are_found_again_from_another_folder() {
        let options = Options {
            chain_cert: "server.pem".into(),
            key: "/etc/server.key".into(),
            ca_cert: None,
            verify: Verify::Nobody,
            oldest: Oldest::Tls12,
            session_cache: false,
        };
        let fault = Tls::new(options).unwrap_err();
        assert_eq!(
            fault.path,
            std::env::current_dir().unwrap().join("server.pem")
        );
        assert_eq!(
            rooted("/etc/server.key".into()),
            Path::new("/etc/server.key")
        );
    }

    #[test]
    fn no_certificate_is_waived_because_nobody_can_check_it() {
        let (tls, _) = tls();
        for verify in [Verify::Shown, Verify::Everybody] {
            let ended = run(tls.accept(duplex(64).1, verify));
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::Unsupported);
        }
    }

    #[test]
    fn of_what_the_socket_does_not_take_no_more_than_a_record_is_kept() {
        const SOCKET: usize = 4 << 10;
        let (mut server, _client) = run(connected(SOCKET));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut taken = 0;
        while let Poll::Ready(written) =
            Pin::new(&mut server).poll_write(&mut context, &[b'x'; 100_000])
        {
            taken += written.unwrap();
        }
        assert!((1..=UNSENT_BYTES + SOCKET).contains(&taken), "{taken}");
    }

    #[test]
    fn one_who_waits_for_the_last_byte_gets_it_however_little_the_socket_takes() {
        const SOCKET: usize = 1 << 10;
        let worker = Worker::alone(None);
        let info = Connection::new(Address::Named("".into()), None, State::Read, 0);
        let value = "v".repeat(20_000);
        let talk = async {
            let (mut server, mut client) = connected(SOCKET).await;
            let ask = async {
                let request = format!("set k 0 0 20000\r\n{value}\r\nget k\r\n");
                client.write_all(request.as_bytes()).await.unwrap();
                client.flush().await.unwrap();
                let expected = format!("STORED\r\nVALUE k 0 20000\r\n{value}\r\nEND\r\n");
                let mut answer = vec![0; expected.len()];
                client.read_exact(&mut answer).await.unwrap();
                assert!(answer == expected.as_bytes());
                client.write_all(b"get k\r\nquit\r\n").await.unwrap();
                client.flush().await.unwrap();
                let mut rest = Vec::new();
                client.read_to_end(&mut rest).await.unwrap();
                assert!(rest == expected.as_bytes()["STORED\r\n".len()..]);
            };
            let serve = async {
                let served = connection::serve(&mut server, Protocol::Auto, &worker, &info).await;
                say_goodbye(server).await;
                served
            };
            tokio::join!(serve, ask).0.unwrap();
        };
        let ended = run(async { tokio::time::timeout(HANDSHAKE_WITHIN, talk).await });
        ended.expect("neither waits for the other for ever");
        assert_eq!(worker.busy.into_inner(), 0);
    }
}
