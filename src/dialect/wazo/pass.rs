//! A token's permissions: until when, which accesses, and whose events.
//!
//! A pass is made of any verifier's grant, and is asked once for each candidate of an event.

use super::acl::{ACL_BYTES_MAX, Acl, AclDigest, Acls, PATTERNS_MAX};
use super::event::{EventTarget, ID_BYTES_MAX};
use super::pattern::Who;
use crate::dialect::Context;
use crate::dialect::grants::of_list;
use crate::token::{Grant, NEVER_MS};
use crate::wheel::Now;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The access that a token needs to connect at all.
pub(in crate::dialect) const ACCESS: &[u8] = b"websocketd";

/// A token's permissions.
pub(super) struct Pass {
    pub(super) expires_at_ns: u64,
    acl: Arc<Acl>,
    reach: WazoReach,
    /// The uuids of user, session and tenant, concatenated; after them that of the list's user if
    /// `is_lent`.
    ids: Box<str>,
    user_bytes: u8,
    session_bytes: u8,
    tenant_bytes: u8,
    /// Whether the list came with the token of a user other than the one that events are addressed
    /// to.
    is_lent: bool,
}

/// A pass as data: its list by the digest, which many share.
#[derive(Serialize, Deserialize)]
pub(super) struct FrozenPass {
    expires_at_ns: u64,
    acl: AclDigest,
    reach: WazoReach,
    ids: Box<str>,
    user_bytes: u8,
    session_bytes: u8,
    tenant_bytes: u8,
    is_lent: bool,
}

/// The addressed events that a token gets.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum WazoReach {
    /// Those for its user.
    User,
    /// Those of its tenant.
    Tenant,
    /// All.
    Everything,
}

impl Pass {
    /// The permissions of a grant; `None` when it does not permit to connect.
    pub(super) fn new(grant: &Grant, context: &mut Context<'_>) -> Option<Self> {
        let ids =
            ["sub", "session_uuid", "tenant_uuid"].map(|claim| grant.text(claim).unwrap_or(""));
        let [user, session, tenant] = ids;
        // A token without a list has no access at all.
        let acl = context.shared.get::<Acls>().get(&grant.list("acl")?)?;
        let is_admin = grant.claim("admin").and_then(|admin| admin.as_bool()).unwrap_or(false)
            || grant
                .text("purpose")
                .is_some_and(|purpose| matches!(purpose, "external_api" | "internal"));

        let reach = match context.settings.wazo.master_tenant_uuid.as_deref() {
            Some(master) if !master.is_empty() && master == tenant => WazoReach::Everything,
            _ if is_admin => WazoReach::Tenant,
            _ => WazoReach::User,
        };

        // Their lengths are kept in a byte each.
        if ids.iter().any(|id| id.len() > ID_BYTES_MAX) {
            return None;
        }
        let pass = Self {
            expires_at_ns: expiry(grant.expires_at_ms, context.now)?,
            acl,
            reach,
            ids: ids.concat().into(),
            user_bytes: user.len() as u8,
            session_bytes: session.len() as u8,
            tenant_bytes: tenant.len() as u8,
            is_lent: false,
        };
        pass.acl.allows(ACCESS, pass.who()).then_some(pass)
    }

    /// The permissions of every client where tokens are not verified.
    pub(super) fn of_anyone(context: &mut Context<'_>) -> Option<Self> {
        let acl = context.shared.get::<Acls>().get(&["#"])?;
        Some(Self {
            expires_at_ns: u64::MAX,
            acl,
            reach: WazoReach::Everything,
            ids: Box::default(),
            user_bytes: 0,
            session_bytes: 0,
            tenant_bytes: 0,
            is_lent: false,
        })
    }

    /// The pass as data.
    pub(super) fn freeze(&self) -> FrozenPass {
        FrozenPass {
            expires_at_ns: self.expires_at_ns,
            acl: self.acl.digest(),
            reach: self.reach,
            ids: self.ids.clone(),
            user_bytes: self.user_bytes,
            session_bytes: self.session_bytes,
            tenant_bytes: self.tenant_bytes,
            is_lent: self.is_lent,
        }
    }

    /// The pass again; `None` when its list has not been passed.
    pub(super) fn thaw(frozen: FrozenPass, acls: &Acls) -> Option<Self> {
        let FrozenPass { reach, ids, user_bytes, session_bytes, tenant_bytes, .. } = frozen;
        // They are told apart by these numbers alone.
        let mut end = 0;
        for bytes in [user_bytes, session_bytes, tenant_bytes] {
            end += usize::from(bytes);
            ids.get(end..)?;
        }
        Some(Self {
            expires_at_ns: frozen.expires_at_ns,
            acl: acls.by_digest(&frozen.acl)?,
            reach,
            ids,
            user_bytes,
            session_bytes,
            tenant_bytes,
            is_lent: frozen.is_lent,
        })
    }

    /// Continues with a token that the client has sent. Its list (and the user and session that the
    /// list means by `me` and `my_session`), its expiry and its session replace the former ones;
    /// events remain those addressed to the user and the tenant of the first token, as in the
    /// original, whose queue stays bound as it was.
    pub(super) fn renew(&mut self, new: Self) {
        let is_lent = new.user() != self.user();
        let lender = if is_lent { new.user() } else { "" };
        let ids = [self.user(), new.session(), self.tenant(), lender].concat();
        (self.ids, self.session_bytes, self.is_lent) = (ids.into(), new.session_bytes, is_lent);
        (self.acl, self.expires_at_ns) = (new.acl, new.expires_at_ns);
    }

    pub(super) fn user(&self) -> &str {
        &self.ids[..usize::from(self.user_bytes)]
    }

    pub(super) fn session(&self) -> &str {
        &self.ids[usize::from(self.user_bytes)..][..usize::from(self.session_bytes)]
    }

    fn tenant(&self) -> &str {
        let start = usize::from(self.user_bytes) + usize::from(self.session_bytes);
        &self.ids[start..][..usize::from(self.tenant_bytes)]
    }

    /// The user and session that the list means.
    fn who(&self) -> Who<'_> {
        let end =
            [self.user_bytes, self.session_bytes, self.tenant_bytes].map(usize::from).iter().sum();
        let user = if self.is_lent { &self.ids[end..] } else { self.user() };
        Who { user, session: self.session() }
    }

    pub(super) fn has_expired(&self, now: Now) -> bool {
        self.expires_at_ns <= now.monotonic_ns
    }

    /// Whether a facet names this session.
    pub(super) fn is_of(&self, facet: &[u8]) -> bool {
        facet.strip_suffix(b"\0").is_some_and(|deleted| deleted == self.session().as_bytes())
    }

    /// Whether the event's addressing includes this token, by tenant and user.
    pub(super) fn reaches(&self, target: &EventTarget<'_>) -> bool {
        !target.is_scoped()
            || match self.reach {
                WazoReach::Everything => true,
                WazoReach::Tenant => target.is_of_tenant(self.tenant()),
                WazoReach::User => {
                    target.is_of_tenant(self.tenant()) && target.is_for_user(self.user())
                }
            }
    }

    /// Whether the token has the access that the event requires.
    pub(super) fn allows(&self, target: &EventTarget<'_>) -> bool {
        let required = target.required_acl();
        target.is_open() || required.is_some_and(|acl| self.acl.allows(acl, self.who()))
    }
}

/// The moment from which a token is no longer valid; `None` when it has passed.
fn expiry(at_ms: u64, now: Now) -> Option<u64> {
    if at_ms == NEVER_MS {
        return Some(u64::MAX);
    }
    let left_ms = at_ms.checked_sub(now.unix_ms).filter(|left_ms| *left_ms > 0)?;
    Some(now.monotonic_ns.saturating_add(left_ms.saturating_mul(1_000_000)))
}

/// A token's grant in words.
pub(super) fn granted(grant: &Grant) -> Result<String, String> {
    let list = grant.list("acl").ok_or("it has no acl")?;
    let acl = Acl::new(&list).ok_or_else(|| {
        format!(
            "its acl is longer than {PATTERNS_MAX} patterns or {ACL_BYTES_MAX} bytes; shorten the \
             policies of its user"
        )
    })?;
    let text = |claim: &str| grant.text(claim).unwrap_or("");
    if ["sub", "session_uuid", "tenant_uuid"].iter().any(|claim| text(claim).len() > ID_BYTES_MAX) {
        return Err(format!(
            "its sub, session_uuid or tenant_uuid is longer than {ID_BYTES_MAX} bytes"
        ));
    }
    let who = Who { user: text("sub"), session: text("session_uuid") };
    if !acl.allows(super::ACCESS, who) {
        return Err("its acl does not allow websocketd".into());
    }
    Ok(format!("receive events whose required_acl matches {}", of_list(&list)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_that_is_too_long_is_told_with_its_limits() {
        let with_acl = |acl: Vec<String>| {
            let claims = [("acl".to_owned(), json!(acl))].into_iter().collect();
            granted(&Grant::new(NEVER_MS, claims))
        };
        let many = vec!["websocketd".to_owned(); PATTERNS_MAX];
        assert!(with_acl(many.clone()).is_ok());
        for acl in [[many, vec!["#".into()]].concat(), vec!["x".repeat(ACL_BYTES_MAX + 1)]] {
            let told = with_acl(acl).unwrap_err();
            assert!(told.contains("longer than 4096 patterns or 65536 bytes"), "{told}");
        }
    }
}
