//! TLS: who is served, who is not, and that certificates change while it runs.
//!
//! Here is what the tests share: an [`Authority`] with certificates in files, and a client.

mod certificates;
mod peers;
mod served;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::daemon::{Client, Daemon, Folder, LIMIT};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Somebody who vouches for servers and clients, with files of theirs in a folder.
struct Authority {
    folder: Folder,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority {
            folder: Folder::new(),
            issuer,
        };
        fs::write(authority.folder.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority.issue("server");
        authority.issue("client");
        authority
    }

    /// A new certificate and key for 127.0.0.1, as `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.folder.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(
            self.folder.path(&format!("{name}.key")),
            key.serialize_pem(),
        )
        .unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.folder.text(name)
    }

    /// A server with TLS on TCP, and a unix socket to look at it without.
    fn serve(&self, more: &str) -> Daemon {
        self.serve_at(&format!("-l 127.0.0.1:0 {more}"))
    }

    /// The same, where an address is among the options or else a free port is served.
    fn serve_at(&self, options: &str) -> Daemon {
        let (chain, key, ca) = (
            self.file("server.pem"),
            self.file("server.key"),
            self.file("ca.pem"),
        );
        let address = if options.contains("-l ") {
            ""
        } else {
            "-l 127.0.0.1:0"
        };
        Daemon::with(&format!(
            "-Z -o ssl_chain_cert={chain},ssl_key={key},ssl_ca_cert={ca} -s {} --http off {address} {options}",
            self.file("socket")
        ))
    }

    fn plain(&self) -> Client<std::os::unix::net::UnixStream> {
        Client::unix(self.folder.path("socket"))
    }

    fn client(
        &self,
        shows: Option<&str>,
        version: &'static SupportedProtocolVersion,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.folder.path("ca.pem")).unwrap())
            .unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        match shows {
            None => builder.with_no_client_auth(),
            Some(name) => builder
                .with_client_auth_cert(
                    vec![certificate(&self.folder.path(&format!("{name}.pem")))],
                    PrivateKeyDer::from_pem_file(self.folder.path(&format!("{name}.key"))).unwrap(),
                )
                .unwrap(),
        }
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

fn connection(config: impl Into<Arc<ClientConfig>>) -> ClientConnection {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    ClientConnection::new(config.into(), name).unwrap()
}

fn connect(address: SocketAddr, config: impl Into<Arc<ClientConfig>>) -> Stream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    StreamOwned::new(connection(config), stream)
}

/// Whether a client is served at all.
fn is_served(mut stream: Stream) -> bool {
    let mut answer = [0; 16];
    stream.write_all(b"version\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == *b"VERSION 1.6.45\r\n"
}
