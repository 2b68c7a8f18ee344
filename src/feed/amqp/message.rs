//! One message of the bus, and whom it is for.

use super::{BODY_BYTES_MAX, ExchangeType};
use crate::dialect::{Addressed, RequiredAcl, Scope, Unusable, event_name};
use crate::event::Event;
use crate::frame::Draft;
use smallvec::SmallVec;

/// Starts the headers that name a user.
const USER: &str = "user_uuid:";
/// Stands for every user.
const EVERYONE: &str = "*";

/// What a header says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmqpHeader<'a> {
    /// UTF-8.
    Text(&'a str),
    /// Yes or no.
    Bool(bool),
    /// Nothing, and says so.
    Null,
    /// Anything else.
    Other,
}

/// A message as the broker delivers it.
#[derive(Clone, Debug, Default)]
pub struct AmqpMessage<'a> {
    /// Names and values; a name comes once.
    pub headers: SmallVec<[(&'a str, AmqpHeader<'a>); 12]>,
    /// What clients get, byte for byte.
    pub body: &'a [u8],
    /// Whether its headers could not be read, so that there are none.
    pub is_refused: bool,
}

impl<'a> AmqpMessage<'a> {
    /// Refuses headers that could not be read, and a body that is too long to be passed on.
    pub(in crate::feed) fn check(&self) -> Result<(), Unusable> {
        if self.is_refused {
            return Err(Unusable(
                "its headers are longer than a frame (frame_max in feed.amqp.url), nested too deep, or not UTF-8".into(),
            ));
        }
        if self.body.len() <= BODY_BYTES_MAX {
            return Ok(());
        }
        Err(Unusable(format!(
            "the body has {} bytes; at most {BODY_BYTES_MAX} are taken",
            self.body.len()
        )))
    }

    /// Fills `draft` with the event in the body, addressed as its exchange has it.
    pub(in crate::feed) fn publish(
        &self,
        exchange: ExchangeType,
        event: &Event<'_, '_>,
        draft: &mut Draft,
    ) -> Result<(), Unusable> {
        match exchange {
            ExchangeType::Topic => Addressed::by_body(event, None)?.publish(event, draft),
            ExchangeType::Headers => self.publish_by_headers(event, draft),
        }
    }

    fn publish_by_headers(&self, event: &Event<'_, '_>, draft: &mut Draft) -> Result<(), Unusable> {
        let name = self.text("name").or_else(|| event_name(event)).ok_or_else(|| {
            Unusable("the event has no name, neither as a header nor in its body".into())
        })?;
        let users: SmallVec<[&str; 8]> = self.users().filter(|user| *user != EVERYONE).collect();
        let everyone = self.users().any(|user| user == EVERYONE);
        let scope = Scope { tenant: self.text("tenant_uuid"), everyone, users: &users };
        let required_acl = self.required_acl()?;
        Addressed { name, required_acl, scope: Some(scope) }.publish(event, draft)
    }

    fn required_acl(&self) -> Result<RequiredAcl<'a>, Unusable> {
        match self.get("required_acl") {
            None => Ok(RequiredAcl::Missing),
            Some(AmqpHeader::Null) => Ok(RequiredAcl::Nothing),
            Some(AmqpHeader::Text(text)) => Ok(RequiredAcl::Text(text)),
            Some(_) => Err(Unusable("the header \"required_acl\" must be a string or null".into())),
        }
    }

    /// The users for whom a header says that the event is for them.
    fn users(&self) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(|(_, value)| *value == AmqpHeader::Bool(true));
        named.filter_map(|(name, _)| name.strip_prefix(USER))
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        match self.get(name) {
            Some(AmqpHeader::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn get(&self, name: &str) -> Option<AmqpHeader<'a>> {
        self.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Kind;
    use crate::feed::Intake;
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
        let taken = Intake::new(vec![Kind::Wazo], Arc::default()).take_message(
            &message,
            exchange,
            Now::default(),
        );
        let publication =
            taken.map_err(|rejection| rejection.to_string())?.expect("wazo is spoken");
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
    fn a_good_message_that_nobody_is_there_for_is_no_mistake() {
        let message = AmqpMessage {
            headers: [("name", AmqpHeader::Text("x"))].into_iter().collect(),
            body: b"{}",
            is_refused: false,
        };
        let taken = Intake::new(vec![], Arc::default()).take_message(
            &message,
            ExchangeType::Headers,
            Now::default(),
        );
        assert!(taken.unwrap().is_none());
    }
}
