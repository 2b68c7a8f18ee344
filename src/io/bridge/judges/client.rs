//! The HTTP client of one remote judge: HTTP/1.1, over TLS if the URL says so, connections kept and used again.
//!
//! Redirects are not followed: what is asked goes to the host that the configuration names, and nowhere else.
//! No error quotes a URL or a body, which have tokens in them.

use crate::docket::Reply;
use crate::token::{ANSWER_BYTES_MAX, Remote};
use crate::trust;
use http::Request;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::io;
use std::time::Duration;

/// How long a connection is kept without a request. Servers close theirs after five seconds or more, and one
/// that is closed in the moment it is used again costs a client its answer.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// See the module. Clones share their connections.
#[derive(Clone)]
pub(super) struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

impl Client {
    /// # Errors
    /// When there is no authority that could vouch for the judge.
    pub(super) fn new(remote: &Remote) -> io::Result<Self> {
        let timing = remote.timing();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(remote)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(timing.concurrency_max)
            .build(https);
        Ok(Self { inner, timeout: Duration::from_millis(timing.timeout_ms) })
    }

    /// Status and body of the answer, or why there is none in time.
    pub(super) async fn ask(self, request: Request<String>) -> Reply {
        let exchange = async {
            let response =
                self.inner.request(request.map(Full::from)).await.map_err(|error| cause(&error))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")
                } else {
                    cause(&*error)
                }
            })?;
            Ok((status, body.to_bytes().into()))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(format!("no answer within {} ms", self.timeout.as_millis())),
        }
    }
}

/// The settings of its TLS: the certificates of `ca_file`, or else the authorities of the system.
fn tls(remote: &Remote) -> io::Result<ClientConfig> {
    if let Some(config) = remote.trusted() {
        return Ok(ClientConfig::clone(config));
    }
    let roots = match remote.is_https() {
        true => authorities_of_the_system(remote.host())?,
        false => RootCertStore::empty(),
    };
    trust::signed_by(roots).map_err(io::Error::other)
}

fn authorities_of_the_system(host: &str) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(io::Error::other(format!(
            "there are no certificates of authorities on this system, so nobody can vouch for {host}: install \
             ca-certificates, or name a ca_file"
        )));
    }
    Ok(roots)
}

/// What an error comes from: the layers below the first, which only says that there was one.
fn cause(error: &dyn Error) -> String {
    let layers: Vec<String> =
        std::iter::successors(error.source(), |&error| error.source()).map(ToString::to_string).collect();
    if layers.is_empty() { error.to_string() } else { layers.join(": ") }
}
