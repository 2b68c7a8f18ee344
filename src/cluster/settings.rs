//! The table `[cluster]` of the configuration.

use super::node::NodeName;
use crate::setting::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Several daemons as one service: clients may connect to any of them. They meet on NATS servers of
/// version 2.12 or later with JetStream, three for a service that is to survive the loss of one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// The name of the service, the same at each of its daemons: letters, digits, - and _. Several
    /// services with different names may share the NATS servers.
    pub name: String,
    /// The name of this daemon, different at each: letters, digits, - and _; without it, the host's
    /// name up to its first dot.
    #[schemars(example = &"a")]
    pub node: Option<String>,
    /// The URLs of the NATS servers, separated by commas; tls:// for TLS. The user needs
    /// permission to publish and subscribe to "ff.NAME.>" and "$JS.API.>". Whoever may publish
    /// there reaches private channels, so give the daemons an account of their own.
    #[schemars(example = &"nats://fanfare:password@n1:4222,nats://n2:4222,nats://n3:4222")]
    pub url: Option<Secret>,
    /// A file that holds the URLs, which keeps the password out of this one.
    #[schemars(example = &"/etc/fanfare/nats.url")]
    pub url_file: Option<PathBuf>,
    /// The authorities that may sign the servers' certificates, in PEM, instead of the system's.
    #[schemars(example = &"/etc/fanfare/nats.pem")]
    pub ca_file: Option<PathBuf>,
    /// The certificate chain that the daemon presents to the servers, in PEM.
    #[schemars(example = &"/etc/fanfare/nats-client.pem")]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[schemars(example = &"/etc/fanfare/nats-client.key")]
    pub key: Option<PathBuf>,
    /// A file with a user's JWT and seed, as `nsc generate creds` makes it.
    #[schemars(example = &"/etc/fanfare/nats.creds")]
    pub credentials_file: Option<PathBuf>,
    /// On how many NATS servers each of the streams is stored: 3 survives the loss of one, 5 of
    /// two; 1 is for tests.
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub replicas: u8,
    /// "keep" keeps the sessions while the daemon is cut off from the others: they get this
    /// daemon's events only. "close" ends them after isolation_s, so that clients connect to
    /// another.
    pub on_isolation: OnIsolation,
    /// Seconds without the other daemons before on_isolation = "close" ends sessions, spread over
    /// 30 s.
    #[schemars(range(min = 5, max = 3600))]
    pub isolation_s: u32,
}

/// Most replicas of a stream: JetStream's own limit.
const REPLICAS_MAX: u8 = 5;

/// What becomes of sessions while the daemon is cut off from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnIsolation {
    /// They stay.
    Keep,
    /// They end.
    Close,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            name: "main".into(),
            node: None,
            url: None,
            url_file: None,
            ca_file: None,
            certificate: None,
            key: None,
            credentials_file: None,
            replicas: 3,
            on_isolation: OnIsolation::Keep,
            isolation_s: 15,
        }
    }
}

impl ClusterSettings {
    /// Settings that contradict each other or cannot work, each with what to do.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let given = [self.url.is_some(), self.url_file.is_some()];
        match given {
            [true, true] => {
                problems.push("cluster: url and url_file are both set: keep one".into());
            }
            [false, false] => problems.push(
                "cluster: no NATS servers: set url_file or url, or leave the table out".into(),
            ),
            _ => {}
        }

        let names = [("name", Some(&self.name)), ("node", self.node.as_ref())];
        let wrong = names.into_iter().filter_map(|(key, name)| Some((key, name?)));
        for (key, name) in wrong.filter(|(_, name)| NodeName::new(name).is_none()) {
            problems.push(format!(
                "cluster.{key} = {name:?}: write 1 to 64 letters, digits, - and _, because it is \
                 part of NATS subjects"
            ));
        }
        if self.certificate.is_some() != self.key.is_some() {
            problems.push(
                "cluster: certificate and key belong together: set both, or leave both out".into(),
            );
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        toml::from_str::<ClusterSettings>(text).unwrap().problems()
    }

    #[test]
    fn what_cannot_run_is_told_with_what_to_do() {
        const GOOD: &str = "url_file = '/f'\n";
        assert_eq!(problems(GOOD), Vec::<String>::new());
        for (text, about) in [
            ("", "no NATS servers"),
            (&format!("{GOOD}url = 'nats://hunter2@h'"), "keep one"),
            (&format!("{GOOD}name = 'a.b'"), "cluster.name = \"a.b\""),
            (&format!("{GOOD}node = ''"), "cluster.node = \"\""),
            (&format!("{GOOD}node = '{}'", "x".repeat(65)), "1 to 64 letters"),
            (&format!("{GOOD}certificate = '/c'"), "set both"),
            (&format!("{GOOD}key = '/k'"), "set both"),
        ] {
            let problems = problems(text);
            assert!(matches!(&problems[..], [one] if one.contains(about)), "{text}: {problems:?}");
            assert!(!problems[0].contains("hunter2"));
        }
    }
}
