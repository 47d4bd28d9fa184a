//! TLS settings of one registry: the system's authorities, the user's, and those that docker keeps for it.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{RegistryError, Result};

/// The client's TLS configuration. `folder` may hold `*.crt` files of authorities.
pub(super) fn config(registry: &str, pem: &[u8], folder: Option<&Path>, verify: bool) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(std::result::Result::ok));
    let listing = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let files = listing.into_iter().flatten().flatten().map(|entry| entry.path());
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "crt")) {
        let found = CertificateDer::pem_file_iter(&path).map(|list| list.filter_map(std::result::Result::ok));
        roots.add_parsable_certificates(found.into_iter().flatten());
    }
    crate::driver::tls::with_roots(roots, verify)
        .map_err(|error| RegistryError::Unreachable { registry: registry.to_owned(), source: error.to_string().into() })
}
