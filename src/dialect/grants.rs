//! What a token lets its bearer do in each dialect, in words, for an operator who asks before a client does.
//!
//! The dialects decide by the same claims; `tests/world/grants.rs` holds these words against what they do.

use super::wazo::{self, Acl, Who};
use super::{Kind, Settings, channel, pulsar};
use crate::token::Grant;

/// What a token that its verifier has found good lets its bearer do, or why it opens no session all the same.
///
/// # Errors
/// What the dialect misses in it.
pub fn granted(kind: Kind, grant: &Grant, settings: &Settings) -> Result<String, String> {
    match kind {
        Kind::PersoniumEvent => events(grant),
        Kind::PersoniumTopic => topics(grant),
        Kind::Channel => channel::place_of(grant, &settings.channel),
        Kind::Echo => Ok("everything: the clients of echo have no tokens".into()),
        Kind::Pulsar => pulsar(grant, &settings.pulsar),
        Kind::Wazo => bus(grant),
        #[cfg(feature = "conformance")]
        Kind::Mirror => Ok("everything: a mirror asks for none".into()),
    }
}

/// The cells that a token is for, as it names them.
fn cells(grant: &Grant) -> Result<String, String> {
    let named = ["aud", "iss"].into_iter().filter_map(|claim| grant.list(claim)).flatten();
    let named: Vec<&str> = named.collect();
    match named.is_empty() {
        true => Err("it names no cell: aud or iss has to be the cell's name or URL".into()),
        false => Ok(named.join(" and ")),
    }
}

/// Whether some of these words is in the scope.
fn may(grant: &Grant, wanted: &[&str]) -> bool {
    grant.words("scope").any(|word| wanted.contains(&word))
}

fn events(grant: &Grant) -> Result<String, String> {
    if !may(grant, &["root", "event", "event-read"]) {
        return Err("its scope has neither event-read nor event nor root".into());
    }
    let cells = cells(grant)?;
    let publishes = if may(grant, &["root", "event"]) { "receive and publish" } else { "receive" };
    let narrow: Vec<String> = [("event_types", "types"), ("event_objects", "objects")]
        .into_iter()
        .filter_map(|(claim, of)| Some(format!("{of} that begin with {}", of_list(&grant.list(claim)?))))
        .collect();
    let narrow = if narrow.is_empty() { String::new() } else { format!(", only {}", narrow.join(" and ")) };
    Ok(format!("{publishes} events of the cell {cells}{narrow}"))
}

fn topics(grant: &Grant) -> Result<String, String> {
    if !(may(grant, &["all"]) || (may(grant, &["read"]) && may(grant, &["stream-receive"]))) {
        return Err("its scope has neither read with stream-receive nor all".into());
    }
    let cells = cells(grant)?;
    let narrow = grant.list("topics").map(|globs| format!(" that match {}", of_list(&globs)));
    Ok(format!("follow topics of the cell {cells}{}", narrow.unwrap_or_default()))
}

fn of_list(words: &[&str]) -> String {
    if words.is_empty() { "nothing at all".into() } else { words.join(", ") }
}

fn bus(grant: &Grant) -> Result<String, String> {
    let list = grant.list("acl").ok_or("it has no acl")?;
    let acl = Acl::new(&list).ok_or("its acl has a pattern that cannot be read, or too many")?;
    let text = |claim: &str| grant.text(claim).unwrap_or("");
    if ["sub", "session_uuid", "tenant_uuid"].iter().any(|claim| text(claim).len() > wazo::ID_BYTES_MAX) {
        return Err(format!(
            "its sub, session_uuid or tenant_uuid is longer than {} bytes",
            wazo::ID_BYTES_MAX
        ));
    }
    let who = Who { user: text("sub"), session: text("session_uuid") };
    if !acl.allows(wazo::ACCESS, who) {
        return Err("its acl does not allow websocketd".into());
    }
    Ok(format!("receive events whose required_acl matches {}", of_list(&list)))
}

fn pulsar(grant: &Grant, settings: &pulsar::PulsarSettings) -> Result<String, String> {
    let verbs = [("produce", "pulsar_produce"), ("consume", "pulsar_consume"), ("read", "pulsar_read")];
    if verbs.iter().all(|(_, claim)| grant.list(claim).is_none()) {
        return match settings.default_rights {
            pulsar::DefaultRights::All => Ok("produce, consume and read, all topics (pulsar.default_rights)".into()),
            pulsar::DefaultRights::None => {
                Err("it has none of pulsar_produce, pulsar_consume and pulsar_read, and pulsar.default_rights is none".into())
            }
        };
    }
    let each = verbs.iter().filter_map(|(verb, claim)| Some((verb, grant.list(claim)?)));
    let each: Vec<String> = each.map(|(verb, globs)| format!("{verb} {}", of_list(&globs))).collect();
    Ok(each.join("; "))
}
