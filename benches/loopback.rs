//! The whole daemon in this process: the time from a line on the unix feed until a thousand clients
//! on loopback have the event.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare::dialect::{Kind, Settings, personium};
use fanfare::feed::unix;
use fanfare::frame::put_frame;
use fanfare::io::runtime::Driver;
use fanfare::io::{Daemon, Inherited, Listen, Plan, StopTimes};
use fanfare::shard::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tungstenite::protocol::frame::coding::{Data, OpCode};

const CLIENTS: usize = 1000;
const EVENT: &str = concat!(
    r#"{"Type":"chat","Object":"general","Info":"Hello World","#,
    r#""cellId":"5ZKpfNSMSwO6GqAgt0O2Jg","Subject":"https:\/\/demo.example\/"}"#
);

fn start(socket: PathBuf) -> Daemon {
    let personium = personium::PersoniumSettings { anonymous: true, ..Default::default() };
    let plan = Plan {
        handover: None,
        shards: 1,
        cpus: vec![],
        driver: Driver::Auto,
        listen: vec![Listen {
            address: ([127, 0, 0, 1], 0).into(),
            kinds: Kind::ALL.to_vec(),
            tls: None,
            expiry_s: None,
            proxied: false,
        }],
        admin: None,
        feed: unix::UnixFeedSettings { path: Some(socket), ..unix::UnixFeedSettings::default() },
        bus: None,
        redis: None,
        cluster: None,
        otlp: None,
        store: None,
        settings: Arc::new(Settings { personium, ..Settings::default() }),
        limits: Limits::default(),
        inherited: Inherited::default(),
    };
    fanfare::io::start(plan).expect("the daemon starts")
}

/// Connects a client that subscribes to everything and has read all answers.
fn join(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).expect("the daemon listens");
    socket.set_nodelay(true).expect("the socket is open");
    let request = "GET /john.doe/__event HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).expect("the daemon reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("the daemon answers");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    for text in [r#"{"access_token":""}"#, r#"{"subscribe":{"Type":"*","Object":"*"}}"#] {
        let mut frame = Vec::new();
        put_frame(OpCode::Data(Data::Text), text.as_bytes(), &mut frame);
        frame[1] |= 0x80;
        frame.splice(2..2, [0; 4]);
        socket.write_all(&frame).expect("the daemon reads");
        let mut header = [0; 2];
        socket.read_exact(&mut header).expect("the daemon answers");
        let mut answer = vec![0; header[1].into()];
        socket.read_exact(&mut answer).expect("the daemon answers");
        assert!(answer.windows(7).any(|word| word == b"success"));
    }
    socket
}

fn fan_out(criterion: &mut Criterion) {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let directory = tempfile::tempdir().expect("a directory can be created");
    let path = directory.path().join("events.sock");
    let daemon = start(path.clone());
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| join(daemon.addresses()[0])).collect();
    let mut publisher = UnixStream::connect(path).expect("the feed listens");
    let line = format!("event/john.doe {EVENT}\n");
    let mut frame = Vec::new();
    put_frame(OpCode::Data(Data::Text), EVENT.as_bytes(), &mut frame);
    let mut received = vec![0; frame.len()];
    let mut group = criterion.benchmark_group("loopback");
    group.throughput(Throughput::Elements(CLIENTS as u64));
    group.bench_function(format!("one event to {CLIENTS} clients"), |bencher| {
        bencher.iter(|| {
            publisher.write_all(line.as_bytes()).expect("the feed reads");
            for client in &mut clients {
                client.read_exact(&mut received).expect("the event arrives");
            }
        });
    });
    group.finish();
    assert_eq!(received, frame);
    drop((clients, publisher));
    let times = StopTimes { drain: Duration::from_secs(10), spread: Duration::ZERO };
    assert!(daemon.stop(times), "the daemon stops in time");
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
