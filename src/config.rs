//! The configuration: one TOML file, composed of the settings that each module declares beside its
//! code.
//!
//! Every key can be overridden from the environment: `FANFARE_FEED_UNIX_PATH` is `feed.unix.path`,
//! and `FANFARE_LISTEN_0_ADDRESS` the address of the first listener. An unknown key is refused,
//! with the nearest known one. Files that the configuration names are read by the commands, not
//! here. `tables` has the tables, `schema` what is known of each key, `problems` the
//! contradictions.

pub mod changes;
mod environment;
pub mod listing;
mod problems;
pub mod redacted;
pub mod sample;
pub mod schema;
pub mod tables;
pub mod words;

pub use self::environment::ENVIRONMENT_PREFIX;
pub use self::tables::{
    AdminTable, ClientCertificate, Config, FeedTable, Format, Level, ListenTable, LogTable,
    TlsTable,
};
pub use self::words::ConfigError;

use self::environment::{overrides, path_of, put, typed};
use self::words::Mismatch;
use serde::Deserialize;
use toml::{Table, Value};

impl Config {
    /// Reads the text of a file with the overrides of an environment.
    ///
    /// # Errors
    /// When either is not a configuration. Contradictions are found by [`Config::problems`].
    pub fn read(
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::read_with_table(text, environment).map(|(config, _)| config)
    }

    /// Like [`Config::read`], with the keys and values as they were set, by which two
    /// configurations are compared.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read_with_table(
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<(Self, Table), ConfigError> {
        let config: Self =
            toml::from_str(text).map_err(|error| ConfigError::Text(Box::new(error)))?;
        let overrides = overrides(environment);
        // Twice, as the table alone would lose the lines and columns of errors.
        let mut table: Table =
            toml::from_str(text).map_err(|error| ConfigError::Text(Box::new(error)))?;
        let mut config = config;
        // A table that only the environment has gets its keys one after another, and lacks some
        // until the last.
        let mut lacking = None;
        for (name, value) in overrides {
            let path = path_of(&name)?;
            // After each variable, so that an error names the variable that is wrong.
            let mut with = |value| {
                put(&mut table, &path, value);
                Self::deserialize(Value::Table(table.clone()))
            };
            // Text that looks like a number may be a name or a secret.
            let read = match with(typed(&value)) {
                Err(error) if words::missing(error.message()).is_none() => {
                    with(Value::String(value))
                }
                read => read,
            };
            match read {
                Ok(read) => (config, lacking) = (read, None),
                Err(error) => match words::missing(error.message()) {
                    Some(key) => {
                        lacking = Some(ConfigError::Environment(format!(
                            "{name}: its table lacks \"{key}\", or one with a smaller number is \
                             missing: set it too; tables are counted from 0"
                        )));
                    }
                    None => return Err(Self::unfit(&name, &error)),
                },
            }
        }
        if let Some(lacking) = lacking {
            return Err(lacking);
        }

        // Of the raw table: serde has turned the numbers into types that no longer know the keys.
        config.out_of_range = schema::out_of_range(&table);
        Ok((config, table))
    }

    /// The error for a variable whose value does not fit its key; without the value, which may be a
    /// secret.
    fn unfit(name: &str, error: &toml::de::Error) -> ConfigError {
        let message = error.message().trim_end();
        let why = match Mismatch::read(message) {
            Some(mismatch) => format!("the key takes {}", mismatch.expected()),
            None => words::plain(message).unwrap_or("the value does not fit the key").to_owned(),
        };
        ConfigError::Environment(format!(
            "{name}: {why}; see the sample configuration for its form"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::runtime::Driver;

    const MINIMAL: &str = r#"
        [[listen]]
        address = "127.0.0.1:8080"
        dialects = ["personium-event"]
        [personium]
        anonymous = true
    "#;

    fn with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::read(MINIMAL, variables)
    }

    #[test]
    fn a_minimal_configuration_can_run() {
        assert_eq!(with(&[]).unwrap().problems(), Vec::<String>::new());
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config = with(&[
            ("FANFARE_FEED_UNIX_PATH", "/run/x.sock"),
            ("FANFARE_LISTEN_0_ADDRESS", "127.0.0.1:9"),
            ("FANFARE_LISTEN_0_TLS_CERTIFICATE", "/cert.pem"),
            ("FANFARE_LISTEN_0_TLS_KEY", "/key.pem"),
            ("FANFARE_LISTEN_0_TLS_CLIENT_CA", "/ca.pem"),
            ("FANFARE_LISTEN_0_TLS_CLIENT_CERTIFICATE", "optional"),
            ("FANFARE_LISTEN_0_PROXY_PROTOCOL", "true"),
            ("FANFARE_TRUSTED_PROXIES", "[\"10.0.0.0/8\"]"),
            ("FANFARE_LIMITS_OUTBOX_BYTES_MAX", "2097152"),
            ("FANFARE_FEED_UNIX_ALLOW_UIDS", "[1, 2]"),
            ("FANFARE_PIN", "false"),
            ("FANFARE_DRIVER", "io_uring"),
            ("FANFARE_FEED_UNIX_GROUP", "1000"),
            ("FANFARE_FEED_UNIX_MODE", "660"),
            ("FANFARE_PERSONIUM_TOKEN_STATIC_FILE", "/tokens"),
            ("FANFARE_PERSONIUM_TOPICS", "[\"cell1/box1/*\"]"),
            ("FANFARE_CHANNEL_SHAPE", "{ chat = [\"text\"] }"),
            ("FANFARE_ECHO_APP_1_KEY", "a-key"),
            ("FANFARE_ECHO_APP_1_MAX_CONNECTIONS", "7"),
            ("OTHER", "ignored"),
        ])
        .unwrap();
        assert_eq!(config.feed.unix.path.unwrap().to_str(), Some("/run/x.sock"));
        assert_eq!(config.listen[0].address.port(), 9);
        assert_eq!(config.listen[0].dialects, ["personium-event"]);
        let tls = config.listen[0].tls.as_ref().unwrap();
        assert_eq!(
            [&tls.certificate, &tls.key].map(|path| path.to_str().unwrap()),
            ["/cert.pem", "/key.pem"]
        );
        assert_eq!(tls.client_ca.as_ref().unwrap().to_str(), Some("/ca.pem"));
        assert_eq!(tls.client_certificate, Some(ClientCertificate::Optional));
        assert!(
            config.listen[0].proxy_protocol
                && config.trusted_proxies.contains([10, 1, 1, 1].into())
        );
        assert_eq!(config.limits.outbox_bytes_max, 2_097_152);
        assert_eq!(config.feed.unix.allow_uids, [1, 2]);
        assert!(!config.pin);
        assert_eq!(
            (config.feed.unix.group.as_deref(), &config.feed.unix.mode[..]),
            (Some("1000"), "660")
        );
        assert_eq!(config.driver, Driver::IoUring);
        assert_eq!(config.echo.app.len(), 2);
        assert_eq!((&config.echo.app[1].key[..], config.echo.app[1].max_connections), ("a-key", 7));
        assert!(config.personium.token.is_some());
        assert_eq!(
            config.channel.shape.into_iter().collect::<Vec<_>>(),
            [("chat".into(), vec!["text".into()])]
        );
        assert_eq!(config.personium.topics.as_deref(), Some(&["cell1/box1/*".to_owned()][..]));
    }

    #[test]
    fn the_environment_alone_may_make_a_table_of_a_list() {
        let config = with(&[
            ("FANFARE_LISTEN_1_ADDRESS", "127.0.0.1:9"),
            ("FANFARE_LISTEN_1_DIALECTS", r#"["echo"]"#),
            ("FANFARE_ECHO_APP_0_CACHE_TTL_S", "5"),
            ("FANFARE_ECHO_APP_0_ID", "7"),
            ("FANFARE_ECHO_APP_0_KEY", "k"),
            ("FANFARE_ECHO_APP_0_SECRET", "hush"),
        ]);
        let config = config.unwrap();
        assert_eq!(config.listen[1].dialects, ["echo"]);
        assert_eq!((&*config.echo.app[0].id, config.echo.app[0].cache_ttl_s), ("7", 5));
        for (name, lacks) in
            [("FANFARE_LISTEN_1_ADDRESS", "dialects"), ("FANFARE_LISTEN_2_ADDRESS", "address")]
        {
            let Err(ConfigError::Environment(message)) = with(&[(name, "127.0.0.1:9")]) else {
                panic!("accepted");
            };
            assert!(
                message.starts_with(&format!("{name}: its table lacks \"{lacks}\"")),
                "{message}"
            );
        }
    }

    #[test]
    fn a_wrong_variable_is_named_with_the_nearest_and_without_its_value() {
        let Err(ConfigError::Environment(message)) =
            with(&[("FANFARE_FEED_UNIX_PAHT", "/run/x.sock")])
        else {
            panic!("accepted");
        };
        assert_eq!(
            message,
            "FANFARE_FEED_UNIX_PAHT is not a setting; did you mean \"FANFARE_FEED_UNIX_PATH\"?"
        );
        let Err(ConfigError::Environment(message)) = with(&[("FANFARE_DRAIN_S", "hush")]) else {
            panic!("accepted");
        };
        assert!(message.starts_with("FANFARE_DRAIN_S") && !message.contains("hush"), "{message}");
    }

    #[test]
    fn what_cannot_run_is_told_with_what_to_do() {
        let problems =
            |text: &str| Config::read(text, std::iter::empty()).unwrap().problems().join("\n");
        assert!(problems("").contains("no listener"));
        let listen = "[[listen]]\naddress = \"127.0.0.1:1\"\ndialects = [\"personium-evnt\"]\n";
        assert!(problems(listen).contains("did you mean \"personium-event\"?"));
        let listen = "[[listen]]\naddress = \"127.0.0.1:1\"\ndialects = [\"personium-event\"]\n";
        assert!(problems(listen).contains("[personium]: no token verifier"));
        assert!(problems(&listen.replace("event", "topic")).contains("no token verifier"));
        for dialect in ["wazo", "pulsar", "channel"] {
            let told = problems(&listen.replace("personium-event", dialect));
            assert!(told.contains(&format!("[{dialect}]: no token verifier")), "{told}");
        }
        let both = problems(&listen.replace("\"personium-event\"", "\"wazo\", \"channel\""));
        assert!(both.contains("127.0.0.1:1: wazo and channel both take /?token="), "{both}");
        let topics = format!("{MINIMAL}topics = {:?}", vec!["c/b/*"; 1025]);
        assert!(problems(&topics).contains("[personium] topics: more than 1024"));
        let topics = |glob| format!("{MINIMAL}topics = [\"c/b/*\", \"{glob}\"]");
        assert_eq!(problems(&topics("c/*/*.topic.*")), "");
        assert!(problems(&topics("c/*")).contains("[personium] topics: \"c/*\" matches no topic"));
        let url = "[personium]\ntoken = { introspection = { url = 'issuer.example' } }";
        assert!(
            problems(&format!("{listen}{url}"))
                .contains("[personium] token: url begins with neither")
        );
        assert!(problems(&format!("{MINIMAL}[feed.unix]\nmode = \"0999\"")).contains("in octal"));
        let twice = problems(&format!("{MINIMAL}[admin]\naddress = \"127.0.0.1:8080\""));
        assert!(
            twice.contains("two of [[listen]] and [admin] have the address 127.0.0.1:8080"),
            "{twice}"
        );
        let tls = "tls = { certificate = \"c\", client_certificate = \"optional\" }";
        let tls = problems(&format!("{listen}{tls}"));
        assert!(
            tls.contains("tls.key is missing") && tls.contains("without tls.client_ca"),
            "{tls}"
        );
        let proxied = problems(&format!("{listen}proxy_protocol = true"));
        assert!(proxied.contains("127.0.0.1:1: proxy_protocol needs trusted_proxies"), "{proxied}");
        let proxied =
            format!("trusted_proxies = ['::1', '10.0.0.0/8']\n{listen}proxy_protocol = true");
        assert!(!problems(&proxied).contains("proxy"));
        let relay = format!("{MINIMAL}[channel]\nrelay = \"redis\"\n");
        let echo = "[echo.redis]\napp = \"app\"\nprefix = \"p-\"\n";
        let neither = problems(&format!("{relay}{echo}"));
        assert!(
            neither.contains("channel.relay = \"redis\" needs a Redis: set feed.redis.url")
                && neither.contains("[echo.redis] needs a Redis: set feed.redis.url"),
            "{neither}"
        );
        let relayed =
            |more: &str| problems(&format!("{relay}{more}[feed.redis]\nurl_file = \"/f\""));
        assert_eq!(relayed("message_bytes_max = 917504\n"), "");
        assert!(relayed("message_bytes_max = 917505\n").contains("at most 917504"));
        let admin =
            |more: &str| problems(&format!("{MINIMAL}[admin]\naddress = \"127.0.0.1:1\"\n{more}"));
        assert_eq!(admin("token = \"0123456789abcdef\""), "");
        assert!(admin("token = \"0123\"").contains("[admin] token has fewer than 16 characters"));
        assert!(
            admin("token = \"0123456789abcdef\"\ntoken_file = \"/f\"")
                .contains("both token and token_file")
        );
        let parts = problems(&format!("{MINIMAL}[limits]\npartial_bytes_max = 65535"));
        assert!(parts.contains("less than personium.text_bytes_max (65536)"), "{parts}");
    }

    #[test]
    fn a_number_out_of_its_range_is_told_with_the_range_and_never_a_secret() {
        let app = "[[echo.app]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"";
        for (text, problem) in [
            ("[limits]\nhead_bytes_max = 0", "limits.head_bytes_max = 0: write at least 1"),
            ("[channel]\nchannel_bytes_max = 0", "channel.channel_bytes_max = 0: write 1 to 4000"),
            (
                "[channel]\nchannel_bytes_max = 4001",
                "channel.channel_bytes_max = 4001: write 1 to 4000",
            ),
            ("[feed.amqp]\nprefetch = 0", "feed.amqp.prefetch = 0: write 1 to 65535"),
            ("[store]\ninterval_ms = 5", "store.interval_ms = 5: write 10 to 60000"),
            ("[store]\nwriters = 17\ncache_bytes = 17825792", "store.writers = 17: write 1 to 16"),
            ("[pulsar]\ntopics_max = 0", "pulsar.topics_max = 0: write at least 1"),
            (
                "[pulsar]\npartitioned = [{ topic = \"persistent://a/b/c\", partitions = 1025 }]",
                "pulsar.partitioned.0.partitions = 1025: write 1 to 1024",
            ),
            (
                "[channel]\ncallback = { url = \"http://x\", timeout_s = 61 }",
                "channel.callback.timeout_s = 61: write 1 to 60",
            ),
            (
                "[wazo.token.wazo_auth]\nurl = \"http://x\"\ncache_s = 301",
                "wazo.token.wazo_auth.cache_s = 301: write at most 300",
            ),
            (
                "[pulsar.token.jwt]\nalgorithms = [\"HS256\"]\nsecret = \"s\"\nleeway_s = 61",
                "pulsar.token.jwt.leeway_s = 61: write at most 60",
            ),
            (
                &format!("{app}\nactivity_timeout_s = 3601"),
                "echo.app.0.activity_timeout_s = 3601: write 1 to 3600",
            ),
            (
                "[wazo]\nmessage_bytes_max = 67108865\n[limits]\npartial_bytes_max = 67108865",
                "wazo.message_bytes_max = 67108865: write at most 67108864",
            ),
        ] {
            let config = Config::read(&format!("{MINIMAL}{text}"), std::iter::empty()).unwrap();
            assert_eq!(config.problems(), [problem], "{text}");
        }
        let config =
            with(&[("FANFARE_STORE_WRITERS", "0"), ("FANFARE_STORE_CACHE_BYTES", "1048576")])
                .unwrap();
        assert_eq!(config.problems(), ["store.writers = 0: write 1 to 16"]);
    }

    #[test]
    fn durable_topics_beside_a_cluster_must_be_meant_to_be_each_nodes_own() {
        let problems = |dialect: &str, more: &str| {
            let text = format!(
                "[[listen]]\naddress = \"127.0.0.1:1\"\ndialects = [\"{dialect}\"]\n\
                 [pulsar]\nanonymous = true\n{more}"
            );
            let problems = Config::read(&text, std::iter::empty()).unwrap().problems();
            problems.into_iter().filter(|it| it.contains("[cluster]")).collect::<Vec<_>>()
        };
        let cluster = "[cluster]\nurl = \"nats://127.0.0.1\"\n";
        let told = problems("pulsar", cluster);
        assert!(told.len() == 1 && told[0].contains("set pulsar.local = true"), "{told:?}");
        assert!(problems("pulsar", &format!("local = true\n{cluster}")).is_empty());
        assert!(problems("pulsar", "").is_empty(), "there is no other node");
        assert!(problems("echo", cluster).is_empty(), "it is not spoken");
    }

    #[test]
    fn prefixes_of_which_one_begins_like_the_other_are_refused() {
        let problems = |channel: &str, echo: &str, more: &str| {
            let text = format!(
                "{MINIMAL}[feed.redis]\nurl_file = \"/f\"\nprefix = {channel:?}\n\
                 [[echo.app]]\nid = \"app\"\nkey = \"key\"\nsecret = \"secret\"\n\
                 [echo.redis]\napp = \"app\"\nprefix = {echo:?}\n{more}"
            );
            let text = text.replace("\"personium-event\"", "\"personium-event\", \"echo\"");
            Config::read(&text, std::iter::empty()).unwrap().problems().join("\n")
        };
        let relay = "[channel]\nrelay = \"redis\"\n";
        for (channel, echo) in
            [("myapp_staging_", "myapp_"), ("myapp_", "myapp_staging_"), ("myapp_", "")]
        {
            let told = problems(channel, echo, relay);
            assert!(told.contains("one begins like the other"), "{channel} {echo}: {told}");
            assert_eq!(problems(channel, echo, ""), "", "nobody listens under the first");
        }
        for (channel, echo) in
            [("myapp_", "myapp_"), ("myapp_", "other_"), ("myapp_a_", "myapp_b_")]
        {
            assert_eq!(problems(channel, echo, relay), "", "{channel} {echo}");
        }
    }

    #[test]
    fn limits_of_an_app_that_promise_what_no_client_can_be_sent_are_refused() {
        let problems = |app: &str, outbox: usize| {
            let app =
                format!("[[echo.app]]\nid = \"app\"\nkey = \"key\"\nsecret = \"secret\"\n{app}\n");
            let limits = format!(
                "[limits]\noutbox_bytes_max = {outbox}\n[feed.unix]\nline_bytes_max = 1000\n"
            );
            let text = format!("{MINIMAL}{app}{limits}");
            Config::read(&text, std::iter::empty()).unwrap().problems().join("\n")
        };
        assert_eq!(problems("", 204_800), "");
        assert!(
            problems("", 204_799)
                .contains("the list of 100 members of 1024 bytes each may have 204800 bytes")
        );
        assert_eq!(problems("presence_members_max = 512", 1 << 20), "");
        let many = problems("presence_members_max = 513", 1 << 20);
        assert!(
            many.contains("[[echo.app]] \"app\"") && many.contains("lower presence_members_max"),
            "{many}"
        );
        assert_eq!(
            problems("presence_members_max = 0", 1 << 20),
            "",
            "without a limit nothing is promised"
        );
        let long = problems("data_bytes_max = 300000", 1_000_000);
        assert!(
            long.contains("an event may have 1048576 bytes")
                && long.contains("lower data_bytes_max"),
            "{long}"
        );
        assert_eq!(problems("data_bytes_max = 300000\nrequest_bytes_max = 1000000", 1_000_000), "");
        let said = problems("[channel]\nmessage_bytes_max = 300000", 250_000);
        assert!(said.contains("is less than channel.message_bytes_max (300000)"), "{said}");
    }
}
