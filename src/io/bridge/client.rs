//! The HTTP client of the bridge, for remote verifiers and for the webhook: HTTP/1.1, over TLS if the URL says so, connections kept and used again.
//!
//! Redirects are not followed: what is asked or told goes to the host that the configuration names, and nowhere else.
//! No error quotes a URL or a body, which have tokens in them.

use crate::service::HttpReply;
use crate::token::ANSWER_BYTES_MAX;
use crate::trust;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

/// How long a connection is kept without a request. Servers close theirs after five seconds or more, and one
/// that is closed in the moment it is used again costs a client its answer.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// See the module. Clones share their connections.
#[derive(Clone)]
pub(super) struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    /// A client that speaks TLS by this configuration, and keeps so many connections to a host.
    pub(super) fn new(tls: ClientConfig, kept_max: usize) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(kept_max)
            .build(https);
        Self { inner }
    }

    /// Status and body of the answer, or why there is none in time. Where no body is wanted it is read to its end for
    /// the sake of the connection, which is closed when that is long in coming.
    pub(super) async fn send(
        self,
        request: Request<String>,
        timeout: Duration,
        wants_body: bool,
    ) -> HttpReply {
        let deadline = Instant::now() + timeout;
        let response = until(deadline, timeout, self.head(request)).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        if !wants_body {
            let _ = tokio::time::timeout_at(deadline.into(), body).await;
            return Ok((status, Vec::new()));
        }
        let body = async { body.await.map_err(|error| of_body(&*error)) };
        let body = until(deadline, timeout, body).await?;
        Ok((status, body.to_bytes().into()))
    }

    async fn head(&self, request: Request<String>) -> Result<Response<Incoming>, String> {
        self.inner.request(request.map(Full::from)).await.map_err(|error| cause(&error))
    }
}

/// Why a body has not come.
fn of_body(error: &(dyn Error + Send + Sync + 'static)) -> String {
    if error.is::<LengthLimitError>() {
        return format!("its answer is longer than {ANSWER_BYTES_MAX} bytes");
    }
    cause(error)
}

/// What an exchange comes to that began so long before the deadline.
async fn until<T>(
    deadline: Instant,
    timeout: Duration,
    exchange: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match tokio::time::timeout_at(deadline.into(), exchange).await {
        Ok(reply) => reply,
        Err(_) => Err(format!("no answer within {} ms", timeout.as_millis())),
    }
}

/// TLS with whoever an authority of the system vouches for; with nobody where no host is named.
///
/// # Errors
/// When there is no authority that could vouch for the host.
pub(super) fn tls_of_the_system(host: Option<&str>) -> io::Result<ClientConfig> {
    let roots = match host {
        Some(host) => authorities_of_the_system(host)?,
        None => RootCertStore::empty(),
    };
    trust::signed_by(roots).map_err(io::Error::other)
}

fn authorities_of_the_system(host: &str) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(io::Error::other(format!(
            "there are no certificates of authorities on this system, so nobody can vouch for {host}: install \
             ca-certificates, or name a ca_file if it is a verifier"
        )));
    }
    Ok(roots)
}

/// What an error comes from: the layers below the first, which only says that there was one.
fn cause(error: &dyn Error) -> String {
    let layers: Vec<String> = std::iter::successors(error.source(), |&error| error.source())
        .map(ToString::to_string)
        .collect();
    if layers.is_empty() { error.to_string() } else { layers.join(": ") }
}
