//! Messages of the bus that are refused for every dialect.

use super::BODY_BYTES_MAX;
use crate::dialect::{AmqpMessage, Unusable};

/// Refuses headers that could not be read, and a body that is too long to be passed on.
pub(in crate::feed) fn check(message: &AmqpMessage<'_>) -> Result<(), Unusable> {
    // The screen has replaced the properties: the AMQP client cannot read such headers.
    if message.is_refused {
        return Err(Unusable(
            "its headers are longer than a frame (frame_max in feed.amqp.url), nested too deep, \
             or not UTF-8"
                .into(),
        ));
    }

    if message.body.len() <= BODY_BYTES_MAX {
        return Ok(());
    }
    Err(Unusable(format!(
        "the body has {} bytes; at most {BODY_BYTES_MAX} are taken",
        message.body.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::super::ExchangeType;
    use super::*;
    use crate::dialect::AmqpHeader;
    use crate::dialect::Kind;
    use crate::feed::{Intake, Taken};
    use crate::wheel::Now;
    use std::sync::Arc;

    /// What a message comes to: the topic that it is published under, or the reason why not.
    fn take(
        exchange: ExchangeType,
        headers: &[(&str, AmqpHeader<'_>)],
        body: &[u8],
    ) -> Result<String, String> {
        let message =
            AmqpMessage { headers: headers.iter().copied().collect(), body, is_refused: false };
        let mut publications = Vec::new();
        let taken = Intake::new(vec![Kind::named("wazo").unwrap()], Arc::default()).take_message(
            &message,
            exchange,
            Now::default(),
            &mut |publication| publications.push(publication),
        );
        assert_eq!(taken.map_err(|rejection| rejection.to_string())?, Taken::Published);
        assert_eq!(publications.len(), 1, "wazo is spoken");
        let publication = publications.remove(0);
        assert!(publication.frame(0).ends_with(body), "the body goes on as it came");
        Ok(String::from_utf8_lossy(&publication.topic()[1..]).into_owned())
    }

    #[test]
    fn the_name_is_the_headers_else_the_bodys() {
        let name = [("name", AmqpHeader::Text("of header"))];
        let body = br#"{"name": "of body"}"#;
        assert_eq!(take(ExchangeType::Headers, &name, body).unwrap(), "of header\0");
        assert_eq!(
            take(ExchangeType::Headers, &[("name", AmqpHeader::Other)], body).unwrap(),
            "of body\0"
        );
        assert_eq!(take(ExchangeType::Topic, &name, body).unwrap(), "of body\0");
    }

    #[test]
    fn what_is_no_event_is_refused_with_the_reason() {
        let name = [("name", AmqpHeader::Text("x"))];
        let long = [b"{\"x\":\"", &vec![b'x'; BODY_BYTES_MAX][..], b"\"}"].concat();
        for (headers, body, reason) in [
            (&name[..], &b"no JSON"[..], "not valid JSON"),
            (&name, b"[]", "not an object"),
            (&name, &long, "at most 1048576 are taken"),
            (&[], b"{}", "has no name, neither as a header nor in its body"),
            (&[name[0], ("required_acl", AmqpHeader::Other)], b"{}", "must be a string or null"),
            (
                &[name[0], ("required_acl", AmqpHeader::Bool(true))],
                b"{}",
                "must be a string or null",
            ),
        ] {
            let refused = take(ExchangeType::Headers, headers, body).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        assert!(take(ExchangeType::Topic, &name, b"{}").unwrap_err().contains("has no name"));
    }

    #[test]
    fn without_a_listener_a_message_is_no_mistake_unless_it_is_no_json() {
        let take = |body: &[u8]| {
            let headers = [("name", AmqpHeader::Text("x"))].into_iter().collect();
            Intake::new(vec![], Arc::default()).take_message(
                &AmqpMessage { headers, body, is_refused: false },
                ExchangeType::Headers,
                Now::default(),
                &mut |_| panic!("published"),
            )
        };
        assert_eq!(take(b"{}"), Ok(Taken::NoListener));
        assert!(take(b"no JSON").is_err());
    }
}
