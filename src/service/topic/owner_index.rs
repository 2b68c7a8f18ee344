//! Which owner a topic has, when there are several: determined by its name alone, permanently,
//! since each owner stores its own topics.

use super::{MessageId, TopicDomain, TopicName, routing};
use crate::service::ConnectionRef;

/// Limit on the number of owners: each is two threads and a log of its own, and a disk gains
/// nothing from more.
pub const OWNERS_MAX: usize = 16;
/// The shard number that represents the first owner when owners ask each other; the other owners'
/// are below it. The number above it is for askers that are neither connections nor owners.
const FIRST_SHARD: u16 = u16::MAX - 1;

/// One owner among several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerIndex {
    index: usize,
    of: usize,
}

impl Default for OwnerIndex {
    fn default() -> Self {
        Self::ONLY
    }
}

impl OwnerIndex {
    /// The only owner.
    pub const ONLY: Self = Self { index: 0, of: 1 };

    /// All owners, of which there are `of`, at least one and at most [`OWNERS_MAX`].
    pub fn all(of: usize) -> impl Iterator<Item = Self> {
        let of = of.clamp(1, OWNERS_MAX);
        (0..of).map(move |index| Self { index, of })
    }

    /// Its index, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.index
    }

    /// The number of owners.
    #[must_use]
    pub fn of(self) -> usize {
        self.of
    }

    /// The owner of a topic, out of `of`. All partitions belong to their topic's owner, so that a
    /// producer or consumer of it deals with one owner. Topics that are not stored are little work,
    /// and all belong to the first.
    ///
    /// ```
    /// use fanfare::service::topic::{OwnerIndex, TopicName};
    ///
    /// let topic = TopicName::read("persistent://acme/orders/new").unwrap();
    /// let owner = OwnerIndex::of_topic(&topic, 4);
    /// assert!(owner < 4);
    /// assert_eq!(OwnerIndex::of_topic(&topic.partition(7), 4), owner);
    /// ```
    #[must_use]
    pub fn of_topic(name: &TopicName, of: usize) -> usize {
        if of <= 1 || name.domain() == TopicDomain::NonPersistent {
            return 0;
        }
        let mut name = name.clone();
        // A partition's name may itself be a partitioned topic's.
        while let Some(whole) = name.without_partition() {
            name = whole;
        }
        routing::murmur3(name.as_str().as_bytes()) as usize % of
    }

    /// The owner, out of `of`, of the topic with a label in its message ids; `None` for other
    /// numbers. An owner's topic numbers, modulo the number of owners, equal its index.
    #[must_use]
    pub fn of_label(label: Option<u32>, of: usize) -> Option<usize> {
        label.and_then(MessageId::topic_number).map(|number| number as usize % of.max(1))
    }

    /// The number of the next topic after `others` created by this owner, provided none was ever
    /// deleted.
    pub(super) fn number(self, others: usize) -> usize {
        let first = if self.index == 0 { self.of } else { self.index };
        first + self.of * others
    }

    /// Where an answer from another owner goes, identified by `number`.
    pub(super) fn connection(self, number: u32) -> ConnectionRef {
        ConnectionRef { shard: FIRST_SHARD - self.index as u16, id: number, serial: 0 }
    }

    /// The owner that an answer is for; `None` when it is for a connection.
    #[must_use]
    pub fn of_connection(connection: ConnectionRef) -> Option<usize> {
        let index = usize::from(FIRST_SHARD.checked_sub(connection.shard)?);
        (index < OWNERS_MAX).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::read(name).unwrap()
    }

    #[test]
    fn a_topic_has_the_same_owner_for_ever() {
        // What is stored is found again by this: none of these numbers may change.
        for (name, of_two, of_sixteen) in [
            ("persistent://t/n/a", 0, 2),
            ("persistent://t/n/b", 1, 11),
            ("persistent://public/default/orders", 1, 5),
        ] {
            assert_eq!(
                (OwnerIndex::of_topic(&topic(name), 2), OwnerIndex::of_topic(&topic(name), 16)),
                (of_two, of_sixteen)
            );
            assert_eq!(OwnerIndex::of_topic(&topic(name), 1), 0);
        }
    }

    #[test]
    fn topics_are_spread_evenly_and_partitions_are_where_their_topic_is() {
        for of in [2, 3, 16] {
            let mut each = vec![0usize; of];
            for number in 0..4000 {
                let name = topic(&format!("persistent://t/n/topic-{number}"));
                let owner = OwnerIndex::of_topic(&name, of);
                each[owner] += 1;
                for partition in [0, 1, 77] {
                    assert_eq!(OwnerIndex::of_topic(&name.partition(partition), of), owner);
                    assert_eq!(
                        OwnerIndex::of_topic(&name.partition(partition).partition(3), of),
                        owner
                    );
                }
            }
            let fair = 4000 / of;
            assert!(each.iter().all(|has| has.abs_diff(fair) < fair / 2), "{each:?}");
        }
        let odd = topic("persistent://t/n/x-partition-01");
        assert_eq!(odd.without_partition(), None, "no number that a partition has");
    }

    #[test]
    fn labels_tell_the_owner_and_other_partitions_do_not() {
        for number in [0, 1, 2, 7, 100_000] {
            let label = MessageId::topic_label(number);
            assert_eq!(OwnerIndex::of_label(label, 2), Some(number as usize % 2));
            assert_eq!(OwnerIndex::of_label(label, 1), Some(0));
        }
        assert_eq!(OwnerIndex::of_label(Some(5), 2), None, "a partition");
        assert_eq!(OwnerIndex::of_label(None, 2), None);
    }

    #[test]
    fn owners_number_their_topics_from_one_on_with_their_remainder() {
        for owner in OwnerIndex::all(3) {
            let numbers: Vec<usize> = (0..3).map(|others| owner.number(others)).collect();
            assert!(
                numbers
                    .iter()
                    .all(|number| number % 3 == owner.index() && (1..10).contains(number))
            );
            assert!(numbers.is_sorted_by(|one, other| one < other));
        }
        assert_eq!((OwnerIndex::ONLY.number(0), OwnerIndex::ONLY.number(6)), (1, 7));
    }

    #[test]
    fn owners_are_told_apart_from_shards_and_other_askers() {
        for owner in OwnerIndex::all(OWNERS_MAX) {
            assert_eq!(OwnerIndex::of_connection(owner.connection(7)), Some(owner.index()));
        }
        for shard in [0, 1023, u16::MAX] {
            assert_eq!(OwnerIndex::of_connection(ConnectionRef { shard, id: 0, serial: 0 }), None);
        }
        assert_eq!((OwnerIndex::all(0).count(), OwnerIndex::all(99).count()), (1, 16));
    }
}
