//! From an address to a store, with what the environment adds.

use std::path::Path;
use std::sync::Arc;

use kiln_docker::registry::RegistryOptions;
use opendal::services;

use super::words::decoded;
use super::{Address, Azblob, Gcs, GhaAddress, Place, S3, Web};
use crate::error::{CacheError, Result};
use crate::reach::{Limits, Network, Reach};
use crate::secret::Secret;
use crate::store::{Folder, Gha, GhaOptions, Http, InRegistry, Login, Objects, Store};

/// Regions do not matter to servers other than Amazon's, but signatures need one.
const REGION: &str = "us-east-1";

/// What a store may need beside its address.
pub struct Surroundings<'a> {
    /// The environment's variables, for credentials. (opendal looks up profiles, roles and metadata services of clouds by
    /// itself, in the environment of this process.)
    pub variables: &'a dyn Fn(&str) -> Option<String>,
    /// What relative paths are relative to.
    pub folder: &'a Path,
    /// How registries are reached.
    pub registry: RegistryOptions,
    /// How other stores are reached.
    pub network: Network,
    /// How long is waited.
    pub limits: Limits,
}

impl Surroundings<'_> {
    /// The first variable that is set and not empty.
    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| (self.variables)(name).filter(|value| !value.is_empty()))
    }

    fn secret(&self, names: &[&str]) -> Option<Secret> {
        self.first(names).map(Secret::new)
    }

    fn reach(&self) -> Result<Reach> {
        Reach::new(&self.network, self.limits)
    }
}

impl Address {
    /// The store. Nothing is sent anywhere before something is wanted of it.
    ///
    /// # Errors
    /// [`CacheError::BadAddress`] if something is missing that the environment does not have either.
    pub fn open(&self, around: &Surroundings<'_>) -> Result<Arc<dyn Store>> {
        Ok(match &self.place {
            Place::Local { folder } => Arc::new(Folder::new(around.folder.join(folder))),
            Place::Registry { name, tag, insecure } => {
                let (options, limits) = (around.registry.clone(), around.limits);
                Arc::new(InRegistry::new(name.clone(), tag.clone(), *insecure, options, limits))
            }
            Place::S3(s3) => Arc::new(self.s3(s3, around)?),
            Place::Azblob(azblob) => Arc::new(self.azblob(azblob, around)?),
            Place::Gcs(gcs) => Arc::new(self.gcs(gcs, around)?),
            Place::Webdav(web) => Arc::new(self.webdav(web, around)?),
            Place::Http(web) => {
                let login = Login {
                    username: web.username.clone(),
                    password: web.password.as_ref().map(|password| password.reveal().to_owned()),
                    token: web.token.as_ref().map(|token| token.reveal().to_owned()),
                };
                Arc::new(Http::new(web.url.clone(), login, &around.reach()?))
            }
            Place::Gha(gha) => Arc::new(Gha::new(Self::gha(gha, around)?)?),
        })
    }

    fn lacks(&self, problem: &str, hint: &str) -> CacheError {
        CacheError::BadAddress { text: self.to_string(), problem: problem.to_owned(), hint: hint.to_owned() }
    }

    fn gha(gha: &GhaAddress, around: &Surroundings<'_>) -> Result<GhaOptions> {
        let options = GhaOptions::from_variables(|name| match (name, &gha.url, &gha.token) {
            ("ACTIONS_RESULTS_URL", Some(url), _) => Some(url.clone()),
            ("ACTIONS_RUNTIME_TOKEN", _, Some(token)) => Some(token.reveal().to_owned()),
            _ => (around.variables)(name),
        })?;
        Ok(GhaOptions {
            scope: gha.scope.clone().unwrap_or_else(|| options.scope.clone()),
            timeout: gha.timeout.unwrap_or(options.timeout),
            network: around.network.clone(),
            ..options
        })
    }

    fn s3(&self, s3: &S3, around: &Surroundings<'_>) -> Result<Objects> {
        let endpoint = s3.endpoint.clone().or_else(|| around.first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
        let region = s3.region.clone().or_else(|| around.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
        let region = region.or_else(|| endpoint.as_ref().map(|_| REGION.to_owned())).ok_or_else(|| {
            self.lacks("the region of the bucket is not known", "write region=REGION, or set AWS_REGION")
        })?;
        let mut service = services::S3::default().bucket(&s3.bucket).root(&root(&s3.prefix)).region(&region);
        if let Some(endpoint) = &endpoint {
            service = service.endpoint(endpoint);
        }
        // A dot in the host of a bucket is more than the certificate is for.
        if !s3.path_style.unwrap_or(endpoint.is_some() || s3.bucket.contains('.')) {
            service = service.enable_virtual_host_style();
        }
        // The address' own go before those of the environment, which go before those of files and of the cloud.
        let (id, key, token) = match (&s3.access_key_id, &s3.secret_access_key) {
            (Some(id), Some(key)) => (Some(id.clone()), Some(key.clone()), s3.session_token.clone()),
            _ => (
                around.secret(&["AWS_ACCESS_KEY_ID"]),
                around.secret(&["AWS_SECRET_ACCESS_KEY"]),
                around.secret(&["AWS_SESSION_TOKEN"]),
            ),
        };
        if let (Some(id), Some(key)) = (&id, &key) {
            service = service.access_key_id(id.reveal()).secret_access_key(key.reveal());
            if let Some(token) = &token {
                service = service.session_token(token.reveal());
            }
        }
        if let Some(profile) = around.first(&["AWS_PROFILE"]) {
            service = service.profile(&profile);
        }
        Objects::new(service, self.to_string(), &around.reach()?, revealed([&id, &key, &token]))
    }

    fn azblob(&self, azblob: &Azblob, around: &Surroundings<'_>) -> Result<Objects> {
        let connection = around.secret(&["AZURE_STORAGE_CONNECTION_STRING"]);
        let account = || around.first(&["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"]);
        let url = azblob.account_url.clone().or_else(|| {
            around
                .first(&["AZURE_STORAGE_ACCOUNT_URL", "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL"])
                .or_else(|| account().map(|name| format!("https://{name}.blob.core.windows.net")))
        });
        let mut service = match (&url, &connection) {
            (Some(url), _) => services::Azblob::default().endpoint(url),
            (None, Some(text)) => services::Azblob::from_connection_string(text.reveal())
                .map_err(|_| self.lacks("AZURE_STORAGE_CONNECTION_STRING cannot be read", "write account_url=URL"))?,
            (None, None) => {
                let hint = "write account_url=https://ACCOUNT.blob.core.windows.net, or set AZURE_STORAGE_ACCOUNT";
                return Err(self.lacks("the storage account is not known", hint));
            }
        };
        service = service.container(&azblob.container).root(&root(&azblob.prefix));
        let key = azblob.secret_access_key.clone();
        let key = key.or_else(|| around.secret(&["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"]));
        let sas = azblob.sas_token.clone().or_else(|| around.secret(&["AZURE_STORAGE_SAS_TOKEN"]));
        if let Some(key) = &key {
            service = service.account_key(key.reveal());
        }
        if let Some(sas) = &sas {
            service = service.sas_token(sas.reveal().trim_start_matches('?'));
        }
        // The account stands in the host, but where a server of one's own has it in the path.
        let name = url.as_deref().and_then(account_of_path).or_else(|| url.is_none().then(account).flatten());
        if let Some(name) = &name {
            service = service.account_name(name);
        }
        Objects::new(service, self.to_string(), &around.reach()?, revealed([&key, &sas, &connection]))
    }

    fn gcs(&self, gcs: &Gcs, around: &Surroundings<'_>) -> Result<Objects> {
        let mut service = services::Gcs::default().bucket(&gcs.bucket).root(&root(&gcs.prefix));
        if let Some(endpoint) = &gcs.endpoint {
            service = service.endpoint(endpoint);
        }
        let file = gcs.credentials.as_ref().map(|file| around.folder.join(file).display().to_string());
        if let Some(file) = file.or_else(|| around.first(&["GOOGLE_APPLICATION_CREDENTIALS"])) {
            service = service.credential_path(&file);
        }
        if let Some(token) = &gcs.token {
            service = service.token(token.reveal().to_owned());
        }
        Objects::new(service, self.to_string(), &around.reach()?, revealed([&gcs.token]))
    }

    fn webdav(&self, web: &Web, around: &Surroundings<'_>) -> Result<Objects> {
        // Folders are made as far up as the root, so all of the path is that.
        let host = web.url.find("://").map_or(0, |scheme| scheme + 3);
        let (server, path) = web.url.split_at(web.url[host..].find('/').map_or(web.url.len(), |at| host + at));
        let mut service = services::Webdav::default().endpoint(server).root(&decoded(path));
        if let Some(token) = &web.token {
            service = service.token(token.reveal());
        } else if let Some(username) = &web.username {
            let password = web.password.as_ref().map_or("", Secret::reveal);
            service = service.username(username).password(password);
        }
        let secrets = revealed([&web.password, &web.token]);
        Ok(Objects::new(service, self.to_string(), &around.reach()?, secrets)?.staged())
    }
}

/// A prefix as opendal's root.
fn root(prefix: &str) -> String {
    format!("/{prefix}")
}

fn revealed<const N: usize>(secrets: [&Option<Secret>; N]) -> impl Iterator<Item = &str> {
    secrets.into_iter().flatten().map(Secret::reveal)
}

/// `devstoreaccount1` of `http://127.0.0.1:10000/devstoreaccount1`.
fn account_of_path(url: &str) -> Option<String> {
    let (_, path) = url.split_once("://")?.1.split_once('/')?;
    path.split('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}
