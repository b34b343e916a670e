//! Object stores by URL: S3, GCS, Azure and HTTP, opened when a statement first names them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::common::{Result, exec_err, plan_err};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};
use url::{Position, Url};

/// Prefixes of environment variables that say how object stores are reached, under the names
/// that the stores' own tools use: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
/// `AZURE_STORAGE_ACCOUNT_NAME`, `GOOGLE_SERVICE_ACCOUNT`, ...
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
const ENVIRONMENT: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Prefixes of OPTIONS of a table that say how its object store is reached, as in
/// datafusion-cli: `'aws.access_key_id'`, `'gcp.service_account_path'`.
const OPTION_PREFIXES: [&str; 3] = ["aws.", "azure.", "gcp."];

/// The stores of an engine, one for each host or bucket.
///
/// DataFusion asks here whenever a plan reads or writes a URL, so data, COPY and watched folders
/// find a store without any registration.
#[derive(Default)]
pub(crate) struct ObjectStores {
    known: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl fmt::Debug for ObjectStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStores").finish_non_exhaustive()
    }
}

impl ObjectStoreRegistry for ObjectStores {
    fn register_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key(url), store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        match self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&key(url)) {
            Some(store) => Ok(store),
            None => exec_err!("no object store is open for {url}"),
        }
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let known =
            self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key(url)).cloned();
        if let Some(store) = known {
            return Ok(store);
        }
        match open(url, &[]) {
            Ok((store, _)) => {
                self.register_store(url, Arc::clone(&store));
                Ok(store)
            }
            Err(reason) => plan_err!("{url} {reason}"),
        }
    }
}

/// Which store a URL belongs to: scheme, container and host.
fn key(url: &Url) -> String {
    format!("{}://{}", url.scheme(), &url[Position::BeforeUsername..Position::AfterPort])
}

/// Whether a text is the URL of an object store, not a path and not `file://`.
pub(crate) fn is_object_url(text: &str) -> bool {
    matches!(Url::parse(text), Ok(url) if url.scheme().len() > 1 && url.scheme() != "file"
        && text.contains("://"))
}

/// The options of a table that are for its object store, without their prefix, and the others.
pub(crate) fn split_options(
    options: &HashMap<String, String>,
) -> (Vec<(String, String)>, HashMap<String, String>) {
    let (mut own, mut others) = (vec![], HashMap::new());
    for (key, value) in options {
        let bare = key.strip_prefix("format.").unwrap_or(key).to_lowercase();
        match OPTION_PREFIXES.iter().find_map(|prefix| bare.strip_prefix(prefix)) {
            Some(name) => own.push((name.to_owned(), value.clone())),
            None => {
                others.insert(key.clone(), value.clone());
            }
        }
    }
    own.sort();
    (own, others)
}

/// Opens the store of a URL by the options of a table; from now on it serves all of its host or
/// bucket.
///
/// # Errors
/// When an option is not known, or the store cannot be opened.
pub(crate) fn register(
    runtime: &RuntimeEnv,
    url: &Url,
    options: &[(String, String)],
) -> Result<()> {
    match open(url, options) {
        Ok((store, _)) => {
            runtime.register_object_store(url, store);
            Ok(())
        }
        Err(reason) => plan_err!("{url} {reason}"),
    }
}

/// Opens the store of a URL; the path is that of the URL within the store. `options` override the
/// environment.
///
/// # Errors
/// The end of a sentence that begins with what the URL is of: why there is no store.
pub(crate) fn open(
    url: &Url,
    options: &[(String, String)],
) -> Result<(Arc<dyn ObjectStore>, Path), String> {
    let scheme = ObjectStoreScheme::parse(url).map(|(scheme, _)| scheme);
    let path = Path::from_url_path(url.path()).map_err(|e| format!("has no valid path: {e}"))?;
    // URLs of the web that name a host of a cloud are read as what they are: files of a server.
    let scheme = match url.scheme() {
        "http" | "https" => Ok(ObjectStoreScheme::Http),
        _ => scheme,
    };
    let store: Arc<dyn ObjectStore> = match scheme {
        Ok(ObjectStoreScheme::Local) => Arc::new(LocalFileSystem::new()),
        Ok(ObjectStoreScheme::Memory) => Arc::new(InMemory::new()),
        Ok(ObjectStoreScheme::AmazonS3) => amazon(url, options)?,
        Ok(ObjectStoreScheme::GoogleCloudStorage) => google(url, options)?,
        Ok(ObjectStoreScheme::MicrosoftAzure) => microsoft(url, options)?,
        Ok(ObjectStoreScheme::Http) => web(url)?,
        _ => {
            return Err(format!(
                "cannot be opened: {}:// is no scheme that is known (s3, gs, az, abfss, http, \
                 https, file)",
                url.scheme()
            ));
        }
    };
    Ok((store, path))
}

/// The settings of the environment, by names in lower case, followed by the options, which override
/// them.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn settings(options: &[(String, String)]) -> Vec<(String, String)> {
    let mut settings = vec![];
    for (name, value) in std::env::vars_os() {
        if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string())
            && ENVIRONMENT.iter().any(|prefix| name.starts_with(prefix))
        {
            settings.push((name.to_lowercase(), value));
        }
    }
    settings.extend(options.iter().cloned());
    settings
}

/// Requests that a server refuses temporarily (429, 500, 503, ...) are retried for half a minute.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure", feature = "http"))]
fn retry() -> object_store::RetryConfig {
    let retry_timeout = std::time::Duration::from_secs(30);
    object_store::RetryConfig { retry_timeout, ..Default::default() }
}

/// The settings that a kind of store knows; the options come last, so that they override the
/// environment.
///
/// # Errors
/// When an option is not known.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn known_settings<K: std::str::FromStr>(
    kind: &str,
    options: &[(String, String)],
) -> Result<Vec<(K, String)>, String> {
    if let Some((name, _)) = options.iter().find(|(name, _)| name.parse::<K>().is_err()) {
        return Err(format!("has the option {kind}.{name}, which {kind} does not know"));
    }
    let settings = settings(options).into_iter();
    Ok(settings.filter_map(|(name, value)| Some((name.parse().ok()?, value))).collect())
}

#[cfg(feature = "aws")]
fn amazon(url: &Url, options: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, String> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    let mut builder = AmazonS3Builder::new().with_url(url.as_str()).with_retry(retry());
    for (key, value) in known_settings::<AmazonS3ConfigKey>("aws", options)? {
        // An endpoint without TLS is used as it is written.
        if key == AmazonS3ConfigKey::Endpoint && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(key, value);
    }
    builder.build().map(|store| Arc::new(store) as _).map_err(cannot_open)
}

#[cfg(feature = "gcp")]
fn google(url: &Url, options: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, String> {
    use object_store::gcp::GoogleCloudStorageBuilder;
    let mut builder = GoogleCloudStorageBuilder::new().with_url(url.as_str()).with_retry(retry());
    for (key, value) in known_settings("gcp", options)? {
        builder = builder.with_config(key, value);
    }
    builder.build().map(|store| Arc::new(store) as _).map_err(cannot_open)
}

#[cfg(feature = "azure")]
fn microsoft(url: &Url, options: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, String> {
    use object_store::azure::MicrosoftAzureBuilder;
    let mut builder = MicrosoftAzureBuilder::new().with_url(url.as_str()).with_retry(retry());
    for (key, value) in known_settings("azure", options)? {
        builder = builder.with_config(key, value);
    }
    builder.build().map(|store| Arc::new(store) as _).map_err(cannot_open)
}

#[cfg(feature = "http")]
fn web(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    use object_store::http::HttpBuilder;
    let client = object_store::ClientOptions::new().with_allow_http(true);
    let host = &url[..Position::BeforePath];
    let builder = HttpBuilder::new().with_url(host).with_client_options(client).with_retry(retry());
    builder.build().map(|store| Arc::new(store) as _).map_err(cannot_open)
}

#[cfg(any(feature = "aws", feature = "gcp", feature = "azure", feature = "http"))]
fn cannot_open(error: object_store::Error) -> String {
    format!("cannot be opened: {error}")
}

/// Says which cargo feature a build lacks.
#[cfg(not(all(feature = "aws", feature = "gcp", feature = "azure", feature = "http")))]
fn needs(feature: &str) -> String {
    format!(
        "needs a build with the feature {feature}, which the default build has: cargo build \
         --release -p gradlake-sql --features {feature}"
    )
}

#[cfg(not(feature = "aws"))]
fn amazon(_: &Url, _: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, String> {
    Err(needs("aws"))
}

#[cfg(not(feature = "gcp"))]
fn google(_: &Url, _: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, String> {
    Err(needs("gcp"))
}

#[cfg(not(feature = "azure"))]
fn microsoft(_: &Url, _: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, String> {
    Err(needs("azure"))
}

#[cfg(not(feature = "http"))]
fn web(_: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    Err(needs("http"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_store_are_told_from_those_of_a_format() {
        let options = [("format.aws.region", "eu-north-1"), ("format.delimiter", ";")];
        let options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
        let (own, others) = split_options(&options);
        assert_eq!(own, [("region".to_owned(), "eu-north-1".to_owned())]);
        assert_eq!(others.len(), 1);
    }

    #[test]
    fn urls_are_told_from_paths() {
        assert!(is_object_url("s3://bucket/x.parquet"));
        assert!(is_object_url("https://host/x.csv"));
        for path in ["data/x.csv", "/x.csv", "file:///x.csv", "C:/x.csv", "a:b.csv"] {
            assert!(!is_object_url(path), "{path}");
        }
    }

    #[test]
    fn what_is_no_store_is_said() {
        let reason = |text: &str, options: &[(&str, &str)]| {
            let options: Vec<_> =
                options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            open(&Url::parse(text).unwrap(), &options).unwrap_err()
        };
        assert!(reason("gopher://host/x", &[]).contains("gopher:// is no scheme that is known"));
        if cfg!(feature = "aws") {
            assert!(reason("s3://b/x", &[("colour", "red")]).contains("the option aws.colour"));
            // The build is made by `with_url`: what is right opens without a request.
            let options = [("region".to_owned(), "us-east-1".to_owned())];
            assert!(open(&Url::parse("s3://b/x/y").unwrap(), &options).is_ok());
        } else {
            assert!(reason("s3://b/x", &[]).contains("needs a build with the feature aws"));
        }
    }

    #[test]
    fn one_store_serves_a_bucket() {
        let stores = ObjectStores::default();
        let url = |text: &str| Url::parse(text).unwrap();
        let first = stores.get_store(&url("memory:///")).unwrap();
        assert!(Arc::ptr_eq(&first, &stores.get_store(&url("memory:///a/b")).unwrap()));
        assert_ne!(key(&url("abfss://a@h.net/x")), key(&url("abfss://b@h.net/x")));
    }
}
