//! Cache channels in which a subscriber found nothing: the app is told once, until something is
//! retained there, whatever nodes its subscribers are on.
//!
//! The owner of the channel's partition decides, by the misses that it remembers, and so its
//! successor may tell a miss again. Whoever finds nothing while there is no owner is not told of;
//! the next one is.

use super::Cluster;
use super::host::ClusterHost;
use super::partition_number::PartitionNumber;
use super::peers::SELF;
use super::wire::ControlKind;
use crate::service::DialectId;
use crate::service::presence::PresenceChange;
use crate::wheel::Now;

impl Cluster {
    /// A subscriber of this node found nothing in a channel of an app.
    pub(super) fn missed(
        &mut self,
        dialect: DialectId,
        (app, channel): (Box<str>, Box<str>),
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        match self.partitions[PartitionNumber::of(&app, &channel).index()].known {
            Some((SELF, _)) => self.tell_miss(dialect, &app, &channel, now, host),
            Some((owner, _)) => {
                self.send_to(owner, &ControlKind::Missed { dialect, app, channel }, host);
            }
            None => {}
        }
    }

    /// Records and tells a miss of any node's subscriber, if this node owns the partition.
    pub(super) fn tell_miss(
        &mut self,
        dialect: DialectId,
        app: &str,
        channel: &str,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let partition = PartitionNumber::of(app, channel);
        let Some(owner) = self.partitions[partition.index()].owned() else { return };
        let Some(voice) = (host.voice)(dialect) else { return };
        // A channel that retains nothing cannot miss anything.
        let Some((topic, entries_max)) = voice.retained(app, channel) else { return };
        if (host.misses)(&topic, entries_max, now) {
            owner.change(voice, app, &PresenceChange::Missed(channel));
        }
    }
}
