//! The settings of all protocols.

use super::config_table::DialectTable;
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

    /// The rules of the durable topics.
    #[must_use]
    pub fn topic_rules(&self) -> TopicRules {
        self.tables().find_map(DialectTable::topic_rules).unwrap_or_default()
    }
}
