//! Access control lists: the events that a token permits, compiled once and shared by all tokens
//! with equal lists.
//!
//! A list consists of patterns (see [`pattern`](super::pattern)); those that begin with `!` are
//! negative. Whatever a negative pattern matches is denied; otherwise whatever a positive one
//! matches is allowed; anything else is denied. `me` and `my_session` are resolved while matching,
//! so that the users of one policy share one list.
//!
//! Patterns are arranged by the texts that they begin with, so a list of hundreds costs about as
//! much as a list of ten.

use super::pattern::Who;
use super::tree::Tree;
use crate::digest::sha256;
use ahash::RandomState;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Most patterns of a list. Wazo's widest policies have some five hundred.
pub(super) const PATTERNS_MAX: usize = 4096;
/// Bytes of all patterns of a list: Wazo's widest policy has about 20 KB. With the longest
/// `required_acl` it bounds the cost of one match, even for a hostile list.
pub(super) const ACL_BYTES_MAX: usize = 64 * 1024;

/// A digest of a list's patterns.
pub(super) type AclDigest = [u8; 32];

/// The permissions of a token.
#[derive(Debug)]
pub struct Acl {
    tree: Tree,
    /// As they were written, for another process.
    patterns: Box<[Box<str>]>,
    digest: AclDigest,
}

impl Acl {
    /// Compiles the patterns of a token; `None` when they exceed the limits.
    #[must_use]
    pub fn new(patterns: &[&str]) -> Option<Self> {
        let bytes: usize = patterns.iter().map(|pattern| pattern.len()).sum();
        if patterns.len() > PATTERNS_MAX || bytes > ACL_BYTES_MAX {
            return None;
        }
        let digest = digest_of(patterns)?;
        let texts = patterns.iter().map(|pattern| Box::from(*pattern)).collect();
        Some(Self { tree: Tree::new(patterns), patterns: texts, digest })
    }

    /// Whether it allows what an event requires: at most [`TEXT_BYTES_MAX`](super::TEXT_BYTES_MAX)
    /// bytes.
    #[must_use]
    pub fn allows(&self, required: &[u8], who: Who<'_>) -> bool {
        self.tree.allows(required, who)
    }

    pub(super) fn digest(&self) -> AclDigest {
        self.digest
    }
}

fn digest_of(patterns: &[&str]) -> Option<AclDigest> {
    // Unlike a separator, JSON tells one pattern with any text in it from two.
    Some(sha256(serde_json::to_string(patterns).ok()?.as_bytes()))
}

/// The lists in use on one shard.
pub struct Acls {
    /// By a digest of their patterns, in an order independent of the token's.
    lists: HashMap<AclDigest, Weak<Acl>, RandomState>,
    /// Lists of another process, until its sessions have been taken over: kept to the next token.
    passed: Vec<Arc<Acl>>,
    /// Number of entries at which unused ones are searched for.
    sweep_at: usize,
}

/// Fewest entries that are worth a search for unused ones.
const SWEEP_AT_LEAST: usize = 64;

impl Default for Acls {
    fn default() -> Self {
        Self { lists: HashMap::default(), passed: Vec::new(), sweep_at: SWEEP_AT_LEAST }
    }
}

impl Acls {
    /// The compiled form of a token's patterns; `None` as [`Acl::new`].
    pub fn get(&mut self, patterns: &[&str]) -> Option<Arc<Acl>> {
        self.passed = Vec::new();
        self.compiled(patterns)
    }

    fn compiled(&mut self, patterns: &[&str]) -> Option<Arc<Acl>> {
        let mut patterns = patterns.to_vec();
        patterns.sort_unstable();
        patterns.dedup();
        let key = digest_of(&patterns)?;
        if let Some(acl) = self.lists.get(&key).and_then(Weak::upgrade) {
            return Some(acl);
        }

        let acl = Arc::new(Acl::new(&patterns)?);
        if self.lists.len() >= self.sweep_at {
            // Doubling, so that the search costs each new list a constant.
            self.lists.retain(|_, acl| acl.strong_count() > 0);
            self.lists.shrink_to_fit();
            self.sweep_at = (self.lists.len() * 2).max(SWEEP_AT_LEAST);
        }
        self.lists.insert(key, Arc::downgrade(&acl));
        Some(acl)
    }

    /// The patterns of the lists in use, for another process.
    pub(super) fn freeze(&self) -> Vec<Box<[Box<str>]>> {
        let lists = self.lists.values().filter_map(Weak::upgrade);
        lists.map(|acl| acl.patterns.clone()).collect()
    }

    /// Compiles a list of another process, and keeps it until the next token is granted.
    pub(super) fn pass(&mut self, patterns: &[&str]) {
        let acl = self.compiled(patterns);
        self.passed.extend(acl);
    }

    /// A list in use, by its digest.
    pub(super) fn by_digest(&self, digest: &AclDigest) -> Option<Arc<Acl>> {
        self.lists.get(digest)?.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_patterns_in_any_order_are_one_list() {
        let mut acls = Acls::default();
        let one = acls.get(&["a.#", "!b", "a.#"]).unwrap();
        assert!(Arc::ptr_eq(&one, &acls.get(&["!b", "a.#"]).unwrap()));
        assert!(!Arc::ptr_eq(&one, &acls.get(&["!b", "a.*"]).unwrap()));
        let newline = acls.get(&["a\nb"]).unwrap();
        assert!(!Arc::ptr_eq(&newline, &acls.get(&["a", "b"]).unwrap()));
    }

    #[test]
    fn lists_that_nobody_uses_are_forgotten() {
        let mut acls = Acls::default();
        let kept: Vec<_> = (0..100).map(|n| acls.get(&[&format!("kept.{n}")]).unwrap()).collect();
        for n in 0..10_000 {
            acls.get(&[&format!("gone.{n}")]).unwrap();
        }
        assert!(acls.lists.len() <= 2 * kept.len() + SWEEP_AT_LEAST, "{}", acls.lists.len());
        assert!(Arc::ptr_eq(&kept[7], &acls.get(&["kept.7"]).unwrap()));
    }

    #[test]
    fn a_list_without_measure_is_refused() {
        let long = "x".repeat(ACL_BYTES_MAX);
        assert!(Acl::new(&[&long]).is_some());
        assert!(Acl::new(&[&long, "y"]).is_none());
        assert!(Acl::new(&vec!["#"; PATTERNS_MAX]).is_some());
        assert!(Acl::new(&vec!["#"; PATTERNS_MAX + 1]).is_none());
    }
}
