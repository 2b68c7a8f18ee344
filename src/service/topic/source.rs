//! The sources of a consumer's messages: one subscription for most consumers, very many for those
//! with a pattern.

use super::handles::{Label, SubId, TopicId};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

/// A subscription that a consumer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConsumerSource {
    pub(super) topic: TopicId,
    pub(super) sub: SubId,
    pub(super) label: Label,
}

/// A consumer's sources, by label. A single one needs no allocation.
#[derive(Debug, Default)]
pub(super) enum ConsumerSources {
    #[default]
    None,
    One(ConsumerSource),
    Many(BTreeMap<Label, (TopicId, SubId)>),
}

impl ConsumerSources {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, label: Label) -> Option<ConsumerSource> {
        match self {
            Self::None => None,
            Self::One(only) => Some(*only).filter(|only| only.label == label),
            Self::Many(many) => many.get(&label).map(|(topic, sub)| ConsumerSource {
                topic: *topic,
                sub: *sub,
                label,
            }),
        }
    }

    pub(super) fn insert(&mut self, source: ConsumerSource) {
        let added = (source.label, (source.topic, source.sub));
        *self = match std::mem::take(self) {
            Self::None => Self::One(source),
            // From two on a map: a pattern may match a hundred thousand.
            Self::One(only) => Self::Many([(only.label, (only.topic, only.sub)), added].into()),
            Self::Many(mut many) => {
                many.extend([added]);
                Self::Many(many)
            }
        };
    }

    pub(super) fn remove(&mut self, label: Label) {
        match self {
            Self::One(only) if only.label == label => *self = Self::None,
            Self::Many(many) => drop(many.remove(&label)),
            Self::None | Self::One(_) => {}
        }
    }

    /// The first source with a greater label; without a label, the first of all.
    pub(super) fn next(&self, after: Option<Label>) -> Option<ConsumerSource> {
        match self {
            Self::None => None,
            Self::One(only) => {
                Some(*only).filter(|only| after.is_none_or(|after| after < only.label))
            }
            Self::Many(many) => {
                let next = many.range((after.map_or(Unbounded, Excluded), Unbounded)).next();
                next.map(|(label, (topic, sub))| ConsumerSource {
                    topic: *topic,
                    sub: *sub,
                    label: *label,
                })
            }
        }
    }

    /// All sources, in order of label.
    pub(super) fn iter(&self) -> impl Iterator<Item = ConsumerSource> {
        let mut last = None;
        std::iter::from_fn(move || {
            let next = self.next(last)?;
            last = Some(next.label);
            Some(next)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_found_by_label_and_told_in_its_order() {
        let source =
            |number: u32| ConsumerSource { topic: number as usize, sub: 7, label: Some(number) };
        let mut sources = ConsumerSources::default();
        assert!(sources.is_empty() && sources.next(None).is_none());
        for number in [5, 3, 9] {
            sources.insert(source(number));
            assert_eq!(sources.get(Some(number)), Some(source(number)));
        }
        assert_eq!(sources.get(Some(4)), None);
        assert_eq!(sources.iter().map(|it| it.topic).collect::<Vec<_>>(), [3, 5, 9]);
        assert_eq!(sources.next(Some(Some(3))), Some(source(5)));
        sources.remove(Some(5));
        assert_eq!((sources.len(), sources.next(Some(Some(3)))), (2, Some(source(9))));
        let mut one = ConsumerSources::One(source(1));
        one.remove(Some(2));
        assert_eq!((one.len(), one.next(Some(Some(1)))), (1, None));
        one.remove(Some(1));
        assert!(one.is_empty());
    }
}
