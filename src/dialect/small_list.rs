//! Short lists that stand in their owner, as JSON: `#[serde(with = "small_list")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

pub(super) fn serialize<T: Serialize, S: Serializer>(
    list: &SmallVec<[T; 1]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    list.as_slice().serialize(serializer)
}

pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SmallVec<[T; 1]>, D::Error> {
    Ok(Vec::deserialize(deserializer)?.into_iter().collect())
}
