//! Scripts of `tests/clients` with Laravel Echo's own clients, and what their tabs print: the same on one daemon and
//! on several.

use super::{Setup, npm, skip, tools};
use std::process::{Command, Stdio};

/// The apps that `tests/clients/echo.js` knows: id, key and secret.
pub(crate) const APPS: [[&str; 3]; 4] = [
    ["app-id", "app-key", "app-secret"],
    ["3", "278d425bdf160c739803", "7ad3773142a6692b25b8"],
    ["counted", "counted-key", "counted-secret"],
    ["small", "small-key", "small-secret"],
];

/// A daemon with these apps.
pub(crate) fn apps_setup() -> Setup {
    let setup = Setup::new().set("listen.0.dialects", "[\"echo\"]").set("threads", 2);
    with_apps(setup)
}

/// Adds these apps.
pub(crate) fn with_apps(mut setup: Setup) -> Setup {
    for (index, app) in APPS.iter().enumerate() {
        for (name, value) in ["id", "key", "secret"].iter().zip(app) {
            setup = setup.set(&format!("echo.app.{index}.{name}"), value);
        }
    }
    setup.set("echo.app.2.subscription_count", true).set("echo.app.3.max_connections", 2)
}

/// A script of `tests/clients` for Node; `None` where what it needs is not installed.
pub(crate) fn node(name: &str) -> Option<Command> {
    let modules = tools().join("node_modules");
    if !["laravel-echo", "pusher-js", "pusher"].iter().all(|module| modules.join(module).exists()) {
        skip(name, "laravel-echo, pusher-js and pusher are not installed; tests/run does it");
        return None;
    }
    Some(npm(name))
}

/// Runs a script to its end, which it makes sure of itself.
#[track_caller]
pub(crate) fn assert_prints(command: &mut Command, expected: &str) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_same(&String::from_utf8_lossy(&output.stdout), expected, &error);
    assert!(output.status.success(), "{error}");
}

/// Both have the same lines.
#[track_caller]
pub(crate) fn assert_same(printed: &str, expected: &str, error: &str) {
    let printed: Vec<&str> = printed.lines().collect();
    let expected: Vec<&str> =
        expected.lines().map(str::trim_start).filter(|line| !line.is_empty()).collect();
    assert!(printed == expected, "printed {printed:#?}\nexpected {expected:#?}\n{error}");
}

/// Of `echo_listen.js`.
pub(crate) const LISTENED: &str = r#"
    ["ann",".headline",{"text":"é ☎ \"/\\"}]
    ["ann","ChatMessageSent",{"message":"hi","user":{"id":1,"name":"Ann"}}]
    ["ann","MessageSent",{"message":"m","id":3}]
    ["ann","ChatMessageSent",{"message":"to all"}]
    ["ann","typing",{"name":"Bob"}]
    ["ann","notification",{"id":"a-uuid","type":"InvoicePaid"}]
    ["ann",".headline","a batch"]
    ["ann","refused by the application","AuthError",403]
    ["ann","refused by the daemon","AuthError",401,"string"]
    ["ann","ChatMessageSent",{"message":"bob has left"}]
    ["ann",".headline","the end"]
    ["bob",".headline",{"text":"é ☎ \"/\\"}]
    ["bob","ChatMessageSent",{"message":"hi","user":{"id":1,"name":"Ann"}}]
    ["bob","MessageSent",{"message":"m","id":3}]
    ["bob","ChatMessageSent",{"message":"to others"}]
    ["bob","ChatMessageSent",{"message":"to all"}]
    ["bob","typing",{"name":"Ann"}]
    ["bob",".headline","a batch"]
    ["bob",".headline","the end"]
"#;

/// Of `echo_presence.js`.
pub(crate) const MET: &str = r#"
    ["ann1","here",[{"id":1,"name":"Ann"}]]
    ["ann1","joining",{"id":2,"name":"Bob"}]
    ["ann1","joining",{"id":3,"name":"Cid ☎"}]
    ["ann1","typing",{"name":"Bob"},"2"]
    ["ann1","Said",{"text":"four tabs"}]
    ["ann1","Said",{"text":"three tabs"}]
    ["ann1","here",[{"id":1,"name":"Ann"},{"id":2,"name":"Bob"}]]
    ["ann2","here",[{"id":1,"name":"Ann"}]]
    ["ann2","joining",{"id":2,"name":"Bob"}]
    ["ann2","joining",{"id":3,"name":"Cid ☎"}]
    ["ann2","typing",{"name":"Bob"},"2"]
    ["ann2","Said",{"text":"four tabs"}]
    ["bob","here",[{"id":1,"name":"Ann"},{"id":2,"name":"Bob"}]]
    ["bob","joining",{"id":3,"name":"Cid ☎"}]
    ["bob","Said",{"text":"four tabs"}]
    ["bob","Said",{"text":"three tabs"}]
    ["bob","leaving",{"id":1,"name":"Ann"}]
    ["bob","leaving",{"id":3,"name":"Cid ☎"}]
    ["bob","users",{"users":[{"id":"2"}]}]
    ["bob","joining",{"id":1,"name":"Ann"}]
    ["cid","here",[{"id":1,"name":"Ann"},{"id":2,"name":"Bob"},{"id":3,"name":"Cid ☎"}]]
    ["cid","typing",{"name":"Bob"},"2"]
    ["cid","Said",{"text":"four tabs"}]
    ["cid","Said",{"text":"three tabs"}]
    ["cid","leaving",{"id":1,"name":"Ann"}]
"#;

/// Of `echo_signin.js`. pusher-js tells a close thrice: once for the frame before it, twice for the close itself.
pub(crate) const SIGNED_IN: &str = r#"
    ["ann1","signed in",{"id":"1","user_info":{"id":1,"name":"Ann"}}]
    ["ann1","Greeting",{"hello":"Ann"}]
    ["ann1","here",[{"id":1,"name":"Ann"}]]
    ["ann1","error",{"code":4009,"message":"Connection terminated by the app."}]
    ["ann1","error",{"code":4009,"message":"Connection terminated by the app."}]
    ["ann1","error",{"code":4009,"message":"Connection terminated by the app."}]
    ["ann1","is","disconnected"]
    ["ann2","signed in",{"id":"1","user_info":{"id":1,"name":"Ann"}}]
    ["ann2","Greeting",{"hello":"Ann"}]
    ["ann2","error",{"code":4009,"message":"Connection terminated by the app."}]
    ["ann2","error",{"code":4009,"message":"Connection terminated by the app."}]
    ["ann2","error",{"code":4009,"message":"Connection terminated by the app."}]
    ["ann2","is","disconnected"]
    ["bob","signed in",{"id":"2","user_info":{"id":2,"name":"Bob"}}]
    ["bob","Greeting",{"hello":"Bob"}]
    ["bob","here",[{"id":1,"name":"Ann"},{"id":2,"name":"Bob"}]]
    ["bob","leaving",{"id":1,"name":"Ann"}]
    ["bob","Greeting",{"hello":"Bob, still here"}]
    ["bob","is","connected"]
"#;
