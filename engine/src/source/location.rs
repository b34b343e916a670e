//! LOCATION of an unbounded table.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use datafusion::common::{Result, plan_err};
use url::Url;

/// Where bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// The standard input of the process.
    StandardInput,
    /// A FIFO or a file.
    Path(PathBuf),
    /// A TCP port to listen on.
    Tcp(SocketAddr),
    /// A Unix socket to listen on.
    Unix(PathBuf),
}

impl Location {
    /// Reads `-`, `stdin:`, `tcp://127.0.0.1:9000`, `unix:///path.sock`, `file:///path` or a path.
    ///
    /// # Errors
    /// When it is none of them, naming what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text == "-" || text.eq_ignore_ascii_case("stdin:") {
            return Ok(Self::StandardInput);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.is_empty() {
                return plan_err!("LOCATION is empty; it should be a path, '-', tcp:// or unix://");
            }
            return Ok(Self::Path(text.into()));
        };
        match scheme.to_lowercase().as_str() {
            "tcp" => tcp(text, rest),
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => plan_err!(
                "{text} should name a path from the root with three slashes, unix:///path.sock"
            ),
            "file" => match Url::parse(text).ok().and_then(|url| url.to_file_path().ok()) {
                Some(path) => Ok(Self::Path(path)),
                None => plan_err!("{text} is no path of a file; it should be file:///path"),
            },
            _ => plan_err!(
                "{text} cannot be read as a stream of bytes: LOCATION should be '-' (standard \
                 input), a FIFO, a file, tcp://127.0.0.1:9000 or unix:///path.sock; object stores \
                 are watched for STORED AS PARQUET"
            ),
        }
    }
}

/// Parses an address. It refuses host names other than localhost: what a name resolves to may
/// change between checking and listening.
fn tcp(text: &str, rest: &str) -> Result<Location> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let address = match rest.strip_prefix("localhost:") {
        Some(port) => {
            port.parse().ok().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
        }
        None => rest.parse().ok(),
    };
    match address {
        Some(address) if address.port() != 0 => Ok(Location::Tcp(address)),
        _ => plan_err!(
            "{text} should be an address to listen on and a port, such as tcp://127.0.0.1:9000, \
             tcp://[::1]:9000 or tcp://localhost:9000"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let path = |text: &str| Location::Path(text.into());
        for (text, expected) in [
            ("-", Location::StandardInput),
            ("stdin:", Location::StandardInput),
            ("/tmp/fifo", path("/tmp/fifo")),
            ("fifo", path("fifo")),
            ("file:///tmp/a%20b", path("/tmp/a b")),
            ("unix:///tmp/x.sock", Location::Unix("/tmp/x.sock".into())),
            ("tcp://127.0.0.1:9000", Location::Tcp(([127, 0, 0, 1], 9000).into())),
            ("TCP://localhost:9000/", Location::Tcp(([127, 0, 0, 1], 9000).into())),
            ("tcp://0.0.0.0:1", Location::Tcp(([0, 0, 0, 0], 1).into())),
        ] {
            assert_eq!(Location::parse(text).unwrap(), expected, "{text}");
        }
        let Location::Tcp(address) = Location::parse("tcp://[::1]:80").unwrap() else { panic!() };
        assert!(address.is_ipv6());
    }

    #[test]
    fn what_is_none() {
        for (text, part) in [
            ("", "LOCATION is empty"),
            ("tcp://127.0.0.1", "should be an address to listen on and a port"),
            ("tcp://127.0.0.1:0", "should be an address to listen on and a port"),
            ("tcp://example.org:9000", "should be an address to listen on and a port"),
            ("unix://x.sock", "unix:///path.sock"),
            ("s3://bucket/x", "object stores are watched for STORED AS PARQUET"),
            ("kafka://x", "cannot be read as a stream of bytes"),
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
