//! Who may connect to the engine: users with credentials of an operator's accounts, and over TLS with certificates.

use crate::bad::await_trouble;
use crate::bed::{Bed, SERVERS};
use crate::crowd::Crowd;
use crate::dialects::every_dialect;
use crate::harness::Authority;
use crate::server::{PASSWORD, ServerWish, USER};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// A JWT as NATS wants it: the claims of a subject by the key of who gives them.
fn jwt(by: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let claims = json!({
        "jti": name, "iat": 1_700_000_000, "iss": by.public_key(), "name": name,
        "sub": subject.public_key(), "nats": nats,
    });
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let [head, claims] =
        [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string().as_bytes()));
    let text = format!("{head}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(by.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

/// An account, with JetStream if it has a disk.
fn account(operator: &KeyPair, account: &KeyPair, name: &str, disk: i64) -> String {
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": disk, "disk_storage": disk, "streams": disk,
        "consumer": disk,
    });
    jwt(operator, account, name, json!({ "type": "account", "version": 2, "limits": limits }))
}

/// A file of credentials, as `nsc generate creds` makes it.
fn credentials(account: &KeyPair) -> String {
    let user = KeyPair::new_user();
    let permits = json!({
        "pub": { "allow": ["ff.tests.>", "$JS.API.>"] }, "sub": { "allow": ["ff.tests.>"] },
        "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2,
    });
    format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         NKEY Seed printed below can be used to sign and prove identity.\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt(account, &user, "fanfare", permits),
        user.seed().unwrap(),
    )
}

/// The permissions of this user are also those that the manual asks for.
#[test]
fn credentials_of_an_account_let_nodes_in_and_those_of_a_stranger_do_not() {
    let (operator, fanfare, system) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let of_system = system.public_key();
    let accounts = format!(
        "operator: {}\nresolver: MEMORY\nsystem_account: {of_system}\n\
         resolver_preload: {{\n{}: {}\n{of_system}: {}\n}}\n",
        jwt(&operator, &operator, "tests", json!({ "type": "operator", "version": 2 })),
        fanfare.public_key(),
        account(&operator, &fanfare, "FANFARE", -1),
        account(&operator, &system, "SYS", 0),
    );
    let wish = ServerWish { accounts: Some(accounts), ..ServerWish::default() };
    let Some(mut bed) = Bed::engine(&wish) else { return };
    let urls: Vec<String> =
        bed.servers.iter().map(|server| format!("nats://{}:4222", server.host.address)).collect();
    let add = |bed: &mut Bed, credentials: String| {
        bed.add(|setup, host| {
            std::fs::write(setup.path("nats.url"), urls.join(",")).unwrap();
            let file = setup.path("nats.creds");
            std::fs::write(&file, credentials).unwrap();
            every_dialect(setup, host).set("cluster.credentials_file", file.display())
        })
    };
    for _ in 0..2 {
        add(&mut bed, credentials(&fanfare));
    }
    bed.await_whole();
    let mut crowd = Crowd::default();
    for node in 0..2 {
        crowd.join_patiently(&bed, node, "presence-room", &format!("user-{node}"));
    }
    crowd.settle(&bed, crate::bed::SETTLING);

    let stranger = credentials(&KeyPair::new_account());
    let seed = stranger.lines().find(|line| line.starts_with("SU")).unwrap().to_owned();
    let refused = add(&mut bed, stranger);
    await_trouble(bed.node(refused), &["authorization", "credentials_file"]);
    assert!(bed.node(refused).logged(&seed).is_empty(), "the seed is in the log");

    let host = bed.network.host(31);
    let setup = every_dialect(bed.setup(&host, "z"), &host);
    std::fs::write(setup.path("nats.url"), urls.join(",")).unwrap();
    let file = setup.path("nats.creds");
    std::fs::write(&file, "no credentials").unwrap();
    let output = setup.set("cluster.credentials_file", file.display()).command().output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("cluster.credentials_file"), "{told}");
}

#[test]
fn nodes_and_servers_with_certificates_of_one_authority_meet_over_tls() {
    let (authority, directory) = (Authority::new(), tempfile::TempDir::new().unwrap());
    let place = |name: &str| directory.path().join(name);
    // The network's addresses are known with its place only.
    let names: Vec<String> = (0..8)
        .flat_map(|place| (0..SERVERS).map(move |index| (place, 11 + index)))
        .flat_map(|(place, host)| {
            [format!("198.18.{place}.{host}"), format!("127.87.{place}.{host}")]
        })
        .collect();
    authority.sign_for(names, 4_000).install(directory.path());
    std::fs::write(place("ca.pem"), &authority.pem).unwrap();
    let wish = ServerWish {
        more: format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n",
            place("cert.pem"),
            place("key.pem"),
            place("ca.pem"),
        ),
        ..ServerWish::default()
    };
    let Some(mut bed) = Bed::engine(&wish) else { return };
    let url = |server: &crate::server::NatsServer| {
        format!("tls://{USER}:{PASSWORD}@{}:4222", server.host.address)
    };
    let urls = bed.servers.iter().map(url).collect::<Vec<_>>().join(",");
    let add = |bed: &mut Bed, trusted: &str, own: Option<crate::harness::Signed>| {
        bed.add(|setup, host| {
            std::fs::write(setup.path("nats.url"), &urls).unwrap();
            std::fs::write(setup.path("nats-ca.pem"), trusted).unwrap();
            let file = |name: &str| setup.path(name).display().to_string();
            let (ca, certificate, key) = (file("nats-ca.pem"), file("cert.pem"), file("key.pem"));
            let own = own.inspect(|own| own.install(setup.path("x").parent().unwrap()));
            let setup = every_dialect(setup, host).set("cluster.ca_file", ca);
            match own {
                None => setup,
                Some(_) => setup.set("cluster.certificate", certificate).set("cluster.key", key),
            }
        })
    };
    for _ in 0..2 {
        add(&mut bed, &authority.pem, Some(authority.sign()));
    }
    bed.await_whole();

    // The server's end of the conversation tells neither why.
    let other = Authority::new();
    let untrusting = add(&mut bed, &other.pem, Some(authority.sign()));
    await_trouble(bed.node(untrusting), &["trust", "ca_file"]);
    let nameless = add(&mut bed, &authority.pem, None);
    await_trouble(bed.node(nameless), &["trust", "certificate"]);
}
