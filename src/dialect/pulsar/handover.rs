//! Sessions as data for another process. What the owner of the topics knows of them, it passes to
//! the owner there.

use super::path::ApiVersion;
use super::role::{ProducerState, PulsarRole, RoleState};
use super::volatile::{self, VolatileListener};
use super::{Pulsar, PulsarStage};
use crate::dialect::Actions;
use crate::json::RawValue;
use crate::wheel::Tick;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use std::borrow::Cow;
use std::cell::Cell;

/// An open session.
#[derive(Serialize, Deserialize)]
struct FrozenPulsar<'a> {
    heard: Tick,
    ends_at: Tick,
    is_challenged: bool,
    is_narrow: bool,
    version: ApiVersion,
    role: PulsarRole,
    is_known: bool,
    part: FrozenRole<'a>,
}

/// The state of its role.
#[derive(Serialize, Deserialize)]
enum FrozenRole<'a> {
    None,
    Pull,
    Producer(Cow<'a, ProducerState>),
    Listener(Cow<'a, VolatileListener>),
}

impl Pulsar {
    /// An open session as JSON; `None` for one that is not open.
    pub(super) fn frozen(&self) -> Option<Box<RawValue>> {
        if self.stage != PulsarStage::Open {
            return None;
        }
        let part = match &self.part {
            RoleState::None => FrozenRole::None,
            RoleState::Pull => FrozenRole::Pull,
            RoleState::Producer(producer) => FrozenRole::Producer(Cow::Borrowed(producer)),
            RoleState::Listener(listener) => FrozenRole::Listener(Cow::Borrowed(listener)),
            RoleState::Wish(_) => return None,
        };
        let frozen = FrozenPulsar {
            heard: self.heard.get(),
            ends_at: self.ends_at,
            is_challenged: self.is_challenged,
            is_narrow: self.is_narrow,
            version: self.version,
            role: self.role,
            is_known: self.is_known,
            part,
        };
        to_raw_value(&frozen).ok()
    }

    /// The session again, which listens to what it listened to.
    pub(super) fn thawed(frozen: &RawValue, out: &mut Actions) -> Option<Self> {
        let frozen: FrozenPulsar<'_> = serde_json::from_str(frozen.get()).ok()?;
        let part = match frozen.part {
            FrozenRole::None => RoleState::None,
            FrozenRole::Pull => RoleState::Pull,
            FrozenRole::Producer(producer) => RoleState::Producer(Box::new(producer.into_owned())),
            FrozenRole::Listener(listener) => {
                out.subscribe(&volatile::prefix(&listener.topic), b"");
                RoleState::Listener(Box::new(listener.into_owned()))
            }
        };
        Some(Self {
            heard: Cell::new(frozen.heard),
            ends_at: frozen.ends_at,
            is_challenged: frozen.is_challenged,
            is_narrow: frozen.is_narrow,
            version: frozen.version,
            role: frozen.role,
            stage: PulsarStage::Open,
            is_known: frozen.is_known,
            part,
        })
    }
}
