//! Laravel Echo's own clients, unmodified: laravel-echo with pusher-js in Node and in a browser, and the libraries
//! that publish. What every tab has seen is compared whole.

use crate::harness::{
    APPS, Authority, Daemon, LISTENED, MET, SIGNED_IN, apps_setup as setup, assert_prints,
    assert_same, node, pypi, script, skip, tools,
};
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Adds the daemon's host and port.
fn with<'a>(command: &'a mut Command, daemon: &Daemon) -> &'a mut Command {
    command.arg(daemon.address.ip().to_string()).arg(daemon.address.port().to_string())
}

#[test]
fn echo_as_pusher_listens_whispers_and_leaves() {
    let Some(mut node) = node("echo_listen.js") else { return };
    let daemon = setup().start();
    assert_prints(with(node.arg("pusher"), &daemon), LISTENED);
    daemon.await_metric("connections", 0);
    daemon.await_metric("subscriptions", 0);
}

#[test]
fn echo_as_reverb_does_the_same() {
    let Some(mut node) = node("echo_listen.js") else { return };
    let daemon = setup().start();
    assert_prints(with(node.arg("reverb"), &daemon), LISTENED);
}

#[test]
fn presence_is_right_for_three_users_in_four_tabs() {
    let Some(mut node) = node("echo_presence.js") else { return };
    let daemon = setup().start();
    assert_prints(with(&mut node, &daemon), MET);
}

#[test]
fn encrypted_and_cache_channels_and_counts_work() {
    let Some(mut node) = node("echo_channels.js") else { return };
    let daemon = setup().start();
    let expected = r#"
        ["ann","Told",{"text":"é, encrypted"}]
        ["ann","subscribed","cache-prices"]
        ["ann","nothing yet","cache-prices"]
        ["ann","subscribed","cache-prices"]
        ["ann","Price",{"of":"cache-prices"}]
        ["ann","subscribed","private-cache-prices"]
        ["ann","nothing yet","private-cache-prices"]
        ["ann","subscribed","private-cache-prices"]
        ["ann","Price",{"of":"private-cache-prices"}]
        ["ann","subscribed","private-encrypted-cache-prices"]
        ["ann","nothing yet","private-encrypted-cache-prices"]
        ["ann","subscribed","private-encrypted-cache-prices"]
        ["ann","Price",{"of":"private-encrypted-cache-prices"}]
        ["ann","subscribed","presence-cache-prices"]
        ["ann","nothing yet","presence-cache-prices"]
        ["ann","subscribed","presence-cache-prices"]
        ["ann","Price",{"of":"presence-cache-prices"}]
        ["ann1","count",1,1]
        ["ann1","count",2,2]
        ["ann1","count",1,1]
        ["bob","count",2,2]
    "#;
    assert_prints(with(&mut node, &daemon), expected);
}

#[test]
fn users_who_sign_in_get_their_events_until_they_are_terminated() {
    let Some(mut node) = node("echo_signin.js") else { return };
    let daemon = setup().start();
    assert_prints(with(&mut node, &daemon), SIGNED_IN);
}

/// Of the list of members, 100 bytes fit into what may wait for a client.
#[test]
fn a_member_for_whom_the_list_has_no_room_is_refused_and_stays_connected() {
    let Some(mut node) = node("echo_room.js") else { return };
    let mut setup =
        setup().set("limits.outbox_bytes_max", 612).set("feed.unix.line_bytes_max", 612);
    setup = setup.set("channel.message_bytes_max", 612);
    for index in 0..APPS.len() {
        setup = setup.set(&format!("echo.app.{index}.presence_members_max"), 0);
        setup = setup.set(&format!("echo.app.{index}.data_bytes_max"), 100);
    }
    let daemon = setup.start();
    let expected = r#"
        ["ann","here",[{"id":1,"name":"Ann"}]]
        ["ann","joining",{"id":2,"name":"Bob"}]
        ["ann","error",{"code":4009,"message":"Connection terminated by the app."}]
        ["ann","error",{"code":4009,"message":"Connection terminated by the app."}]
        ["ann","error",{"code":4009,"message":"Connection terminated by the app."}]
        ["ann","is","disconnected"]
        ["bob","here",[{"id":1,"name":"Ann"},{"id":2,"name":"Bob"}]]
        ["bob","leaving",{"id":1,"name":"Ann"}]
        ["bob","joining",{"id":3,"name":"Cid ☎"}]
        ["bob","is","connected"]
        ["cid1","refused","LimitReached","The list of the channel's members is too long.",429]
        ["cid1",".said","still here"]
        ["cid1","is","connected"]
        ["cid2","here",[{"id":2,"name":"Bob"},{"id":3,"name":"Cid ☎"}]]
        ["cid2","is","connected"]
    "#;
    assert_prints(with(&mut node, &daemon), expected);
}

#[test]
fn an_unknown_key_is_refused_once_and_for_all() {
    let Some(mut node) = node("echo_unknown.js") else { return };
    let daemon = setup().start();
    let expected = r#"
        ["nobody","error",{"code":4001,"message":"App key no-key does not exist."}]
        ["nobody","state","disconnected"]
        ["nobody","is","disconnected",null,null,null]
    "#;
    assert_prints(with(&mut node, &daemon), expected);
    daemon.await_metric("connections", 0);
    assert_eq!(daemon.metric("handshakes_total{outcome=\"accepted\"}"), 1);
}

#[test]
fn a_page_that_finds_no_place_does_not_ask_again_each_second() {
    let Some(mut node) = node("echo_full.js") else { return };
    let daemon = setup().start();
    let expected = r#"
        ["ann","is","connected"]
        ["bob","is","disconnected"]
        ["cid","error",{"code":4004,"message":"Over connection limit."}]
        ["cid","is","disconnected"]
        ["dan","is","connected"]
    "#;
    assert_prints(with(&mut node, &daemon), expected);
}

/// A loopback address of this process alone, so that its port stays free while the daemon is away.
fn own_address() -> String {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    format!("127.{}.{middle}.{}:6001", high | 0x80, low.clamp(1, 254))
}

/// The rest of what a child prints, after it has ended.
fn rest(mut child: Child, mut output: impl std::io::Read) -> (String, bool) {
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    (text, child.wait().unwrap().success())
}

#[test]
fn after_a_restart_everybody_comes_back_to_everything() {
    let Some(mut node) = node("echo_restart.js") else { return };
    let mut daemon = setup().set("listen.0.address", own_address()).start();
    let mut child = with(&mut node, &daemon).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "restart\n");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    let daemon = daemon.again();
    let (printed, is_good) = rest(child, output);
    let expected = r#"
        ["ann","members",{"1":{"id":1,"name":"Ann"},"2":{"id":2,"name":"Bob"}}]
        ["ann","members",{"1":{"id":1,"name":"Ann"},"2":{"id":2,"name":"Bob"}}]
        ["ann","is","connected",true]
        ["ann","ChatMessageSent",{"message":"after the restart"}]
        ["ann","Greeting","again"]
        ["bob","members",{"1":{"id":1,"name":"Ann"},"2":{"id":2,"name":"Bob"}}]
        ["bob","members",{"1":{"id":1,"name":"Ann"},"2":{"id":2,"name":"Bob"}}]
        ["bob","is","connected",true]
        ["bob","ChatMessageSent",{"message":"after the restart"}]
        ["bob","users",{"users":[{"id":"1"},{"id":"2"}]}]
    "#;
    assert_same(&printed, expected, "");
    assert!(is_good);
    daemon.await_metric("connections", 0);
}

const PAGES: &str = r#"
    ["ann","here",[{"id":1,"name":"Ann"}]]
    ["ann","subscribed"]
    ["ann","joining",{"id":2,"name":"Bob"}]
    ["ann","ChatMessageSent",{"message":"hi","user":{"id":1,"name":"Ann"}}]
    ["ann","Told",{"text":"é, encrypted"}]
    ["ann","typing",{"name":"Bob"}]
    ["ann","leaving",{"id":2,"name":"Bob"}]
    ["bob","here",[{"id":1,"name":"Ann"},{"id":2,"name":"Bob"}]]
    ["bob","subscribed"]
    ["bob","ChatMessageSent",{"message":"hi","user":{"id":1,"name":"Ann"}}]
    ["bob","Told",{"text":"é, encrypted"}]
    ["bob","ChatMessageSent",{"message":"to others"}]
"#;

#[test]
fn a_page_of_laravel_works_in_chromium_with_tls_and_without() {
    if !tools().join("node_modules/playwright-core").exists()
        || !Path::new("/usr/bin/chromium").exists()
    {
        return skip("Laravel's page in Chromium", "it is not installed; tests/run does it");
    }
    let Some(mut node) = node("echo_page.js") else { return };
    let plain = setup().start();
    let setup = setup().tls(&Authority::new());
    let (authority, certificate) = (setup.path("ca.pem"), setup.path("cert.pem"));
    let secure = setup.start();
    let ports = [&plain, &secure].map(|daemon| daemon.address.port().to_string());
    assert_prints(
        node.args(ports).arg(certificate).env("NODE_EXTRA_CA_CERTS", authority),
        &PAGES.repeat(2),
    );
    plain.await_metric("connections", 0);
    secure.await_metric("connections", 0);
}

#[test]
fn pusher_and_pysher_of_pypi_publish_and_follow() {
    let python = tools().join("python/bin/python");
    let has = |module| {
        let question = Command::new(&python).args(["-c", &format!("import {module}")]).output();
        question.is_ok_and(|output| output.status.success())
    };
    if !has("pusher") || !has("pysher") {
        return skip("pusher and pysher of PyPI", "they are not installed; tests/run does it");
    }
    let daemon = setup().start();
    let expected = r#"
        ["ann","presence-room","pusher_internal:subscription_succeeded","{\"presence\":{\"count\":1,\"ids\":[\"7\"],\"hash\":{\"7\":{\"name\": \"Ann\"}}}}"]
        ["ann","presence-room","pusher_internal:member_added","{\"user_id\":\"8\",\"user_info\":null}"]
        ["ann","news","headline","{\"text\": \"é ☎\"}"]
        ["ann","private-chat","said","{\"text\": \"in a batch\"}"]
        ["ann","presence-room","said","also"]
        ["bob","private-chat","said","{\"text\": \"in a batch\"}"]
        ["ann","private-chat","said","not to Bob"]
        ["ann","private-chat","client-typing",{"name":"Bob"}]
        ["ann","private-chat","said","to both"]
        ["bob","private-chat","said","to both"]
        ["channels",{"channels":{"presence-room":{"user_count":2}}}]
        ["channel",{"occupied":true,"subscription_count":2}]
        ["users",["7","8"]]
        ["terminated",{}]
    "#;
    assert_prints(with(&mut pypi("echo_pypi.py"), &daemon), expected);
    daemon.await_metric("connections", 0);
}

/// Whether there is PHP.
fn has_php() -> bool {
    let php = Command::new("php").arg("-v").output();
    let is_there = php.is_ok_and(|output| output.status.success());
    if !is_there {
        skip("broadcasting from PHP", "php-cli is not installed; tests/run does it");
    }
    is_there
}

/// Laravel's library for PHP asks for the connection's `path` where Guzzle resolves it by RFC 3986 section 5.3, which
/// drops what has no slash at its end, and all of it for a batch. It signs the path without, users as they are called
/// and lists with commas, and sends them encoded.
#[test]
fn phps_library_is_answered_whatever_it_makes_of_the_path() {
    if !has_php() {
        return;
    }
    let daemon = setup().set("echo.path", "/ws").start();
    let lines = [
        r#"{"channels":["news","private-x"],"event":"said","payload":{"text":"\u00e9 /"}}"#,
        r#"{"batch":[{"channel":"news","name":"said","data":{"n":1}},{"channel":"cache-c","name":"kept","data":[2]}]}"#,
        r#"{"get":"/channels/presence-a","params":{"info":["user_count","subscription_count"]}}"#,
        r#"{"get":"/channels/presence-a","params":{"info":"user_count"}}"#,
        r#"{"get":"/channels/cache-c","params":{"info":["cache"]}}"#,
        r#"{"get":"/channels","params":{"filter_by_prefix":"presence-","info":"user_count"}}"#,
        r#"{"get":"/connections","params":{}}"#,
        r#"{"terminate":"auth0|x"}"#,
        r#"{"terminate":"J\u00fcrgen M"}"#,
    ]
    .join("\n");
    for path in ["/ws/", "/ws", ""] {
        let address = format!("http://{}", daemon.address);
        let mut php = Command::new("php");
        php.arg(script("laravel_broadcast.php")).args([
            "app-id",
            "app-key",
            "app-secret",
            &address,
            path,
        ]);
        let mut php = php.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        php.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let printed = String::from_utf8(php.wait_with_output().unwrap().stdout).unwrap();
        let left = |printed: &str| {
            let (_, rest) = printed.split_once(r#"ttl\":"#)?;
            rest.split_once('}').map(|(left, _)| left.to_owned())
        };
        let left = left(&printed).unwrap_or_default();
        assert!((1..=1800).contains(&left.parse::<u32>().unwrap_or(0)), "{printed}");
        let printed = printed.replace(&format!(r#"ttl\":{left}"#), r#"ttl\":…"#);
        let expected = r#"
            [200,"{}"]
            [200,"{}"]
            [200,"{\"occupied\":false,\"user_count\":0,\"subscription_count\":0}"]
            [200,"{\"occupied\":false,\"user_count\":0}"]
            [200,"{\"occupied\":false,\"cache\":{\"event\":\"kept\",\"channel\":\"cache-c\",\"data\":\"[2]\",\"ttl\":…}}"]
            [200,"{\"channels\":{}}"]
            [200,"{\"connections\":0}"]
            [200,"{}"]
            [200,"{}"]
        "#;
        assert_same(&printed, expected, path);
    }
}

#[test]
fn what_laravel_broadcasts_from_php_reaches_echo() {
    if !has_php() {
        return;
    }
    let Some(mut node) = node("echo_php.js") else { return };
    let daemon = setup().set("echo.path", "/ws").start();
    let expected = r#"
        ["ann","ChatMessageSent",{"message":"hi","user":{"id":1,"name":"Ann"}}]
        ["ann",".said",{"text":"é ☎ /","nothing":null,"list":[1,2.5]}]
        ["bob","ChatMessageSent",{"message":"hi","user":{"id":1,"name":"Ann"}}]
        ["bob","ChatMessageSent",{"message":"to others"}]
        ["bob",".said",{"text":"é ☎ /","nothing":null,"list":[1,2.5]}]
    "#;
    assert_prints(with(&mut node, &daemon).arg("/ws"), expected);
}
