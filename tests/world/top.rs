//! `fanfare top` as a person sees it: in a terminal, with keys.

use crate::harness::{Daemon, Echo, command, echo_setup, eventually, skip};
use crate::v1::TOKEN;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Leaves the other screen, shows the cursor.
const GIVEN_BACK: [&str; 2] = ["\x1b[?1049l", "\x1b[?25h"];

/// The view in a terminal of 80 columns and 24 rows.
struct Terminal {
    child: Killed,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn open(daemon: &Daemon) -> Self {
        let file = daemon.path("admin.token");
        std::fs::write(&file, TOKEN).unwrap();
        let program = command(&[]).get_program().to_owned().into_string().unwrap();
        let view = format!(
            "stty rows 24 cols 80; {program} top --admin {} --token-file {}; echo status $?",
            daemon.admin,
            file.display()
        );
        let mut child = Command::new("script")
            .args(["-q", "-c", &view, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut out, shown) = (child.stdout.take().unwrap(), Arc::<Mutex<String>>::default());
        let seen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut chunk) {
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        Self { child: Killed(child), shown }
    }

    fn press(&mut self, keys: &str) {
        self.child.0.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until all of these are on the screen, or have been.
    #[track_caller]
    fn shows(&self, texts: &[&str]) {
        eventually(&format!("{texts:?} are shown"), || {
            let shown = self.shown.lock().unwrap();
            texts.iter().all(|text| shown.contains(text))
        });
    }

    /// The number of the process that draws.
    fn pid(&self) -> Pid {
        let mut found = None;
        eventually("it runs", || {
            let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
                let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
                Some((pid, rest.split(' ').nth(1)?.parse::<u32>().ok()?, name.to_owned()))
            });
            let all: Vec<_> = all.collect();
            // `script` runs a shell that runs it.
            let shell = all.iter().find(|(_, parent, _)| *parent == self.child.0.id());
            let view = shell.and_then(|(shell, ..)| {
                all.iter().find(|(_, parent, name)| *parent == *shell as u32 && name == "fanfare")
            });
            found = view.and_then(|(pid, ..)| Pid::from_raw(*pid));
            found.is_some()
        });
        found.unwrap()
    }
}

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has_script(test: &str) -> bool {
    let runs = Command::new("script").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !runs {
        skip(test, "`script` of util-linux is not installed");
    }
    runs
}

#[test]
fn the_view_lists_filters_and_ends_sessions_and_gives_the_terminal_back() {
    if !has_script("fanfare top") {
        return;
    }
    let daemon = echo_setup().set("admin.token", TOKEN).start();
    let mut echo = Echo::connect(&daemon);
    let mut terminal = Terminal::open(&daemon);
    let address = echo.client.stream().local_addr().unwrap().to_string();
    terminal.shows(&["ready", "deliveries/s", "the slowest clients first", &address]);
    // Sorted otherwise, there is still one.
    terminal.press("sk");
    terminal.shows(&["end the session "]);
    terminal.press("y");
    assert_eq!(echo.client.close_code(), 4009);
    terminal.press("/wazo\r");
    terminal.shows(&["only ", "wazo"]);
    terminal.press("\t\t");
    terminal.shows(&["kicked"]);
    terminal.press("q");
    terminal.shows(&["status 0"]);
    terminal.shows(&GIVEN_BACK);
}

#[test]
fn a_signal_gives_the_terminal_back_and_a_daemon_that_goes_is_told() {
    if !has_script("fanfare top and signals") {
        return;
    }
    let mut daemon = echo_setup().set("admin.token", TOKEN).start();
    let terminal = Terminal::open(&daemon);
    terminal.shows(&["ready"]);
    daemon.signal(Signal::TERM);
    daemon.wait();
    terminal.shows(&["nothing listens on"]);
    kill_process(terminal.pid(), Signal::TERM).unwrap();
    terminal.shows(&GIVEN_BACK);
    terminal.shows(&["status 0"]);

    let output = command(&["top", "--admin", "127.0.0.1:1"]).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && error.contains("needs a terminal"), "{error}");
}

#[test]
fn the_view_ends_with_its_terminal_also_where_no_signal_tells_of_that() {
    let daemon = echo_setup().set("admin.token", TOKEN).start();
    let file = daemon.path("admin.token");
    std::fs::write(&file, TOKEN).unwrap();
    let admin = daemon.admin.to_string();
    let program = command(&["top", "--admin", &admin, "--token-file", file.to_str().unwrap()]);
    // In a session of its own without a controlling terminal it gets no SIGHUP.
    for session in [&["--ctty"][..], &[]] {
        let mut master: File =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap().into();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let end = || {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits() as i32);
            Stdio::from(options.open(&name).unwrap())
        };
        let view = Command::new("setsid")
            .args(session)
            .arg(program.get_program())
            .args(program.get_args())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn();
        let mut view = Killed(view.unwrap());
        let (mut shown, mut chunk) = (String::new(), [0; 4096]);
        while !shown.contains("ready") {
            let count = master.read(&mut chunk).unwrap();
            shown.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }

        drop(master);
        eventually("the view has ended", || view.0.try_wait().unwrap().is_some());
    }
}
