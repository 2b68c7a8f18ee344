//! A daemon whose work passes from process to process, and those who go on meanwhile.

use super::{Daemon, Setup, command};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

/// The token of operators.
pub(crate) const OPERATOR_TOKEN: &str = "admin-token-0123456789abcdef";

/// A program that says what a new process does until a point, and ends there or does something else.
const FAKE: &str = r#"#!/usr/bin/env python3
import json, os, socket, sys
point = open(os.path.join(os.path.dirname(sys.argv[0]), "point")).read()
if sys.argv[1] == "check":
    if point == "check":
        sys.stderr.write("it is all wrong\n" + "x" * 200000)
    sys.exit(78 if point == "check" else 0)
end = socket.socket(fileno=0)
end.setblocking(True)
def say(word, fds=()):
    socket.send_fds(end, [json.dumps(word).encode()], fds)
def at(name):
    if point == name:
        sys.exit(1)
def hear():
    return json.loads(socket.recv_fds(end, 65536, 250)[0])
at("start")
newest = 1 if point != "format" else 3
say({"Hello": {"oldest": newest, "newest": newest, "release": "9.9.9"}})
at("hello")
while hear()["Listeners"]["follow"]:
    pass
at("listeners")
say("Ready")
at("ready")
assert "State" in hear()
at("state")
if point == "nonsense":
    end.send(b"nonsense")
elif point == "early":
    say("Ready")
elif point == "sorry":
    say({"Sorry": {"reason": "there is no room"}})
elif point == "file":
    say({"Taken": {"connections": 1}}, [os.open("/dev/null", os.O_RDONLY)])
# Silent until it is ended.
end.recv(1)
"#;

/// A daemon, and the processes that have taken over from it.
pub(crate) struct Service {
    pub(crate) daemon: Daemon,
    /// The process that runs now.
    pid: Option<u32>,
}

impl Service {
    pub(crate) fn start(setup: Setup) -> Self {
        let socket = setup.path("admin.sock");
        let setup = setup.set("admin.socket", socket.display()).set("admin.token", OPERATOR_TOKEN);
        Self { daemon: setup.start(), pid: None }
    }

    /// Asks for a hand-over that is not to be made. Returns what the command says.
    #[track_caller]
    pub(crate) fn fail(&self, options: &[&str]) -> String {
        let output = self.upgrade(options);
        assert!(!output.status.success(), "it is made");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Asks for a hand-over to a process that goes as far as this point of [`FAKE`]. Returns what the
    /// command says.
    #[track_caller]
    pub(crate) fn fail_at(&self, point: &str) -> String {
        let program = self.daemon.path("fake");
        std::fs::write(&program, FAKE).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        std::fs::write(self.daemon.path("point"), point).unwrap();
        self.fail(&["--binary", program.to_str().unwrap()])
    }

    fn socket(&self) -> PathBuf {
        self.daemon.path("admin.sock")
    }

    /// What `fanfare upgrade` has to say.
    fn upgrade(&self, options: &[&str]) -> Output {
        let socket = self.socket();
        let words = [&["upgrade", "--json", "--admin", socket.to_str().unwrap()], options].concat();
        command(&words).output().unwrap()
    }

    /// Hands over to the next process. Returns the answer.
    #[track_caller]
    pub(crate) fn hand_over(&mut self) -> Value {
        self.hand_over_with(&[])
    }

    /// The same with options of the command.
    #[track_caller]
    pub(crate) fn hand_over_with(&mut self, options: &[&str]) -> Value {
        let answer = self.try_hand_over(options);
        answer.unwrap_or_else(|said| panic!("{said}\n{}", self.daemon.log().join("\n")))
    }

    /// The same, or what the command says when it is not made.
    pub(crate) fn try_hand_over(&mut self, options: &[&str]) -> Result<Value, String> {
        let output = self.upgrade(options);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        self.pid = Some(answer["pid"].as_u64().unwrap() as u32);
        Ok(answer)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.and_then(|pid| Pid::from_raw(pid as i32)) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// Threads that go on until they are told, and then say what they have seen.
pub(crate) struct Going<T> {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<T>>,
}

impl<T: Send + 'static> Going<T> {
    pub(crate) fn new() -> Self {
        Self { is_over: Arc::default(), threads: Vec::new() }
    }

    pub(crate) fn go(&mut self, work: impl FnOnce(&AtomicBool) -> T + Send + 'static) {
        let is_over = Arc::clone(&self.is_over);
        self.threads.push(std::thread::spawn(move || work(&is_over)));
    }

    pub(crate) fn end(self) -> Vec<T> {
        self.is_over.store(true, Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}
