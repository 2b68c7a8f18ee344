//! Problems of the settings of `echo`, each with what to do.

use super::app::{AppSettings, EchoSettings};
use crate::service::webhook::WebhookSettings;
use ahash::AHashSet;

/// Settings that parse and cannot work; `is_spoken`: whether any listener speaks the dialect.
pub(super) fn of(settings: &EchoSettings, is_spoken: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if is_spoken && settings.app.is_empty() {
        problems.push("[echo]: no app: add [[echo.app]] with id, key and secret_file".into());
    }
    if !settings.path.is_empty()
        && (!settings.path.starts_with('/') || settings.path.ends_with('/'))
    {
        problems.push(format!(
            "[echo] path = {:?}: begin it with / and do not end it with one, as in \"/ws\"",
            settings.path
        ));
    }
    if settings.path.contains(|c: char| !c.is_ascii_graphic() || "?#%".contains(c)) {
        problems.push("[echo] path: write it as in URLs, without a query".into());
    }

    let (mut ids, mut keys) = (AHashSet::new(), AHashSet::new());
    for (place, app) in settings.app.iter().enumerate() {
        let name = if app.id.is_empty() {
            format!("number {}", place + 1)
        } else {
            format!("{:?}", app.id)
        };
        if !ids.insert(&app.id) && !app.id.is_empty() {
            let problem = "two apps have this id: give each its own";
            problems.push(format!("[[echo.app]] {name}: {problem}"));
        }
        if !keys.insert(&app.key) && !app.key.is_empty() {
            let problem = "two apps have this key: give each its own";
            problems.push(format!("[[echo.app]] {name}: {problem}"));
        }
        problems.extend(app.problems().iter().map(|what| format!("[[echo.app]] {name}: {what}")));
    }

    if let Some(redis) = &settings.redis
        && !settings.app.iter().any(|app| app.id == redis.app)
    {
        problems.push(format!(
            "[echo.redis] app = {:?}: there is no [[echo.app]] with this id; add one, or \
             correct this",
            redis.app
        ));
    }
    problems
}

impl AppSettings {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in [("id", &self.id), ("key", &self.key)] {
            // They are part of URLs, topics and signatures, where other characters would be
            // delimiters.
            let is_plain =
                value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if value.is_empty() || !is_plain {
                problems.push(format!(
                    "{name} has letters, digits, \"-\", \"_\" and \".\", at least one"
                ));
            }
        }

        match (&self.secret, &self.secret_file) {
            (None, None) => problems.push("no secret: add secret_file (or secret)".into()),
            (Some(_), Some(_)) => problems.push("both secret and secret_file: keep one".into()),
            (Some(secret), None) if secret.0.is_empty() => problems.push("secret is empty".into()),
            _ => {}
        }

        let (member, message) = (self.member_bytes_max, self.message_bytes_max);
        if message > 0 && member >= message {
            problems.push(format!(
                "member_bytes_max = {member} does not fit into message_bytes_max = {message}: a \
                 member with that much data would be closed on every attempt; raise that, or \
                 lower this"
            ));
        }

        let webhooks = self.webhook.iter().flat_map(WebhookSettings::problems);
        problems.extend(webhooks.map(|problem| format!("webhook {problem}")));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::super::Broadcaster;
    use super::*;
    use crate::setting::Secret;

    fn app(id: &str) -> AppSettings {
        let secret = Some(Secret("secret".into()));
        AppSettings { id: id.into(), key: format!("{id}-key"), secret, ..Default::default() }
    }

    fn problems(app: Vec<AppSettings>) -> String {
        of(&EchoSettings { app, ..Default::default() }, true).join("\n")
    }

    #[test]
    fn what_cannot_run_is_told_with_what_to_do() {
        assert_eq!(problems(vec![app("one"), app("2")]), "");
        assert!(problems(vec![]).contains("no app"));
        assert!(of(&EchoSettings::default(), false).is_empty());
        assert!(problems(vec![app("one"), app("one")]).contains("\"one\": two apps have this id"));
        let same_key = AppSettings { key: "one-key".into(), ..app("two") };
        assert!(problems(vec![app("one"), same_key]).contains("two apps have this key"));
        let url = |url: &str| vec![toml::from_str(&format!("url = '{url}'")).unwrap()];
        for (app, reason) in [
            (app(""), "number 1: id has letters"),
            (app("a b"), "id has letters"),
            (AppSettings { key: "a/b".into(), ..app("a") }, "key has letters"),
            (AppSettings { secret: None, ..app("a") }, "no secret"),
            (AppSettings { secret_file: Some("x".into()), ..app("a") }, "both secret"),
            (AppSettings { secret: Some(Secret(String::new())), ..app("a") }, "secret is empty"),
            (
                AppSettings { message_bytes_max: 1024, ..app("a") },
                "member_bytes_max = 1024 does not fit",
            ),
            (
                AppSettings { member_bytes_max: 70_000, ..app("a") },
                "does not fit into message_bytes_max",
            ),
            (AppSettings { webhook: url("ftp://x"), ..app("a") }, "webhook url"),
        ] {
            let found = problems(vec![app]);
            assert!(found.contains(reason), "{reason}: {found}");
        }
        for (path, is_good) in
            [("", true), ("/ws", true), ("/a/b", true), ("ws", false), ("/", false), ("/é", false)]
        {
            let settings =
                EchoSettings { path: path.into(), app: vec![app("a")], ..Default::default() };
            assert_eq!(of(&settings, true).is_empty(), is_good, "{path}");
        }
        let redis = Some(Broadcaster { app: "other".into(), prefix: String::new() });
        let settings = EchoSettings { redis, app: vec![app("a")], ..Default::default() };
        assert!(of(&settings, true)[0].contains("no [[echo.app]] with this id"));
    }
}
