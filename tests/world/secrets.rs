//! Tokens and secrets are seen by nobody who reads logs or metrics.

use crate::harness::{Client, PATH, SECRET, Setup, event, head, http, token, token_with};
use rustix::process::Signal;

#[test]
fn no_log_line_and_no_metric_holds_a_token_or_a_secret() {
    const OTHER: &str = "another secret, which this daemon does not know of";
    let both = r#"["personium-event", "personium-topic"]"#;
    let mut daemon = Setup::new().set("log.level", "debug").set("listen.0.dialects", both).start();
    let (good, foreign, weak) =
        (token(), token_with(OTHER, "event"), token_with(SECRET, "nothing"));
    let stream = token_with(SECRET, "read stream-receive");
    let garbage = "garbage-token-0123456789";
    for token in [&good, &foreign, &weak, &stream, &garbage.to_owned()] {
        for key in ["access_token", "AccessToken"] {
            let mut client = daemon.client();
            client.say(&format!("{{\"{key}\":\"{token}\"}}"));
            drop(client.next());
            client.say(&format!("{{\"{key}\":\"{token}\"}} trailing"));
            client.say(&format!("{{\"subscribe\":{{\"Type\":\"{token}\",\"Object\":\"*\"}}}}"));
        }
        for message in [format!("{{\"AccessToken\":\"{token}\"}}"), format!("{{\"{token}\":1}}")] {
            let mut client = Client::raw(daemon.address);
            client.bytes(
                head(&format!("/demo/__topic/box/{token}.topic.n?token={token}")).as_bytes(),
            );
            assert_eq!(client.answer(), 101);
            assert_eq!(
                client.ask(&message).contains("Success"),
                *token == stream && message.contains("Access")
            );
        }
        let mut client = Client::raw(daemon.address);
        client.bytes(head(&format!("{PATH}?token={token}")).as_bytes());
        assert_eq!(client.answer(), 101);
        assert_eq!(http(daemon.address, head(&format!("/?token={token}")).as_bytes()).0, 404);
        assert_eq!(http(daemon.address, head(&format!("/ \x01 ?token={token}")).as_bytes()).0, 400);
        let authorization = format!("Host: x\r\nAuthorization: Bearer {token}");
        assert_eq!(
            http(daemon.address, head("/x").replace("Host: x", &authorization).as_bytes()).0,
            404
        );
        assert_eq!(http(daemon.admin, head(&format!("/?token={token}")).as_bytes()).0, 404);
        let mut publisher = daemon.publisher();
        publisher.send(format!("event/demo {{\"Type\":\"{token}\"\n"));
        publisher
            .send(format!("topic/demo/box/{token}.topic.n {{\"From\":1,\"Body\":\"{token}\"}}\n"));
        publisher.send(event("fine", token));
        drop(publisher.reply());
        drop(publisher.reply());
        publisher.receipt();
    }
    std::fs::write(daemon.path("jwt.secret"), "too short, really").unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_log("not reloaded", 1);
    let seen = daemon.page("/metrics").1;
    daemon.signal(Signal::TERM);
    daemon.wait();
    let seen = seen + &daemon.log().join("\n");
    assert!(seen.contains("DEBUG"), "nothing is logged at debug level");
    for secret in [&good[..], &foreign, &weak, &stream, garbage, SECRET, OTHER, "too short, really"]
    {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    for token in [&good, &stream] {
        assert!(!seen.contains(token.rsplit('.').next().unwrap()));
    }
}
