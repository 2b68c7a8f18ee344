//! Digests: short stand-ins for long texts and for secrets.

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// The SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut sum = [0; SHA256_OUTPUT_LEN];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}
