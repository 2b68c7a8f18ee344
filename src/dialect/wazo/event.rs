//! An event's receivers, and how a publication carries them to the sessions' filter.
//!
//! A feed states an event's receivers by the body alone, by the feed's address, or by a broker's
//! headers. All become an [`Addressed`], which with the event's bytes makes a publication: the name
//! is its topic, and what the filter needs for each candidate is stored beside it, so that nothing
//! is parsed again.

use super::pattern::TEXT_BYTES_MAX;
use crate::dialect::Unusable;
use crate::event::{Event, TypedScalarValue as _, Value, ValueIntoString as _, last};
use crate::frame::{Draft, Publication};

/// The byte that starts this dialect's topics.
pub(super) const TOPIC: u8 = b'w';
/// The event that announces the end of a session of the authentication service.
pub(super) const SESSION_DELETED: &str = "auth_session_deleted";

/// Longest uuid of a tenant, a user or a session, in bytes; real ones have 36 characters.
pub(super) const ID_BYTES_MAX: usize = 255;
/// Most users that one event names. A conference or a group of a thousand is more than one Wazo
/// serves; each filter goes through them.
const USERS_MAX: usize = 1000;

/// What an event requires of a token's access control list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredAcl<'a> {
    /// Nothing is said: nobody gets it.
    Missing,
    /// Said to be null: nothing is required.
    Nothing,
    /// A match with this text.
    Text(&'a str),
}

impl<'a> RequiredAcl<'a> {
    /// Reads the value of `required_acl`, or its absence.
    ///
    /// # Errors
    /// When it is neither text nor null.
    pub fn read(value: Option<Value<'_, 'a>>) -> Result<Self, Unusable> {
        match value {
            None => Ok(Self::Missing),
            Some(value) if value.is_null() => Ok(Self::Nothing),
            Some(value) => value
                .into_string()
                .map(Self::Text)
                .ok_or_else(|| Unusable("\"required_acl\" must be a string or null".into())),
        }
    }
}

/// The users that an event is for; an event without a scope is for all who may have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The tenant that it belongs to; without one only the master tenant gets it.
    pub tenant: Option<&'a str>,
    /// Whether it is for every user of the tenant.
    pub everyone: bool,
    /// The users of the tenant that it is for.
    pub users: &'a [&'a str],
}

/// The receivers of an event. Its origin is not here: feeds select events of the right origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressed<'a> {
    /// The name that sessions subscribe to.
    pub name: &'a str,
    /// The required access.
    pub required_acl: RequiredAcl<'a>,
    /// The users that it is for, if the feed names any.
    pub scope: Option<Scope<'a>>,
}

impl<'a> Addressed<'a> {
    /// An event whose body has everything but the users.
    ///
    /// # Errors
    /// When the body has no name, or an unusable `required_acl`.
    pub fn by_body(event: &Event<'_, 'a>, scope: Option<Scope<'a>>) -> Result<Self, Unusable> {
        let name = name(event).ok_or_else(|| {
            Unusable(
                "the event has no name: write {\"name\":\"…\",\"required_acl\":…,\"data\":…}"
                    .into(),
            )
        })?;
        Ok(Self { name, required_acl: RequiredAcl::read(event.last("required_acl"))?, scope })
    }

    /// Fills `draft` with the address, the filter's data, and the event in both forms: verbatim,
    /// and as version 2 of the protocol wraps it.
    ///
    /// # Errors
    /// When a part does not fit.
    pub fn publish(&self, event: &Event<'_, '_>, draft: &mut Draft) -> Result<(), Unusable> {
        // It would end the topic, and the event be another name's.
        if self.name.contains('\0') {
            return Err(Unusable("the event's name has a NUL character".into()));
        }

        // Only this event has a facet; all others match by their name alone.
        let deleted = if self.name == SESSION_DELETED { deleted_session(event) } else { None };
        let facet = deleted.map(|uuid| [uuid.as_bytes(), b"\0"].concat()).unwrap_or_default();
        draft.address(&[&[TOPIC], self.name.as_bytes(), b"\0"], &facet);

        self.describe(draft)?;
        draft.text(|payload| payload.extend_from_slice(event.json));
        draft.text(|payload| {
            // The spaces are those of Python's json module, as in the original.
            payload.extend_from_slice(br#"{"op": "event", "code": 0, "data": "#);
            payload.extend_from_slice(event.json);
            payload.push(b'}');
        });
        Ok(())
    }

    /// Stores what [`EventTarget::of`] reads: the flags, then texts, each after its length.
    fn describe(&self, draft: &mut Draft) -> Result<(), Unusable> {
        let scope = self.scope.unwrap_or_default();
        let (acl, acl_flag) = match self.required_acl {
            RequiredAcl::Missing => ("", 0),
            RequiredAcl::Nothing => ("", OPEN),
            RequiredAcl::Text(text) => (text, GUARDED),
        };
        let scope_flag = if self.scope.is_some() { SCOPED } else { 0 };
        let everyone_flag = if scope.everyone { EVERYONE } else { 0 };
        if scope.users.len() > USERS_MAX {
            return Err(Unusable(format!("the event is for more than {USERS_MAX} users by name")));
        }

        draft.meta(&[acl_flag | scope_flag | everyone_flag]);
        put("required_acl", acl, TEXT_BYTES_MAX, draft)?;
        put("the tenant", scope.tenant.unwrap_or(""), ID_BYTES_MAX, draft)?;
        scope.users.iter().try_for_each(|user| put("a user", user, ID_BYTES_MAX, draft))
    }
}

/// The event's name in its body.
#[must_use]
pub fn name<'a>(event: &Event<'_, 'a>) -> Option<&'a str> {
    event.last("name")?.into_string()
}

/// The session whose end the event announces. A uuid with a NUL would match sessions whose uuid is
/// the part before it.
fn deleted_session<'a>(event: &Event<'_, 'a>) -> Option<&'a str> {
    let uuid = last(&event.last("data")?.as_object()?, "uuid")?.into_string()?;
    (!uuid.is_empty() && !uuid.contains('\0')).then_some(uuid)
}

/// `required_acl` is null.
const OPEN: u8 = 1;
/// `required_acl` is a text.
const GUARDED: u8 = 2;
/// Tenant and users restrict the receivers.
const SCOPED: u8 = 4;
/// Every user of the tenant.
const EVERYONE: u8 = 8;

fn put(what: &str, text: &str, bytes_max: usize, draft: &mut Draft) -> Result<(), Unusable> {
    match u8::try_from(text.len()) {
        Ok(length) if text.len() <= bytes_max => {
            draft.meta(&[length]);
            draft.meta(text.as_bytes());
            Ok(())
        }
        _ => {
            Err(Unusable(format!("{what} has {} bytes; at most {bytes_max} are taken", text.len())))
        }
    }
}

/// The filter's data of a publication.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventTarget<'p> {
    flags: u8,
    required_acl: &'p [u8],
    tenant: &'p [u8],
    users: &'p [u8],
}

impl<'p> EventTarget<'p> {
    /// Reads what [`Addressed::publish`] has stored.
    pub(super) fn of(publication: &'p Publication) -> Option<Self> {
        let (flags, rest) = publication.meta().split_first()?;
        let (required_acl, rest) = take(rest)?;
        let (tenant, users) = take(rest)?;
        Some(Self { flags: *flags, required_acl, tenant, users })
    }

    /// Whether it requires nothing.
    pub(super) fn is_open(&self) -> bool {
        self.flags & OPEN != 0
    }

    /// The text that a list must match; an event without it that is not open either is for nobody.
    pub(super) fn required_acl(&self) -> Option<&'p [u8]> {
        (self.flags & GUARDED != 0).then_some(self.required_acl)
    }

    /// Whether tenant and users restrict the receivers.
    pub(super) fn is_scoped(&self) -> bool {
        self.flags & SCOPED != 0
    }

    pub(super) fn is_of_tenant(&self, tenant: &str) -> bool {
        // A token without a tenant is of none, not of the empty one.
        !tenant.is_empty() && self.tenant == tenant.as_bytes()
    }

    pub(super) fn is_for_user(&self, user: &str) -> bool {
        self.flags & EVERYONE != 0 || (!user.is_empty() && self.names(user))
    }

    fn names(&self, user: &str) -> bool {
        let mut rest = self.users;
        while let Some((named, more)) = take(rest) {
            if named == user.as_bytes() {
                return true;
            }
            rest = more;
        }
        false
    }
}

/// A text and the bytes after it.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}
