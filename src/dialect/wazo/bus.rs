//! Messages of the bus and their receivers: on today's headers exchange these are in the headers,
//! on the former topic exchange in the body.

use super::event::{Addressed, RequiredAcl, Scope, name};
use crate::dialect::Unusable;
use crate::dialect::broker::{AmqpHeader, AmqpMessage};
use crate::event::Event;
use crate::frame::Draft;
use smallvec::SmallVec;

/// The prefix of headers that name a user.
const USER: &str = "user_uuid:";
/// Stands for every user.
const EVERYONE: &str = "*";

/// Fills `draft` with the event in the body of a message.
pub(super) fn publish(
    message: &AmqpMessage<'_>,
    has_headers: bool,
    event: &Event<'_, '_>,
    draft: &mut Draft,
) -> Result<(), Unusable> {
    if !has_headers {
        return Addressed::by_body(event, None)?.publish(event, draft);
    }

    // Wazo sends the name in both; the header needs no parsing.
    let name = message.text("name").or_else(|| name(event)).ok_or_else(|| {
        Unusable("the event has no name, neither as a header nor in its body".into())
    })?;
    let users: SmallVec<[&str; 8]> =
        self::users(message).filter(|user| *user != EVERYONE).collect();
    let everyone = self::users(message).any(|user| user == EVERYONE);
    let scope = Scope { tenant: message.text("tenant_uuid"), everyone, users: &users };
    let required_acl = required_acl(message)?;
    Addressed { name, required_acl, scope: Some(scope) }.publish(event, draft)
}

fn required_acl<'a>(message: &AmqpMessage<'a>) -> Result<RequiredAcl<'a>, Unusable> {
    // Missing and null are opposites: nobody gets the event, or everybody.
    match message.get("required_acl") {
        None => Ok(RequiredAcl::Missing),
        Some(AmqpHeader::Null) => Ok(RequiredAcl::Nothing),
        Some(AmqpHeader::Text(text)) => Ok(RequiredAcl::Text(text)),
        Some(_) => Err(Unusable("the header \"required_acl\" must be a string or null".into())),
    }
}

/// The users that the headers name as receivers.
fn users<'a>(message: &AmqpMessage<'a>) -> impl Iterator<Item = &'a str> {
    let named = message.headers.iter().filter(|(_, value)| *value == AmqpHeader::Bool(true));
    named.filter_map(|(name, _)| name.strip_prefix(USER))
}
