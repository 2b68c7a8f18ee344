//! `fanfare doctor`: what is good is told, and each thing that is not is found, with the command that mends it.

use crate::cli::run;
use crate::driver::refusing_rings;
use crate::harness::{
    Authority, Daemon, Receiver, Redis, Setup, Verifier, clean, echo_setup, root, skip,
};
use fanfare::io::foundation::try_io_uring;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// An address on which nothing listens.
const NOWHERE: &str = "127.0.0.1:1";

/// What the doctor has found.
#[derive(Debug)]
pub(crate) struct Report {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Report {
    /// The verdict of a check on what is seen with these words.
    #[track_caller]
    pub(crate) fn verdict(&self, check: &str, words: &str) -> &str {
        let seen = |finding: &&Value| {
            finding["check"] == check && finding["seen"].as_str().unwrap().contains(words)
        };
        let finding = self.findings.iter().find(seen);
        let finding = finding.unwrap_or_else(|| panic!("{check} has no \"{words}\": {self:#?}"));
        let verdict = finding["verdict"].as_str().unwrap();
        let is_mended = finding["mend"].as_str().is_some_and(|mend| !mend.is_empty());
        assert_eq!(is_mended, matches!(verdict, "warn" | "bad"), "{finding}");
        verdict
    }

    /// Whether this is bad, and so the whole.
    #[track_caller]
    fn assert_bad(&self, check: &str, words: &str) {
        assert_eq!(self.verdict(check, words), "bad");
        assert_eq!(self.code, Some(1));
    }

    /// The checks with something bad.
    fn bad(&self) -> Vec<&str> {
        let bad = self.findings.iter().filter(|finding| finding["verdict"] == "bad");
        bad.map(|finding| finding["check"].as_str().unwrap()).collect()
    }
}

/// A daemon's directory whose secret is the owner's alone.
fn setup() -> Setup {
    hidden(Setup::new())
}

fn hidden(setup: Setup) -> Setup {
    set_mode(&setup.path("jwt.secret"), 0o400);
    setup
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The command that examines what a daemon would run with, by way of other programs.
fn doctor(setup: &Setup, wrapper: &[&str]) -> Command {
    let user = rustix::process::geteuid().as_raw().to_string();
    let file = setup.path("fanfare.toml");
    let own = ["doctor", "--json", "--user", &user, "--config", file.to_str().unwrap()];
    let words = [wrapper, &[env!("CARGO_BIN_EXE_fanfare")], &own].concat();
    let mut command = clean(words[0], &words[1..]);
    let serve = setup.command();
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[track_caller]
fn report(command: &mut Command) -> Report {
    let (code, out, said) = run(command);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{said}"));
    Report { code, findings: report["findings"].as_array().unwrap().clone() }
}

#[track_caller]
pub(crate) fn examined(setup: &Setup) -> Report {
    report(&mut doctor(setup, &[]))
}

/// The findings beside a daemon that runs.
#[track_caller]
fn beside(daemon: &Daemon) -> Report {
    let file = daemon.path("fanfare.toml");
    let words = ["doctor", "--json", "--config", file.to_str().unwrap()];
    let user = rustix::process::geteuid().as_raw().to_string();
    let mut command =
        clean(env!("CARGO_BIN_EXE_fanfare"), &[&words[..], &["--user", &user]].concat());
    command.env("FANFARE_ADMIN_ADDRESS", daemon.admin.to_string());
    report(command.env("FANFARE_LISTEN_0_ADDRESS", daemon.address.to_string()))
}

#[test]
fn a_daemon_that_runs_well_has_nothing_bad() {
    let daemon = setup().start();
    let report = beside(&daemon);
    assert_eq!((report.code, report.bad()), (Some(0), vec![]), "{report:#?}");
    assert_eq!(report.verdict("daemon", "it runs, and is ready"), "good");
    assert_eq!(
        report.verdict("ports", &format!("{} is held by a daemon of", daemon.address)),
        "good"
    );
    assert_eq!(report.verdict("secrets", "jwt.secret has mode 0400"), "good");
    assert_eq!(report.verdict("configuration", "can run"), "good");
    assert_eq!(report.verdict("unit", "not the configuration of the service"), "skipped");
    daemon.assert_works();
}

#[test]
fn a_person_reads_a_line_for_each_finding_and_what_mends_it() {
    let setup = setup();
    set_mode(&setup.path("jwt.secret"), 0o444);
    let file = setup.path("fanfare.toml");
    let user = rustix::process::geteuid().as_raw().to_string();
    let words = ["doctor", "--user", &user, "--config", file.to_str().unwrap()];
    let (code, out, _) = run(&mut clean(env!("CARGO_BIN_EXE_fanfare"), &words));
    assert_eq!(code, Some(1));
    let secret = setup.path("jwt.secret");
    let secret = secret.display();
    let told = format!(
        "bad      secrets          {secret} has mode 0444: every user of this machine can read the \
         secret\n                          → chmod o= {secret}\n"
    );
    assert!(out.contains(&told) && out.contains(" 1 bad, "), "{out}");
}

#[test]
fn a_wrong_configuration_is_told_and_the_machine_is_examined_all_the_same() {
    let setup = setup();
    let file = setup.path("fanfare.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("drain_s", "drian_s")).unwrap();
    let report = examined(&setup);
    report.assert_bad("configuration", "did you mean \"drain_s\"?");
    assert_eq!(report.verdict("backends", "cannot run"), "skipped");
    report.verdict("dead-clients", "tcp_retries2");
    std::fs::remove_file(&file).unwrap();
    examined(&setup).assert_bad("configuration", "there is no file");
    std::fs::write(&file, good).unwrap();
    std::fs::remove_file(setup.path("jwt.secret")).unwrap();
    examined(&setup).assert_bad("configuration", "there is no file");
}

#[test]
fn secrets_that_others_can_read_or_write_are_bad() {
    let setup = setup();
    let secret = setup.path("jwt.secret");
    set_mode(&secret, 0o644);
    examined(&setup).assert_bad("secrets", "every user of this machine can read the secret");
    set_mode(&secret, 0o620);
    examined(&setup).assert_bad("secrets", "others can write another secret");
    set_mode(&secret, 0o400);
    let setup = hidden(Setup::new());
    let file = setup.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let token = "[admin]\ntoken = \"0123456789abcdef0123456789abcdef\"\n";
    std::fs::write(&file, text.replace("[admin]\n", token)).unwrap();
    set_mode(&file, 0o644);
    examined(&setup).assert_bad("secrets", "fanfare.toml has mode 0644");
    set_mode(&file, 0o600);
    assert_eq!(examined(&setup).verdict("secrets", "fanfare.toml"), "good");
}

/// What the service's user may not read, root may.
#[test]
fn a_secret_that_the_daemon_cannot_read_is_bad() {
    if !root() {
        return skip("examining as another user", "only root can");
    }
    let setup = setup();
    set_mode(setup.path("fanfare.toml").parent().unwrap(), 0o755);
    set_mode(&setup.path("fanfare.toml"), 0o644);
    let file = setup.path("fanfare.toml");
    let words = ["doctor", "--json", "--config", file.to_str().unwrap(), "--user", "nobody"];
    let report = report(&mut clean(env!("CARGO_BIN_EXE_fanfare"), &words));
    report.assert_bad("secrets", "the daemon cannot read it");
    report.assert_bad("configuration", "user 65534 may not read");
}

#[test]
fn a_port_that_another_program_has_is_bad() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let report = examined(&setup().set("listen.0.address", address));
    report.assert_bad("ports", &format!("{address} is taken by another program"));
    let foreign = setup().set("admin.address", "192.0.2.1:9500");
    examined(&foreign).assert_bad("ports", "is not an address of this machine");
}

#[test]
fn too_few_descriptors_are_bad_and_few_are_worth_a_warning() {
    let setup = setup();
    let with = |count: &str| {
        let script = format!("ulimit -n {count}; exec \"$@\"");
        report(&mut doctor(&setup, &["sh", "-c", &script, "sh"]))
    };
    with("120").assert_bad("descriptors", "no daemon starts");
    assert_eq!(with("1024").verdict("descriptors", "this shell may have 1,024"), "warn");
    let setup = setup.set("max_connections", 900);
    let few = ["sh", "-c", "ulimit -n 1000; exec \"$@\"", "sh"];
    let few = report(&mut doctor(&setup, &few));
    assert_eq!(few.verdict("descriptors", "and max_connections is 900"), "warn");
}

#[test]
fn brokers_verifiers_and_recipients_that_do_not_answer_are_bad() {
    let broker = setup().set("feed.amqp.url", format!("amqp://guest:hush@{NOWHERE}"));
    let redis = broker.set("feed.redis.url", format!("redis://:hush@{NOWHERE}"));
    let report = examined(&redis);
    report.assert_bad("backends", "RabbitMQ at amqp://127.0.0.1:1/");
    report.assert_bad("backends", "nothing listens there: start Redis");
    assert!(!format!("{report:?}").contains("hush"), "{report:?}");

    let token = format!("introspection = {{ url = \"http://{NOWHERE}/introspect\" }}");
    let verifier = setup().verified_by(&token);
    examined(&verifier).assert_bad("backends", "token introspection (RFC 7662) at 127.0.0.1:1");

    let collector = setup().set("otlp.url", format!("http://{NOWHERE}"));
    examined(&collector).assert_bad("backends", "collector at 127.0.0.1:1");

    let file = setup();
    let name = file.path("fanfare.toml");
    let text = std::fs::read_to_string(&name).unwrap();
    let cluster = "[cluster]\nurl = \"nats://127.0.0.1:1\"\nname = \"one\"\nnode = \"a\"\n";
    std::fs::write(name, text + cluster).unwrap();
    examined(&file).assert_bad("backends", "NATS at ");
}

#[test]
fn backends_that_answer_are_good() {
    let verifier = Verifier::start();
    let report = examined(&setup().verified_by(&verifier.introspection("")));
    assert_eq!(report.verdict("backends", "token introspection (RFC 7662) at "), "good");
    assert_eq!(report.verdict("clock", "as that of "), "good");
    let receiver = Receiver::start();
    let report = examined(&setup().set("otlp.url", receiver.url("")));
    assert_eq!(report.verdict("backends", "collector at "), "good");
    assert_eq!(receiver.requests()[0]["path"], "/v1/metrics");
    let Some(redis) = Redis::started() else { return };
    let report = examined(&setup().set("feed.redis.url", redis.url()));
    assert_eq!(report.verdict("backends", "Redis at "), "good");
}

/// Answers one request with this status and date.
fn answering(status: &'static str, date: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let count = socket.read(&mut head).unwrap();
        assert!(head[..count].starts_with(b"HEAD /hook HTTP/1.1\r\n"));
        let answer = format!("HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).unwrap();
    });
    format!("http://{address}/hook")
}

#[test]
fn a_clock_that_is_not_that_of_others_is_bad() {
    let told = |status, date| {
        let url = answering(status, date);
        let hook = format!("[{{ url = \"{url}\" }}]");
        examined(&hidden(echo_setup()).set("echo.app.0.webhook", hook))
    };
    let old = told("405 Method Not Allowed", "Sun, 06 Nov 1994 08:49:37 GMT");
    old.assert_bad("clock", "tokens end too early, or too late");
    assert_eq!(old.verdict("backends", "webhooks to "), "good");
    let gone = told("404 Not Found", "nonsense");
    gone.assert_bad("backends", "it answers with status 404");
}

/// A certificate of its own that lasts for so many days, in a daemon's directory.
fn lasting(setup: Setup, days: u64) -> Setup {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let end = SystemTime::now() + Duration::from_secs(days * 24 * 3600 + 3600);
    params.not_after = end.into();
    let key = KeyPair::generate().unwrap();
    std::fs::write(setup.path("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(setup.path("key.pem"), key.serialize_pem()).unwrap();
    set_mode(&setup.path("key.pem"), 0o400);
    let file = |name: &str| setup.path(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    setup.set("listen.0.tls.certificate", certificate).set("listen.0.tls.key", key)
}

#[test]
fn a_certificate_that_ends_soon_or_has_another_key_is_bad() {
    let report = examined(&lasting(setup(), 1));
    report.assert_bad("certificates", "expires in 1 days");
    assert_eq!(examined(&lasting(setup(), 7)).verdict("certificates", "in 7 days"), "warn");
    let long = lasting(setup(), 80);
    let report = examined(&long);
    assert_eq!(report.verdict("certificates", "in 80 days"), "good");
    assert_eq!(report.verdict("certificates", "no authority that this machine trusts"), "warn");
    std::fs::write(long.path("key.pem.other"), KeyPair::generate().unwrap().serialize_pem())
        .unwrap();
    std::fs::rename(long.path("key.pem.other"), long.path("key.pem")).unwrap();
    examined(&long).assert_bad("certificates", "is not the key of the certificate");

    let past = Authority::new().sign_until(2020);
    past.install(long.path("key.pem").parent().unwrap());
    examined(&long).assert_bad("certificates", "clients refuse it");
}

#[test]
fn a_store_that_cannot_be_written_or_has_no_room_is_bad() {
    let durable =
        || setup().set("listen.0.dialects", "[\"pulsar\"]").set("pulsar.anonymous", "true");
    let nowhere = durable();
    let path = nowhere.path("jwt.secret").join("store").to_str().unwrap().to_owned();
    examined(&nowhere.set("store.path", path)).assert_bad("disk", "store.path: ");
    let store = durable();
    let path = store.path("store").to_str().unwrap().to_owned();
    let store = store.set("store.path", path);
    let report = examined(&store);
    assert_eq!(report.verdict("disk", "are free"), "good");
    let full = store.set("store.free_bytes_min", 1_u64 << 60);
    examined(&full).assert_bad("disk", "and store.free_bytes_min is");
}

#[test]
fn io_uring_that_is_demanded_and_refused_is_bad() {
    let demanded = setup().set("driver", "io_uring");
    let refused = refusing_rings(["425", "1"]);
    report(&mut doctor(&demanded, &refused)).assert_bad("io_uring", "refused: ");
    let auto = setup().set("driver", "auto");
    let report = report(&mut doctor(&auto, &refused));
    assert_eq!(report.verdict("io_uring", "epoll serves instead"), "warn");
    if try_io_uring(1).is_ok() {
        assert_eq!(examined(&demanded).verdict("io_uring", "can be had"), "good");
    }
}

#[test]
fn a_daemon_without_its_broker_is_bad() {
    let away = hidden(crate::channel::setup()).set("feed.redis.url", format!("redis://{NOWHERE}"));
    let away = away.set("listen.0.dialects", "[\"channel\"]");
    let daemon = away.start();
    beside(&daemon).assert_bad("daemon", "it is not ready: no events from Redis");
}

/// The limits of the network, in a network of its own.
#[test]
fn what_the_kernel_is_set_to_is_compared_with_the_page_on_tuning() {
    if !root() {
        return skip("limits of the kernel", "only root can make a network");
    }
    let setup = setup().set("listen.0.address", "127.0.0.1:40000").set("max_connections", 800_000);
    let within = |settings: &str| {
        let script = format!("ip link set lo up; {settings}\nexec \"$@\"");
        report(&mut doctor(&setup, &["unshare", "--net", "sh", "-c", &script, "sh"]))
    };
    let set = |name: &str, value: &str| format!("echo {value} > /proc/sys/net/{name};");
    let low = within(
        &[
            set("core/somaxconn", "128"),
            set("ipv4/tcp_retries2", "16"),
            set("ipv4/tcp_wmem", "'4096 16384 33554432'"),
        ]
        .concat(),
    );
    assert_eq!(low.verdict("backlog", "net.core.somaxconn is 128"), "warn");
    assert_eq!(low.verdict("dead-clients", "net.ipv4.tcp_retries2 is 16"), "warn");
    assert_eq!(low.verdict("slow-memory", "takes up to 33.0 MiB"), "warn");
    assert_eq!(low.verdict("ephemeral-ports", "40000 of this daemon"), "warn");
    let high = within(
        &[
            set("core/somaxconn", "65535"),
            set("ipv4/tcp_retries2", "8"),
            set("ipv4/ip_local_reserved_ports", "40000"),
        ]
        .concat(),
    );
    assert_eq!(high.verdict("backlog", "net.core.somaxconn is 65,535"), "good");
    assert_eq!(high.verdict("dead-clients", "net.ipv4.tcp_retries2 is 8"), "good");
    assert_eq!(high.verdict("ephemeral-ports", "for connections"), "good");
}

#[test]
fn pings_that_come_too_late_for_a_proxy_are_worth_a_warning() {
    let rare = setup().set("personium.ping_interval_s", 70);
    assert_eq!(examined(&rare).verdict("proxies", "personium.ping_interval_s"), "warn");
    assert_eq!(examined(&setup()).verdict("proxies", "nginx waits by default"), "good");
    let crowded = setup().set("threads", 1000);
    assert_eq!(examined(&crowded).verdict("cpus", "1000 shards"), "warn");
}
