//! One fuzz target under libFuzzer: the one that `FANFARE_FUZZ_TARGET` names.

#![no_main]
#![allow(clippy::unwrap_used)]

#[path = "../../targets/mod.rs"]
mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<&targets::Target> = LazyLock::new(|| {
    let name = std::env::var("FANFARE_FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("FANFARE_FUZZ_TARGET names no target: {name:?}"))
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
