//! Readers: they begin where they say, and change nothing.

use crate::client::{Consumer, Producer, SHARDS, setup};

#[test]
fn a_reader_begins_with_the_earliest_the_latest_or_after_a_message() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut producer = Producer::new(&daemon, "read");
        let ids = producer.send_all((0..5).map(|n| n.to_string()));
        let mut latest = Consumer::reader(&daemon, "read");
        let mut named = Consumer::reader(&daemon, "read?messageId=latest");
        let mut earliest = Consumer::reader(&daemon, "read?messageId=earliest&readerName=r");
        let mut after =
            Consumer::reader(&daemon, &format!("read?messageId={}", ids[2].replace('=', "%3D")));
        producer.send("5");
        assert_eq!(earliest.take_all(6), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(after.take_all(3), ["3", "4", "5"]);
        assert_eq!((latest.take_all(1), named.take_all(1)), (vec!["5".into()], vec!["5".into()]));
        for reader in [&mut latest, &mut named, &mut earliest, &mut after] {
            reader.assert_quiet();
        }
    }
}

#[test]
fn what_a_reader_acknowledges_only_moves_its_window() {
    let daemon = setup().start();
    let mut producer = Producer::new(&daemon, "twice");
    producer.send_all((0..5).map(|n| n.to_string()));
    for _ in 0..2 {
        let mut reader = Consumer::reader(&daemon, "twice?messageId=earliest&receiverQueueSize=2");
        let (first, second) = (reader.next(), reader.next());
        assert_eq!((first.payload.as_str(), second.payload.as_str()), ("0", "1"));
        reader.assert_quiet();
        reader.ack(&first.id);
        assert_eq!(reader.next().payload, "2");
        reader.assert_quiet();
        reader.0.leave();
    }
}

#[test]
fn a_reader_goes_on_after_a_message_of_an_earlier_run() {
    let mut daemon = setup().start();
    let ids = Producer::new(&daemon, "resumed").send_all(["0", "1", "2"]);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait();
    daemon = daemon.again();
    Producer::new(&daemon, "resumed").send("3");
    let mut reader =
        Consumer::reader(&daemon, &format!("resumed?messageId={}", ids[1].replace('=', "%3D")));
    assert_eq!(reader.take_all(2), ["2", "3"]);
    reader.assert_quiet();
}
