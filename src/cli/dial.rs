//! Where a client's URL leads, and the WebSocket that is opened there, with TLS or without.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use tungstenite::{
    Error, HandshakeError, WebSocket,
    client::IntoClientRequest as _,
    http::{HeaderValue, StatusCode, Uri},
    stream::MaybeTlsStream,
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::{CliError, error::printable, trust::Trust};

/// How long one address may take to answer the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Characters of a server's own advice that are shown.
const ADVICE_CHARS_MAX: usize = 200;

/// Characters of a host's name that are shown.
const HOST_CHARS_MAX: usize = 253;

/// Where to connect.
#[derive(Debug, PartialEq)]
pub(super) struct DialTarget {
    uri: Uri,
    host: String,
    port: u16,
    /// Whether the URL asks for TLS.
    pub(super) is_tls: bool,
    /// The URL as it may be shown: without user and query.
    pub(super) shown: String,
}

impl DialTarget {
    pub(super) fn parse(url: &str) -> Result<Self, CliError> {
        let unusable = |why: &str| {
            CliError::usage(format!("{why}; a URL looks like ws://localhost:8080/john.doe/__event"))
        };
        let uri: Uri =
            url.parse().map_err(|error| unusable(&format!("this is no URL ({error})")))?;
        let (scheme, port) = match uri.scheme_str() {
            Some("ws") => ("ws", 80),
            Some("wss") => ("wss", 443),
            Some("http") => return Err(unusable("write ws:// instead of http://")),
            Some("https") => return Err(unusable("write wss:// instead of https://")),
            _ => return Err(unusable("the URL must begin with ws:// or wss://")),
        };
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| unusable("the URL has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(port);
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        // A password in the URL is not shown.
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let shown = format!("{scheme}://{authority}{}", uri.path());
        Ok(DialTarget { host, port, is_tls: scheme == "wss", shown, uri })
    }

    /// The path of the URL.
    pub(super) fn path(&self) -> &str {
        self.uri.path()
    }
}

/// Connects, and upgrades the connection to a WebSocket. A token goes into the request's header, as
/// Wazo reads it.
pub(super) fn connect(
    target: &DialTarget,
    trust: &Trust,
    token: Option<&str>,
) -> Result<WebSocket<MaybeTlsStream<TcpStream>>, CliError> {
    let stream = connect_tcp(target)?;
    let refused = |error: Error| refusal(target, &error);
    // A peer that vanishes without a word is found out by the kernel, within about two hours.
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT)))
        .and_then(|()| Ok(rustix::net::sockopt::set_socket_keepalive(&stream, true)?));
    prepared.map_err(|error| refused(error.into()))?;
    let stream = match target.is_tls {
        true => MaybeTlsStream::Rustls(secure(stream, target, trust)?),
        false => MaybeTlsStream::Plain(stream),
    };
    let mut request = target.uri.clone().into_client_request().map_err(refused)?;
    // Wazo alone reads it there; other protocols have it in the URL or say it.
    if let Some(token) = token {
        let value = HeaderValue::from_str(token);
        let value = value
            .map_err(|_| CliError::usage("the token has characters that no request can carry"))?;
        request.headers_mut().insert("X-Auth-Token", value);
    }
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(error)) => Err(refused(error)),
        // A blocking socket is interrupted by its timeout alone.
        Err(HandshakeError::Interrupted(_)) => {
            Err(silence(target, "WebSocket", "is it a WebSocket server?"))
        }
    }
}

fn silence(target: &DialTarget, handshake: &str, advice: &str) -> CliError {
    let seconds = HANDSHAKE_TIMEOUT.as_secs();
    CliError::try_again(format!(
        "{} did not answer the {handshake} handshake within {seconds} s; {advice}",
        target.shown
    ))
}

/// Makes the TLS handshake.
fn secure(
    mut stream: TcpStream,
    target: &DialTarget,
    trust: &Trust,
) -> Result<StreamOwned<ClientConnection, TcpStream>, CliError> {
    let failed = |error: &dyn std::fmt::Display, advice: &str| {
        CliError::new(format!("no TLS with {}: {error}; {advice}", target.shown))
    };
    let name = ServerName::try_from(target.host.clone())
        .map_err(|error| failed(&error, "write the name or address that its certificate is for"))?;
    let mut tls = ClientConnection::new(trust.config()?, name)
        .map_err(|error| failed(&error, "see the URL and the options"))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => silence(target, "TLS", "is it a listener with TLS?"),
            _ => failed(&error, trust.advice(&error, tls.protocol_version().is_some())),
        })?;
    }
    Ok(StreamOwned::new(tls, stream))
}

/// The socket below a stream, for its timeouts.
pub(super) fn socket(stream: &MaybeTlsStream<TcpStream>) -> Option<&TcpStream> {
    match stream {
        MaybeTlsStream::Plain(socket) => Some(socket),
        MaybeTlsStream::Rustls(stream) => Some(&stream.sock),
        _ => None,
    }
}

fn connect_tcp(target: &DialTarget) -> Result<TcpStream, CliError> {
    let (host, port) = (target.host.as_str(), target.port);
    let addresses = (host, port).to_socket_addrs().map_err(|error| {
        CliError::new(format!(
            "the host \"{}\" is not known ({error})",
            printable(host, HOST_CHARS_MAX)
        ))
    })?;
    connect_to(addresses).map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => CliError::try_again(format!(
            "nothing listens on {host} port {port}: is the daemon running? start it with `fanfare \
             serve`, or check the port against [[listen]]"
        )),
        ErrorKind::TimedOut => {
            CliError::try_again(format!("{host} port {port} does not answer: {error}"))
        }
        _ => CliError::new(format!("cannot connect to {host} port {port}: {error}")),
    })
}

/// Connects to the first of a host's addresses that takes the connection; of none the last one's
/// error.
pub(super) fn connect_to(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "the host has no address");
    // A name may have an IPv6 address on which nothing listens.
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Why the handshake failed.
fn refusal(target: &DialTarget, error: &Error) -> CliError {
    let shown = &target.shown;
    let Error::Http(response) = error else {
        return CliError::new(format!(
            "{shown} does not complete a WebSocket handshake ({error}); is the port right?"
        ));
    };
    let status = response.status();
    let advice = match status {
        StatusCode::NOT_FOUND => {
            "no dialect of this listener takes the path; check the URL and [[listen]] dialects"
        }
        StatusCode::UNAUTHORIZED => {
            "no token was given, or one that is expired or signed with another secret; `fanfare \
             token --check` tells which"
        }
        StatusCode::FORBIDDEN => {
            "the token is good but does not allow this; `fanfare token --check` tells what it does"
        }
        StatusCode::UPGRADE_REQUIRED => "it speaks another version of WebSocket",
        StatusCode::SERVICE_UNAVAILABLE => "it is full or stopping; try again",
        status if status.is_redirection() => {
            "it points elsewhere, and redirections are not followed"
        }
        // The daemon says it in a line; a page of another server is no advice.
        _ => match response.body().as_deref().map(str::from_utf8) {
            Some(Ok(said)) if said.lines().count() == 1 => said.trim_end(),
            _ => "see its log",
        },
    };
    let advice = printable(advice, ADVICE_CHARS_MAX);
    let message = format!("{shown} refused the WebSocket with HTTP status {status}: {advice}");
    match status {
        StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::BAD_GATEWAY
        | StatusCode::TOO_MANY_REQUESTS => CliError::try_again(message),
        _ => CliError::new(message),
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::CliStatus;
    use super::*;

    #[test]
    fn a_refused_handshake_says_whether_the_token_is_bad_or_not_for_this_and_whether_to_come_again()
    {
        let target =
            DialTarget::parse("ws://localhost:8080/ws/v2/consumer/persistent/a/b/c/s").unwrap();
        let told = |status: StatusCode| {
            let response = tungstenite::http::Response::builder().status(status);
            refusal(
                &target,
                &Error::Http(Box::new(response.body(Some(b"Sorry.\n".to_vec())).unwrap())),
            )
        };
        let bad = told(StatusCode::UNAUTHORIZED);
        assert!(bad.to_string().contains("expired") && bad.status() == CliStatus::Failure, "{bad}");
        let other = told(StatusCode::FORBIDDEN);
        assert!(other.to_string().contains("does not allow this"), "{other}");
        let many = told(StatusCode::TOO_MANY_REQUESTS);
        assert!(
            many.to_string().ends_with(": Sorry.") && many.status() == CliStatus::TryAgain,
            "{many}"
        );
    }

    #[test]
    fn a_url_tells_host_port_and_path_and_is_shown_without_secrets() {
        let target =
            DialTarget::parse("ws://ann:pw@localhost:8080/john.doe/__event/?token=t").unwrap();
        assert_eq!((target.host.as_str(), target.port), ("localhost", 8080));
        assert_eq!(target.path(), "/john.doe/__event/");
        assert_eq!(target.shown, "ws://localhost:8080/john.doe/__event/");
        let target = DialTarget::parse("ws://[::1]/x__event").unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 80));
        let error = |url| DialTarget::parse(url).unwrap_err().to_string();
        let target = DialTarget::parse("wss://localhost/").unwrap();
        assert_eq!(
            (target.port, target.is_tls, &target.shown[..]),
            (443, true, "wss://localhost/")
        );
        assert!(error("https://localhost/").contains("wss://"));
        assert!(error("http://localhost/").contains("ws://"));
        assert!(error("localhost:8080/a").contains("ws://"));
        assert!(error("localhost").contains("ws://"));
        assert!(!error("ws://localhost/a b?token=hunter2").contains("hunter2"));
    }
}
