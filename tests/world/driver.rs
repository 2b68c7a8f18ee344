//! The two ways of waiting, and the fall from one to the other.

use crate::harness::{Daemon, Setup, event, skip};
use fanfare::io::foundation::try_io_uring;
use rustix::process::Signal;

/// Becomes a program that may not set up rings, as in a container's sandbox, or not enter them: a seccomp filter that
/// answers a system call with an error. Perl is on every Debian.
const REFUSE_RINGS: &str = r#"
    my ($prctl, $call, $error, $program) = (shift, shift, shift, "");
    $program .= pack("SCCL", @$_) for [0x20,0,0,0], [0x15,0,1,$call], [0x06,0,0,0x50000 + $error], [0x06,0,0,0x7fff0000];
    my $filter = pack("S x![P] P", length($program) / 8, $program);
    syscall($prctl, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!";
    syscall($prctl, 22, 2, $filter) == 0 or die "seccomp: $!";
    exec @ARGV or die "exec: $!";
"#;

fn smoke(daemon: &mut Daemon) {
    let mut subscriber = daemon.subscriber();
    let mut publisher = daemon.publisher();
    for n in 0..200 {
        publisher.send(event("smoke", &n.to_string()));
        assert!(subscriber.text().contains(&format!("\"Info\":\"{n}\"")));
    }
    assert_eq!(publisher.receipt(), (200, 0));
    subscriber.frame(0x89, b"ping");
    assert_eq!(subscriber.next().unwrap().payload, b"ping");
    assert_eq!(daemon.page("/readyz").0, 200);
    daemon.signal(Signal::TERM);
    assert_eq!(subscriber.close_code(), 1001);
    subscriber.frame(0x88, b"\x03\xe9");
    assert_eq!(daemon.wait().code(), Some(0));
}

/// What is refused, and the answer: the numbers of io_uring_setup(2) and io_uring_enter(2), on every machine, of EPERM, and of
/// ENOSYS, which Podman answers with.
const REFUSALS: [[&str; 2]; 3] = [["425", "1"], ["425", "38"], ["426", "1"]];

/// A command that becomes another to which io_uring is refused.
pub(crate) fn refusing_rings([call, error]: [&str; 2]) -> [&str; 6] {
    let prctl = if cfg!(target_arch = "aarch64") { "167" } else { "157" };
    ["perl", "-e", REFUSE_RINGS, prctl, call, error]
}

fn without_rings(setup: Setup, refusal: [&str; 2]) -> Setup {
    setup.by(&refusing_rings(refusal))
}

fn warnings(daemon: &Daemon) -> usize {
    daemon.logged("\"WARN\"").len()
}

#[test]
fn the_same_conversation_works_on_both_drivers() {
    let mut daemon = Setup::new().set("driver", "epoll").set("threads", 2).start();
    assert_eq!(daemon.logged("\"driver\":\"epoll\"").len(), 1);
    smoke(&mut daemon);
    if let Err(error) = try_io_uring(2) {
        return skip("the io_uring driver", &error.to_string());
    }
    let mut daemon = Setup::new().set("driver", "io_uring").set("threads", 2).start();
    assert_eq!(daemon.logged("\"driver\":\"io_uring\"").len(), 1);
    assert_eq!(warnings(&daemon), 0, "{:?}", daemon.log());
    smoke(&mut daemon);
}

#[test]
fn where_io_uring_is_refused_the_daemon_says_so_once_and_works() {
    for refusal in REFUSALS {
        let mut daemon =
            without_rings(Setup::new().set("driver", "auto").set("threads", 2), refusal).start();
        assert_eq!(daemon.logged("\"driver\":\"epoll\"").len(), 1);
        smoke(&mut daemon);
        assert_eq!(warnings(&daemon), 1, "{:?}", daemon.log());
        assert_eq!(daemon.logged("io_uring is refused to 2 of 2 shards").len(), 1);
    }
}

#[test]
fn a_driver_that_is_demanded_and_refused_ends_the_start_with_what_to_do() {
    for refusal in REFUSALS {
        let setup = without_rings(Setup::new().set("driver", "io_uring"), refusal);
        let output = setup.command().output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("a container's seccomp profile"), "{said}");
        assert!(
            said.contains("io_uring") && said.contains("driver = \"auto\" or \"epoll\""),
            "{said}"
        );
    }
}
