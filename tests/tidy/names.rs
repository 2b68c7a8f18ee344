//! One name, one type: wherever a type is spoken of, its name says which.

use std::collections::BTreeMap;

use super::crate_map::{items, product_files};
use super::tokens::product;
use crate::none;

#[test]
fn no_two_types_of_the_crate_have_the_same_name() {
    let sources = product_files();
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for source in &sources {
        for item in items(&product(&source.text).tokens) {
            if item.is_type {
                places.entry(item.name).or_default().push(format!("{}:{}", source.path, item.line));
            }
        }
    }
    assert!(places.len() > 400, "only {} types were found", places.len());
    places.retain(|_, places| places.len() > 1);
    let found: Vec<String> =
        places.into_iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    none(&found, "these names have more than one type; put the owner's name in front");
}
