//! Journals on a real NATS.

use super::*;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A server of its own, with JetStream or without.
struct Nats {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server of `NATS_SERVER`, or the one that `tests/run` has installed.
fn nats_server() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/python/bin");
    let program = std::env::var_os("NATS_SERVER")
        .map_or_else(|| installed.join("nats-server"), PathBuf::from);
    assert!(program.exists(), "{} is missing: tests/run installs it", program.display());
    program
}

impl Nats {
    fn start(jetstream: bool, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let store = directory.path().join("store");
        let jetstream = if jetstream {
            format!("jetstream {{\nstore_dir: {:?}\n{more}\n}}\n", store.display().to_string())
        } else {
            String::new()
        };
        let config = directory.path().join("nats.conf");
        std::fs::write(&config, format!("listen: 127.0.0.1:{port}\n{jetstream}")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(nats_server()).arg("-c").arg(&config);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: child.unwrap(), port, _directory: directory }
    }

    async fn connect(&self) -> Client {
        let mut last = None;
        for _ in 0..500 {
            match async_nats::connect(format!("127.0.0.1:{}", self.port)).await {
                Ok(client) => return client,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no NATS: {last:?}");
    }
}

#[test]
fn the_second_of_two_late_appends_is_stored_when_an_epoch_has_the_number_of_the_first() {
    let nats = Nats::start(true, "");
    with(&nats, async |client| {
        let mut owner = Journals::new(&client, "main", 1);
        assert_eq!(done(&mut owner, take(1, "a", 0)).await, stored(1, 1));
        assert_eq!(done(&mut owner, take(2, "b", 1)).await, stored(2, 2));
        (0..3).for_each(|n| owner.begin(append(10 + n, "late", 1 + n)));
        // Why entries name their epoch.
        assert_eq!(owner.next().await, JournalOutcome::Refused { partition: 3, call: 10 });
        assert_eq!([owner.next().await, owner.next().await], [stored(11, 3), stored(12, 4)]);
    });
}

/// Runs a test with a server.
fn with(nats: &Nats, test: impl AsyncFnOnce(Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { test(nats.connect().await).await });
}

async fn done(journals: &mut Journals, call: JournalCall) -> JournalOutcome {
    journals.begin(call);
    journals.next().await
}

fn append(call: u64, text: &str, after: u64) -> JournalCall {
    JournalCall::Append { partition: 3, call, entry: text.into(), after }
}

fn take(call: u64, text: &str, after: u64) -> JournalCall {
    JournalCall::Take { partition: 3, call, record: text.into(), after }
}

fn stored(call: u64, sequence: u64) -> JournalOutcome {
    JournalOutcome::Stored { partition: 3, call, sequence }
}

#[test]
fn an_owner_appends_until_another_takes_its_partition() {
    let nats = Nats::start(true, "");
    with(&nats, async |client| {
        let mut owner = Journals::new(&client, "main", 1);
        let load = JournalCall::Load { partition: 3, call: 1 };
        let empty =
            JournalOutcome::Read { partition: 3, call: 1, epoch: None, entries: vec![], last: 0 };
        assert_eq!(done(&mut owner, load.clone()).await, empty);
        assert_eq!(done(&mut owner, take(2, "a", 0)).await, stored(2, 1));
        // Predicted sequences: all are sent before the first is answered.
        (0..4).for_each(|n| owner.begin(append(10 + n, &n.to_string(), 1 + n)));
        for n in 0..4 {
            assert_eq!(owner.next().await, stored(10 + n, 2 + n));
        }

        let mut other = Journals::new(&client, "main", 1);
        let refused = |call| JournalOutcome::Refused { partition: 3, call };
        assert_eq!(done(&mut other, take(3, "b", 0)).await, refused(3), "there is an epoch");
        assert_eq!(done(&mut other, take(4, "b", 1)).await, stored(4, 6));
        assert_eq!(done(&mut owner, append(20, "late", 5)).await, refused(20));
        assert_eq!(done(&mut other, append(30, "4", 6)).await, stored(30, 7));
        let entries = (0..5u8).map(|n| (u64::from(n) + 2 + u64::from(n == 4), vec![b'0' + n]));
        let all = JournalOutcome::Read {
            partition: 3,
            call: 1,
            epoch: Some((b"b".into(), 6)),
            entries: entries.collect(),
            last: 7,
        };
        assert_eq!(done(&mut owner, load.clone()).await, all);
        other.begin(JournalCall::Purge { partition: 3, below: 7 });
        let JournalOutcome::Read { epoch, entries, last, .. } = done(&mut other, load).await else {
            panic!()
        };
        assert_eq!((epoch, entries.len(), last), (Some((b"b".into(), 6)), 1, 7));
        let JournalOutcome::Read { epoch, entries, last, .. } =
            done(&mut other, JournalCall::Look { partition: 3, call: 9, after: 7 }).await
        else {
            panic!()
        };
        assert_eq!((epoch, entries.len(), last), (Some((b"b".into(), 6)), 0, 7));
        assert_eq!(other.fault(), None);
    });
}

#[test]
fn a_long_journal_is_read_whole() {
    let nats = Nats::start(true, "");
    with(&nats, async |client| {
        let mut journals = Journals::new(&client, "main", 1);
        assert_eq!(done(&mut journals, take(0, "a", 0)).await, stored(0, 1));
        for n in 0..1000 {
            let outcome = done(&mut journals, append(n, &format!("entry {n}"), 1 + n)).await;
            assert_eq!(outcome, stored(n, 2 + n));
        }
        let load = JournalCall::Load { partition: 3, call: 1 };
        let JournalOutcome::Read { entries, last, .. } = done(&mut journals, load).await else {
            panic!()
        };
        assert_eq!((entries.len(), last), (1000, 1001));
        let texts = entries.iter().enumerate();
        assert!(texts.into_iter().all(|(n, entry)| entry.1 == format!("entry {n}").into_bytes()));
    });
}

#[test]
fn what_is_wrong_with_a_jetstream_is_told_with_what_to_do() {
    let look = || JournalCall::Look { partition: 3, call: 1, after: 0 };
    let failed = JournalOutcome::Failed { partition: 3, call: 1 };

    with(&Nats::start(false, ""), async |client| {
        let mut journals = Journals::new(&client, "main", 1);
        assert_eq!(done(&mut journals, look()).await, failed);
        let fault = journals.fault().unwrap();
        assert!(fault.contains("no JetStream for this account"), "{fault}");
    });

    with(&Nats::start(true, ""), async |client| {
        let mut journals = Journals::new(&client, "main", 3);
        assert_eq!(done(&mut journals, look()).await, failed);
        let fault = journals.fault().unwrap();
        assert!(fault.contains("too few servers"), "{fault}");

        let mut one = Journals::new(&client, "main", 1);
        assert!(matches!(done(&mut one, look()).await, JournalOutcome::Read { .. }));
        let mut three = Journals::new(&client, "main", 3);
        assert_eq!(done(&mut three, look()).await, failed);
        let fault = three.fault().unwrap();
        assert!(fault.contains("1 copies and cluster.replicas asks for 3"), "{fault}");

        let context = async_nats::jetstream::new(client.clone());
        let foreign = Config {
            name: "FF_other_03".into(),
            subjects: vec!["ff.other.p.03.>".into()],
            metadata: [(PARTITIONS_KEY.to_owned(), "32".to_owned())].into(),
            ..Config::default()
        };
        context.create_stream(foreign).await.unwrap();
        let mut journals = Journals::new(&client, "other", 1);
        assert_eq!(done(&mut journals, look()).await, failed);
        let fault = journals.fault().unwrap();
        assert!(fault.contains("FF_other_03 was made by another service"), "{fault}");
    });

    with(&Nats::start(true, "max_file_store: 65536"), async |client| {
        let mut journals = Journals::new(&client, "main", 1);
        assert_eq!(done(&mut journals, take(0, "a", 0)).await, stored(0, 1));
        let mut outcome = stored(0, 1);
        let mut after = 0;
        while let JournalOutcome::Stored { sequence, .. } = outcome {
            assert!(sequence < 100, "there is room without end");
            after = sequence;
            outcome = done(&mut journals, append(1, &"x".repeat(4000), sequence)).await;
        }
        assert_eq!(outcome, failed);
        let fault = journals.fault().unwrap();
        assert!(fault.contains("has no room"), "{after} {fault}");
    });
}
