//! TLS settings as docker keeps them: `ca.pem`, `cert.pem`, `key.pem` in one folder.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme};

use crate::{EngineError, Result};

/// A TLS configuration without a certificate of the client's own.
pub(crate) fn with_roots(roots: RootCertStore, verify: bool) -> std::result::Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if verify {
        builder.with_root_certificates(roots)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
    };
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// The client's TLS configuration. Certificates that are not there are not used; the system's roots stand in for `ca.pem`.
pub(super) fn client_config(folder: Option<&Path>, verify: bool) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| problem(&error.to_string()))?;
    let builder = if verify {
        builder.with_root_certificates(roots(folder)?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
    };
    let pair = folder.map(|folder| (folder.join("cert.pem"), folder.join("key.pem")));
    let config = match pair.filter(|(cert, key)| cert.exists() || key.exists()) {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates(&cert)?;
            let key_der = PrivateKeyDer::from_pem_file(&key).map_err(|error| unreadable(&key, &error))?;
            builder.with_client_auth_cert(chain, key_der).map_err(|error| {
                problem(&format!("`{}` and `{}` do not fit together: {error}", cert.display(), key.display()))
            })?
        }
    };
    Ok(Arc::new(config))
}

fn roots(folder: Option<&Path>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match folder.map(|folder| folder.join("ca.pem")).filter(|ca| ca.exists()) {
        Some(ca) => {
            for certificate in certificates(&ca)? {
                store.add(certificate).map_err(|error| unreadable(&ca, &error))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let list = read.map_err(|error| unreadable(path, &error))?;
    if list.is_empty() { Err(problem(&format!("`{}` has no certificate in it", path.display()))) } else { Ok(list) }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> EngineError {
    problem(&format!("`{}` cannot be used: {error}", path.display()))
}

fn problem(text: &str) -> EngineError {
    EngineError::Connection {
        problem: text.to_owned(),
        hint: "DOCKER_CERT_PATH, or the docker context, names a folder with ca.pem, cert.pem and key.pem".to_owned(),
    }
}

/// For contexts that say `SkipTLSVerify`.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
