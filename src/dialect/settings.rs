//! The settings of all protocols.

use super::config_table::DialectTable;
use crate::digest::sha256;
use crate::proxy::Networks;
use crate::service::topic::TopicRules;

/// Makes the settings of all from the list of protocols.
macro_rules! settings {
    ([] $(
        $(#[$attribute:meta])*
        $variant:ident: $session:ty $(, [$table:ident] $($settings:ident)::+)?;
    )+) => {
        /// The settings of every dialect, with the verifier of its tokens.
        #[derive(Default)]
        pub struct Settings {
            $($(
                #[doc = concat!("The table `[", stringify!($table), "]`.")]
                pub $table: super::$($settings)::+,
            )?)+
            /// The proxies that are trusted to name their clients.
            pub trusted_proxies: Networks,
        }

        impl Settings {
            /// The tables of all.
            pub fn tables(&self) -> impl Iterator<Item = &dyn DialectTable> {
                [$($(&self.$table as &dyn DialectTable,)?)+].into_iter()
            }
        }
    };
}

with_dialects!(settings);

impl Settings {
    /// How many publications may be kept of the topics that one of them belongs to, any number when
    /// 0; nothing when none is to be kept.
    #[must_use]
    pub fn retained_max(&self, topic: &[u8]) -> Option<usize> {
        self.tables().find_map(|table| table.retained_max(topic))
    }

    /// A hash of the settings that all nodes of a cluster must have in common: apps with their
    /// secrets, limits and webhooks, the shapes of messages, the rules of topics. It is the same
    /// for every build and machine, and tells nothing of the secrets.
    #[must_use]
    pub fn shared_hash(&self) -> u64 {
        let common = self.tables().map(|table| format!("{} {}\n", table.name(), table.common()));
        let sum = sha256(common.collect::<String>().as_bytes());
        sum.iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
    }

    /// The rules of the durable topics.
    #[must_use]
    pub fn topic_rules(&self) -> TopicRules {
        self.tables().find_map(DialectTable::topic_rules).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::echo::{App, EchoSettings};
    use crate::setting::Secret;
    use std::sync::Arc;

    /// The hash of settings with these tables and apps; each app with its secret.
    fn hash(channel: &str, pulsar: &str, apps: &[(&str, &str)]) -> u64 {
        let app = |(text, secret): &(&str, &str)| {
            Arc::new(App::new(toml::from_str(text).unwrap(), Secret((*secret).into())))
        };
        let settings = Settings {
            channel: toml::from_str(channel).unwrap(),
            pulsar: toml::from_str(pulsar).unwrap(),
            echo: EchoSettings { apps: apps.iter().map(app).collect(), ..Default::default() },
            ..Settings::default()
        };
        settings.shared_hash()
    }

    #[test]
    fn what_all_nodes_must_agree_on_makes_another_hash_and_nothing_else_does() {
        let one = "id = 'a'\nkey = 'k'\nwebhook = [{ url = 'http://h/?password=1' }]";
        let two = "id = 'b'\nkey = 'l'";
        let usual = hash("", "", &[(one, "s"), (two, "t")]);
        for (what, same) in [
            ("the order of apps", hash("", "", &[(two, "t"), (one, "s")])),
            (
                "what is a node's own",
                hash("ping_interval_s = 7", "local = true", &[(one, "s"), (two, "t")]),
            ),
            (
                "limits of connections",
                hash("", "", &[(one, "s"), (&format!("{two}\nmax_connections = 7"), "t")]),
            ),
            ("what is the default", hash("targeted = ['chat']", "", &[(one, "s"), (two, "t")])),
        ] {
            assert_eq!(same, usual, "{what}");
        }

        let mut hashes = vec![
            usual,
            hash("targeted = []", "", &[(one, "s"), (two, "t")]),
            hash("shape = {}", "", &[(one, "s"), (two, "t")]),
            hash("", "retention_s = 7", &[(one, "s"), (two, "t")]),
            hash(
                "",
                "partitioned = [{ topic = 'persistent://a/b/c', partitions = 2 }]",
                &[(one, "s"), (two, "t")],
            ),
            hash("", "", &[(one, "s")]),
            hash("", "", &[(one, "another"), (two, "t")]),
            hash("", "", &[(&one.replace('1', "2"), "s"), (two, "t")]),
            hash("", "", &[(&one.replace("'k'", "'j'"), "s"), (two, "t")]),
            hash("", "", &[(one, "s"), (&format!("{two}\nenabled = false"), "t")]),
            hash("", "", &[(one, "s"), (&format!("{two}\npresence_members_max = 7"), "t")]),
        ];
        let all = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), all);
    }

    #[test]
    fn every_build_makes_the_same_hash() {
        assert_eq!(hash("", "", &[("id = 'a'\nkey = 'k'", "s")]), 12_947_320_704_165_394_310);
    }

    #[test]
    fn no_secret_is_among_what_is_common() {
        let app = "id = 'a'\nkey = 'k'\nwebhook = [{ url = 'http://h/?password=hunter2' }]";
        let app = App::new(toml::from_str(app).unwrap(), Secret("hunter2".into()));
        let echo = EchoSettings { apps: vec![Arc::new(app)], ..Default::default() };
        assert!(!echo.common().to_string().contains("hunter2"));
    }
}
