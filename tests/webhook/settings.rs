//! The settings: their defaults, and what is wrong with those that cannot be.

use super::*;

fn problems(callback: &str) -> String {
    toml::from_str::<CallbackSettings>(callback).unwrap().problems().join("\n")
}

fn webhook_problems(webhook: &str) -> String {
    toml::from_str::<WebhookSettings>(webhook).unwrap().problems().join("\n")
}

#[test]
fn what_is_not_said_is_as_the_protocols_have_it() {
    let settings = callback("");
    let CallbackSettings { kinds, timeout_s, concurrency, queue_max, .. } = settings;
    assert_eq!(
        (kinds, timeout_s, concurrency, queue_max),
        (vec!["chat".to_owned()], 5, 16, 10_000)
    );
    let (_, WebhookSettings { events, timeout_s, queue_max, .. }) = webhook("hook", "");
    assert_eq!((events, timeout_s, queue_max), (None, 5, 10_000));
}

#[test]
fn every_problem_is_told_with_what_to_do() {
    const GOOD: &str = "url = 'https://app.example:8443/hook?a=b'";
    assert_eq!((problems(GOOD), webhook_problems(GOOD)), (String::new(), String::new()));
    for (url, expected) in [
        ("app.example/hook", "write it like \"http://127.0.0.1/hook\""),
        ("ftp://app.example", "neither https:// nor http://"),
        ("http://ann:hush@app.example", "credentials in it (user:password@): leave them out"),
        ("http://", "not a valid URL; write it in ASCII, with a host"),
        ("", "neither"),
    ] {
        let url = format!("url = '{url}'");
        for problem in [problems(&url), webhook_problems(&url)] {
            assert!(problem.starts_with("url ") && problem.contains(expected), "{url}: {problem}");
            assert!(!problem.contains("hush"));
        }
    }
    assert!(problems(&format!("{GOOD}\nkinds = []")).starts_with("kinds is empty"));
    let colon = problems(&format!("{GOOD}\nkinds = ['chat:1']"));
    assert_eq!(
        colon,
        "kinds: no kind has a colon; write the part before it, \"chat\", instead of \"chat:1\""
    );
    assert!(webhook_problems(&format!("{GOOD}\nevents = []")).starts_with("events is empty"));
}

#[test]
fn what_is_no_key_or_no_event_is_refused() {
    const URL: &str = "url = 'http://a'";
    assert!(toml::from_str::<CallbackSettings>(&format!("{URL}\nevents = []")).is_err());
    assert!(problems("kinds = ['chat']").starts_with("url begins with neither"));
    assert!(
        toml::from_str::<WebhookSettings>(&format!("{URL}\nevents = ['channel_gone']")).is_err()
    );
    let all = "events = ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed', 'client_event', \
               'cache_miss', 'subscription_count']";
    assert!(toml::from_str::<WebhookSettings>(&format!("{URL}\n{all}")).is_ok());
}

#[test]
fn nothing_that_is_shown_has_a_secret_in_it() {
    let mut recipients =
        Recipients { callback: Some(callback("")), webhooks: vec![webhook("hook", "")] };
    recipients.callback.as_mut().unwrap().url = "http://app.example/?password=hush".into();
    let shown = format!("{recipients:?}");
    assert!(
        shown.contains("app.example") && !shown.contains("hush") && !shown.contains("the key"),
        "{shown}"
    );
    let webhook = Callback {
        channel: "chat:1".into(),
        token: "hush".into(),
        body: "hush".into(),
        client: None,
    };
    assert!(!format!("{webhook:?}").contains("hush"));
}
