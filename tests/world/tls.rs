//! TLS: handshakes right and wrong, certificates that change, and everything else as without it.

use crate::harness::{
    Authority, Client, DEADLINE, Daemon, PATH, SECRET, Setup, Signed, certificate, command, event,
    eventually, head, http, skip,
};
use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

const FAILED: &str = "handshakes_total{outcome=\"tls\"}";

/// A daemon that speaks TLS, whoever has signed its certificate, and a client that trusts them.
struct World {
    daemon: Daemon,
    authority: Authority,
    client: Arc<ClientConfig>,
}

fn world(change: impl FnOnce(Setup) -> Setup) -> World {
    let authority = Authority::new();
    let daemon = change(Setup::new().tls(&authority)).start();
    let client = authority.client();
    World { daemon, authority, client }
}

impl World {
    fn client(&self) -> Client {
        Client::secure_session(self.daemon.address, &self.client).unwrap()
    }

    fn subscriber(&self) -> Client {
        let mut client = self.client();
        client.follow();
        client
    }

    /// A newcomer is served.
    #[track_caller]
    fn assert_works(&self) {
        let mut client = self.subscriber();
        self.daemon.publisher().send(event("works", "now"));
        assert!(client.text().contains("\"Info\":\"now\""));
    }
}

/// The end of a connection: whether it was announced.
fn announced(client: &mut Client) -> bool {
    loop {
        match client.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

#[test]
fn events_come_over_both_versions_on_both_drivers() {
    for driver in ["auto", "epoll"] {
        let world = world(|setup| setup.set("driver", driver).set("threads", 2));
        let mut publisher = world.daemon.publisher();
        for version in [&TLS12, &TLS13] {
            let config = world.authority.client_with(&[version], None);
            let mut client = Client::secure_session(world.daemon.address, &config).unwrap();
            assert_eq!(client.tls().protocol_version(), Some(version.version));
            client.follow();
            publisher.send(event("secret", "x"));
            assert!(client.text().contains("secret"));
            client.frame(0x89, b"ping");
            assert_eq!(client.next().unwrap().payload, b"ping");
        }
    }
}

#[test]
fn http_1_1_may_be_asked_for_by_name_and_nothing_else() {
    let world = world(|setup| setup);
    let with = |names: &[&[u8]]| {
        let mut config = ClientConfig::clone(&world.client);
        config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
        Client::secure_session(world.daemon.address, &config.into())
    };
    assert_eq!(with(&[]).unwrap().tls().alpn_protocol(), None);
    assert_eq!(with(&[b"h2", b"http/1.1"]).unwrap().tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(with(&[b"h2"]).is_err());
    world.daemon.await_metric(FAILED, 1);
}

#[test]
fn sessions_are_resumed() {
    let world = world(|setup| setup.set("threads", 2));
    for version in [&TLS12, &TLS13] {
        let config = world.authority.client_with(&[version], None);
        let kind = || {
            let mut client = Client::secure_session(world.daemon.address, &config).unwrap();
            // Tickets have come when the first answer has.
            client.follow();
            client.tls().handshake_kind().unwrap()
        };
        assert_eq!(
            [kind(), kind(), kind()],
            [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]
        );
    }
    let client =
        ["s_client", "-connect", &world.daemon.address.to_string(), "-tls1_2", "-reconnect"]
            .map(str::to_owned);
    match Command::new("openssl").args(client).stdin(Stdio::null()).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said.matches("Reused, TLSv1.2").count(), 5, "{said}");
        }
        Err(error) => skip("openssl's resumption", &error.to_string()),
    }
}

#[test]
fn a_reload_serves_the_new_certificate_and_keeps_connections() {
    let world = world(|setup| setup.set("threads", 2));
    let mut old = world.subscriber();
    let renewed = world.authority.sign();
    renewed.install(world.daemon.directory());
    world.daemon.signal(Signal::HUP);
    world.daemon.await_log("reloaded: keys of tokens", 1);
    let wanted = certificate(&renewed.certificate);
    eventually("every shard has the new certificate", || {
        // Without a session of before, which would bring the old certificate back.
        let config = world.authority.client();
        (0..8).all(|_| {
            let config = ClientConfig::clone(&config);
            let mut client = Client::secure(world.daemon.address, &config.into()).unwrap();
            client.tls().peer_certificates().unwrap()[0] == wanted
        })
    });
    world.assert_works();
    assert!(old.text().contains("works"));
}

#[test]
fn a_certificate_that_is_no_good_changes_nothing_at_a_reload() {
    let world = world(|setup| setup);
    let mut old = world.subscriber();
    let good = world.authority.sign();
    let other = world.authority.sign();
    let broken = good.certificate.replacen("MII", "!!!", 1);
    for (count, (certificate, key, problem)) in [
        ("garbage", &good.key[..], "cert.pem holds no certificate"),
        (&broken, &good.key, "cert.pem is damaged"),
        (&good.certificate, &other.key, "key.pem is not the key of the certificate in"),
        (&good.certificate, "garbage", "key.pem holds no private key"),
        (
            &good.certificate,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
            "key.pem is encrypted: decrypt it",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let signed = Signed { certificate: certificate.into(), key: key.into() };
        signed.install(world.daemon.directory());
        world.daemon.signal(Signal::HUP);
        world.daemon.await_log("not reloaded, everything stays as it was", count + 1);
        assert_eq!(world.daemon.logged(problem).len(), 1, "{problem}: {:?}", world.daemon.log());
    }
    std::fs::remove_file(world.daemon.path("cert.pem")).unwrap();
    world.daemon.signal(Signal::HUP);
    world.daemon.await_log("there is no file", 1);
    world.assert_works();
    assert!(old.text().contains("works"));
}

#[test]
fn clients_may_be_asked_for_certificates() {
    let stranger = Authority::new().sign();
    for (wanted, without) in [(None, false), (Some("required"), false), (Some("optional"), true)] {
        let world = world(|setup| {
            let ca = setup.path("ca.pem").to_str().unwrap().to_owned();
            let setup = setup.set("listen.0.tls.client_ca", ca);
            match wanted {
                Some(wanted) => setup.set("listen.0.tls.client_certificate", wanted),
                None => setup,
            }
        });
        let own = world.authority.sign();
        let mut failed = 0;
        for version in [&TLS12, &TLS13] {
            for (what, own, good) in [
                ("none", None, without),
                ("its own", Some(&own), true),
                ("another's", Some(&stranger), false),
            ] {
                let config = world.authority.client_with(&[version], own);
                let client = Client::secure_session(world.daemon.address, &config);
                assert_eq!(client.is_ok(), good, "{wanted:?} {version:?} with {what}");
                failed += u64::from(!good);
                if let Ok(mut client) = client {
                    client.follow();
                }
            }
        }
        world.daemon.await_metric(FAILED, failed);
        world.daemon.await_metric("connections", 0);
    }
}

#[test]
fn a_slow_reader_gets_every_byte_in_order() {
    const EVENTS: usize = 4000;
    let world = world(|setup| setup.set("limits.outbox_bytes_max", 1 << 30));
    let mut slow = world.subscriber();
    let mut quick = world.subscriber();
    let mut publisher = world.daemon.publisher();
    let length = |n: usize| n * 37 % 9000;
    let reader = std::thread::spawn(move || {
        for n in 0..EVENTS {
            assert!(quick.text().contains(&format!("\"Object\":\"{n}\"")));
        }
    });
    for n in 0..EVENTS {
        publisher.send(event(&n.to_string(), &"x".repeat(length(n))));
    }
    publisher.receipt();
    eventually("the slow one is blocked", || world.daemon.metric("outbox_bytes") > 1 << 20);
    reader.join().unwrap();
    for n in 0..EVENTS {
        let text = slow.text();
        assert!(text.contains(&format!("\"Object\":\"{n}\"")), "{n}: {text:.80}");
        assert_eq!(text.matches('x').count(), length(n));
    }
    world.daemon.await_metric("outbox_bytes", 0);
    world.assert_works();
    assert!(slow.text().contains("works"));
}

#[test]
fn a_client_that_reads_too_slowly_is_told_so_after_a_whole_frame() {
    let world = world(|setup| setup);
    let mut sleeper = world.subscriber();
    let mut publisher = world.daemon.publisher();
    eventually("the sleeper is given up", || {
        publisher.send(event("burst", &"x".repeat(8 * 1024)).repeat(50));
        publisher.receipt();
        world.daemon.metric("session_ends_total{reason=\"slow\"}") == 1
    });
    let code = loop {
        match sleeper.next() {
            Some(frame) if frame.first == 0x81 => assert!(frame.payload.ends_with(b"\"}")),
            Some(frame) => break u16::from_be_bytes([frame.payload[0], frame.payload[1]]),
            None => panic!("no close frame"),
        }
    };
    assert_eq!(code, 1013);
    sleeper.frame(0x88, b"\x03\xf5");
    assert!(announced(&mut sleeper));
    world.daemon.await_metric("connections", 0);
}

#[test]
fn a_flood_reaches_everybody_in_order() {
    const EVENTS: usize = 5000;
    let world = world(|setup| setup.set("threads", 2).set("limits.outbox_bytes_max", 64 << 20));
    let readers: Vec<_> = (0..6).map(|_| world.subscriber()).collect();
    let readers = readers.into_iter().map(|mut reader| {
        std::thread::spawn(move || {
            for n in 0..EVENTS {
                assert!(reader.text().contains(&format!("\"Object\":\"{n}\"")));
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let lines: String = (0..EVENTS).map(|n| event(&n.to_string(), "flood")).collect();
    world.daemon.publisher().send(lines);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn frames_may_be_a_mebibyte_in_both_directions() {
    let size = (1 << 20) - 200;
    let world = world(|setup| {
        setup.set("personium.text_bytes_max", 1 << 20).set("limits.outbox_bytes_max", 4 << 20)
    });
    let mut client = world.subscriber();
    world.daemon.publisher().send(event("big", &"x".repeat(size)));
    assert_eq!(client.text().matches('x').count(), size);
    let mut writer = world.client();
    writer.ask(&format!("{{\"AccessToken\":\"{}\"}}", crate::harness::token()));
    writer.say(&format!("{{\"Type\":\"t\",\"Object\":\"o\",{}\"Info\":\"y\"}}", " ".repeat(size)));
    assert!(client.text().contains("\"Info\":\"y\""));
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let world = world(|setup| setup);
    for version in [&TLS12, &TLS13] {
        let config = world.authority.client_with(&[version], None);
        let mut client = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        let mut stream = Client::raw(world.daemon.address);
        client.writer().write_all(head(PATH).as_bytes()).unwrap();
        let mut answer = vec![0; 12];
        while let Err(error) = client.reader().read_exact(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            for byte in bytes {
                stream.bytes(&[byte]);
            }
            client.read_tls(&mut stream.stream()).unwrap();
            client.process_new_packets().unwrap();
        }
        assert_eq!(answer, b"HTTP/1.1 101");
    }
}

#[test]
fn many_handshakes_at_once_all_come_to_an_end() {
    let world = world(|setup| setup);
    let begun: Vec<(ClientConnection, Client)> = (0..200)
        .map(|_| {
            let name = "localhost".try_into().unwrap();
            let mut tls = ClientConnection::new(Arc::clone(&world.client), name).unwrap();
            let client = Client::raw(world.daemon.address);
            tls.write_tls(&mut client.stream()).unwrap();
            (tls, client)
        })
        .collect();
    for (mut tls, client) in begun {
        while tls.is_handshaking() {
            tls.complete_io(&mut client.stream()).unwrap();
        }
    }
    world.assert_works();
}

#[test]
fn what_is_no_tls_is_refused_clearly_and_counted() {
    let world = world(|setup| setup);
    let (status, rest) = http(world.daemon.address, head(PATH).as_bytes());
    assert!(status == 400 && rest.contains("This port speaks TLS: use wss://"), "{status} {rest}");
    for garbage in [
        &b"\x00\x01\x02"[..],
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x03\x01\x00\x05hello",
        &[0xff; 70_000],
    ] {
        let mut client = Client::raw(world.daemon.address);
        client.try_bytes(garbage);
        client.try_bytes(&[0; 16]);
        assert!(client.ends_within(Duration::from_secs(5)), "{garbage:.8?}");
    }
    world.daemon.await_metric("connections", 0);
    assert_eq!(world.daemon.metric(FAILED), 5);
    assert!(world.daemon.logged("handshake failed").is_empty(), "that is for debugging");
    world.assert_works();
}

#[test]
fn a_client_that_wants_another_protocol_is_told_so() {
    let world = world(|setup| setup);
    for version in [&TLS12, &TLS13] {
        let mut config = ClientConfig::clone(&world.authority.client_with(&[version], None));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut tls =
            ClientConnection::new(config.into(), "localhost".try_into().unwrap()).unwrap();
        let client = Client::raw(world.daemon.address);
        let refused = loop {
            if let Err(error) = tls.complete_io(&mut client.stream()) {
                break error.to_string();
            }
        };
        assert!(refused.contains("NoApplicationProtocol"), "{version:?}: {refused}");
    }
    world.daemon.await_metric(FAILED, 2);
}

#[test]
fn a_handshake_that_does_not_end_is_given_up_after_the_configured_time() {
    let world = world(|setup| setup.set("limits.handshake_timeout_s", 1));
    let mut silent = Client::raw(world.daemon.address);
    let mut client =
        ClientConnection::new(Arc::clone(&world.client), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut half = Client::raw(world.daemon.address);
    half.bytes(&hello[..hello.len() / 2]);
    let mut whole = Client::raw(world.daemon.address);
    whole.bytes(&hello);
    let mut requestless = Client::secure(world.daemon.address, &world.client).unwrap();
    for client in [&mut silent, &mut half, &mut whole] {
        assert!(client.ends_within(Duration::from_secs(5)));
    }
    assert_eq!(requestless.answer(), 408);
    assert!(announced(&mut requestless));
    world.daemon.await_metric("connections", 0);
    assert_eq!(world.daemon.metric("handshakes_total{outcome=\"limit\"}"), 4);
    world.assert_works();
}

#[test]
fn a_goodbye_is_answered_and_a_reset_survived() {
    let world = world(|setup| setup);
    for version in [&TLS12, &TLS13] {
        let config = world.authority.client_with(&[version], None);
        let mut client = Client::secure_session(world.daemon.address, &config).unwrap();
        client.follow();
        client.tls().send_close_notify();
        client.bytes(b"");
        let mut wire = Vec::new();
        client.tls().write_tls(&mut wire).unwrap();
        client.stream().write_all(&wire).unwrap();
        assert!(announced(&mut client));
    }
    world.daemon.await_metric("connections", 0);
    let mut publisher = world.daemon.publisher();
    for _ in 0..5 {
        let reset = world.subscriber();
        publisher.send(event("x", &"x".repeat(100_000)).repeat(20));
        rustix::net::sockopt::set_socket_linger(reset.stream(), Some(Duration::ZERO)).unwrap();
        drop(reset);
    }
    world.daemon.await_metric("connections", 0);
    world.daemon.await_metric("outbox_bytes", 0);
    world.assert_works();
}

#[test]
fn a_stop_tells_clients_to_go_and_announces_the_end() {
    let mut world = world(|setup| setup.set("threads", 2));
    let mut clients: Vec<Client> = (0..20).map(|_| world.subscriber()).collect();
    let mut tokenless = world.client();
    let mut unsaid = Client::secure(world.daemon.address, &world.client).unwrap();
    let mut silent = Client::raw(world.daemon.address);
    world.daemon.await_metric("connections", 23);
    world.daemon.publisher().send(event("last", "words"));
    eventually("it is delivered", || {
        world.daemon.metric("deliveries_total{dialect=\"personium-event\"}") == 20
    });
    world.daemon.signal(Signal::TERM);
    for client in &mut clients {
        assert!(client.text().contains("words"));
        assert_eq!(client.close_code(), 1001);
        client.frame(0x88, b"\x03\xe9");
        assert!(announced(client));
    }
    assert_eq!(tokenless.close_code(), 1001);
    tokenless.frame(0x88, b"");
    assert_eq!(unsaid.answer(), 503);
    assert!(silent.ends_within(DEADLINE));
    drop((clients, tokenless, unsaid, silent));
    assert_eq!(world.daemon.wait().code(), Some(0));
}

#[test]
fn memory_does_not_grow_with_connections_that_come_and_go() {
    let world = world(|setup| setup);
    let round = |count: usize| {
        for place in 0..count {
            match place % 4 {
                0 => drop(Client::raw(world.daemon.address)),
                1 => drop(Client::secure(world.daemon.address, &world.client)),
                _ => drop(world.subscriber()),
            }
        }
        world.daemon.await_metric("connections", 0);
        world.daemon.memory_bytes()
    };
    round(200);
    let before = round(200);
    let after = round(400);
    assert!(after < before + (1 << 20), "{before} bytes, then {after}");
}

#[test]
fn connections_without_room_are_closed() {
    let world = world(|setup| setup.set("max_connections", 2));
    let _clients = [world.subscriber(), world.subscriber()];
    assert!(Client::secure(world.daemon.address, &world.client).is_err());
    world.daemon.await_metric("handshakes_total{outcome=\"shed\"}", 1);
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

#[test]
fn check_reads_the_certificate_and_says_when_it_ends() {
    let authority = Authority::new();
    let setup = Setup::new().tls(&authority);
    let check = |signed: &Signed| {
        signed.install(&setup.path(""));
        let mut command =
            command(&["check", "--config", setup.path("fanfare.toml").to_str().unwrap()]);
        for (key, file) in [("CERTIFICATE", "cert.pem"), ("KEY", "key.pem")] {
            command.env(format!("FANFARE_LISTEN_0_TLS_{key}"), setup.path(file));
        }
        let output = run(&mut command);
        (output.status.success(), said(&output))
    };
    let (good, text) = check(&authority.sign());
    assert!(good && text.contains("personium-event over TLS") && !text.contains("note:"), "{text}");
    let (good, text) = check(&authority.sign_until(2020));
    assert!(
        good && text.contains("note:") && text.contains("days ago, and clients refuse it"),
        "{text}"
    );
    let mixed = Signed { key: authority.sign().key, ..authority.sign() };
    let (good, text) = check(&mixed);
    assert!(!good && text.contains("is not the key of the certificate"), "{text}");
}

#[test]
fn subscribe_follows_over_tls_if_it_trusts_the_daemon() {
    let world = world(|setup| setup);
    let subscribe = |url: &str, options: &[&str]| {
        let url = format!("{url}{PATH}").replace("HOST", &world.daemon.address.to_string());
        let words = [&["subscribe", &url, "--count", "1"], options].concat();
        let mut command = command(&words);
        command.env("FANFARE_TOKEN", fanfare_token()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let ca = world.daemon.path("ca.pem").to_str().unwrap().to_owned();
    for (url, options, problem) in [
        ("wss://HOST", &[][..], "give the signer's, or its own, with --ca FILE"),
        ("ws://HOST", &[], "400"),
        ("ws://HOST", &["--insecure"], "--ca and --insecure are for wss://"),
        ("wss://HOST", &["--insecure", "--ca", &ca], "exclude each other"),
        ("wss://HOST", &["--ca", "/nowhere.pem"], "there is no file /nowhere.pem"),
    ] {
        let output = subscribe(url, options).wait_with_output().unwrap();
        assert!(
            !output.status.success() && said(&output).contains(problem),
            "{problem}: {}",
            said(&output)
        );
    }
    for options in [&["--ca", &ca][..], &["--insecure"]] {
        world.daemon.await_metric("subscriptions", 0);
        let child = subscribe("wss://HOST", options);
        world.daemon.await_metric("subscriptions", 1);
        world.daemon.publisher().send(event("over", "TLS"));
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success() && said(&output).contains("\"Object\":\"over\""),
            "{}",
            said(&output)
        );
        assert_eq!(said(&output).contains("warning: --insecure"), options.len() == 1);
    }
}

fn fanfare_token() -> String {
    crate::harness::token_with(SECRET, "event")
}
