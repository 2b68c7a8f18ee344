//! The HTTP client of the bridge, for remote verifiers and webhooks: HTTP/1.1, over TLS if the URL
//! says so, with connections kept for reuse.
//!
//! Redirects are not followed: tokens and events go to the host that the configuration names, and
//! nowhere else. No error quotes a URL or a body, which contain tokens.

use crate::service::HttpReply;
use crate::token::ANSWER_BYTES_MAX;
use crate::trust;
use http::response::Parts;
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

/// Longest time that an idle connection is kept. Servers close theirs after five seconds or more,
/// and one that is closed at the moment of its reuse costs a client its answer.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// An HTTP client. Clones share their connections.
#[derive(Clone)]
pub(in crate::io) struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    /// A client with this configuration of TLS, which keeps at most `kept_max` idle connections per
    /// host.
    pub(in crate::io) fn new(tls: ClientConfig, kept_max: usize) -> Self {
        let mut http = HttpConnector::new();
        // The connector gets https URLs too; TLS is put on top of it.
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

    /// Sends a request. Returns status and body of the answer, or why there is none in time. An
    /// unwanted body is read and dropped.
    pub(in crate::io) async fn send(
        self,
        request: Request<String>,
        timeout: Duration,
        wants_body: bool,
    ) -> HttpReply {
        let (head, body) = self.exchange(request, timeout, wants_body).await?;
        Ok((head.status.as_u16(), body))
    }

    /// Sends a request like [`Client::send`]. Returns the head of the answer too.
    pub(super) async fn exchange(
        self,
        request: Request<String>,
        timeout: Duration,
        wants_body: bool,
    ) -> Result<(Parts, Vec<u8>), String> {
        let deadline = Instant::now() + timeout;
        let (head, body) = until(deadline, timeout, self.head(request)).await?.into_parts();

        let body = Limited::new(body, ANSWER_BYTES_MAX).collect();
        if !wants_body {
            // Read to its end, or the connection could not be used again.
            let _ = tokio::time::timeout_at(deadline.into(), body).await;
            return Ok((head, Vec::new()));
        }

        let body = async { body.await.map_err(|error| of_body(&*error)) };
        let body = until(deadline, timeout, body).await?;
        Ok((head, body.to_bytes().into()))
    }

    async fn head(&self, request: Request<String>) -> Result<Response<Incoming>, String> {
        self.inner.request(request.map(Full::from)).await.map_err(|error| cause(&error))
    }
}

/// Why a body could not be read.
fn of_body(error: &(dyn Error + Send + Sync + 'static)) -> String {
    if error.is::<LengthLimitError>() {
        return format!("its answer is longer than {ANSWER_BYTES_MAX} bytes");
    }
    cause(error)
}

/// The outcome of an exchange that must end by `deadline`, `timeout` after its start.
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

/// TLS that trusts the system's certificate authorities; without a host to reach, it trusts none.
///
/// # Errors
/// When the system has no certificate authorities to verify `host` with.
pub(in crate::io) fn tls_of_the_system(host: Option<&str>) -> io::Result<ClientConfig> {
    let roots = match host {
        Some(host) => authorities_of_the_system(host)?,
        // Plain HTTP: reading the system's certificates takes milliseconds, and some containers
        // have none.
        None => RootCertStore::empty(),
    };
    trust::signed_by(roots).map_err(io::Error::other)
}

fn authorities_of_the_system(host: &str) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // Stores of systems hold some certificates that rustls cannot read; the others serve.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(io::Error::other(format!(
            "this system has no CA certificates to verify {host} with: install ca-certificates, or \
             name a ca_file if it is a verifier"
        )));
    }
    Ok(roots)
}

/// The cause of an error: the layers below the first, which says only that there was an error.
fn cause(error: &dyn Error) -> String {
    let layers: Vec<String> = std::iter::successors(error.source(), |&error| error.source())
        .map(ToString::to_string)
        .collect();
    if layers.is_empty() { error.to_string() } else { layers.join(": ") }
}
