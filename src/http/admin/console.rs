//! `/console`: one page for operators, with all that it needs inside.
//!
//! It holds nothing about the daemon, so it needs no token; what it shows it asks the API for, with
//! the token that is typed into it. Its policy lets in no script and no style but its own, by their
//! digests, and nothing from elsewhere: what a client calls itself must not become code in an
//! operator's browser.

use super::access::{self, AdminTokens};
use super::request::AdminRequest;
use crate::dialect::Kind;
use crate::digest::sha256;
use crate::http::response::{TEXT, response};
use crate::text::put_base64;
use std::sync::LazyLock;

/// The page, made once.
static PAGE: LazyLock<Vec<u8>> = LazyLock::new(page);

/// The response to a request for the page.
pub(super) fn answer(request: &AdminRequest<'_>, tokens: &AdminTokens) -> Vec<u8> {
    if access::is_known_host(request.host, tokens) {
        return PAGE.clone();
    }
    // Before a token is typed into a page that another site has pointed at this daemon.
    let reason = "The console is at the IP addresses of this listener, at localhost, and at the \
                  names in console_hosts of [admin].\n";
    response(421, "", TEXT, reason)
}

fn page() -> Vec<u8> {
    let kinds: Vec<_> = Kind::ALL.iter().map(|kind| (kind.name(), kind.feed().word)).collect();
    let kinds = serde_json::to_string(&kinds).unwrap_or_default();
    let script = include_str!("console/page.js").replace("/*kinds*/ []", &kinds);
    let style = include_str!("console/page.css");
    let page = include_str!("console/page.html")
        .replace("/*style*/", style)
        .replace("/*script*/", &script);
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source(&script),
        source(style)
    );
    let headers = format!(
        "Content-Security-Policy: {policy}\r\nX-Content-Type-Options: nosniff\r\n\
         Referrer-Policy: no-referrer\r\nCross-Origin-Opener-Policy: same-origin\r\n\
         Cache-Control: no-store\r\n"
    );
    response(200, &headers, "text/html; charset=utf-8", &page)
}

/// What a policy calls an inline text by (Content Security Policy Level 3, section 2.3.1).
fn source(text: &str) -> String {
    let mut source = b"sha256-".to_vec();
    put_base64(&sha256(text.as_bytes()), &mut source);
    String::from_utf8_lossy(&source).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_fetches_nothing_from_elsewhere() {
        let page = String::from_utf8(page()).unwrap();
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("script-src 'sha256-") && !head.contains("unsafe"), "{head}");
        for placeholder in ["/*style*/", "/*script*/", "/*kinds*/"] {
            assert!(!body.contains(placeholder), "{placeholder}");
        }
        assert!(body.contains(r#"["personium-event","event"]"#));
        for elsewhere in
            ["http://", "https://", "src=", "innerHTML", "eval(", " style=", " onclick="]
        {
            assert!(!body.contains(elsewhere), "{elsewhere}");
        }
        assert_eq!(body.matches("<script").count(), 1);
    }

    #[test]
    fn a_name_that_the_operator_has_not_given_is_no_place_to_type_a_token() {
        let tokens =
            AdminTokens { console_hosts: vec!["ops.example".into()], ..Default::default() };
        let status = |host| {
            let request = AdminRequest { host, ..AdminRequest::default() };
            String::from_utf8(answer(&request, &tokens)).unwrap()[9..12].to_owned()
        };
        for good in ["127.0.0.1:9500", "[::1]:9500", "192.0.2.7", "localhost:9500", "ops.example"] {
            assert_eq!(status(good), "200", "{good}");
        }
        for bad in ["evil.example:9500", "127.0.0.1.evil.example", "", "localhost.evil.example"] {
            assert_eq!(status(bad), "421", "{bad}");
        }
    }
}
